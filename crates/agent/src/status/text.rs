//! Status as a page for people. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use super::{
    CredentialsState, DrillStatus, KeptStatus, MailLogStatus, ReplicaStatus, ReportsStatus, SourceState, Status,
    SwitchStatus,
};

/// Returns the status as a page.
pub fn text(status: &Status) -> String {
    let mut page = String::new();
    let ready = match &status.waiting_for {
        _ if status.ready => "ready".to_owned(),
        Some(what) => format!("NOT READY: {what}"),
        None => "NOT READY".to_owned(),
    };
    let _ = writeln!(page, "mail-failover agent {}: {ready}", status.version);
    if let Some(document) = &status.document {
        let age = ago(status, &document.since);
        let _ = writeln!(page, "\nRoute      {}", document.route);
        let summary = if document.summary.is_empty() { "" } else { ": " };
        let _ = writeln!(page, "Decision   {}{summary}{}", document.transition, document.summary);
        let _ = writeln!(page, "In force   {age}, from {}", document.source);
        if !document.ignored.is_empty() {
            let _ = writeln!(page, "IGNORED    {}: misspelt, or of a newer operator", document.ignored.join(", "));
        }
    }
    for source in &status.sources {
        let message = if source.message.is_empty() { String::new() } else { format!(": {}", source.message) };
        let since = if source.state == SourceState::Following {
            String::new()
        } else {
            format!(" ({})", ago(status, &source.since))
        };
        let _ = writeln!(page, "Source     {} {}{message}{since}", source.source, source.state.as_str());
        if let Some(refused) = &source.refused {
            let _ = writeln!(page, "           its latest document is refused: {refused}");
        }
    }
    if !status.backends.is_empty() {
        backends(status, &mut page);
    }
    if let Some(drill) = &status.drill {
        self::drill(status, drill, &mut page);
    }
    if let Some(switch) = &status.last_switch {
        self::switch(status, switch, &mut page);
    }
    let _ = match &status.mail_log {
        MailLogStatus { source, problem: None, warning: None } => writeln!(page, "Mail log   {source}"),
        MailLogStatus { source, problem: None, warning: Some(why) } => {
            writeln!(page, "Mail log   {source} NOT UNDERSTOOD: {why}")
        }
        MailLogStatus { source, problem: Some(why), warning: _ } => {
            let space = if source.is_empty() { "" } else { " " };
            writeln!(page, "Mail log   {source}{space}NOT READ: {why}; no breaker opens, and nothing is reported")
        }
    };
    reports(status, &mut page);
    if let Some(kept) = &status.kept {
        let KeptStatus { messages, oldest_since, oldest_at_backend, about } = kept;
        let about: Vec<_> = about.iter().map(|(about, count)| format!("{about}: {count}")).collect();
        let age = between(oldest_since, &status.now).map_or_else(|| oldest_since.clone(), rough);
        let (about, noun) = (about.join(", "), if *messages == 1 { "message waits" } else { "messages wait" });
        let _ = writeln!(
            page,
            "Kept       {messages} {noun} that a backend refuses by 5xx ({about}); the oldest is {age} old, refused by {oldest_at_backend}"
        );
    }
    if let Some(queue) = status.queue.as_ref().filter(|queue| queue.messages > 0) {
        let (messages, noun) = (queue.messages, if queue.messages == 1 { "message waits" } else { "messages wait" });
        let oldest = queue.oldest_since.as_ref().map_or_else(String::new, |since| {
            format!(", the oldest for {}", between(since, &status.now).map_or_else(|| since.clone(), rough))
        });
        let _ = writeln!(page, "Queue      {messages} {noun}{oldest}");
    }
    if status.diverted > 0 {
        let messages = status.diverted;
        let _ = writeln!(page, "Diverted   {messages} taken by backends without a share, since the start");
    }
    if status.possible_duplicates > 0 {
        let _ = writeln!(page, "Possibly sent twice since the start: {}", status.possible_duplicates);
    }
    for problem in &status.not_served {
        let _ = writeln!(page, "NOT SERVED {problem}");
    }
    if let Some(problem) = &status.state.problem {
        let _ = writeln!(page, "State      not up to date in {}: {problem}", status.state.directory);
    }
    page
}

