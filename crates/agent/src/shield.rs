//! Shield for mail that a backend refuses because of our account: `smtp_delivery_status_filter` keeps it, where Postfix
//! would return it to its sender.
//!
//! A 5xx makes Postfix bounce, even if another backend could carry the message. If it is about our account and not
//! about the recipient or the message, and another backend could carry it, the 5 becomes a 4 and the message waits for
//! the switch. Pure.
//!
//! Postfix asks two tables, in this order. The first is static ([`regexp_table`]) and protects even while the agent is
//! down. The second is [`replacement`], asked over the socketmap, which knows all the rules and the backends. If a map
//! fails, Postfix takes that as no answer: a refusal bounces then, and a success stays one (`dsn_filter.c`, `maps.c`).

use mail_failover_core::model::EvidenceClass;
use mail_failover_smtp::classify::{Answered, about_recipients, unmistakable};
use mail_failover_smtp::reply::EnhancedCode;

use super::answers::Answers;
use super::core::log_event::Place;
use super::log::reply::Quoted;

/// Answers `D.S.N text` with the same text and 4 for 5. `None` leaves the status as it is.
pub fn replacement(key: &str, answers: &Answers) -> Option<String> {
    let rest = key.strip_prefix('5')?;
    let (_, reason) = rest.split_once(' ')?;
    let speaker = match unresolved(reason) {
        Some(host) => host,
        None if is_about_us(&Quoted::within(reason)?) => speaker(reason)?,
        None => return None,
    };
    // A reply names the host, not the port: of two backends on one host either may have said it.
    let (mut on_host, mut usable_on_host, mut usable_elsewhere) = (0, 0, 0);
    for (backend, percent) in answers.routing.backends.iter().zip(&answers.percents) {
        let usable = usize::from(*percent > 0 || backend.standby);
        if backend.next_hop.host == speaker.host {
            on_host += 1;
            usable_on_host += usable;
        } else {
            usable_elsewhere += usable;
        }
    }
    // Mail that went to no backend of ours is not the agent's.
    let is_ours = on_host > 0;
    let another_can = usable_elsewhere > 0 || (on_host > 1 && usable_on_host > 1);
    (is_ours && another_can).then(|| format!("4{rest}"))
}

/// Returns true if another backend might take the message that this one refuses so.
fn is_about_us(quoted: &Quoted<'_>) -> bool {
    match quoted.class() {
        EvidenceClass::AccountPaused
        | EvidenceClass::QuotaExhausted
        | EvidenceClass::AuthenticationRefused
        | EvidenceClass::Reputation => true,
        // "Relay access denied" is a revoked permission; what else is permanent after MAIL may be the message's own
        // fault. An answer to MAIL is about us, unless it is about the sender's address (RFC 3463 §3.2), which is no
        // better elsewhere.
        EvidenceClass::Permanent => match quoted.answered {
            Answered::Mail => !matches!(EnhancedCode::at_start_of(quoted.text), Some(EnhancedCode(_, 1, _))),
            Answered::Recipient | Answered::Data => {
                quoted.text.to_ascii_lowercase().contains("relay") || is_about_the_dialogue(quoted)
            }
            Answered::Connection | Answered::Hello | Answered::StartTls | Answered::Auth => true,
        },
        EvidenceClass::Ok
        | EvidenceClass::Throttled
        | EvidenceClass::Temporary
        | EvidenceClass::RecipientLevel
        | EvidenceClass::ConnectionRefused
        | EvidenceClass::ConnectionLost
        | EvidenceClass::NoAnswer
        | EvidenceClass::ProtocolError
        | EvidenceClass::TlsFailed
        | EvidenceClass::CertificateInvalid
        | EvidenceClass::Unresolvable
        | EvidenceClass::NoEndpoints
        | EvidenceClass::Inconclusive
        | EvidenceClass::ProbeBlocked
        | EvidenceClass::Slow
        | EvidenceClass::Stale => false,
    }
}

/// Returns true if the server did not know a command or took it to be out of order (RFC 5321 §4.2.2, RFC 3463 §3.6).
// Postfix's commands are neither. So the server, or a proxy before it, has lost its place. Seen in the fault matrix: a
// line that is no reply to RCPT, after which the 503 to DATA is taken for it.
fn is_about_the_dialogue(quoted: &Quoted<'_>) -> bool {
    matches!(quoted.code, 500 | 502 | 503)
        || matches!(EnhancedCode::at_start_of(quoted.text), Some(EnhancedCode(_, 5, 1)))
}

/// Returns the backend whose name cannot be resolved.
// A Service without a ready pod has no name. Postfix takes that for final and bounces, seen in a cluster.
fn unresolved(reason: &str) -> Option<Place> {
    let (_, rest) = reason.split_once("Host or domain name not found. Name service error for name=")?;
    let (host, _) = rest.split_once(' ')?;
    Some(Place { host: host.to_ascii_lowercase().into(), port: None })
}

/// Returns the host that spoke: `host NAME[ADDRESS] said: …`, `… server NAME[ADDRESS] said: …`.
fn speaker(reason: &str) -> Option<Place> {
    let (before, _) = reason.split_once("] said: ").or_else(|| reason.split_once("] refused to "))?;
    let (host, _) = before.rsplit(' ').next()?.split_once('[')?;
    Some(Place { host: host.to_ascii_lowercase().into(), port: None })
}

/// Returns a `regexp:` table (`regexp_table(5)`, no package needed) for refusals that are about our account beyond
/// doubt.
///
/// It is narrower than [`replacement`] and knows no backends: a message to a paused account waits, up to
/// `maximal_queue_lifetime`, even if no other backend can carry it yet.
pub fn regexp_table() -> String {
    let account = [EvidenceClass::AccountPaused, EvidenceClass::QuotaExhausted, EvidenceClass::AuthenticationRefused];
    let account = alternatives(account.into_iter().flat_map(unmistakable));
    let recipients = alternatives(about_recipients());
    format!(
        "\
# Written by mail-failover. An account's refusal is no message's: 4 for 5, and Postfix keeps the message.
if /^5\\.[0-9]+\\.[0-9]+ .* said: 5[0-9][0-9][ -]/
if !/{recipients}/
/^5(\\..*({account}).*)$/ 4$1
/^5(\\..* said: (525|530|534|535|538)[ -].*)$/ 4$1
endif
endif
"
    )
}

fn alternatives(phrases: impl Iterator<Item = &'static str>) -> String {
    phrases.map(|phrase| phrase.chars().map(escaped).collect::<String>()).collect::<Vec<_>>().join("|")
}

fn escaped(letter: char) -> String {
    match letter {
        '…' => "[a-z ]{0,32}".to_owned(),
        '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' | '\\' | '/' => {
            format!("\\{letter}")
        }
        _ => letter.to_string(),
    }
}

#[cfg(test)]
#[path = "shield_tests.rs"]
mod tests;
