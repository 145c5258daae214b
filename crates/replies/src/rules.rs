//! Rules as data: read from YAML, checked, and put into one automaton.

use std::ops::RangeInclusive;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde::Deserialize;

use crate::about::About;
use crate::reply::{Answered, EnhancedCode, Reply};
use crate::text::{MAX_SENTENCES, Words, words_of};

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

/// A phrase condition: all of these automaton patterns, in one sentence.
#[derive(Clone, Debug)]
struct Phrase(Vec<usize>);

/// A pattern of an enhanced code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnhancedPattern {
    None,
    Code { class: Option<u8>, subject: Option<u16>, detail: Option<u16> },
}

impl EnhancedPattern {
    /// Parses `x.7.57`, `4.7.28`, `x.2.*` or `none`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::None);
        }
        let mut parts = text.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        let class = match class {
            "x" => None,
            "4" => Some(4),
            "5" => Some(5),
            _ => return None,
        };
        let pattern = Self::Code { class, subject: code_part(subject)?, detail: code_part(detail)? };
        parts.next().is_none().then_some(pattern)
    }

    /// True if a reply with one of these codes may have it: the first digits are the same (RFC 3463 §2).
    pub(crate) fn can_come_with(self, codes: &RangeInclusive<u16>) -> bool {
        match self {
            Self::None | Self::Code { class: None, .. } => true,
            Self::Code { class: Some(class), .. } => {
                let class = u16::from(class);
                codes.start() / 100 <= class && class <= codes.end() / 100
            }
        }
    }

    /// True if these patterns are those of codes of both classes, with any subject and detail.
    pub(crate) fn are_any_class(patterns: &[Self]) -> bool {
        let has_class = |wanted: u8| {
            let of_class = |pattern: &Self| matches!(pattern, Self::Code { class, subject: None, detail: None } if class.is_none_or(|of| of == wanted));
            patterns.iter().any(of_class)
        };
        has_class(4) && has_class(5)
    }

    pub(crate) fn matches(self, enhanced: Option<EnhancedCode>) -> bool {
        match (self, enhanced) {
            (Self::None, None) => true,
            (Self::None, Some(_)) | (Self::Code { .. }, None) => false,
            (Self::Code { class, subject, detail }, Some(EnhancedCode(c, s, d))) => {
                class.is_none_or(|class| class == c)
                    && subject.is_none_or(|subject| subject == s)
                    && detail.is_none_or(|detail| detail == d)
            }
        }
    }
}

/// A rule, ready to be applied.
#[derive(Debug)]
pub struct Rule {
    id: String,
    provider: Option<Arc<str>>,
    about: About,
    source: String,
    stages: Vec<Answered>,
    codes: Vec<RangeInclusive<u16>>,
    enhanced: Vec<EnhancedPattern>,
    words: Vec<Phrase>,
    with: Vec<Phrase>,
    unless: Vec<Phrase>,
    names: Vec<Phrase>,
    quotes: bool,
    written: Written,
    examples: Vec<String>,
}

/// The phrases of a rule as they are written.
#[derive(Debug)]
struct Written {
    words: Vec<String>,
    with: Vec<String>,
    unless: Vec<String>,
    #[cfg(test)]
    names: Vec<String>,
}

/// A part of a phrase as the automaton looks for it: whole words, or the start of one.
fn automaton_pattern(part: &str) -> String {
    match part.strip_suffix('*') {
        Some(stem) => format!(" {}", words_of(stem)),
        None => format!(" {} ", words_of(part)),
    }
}

impl Rule {
    /// Name of the rule, unique among all: `general/account-suspended`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Provider or server whose words it knows; `None` for a general rule.
    pub fn provider(&self) -> Option<&str> {
        self.provider.as_deref()
    }

    /// Subject of the replies that it decides.
    pub fn about(&self) -> About {
        self.about
    }

    /// Document that it follows.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// True if the words alone decide: at every stage, whatever the enhanced code.
    pub fn is_by_words_alone(&self) -> bool {
        self.stages.is_empty()
            && self.enhanced.is_empty()
            && self.names.is_empty()
            && !self.quotes
            && !self.words.is_empty()
    }

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

    /// Replies that it decides, each `STAGE code text`.
    pub fn examples(&self) -> &[String] {
        &self.examples
    }

