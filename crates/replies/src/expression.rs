//! Checks of a user's regular expression: that some reply can have it, and that not every reply has it.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use regex::bytes::RegexSet;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::rules::Rule;
use crate::{RULES, text};

/// Most texts that are tried for one expression.
const MAX_SAMPLES: usize = 64;
/// Most repetitions of a part in a text that is tried, beyond which only its length grows.
const MAX_REPETITIONS: u32 = 200;
/// Largest class that still names letters: `[Aa]`, `[0-9]`. A larger one, such as `[a-z]`, stands for any.
const MAX_NAMED_LETTERS: usize = 10;
/// An expression that is found in more than one of so many replies of different subjects names none of them.
const ONE_IN: usize = 3;

/// Examples of the rules that are compiled in, as a user's words see them: replies with any subject.
static REPLIES: LazyLock<Vec<String>> = LazyLock::new(|| {
    // Some are enough: each word of a user is looked for in all of them.
    let examples = RULES.iter().step_by(3).flat_map(Rule::examples);
    let replies = examples.filter_map(|example| example.split_once(' ').map(|(_, reply)| reply));
    replies.map(|reply| text::plain(0, reply.get(4..).unwrap_or_default())).collect()
});

/// True if an expression names no letter that a reply must have (`.{4}`, `[a-z]{3,}`), or is found in replies that have
/// nothing in common.
pub(crate) fn is_found_everywhere(word: &str, set: &RegexSet) -> bool {
    let mut parser = ParserBuilder::new().case_insensitive(true).unicode(false).utf8(false).build();
    if parser.parse(word).is_ok_and(|hir| !names_letters(&hir)) {
        return true;
    }
    let found = REPLIES.iter().filter(|reply| set.is_match(reply.as_bytes())).count();
    found * ONE_IN > REPLIES.len()
}

/// True if whatever the expression is found in has a certain letter or digit, or one of a few.
fn names_letters(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => false,
        HirKind::Literal(literal) => literal.0.iter().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii()),
        HirKind::Class(class) => {
            let letters = letters_of(class);
            let is_named = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
            letters.len() <= MAX_NAMED_LETTERS && letters.iter().all(is_named)
        }
        HirKind::Repetition(repetition) => repetition.min > 0 && names_letters(&repetition.sub),
        HirKind::Capture(capture) => names_letters(&capture.sub),
        HirKind::Alternation(alternatives) => alternatives.iter().all(names_letters),
        HirKind::Concat(parts) => parts.iter().any(names_letters),
    }
}

/// The first `.` of an expression that stands for one letter, where a full stop may be meant: its place.
pub(crate) fn bare_dot(word: &str) -> Option<usize> {
    let (mut is_escaped, mut in_class) = (false, false);
    let bytes = word.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        if is_escaped {
            is_escaped = false;
            continue;
        }
        match byte {
            b'\\' => is_escaped = true,
            b'[' => in_class = true,
            b']' => in_class = false,
            // `.*` and the like are meant to skip something.
            b'.' if !in_class && !matches!(bytes.get(at + 1), Some(b'*' | b'+' | b'?' | b'{')) => return Some(at),
            _ => {}
        }
    }
    None
}

/// A text that an expression is found in, and what is left of it in a reply, if no reply can have it.
pub(crate) fn never_found(word: &str, set: &RegexSet, codes: &[RangeInclusive<u16>]) -> Option<(String, String)> {
    let mut parser = ParserBuilder::new().case_insensitive(true).unicode(false).utf8(false).build();
    let mut samples = samples(&parser.parse(word).ok()?);
    samples.truncate(MAX_SAMPLES);
    let code = codes.first().map_or(550, |codes| *codes.start());
    let mut last = None;
    for sample in samples {
        let sample = String::from_utf8_lossy(&sample).into_owned();
        // Only what is found is a text of it: one with a look-around may be none.
        if !set.is_match(sample.as_bytes()) {
            return None;
        }
        let read = text::plain(code, &sample);
        if set.is_match(read.as_bytes()) {
            return None;
        }
        last = Some((sample, read));
    }
    last
}

/// Texts that an expression is found in: one for each of its alternatives.
fn samples(hir: &Hir) -> Vec<Vec<u8>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![vec![]],
        HirKind::Literal(literal) => vec![literal.0.to_vec()],
        HirKind::Class(class) => vec![of_class(class)],
        HirKind::Repetition(repetition) => {
            let times = repetition.min.clamp(1, MAX_REPETITIONS) as usize;
            samples(&repetition.sub).into_iter().map(|sample| sample.repeat(times)).collect()
        }
        HirKind::Capture(capture) => samples(&capture.sub),
        HirKind::Alternation(alternatives) => alternatives.iter().flat_map(samples).take(MAX_SAMPLES).collect(),
        HirKind::Concat(parts) => parts.iter().fold(vec![vec![]], |begun, part| joined(&begun, &samples(part))),
    }
}

fn joined(begun: &[Vec<u8>], ends: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let pairs = begun.iter().flat_map(|begin| ends.iter().map(move |end| [begin.as_slice(), end].concat()));
    pairs.take(MAX_SAMPLES).collect()
}

fn letters_of(class: &Class) -> Vec<u8> {
    match class {
        Class::Bytes(class) => class.iter().flat_map(|range| range.start()..=range.end()).collect(),
        Class::Unicode(class) => {
            let ranges = class.iter().flat_map(|range| (range.start()..=range.end()).take(0x80));
            ranges.filter_map(|letter| u8::try_from(letter).ok()).collect()
        }
    }
}

/// A letter of a class, one that replies have if there is one: they are read in lower case.
fn of_class(class: &Class) -> Vec<u8> {
    let preferred = b"xabcdefghijklmnopqrstuvwyz 0123456789".iter().copied().chain(0x21..0x7f);
    let bytes = letters_of(class);
    let found = preferred.into_iter().find(|byte| bytes.contains(byte)).or(bytes.first().copied());
    found.into_iter().collect()
}
