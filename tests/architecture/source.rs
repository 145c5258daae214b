//! Production code as the compiler sees it: module by module, without the items that only tests compile.

#![allow(clippy::wildcard_enum_match_arm, reason = "syntax has more kinds than matter here")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, ImplItem, Item, ItemMod, Lit, Meta};

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A module, with what its own items say.
#[derive(Debug)]
pub struct Module {
    /// The file, from the workspace's folder.
    pub file: String,
    /// Names of the modules that it lies in, from the crate's root; its own is the last.
    pub path: Vec<String>,
    /// Every path in it, from the root of a crate: `crate`, `std` or another crate's name comes first.
    pub names: Vec<Name>,
    /// Every call of a method or function in it.
    pub calls: Vec<Call>,
}

/// A path, an identifier or a keyword.
#[derive(Debug)]
pub struct Name {
    pub segments: Vec<String>,
    pub line: usize,
}

#[derive(Debug)]
pub struct Call {
    pub name: String,
    pub is_method: bool,
    pub arguments: usize,
    pub line: usize,
}

/// The modules of a crate.
#[derive(Debug)]
pub struct Sources {
    pub production: Vec<Module>,
    /// Every file that belongs to the crate, in tests or not.
    files: BTreeSet<PathBuf>,
}

impl Sources {
    /// The sources of the crate with the root `lib.rs` or `main.rs` in a folder.
    pub fn of(folder: &str) -> Self {
        let mut sources = Self { production: vec![], files: BTreeSet::new() };
        let folder = workspace().join(folder);
        for root in ["lib.rs", "main.rs"].map(|root| folder.join(root)).into_iter().filter(|root| root.exists()) {
            sources.read(&root, &folder, &[], false);
        }
        assert!(!sources.production.is_empty(), "{} has no sources", folder.display());
        assert_eq!(sources.files, rust_files(&folder), "files that no module names, or names without a file");
        sources
    }

    fn read(&mut self, file: &Path, children: &Path, path: &[String], is_test: bool) {
        self.files.insert(file.to_owned());
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.take(parsed.items, file, children, path, is_test || is_test_only(&parsed.attrs));
    }

    fn take(&mut self, items: Vec<Item>, file: &Path, children: &Path, path: &[String], is_test: bool) {
        let name = file.strip_prefix(workspace()).unwrap().to_string_lossy().into_owned();
        let mut module = Module { file: name, path: path.to_vec(), names: vec![], calls: vec![] };
        for item in items {
            let is_test = is_test || is_test_only(attributes(&item));
            match item {
                Item::Mod(inner) => self.enter(inner, file, children, path, is_test),
                _ if is_test => {}
                Item::Impl(mut implementation) => {
                    implementation.items.retain(|item| !is_test_only(attributes_of_member(item)));
                    module.scan(&implementation.to_token_stream());
                }
                item => module.scan(&item.to_token_stream()),
            }
        }
        if !is_test {
            self.production.push(module);
        }
    }

    fn enter(&mut self, module: ItemMod, file: &Path, children: &Path, path: &[String], is_test: bool) {
        let name = module.ident.to_string();
        let path = [path, std::slice::from_ref(&name)].concat();
        let folder = children.join(&name);
        if let Some((_, items)) = module.content {
            self.take(items, file, &folder, &path, is_test);
        } else {
            let named = path_attribute(&module.attrs).map(|path| file.parent().unwrap().join(path));
            let beside = children.join(format!("{name}.rs"));
            let inside = folder.join("mod.rs");
            let next = named.unwrap_or(if inside.exists() { inside } else { beside });
            self.read(&next, &folder, &path, is_test);
        }
    }
}

impl Module {
    fn scan(&mut self, tokens: &TokenStream) {
        let tokens: Vec<_> = tokens.clone().into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => {
                    self.scan(&group.stream());
                    at += 1;
                }
                TokenTree::Ident(_) => at = self.path(&tokens, at, &[]),
                TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
            }
        }
    }

    /// Takes the path that begins here, and its call; returns where it ends.
    fn path(&mut self, tokens: &[TokenTree], start: usize, prefix: &[String]) -> usize {
        let line = tokens[start].span().start().line;
        let is_method = start > 0 && is_punct(tokens.get(start - 1), '.');
        let mut segments = prefix.to_vec();
        let mut at = start;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.branch(&group.stream(), &segments);
                    return at + 1;
                }
                _ => break,
            }
            at += 1;
            if !(is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')) {
                break;
            }
            at += 2;
        }
        if let Some(TokenTree::Group(group)) = tokens.get(at)
            && group.delimiter() == Delimiter::Parenthesis
        {
            let name = segments.last().cloned().unwrap_or_default();
            self.calls.push(Call { name, is_method, arguments: arguments(&group.stream()), line });
        }
        let segments = self.absolute(segments);
        self.names.push(Name { segments, line });
        at
    }

    /// The branches of a `use` tree.
    fn branch(&mut self, tokens: &TokenStream, prefix: &[String]) {
        let tokens: Vec<_> = tokens.clone().into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if let TokenTree::Ident(ident) = &tokens[at] {
                if ident == "self" {
                    let line = ident.span().start().line;
                    self.names.push(Name { segments: self.absolute(prefix.to_vec()), line });
                    at += 1;
                } else {
                    at = self.path(&tokens, at, prefix);
                }
                // `as` and the new name.
                while at < tokens.len() && !is_punct(tokens.get(at), ',') {
                    at += 1;
                }
            }
            at += 1;
        }
    }

    /// The same path, from the crate's root.
    fn absolute(&self, segments: Vec<String>) -> Vec<String> {
        let ups = segments.iter().take_while(|segment| *segment == "super").count();
        let own = match segments.first().map(String::as_str) {
            Some("super") => &self.path[..self.path.len() - ups.min(self.path.len())],
            Some("self") if segments.len() > 1 => &self.path[..],
            _ => return segments,
        };
        let rest = &segments[ups.max(1)..];
        ["crate".to_owned()].iter().chain(own).chain(rest).cloned().collect()
    }
}

impl Name {
    /// Returns true if the path begins with these segments, or has this one anywhere.
    pub fn mentions(&self, wanted: &str) -> bool {
        let wanted: Vec<_> = wanted.split("::").collect();
        match wanted[..] {
            [one] => self.segments.iter().any(|segment| segment == one),
            _ => {
                self.segments.len() >= wanted.len()
                    && self.segments.iter().zip(wanted).all(|(own, wanted)| own == wanted)
            }
        }
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn arguments(tokens: &TokenStream) -> usize {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let parts = tokens.split(|token| is_punct(Some(token), ','));
    parts.filter(|part| !part.is_empty()).count()
}

/// Returns true if nothing but tests compile it.
fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_test = attribute.path().segments.last().is_some_and(|last| last.ident == "test");
        let condition = match &attribute.meta {
            Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string(),
            Meta::List(_) | Meta::Path(_) | Meta::NameValue(_) => String::new(),
        };
        let words: Vec<_> = condition.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
        is_test || (words.contains(&"test") && !words.contains(&"not"))
    })
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        Meta::NameValue(_) | Meta::List(_) | Meta::Path(_) => None,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn attributes_of_member(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Fn(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        _ => &[],
    }
}

fn rust_files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
    found
}
