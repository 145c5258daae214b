//! Conversion of a line of the log to events of the core. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mail_failover_core::model::EvidenceClass;
use mail_failover_replies::Answered;

use super::line::LogRecord;
use super::reader::Attempt;
use super::reply::{self, Quoted};
use mail_failover_dataplane::answers::recipient_hash;
use mail_failover_dataplane::core::log_event::{Delivery, Disposition, LogEvent, MAX_SUMMARY, MessageRefusal, Place};
use mail_failover_dataplane::reading::{self, Sender};

/// Returns the events in a record of this program. Of the earlier attempts of the same delivery, the one at the same
/// host stands in for a reason that says nothing, and each other is an event of its own.
pub(super) fn of_record(program: &str, record: &LogRecord<'_>, sender: Sender, earlier: &[Attempt]) -> Vec<LogEvent> {
    let unmarked = reading::unmarked(record.reason);
    let reason = &*unmarked;
    // Logged by error(8) for the queue manager: nothing was tried.
    // ADR-0055: A delivery that Postfix suspends is no evidence.
    if reason.starts_with("delivery temporarily suspended: ") {
        return vec![LogEvent::Suspended];
    }
    if !is_of_client(program) {
        return vec![];
    }
    let place = place_of_relay(record.relay).or_else(|| place_in_reason(reason));
    let mut events = vec![];
    for attempt in earlier.iter().filter(|attempt| place.as_ref().is_none_or(|place| attempt.host != *place.host)) {
        let delivery = passed_on(record, sender, attempt);
        if is_unsure(&attempt.reason) {
            events.push(LogEvent::PossibleDuplicate(delivery.place.clone()));
        }
        events.push(LogEvent::Delivery(delivery));
    }
    let Some(place) = place else { return events };
    let earlier = earlier.iter().find(|attempt| attempt.host == *place.host);
    let disposition = match record.status {
        "sent" => Some(Disposition::Sent),
        "deferred" | "SOFTBOUNCE" => Some(Disposition::Deferred),
        // An expired message has failed like any other.
        "bounced" | "expired" | "undeliverable" => Some(Disposition::Bounced),
        _ => None,
    };
    // Of a line that was cut nobody knows how it went on; a stranger may have made it as long as that.
    let disposition = disposition.filter(|disposition| !record.is_cut || *disposition == Disposition::Sent);
    let delivery = disposition.and_then(|disposition| {
        let (class, reason) = match disposition {
            Disposition::Sent => (EvidenceClass::Ok, reason),
            Disposition::Deferred | Disposition::Bounced | Disposition::PassedOn => {
                let class = reply::class(reason, sender)?;
                match earlier.filter(|attempt| is_about_an_address(reason) && attempt.explains(&place.host, class)) {
                    Some(attempt) => (attempt.class, attempt.reason.as_str()),
                    None => (class, reason),
                }
            }
        };
        Some(LogEvent::Delivery(Delivery {
            place: place.clone(),
            class,
            disposition,
            took: record.took,
            message: message(record.queue_id),
            recipient: recipient_hash(record.recipient),
            age: record.age,
            refusal: refusal(&unmarked),
            summary: summary(reason),
            logged: if disposition == Disposition::Sent { None } else { reply::logged(reason, sender) },
            stage: None,
        }))
    });
    let twice = (record.status != "sent" && is_unsure(reason)).then_some(LogEvent::PossibleDuplicate(place));
    events.extend(delivery.into_iter().chain(twice));
    events
}

/// True for the program that speaks to backends.
// A log whose programs end at the first slash says no more than `postfix`.
pub(super) fn is_of_client(program: &str) -> bool {
    matches!(program, "smtp" | "postfix")
}

/// Returns the attempt at a host after which Postfix went on to the next one, in the delivery of a record.
fn passed_on(record: &LogRecord<'_>, sender: Sender, attempt: &Attempt) -> Delivery {
    Delivery {
        place: Place { host: attempt.host.as_str().into(), port: attempt.port, backend: None },
        class: reply::class(&attempt.reason, sender).unwrap_or(attempt.class),
        disposition: Disposition::PassedOn,
        // Of all hosts together: nothing else tells when it began.
        took: record.took,
        message: message(record.queue_id),
        recipient: recipient_hash(record.recipient),
        age: record.age,
        refusal: refusal(&attempt.reason),
        summary: summary(&attempt.reason),
        logged: reply::logged(&attempt.reason, sender),
        stage: None,
    }
}

/// Returns the 5xx within the transaction that a reason quotes.
fn refusal(reason: &str) -> Option<MessageRefusal> {
    let quoted = Quoted::within(reason)?;
    let is_in_transaction = quoted.answered.is_none_or(|answered| answered >= Answered::Mail);
    (quoted.code >= 500 && is_in_transaction)
        .then(|| MessageRefusal { about: quoted.about(), text: quoted.fingerprint() })
}

/// True if the server may have taken the message although the attempt failed.
fn is_unsure(reason: &str) -> bool {
    reason.ends_with("message may be sent more than once")
}

/// True if a reason tells of one address of several, and not of what the server there has said.
fn is_about_an_address(reason: &str) -> bool {
    reason.starts_with("connect to ")
}

/// Parses a place written as `host[address]:port`.
fn place_of_relay(relay: &str) -> Option<Place> {
    let (host, rest) = relay.rsplit_once('[')?;
    let (_, port) = rest.rsplit_once("]:")?;
    Some(Place { host: host.to_ascii_lowercase().into(), port: Some(port.parse().ok()?), backend: None })
}

/// Finds the place in `connect to host[address]:port: …`, `… Name service error for name=host type=…` and `unable to
/// look up host host: …`.
fn place_in_reason(reason: &str) -> Option<Place> {
    if let Some(place) = reason.strip_prefix("connect to ") {
        let end = place.find("]:")? + 2;
        let digits = place[end..].bytes().take_while(u8::is_ascii_digit).count();
        return place_of_relay(&place[..end + digits]);
    }
    let host = match reply::lookup(reason) {
        Some((host, _)) => host,
        None => reason.split_once("Name service error for name=")?.1.split(' ').next()?,
    };
    Some(Place { host: host.to_ascii_lowercase().into(), port: None, backend: None })
}

/// Returns the hash of a queue id.
pub(super) fn message(queue_id: &str) -> u64 {
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
