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

use std::fmt::Write;
use std::sync::Arc;

use mail_failover_replies::{About, Rule, Rulebook, rules};

use super::answers::Answers;
use super::core::log_event::Place;
use super::log::reply::Quoted;

/// Answers `D.S.N text` with the same text and 4 for 5. `None` leaves the status as it is.
pub fn replacement(key: &str, answers: &Answers) -> Option<String> {
    let rest = key.strip_prefix('5')?;
    let (_, reason) = rest.split_once(' ')?;
    let speaker = match unresolved(reason) {
        Some(host) => host,
        None => {
            let speaker = speaker(reason)?;
            let is_about_us = is_about_us(&Quoted::within(reason)?, &rulebook_of(&speaker, answers));
            if !is_about_us {
                return None;
            }
            speaker
        }
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

/// True if another backend might take what this one refuses so: if it is not certainly about the recipient or the message.
fn is_about_us(quoted: &Quoted<'_>, rulebook: &Rulebook) -> bool {
    rulebook.read(&quoted.as_reply()).about.consequences().deferred
}

/// Returns the rules for the replies of a host; of two backends on one host those of the more preferred.
fn rulebook_of(speaker: &Place, answers: &Answers) -> Arc<Rulebook> {
    let backend = answers.routing.backends.iter().find(|backend| backend.next_hop.host == speaker.host);
    backend.map(|backend| backend.rulebook.clone()).unwrap_or_default()
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
// ADR-0054: Two tables keep an account's refusals from bouncing mail.
pub fn regexp_table() -> String {
    let recipients = rules()
        .iter()
        .filter(|rule| matches!(rule.about(), About::Recipient | About::Destination) && rule.is_by_words_alone());
    let recipients = recipients.map(Rule::words_as_regex).collect::<Vec<_>>().join("|");
    let mut table = format!(
        "\
# Written by mail-failover. An account's refusal is no message's: 4 for 5, and Postfix keeps the message.
if /^5\\.[0-9]+\\.[0-9]+ .* said: 5[0-9][0-9][ -]/
# About a recipient, or quoted from another server.
if !/({recipients}| said: .* said: | said: 5[0-9][0-9][ -]5\\.[12]\\.[0-9])/
/^5(\\..* said: (525|530|534|535|538)[ -].*in reply to (MAIL FROM|AUTH).*)$/ 4$1
"
    );
    let ours = rules().iter().filter(|rule| {
        matches!(rule.about(), About::Account | About::Login | About::Quota) && rule.is_by_words_alone()
    });
    for rule in ours {
        let exceptions = rule.exceptions_as_regex();
        if let Some(exceptions) = &exceptions {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "if !/{exceptions}/");
        }
        // Before an address: a stranger may have chosen its words.
        let _ = writeln!(table, "/^5(\\.[^<@]* said: 5[0-9][0-9][^<@]*({}).*)$/ 4$1", rule.words_as_regex());
        if exceptions.is_some() {
            table.push_str("endif\n");
        }
    }
    table.push_str("endif\nendif\n");
    table
}

#[cfg(test)]
#[path = "shield_tests.rs"]
mod tests;
