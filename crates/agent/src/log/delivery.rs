//! Conversion of a line of the log to events of the core. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mail_failover_core::model::EvidenceClass;

use super::line::{self, LogRecord};
use super::reply;
use crate::core::log_event::{Delivery, Disposition, LogEvent, MAX_SUMMARY, Place};

/// Returns the events in a line that is about mail for a backend.
pub fn log_events(line: &str) -> Vec<LogEvent> {
    line::parse(line).map(|record| of_record(&record)).unwrap_or_default()
}

fn of_record(record: &LogRecord<'_>) -> Vec<LogEvent> {
    let reason = record.reason;
    // Logged by error(8) for the queue manager: nothing was tried.
    // ADR-0055: A delivery that Postfix suspends is no evidence.
    if reason.starts_with("delivery temporarily suspended: ") {
        return vec![LogEvent::Suspended];
    }
    if record.program != "smtp" {
        return vec![];
    }
    let Some(place) = place_of_relay(record.relay).or_else(|| place_in_reason(reason)) else { return vec![] };
    let disposition = match record.status {
        "sent" => Some(Disposition::Sent),
        "deferred" | "SOFTBOUNCE" => Some(Disposition::Deferred),
        // An expired message has failed like any other.
        "bounced" | "expired" | "undeliverable" => Some(Disposition::Bounced),
        _ => None,
    };
    let delivery = disposition.and_then(|disposition| {
        let class = if disposition == Disposition::Sent { EvidenceClass::Ok } else { reply::class(reason)? };
        Some(LogEvent::Delivery(Delivery {
            place: place.clone(),
            class,
            disposition,
            took: record.took,
            message: message(record.queue_id),
            summary: summary(reason),
            refusal: if disposition == Disposition::Sent { None } else { reply::refusal(reason) },
        }))
    });
    let twice = (record.status != "sent" && reason.ends_with("message may be sent more than once"))
        .then_some(LogEvent::PossibleDuplicate(place));
    delivery.into_iter().chain(twice).collect()
}

/// Parses a place written as `host[address]:port`.
fn place_of_relay(relay: &str) -> Option<Place> {
    let (host, rest) = relay.rsplit_once('[')?;
    let (_, port) = rest.rsplit_once("]:")?;
    Some(Place { host: host.to_ascii_lowercase().into(), port: Some(port.parse().ok()?) })
}

/// Finds the place in `connect to host[address]:port: …` and `… Name service error for name=host type=…`.
fn place_in_reason(reason: &str) -> Option<Place> {
    if let Some(place) = reason.strip_prefix("connect to ") {
        let end = place.find("]:")? + 2;
        let digits = place[end..].bytes().take_while(u8::is_ascii_digit).count();
        return place_of_relay(&place[..end + digits]);
    }
    let (_, name) = reason.split_once("Name service error for name=")?;
    let host = name.split(' ').next()?;
    Some(Place { host: host.to_ascii_lowercase().into(), port: None })
}

fn message(queue_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    queue_id.hash(&mut hasher);
    hasher.finish()
}

/// Shortens a reason, without mail addresses, which are personal data.
fn summary(reason: &str) -> Arc<str> {
    let words = reason.split_ascii_whitespace().map(|word| if word.contains('@') { "…" } else { word });
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().filter(|letter| !letter.is_control()).take(MAX_SUMMARY).collect::<String>().into()
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
