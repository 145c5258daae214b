//! Shield for mail that a backend refuses by a 5xx: `smtp_delivery_status_filter` keeps it, where Postfix would return
//! it to its sender.
//!
//! A 5xx makes Postfix bounce, even if another backend could carry the message. Unless the reply is about the
//! recipient, the message or the destination, the 5 becomes a 4 while another backend is usable, and the message waits
//! for it. Without one, only a refusal that is about us waits. Pure.
//!
//! Postfix asks two tables. [`replacement`], asked over the socketmap, knows all the rules, the backends, and what single
//! messages have met. The other is static ([`regexp_table`]). If a map fails, Postfix takes that as no answer, and asks
//! no further one: a refusal bounces then, and a success stays one (`dsn_filter.c`, `maps.c`). So the static table is
//! first where nothing else protects while the agent is down. Where the reply filter stands, it defers a 5xx then, and
//! the agent alone is asked.
// ADR-0170: Where the reply filter stands, the agent alone is asked about the status of a delivery.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use mail_failover_contract::routing::RouteBackend;
use mail_failover_replies::{About, Answered, EnhancedCode, Reply, Rule, Rulebook, rules};

use super::log::reply::{Quoted, unresolved};
use mail_failover_dataplane::answers::Answers;
use mail_failover_dataplane::reading::{self, Sender};

/// Longest reply of which the lines are kept, in bytes. Further lines decide nothing.
// Postfix keeps as much (`line_length_limit`).
const MAX_REPLY: usize = 2048;

/// Lines of a reply that Postfix has asked about so far on one connection. It asks about one line at a time, and only
/// the last one's code counts.
#[derive(Debug, Default)]
pub struct ReplyLines(String);

impl ReplyLines {
    /// Takes a line. Returns the whole reply in one line if it is the last one.
    pub fn take(&mut self, line: &str) -> Option<String> {
        let (code, text) = line.split_at_checked(3).unwrap_or((line, ""));
        let is_last = !text.starts_with('-');
        let text = text.get(1..).unwrap_or_default();
        if self.0.is_empty() {
            self.0 = format!("{code} {text}");
        } else if self.0.len() + text.len() < MAX_REPLY {
            self.0.push(' ');
            self.0.push_str(text);
        }
        is_last.then(|| std::mem::take(&mut self.0))
    }
}

/// Answers the last line of a reply by 5xx with a temporary one, so that Postfix goes on to the next backend within the
/// attempt. `None` leaves the reply as it is. The whole reply is what [`ReplyLines`] returned.
///
/// Postfix tells neither the host nor the command. So the rules of every backend are asked, and a reply that would be
/// the recipient's or the message's at any command stays. The delivery status filter, which knows both, has the last
/// word about the last backend's reply.
// ADR-0117: A reply filter leads a refused message to the next backend.
pub fn passed_on(line: &str, whole: &str, answers: &Answers) -> Option<String> {
    let code: u16 = whole.get(..3)?.parse().ok().filter(|code| (500..600).contains(code))?;
    let text = whole.get(4..).unwrap_or_default();
    // Of a trial nobody knows which of the two has spoken.
    let ways: Vec<_> = if answers.trials.is_empty() {
        answers.awaited_backends().collect()
    } else {
        answers.usable_backends().collect()
    };
    let has_alternates = ways.len() > 1 && ways.iter().any(|backend| backend.alternate);
    let reply = Reply { stage: None, code, enhanced: EnhancedCode::of_text(text), text };
    let mut rulebooks = answers.usable_backends().map(|backend| &backend.rulebook);
    let is_kept =
        rulebooks.any(|rulebook| reading::of_delivery(rulebook, &reply, Sender::Other).about.consequences().deferred);
    if has_alternates && is_kept { reading::marked(line) } else { None }
}

/// Answers `D.S.N text` with the same text and 4 for 5. `None` leaves the status as it is. A reply that the reply filter
/// has made temporary gets back what the backend said, and 5 if it is not to be kept.
///
/// `retired` are backends of earlier documents: mail that Postfix was about to send to one of them when it was removed
/// is refused by it, and another backend takes it at the next attempt.
pub fn replacement(key: &str, answers: &Answers, retired: &[RouteBackend]) -> Option<String> {
    match reading::unmarked(key) {
        // A server that says the same words about a reply of its own by 4yz or 2yz means that.
        Cow::Owned(unmarked) if key.starts_with('4') && is_refusal(&unmarked) => {
            Some(restored(&unmarked, answers, retired))
        }
        Cow::Borrowed(_) | Cow::Owned(_) => kept(key, answers, retired),
    }
}

fn is_refusal(key: &str) -> bool {
    let reason = key.split_once(' ').map_or("", |(_, reason)| reason);
    Quoted::within(reason).is_some_and(|quoted| quoted.code >= 500)
}