fn backends(status: &Status, page: &mut String) {
    let name = width("BACKEND", status.backends.iter().map(|backend| &backend.name));
    let next_hop = width("NEXT HOP", status.backends.iter().map(|backend| &backend.next_hop));
    let _ =
        writeln!(page, "\n{:name$}  {:next_hop$}  DECIDED  CARRIES  STANDBY  ALTERNATE  LOGIN", "BACKEND", "NEXT HOP");
    for backend in &status.backends {
        let login = match &backend.credentials {
            None => "none",
            Some(credentials) => match credentials.state {
                CredentialsState::Loaded => "loaded",
                CredentialsState::LastGood => "LAST GOOD",
                CredentialsState::Missing => "MISSING",
            },
        };
        let standby = if backend.standby { "yes" } else { "no" };
        let alternate = match backend.alternate.as_str() {
            "Used" => "yes",
            "SetApart" => "TLS apart",
            "Spent" => "day spent",
            _ => "no",
        };
        let (decided, carried) = (format!("{} %", backend.decided_percent), format!("{} %", backend.carried_percent));
        let _ = writeln!(
            page,
            "{:name$}  {:next_hop$}  {decided:>7}  {carried:>7}  {standby:<7}  {alternate:<9}  {login}",
            backend.name, backend.next_hop
        );
        let limits = [
            backend.least_interval_milliseconds.map(|least| format!("one message in {least} ms")),
            backend.messages_per_day.map(|messages| format!("{messages} messages in 24 h as an alternate")),
        ];
        let limits: Vec<_> = limits.into_iter().flatten().collect();
        if !limits.is_empty() {
            let _ = writeln!(page, "  at most {}: its part of the backend's limits", limits.join(", "));
        }
        if backend.refused {
            page.push_str("  REFUSED by a drill: messages go by the others although it works\n");
        }
        if let Some(failing) = &backend.failing {
            let (count, since) = (failing.count, ago(status, &failing.since));
            let times = if count == 1 { "time" } else { "times" };
            let _ = writeln!(
                page,
                "  failed {count} {times} in a row since {since}: {} {}",
                failing.reason, failing.message
            );
        }
        if let Some(breaker) = &backend.breaker {
            let since = ago(status, &breaker.open_since);
            let trial = match &breaker.next_trial {
                Some(at) => format!("one tries it first again {}", in_time(status, at).replacen("for", "in", 1)),
                None => "one tries it first now".to_owned(),
            };
            let _ = writeln!(page, "  breaker open since {since}: messages try the others first, {trial}");
        }
        let login = backend.credentials.as_ref().filter(|credentials| !credentials.message.is_empty());
        if let Some(credentials) = login {
            let _ = writeln!(page, "  Secret {}: {}", credentials.secret, credentials.message);
        }
        if let Some(problem) = &backend.authority_problem {
            let _ = writeln!(page, "  authority: {problem}");
        }
    }
}

fn drill(status: &Status, drill: &DrillStatus, page: &mut String) {
    let DrillStatus { id, state, backends, since, ends, refused, carried, let_through } = drill;
    let backends = backends.join(", ");
    let state = match state.as_str() {
        "Refusing" => format!("refuses {backends} {} more at most", in_time(status, ends)),
        "Idle" => format!("refuses nothing: no other backend may carry the mail of {backends}"),
        "Lifted" => format!("lifted, because every other backend failed for real; {backends} is used again"),
        "Over" => format!("over; {backends} is used again"),
        other => other.to_owned(),
    };
    let _ = writeln!(page, "\nDrill      {id}, begun {}: {state}", ago(status, since));
    let _ = writeln!(
        page,
        "           {carried} messages taken by others, {let_through} let through, {refused} answers without it"
    );
}

fn width<'a>(header: &str, cells: impl Iterator<Item = &'a String>) -> usize {
    cells.map(|cell| cell.chars().count()).fold(header.len(), usize::max)
}

fn switch(status: &Status, switch: &SwitchStatus, page: &mut String) {
    let SwitchStatus {
        cause,
        at,
        state,
        took_milliseconds,
        first_delivery_milliseconds,
        queued_before,
        queued_after,
        troubles,
    } = switch;
    let state = match state.as_str() {
        "UnderWay" => "under way",
        "Done" => "done",
        "DoneBeforeTheStart" => "nothing to do",
        other => other,
    };
    let _ = write!(page, "\nSwitch     {}: {cause}; {state}", ago(status, at));
    if let Some(took) = took_milliseconds {
        let _ = write!(page, " in {took} ms");
    }
    if let Some(first) = first_delivery_milliseconds {
        let _ = write!(page, ", first message out after {first} ms");
    }
    if let (Some(before), Some(after)) = (queued_before, queued_after) {
        let _ = write!(page, ", queue {before} → {after}");
    }
    page.push('\n');
    for trouble in troubles {
        let _ = writeln!(page, "           {trouble}");
    }
}

fn reports(status: &Status, page: &mut String) {
    let ReportsStatus { nothing_sent, replicas } = &status.reports;
    if let Some(why) = nothing_sent {
        let _ = writeln!(page, "\nReports    none: {why}");
    } else if !replicas.is_empty() {
        page.push_str("\nReports\n");
    }
    for ReplicaStatus { address, accepted_at, error } in replicas {
        let accepted =
            accepted_at.as_ref().map_or_else(|| "none taken".to_owned(), |at| format!("taken {}", ago(status, at)));
        let error = error.as_ref().map_or_else(String::new, |error| format!("; {error}"));
        let _ = writeln!(page, "  {address}: {accepted}{error}");
    }
}

/// Returns the time from then to the status, in words.
fn ago(status: &Status, at: &str) -> String {
    match between(at, &status.now) {
        Some(age) => format!("{} ago", rough(age)),
        None => at.to_owned(),
    }
}

fn in_time(status: &Status, at: &str) -> String {
    match between(&status.now, at) {
        Some(Duration::ZERO) => "until it is worth it".to_owned(),
        Some(time) => format!("for {}", rough(time)),
        None => format!("until {at}"),
    }
}

fn between(from: &str, to: &str) -> Option<Duration> {
    let (from, to): (jiff::Timestamp, jiff::Timestamp) = (from.parse().ok()?, to.parse().ok()?);
    Some(Duration::try_from(to.duration_since(from)).unwrap_or_default())
}

/// Formats a duration with two units: `1h 5m`.
fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 => format!("{} ms", duration.as_millis()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
