//! Text form of an explanation.

use std::fmt::Write as _;

use super::RouteExplanation;
use super::explanation::BackendEvidence;
use mail_failover_api::{ActiveBackend, RequestOutcome, TransitionStatus};

use mail_failover_core::model::Timestamp;
use mail_failover_core::model::text::visible;
use mail_failover_resolve::time::timestamp;

/// Number of past transitions that are printed.
const TOLD: usize = 5;

/// Renders the explanation as text with a final newline.
pub(super) fn render(explanation: &RouteExplanation) -> String {
    let (route, headline) = (explanation.key.to_string(), headline(explanation));
    let mut text = format!("MailRoute {}, as of {}\n\n{}\n", visible(&route), explanation.at, visible(&headline));
    section(&mut text, "Note", &explanation.notes);
    section(&mut text, "Why", &explanation.reasons());
    section(&mut text, "What would change it", &explanation.prospects());
    section(&mut text, "To lift the hold", explanation.remedy.as_slice());
    section(&mut text, "Objectives", &objectives(explanation));
    section(&mut text, "Drills", &drills(explanation));
    section(&mut text, "Messages", &explanation.messages);
    let certificates: Vec<_> = explanation.evidence.iter().filter_map(certificate).collect();
    section(&mut text, "Certificates expire", &certificates);
    let history = &explanation.status.history;
    section(&mut text, "Latest transitions", &history.iter().take(TOLD).map(transition).collect::<Vec<_>>());
    let request = explanation.status.request.iter().map(|request| {
        let outcome = match request.outcome {
            RequestOutcome::Done => "done",
            RequestOutcome::Refused => "refused",
        };
        let why = request.reason.as_ref().map_or_else(String::new, |why| format!(" (reason given: {why})"));
        let at = timestamp(&request.at);
        format!("{} ({}) at {at}: {outcome}: {}{why}", request.action, request.id, request.message)
    });
    section(&mut text, "Latest request", &request.collect::<Vec<_>>());
    text
}

/// The objectives of the policy as the operator has measured them last.
fn objectives(explanation: &RouteExplanation) -> Vec<String> {
    let objectives = explanation.status.objectives.iter().flat_map(|objectives| &objectives.results);
    let told = objectives.map(|one| {
        let measured = one.measured.as_deref().unwrap_or("nothing");
        let budget =
            one.error_budget_percent.map_or_else(String::new, |left| format!(", {left} % of the error budget is left"));
        format!("{}: {}, {measured} of {} demanded{budget}", one.objective, one.state, one.target)
    });
    told.collect()
}

/// The drill under way, the next one, and the latest result.
fn drills(explanation: &RouteExplanation) -> Vec<String> {
    let Some(drills) = &explanation.status.drills else { return vec![] };
    let mut lines = vec![];
    if let Some(running) = &drills.running {
        let until = timestamp(&running.until);
        lines.push(format!(
            "under way ({}): {} counts as failed, {} takes over, over by {until} at the latest",
            running.mode, running.backend, running.standby
        ));
    }
    if let Some(waiting) = &drills.waiting {
        lines.push(format!("due until {}, and waits: {}", timestamp(&waiting.until), waiting.message));
    }
    lines.extend(drills.next.as_ref().map(|next| format!("next: {}", timestamp(next))));
    if let Some(overdue_at) = drills.overdue_at.as_ref().map(timestamp) {
        let is_overdue = overdue_at <= explanation.at;
        lines.push(if is_overdue {
            format!("overdue since {overdue_at}")
        } else {
            format!("overdue from {overdue_at} on")
        });
    }
    let latest = drills.history.first().map(|result| {
        let (at, message) = (timestamp(&result.started_at), &result.message);
        format!("latest: {at} ({}) {}, {}: {message}", result.mode, result.outcome, result.reason)
    });
    lines.extend(latest);
    let passed = drills.passed_at.as_ref().map(timestamp);
    lines.push(passed.map_or("none has passed yet".to_owned(), |at| {
        format!("passed last at {at} ({} ago)", ago(at, explanation.at))
    }));
    lines
}

/// The first expiry among the certificates that a backend presents.
fn certificate(evidence: &BackendEvidence) -> Option<String> {
    let (backend, at) = (&evidence.backend, evidence.certificate_not_after?);
    Some(match &evidence.certificate_issuer {
        Some(issuer) => format!("of {backend}: {at} (intermediate certificate {issuer})"),
        None => format!("of {backend}: {at}"),
    })
}

fn headline(explanation: &RouteExplanation) -> String {
    let status = &explanation.status;
    let state = status.state.map_or_else(String::new, |state| format!("{state:?}: "));
    if status.active.is_empty() {
        return format!("{state}no backend is chosen yet.");
    }
    let shares: Vec<_> = status.active.iter().map(share).collect();
    let since = status.since.as_ref().map(timestamp);
    let since = since.map_or_else(String::new, |since| format!(" since {since} ({})", ago(since, explanation.at)));
    let unplaced = match explanation.decision.unplaced {
        0 => String::new(),
        percent => format!(" {percent} % have nowhere to go."),
    };
    format!("{state}mail leaves by {}{since}.{unplaced}", shares.join(" and "))
}

fn share(active: &ActiveBackend) -> String {
    match active.percent {
        100 => active.backend.clone(),
        percent => format!("{} ({percent} %)", active.backend),
    }
}

/// Formats the time since `earlier` in its two largest units.
pub(super) fn ago(earlier: Timestamp, now: Timestamp) -> String {
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
    // Writing to a String cannot fail.
    if let Some(evidence) = first_evidence_at {
        let _ = write!(text, ", decided {:.1} s after the first evidence", seconds(timestamp(evidence), decided_at));
    }
    let _ = match applied_at {
        Some(applied) => write!(text, ", applied {:.1} s later", seconds(decided_at, timestamp(applied))),
        None => write!(text, ", not applied yet"),
    };
    if let Some(out) = first_delivery_at {
        let _ = write!(text, ", first message out after {:.1} s", seconds(decided_at, timestamp(out)));
    }
    text
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.since(from).as_secs_f64()
}

pub(super) fn section(text: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for line in lines {
        let _ = writeln!(text, "  - {}", visible(line));
    }
}
