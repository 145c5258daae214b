//! Checks of a user's regular expression: that some reply can have it, and that not every reply has it.

use std::ops::RangeInclusive;

use regex::bytes::RegexSet;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::text;

/// Most texts that are tried for one expression.
const MAX_SAMPLES: usize = 64;
/// Most repetitions of a part in a text that is tried, beyond which only its length grows.
const MAX_REPETITIONS: u32 = 200;
/// Replies that have neither a word nor a letter in common: no honest expression is found in all of them.
const UNRELATED: [&str; 3] = ["bad", "quit", "no"];

/// True if an expression is found in replies that have nothing in common.
pub(crate) fn is_found_everywhere(set: &RegexSet) -> bool {
    UNRELATED.iter().all(|text| set.is_match(text.as_bytes()))
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

/// A letter of a class, one that replies have if there is one: they are read in lower case.
fn of_class(class: &Class) -> Vec<u8> {
    let preferred = b"xabcdefghijklmnopqrstuvwyz 0123456789".iter().copied().chain(0x21..0x7f);
    let bytes: Vec<_> = match class {
        Class::Bytes(class) => class.iter().flat_map(|range| range.start()..=range.end()).collect(),
        Class::Unicode(class) => {
            let ranges = class.iter().flat_map(|range| (range.start()..=range.end()).take(0x80));
            ranges.filter_map(|letter| u8::try_from(letter).ok()).collect()
        }
    };
    let found = preferred.into_iter().find(|byte| bytes.contains(byte)).or(bytes.first().copied());
    found.into_iter().collect()
}
