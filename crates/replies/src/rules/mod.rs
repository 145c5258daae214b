//! Rules as data: all of them in one automaton, and which of them apply to a reply.

mod codes;
mod regex;
mod source;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind, PatternID};

use crate::about::About;
use crate::reply::{Answered, Reply};
use crate::text::{MAX_SENTENCES, Words, words_of};
pub(crate) use codes::{EnhancedPattern, code_range};
pub use source::RuleError;
use source::invalid;

/// Any of these phrases, as patterns of an automaton.
// Flat, because a reply is compared with thousands of them.
#[derive(Debug, Default)]
struct Phrases {
    /// Phrases of one pattern.
    single: Vec<u16>,
    /// Phrases whose patterns must all stand in one sentence.
    joint: Vec<Vec<u16>>,
}

impl Phrases {
    fn is_empty(&self) -> bool {
        self.single.is_empty() && self.joint.is_empty()
    }

    /// One pattern of each phrase: where it is missing, the phrase is.
    fn leads(&self) -> impl Iterator<Item = u16> {
        self.single.iter().copied().chain(self.joint.iter().filter_map(|parts| parts.first().copied()))
    }

    /// The sentences that have any of the phrases.
    fn sentences(&self, hits: &Hits) -> u64 {
        let single = self.single.iter().fold(0, |any, pattern| any | hits.of(*pattern));
        let joint = |parts: &Vec<u16>| parts.iter().fold(u64::MAX, |all, part| all & hits.of(*part));
        self.joint.iter().fold(single, |any, parts| any | joint(parts))
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
    words: Phrases,
    with: Phrases,
    unless: Phrases,
    names: Phrases,
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
            && (self.names.is_empty() || self.names.sentences(&found.names) != 0)
            && self.unless.sentences(&found.words) & self.excepting() == 0
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
        let beside = if self.with.is_empty() { allowed } else { allowed & self.with.sentences(&found.words) };
        beside != 0 && self.words.sentences(&found.words) & beside != 0
    }
}

/// The sentences in which patterns were found.
// Small, because nearly all patterns that a rule asks for are in no sentence of a reply.
struct Hits {
    /// A bit for each pattern that was found.
    marks: Vec<u64>,
    /// The sentences of these patterns.
    sentences: Vec<(u16, u64)>,
}

impl Hits {
    fn new(patterns: usize) -> Self {
        Self { marks: vec![0; patterns.div_ceil(64)], sentences: Vec::with_capacity(32) }
    }

    fn add(&mut self, pattern: u16, sentences: u64) {
        if self.is_marked(pattern) {
            let of_pattern = self.sentences.iter_mut().filter(|(found, _)| *found == pattern);
            of_pattern.for_each(|(_, earlier)| *earlier |= sentences);
        } else {
            self.marks[usize::from(pattern / 64)] |= 1 << (pattern % 64);
            self.sentences.push((pattern, sentences));
        }
    }

    fn of(&self, pattern: u16) -> u64 {
        if !self.is_marked(pattern) {
            return 0;
        }
        self.sentences.iter().find(|(found, _)| *found == pattern).map_or(0, |(_, sentences)| *sentences)
    }

    fn is_marked(&self, pattern: u16) -> bool {
        self.marks[usize::from(pattern / 64)] & (1 << (pattern % 64)) != 0
    }
}

/// Patterns of the rules that stand in a reply.
struct Found {
    /// In the upper half only the sentences where a pattern is not a part of one token: [`Words::compounds`].
    words: Hits,
    /// All sentences where it was found.
    names: Hits,
    /// True if the reply goes on with what another server said.
    quotes: bool,
    /// True for each rule of which a phrase may have been found.
    candidates: Vec<bool>,
}

impl Found {
    fn note_candidates(&mut self, rules: &[u16]) {
        for rule in rules {
            self.candidates[usize::from(*rule)] = true;
        }
    }
}

/// An automaton, and for each of its patterns the rules that may apply where it is found.
#[derive(Debug)]
struct Automaton {
    searcher: AhoCorasick,
    users: Vec<Vec<u16>>,
}

impl Automaton {
    fn new(patterns: &[String]) -> Result<Self, RuleError> {
        let searcher = AhoCorasick::builder()
            // A DFA of these patterns has 15 MB, which no processor's cache holds; this has 0.4 MB.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .build(patterns)
            .map_err(|error| invalid("all files", "", "words", &error.to_string()))?;
        Ok(Self { searcher, users: vec![Vec::new(); patterns.len()] })
    }

    /// The number of a pattern that was found, and the rules that ask for it.
    fn pattern(&self, found: PatternID) -> (u16, &[u16]) {
        // No file has more phrases than that: `Patterns::phrases`.
        (u16::try_from(found.as_usize()).unwrap_or(u16::MAX), &self.users[found.as_usize()])
    }

    fn add_user(&mut self, phrases: &Phrases, rule: u16) {
        for pattern in phrases.leads() {
            self.users[usize::from(pattern)].push(rule);
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
            words: Hits::new(self.in_words.users.len()),
            names: Hits::new(self.in_names.users.len()),
            quotes: words.quotes,
            candidates: self.wordless.clone(),
        };
        for hit in self.in_words.searcher.find_overlapping_iter(&words.plain) {
            // A pattern begins with the blank before its first word.
            let place = hit.start() + 1..hit.end();
            if words.is_interrupted(&place) {
                continue;
            }
            let sentence = 1_u64 << words.sentence_at(place.start);
            let careful = if words.is_within_compound(&place) { 0 } else { sentence << MAX_SENTENCES };
            let (pattern, users) = self.in_words.pattern(hit.pattern());
            found.words.add(pattern, sentence | careful);
            found.note_candidates(users);
        }
        for hit in self.in_names.searcher.find_overlapping_iter(&words.names) {
            let (pattern, users) = self.in_names.pattern(hit.pattern());
            found.names.add(pattern, u64::MAX);
            found.note_candidates(users);
        }
        found
    }
}
