//! Contents of the chart's lanes, as spans of time.

use super::super::run::{Simulation, SimulationResult};
use super::super::script::ScriptedChange;
use super::super::summary::views;
use super::super::timeline::TimelineChange;
use mail_failover_core::engine::{Health, Transition, TransitionKind, TransitionReason};
use mail_failover_core::model::Timestamp;

/// Value that lasts for a span of time.
pub(super) struct TimeSpan<T> {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) what: T,
}

/// Returns the events of the scenario; a span without a length is a moment.
pub(super) fn events(simulation: &Simulation, outcome: &SimulationResult) -> Vec<TimeSpan<String>> {
    let mut spans: Vec<(usize, TimeSpan<String>)> = vec![];
    for entry in &outcome.timeline.entries {
        match &entry.what {
            TimelineChange::Event { event, is_over: false } => {
                let text = simulation.event_texts[*event].clone();
                let until = if simulation.is_lasting[*event] { simulation.end } else { entry.at };
                spans.push((*event, TimeSpan { from: entry.at, until, what: text }));
            }
            TimelineChange::Event { event, is_over: true } => {
                if let Some((_, span)) = spans.iter_mut().find(|(of, _)| of == event) {
                    span.until = entry.at;
                }
            }
            TimelineChange::Verdict(_)
            | TimelineChange::Route(_)
            | TimelineChange::Storm(_)
            | TimelineChange::Suspects(_) => {}
        }
    }
    spans.into_iter().map(|(_, span)| span).collect()
}

/// State of a backend, as its lane shows it.
pub(super) struct HealthPhase {
    pub(super) health: Health,
    pub(super) text: String,
    /// State in a word; empty where the colour is enough.
    pub(super) word: String,
    pub(super) is_suspended: bool,
}

/// Returns the verdicts about a backend, with a separate span while it is out of service.
pub(super) fn health(
    simulation: &Simulation,
    outcome: &SimulationResult,
    backend: usize,
) -> Vec<TimeSpan<HealthPhase>> {
    let verdicts: Vec<_> = outcome
        .timeline
        .entries
        .iter()
        .filter_map(|entry| match &entry.what {
            TimelineChange::Verdict(change) if change.backend == backend => Some((entry.at, change)),
            TimelineChange::Event { .. }
            | TimelineChange::Verdict(_)
            | TimelineChange::Route(_)
            | TimelineChange::Storm(_)
            | TimelineChange::Suspects(_) => None,
        })
        .collect();
    let mut suspensions = vec![(simulation.start, simulation.fleet.backends[backend].backend.suspended)];
    suspensions.extend(simulation.acts.iter().filter_map(|act| match act.what {
        ScriptedChange::Suspend { backend: of, is_suspended } if of == backend => Some((act.at, is_suspended)),
        ScriptedChange::Note { .. }
        | ScriptedChange::Suspend { .. }
        | ScriptedChange::Limit { .. }
        | ScriptedChange::Ask { .. } => None,
    }));
    let mut turns: Vec<_> = verdicts.iter().map(|(at, _)| *at).chain(suspensions.iter().map(|(at, _)| *at)).collect();
    turns.push(simulation.end);
    turns.sort_unstable();
    turns.dedup();
    let mut spans = vec![];
    for turns in turns.windows(2) {
        let Some((_, change)) = verdicts.iter().rfind(|(at, _)| *at <= turns[0]) else { continue };
        let is_suspended = suspensions.iter().rfind(|(at, _)| *at <= turns[0]).is_some_and(|(_, is)| *is);
        let (mut text, mut word) = match (change.health, change.class) {
            (Health::Healthy, _) => (String::new(), String::new()),
            (health, class) => (format!("{}: {}", health.as_str(), class.as_str()), class.as_str().to_owned()),
        };
        for (is_so, more) in [(change.is_throttled, "throttled"), (is_suspended, "suspended")] {
            if is_so {
                let comma = if text.is_empty() { "" } else { ", " };
                text = format!("{more}{comma}{text}");
                more.clone_into(&mut word);
            }
        }
        let what = HealthPhase { health: change.health, text, word, is_suspended };
        spans.push(TimeSpan { from: turns[0], until: turns[1], what });
    }
    spans
}

/// Part of a route's mail.
#[derive(PartialEq, Eq)]
pub(super) struct MailPart {
    pub(super) name: String,
    pub(super) percent: u8,
    /// Position of the backend in the fleet, the same in every lane; `None` for mail that has nowhere to go.
    pub(super) backend: Option<usize>,
}

