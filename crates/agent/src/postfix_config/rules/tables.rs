//! References to look-up tables in main.cf (`DATABASE_README`). Pure.

use super::super::configuration::elements;

/// A reference to a look-up table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table<'a> {
    /// Type of the table: `hash`, `socketmap`, …
    pub kind: &'a str,
    /// Rest of the reference, after the type.
    pub name: &'a str,
    /// True if it is asked through proxymap(8).
    pub proxied: bool,
}

impl<'a> Table<'a> {
    /// Parses a reference to a table. `None` if the text is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (proxied, text) = text.strip_prefix("proxy:").map_or((false, text), |inner| (true, inner));
        let (kind, name) = text.split_once(':')?;
        let is_kind =
            !kind.is_empty() && kind.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit());
        is_kind.then_some(Self { kind, name, proxied })
    }

    /// Returns true if Postfix sees a change of the table only after a reload.
    pub fn needs_reload(&self) -> bool {
        matches!(self.kind, "texthash" | "pcre" | "regexp" | "cidr" | "static" | "inline" | "randmap")
    }

    /// Returns true if it is asked for whole addresses only, by patterns, and never for a domain alone.
    pub fn has_patterns(&self) -> bool {
        matches!(self.kind, "pcre" | "regexp")
    }

    /// Returns true if it answers every address, as far as its name says.
    pub fn answers_everything(&self) -> bool {
        match self.kind {
            "static" | "randmap" => true,
            "inline" => {
                let entries = elements(self.name.trim_start_matches('{').trim_end_matches('}'));
                entries.iter().any(|entry| entry.trim_start_matches(['{', ' ']).trim_start().starts_with('*'))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_from_other_words() {
        let table = |text| Table::parse(text).map(|Table { kind, name, proxied }| (kind, name, proxied));
        assert_eq!(table("hash:/etc/postfix/transport"), Some(("hash", "/etc/postfix/transport", false)));
        assert_eq!(table("proxy:socketmap:unix:s:transport"), Some(("socketmap", "unix:s:transport", true)));
        assert_eq!(table("example.com"), None);
        assert_eq!(table("[mail.example]:587"), None);
    }

    #[test]
    fn tables_that_answer_everything() {
        for (text, expected) in [
            ("static:smtp:[a]:25", true),
            ("inline:{*=smtp:[a]:25}", true),
            ("inline:{ {* = smtp:[a]:25} }", true),
            ("inline:{example.com=smtp:[a]:25}", false),
            ("inline:{ {example.com = smtp:[a]:25}, {* = smtp:[b]:25} }", true),
            ("hash:/etc/postfix/transport", false),
        ] {
            assert_eq!(Table::parse(text).unwrap().answers_everything(), expected, "{text}");
        }
    }
}
