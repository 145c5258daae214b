//! Manifests from files: what `lint`, `explain` and `simulate` read instead of a cluster.
//!
//! It reads files with one or many YAML (or JSON) documents, folders of them with their subfolders, and `kind: List` as
//! `kubectl get -o yaml` prints it. An error names file, line, document, object and field. This module never interprets a spec
//! (`mail_failover_resolve` does) and never calls the API server.

mod tree;

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use mail_failover_api::{FailoverPolicy, GROUP, MailRoute, SendingBackend};
use mail_failover_core::model::ObjectKey;
use mail_failover_core::model::text::visible;
use tree::{FieldLines, Tree};

/// Namespace of an object that names none, as in kubectl without a context.
pub const DEFAULT_NAMESPACE: &str = "default";
/// Name of the standard input on the command line.
const STANDARD_INPUT: &str = "-";
/// Extensions of the files that are read from a folder.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// Fields that every object has.
const TYPE_FIELDS: [&str; 2] = ["apiVersion", "kind"];
/// Fields at the top level of an object.
const TOP_LEVEL: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Object from a file, with its place in the file.
#[derive(Clone, Debug)]
pub struct Manifest {
    file: Arc<str>,
    document: usize,
    value: Value,
    lines: Arc<FieldLines>,
    /// Prefix of the object's fields in `lines`: `items[3].` for an object of a list.
    prefix: String,
}

/// Error in a file, or in an object of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// File as it was named on the command line.
    pub file: Arc<str>,
    /// Line in the file, counted from 1.
    pub line: Option<u64>,
    /// Number of the document, counted from 1 without empty documents.
    pub document: Option<usize>,
    /// Kind and name of the object.
    pub object: Option<String>,
    /// Path of the field in question.
    pub field: Option<String>,
    /// Sentence that says what is wrong.
    pub message: String,
}

impl fmt::Display for ManifestError {
    /// Writes `mail.yaml:12: document 2: SendingBackend relay-a: spec.smtp.port: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&visible(&self.file))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(document) = self.document {
            write!(f, ": document {document}")?;
        }
        for part in [&self.object, &self.field].into_iter().flatten() {
            write!(f, ": {}", visible(part))?;
        }
        write!(f, ": {}", visible(&self.message))
    }
}

impl std::error::Error for ManifestError {}

impl ManifestError {
    fn of_file(file: &str, message: String) -> Self {
        Self { file: file.into(), line: None, document: None, object: None, field: None, message }
    }
}

impl Manifest {
    /// Returns the file as it was named on the command line.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the number of the object's document, counted from 1 without empty documents.
    pub fn document(&self) -> usize {
        self.document
    }

    /// Returns the object as it was written.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Returns the API group: `mailfailover.io`, or an empty string for the core group.
    pub fn group(&self) -> &str {
        self.text("/apiVersion").split_once('/').map_or("", |(group, _)| group)
    }

    /// Returns the kind, such as `MailRoute`.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Returns true if the object is of our API group.
    pub fn is_ours(&self) -> bool {
        self.group() == GROUP
    }

    /// Returns namespace and name; a missing namespace counts as [`DEFAULT_NAMESPACE`].
    pub fn key(&self) -> ObjectKey {
        let namespace = Some(self.text("/metadata/namespace")).filter(|namespace| !namespace.is_empty());
        ObjectKey::new(namespace.unwrap_or(DEFAULT_NAMESPACE), self.text("/metadata/name"))
    }

    /// Returns kind and name for messages.
    pub fn title(&self) -> String {
        let name = self.text("/metadata/name");
        if name.is_empty() { self.kind().to_owned() } else { format!("{} {name}", self.kind()) }
    }

    /// Returns the line of a field such as `spec.probes[0].interval`, or of its closest parent when the field is
    /// absent.
    pub fn line(&self, field: &str) -> u64 {
        let mut field = field;
        loop {
            if let Some(line) = self.lines.get(&format!("{}{field}", self.prefix)) {
                return *line;
            }
            match field.rfind(['.', '[']) {
                Some(end) => field = &field[..end],
                None => break,
            }
        }
        let own = self.lines.range(self.prefix.clone()..).take_while(|(field, _)| field.starts_with(&self.prefix));
        own.map(|(_, line)| *line).min().unwrap_or(1)
    }

