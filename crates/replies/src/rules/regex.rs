//! Words of a rule as POSIX extended regular expressions, for programs that know no other rules.

use super::Rule;

impl Rule {
    /// Its words as a POSIX extended regular expression, for programs that know no other rules; case does not matter.
    pub fn words_as_regex(&self) -> String {
        let words = regex_of_any(&self.written.words);
        if self.written.with.is_empty() {
            return words;
        }
        let with = regex_of_any(&self.written.with);
        format!("({words}).*({with})|({with}).*({words})")
    }

    /// The words that keep it from deciding, in the same form; `None` if there are none.
    pub fn exceptions_as_regex(&self) -> Option<String> {
        (!self.written.unless.is_empty()).then(|| regex_of_any(&self.written.unless))
    }
}

fn regex_of_any(phrases: &[String]) -> String {
    phrases.iter().map(|phrase| regex_of(phrase)).collect::<Vec<_>>().join("|")
}

/// A phrase as an extended regular expression: words with anything but letters and digits between them.
fn regex_of(phrase: &str) -> String {
    let parts: Vec<_> = phrase.split(" + ").map(regex_of_words).collect();
    match parts.as_slice() {
        [first, second] => format!("{first}.*{second}|{second}.*{first}"),
        parts => parts.join(".*"),
    }
}

fn regex_of_words(words: &str) -> String {
    let (stem, is_open) = words.strip_suffix('*').map_or((words, false), |stem| (stem, true));
    // `e-mail` is `email`, as the automaton reads it.
    let inner = stem.replace(' ', "[^a-z0-9]+").replace("email", "e[^a-z0-9]?mail");
    let end = if is_open { "" } else { "([^a-z0-9]|$)" };
    format!("(^|[^a-z0-9]){inner}{end}")
}
