//! The page: what is told, and in which words. Pure.

use kube::ResourceExt;

use super::collect::Collected;
use super::prometheus::RouteNumbers;
use mail_failover_api::{
    Health, MailRoute, MailRouteStatus, ObjectiveStatus, SendingBackend, TransitionKind, TransitionStatus,
};
use mail_failover_core::engine::{MAX_DRILLS, MAX_HISTORY};
use mail_failover_core::model::{ObjectKey, Timestamp};
use mail_failover_resolve::time::timestamp;
use mail_failover_runtime::values::duration;

/// Reason of transitions that drills make.
const DRILL: &str = "Drill";
/// Most rows of a table.
const MAX_ROWS: usize = 200;

/// Part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Heading of the page.
    Title(String),
    /// Heading of a section.
    Heading(String),
    /// Sentences.
    Paragraph(String),
    /// Points.
    List(Vec<String>),
    /// Table with a row of headings.
    Table {
        /// Headings of the columns.
        head: Vec<&'static str>,
        /// Cells, as many in each row as there are headings.
        rows: Vec<Vec<String>>,
        /// Number of rows that the bound of a table leaves out.
        left_out: usize,
    },
}

/// Builds the page about the time from `since` until `until`.
pub(super) fn page(collected: &Collected, since: Timestamp, until: Timestamp) -> Vec<Block> {
    let period = Period { since, until };
    let mut blocks = vec![
        Block::Title("Mail failover report".to_owned()),
        Block::Paragraph(format!(
            "From {since} to {until}. MailRoutes: {}. SendingBackends: {}.",
            collected.routes.len(),
            collected.backends.len()
        )),
    ];
    if collected.routes.is_empty() {
        blocks.push(Block::Paragraph("There is no MailRoute, so there is nothing to report on.".to_owned()));
        return blocks;
    }
    blocks.extend(summary(collected, period));
    blocks.extend(objectives(collected));
    blocks.extend(transitions(collected, period));
    blocks.extend(drills(collected, period));
    blocks.extend(events(collected, period));
    blocks.extend(backends(collected));
    let left_out = left_out(&blocks);
    blocks.extend(gaps(collected, period, left_out));
    blocks
}

#[derive(Clone, Copy)]
struct Period {
    since: Timestamp,
    until: Timestamp,
}

impl Period {
    fn contains(self, at: Timestamp) -> bool {
        self.since <= at && at <= self.until
    }
}

fn key(object: &impl ResourceExt) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn status(route: &MailRoute) -> impl Iterator<Item = &MailRouteStatus> {
    route.status.iter()
}

fn history(route: &MailRoute, period: Period) -> Vec<&TransitionStatus> {
    let history = status(route).flat_map(|status| &status.history);
    history.filter(|one| period.contains(timestamp(&one.decided_at))).collect()
}

fn numbers<'a>(collected: &'a Collected, key: &ObjectKey) -> Option<&'a RouteNumbers> {
    let answers = collected.prometheus.as_ref()?.as_ref().ok()?;
    answers.routes.iter().find(|(of, _)| of == key).map(|(_, numbers)| numbers)
}

