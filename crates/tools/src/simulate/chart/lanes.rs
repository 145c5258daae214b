//! What is drawn in which lane, as spans of time.

use super::super::run::{Outcome, Simulation};
use super::super::script::Deed;
use super::super::summary::views;
use super::super::timeline::{Entry, What};
use mail_failover_core::engine::{Health, Transition, TransitionKind};
use mail_failover_core::model::Timestamp;

/// Something that lasts.
pub(super) struct Span<T> {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) what: T,
}

/// The events of the scenario; what ends at once is a moment.
pub(super) fn events(simulation: &Simulation, outcome: &Outcome) -> Vec<Span<String>> {
    let mut spans: Vec<(usize, Span<String>)> = vec![];
    for entry in &outcome.timeline.entries {
        match &entry.what {
            What::Event { event, is_over: false } => {
                let text = simulation.event_texts[*event].clone();
                let until = if simulation.is_lasting[*event] { simulation.end } else { entry.at };
                spans.push((*event, Span { from: entry.at, until, what: text }));
            }
            What::Event { event, is_over: true } => {
                if let Some((_, span)) = spans.iter_mut().find(|(of, _)| of == event) {
                    span.until = entry.at;
                }
            }
            What::Verdict(_) | What::Route(_) | What::Storm(_) | What::Suspects(_) => {}
        }
    }
    spans.into_iter().map(|(_, span)| span).collect()
}

/// What a backend is, in its lane.
pub(super) struct Told {
    pub(super) health: Health,
    pub(super) text: String,
    /// The same in a word; nothing where a word is not needed.
    pub(super) word: String,
    pub(super) is_suspended: bool,
}

/// The verdicts about a backend, parted where it is taken out of service.
pub(super) fn health(simulation: &Simulation, outcome: &Outcome, backend: usize) -> Vec<Span<Told>> {
    let verdicts: Vec<_> = outcome
        .timeline
        .entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Verdict(change) if change.backend == backend => Some((entry.at, change)),
            What::Event { .. } | What::Verdict(_) | What::Route(_) | What::Storm(_) | What::Suspects(_) => None,
        })
        .collect();
    let mut suspensions = vec![(simulation.start, simulation.fleet.backends[backend].backend.suspended)];
    suspensions.extend(simulation.acts.iter().filter_map(|act| match act.what {
        Deed::Suspend { backend: of, is_suspended } if of == backend => Some((act.at, is_suspended)),
        Deed::Note { .. } | Deed::Suspend { .. } | Deed::Limit { .. } | Deed::Ask { .. } => None,
    }));
    let mut turns: Vec<_> = verdicts.iter().map(|(at, _)| *at).chain(suspensions.iter().map(|(at, _)| *at)).collect();
    turns.push(simulation.end);
    turns.sort_unstable();
    turns.dedup();
    let span = |turns: &[Timestamp]| {
        let (_, change) = verdicts.iter().rfind(|(at, _)| *at <= turns[0])?;
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
        let told = Told { health: change.health, text, word, is_suspended };
        Some(Span { from: turns[0], until: turns[1], what: told })
    };
    turns.windows(2).filter_map(span).collect()
}

/// A part of a route's mail.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) percent: u8,
    /// Its position in the fleet: the same in every lane; none for mail with nowhere to go.
    pub(super) backend: Option<usize>,
}

/// Where the mail of a route goes; in the order of its list, so that areas keep their place.
pub(super) fn shares(simulation: &Simulation, outcome: &Outcome, route: usize) -> Vec<Span<Vec<Part>>> {
    let known = &simulation.fleet.routes[route];
    let rank = |name: &str| known.route.backends.iter().position(|member| *member.name == *name);
    let mut spans: Vec<Span<Vec<Part>>> = vec![];
    for (from, until, view) in with_ends(simulation, outcome, route) {
        let mut parts: Vec<_> = view
            .shares
            .iter()
            .filter(|share| share.percent > 0)
            .map(|share| Part {
                name: share.backend.to_string(),
                percent: share.percent,
                backend: rank(&share.backend).map(|rank| known.backends[rank]),
            })
            .collect();
        parts.sort_by_key(|part| rank(&part.name));
        if view.unplaced > 0 {
            parts.push(Part { name: "nowhere".to_owned(), percent: view.unplaced, backend: None });
        }
        let is_same = |before: &Span<Vec<Part>>| {
            before
                .what
                .iter()
                .map(|part| (&part.name, part.percent))
                .eq(parts.iter().map(|part| (&part.name, part.percent)))
        };
        match spans.last_mut() {
            Some(last) if is_same(last) => last.until = until,
            Some(_) | None => spans.push(Span { from, until, what: parts }),
        }
    }
    spans
}

/// What holds a route.
pub(super) fn holds(simulation: &Simulation, outcome: &Outcome, route: usize) -> Vec<Span<String>> {
    let mut spans: Vec<Span<String>> = vec![];
    for (from, until, view) in with_ends(simulation, outcome, route) {
        let Some(hold) = view.hold else { continue };
        let text = hold.reason.as_str();
        match spans.last_mut() {
            Some(last) if last.until == from && last.what == text => last.until = until,
            Some(_) | None => spans.push(Span { from, until, what: text.to_owned() }),
        }
    }
    spans
}

fn with_ends<'a>(
    simulation: &Simulation,
    outcome: &'a Outcome,
    route: usize,
) -> impl Iterator<Item = (Timestamp, Timestamp, &'a super::super::RouteView)> {
    let views = views(&outcome.timeline, route);
    let ends: Vec<_> = views.iter().skip(1).map(|(at, _)| *at).chain([simulation.end]).collect();
    views.into_iter().zip(ends).map(|((from, view), until)| (from, until, view))
}

/// A transition.
pub(super) struct Mark {
    pub(super) at: Timestamp,
    pub(super) text: String,
}

/// The transitions of a route.
pub(super) fn marks(outcome: &Outcome, route: usize) -> Vec<Mark> {
    let mark = |entry: &Entry| match &entry.what {
        What::Route(change) if change.route == route && change.transition.is_some() => {
            let transition = change.transition.as_ref()?;
            let Transition { kind, from, to, reason, .. } = transition;
            let kind = match kind {
                TransitionKind::Failover => "failover",
                TransitionKind::Failback => "failback",
            };
            Some(Mark { at: entry.at, text: format!("{kind} {from} → {to}: {}", reason.as_str()) })
        }
        What::Event { .. } | What::Verdict(_) | What::Route(_) | What::Storm(_) | What::Suspects(_) => None,
    };
    outcome.timeline.entries.iter().filter_map(mark).collect()
}

/// When everything failed at once.
pub(super) fn storms(simulation: &Simulation, outcome: &Outcome) -> Vec<Span<()>> {
    let mut spans: Vec<Span<()>> = vec![];
    for entry in &outcome.timeline.entries {
        match (&entry.what, spans.last_mut()) {
            (What::Storm(true), _) => spans.push(Span { from: entry.at, until: simulation.end, what: () }),
            (What::Storm(false), Some(last)) => last.until = entry.at,
            (What::Storm(false), None)
            | (What::Event { .. } | What::Verdict(_) | What::Route(_) | What::Suspects(_), _) => {}
        }
    }
    spans
}
