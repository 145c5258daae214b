use std::collections::BTreeSet;
use std::sync::Arc;

use super::world::Recorder;
use mail_failover_core::engine::{
    Answer, Decision, Explanation, Health, Hold, HoldReason, Memory, Observer, Reason, Share, State, Transition,
    Verdict,
};
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// What happened in a simulation, in order: an entry only where something changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// In the order of time; those at the start say how things were.
    pub entries: Vec<Entry>,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An event of the scenario begins, or ends.
    Event {
        /// Its position in the scenario.
        event: usize,
        /// Whether it ends.
        is_over: bool,
    },
    /// The verdict about a backend.
    Verdict(VerdictChange),
    /// A route.
    Route(Box<RouteChange>),
    /// All failure domains fail at once, or no longer.
    Storm(bool),
    /// Who is not believed for now, by name; the one who decides by an empty one.
    Suspects(Vec<Arc<str>>),
}

/// The verdict about a backend from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictChange {
    /// Its position in the fleet.
    pub backend: usize,
    /// The verdict.
    pub health: Health,
    /// Why.
    pub class: EvidenceClass,
    /// It has asked for less.
    pub is_throttled: bool,
    /// What was seen.
    pub message: Arc<str>,
}

/// Where a route stands from now on, and what has just been done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// Its position in the fleet.
    pub route: usize,
    /// Where it stands.
    pub view: RouteView,
    /// Where it stood before; `None` at the start.
    pub before: Option<RouteView>,
    /// The move that was decided.
    pub transition: Option<Transition>,
    /// The request that was answered.
    pub answer: Option<Answer>,
    /// Why.
    pub explanation: Explanation,
}

/// Where a route stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteView {
    /// In a word.
    pub state: State,
    /// Where the mail goes.
    pub shares: Vec<Share>,
    /// What keeps it from moving.
    pub hold: Option<Hold>,
    /// So much of the mail, in percent, has nowhere to go.
    pub unplaced: u8,
}

impl RouteView {
    /// The backend that leads.
    pub fn active(&self) -> Option<&Arc<str>> {
        self.shares.first().map(|share| &share.backend)
    }

    /// `ses-eu 60 %, sendgrid 40 %`.
    pub fn shares_text(&self) -> String {
        let text = |share: &Share| {
            let overflow = if share.is_overflow { " overflow" } else { "" };
            format!("{} {} %{overflow}", share.backend, share.percent)
        };
        let mut parts: Vec<_> = self.shares.iter().map(text).collect();
        if self.unplaced > 0 {
            parts.push(format!("nowhere {} %", self.unplaced));
        }
        if parts.is_empty() { "nowhere".to_owned() } else { parts.join(", ") }
    }
}

impl RouteChange {
    /// The chain of reasons that tell why this changed, without what is known of each backend.
    pub fn why(&self) -> Vec<String> {
        let is_telling = |reason: &&Reason| match reason {
            Reason::Requested(_) | Reason::Moves(_) | Reason::NoneHealthy | Reason::Unplaced(_) => true,
            Reason::Held(hold) => self.before.as_ref().is_none_or(|before| before.hold != Some(*hold)),
            Reason::Known { .. } | Reason::Moved(_) | Reason::Stays { .. } | Reason::Carries(_) => false,
        };
        self.explanation.reasons.iter().filter(is_telling).map(ToString::to_string).collect()
    }
}

/// Writes the timeline. Silent until it is told to begin.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) timeline: Timeline,
    routes: Vec<RouteView>,
    is_open: bool,
    /// How decisions were explained last, for the start.
    explanations: Vec<Explanation>,
}

impl Notes {
    pub(super) fn new(routes: usize) -> Self {
        Self {
            routes: vec![RouteView::default(); routes],
            explanations: vec![Explanation::default(); routes],
            ..Self::default()
        }
    }

    /// From now on everything is written down, beginning with how things are.
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
            self.note(at, What::Route(Box::new(change)));
        }
    }

    /// Whether this is the rest of what has just been decided about the same route; then it is noted there.
    fn goes_on(&mut self, at: Timestamp, route: usize, view: &RouteView, decision: &Decision) -> bool {
        let Some(Entry { at: last_at, what: What::Route(last) }) = self.timeline.entries.last_mut() else {
            return false;
        };
        if *last_at != at || last.route != route || last.before.is_none() || decision.transition.is_some() {
            return false;
        }
        last.view.clone_from(view);
        let is_hold = |reason: &&Reason| matches!(reason, Reason::Held(_));
        last.explanation.reasons.retain(|reason| !is_hold(&reason));
        last.explanation.reasons.extend(decision.explanation.reasons.iter().filter(is_hold).cloned());
        last.explanation.next_changes.clone_from(&decision.explanation.next_changes);
        true
    }

    pub(super) fn note(&mut self, at: Timestamp, what: What) {
        if self.is_open {
            self.timeline.entries.push(Entry { at, what });
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
        self.note(at, What::Verdict(change));
    }

    fn decided(&mut self, at: Timestamp, route: usize, before: &Memory, decision: &Decision) {
        let memory = &decision.memory;
        let is_same = {
            let view = &self.routes[route];
            view.state == memory.state
                && view.shares == memory.shares
                && view.hold == decision.hold
                && view.unplaced == decision.unplaced
        };
        let answer = memory.request.as_ref().filter(|_| memory.request != before.request);
        self.explanations[route].clone_from(&decision.explanation);
        if is_same && decision.transition.is_none() && answer.is_none() {
            return;
        }
        let view = RouteView {
            state: memory.state,
            shares: memory.shares.clone(),
            hold: decision.hold,
            unplaced: decision.unplaced,
        };
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
        self.note(at, What::Route(Box::new(change)));
    }

    fn stormed(&mut self, at: Timestamp, is_storm: bool) {
        self.note(at, What::Storm(is_storm));
    }

    fn suspected(&mut self, at: Timestamp, suspects: &BTreeSet<Observer>) {
        let name = |observer: &Observer| match observer {
            Observer::Own => Arc::default(),
            Observer::Other(name) => name.clone(),
        };
        self.note(at, What::Suspects(suspects.iter().map(name).collect()));
    }
}

/// The name of a hold's reason; `-` where there is none.
pub(super) fn hold_name(hold: Option<Hold>) -> &'static str {
    hold.map_or("-", |hold| HoldReason::as_str(hold.reason))
}
