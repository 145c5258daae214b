use std::collections::BTreeSet;
use std::sync::Arc;

use super::simulator::{Recorder, RouteDecision};
use super::summary::Alternates;
use mail_failover_core::engine::{
    Decision, DrillOutcome, Explanation, Health, Hold, HoldReason, Memory, Observer, Reason, RequestAnswer, Share,
    State, Transition, Verdict,
};
use mail_failover_core::model::{DrillMode, EvidenceClass, Timestamp};

/// Timeline of a simulation: one entry for each change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Entries in the order of time; those at the start describe the first state.
    pub entries: Vec<TimelineEntry>,
}

/// Entry of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// Time of the change.
    pub at: Timestamp,
    /// Change that happened then.
    pub what: TimelineChange,
}

/// Kind of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimelineChange {
    /// Begin or end of an event of the scenario.
    Event {
        /// Position of the event in the scenario.
        event: usize,
        /// True if the event ends.
        is_over: bool,
    },
    /// Change of the verdict about a backend.
    Verdict(VerdictChange),
    /// Change of a route.
    Route(Box<RouteChange>),
    /// Begin (true) or end of a storm: all failure domains fail at once.
    Storm(bool),
    /// Observers that are not believed for now, by name; the one that decides has an empty name.
    Suspects(Vec<Arc<str>>),
}

/// Verdict about a backend from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictChange {
    /// Position of the backend in the fleet.
    pub backend: usize,
    /// Health of the backend.
    pub health: Health,
    /// Class of evidence behind it.
    pub class: EvidenceClass,
    /// True if the backend has asked for a lower rate.
    pub is_throttled: bool,
    /// Message of the observation behind the verdict.
    pub message: Arc<str>,
}

/// State of a route from now on, and the decision that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// Position of the route in the fleet.
    pub route: usize,
    /// State from now on.
    pub view: RouteView,
    /// State before; `None` at the start.
    pub before: Option<RouteView>,
    /// The move that was decided.
    pub transition: Option<Transition>,
    /// The request that was answered.
    pub answer: Option<RequestAnswer>,
    /// Reasons of the decision.
    pub explanation: Explanation,
}

/// State of a route, as the timeline shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteView {
    /// State as the route's status shows it.
    pub state: State,
    /// Shares of the backends.
    pub shares: Vec<Share>,
    /// Hold that keeps the mail from moving.
    pub hold: Option<Hold>,
    /// Percentage of the mail that has nowhere to go.
    pub unplaced: u8,
    /// Drill under way, or the latest one; `None` before the first.
    pub drill: Option<DrillView>,
}

/// Drill of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillView {
    /// Mode of the drill.
    pub mode: DrillMode,
    /// Result with its reason, and what was seen; `None` while the drill runs.
    pub result: Option<DrillResultView>,
}

/// Result of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillResultView {
    /// Id of the drill.
    pub id: Arc<str>,
    /// Result.
    pub outcome: DrillOutcome,
    /// Reason, in one CamelCase word.
    pub reason: Arc<str>,
    /// Observations, for people.
    pub message: String,
}

impl DrillView {
    fn of(memory: &Memory) -> Option<Self> {
        if let Some(drill) = &memory.drill {
            return Some(Self { mode: drill.mode, result: None });
        }
        let record = memory.drills.records.first()?;
        let (id, outcome, reason) = (record.id.clone(), record.outcome, record.reason.clone());
        let result = DrillResultView { id, outcome, reason, message: record.message.clone() };
        Some(Self { mode: record.mode, result: Some(result) })
    }

    /// Returns the state as expectations name it.
    pub fn state(&self) -> &'static str {
        self.result.as_ref().map_or("Running", |result| result.outcome.as_str())
    }
}

impl RouteView {
    /// Returns the leading backend.
    pub fn active(&self) -> Option<&Arc<str>> {
        self.shares.first().map(|share| &share.backend)
    }

    /// Formats the shares: `ses-eu 60 %, sendgrid 40 %`.
    pub fn shares_text(&self) -> String {
        let mut parts: Vec<_> = self.shares.iter().map(share_text).collect();
        if self.unplaced > 0 {
            parts.push(format!("nowhere {} %", self.unplaced));
        }
        if parts.is_empty() { "nowhere".to_owned() } else { parts.join(", ") }
    }
}

fn share_text(share: &Share) -> String {
    let overflow = if share.is_overflow { " overflow" } else { "" };
    format!("{} {} %{overflow}", share.backend, share.percent)
}

impl RouteChange {
    /// Returns the reasons of this change, without the facts about each backend.
    pub fn why(&self) -> Vec<String> {
        self.explanation.reasons.iter().filter(|reason| self.is_news(reason)).map(ToString::to_string).collect()
    }

    fn is_news(&self, reason: &Reason) -> bool {
        match reason {
            Reason::Requested(_)
            | Reason::Moves(_)
            | Reason::NoneHealthy
            | Reason::Unplaced(_)
            | Reason::Drilled { .. } => true,
            Reason::Held(hold) => self.before.as_ref().is_none_or(|before| before.hold != Some(*hold)),
            Reason::Known { .. } | Reason::Moved(_) | Reason::Stays { .. } | Reason::Carries(_) => false,
        }
    }
}