    /// Builds an error about one field of the object.
    pub fn error(&self, field: &str, message: String) -> ManifestError {
        ManifestError {
            file: self.file.clone(),
            line: Some(self.line(field)),
            document: Some(self.document),
            object: Some(self.title()),
            field: Some(field.to_owned()).filter(|field| !field.is_empty()),
            message,
        }
    }

    /// Deserializes the object into its type.
    ///
    /// # Errors
    /// [`ManifestError`] with the first field that cannot be read, is missing or unknown.
    pub fn read<K: DeserializeOwned>(&self) -> Result<K, ManifestError> {
        let fields = self.value.as_object().into_iter().flat_map(|fields| fields.keys());
        if let Some(unknown) = fields.into_iter().find(|field| !TOP_LEVEL.contains(&field.as_str())) {
            return Err(self.error(unknown, "there is no such field".to_owned()));
        }
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let field = error.path().to_string();
            self.error(if field == "." { "" } else { &field }, error.into_inner().to_string())
        })
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Joins errors, one a line.
pub(crate) fn lines(errors: &[ManifestError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Objects of files and folders.
#[derive(Clone, Debug, Default)]
pub struct ManifestFiles {
    /// Objects in the order of the files.
    pub manifests: Vec<Manifest>,
    /// Files of folders that hold no Kubernetes object at all, such as the values of a chart.
    pub others: Vec<String>,
}

/// Reads every object of these files and folders, in order. `-` is the standard input.
///
/// Of a folder it reads the files that end in `.yaml`, `.yml` or `.json`, by name, then its subfolders, but those that
/// are hidden or links. A file there without any object is passed over; one that is named itself is an error.
///
/// # Errors
/// Everything that is wrong with the files, without a word about the objects' own fields.
pub fn read(paths: &[PathBuf]) -> Result<ManifestFiles, Vec<ManifestError>> {
    let (mut read, mut errors) = (ManifestFiles::default(), vec![]);
    for path in paths {
        match files(path) {
            Ok(files) => {
                for file in files {
                    match read_file(&file, path.is_dir()) {
                        Ok(Some(found)) => read.manifests.extend(found),
                        Ok(None) => read.others.push(file.display().to_string()),
                        Err(error) => errors.push(error),
                    }
                }
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(read) } else { Err(errors) }
}

/// Reads the objects of a file; `None` for one of a folder that holds none.
fn read_file(file: &Path, is_of_folder: bool) -> Result<Option<Vec<Manifest>>, ManifestError> {
    let name = file.display().to_string();
    let text = content(file).map_err(|error| {
        ManifestError::of_file(&name, format!("cannot be read: {error}; name a YAML file or a folder of them"))
    })?;
    let documents = documents(&name, &text)?;
    // Other formats have a version, too.
    if is_of_folder && documents.iter().all(|document| document.value.get("kind").is_none()) {
        return Ok(None);
    }
    objects(documents).map(Some)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let name = path.display().to_string();
    let files =
        files_in(path).map_err(|error| ManifestError::of_file(&name, format!("the folder cannot be read: {error}")))?;
    if files.is_empty() {
        let message = format!("the folder holds no file that ends in .{}", ENDINGS.join(", ."));
        return Err(ManifestError::of_file(&name, message));
    }
    Ok(files)
}

fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (vec![], vec![]);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        let ending = path.extension().and_then(|ending| ending.to_str());
        // The type of the entry and not of what it leads to: a link could lead into a circle.
        if entry.file_type()?.is_dir() && !is_hidden {
            folders.push(path);
        } else if path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            files.push(path);
        }
    }
    files.sort();
    folders.sort();
    for folder in folders {
        files.extend(files_in(&folder)?);
    }
    Ok(files)
}

fn content(file: &Path) -> io::Result<String> {
    if file == Path::new(STANDARD_INPUT) {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file)
}

/// Parses every object of a text, in order, and the objects of a `kind: List` one by one.
///
/// # Errors
/// [`ManifestError`] where it is no YAML, or a document is no Kubernetes object.
pub fn parse(file: &str, text: &str) -> Result<Vec<Manifest>, ManifestError> {
    objects(documents(file, text)?)
}

/// Parses the documents of a text, objects or not.
fn documents(file: &str, text: &str) -> Result<Vec<Manifest>, ManifestError> {
    // A dump of ten thousand objects is one document: the parser's own bounds are made for configuration files.
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: 50_000_000,
            max_nodes: 20_000_000,
            max_documents: 100_000,
            max_total_scalar_bytes: 512 * 1024 * 1024,
        },
    };
    let documents: Vec<Tree> = serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map(|location| location.line());
        ManifestError { line, ..ManifestError::of_file(file, format!("this is no YAML: {error}")) }
    })?;
    let file: Arc<str> = file.into();
    let mut manifests = vec![];
    for (tree, document) in documents.into_iter().zip(1..) {
        let mut lines = FieldLines::new();
        let value = tree.take_apart("", &mut lines);
        let lines = Arc::new(lines);
        manifests.push(Manifest { file: file.clone(), document, value, lines, prefix: String::new() });
    }
    Ok(manifests)
}