    fn applies(&self, reply: &Reply<'_>, found: &Found) -> bool {
        // Where the stage is not known, only rules that hold at every stage decide: the careful reading.
        if self.about.needs_a_transaction() && reply.stage.is_some_and(Answered::is_before_mail) {
            return false;
        }
        if self.about.needs_a_sender() && reply.stage.is_some_and(Answered::is_before_login) {
            return false;
        }
        let stage_fits = self.stages.is_empty() || reply.stage.is_some_and(|stage| self.stages.contains(&stage));
        stage_fits
            && (!self.quotes || found.quotes)
            // Who hands on what the next server said is in no trouble.
            && !(found.quotes && self.about == About::Service)
            && (self.codes.is_empty() || self.codes.iter().any(|codes| codes.contains(&reply.code)))
            && (self.enhanced.is_empty() || self.enhanced.iter().any(|pattern| pattern.matches(reply.enhanced)))
            && (self.words.is_empty() || self.has_words(reply.stage, found))
            && (self.names.is_empty() || self.names.iter().any(|phrase| found.in_names(phrase)))
            && !self.unless.iter().any(|phrase| found.sentences_of(phrase) & self.excepting() != 0)
    }

    /// Sentences in which an exception counts.
    // A filter quotes words of a message: they do not make it a reply about something else.
    fn excepting(&self) -> u64 {
        if self.about == About::Message { u64::MAX << MAX_SENTENCES } else { u64::MAX }
    }

    /// True if a sentence has one of the words, and what must stand beside it.
    fn has_words(&self, stage: Option<Answered>, found: &Found) -> bool {
        // ADR-0120: A server may name the recipient, whom a stranger chose: `no such user sending-paused`.
        let may_name_a_recipient = matches!(stage, None | Some(Answered::Recipient | Answered::Data));
        let careful = may_name_a_recipient && self.about.consequences().immediate;
        let allowed = if careful { u64::MAX << MAX_SENTENCES } else { u64::MAX };
        let beside = if self.with.is_empty() { allowed } else { allowed & found.sentences_with(&self.with) };
        beside != 0 && self.words.iter().any(|phrase| found.sentences_of(phrase) & beside != 0)
    }
}

/// For each pattern, the sentences in which it was found.
struct Found {
    /// In the upper half only the sentences where it is not a part of one token: [`Words::compounds`].
    words: Vec<u64>,
    names: Vec<bool>,
    /// True if the reply goes on with what another server said.
    quotes: bool,
    /// True for each rule of which a phrase may have been found.
    candidates: Vec<bool>,
}

impl Found {
    /// The sentences that have any of these phrases, in both halves.
    fn sentences_with(&self, phrases: &[Phrase]) -> u64 {
        phrases.iter().fold(0, |sentences, phrase| sentences | self.sentences_of(phrase))
    }

    fn sentences_of(&self, Phrase(parts): &Phrase) -> u64 {
        parts.iter().fold(u64::MAX, |sentences, part| sentences & self.words[*part])
    }

    fn in_names(&self, Phrase(parts): &Phrase) -> bool {
        parts.iter().all(|part| self.names[*part])
    }
}

/// An automaton, and for each of its patterns the rules that may apply where it is found.
#[derive(Debug)]
struct Automaton {
    searcher: AhoCorasick,
    users: Vec<Vec<usize>>,
}

impl Automaton {
    fn new(patterns: &Patterns) -> Result<Self, RuleError> {
        let searcher = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .match_kind(MatchKind::Standard)
            .build(&patterns.texts)
            .map_err(|error| invalid("all files", "", "words", &error.to_string()))?;
        Ok(Self { searcher, users: vec![Vec::new(); patterns.texts.len()] })
    }

    fn add_user(&mut self, phrases: &[Phrase], rule: usize) {
        for Phrase(parts) in phrases {
            self.users[parts[0]].push(rule);
        }
    }
}