/// Recorder that writes the timeline; it is silent until it is opened.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) timeline: Timeline,
    routes: Vec<RouteView>,
    is_open: bool,
    /// Latest explanation of each route, for the entries of the start.
    explanations: Vec<Explanation>,
    /// Backends that take single messages of each route when the one that they were sent to does not.
    pub(super) alternates: Vec<Alternates>,
}

impl Notes {
    pub(super) fn new(routes: usize) -> Self {
        Self {
            routes: vec![RouteView::default(); routes],
            explanations: vec![Explanation::default(); routes],
            alternates: vec![vec![]; routes],
            ..Self::default()
        }
    }

    /// Starts the recording with entries for the first state.
    pub(super) fn open(&mut self, at: Timestamp, verdicts: impl Iterator<Item = Option<Verdict>>) {
        self.is_open = true;
        for (backend, verdict) in verdicts.enumerate() {
            if let Some(verdict) = verdict {
                self.turned(at, backend, &verdict);
            }
        }
        for (route, view) in self.routes.clone().into_iter().enumerate() {
            let explanation = self.explanations[route].clone();
            let change = RouteChange { route, view, before: None, transition: None, answer: None, explanation };
            self.note(at, TimelineChange::Route(Box::new(change)));
        }
    }

    /// Merges the rest of a decision into the entry that the same route has just got. Returns true if it did.
    fn goes_on(&mut self, at: Timestamp, route: usize, view: &RouteView, decision: &Decision) -> bool {
        let Some(TimelineEntry { at: last_at, what: TimelineChange::Route(last) }) = self.timeline.entries.last_mut()
        else {
            return false;
        };
        if *last_at != at || last.route != route || last.before.is_none() || decision.transition.is_some() {
            return false;
        }
        last.view.clone_from(view);
        let Explanation { reasons, next_changes } = &decision.explanation;
        last.explanation.reasons.retain(|reason| !matches!(reason, Reason::Held(_)));
        last.explanation.reasons.extend(reasons.iter().filter(|reason| matches!(reason, Reason::Held(_))).cloned());
        last.explanation.next_changes.clone_from(next_changes);
        true
    }

    pub(super) fn note(&mut self, at: Timestamp, what: TimelineChange) {
        if self.is_open {
            self.timeline.entries.push(TimelineEntry { at, what });
        }
    }
}

impl Recorder for Notes {
    fn turned(&mut self, at: Timestamp, backend: usize, verdict: &Verdict) {
        let change = VerdictChange {
            backend,
            health: verdict.health,
            class: verdict.class,
            is_throttled: verdict.is_throttled,
            message: verdict.message.clone(),
        };
        self.note(at, TimelineChange::Verdict(change));
    }

    fn decided(&mut self, at: Timestamp, decided: &RouteDecision<'_>) {
        let RouteDecision { index: route, route: known, candidates, before, decision } = *decided;
        let memory = &decision.memory;
        let drill = DrillView::of(memory);
        let alternates = candidates.iter().filter(|candidate| decision.is_alternate(candidate, known));
        let alternates: Vec<_> = alternates.map(|candidate| candidate.name.clone()).collect();
        if self.alternates[route].last().is_none_or(|(_, latest)| *latest != alternates) {
            self.alternates[route].push((at, alternates));
        }
        // No agent of a simulation leads all mail by another way.
        let state = decision.shown_state(candidates, |_| false);
        let is_same = {
            let view = &self.routes[route];
            view.state == state
                && view.shares == memory.shares
                && view.hold == decision.hold
                && view.unplaced == decision.unplaced
                && view.drill == drill
        };
        let answer = memory.request.as_ref().filter(|_| memory.request != before.request);
        self.explanations[route].clone_from(&decision.explanation);
        if is_same && decision.transition.is_none() && answer.is_none() {
            return;
        }
        let view =
            RouteView { state, shares: memory.shares.clone(), hold: decision.hold, unplaced: decision.unplaced, drill };
        let before = std::mem::replace(&mut self.routes[route], view.clone());
        if self.goes_on(at, route, &view, decision) {
            return;
        }
        let change = RouteChange {
            route,
            view,
            before: Some(before),
            transition: decision.transition.clone(),
            answer: answer.cloned(),
            explanation: decision.explanation.clone(),
        };
        self.note(at, TimelineChange::Route(Box::new(change)));
    }

    fn stormed(&mut self, at: Timestamp, is_storm: bool) {
        self.note(at, TimelineChange::Storm(is_storm));
    }

    fn suspected(&mut self, at: Timestamp, suspects: &BTreeSet<Observer>) {
        let names = suspects.iter().map(|observer| match observer {
            Observer::Own => Arc::default(),
            Observer::Other(name) => name.clone(),
        });
        self.note(at, TimelineChange::Suspects(names.collect()));
    }
}

/// Returns the name of a hold's reason; `-` without a hold.
pub(super) fn hold_name(hold: Option<Hold>) -> &'static str {
    hold.map_or("-", |hold| HoldReason::as_str(hold.reason))
}