fn summary(collected: &Collected, period: Period) -> Vec<Block> {
    let mut rows = vec![];
    for route in &collected.routes {
        let key = key(route);
        let (history, numbers) = (history(route, period), numbers(collected, &key));
        let real: Vec<_> = history.iter().filter(|one| one.reason != DRILL).collect();
        let of_kind = |kind: TransitionKind| real.iter().filter(|one| one.kind == kind).count();
        let moves = |kind: TransitionKind, told: Option<f64>| {
            told.map_or_else(|| of_kind(kind).to_string(), |told| format!("{:.0}", told.max(f64_of(of_kind(kind)))))
        };
        let availability = numbers.and_then(|numbers| numbers.availability);
        let availability = availability
            .map(|share| format!("{:.3}%", share * 100.0))
            .or_else(|| measured(route, "Availability").map(|share| share + &over(route, period)));
        let success = numbers.and_then(|numbers| Some((numbers.accepted?, numbers.deferred.unwrap_or(0.0))));
        let success = success.filter(|(accepted, deferred)| accepted + deferred > 0.0);
        let success = success
            .map(|(accepted, deferred)| format!("{:.2}%", accepted / (accepted + deferred) * 100.0))
            .or_else(|| measured(route, "Success").map(|share| share + &over(route, period)));
        let slowest = real.iter().filter_map(|one| recovery_seconds(one)).reduce(f64::max);
        let twice = numbers.and_then(|numbers| numbers.possible_duplicates).map(|twice| format!("{twice:.0}"));
        let twice = twice.or_else(|| {
            let objectives = status(route).find_map(|status| status.objectives.as_ref());
            objectives.map(|objectives| format!("{}{}", objectives.possible_duplicates, over(route, period)))
        });
        rows.push(vec![
            key.to_string(),
            status(route)
                .next()
                .and_then(|status| status.state)
                .map_or("not observed".to_owned(), |state| format!("{state:?}")),
            or_unknown(availability),
            or_unknown(success),
            moves(TransitionKind::Failover, numbers.and_then(|numbers| numbers.failovers)),
            moves(TransitionKind::Failback, numbers.and_then(|numbers| numbers.failbacks)),
            slowest.map_or("–".to_owned(), |slowest| format!("{slowest:.1} s")),
            or_unknown(twice),
        ]);
    }
    vec![
        Block::Heading("Routes".to_owned()),
        table(
            vec![
                "route",
                "state now",
                "time in which mail could leave",
                "attempts that a backend accepted",
                "failovers",
                "failbacks",
                "slowest failover",
                "possibly twice",
            ],
            rows,
        ),
        Block::Paragraph(
            "A failover counts from the first evidence of a failure until every output led elsewhere. No message counts as \
             lost: one that no backend has accepted stays with its sender or in its queue. A message whose acceptance could not \
             be learnt is sent again, and counts as possibly twice."
                .to_owned(),
        ),
    ]
}

/// Measure of an objective, as the status of a route has it.
fn measured(route: &MailRoute, name: &str) -> Option<String> {
    let objectives = status(route).filter_map(|status| status.objectives.as_ref());
    objectives.flat_map(|objectives| &objectives.results).find(|one| one.objective == name)?.measured.clone()
}

/// Words that name the window of a route's objectives, if it is not as long as the time of the report.
fn over(route: &MailRoute, period: Period) -> String {
    let window = status(route).find_map(|status| Some(status.objectives.as_ref()?.window.as_str()));
    let other = window.filter(|window| duration(window).ok() != Some(period.until.since(period.since)));
    other.map_or_else(String::new, |window| format!(" (over {window})"))
}

fn objectives(collected: &Collected) -> Vec<Block> {
    let mut rows = vec![];
    for route in &collected.routes {
        let Some(objectives) = status(route).find_map(|status| status.objectives.as_ref()) else { continue };
        for ObjectiveStatus { objective, state, target, measured, error_budget_percent } in &objectives.results {
            rows.push(vec![
                key(route).to_string(),
                objective.clone(),
                target.clone(),
                or_unknown(measured.clone()),
                state.clone(),
                error_budget_percent.map_or("–".to_owned(), |left| format!("{left}%")),
                format!("{}, at {}", objectives.window, timestamp(&objectives.at)),
            ]);
        }
    }
    let mut blocks = vec![Block::Heading("Objectives".to_owned())];
    if rows.is_empty() {
        blocks.push(Block::Paragraph("No policy in use has objectives.".to_owned()));
    } else {
        let head = vec!["route", "objective", "demanded", "measured", "state", "error budget left", "over"];
        blocks.push(table(head, rows));
    }
    blocks
}

fn transitions(collected: &Collected, period: Period) -> Vec<Block> {
    let mut told: Vec<_> = collected
        .routes
        .iter()
        .flat_map(|route| history(route, period).into_iter().map(move |one| (timestamp(&one.decided_at), route, one)))
        .collect();
    told.sort_by_key(|(at, route, one)| (*at, key(*route), one.id));
    let mut blocks = vec![Block::Heading("Transitions".to_owned())];
    if told.is_empty() {
        blocks.push(Block::Paragraph("No transition of this time is on record.".to_owned()));
        return blocks;
    }
    let rows = told.into_iter().map(|(at, route, one)| {
        let began_at = one.first_evidence_at.as_ref().map(timestamp);
        let after = |from: Timestamp, to: Option<Timestamp>| {
            to.map_or("–".to_owned(), |to| format!("{:.1} s", to.since(from).as_secs_f64()))
        };
        vec![
            at.to_string(),
            key(route).to_string(),
            format!("{:?} {} → {}", one.kind, one.from, one.to),
            one.reason.clone(),
            began_at.map_or("–".to_owned(), |began_at| after(began_at, Some(at))),
            after(at, one.applied_at.as_ref().map(timestamp)),
            after(at, one.first_delivery_at.as_ref().map(timestamp)),
        ]
    });
    let head = vec!["decided at", "route", "move", "reason", "detected in", "applied after", "first message after"];
    blocks.push(latest(head, rows.collect()));
    blocks
}