fn restored(key: &str, answers: &Answers, retired: &[RouteBackend]) -> String {
    let (_, reason) = key.split_once(' ').unwrap_or_default();
    let quoted = Quoted::within(reason);
    let enhanced = quoted.as_ref().and_then(|quoted| quoted.as_reply().enhanced);
    let detail =
        enhanced.map_or_else(|| "0.0".to_owned(), |EnhancedCode(_, subject, detail)| format!("{subject}.{detail}"));
    let permanent = format!("5.{detail} {reason}");
    // What is refused before the transaction is temporary to Postfix, as it is without a filter.
    let is_in_transaction =
        quoted.is_none_or(|quoted| quoted.answered.is_none_or(|answered| answered >= Answered::Mail));
    if !is_in_transaction {
        return format!("4.{detail} {reason}");
    }
    kept(&permanent, answers, retired).unwrap_or(permanent)
}

fn kept(key: &str, answers: &Answers, retired: &[RouteBackend]) -> Option<String> {
    let rest = key.strip_prefix('5')?;
    let (_, reason) = rest.split_once(' ')?;
    let is_kept = if let Some(host) = unresolved(reason) {
        // A Service without a ready pod has no name. Postfix takes that for final and bounces, seen in a cluster; but
        // nobody has refused the message.
        WayOut::of(&host.to_ascii_lowercase(), answers, retired).is_some()
    } else {
        is_kept(&Quoted::within(reason)?, &WayOut::of(&speaker(reason)?, answers, retired)?, answers)
    };
    is_kept.then(|| format!("4{rest}"))
}

/// The backends that a host may be, and whether another one is usable.
struct WayOut<'a> {
    speakers: Vec<&'a Arc<str>>,
    /// Rules for the replies of the host; of two backends on one host those of the more preferred.
    rulebook: &'a Rulebook,
    another_is_usable: bool,
}

impl<'a> WayOut<'a> {
    /// Finds the backends at a host. `None` if there are none: mail that went elsewhere is not the agent's.
    // A reply names the host, not the port: of two backends on one host either may have said it.
    fn of(host: &str, answers: &'a Answers, retired: &'a [RouteBackend]) -> Option<Self> {
        let known = answers.routing.backends.iter().chain(retired);
        let mut backends = known.filter(|backend| *backend.next_hop.host == *host);
        let first = backends.next()?;
        let speakers: Vec<_> = [first].into_iter().chain(backends).map(|backend| &backend.name).collect();
        let usable_there = answers.awaited_backends().filter(|backend| *backend.next_hop.host == *host).count();
        let usable_elsewhere = answers.awaited_backends().count() - usable_there;
        let another_is_usable = usable_elsewhere > 0 || (speakers.len() > 1 && usable_there > 1);
        Some(Self { speakers, rulebook: &first.rulebook, another_is_usable })
    }
}

/// True if a message that was refused so is kept.
// ADR-0075: What waits without another backend.
fn is_kept(quoted: &Quoted<'_>, way_out: &WayOut<'_>, answers: &Answers) -> bool {
    // Where the command was cut off, the rules that hold at every command decide.
    let about = way_out.rulebook.read(&quoted.as_reply()).about;
    let consequences = about.consequences();
    let text = quoted.fingerprint();
    let mut readings = way_out.speakers.iter().map(|backend| ((*backend).clone(), text));
    if !consequences.deferred {
        return false;
    }
    // ADR-0074: What a message has met decides how its refusal is read.
    if way_out.another_is_usable && !readings.clone().any(|reading| answers.learnt.settled.contains(&reading)) {
        return true;
    }
    // A backend that carries other mail does not mind our address.
    let is_of_message = readings.any(|reading| answers.learnt.of_messages.contains(&reading));
    consequences.waits && !(about == About::Address && is_of_message)
}

/// Returns the host that spoke: `host NAME[ADDRESS] said: …`, `… server NAME[ADDRESS] said: …`.
fn speaker(reason: &str) -> Option<String> {
    let (before, _) = reason.split_once("] said: ").or_else(|| reason.split_once("] refused to "))?;
    let (host, _) = before.rsplit(' ').next()?.split_once('[')?;
    Some(host.to_ascii_lowercase())
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
if !/ said: 5[0-9][0-9] .*([^ 0-9A-Za-z.,;!?] *[45][0-9][0-9][ -]|[45][0-9][0-9][ -][45]\\.[0-9]+\\.[0-9]|<<<|diagnostic-code:)/
if !/ said: 5[0-9][0-9]-.*([:=<>(\"'] *|(said|replied|answered|returned|responded|reports|says) )[45][0-9][0-9][ -]/
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
    table.push_str("endif\nendif\nendif\nendif\n");
    table
}

#[cfg(test)]
#[path = "shield_tests.rs"]
mod tests;
