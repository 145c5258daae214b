//! Texts for people: one line, printable, of bounded length.

use std::time::Duration;

use x509_parser::time::ASN1Time;

use mail_failover_core::model::{Stage, Timestamp};

/// Most characters of [`mail_failover_core::model::Outcome::message`].
pub const MAX_MESSAGE: usize = 256;

/// A message with its stage: `STARTTLS: not offered`.
pub fn message(stage: Stage, what: &str) -> String {
    bounded(&format!("{}: {what}", stage.as_str()), MAX_MESSAGE)
}

/// The text with all but printable ASCII replaced, cut to `max` characters.
///
/// SMTP replies are ASCII (RFC 5321 §2.4). Other characters could move a terminal's cursor or reverse the direction of
/// the text.
pub fn bounded(text: &str, max: usize) -> String {
    let text = text.trim_end();
    let mut kept: String = text.chars().take(max).map(printable_char).collect();
    if text.chars().nth(max).is_some() {
        kept.truncate(max.saturating_sub(3));
        kept.push_str("...");
    }
    kept
}

fn printable_char(char: char) -> char {
    match char {
        ' '..='~' => char,
        '\t' | '\r' | '\n' => ' ',
        _ => '?',
    }
}

/// A text from elsewhere as a line for people: printable, bounded as every
/// [`mail_failover_core::model::Outcome::message`].
pub fn printable(text: &str) -> String {
    bounded(text, MAX_MESSAGE)
}

/// The day of a time, in UTC, as ISO 8601 writes it.
pub fn date(at: Timestamp) -> String {
    let day = ASN1Time::from_timestamp(at.as_micros().div_euclid(1_000_000));
    day.map_or_else(|_| "a day beyond the calendar".to_owned(), |day| day.to_datetime().date().to_string())
}

/// A duration as `1.5s` or `200ms`.
pub fn duration(duration: Duration) -> String {
    format!("{duration:?}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_one_printable_line() {
        assert_eq!(message(Stage::Ehlo, "421 bye\r\n"), "EHLO: 421 bye");
        assert_eq!(message(Stage::Banner, "421 a\nb\x1b[2J\u{202e}é"), "Banner: 421 a b?[2J??");
        assert_eq!(message(Stage::Banner, &"x".repeat(300)).len(), MAX_MESSAGE);
        assert!(message(Stage::Banner, &"x".repeat(300)).ends_with("xx..."));
        assert_eq!(date(Timestamp::from_micros(1_793_491_200_000_000)), "2026-11-01");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5s");
    }

    proptest! {
        #[test]
        fn no_text_exceeds_the_bound(text in any::<String>(), max in 3..300_usize) {
            let kept = bounded(&text, max);
            prop_assert!(kept.len() <= max && kept.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}