/// The drills of the period, as far as routes remember them; nothing without any.
fn drills(collected: &Collected, period: Period) -> Vec<Block> {
    let mut told = vec![];
    for route in &collected.routes {
        let drills = status(route).filter_map(|status| status.drills.as_ref());
        for drill in drills.flat_map(|drills| &drills.history) {
            told.push((timestamp(&drill.started_at), key(route), drill));
        }
    }
    told.retain(|(at, ..)| period.contains(*at));
    told.sort_by_key(|(at, key, _)| (*at, key.clone()));
    if told.is_empty() {
        return vec![];
    }
    let rows = told.into_iter().map(|(at, key, drill)| {
        let (mode, outcome) = (drill.mode.clone(), format!("{} ({})", drill.outcome, drill.reason));
        vec![at.to_string(), key.to_string(), mode, outcome, drill.message.clone()]
    });
    let head = vec!["began at", "route", "mode", "outcome", "what was seen"];
    vec![Block::Heading("Drills".to_owned()), latest(head, rows.collect())]
}

fn events(collected: &Collected, period: Period) -> Vec<Block> {
    let told = collected.events.iter().filter(|event| period.contains(event.at));
    let rows: Vec<_> = told
        .map(|event| {
            let warning = if event.is_warning { "Warning" } else { "Normal" };
            let object = format!("{} {}", event.kind, event.key);
            vec![event.at.to_string(), object, warning.to_owned(), event.reason.clone(), event.note.clone()]
        })
        .collect();
    if rows.is_empty() {
        return vec![];
    }
    vec![Block::Heading("Events".to_owned()), latest(vec!["at", "object", "type", "reason", "note"], rows)]
}

fn backends(collected: &Collected) -> Vec<Block> {
    let rows: Vec<_> = collected.backends.iter().map(backend_row).collect();
    if rows.is_empty() {
        return vec![];
    }
    let head = vec!["backend", "health now", "reason", "since", "certificate until"];
    vec![Block::Heading("Backends".to_owned()), table(head, rows)]
}

