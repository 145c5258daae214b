//! Expansion of `$name` in values of main.cf, for a file that is read without `postconf -x`. Pure.

use std::collections::BTreeMap;

/// Limit of nested references. Values that refer to one another deeper than this, or in a circle, are left as they are.
const DEPTH: usize = 16;

/// Replaces `$name`, `${name}`, `$(name)`, and of the conditional forms `${name?text}`, `${name?{text}}`,
/// `${name:text}` and `${name?{text}:{text}}` (postconf(5)). Comparisons (`${{a} == {b} ? …}`) become empty: main.cf
/// files that use one need `postconf`.
pub(super) fn expand(value: &str, parameters: &BTreeMap<String, String>) -> String {
    Expansion { parameters, depth: DEPTH }.expand(value)
}

/// Parameters, and the number of nested references that may still be followed.
#[derive(Clone, Copy)]
struct Expansion<'a> {
    parameters: &'a BTreeMap<String, String>,
    depth: usize,
}

impl Expansion<'_> {
    fn expand(self, value: &str) -> String {
        if self.depth == 0 || !value.contains('$') {
            return value.to_owned();
        }
        let mut expanded = String::new();
        let mut rest = value;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let (text, length) = self.reference(after);
            expanded.push_str(&text);
            rest = &after[length..];
        }
        expanded + rest
    }

    /// Returns the text that stands for the reference after a `$`, and the length of the reference.
    fn reference(self, after: &str) -> (String, usize) {
        match after.chars().next() {
            Some('$') => ("$".to_owned(), 1),
            Some('(') => match after.find(')') {
                Some(end) => (self.value(after[1..end].trim()), end + 1),
                None => ("$".to_owned(), 0),
            },
            Some('{') => match closing(after) {
                Some(end) => (self.conditional(&after[1..end]), end + 1),
                None => ("$".to_owned(), 0),
            },
            Some(_) | None => {
                let end = end_of_name(after);
                if end == 0 { ("$".to_owned(), 0) } else { (self.value(&after[..end]), end) }
            }
        }
    }

    fn conditional(self, inner: &str) -> String {
        let end = end_of_name(inner);
        let (name, rest) = (&inner[..end], inner[end..].trim_start());
        let value = self.value(name);
        let mut letters = rest.chars();
        let Some(operator) = letters.next() else { return value };
        let rest = letters.as_str().trim_start();
        // Either `{text}` with perhaps an alternative after it, or all that is left.
        let (text, alternative) = match closing(rest) {
            Some(end) => (&rest[1..end], rest[end + 1..].trim_start().strip_prefix(':').map_or("", str::trim)),
            None => (rest, ""),
        };
        let alternative = alternative.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(alternative);
        match (operator, value.is_empty()) {
            ('?', false) | (':', true) => self.nested().expand(text.trim()),
            ('?', true) => self.nested().expand(alternative.trim()),
            (':', false) => value,
            _ => String::new(),
        }
    }

    /// Returns the expanded value of a parameter; empty if it has none.
    fn value(self, name: &str) -> String {
        self.nested().expand(self.parameters.get(name).map_or("", String::as_str))
    }

    fn nested(self) -> Self {
        Self { depth: self.depth - 1, ..self }
    }
}

fn end_of_name(text: &str) -> usize {
    text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(text.len())
}

/// Returns the position of the brace that closes the first one.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth = depth.checked_sub(1)?,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_refer_to_a_parameter() {
        let parameters: BTreeMap<String, String> = [("a", "1"), ("b", "$a$a"), ("e", ""), ("loop", "x$loop")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        for (value, expected) in [
            ("no", "no"),
            ("$a-$(a)-${a}", "1-1-1"),
            ("$b", "11"),
            ("$missing.", "."),
            ("${a?yes}", "yes"),
            ("${e?yes}", ""),
            ("${e:no}", "no"),
            ("${a:no}", "1"),
            ("${a?{yes $a}:{no}}", "yes 1"),
            ("${e?{yes}:{no $a}}", "no 1"),
            ("${{$a} == {1} ? {x} : {y}}", ""),
            ("$$a", "$a"),
            ("costs $", "costs $"),
            ("${a", "${a"),
        ] {
            assert_eq!(expand(value, &parameters), expected, "{value}");
        }
        assert!(expand("$loop", &parameters).ends_with("$loop"), "a circle ends");
    }
}
