//! Domains whose mail Postfix delivers by its own rules, and the tables that name them. Pure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// Types of tables that `postmap` makes of a text file of the same name, and those that are one (postconf(5)).
const TYPES_WITH_SOURCE: [&str; 7] = ["btree", "cdb", "dbm", "hash", "lmdb", "sdbm", "texthash"];

/// Domains, and suffixes that stand for the domains below them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainSet {
    exact: BTreeSet<String>,
    /// Suffixes with the leading dot.
    below: BTreeSet<String>,
}

impl DomainSet {
    /// Adds a domain: `example.com` stands for itself, `.example.com` for the domains below it, as in transport(5).
    pub fn add(&mut self, domain: &str) {
        let domain = domain.to_ascii_lowercase();
        if domain.starts_with('.') {
            self.below.insert(domain)
        } else {
            self.exact.insert(domain)
        };
    }

    /// Returns the number of domains and suffixes.
    pub fn len(&self) -> usize {
        self.exact.len() + self.below.len()
    }

    /// Returns true if no domain is among them.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if this domain, in lower case, is one of them; of `.example.com`, if all domains below are.
    fn contains(&self, domain: &str) -> bool {
        if self.exact.contains(domain) || (domain.starts_with('.') && self.below.contains(domain)) {
            return true;
        }
        let mut dots = domain.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
        !self.below.is_empty() && dots.any(|at| self.below.contains(&domain[at..]))
    }
}

/// Domains that were named, and those of files, which change. Clones share the latter.
#[derive(Clone, Debug, Default)]
pub struct LocalDomains {
    named: DomainSet,
    /// A set for each file.
    of_files: Arc<RwLock<Vec<DomainSet>>>,
}

impl LocalDomains {
    /// Parses domains, as [`DomainSet::add`] does.
    pub fn new(domains: &[String]) -> Self {
        let mut named = DomainSet::default();
        for domain in domains {
            named.add(domain);
        }
        Self { named, of_files: Arc::default() }
    }

    /// Adds the domains of files.
    #[must_use]
    pub fn with_files(self, sets: Vec<DomainSet>) -> Self {
        Self { of_files: Arc::new(RwLock::new(sets)), ..self }
    }

    /// Replaces the domains of the file at this position. Returns true if they are others than before.
    pub fn replace(&self, at: usize, domains: DomainSet) -> bool {
        let mut sets = self.of_files.write().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = sets.get_mut(at).filter(|set| **set != domains) else { return false };
        *set = domains;
        true
    }

    /// Returns true if this domain, in any case, is one of them; of `.example.com`, if all domains below are.
    pub fn contain(&self, domain: &str) -> bool {
        // Every critical section leaves the sets whole.
        let of_files = self.of_files.read().unwrap_or_else(PoisonError::into_inner);
        if self.named.is_empty() && of_files.is_empty() {
            return false;
        }
        let domain = domain.to_ascii_lowercase();
        self.named.contains(&domain) || of_files.iter().any(|set| set.contains(&domain))
    }
}

/// File that names domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainTable {
    /// Path of the file: the source of a table, or a list.
    pub file: PathBuf,
    /// True if the domains below each of them count, too, as below those of `relay_domains`.
    pub with_subdomains: bool,
}

impl DomainTable {
    /// Returns the files of `--local-domains-from` and `--relay-domains-from`.
    pub fn of(local: &[PathBuf], relay: &[PathBuf]) -> Vec<Self> {
        let local = local.iter().map(|file| Self { file: file.clone(), with_subdomains: false });
        local.chain(relay.iter().map(|file| Self { file: file.clone(), with_subdomains: true })).collect()
    }

    /// Returns the domains in the text of the file.
    pub fn domains(&self, text: &str) -> DomainSet {
        let mut domains = DomainSet::default();
        for key in keys(text).filter(|key| is_domain(key)) {
            domains.add(key);
            if self.with_subdomains && !key.starts_with('.') {
                domains.add(&format!(".{key}"));
            }
        }
        domains
    }
}

/// Returns the first word of each line. Comments are passed over, and so are lines that begin with white space, which
/// continue the one before (postmap(1)).
pub fn keys(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    let lines = lines.filter(|line| !line.starts_with(|first: char| first.is_whitespace() || first == '#'));
    lines
        .filter_map(|line| line.split(|letter: char| letter.is_whitespace() || letter == ',').next())
        .filter(|key| !key.is_empty())
}

