//! An account for people.

use std::fmt::Write as _;

use super::Account;
use mail_failover_api::{RequestOutcome, TransitionStatus};
use mail_failover_core::model::Timestamp;
use mail_failover_resolve::time::timestamp;

/// So many transitions are told.
const TOLD: usize = 5;

/// The account as text, with a final newline.
pub(super) fn render(account: &Account) -> String {
    let mut text = format!("MailRoute {}, as of {}\n\n{}\n", account.key, account.at, headline(account));
    section(&mut text, "Note", &account.notes);
    section(&mut text, "Why", &account.reasons());
    section(&mut text, "What would change it", &account.prospects());
    let certificates: Vec<_> = account
        .evidence
        .iter()
        .filter_map(|evidence| Some(format!("of {}: {}", evidence.backend, evidence.certificate_not_after?)))
        .collect();
    section(&mut text, "Certificates expire", &certificates);
    let history = &account.status.history;
    section(&mut text, "Latest transitions", &history.iter().take(TOLD).map(transition).collect::<Vec<_>>());
    let request = account.status.request.iter().map(|request| {
        let outcome = match request.outcome {
            RequestOutcome::Done => "done",
            RequestOutcome::Refused => "refused",
        };
        format!("{} ({}) at {}: {outcome}: {}", request.action, request.id, timestamp(&request.at), request.message)
    });
    section(&mut text, "Latest request", &request.collect::<Vec<_>>());
    text
}

fn headline(account: &Account) -> String {
    let status = &account.status;
    let state = status.state.map_or_else(String::new, |state| format!("{state:?}: "));
    if status.active.is_empty() {
        return format!("{state}no backend is chosen yet.");
    }
    let share = |percent: i32| if percent == 100 { String::new() } else { format!(" ({percent} %)") };
    let shares: Vec<_> =
        status.active.iter().map(|active| format!("{}{}", active.backend, share(active.percent))).collect();
    let since = status.since.as_ref().map(timestamp);
    let since = since.map_or_else(String::new, |since| format!(" since {since} ({})", ago(since, account.at)));
    let unplaced = match account.decision.unplaced {
        0 => String::new(),
        percent => format!(" {percent} % have nowhere to go."),
    };
    format!("{state}mail leaves by {}{since}.{unplaced}", shares.join(" and "))
}

/// In the two largest units.
fn ago(earlier: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(earlier).as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        86_400.. => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn transition(transition: &TransitionStatus) -> String {
    let TransitionStatus { id, kind, from, to, reason, first_evidence_at, decided_at, applied_at, first_delivery_at } =
        transition;
    let decided_at = timestamp(decided_at);
    let mut text = format!("{decided_at} #{id} {kind:?} {from} → {to}: {reason}");
    let between = |from: Timestamp, to: Timestamp| to.since(from).as_secs_f64();
    // Writing to a String cannot fail.
    if let Some(evidence) = first_evidence_at {
        let _ = write!(text, ", decided {:.1} s after the first evidence", between(timestamp(evidence), decided_at));
    }
    let _ = match applied_at {
        Some(applied) => write!(text, ", applied {:.1} s later", between(decided_at, timestamp(applied))),
        None => write!(text, ", not applied yet"),
    };
    if let Some(out) = first_delivery_at {
        let _ = write!(text, ", first message out after {:.1} s", between(decided_at, timestamp(out)));
    }
    text
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for line in lines {
        let _ = writeln!(text, "  - {line}");
    }
}