/// All rules, in order of precedence.
#[derive(Debug)]
pub struct Rules {
    ordered: Vec<Rule>,
    in_words: Automaton,
    in_names: Automaton,
    /// True for rules that need no word.
    wordless: Vec<bool>,
    /// Patterns of hosts, each with its provider.
    hosts: Vec<(String, Arc<str>)>,
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
        let (mut in_words, mut in_names) = (Automaton::new(&patterns)?, Automaton::new(&names)?);
        let mut wordless = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            in_words.add_user(&rule.words, index);
            in_names.add_user(&rule.names, index);
            wordless.push(rule.words.is_empty() && rule.names.is_empty());
        }
        Ok(Self { ordered: rules, in_words, in_names, wordless, hosts })
    }

    /// The first rule that applies to a reply of this provider, or of any.
    pub fn decide(&self, reply: &Reply<'_>, provider: Option<&str>) -> Option<&Rule> {
        self.applicable(reply, provider, 1).pop()
    }

    /// Every rule that applies, in order: for checks of what hides what.
    pub fn all_that_apply(&self, reply: &Reply<'_>) -> Vec<&Rule> {
        self.applicable(reply, None, usize::MAX)
    }

    /// The rules that apply, in order, at most `limit`.
    fn applicable(&self, reply: &Reply<'_>, provider: Option<&str>, limit: usize) -> Vec<&Rule> {
        let found = self.find(reply);
        let candidates = self.ordered.iter().zip(&found.candidates).filter(|(_, is_candidate)| **is_candidate);
        let candidates = candidates.map(|(rule, _)| rule).filter(|rule| match (rule.provider(), provider) {
            (Some(of), Some(wanted)) => of.eq_ignore_ascii_case(wanted),
            (None, _) | (Some(_), None) => true,
        });
        candidates.filter(|rule| rule.applies(reply, &found)).take(limit).collect()
    }

    /// The provider whose host this is.
    pub fn provider_of(&self, host: &str) -> Option<&str> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let found = self.hosts.iter().find(|(pattern, _)| match pattern.split_once('*') {
            Some((start, end)) => {
                host.len() >= start.len() + end.len() && host.starts_with(start) && host.ends_with(end)
            }
            None => *pattern == host,
        });
        found.map(|(_, provider)| &**provider)
    }

    /// Patterns of hosts, each with the provider that is known by it.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.hosts.iter().map(|(pattern, provider)| (pattern.as_str(), &**provider))
    }

    /// All rules, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.ordered.iter()
    }

    fn find(&self, reply: &Reply<'_>) -> Found {
        let words = Words::of(reply.code, reply.text);
        let mut found = Found {
            words: vec![0; self.in_words.users.len()],
            names: vec![false; self.in_names.users.len()],
            quotes: words.quotes,
            candidates: self.wordless.clone(),
        };
        for hit in self.in_words.searcher.find_overlapping_iter(&words.plain) {
            let pattern = hit.pattern().as_usize();
            // A pattern begins with the blank before its first word.
            let start = hit.start() + 1;
            if words.is_interrupted(&(start..hit.end())) {
                continue;
            }
            let sentence = 1_u64 << words.sentence_at(start);
            let careful = if words.is_within_compound(&(start..hit.end())) { 0 } else { sentence << MAX_SENTENCES };
            found.words[pattern] |= sentence | careful;
            self.in_words.users[pattern].iter().for_each(|rule| found.candidates[*rule] = true);
        }
        for hit in self.in_names.searcher.find_overlapping_iter(&words.names) {
            let pattern = hit.pattern().as_usize();
            found.names[pattern] = true;
            self.in_names.users[pattern].iter().for_each(|rule| found.candidates[*rule] = true);
        }
        found
    }
}

/// The automaton's patterns, each once.
#[derive(Default)]
struct Patterns {
    texts: Vec<String>,
    index: std::collections::HashMap<String, usize>,
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

    fn phrases(
        &mut self,
        file: &str,
        id: &str,
        field: &'static str,
        texts: &[String],
    ) -> Result<Vec<Phrase>, RuleError> {
        let mut phrases = Vec::new();
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
                let next = self.texts.len();
                let index = *self.index.entry(pattern.clone()).or_insert(next);
                if index == next {
                    self.texts.push(pattern);
                }
                indices.push(index);
            }
            phrases.push(Phrase(indices));
        }
        Ok(phrases)
    }
}

fn invalid(file: &str, id: &str, field: &'static str, problem: &str) -> RuleError {
    RuleError::Invalid { file: file.to_owned(), id: id.to_owned(), field, problem: problem.to_owned() }
}

/// Parses `5xx`, `421` or `450-452`.
pub(crate) fn code_range(text: &str) -> Option<RangeInclusive<u16>> {
    match text {
        "4xx" => Some(400..=499),
        "5xx" => Some(500..=599),
        _ => match text.split_once('-') {
            Some((from, to)) => Some(from.parse().ok()?..=to.parse().ok()?),
            None => text.parse().ok().map(|code: u16| code..=code),
        },
    }
}

