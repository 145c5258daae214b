//! The meaning of a receiver's answer.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use mail_failover_core::model::Timestamp;

/// Longest pause that a receiver can ask for.
// Longer ones would leave it behind the mail for hours after it has recovered.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Returns true if a status means that the receiver has taken the event over.
// A redirect is none: it may lead where the guard does not look.
pub fn is_accepted(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Meaning of a status that is no success, with a remedy.
pub fn refusal(status: u16) -> &'static str {
    match status {
        300..=399 => "redirects are not followed: name the place itself in url",
        400 | 422 => "it does not understand the request: compare body and headers with its documentation",
        401 | 403 => "it does not accept the signature or the credentials: compare the Secret with what it expects",
        404 | 405 => "there is no such place: compare url and method with its documentation",
        410 => "it does not want calls any more: take the output away, or name another url",
        429 => "it asks for fewer calls",
        500..=599 => "it has failed by itself",
        _ => "that is no success",
    }
}

/// Pause that a receiver asks for by `Retry-After` (RFC 9110 §10.2.3), in seconds or until a date; `None` if the header
/// cannot be understood.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let asked = if let Ok(seconds) = value.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let until = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(value).ok()?;
        Timestamp::from_micros(until.as_microsecond()).since(now)
    };
    Some(asked.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_hundreds_are_a_success() {
        let accepted: Vec<_> = (100..600).filter(|status| is_accepted(*status)).collect();
        assert_eq!((accepted.first(), accepted.last(), accepted.len()), (Some(&200), Some(&299), 100));
        for (status, word) in [(301, "redirect"), (401, "Secret"), (404, "url"), (410, "take the output away")] {
            assert!(refusal(status).contains(word), "{status}: {}", refusal(status));
        }
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_until_a_date_and_has_a_bound() {
        // RFC 9110 §5.6.7.
        let date: jiff::Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        let now = Timestamp::from_micros(date.as_microsecond() - 90_000_000);
        for (value, pause) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86400", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90)),
            ("Sun, 06 Nov 1994 08:40:00 GMT", Some(0)),
            ("Sun, 06 Nov 2094 08:49:37 GMT", Some(3600)),
            ("soon", None),
            ("-3", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), pause.map(Duration::from_secs), "{value}");
        }
    }
}