/// Returns true if the key of a table is a domain, and neither an address nor the one for everything.
pub fn is_domain(key: &str) -> bool {
    key != "*" && !key.contains('@')
}

/// Error of a table that has no text file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent cannot ask a table of the type {0}; write its domains into a file, one a line, and name that")]
pub struct NoSourceError(String);

/// Parses a table as main.cf names it, `hash:/etc/postfix/domains`, or the path of a list. Returns the path of the text
/// file.
///
/// # Errors
/// [`NoSourceError`] for a table that is not made from a text file, such as one of a database server.
pub fn source_of(table: &str) -> Result<PathBuf, NoSourceError> {
    let name = table.strip_prefix("proxy:").unwrap_or(table);
    match name.split_once(':') {
        Some((kind, file)) if !name.starts_with('/') => {
            if TYPES_WITH_SOURCE.contains(&kind) {
                Ok(file.into())
            } else {
                Err(NoSourceError(kind.to_owned()))
            }
        }
        Some(_) | None => Ok(name.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_dot_stands_for_what_is_below() {
        let domains =
            LocalDomains::new(&["Example.com".to_owned(), ".lab.example".to_owned(), "[192.0.2.1]".to_owned()]);
        for (domain, local) in [
            ("example.com", true),
            ("EXAMPLE.COM", true),
            ("mail.example.com", false),
            (".example.com", false),
            ("notexample.com", false),
            ("a.lab.example", true),
            ("b.a.Lab.example", true),
            (".lab.example", true),
            (".a.lab.example", true),
            ("lab.example", false),
            ("collab.example", false),
            ("[192.0.2.1]", true),
            ("", false),
        ] {
            assert_eq!(domains.contain(domain), local, "{domain}");
        }
    }

    #[test]
    fn the_first_word_of_each_line_is_a_domain_in_a_table_and_in_a_list() {
        let text = "\u{feff}# hosted\n\nExample.com   OK\n  continued.example\nshop.example,\nlist.example\tsmtp:[a]:25\n\
                    joe@address.example x\n@all.example y\n* smtp:[b]\n.below.example z\n";
        let of = |with_subdomains| {
            let domains = DomainTable { file: "d".into(), with_subdomains }.domains(text);
            assert_eq!(domains.len(), if with_subdomains { 7 } else { 4 });
            LocalDomains::default().with_files(vec![domains])
        };
        for (domain, exact, with_subdomains) in [
            ("example.com", true, true),
            ("a.example.com", false, true),
            ("shop.example", true, true),
            ("list.example", true, true),
            ("a.below.example", true, true),
            ("continued.example", false, false),
            ("address.example", false, false),
            ("all.example", false, false),
        ] {
            assert_eq!((of(false).contain(domain), of(true).contain(domain)), (exact, with_subdomains), "{domain}");
        }
    }

    #[test]
    fn a_table_is_named_as_in_main_cf_or_by_its_file() {
        for (name, file) in [
            ("hash:/etc/postfix/d", "/etc/postfix/d"),
            ("proxy:lmdb:/etc/postfix/d", "/etc/postfix/d"),
            ("/etc/postfix/d", "/etc/postfix/d"),
            ("/etc/a:b", "/etc/a:b"),
        ] {
            assert_eq!(source_of(name), Ok(PathBuf::from(file)), "{name}");
        }
        let error = source_of("proxy:mysql:/etc/postfix/d.cf").unwrap_err().to_string();
        assert!(error.contains("type mysql; write its domains into a file"), "{error}");
    }

    #[test]
    fn clones_see_the_domains_that_a_file_has_now() {
        let set = |domain: &str| {
            let mut set = DomainSet::default();
            set.add(domain);
            set
        };
        let domains = LocalDomains::new(&["named.example".to_owned()]).with_files(vec![set("old.example")]);
        let shared = domains.clone();
        assert!(domains.replace(0, set("new.example")));
        assert!(!domains.replace(0, set("new.example")), "as before");
        let local = ["named.example", "old.example", "new.example"].map(|domain| shared.contain(domain));
        assert_eq!(local, [true, false, true]);
    }
}