/// A subject or detail of a pattern: a number, or `*` for any.
#[expect(clippy::option_option, reason = "the outer one says that it is malformed")]
fn code_part(text: &str) -> Option<Option<u16>> {
    match text {
        "*" => Some(None),
        digits => digits.parse().ok().filter(|number| *number < 1000).map(Some),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules as all_rules;

    /// True if one list of conditions allows all that another does; an empty one allows anything.
    fn allows<T: PartialEq>(earlier: &[T], later: &[T]) -> bool {
        earlier.is_empty() || (!later.is_empty() && later.iter().all(|item| earlier.contains(item)))
    }

    /// True if an earlier rule certainly applies where a later one does and one of these phrases is found.
    fn hides(earlier: &Rule, later: &Rule) -> bool {
        let is_tried = earlier.provider.is_none() || earlier.provider == later.provider;
        let later_needs_mail = later.about.needs_a_transaction()
            || (!later.stages.is_empty() && !later.stages.iter().any(|stage| stage.is_before_mail()));
        is_tried
            && (!earlier.about.needs_a_transaction() || later_needs_mail)
            && earlier.names.is_empty()
            && (!earlier.quotes || later.quotes)
            && (earlier.written.with.is_empty() || earlier.written.with == later.written.with)
            && allows(&earlier.stages, &later.stages)
            && allows(&earlier.codes, &later.codes)
            && allows(&earlier.enhanced, &later.enhanced)
            && earlier
                .written
                .unless
                .iter()
                .all(|phrase| later.written.unless.iter().any(|own| is_found_with(&parts(own), &parts(phrase))))
    }

    #[test]
    fn no_rule_and_no_phrase_is_hidden_by_an_earlier_rule() {
        let rules: Vec<_> = all_rules().iter().collect();
        let mut hidden = vec![];
        for (index, later) in rules.iter().enumerate() {
            for earlier in rules[..index].iter().filter(|earlier| hides(earlier, later)) {
                if earlier.written.words.is_empty() {
                    hidden.push(format!("{} by {}", later.id, earlier.id));
                }
                for phrase in &later.written.words {
                    if earlier.written.words.iter().any(|other| is_found_with(&parts(other), &parts(phrase))) {
                        hidden.push(format!("{phrase:?} of {} by {}", later.id, earlier.id));
                    }
                }
            }
        }
        assert!(hidden.is_empty(), "{hidden:#?}");
    }

    /// Patterns of the automaton that a phrase asks for.
    fn parts(phrase: &str) -> Vec<String> {
        phrase.split(" + ").map(automaton_pattern).collect()
    }

    /// True if a phrase is found wherever another one is.
    fn is_found_with(phrase: &[String], other: &[String]) -> bool {
        phrase.iter().all(|part| other.iter().any(|other| other.contains(part)))
    }

    /// The first phrase of a list that says no more than another one of it, with that one.
    fn idle(phrases: &[String]) -> Option<(&String, &String)> {
        let parts: Vec<_> = phrases.iter().map(|phrase| parts(phrase)).collect();
        let pairs = (0..parts.len()).flat_map(|one| (0..parts.len()).map(move |other| (one, other)));
        let found =
            pairs.filter(|(one, other)| one != other).find(|(one, other)| is_found_with(&parts[*other], &parts[*one]));
        found.map(|(one, other)| (&phrases[one], &phrases[other]))
    }

    // Here, and not where rules are read: it takes each pair of phrases, and every process reads them when it starts.
    #[test]
    fn no_phrase_says_no_more_than_another_one_of_its_list() {
        for rule in all_rules().iter() {
            let Written { words, with, unless, names } = &rule.written;
            for (field, phrases) in [("words", words), ("with", with), ("unless", unless), ("names", names)] {
                if let Some((phrase, other)) = idle(phrases) {
                    panic!("{}: {field}: {phrase:?} says no more than {other:?}; take it out", rule.id);
                }
            }
        }
    }

    #[test]
    fn a_phrase_that_says_no_more_than_another_one_is_found() {
        let is_idle =
            |phrases: &[&str]| idle(&phrases.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).is_some();
        assert!(!is_idle(&["quota spent", "account + closed"]));
        for phrases in [
            ["quota", "quota"],
            ["quota", "daily quota"],
            ["quota*", "quotas"],
            ["account + closed", "your account + closed"],
        ] {
            assert!(is_idle(&phrases), "{phrases:?}");
        }
    }

    #[test]
    fn a_host_tells_its_provider() {
        let cases = [
            ("email-smtp.eu-west-1.amazonaws.com", Some("SES")),
            ("EMAIL-SMTP.eu-west-1.amazonaws.com.", Some("SES")),
            ("email-smtp.amazonaws.com", None),
            ("shop-example.mail.protection.outlook.com", Some("Microsoft")),
            ("mail.protection.outlook.com.example.org", None),
            ("aspmx.l.google.com", Some("Google")),
            ("alt1.aspmx.l.google.com", Some("Google")),
            ("smtp.zoho.eu", Some("Zoho")),
            ("smtp.example.org", None),
        ];
        for (host, provider) in cases {
            assert_eq!(all_rules().provider_of(host), provider, "{host}");
        }
    }
}