fn backend_row(backend: &SendingBackend) -> Vec<String> {
    let status = backend.status.clone().unwrap_or_default();
    let health = match status.health {
        Some(Health::Healthy) => "Healthy",
        Some(Health::Degraded) => "Degraded",
        Some(Health::Unhealthy) => "Unhealthy",
        Some(Health::Unknown) | None => "Unknown",
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    vec![
        key(backend).to_string(),
        health.to_owned(),
        or_dash(status.reason),
        or_dash(status.since.as_ref().map(|since| timestamp(since).to_string())),
        or_dash(status.certificate_not_after.as_ref().map(|at| timestamp(at).to_string())),
    ]
}

/// Rows that tables leave out, by section.
fn left_out(blocks: &[Block]) -> Vec<String> {
    let (mut points, mut section) = (vec![], "");
    for block in blocks {
        match block {
            Block::Heading(heading) => section = heading.as_str(),
            Block::Table { left_out, .. } if *left_out > 0 => points.push(format!(
                "{left_out} rows of the section {section}: a table has {MAX_ROWS}. --namespace or a shorter --since leaves room."
            )),
            Block::Title(_) | Block::Paragraph(_) | Block::List(_) | Block::Table { .. } => {}
        }
    }
    points
}

/// Gaps of this page, by source, after the rows that are left out.
fn gaps(collected: &Collected, period: Period, left_out: Vec<String>) -> Vec<Block> {
    let mut points = left_out;
    let covered_since = match &collected.prometheus {
        Some(Ok(answers)) => answers.reaches_back_to,
        Some(Err(_)) | None => None,
    };
    // A sample may be a scrape's interval late.
    let is_covered = covered_since.is_some_and(|at| at <= period.since + std::time::Duration::from_hours(1));
    match (&collected.prometheus, covered_since) {
        (None, _) => points.push(
            "Prometheus was not asked (--prometheus URL): shares and counts are those that status remembers."
                .to_owned(),
        ),
        (Some(Err(error)), _) => points.push(format!("Prometheus was asked in vain: {error}.")),
        (Some(Ok(_)), None) => points.push("Prometheus has no series of the operator in this time.".to_owned()),
        (Some(Ok(_)), Some(at)) if !is_covered => {
            points.push(format!(
                "Prometheus has series of the operator from {at} on only; before that nothing is counted."
            ));
        }
        (Some(Ok(_)), Some(_)) => {}
    }
    for route in &collected.routes {
        let all = status(route).flat_map(|status| &status.history);
        let all: Vec<_> = all.filter(|one| one.reason != DRILL).collect();
        let oldest = all.iter().map(|one| timestamp(&one.decided_at)).min();
        if let Some(oldest) = oldest.filter(|oldest| all.len() >= MAX_HISTORY && *oldest > period.since) {
            let counted = if is_covered { "Prometheus counts them" } else { "they are not counted" };
            points.push(format!(
                "Transitions of {} before {oldest}: a route remembers its latest {MAX_HISTORY}; {counted}.",
                key(route)
            ));
        }
    }
    for route in &collected.routes {
        let drills = status(route).filter_map(|status| status.drills.as_ref());
        // One that was skipped is remembered beside them.
        let drills: Vec<_> =
            drills.flat_map(|drills| &drills.history).filter(|drill| drill.outcome != "Skipped").collect();
        let oldest = drills.iter().map(|drill| timestamp(&drill.started_at)).min();
        if let Some(oldest) = oldest.filter(|oldest| drills.len() >= MAX_DRILLS && *oldest > period.since) {
            points.push(format!(
                "Drills of {} before {oldest}: a route remembers its latest {MAX_DRILLS}; they are not counted.",
                key(route)
            ));
        }
    }
    let oldest_event = collected.events.first().map(|event| event.at);
    match (&collected.events_missing, oldest_event) {
        (Some(why), _) => points.push(format!("Events could not be read: {why}.")),
        (None, Some(oldest)) if oldest > period.since => {
            points.push(format!("Events before {oldest}: the API server keeps them for an hour by default."));
        }
        (None, None) => points.push(
            "The API server keeps no Event of the operator; it forgets them after an hour by default.".to_owned(),
        ),
        (None, Some(_)) => {}
    }
    if points.is_empty() {
        points.push("Nothing: every source reaches back to the start of this time.".to_owned());
    }
    vec![Block::Heading("What this page does not know".to_owned()), Block::List(points)]
}

/// Recovery time of a failover that evidence led to, in seconds.
fn recovery_seconds(transition: &TransitionStatus) -> Option<f64> {
    let began_at = timestamp(transition.first_evidence_at.as_ref()?);
    let applied_at = timestamp(transition.applied_at.as_ref()?);
    (transition.kind == TransitionKind::Failover).then(|| applied_at.since(began_at).as_secs_f64())
}

/// A table of the first rows.
fn table(head: Vec<&'static str>, mut rows: Vec<Vec<String>>) -> Block {
    let left_out = rows.len().saturating_sub(MAX_ROWS);
    if left_out > 0 {
        rows.truncate(MAX_ROWS);
        rows.push(note(&head, format!("… {left_out} further rows are left out")));
    }
    Block::Table { head, rows, left_out }
}

/// A table of the latest rows of those that are in the order of time.
fn latest(head: Vec<&'static str>, mut rows: Vec<Vec<String>>) -> Block {
    let left_out = rows.len().saturating_sub(MAX_ROWS);
    if left_out > 0 {
        rows.drain(..left_out);
        rows.insert(0, note(&head, format!("… {left_out} earlier rows are left out")));
    }
    Block::Table { head, rows, left_out }
}

/// A row that says something in its first cell.
fn note(head: &[&'static str], text: String) -> Vec<String> {
    let mut row = vec![String::new(); head.len()];
    row[0] = text;
    row
}

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "not measured".to_owned())
}

fn f64_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
