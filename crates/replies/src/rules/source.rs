//! Rules as they are written in YAML: read, checked, and compiled.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::codes::{EnhancedPattern, code_range};
use super::{Automaton, Phrases, Rule, Rules, Written, automaton_pattern};
use crate::about::About;
use crate::reply::Answered;

/// Phrases of one rule's word list that must stand in one sentence; more make a rule hard to read.
const MAX_PARTS: usize = 4;

/// A file of rules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleFile {
    /// Provider or server whose words these are; absent in general files.
    provider: Option<String>,
    /// Hosts of the provider: `smtp.example.com`, with a `*` for any text.
    #[serde(default)]
    hosts: Vec<String>,
    rules: Vec<RuleSource>,
}

/// One rule as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleSource {
    id: String,
    about: About,
    /// Document that the rule follows.
    source: String,
    #[serde(default)]
    stages: Vec<Answered>,
    /// `5xx`, `421`, `450-452`.
    #[serde(default)]
    codes: Vec<String>,
    /// `x.7.57`, `4.7.28`, `x.2.*`, `none`.
    #[serde(default)]
    enhanced: Vec<String>,
    /// Any of these phrases. ` + ` joins phrases of one sentence, in any order; a trailing `*` leaves a word open.
    #[serde(default)]
    words: Vec<String>,
    /// Any of these phrases, too, in a sentence that has one of `words`: subjects there, what befell them here.
    #[serde(default)]
    with: Vec<String>,
    /// None of these phrases.
    #[serde(default)]
    unless: Vec<String>,
    /// Any of these in the text with its hosts and URLs.
    #[serde(default)]
    names: Vec<String>,
    /// True if the reply must go on with what another server said.
    #[serde(default)]
    quotes: bool,
    /// Replies that this rule decides, each `STAGE code text`.
    examples: Vec<String>,
}

/// A rule that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The file is no list of rules.
    #[error("{file}: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// The reason.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// A field of a rule has a value that it cannot have.
    #[error("{file}: rule {id}: {field}: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// The rule.
        id: String,
        /// The field.
        field: &'static str,
        /// The reason.
        problem: String,
    },
}

impl Rules {
    /// Reads rule files: `(name, text)`, the most specific first.
    ///
    /// # Errors
    /// When a file or a rule cannot work; the error names it.
    pub fn read(files: &[(&str, &str)]) -> Result<Self, RuleError> {
        let (mut patterns, mut names) = (Patterns::default(), Patterns::default());
        let mut rules: Vec<Rule> = Vec::new();
        let mut hosts = Vec::new();
        for (file, text) in files {
            let parsed: RuleFile = serde_saphyr::from_str(text)
                .map_err(|source| RuleError::Unreadable { file: (*file).to_owned(), source: Box::new(source) })?;
            let provider: Option<Arc<str>> = parsed.provider.map(Arc::from);
            for host in parsed.hosts {
                let Some(provider) = &provider else {
                    return Err(invalid(file, "", "hosts", "the file has no provider"));
                };
                if host.matches('*').count() > 1 || host != host.to_ascii_lowercase() {
                    return Err(invalid(file, "", "hosts", &format!("{host}: lower case, and one * at most")));
                }
                hosts.push((host, provider.clone()));
            }
            for source in parsed.rules {
                let rule = patterns.compile(&mut names, file, provider.clone(), source)?;
                if rules.iter().any(|other| other.id == rule.id) {
                    return Err(invalid(file, &rule.id, "id", "another rule has it"));
                }
                rules.push(rule);
            }
        }
        let (mut in_words, mut in_names) = (Automaton::new(&patterns.texts)?, Automaton::new(&names.texts)?);
        let mut wordless = Vec::new();
        for (rule, index) in rules.iter().zip(0..) {
            in_words.add_user(&rule.words, index);
            in_names.add_user(&rule.names, index);
            wordless.push(rule.words.is_empty() && rule.names.is_empty());
        }
        Ok(Self { ordered: rules, in_words, in_names, wordless, hosts })
    }
}

/// The automaton's patterns, each once.
#[derive(Default)]
struct Patterns {
    texts: Vec<String>,
    index: HashMap<String, u16>,
}

impl Patterns {
    fn compile(
        &mut self,
        of_names: &mut Self,
        file: &str,
        provider: Option<Arc<str>>,
        source: RuleSource,
    ) -> Result<Rule, RuleError> {
        let RuleSource {
            id,
            about,
            source: document,
            stages,
            codes,
            enhanced,
            words,
            with,
            unless,
            names,
            quotes,
            examples,
        } = source;
        let id = format!("{file}/{id}");
        if words.is_empty() && names.is_empty() && enhanced.is_empty() && codes.is_empty() && !quotes {
            return Err(invalid(file, &id, "words", "the rule has no condition"));
        }
        if examples.is_empty() {
            return Err(invalid(file, &id, "examples", "the rule has none, so nothing tests it"));
        }
        if words.is_empty() && !with.is_empty() {
            return Err(invalid(file, &id, "with", "it needs words beside it"));
        }
        let codes = codes.iter().map(|text| code_range(text).ok_or_else(|| invalid(file, &id, "codes", text)));
        let codes = codes.collect::<Result<_, _>>()?;
        let enhanced = enhanced
            .iter()
            .map(|text| EnhancedPattern::parse(text).ok_or_else(|| invalid(file, &id, "enhanced", text)));
        let enhanced = enhanced.collect::<Result<_, _>>()?;
        Ok(Rule {
            words: self.phrases(file, &id, "words", &words)?,
            with: self.phrases(file, &id, "with", &with)?,
            unless: self.phrases(file, &id, "unless", &unless)?,
            names: of_names.phrases(file, &id, "names", &names)?,
            id,
            provider,
            about,
            source: document,
            stages,
            codes,
            enhanced,
            quotes,
            written: Written {
                words,
                with,
                unless,
                #[cfg(test)]
                names,
            },
            examples,
        })
    }

    fn phrases(&mut self, file: &str, id: &str, field: &'static str, texts: &[String]) -> Result<Phrases, RuleError> {
        let mut phrases = Phrases::default();
        for text in texts {
            let parts: Vec<_> = text.split(" + ").collect();
            if parts.len() > MAX_PARTS {
                return Err(invalid(file, id, field, text));
            }
            let mut indices = Vec::new();
            for part in parts {
                let stem = part.strip_suffix('*').unwrap_or(part);
                let is_plain =
                    stem.chars().all(|letter| (letter.is_alphanumeric() && !letter.is_uppercase()) || letter == ' ');
                if part.trim().is_empty() || !is_plain {
                    return Err(invalid(
                        file,
                        id,
                        field,
                        &format!("{part:?}: only words in lower case, blanks and a last *"),
                    ));
                }
                let pattern = automaton_pattern(part);
                let next = u16::try_from(self.texts.len()).map_err(|_| invalid(file, id, field, "too many phrases"))?;
                let index = *self.index.entry(pattern.clone()).or_insert(next);
                if index == next {
                    self.texts.push(pattern);
                }
                indices.push(index);
            }
            match indices[..] {
                [pattern] => phrases.single.push(pattern),
                _ => phrases.joint.push(indices),
            }
        }
        Ok(phrases)
    }
}

pub(super) fn invalid(file: &str, id: &str, field: &'static str, problem: &str) -> RuleError {
    RuleError::Invalid { file: file.to_owned(), id: id.to_owned(), field, problem: problem.to_owned() }
}