fn objects(documents: Vec<Manifest>) -> Result<Vec<Manifest>, ManifestError> {
    let mut manifests = vec![];
    for document in documents {
        unpack(document, &mut manifests)?;
    }
    Ok(manifests)
}

/// Appends an object, or the items of a `kind: List` (or `MailRouteList`).
fn unpack(mut manifest: Manifest, found: &mut Vec<Manifest>) -> Result<(), ManifestError> {
    for field in TYPE_FIELDS {
        if manifest.value.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            let message = "is missing or no text: this is no Kubernetes object".to_owned();
            return Err(manifest.error(field, message));
        }
    }
    let items = if manifest.kind().ends_with("List") { manifest.value.get_mut("items").map(Value::take) } else { None };
    let Some(Value::Array(items)) = items else {
        found.push(manifest);
        return Ok(());
    };
    for (index, value) in items.into_iter().enumerate() {
        let prefix = format!("{}items[{index}].", manifest.prefix);
        unpack(Manifest { value, prefix, ..manifest.clone() }, found)?;
    }
    Ok(())
}

/// Objects of our API group, deserialized.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Objects of kind `SendingBackend`, in order.
    pub backends: Vec<SendingBackend>,
    /// Objects of kind `FailoverPolicy`, in order.
    pub policies: Vec<FailoverPolicy>,
    /// Objects of kind `MailRoute`, in order.
    pub routes: Vec<MailRoute>,
}

impl Objects {
    /// Deserializes our objects among these, each with the namespace that it would get. Other objects are left out.
    ///
    /// # Errors
    /// Of each object that cannot be read, the first field in the way.
    pub fn of(manifests: &[Manifest]) -> Result<Self, Vec<ManifestError>> {
        let (mut objects, mut errors) = (Self::default(), vec![]);
        for manifest in manifests.iter().filter(|manifest| manifest.is_ours()) {
            let read = match manifest.kind() {
                "SendingBackend" => namespaced(manifest).map(|object| objects.backends.push(object)),
                "FailoverPolicy" => namespaced(manifest).map(|object| objects.policies.push(object)),
                "MailRoute" => namespaced(manifest).map(|object| objects.routes.push(object)),
                kind => Err(manifest.error("kind", format!("{GROUP} has no kind {kind}"))),
            };
            errors.extend(read.err());
        }
        if errors.is_empty() { Ok(objects) } else { Err(errors) }
    }
}

fn namespaced<K: DeserializeOwned + kube::ResourceExt>(manifest: &Manifest) -> Result<K, ManifestError> {
    let mut object: K = manifest.read()?;
    let key = manifest.key();
    if key.name.is_empty() {
        return Err(manifest.error("metadata.name", "is missing".to_owned()));
    }
    object.meta_mut().namespace = Some(key.namespace.to_string());
    Ok(object)
}

#[cfg(test)]
mod tests;
