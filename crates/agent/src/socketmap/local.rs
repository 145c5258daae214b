//! Domains whose mail Postfix delivers by its own rules. Pure.

use std::collections::BTreeSet;

/// Domains, and suffixes that stand for the domains below them.
#[derive(Clone, Debug, Default)]
pub struct LocalDomains {
    exact: BTreeSet<String>,
    /// Suffixes with the leading dot.
    below: Vec<String>,
}

impl LocalDomains {
    /// Parses domains: `example.com` stands for itself, `.example.com` for the domains below it, as in transport(5).
    pub fn new(domains: &[String]) -> Self {
        let domains = domains.iter().map(|domain| domain.to_ascii_lowercase());
        let (below, exact): (Vec<_>, Vec<_>) = domains.partition(|domain| domain.starts_with('.'));
        Self { exact: exact.into_iter().collect(), below }
    }

    /// Returns true if this domain, in any case, is one of them.
    pub fn contain(&self, domain: &str) -> bool {
        if self.exact.is_empty() && self.below.is_empty() {
            return false;
        }
        let domain = domain.to_ascii_lowercase();
        self.exact.contains(&domain)
            || self.below.iter().any(|suffix| domain.len() > suffix.len() && domain.ends_with(suffix))
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
            ("notexample.com", false),
            ("a.lab.example", true),
            ("b.a.Lab.example", true),
            ("lab.example", false),
            ("collab.example", false),
            ("[192.0.2.1]", true),
            ("", false),
        ] {
            assert_eq!(domains.contain(domain), local, "{domain}");
        }
    }
}