/// Returns the parts of a route's mail, in the order of the route's list, so that areas keep their place.
pub(super) fn shares(
    simulation: &Simulation,
    outcome: &SimulationResult,
    route: usize,
) -> Vec<TimeSpan<Vec<MailPart>>> {
    let known = &simulation.fleet.routes[route];
    let mut spans: Vec<TimeSpan<Vec<MailPart>>> = vec![];
    for (from, until, view) in with_ends(simulation, outcome, route) {
        let mut ranked = vec![];
        for share in view.shares.iter().filter(|share| share.percent > 0) {
            let rank = known.route.backends.iter().position(|member| member.name == share.backend);
            let backend = rank.map(|rank| known.backends[rank]);
            ranked.push((rank, MailPart { name: share.backend.to_string(), percent: share.percent, backend }));
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        let mut parts: Vec<_> = ranked.into_iter().map(|(_, part)| part).collect();
        if view.unplaced > 0 {
            parts.push(MailPart { name: "nowhere".to_owned(), percent: view.unplaced, backend: None });
        }
        match spans.last_mut() {
            Some(last) if last.what == parts => last.until = until,
            Some(_) | None => spans.push(TimeSpan { from, until, what: parts }),
        }
    }
    spans
}

/// Returns the holds of a route.
pub(super) fn holds(simulation: &Simulation, outcome: &SimulationResult, route: usize) -> Vec<TimeSpan<String>> {
    let mut spans: Vec<TimeSpan<String>> = vec![];
    for (from, until, view) in with_ends(simulation, outcome, route) {
        let Some(hold) = view.hold else { continue };
        let text = hold.reason.as_str();
        match spans.last_mut() {
            Some(last) if last.until == from && last.what == text => last.until = until,
            Some(_) | None => spans.push(TimeSpan { from, until, what: text.to_owned() }),
        }
    }
    spans
}

/// Returns the drills of a route, each with its mode and its result.
pub(super) fn drills(simulation: &Simulation, outcome: &SimulationResult, route: usize) -> Vec<TimeSpan<String>> {
    let mut spans: Vec<TimeSpan<String>> = vec![];
    let mut is_running = false;
    for (from, until, view) in with_ends(simulation, outcome, route) {
        let Some(drill) = &view.drill else { continue };
        let mode = drill.mode.as_str();
        match (&drill.result, spans.last_mut().filter(|_| is_running)) {
            (None, Some(last)) => last.until = until,
            (None, None) => spans.push(TimeSpan { from, until, what: format!("drill {mode}") }),
            (Some(result), Some(last)) => last.what = format!("drill {mode}: {}", result.outcome.as_str()),
            // Before it, or never begun.
            (Some(_), None) => {}
        }
        is_running = drill.result.is_none();
    }
    spans
}

fn with_ends<'a>(
    simulation: &Simulation,
    outcome: &'a SimulationResult,
    route: usize,
) -> impl Iterator<Item = (Timestamp, Timestamp, &'a super::super::RouteView)> {
    let views = views(&outcome.timeline, route);
    let ends: Vec<_> = views.iter().skip(1).map(|(at, _)| *at).chain([simulation.end]).collect();
    views.into_iter().zip(ends).map(|((from, view), until)| (from, until, view))
}

/// Transition as a mark in the lane.
pub(super) struct Mark {
    pub(super) at: Timestamp,
    pub(super) text: String,
}

/// Returns the transitions of a route.
pub(super) fn marks(outcome: &SimulationResult, route: usize) -> Vec<Mark> {
    let mut marks = vec![];
    for entry in &outcome.timeline.entries {
        let TimelineChange::Route(change) = &entry.what else { continue };
        let Some(transition) = change.transition.as_ref().filter(|_| change.route == route) else { continue };
        let Transition { kind, from, to, reason, .. } = transition;
        // A drill has a span of its own.
        if *reason == TransitionReason::Drill {
            continue;
        }
        let kind = match kind {
            TransitionKind::Failover => "failover",
            TransitionKind::Failback => "failback",
        };
        marks.push(Mark { at: entry.at, text: format!("{kind} {from} → {to}: {}", reason.as_str()) });
    }
    marks
}

/// Returns the storms: the spans in which everything failed at once.
pub(super) fn storms(simulation: &Simulation, outcome: &SimulationResult) -> Vec<TimeSpan<()>> {
    let mut spans: Vec<TimeSpan<()>> = vec![];
    for entry in &outcome.timeline.entries {
        match (&entry.what, spans.last_mut()) {
            (TimelineChange::Storm(true), _) => {
                spans.push(TimeSpan { from: entry.at, until: simulation.end, what: () });
            }
            (TimelineChange::Storm(false), Some(last)) => last.until = entry.at,
            (TimelineChange::Storm(false), None)
            | (
                TimelineChange::Event { .. }
                | TimelineChange::Verdict(_)
                | TimelineChange::Route(_)
                | TimelineChange::Suspects(_),
                _,
            ) => {}
        }
    }
    spans
}
