//! View of the core's state for people, metrics and the operator.

use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::model::{EvidenceClass, Timestamp};

use crate::answers::Answers;

use super::{AgentCore, DrillView, FailureRun, KeptView, SwitchOrder, SwitchProgress, ThrottledRun};

/// State of the core at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreView {
    /// `namespace/name` of the route.
    pub route: Arc<str>,
    /// The transition in force.
    pub transition: i64,
    /// Summary of that transition.
    pub summary: Arc<str>,
    /// Backends in order of preference.
    pub backends: Vec<BackendView>,
    /// Latest switch, if there was one.
    pub last_switch: Option<SwitchView>,
    /// Messages that may have been sent twice, since the agent started.
    pub possible_duplicates: u64,
    /// Messages that backends refuse and that are kept, if there are any.
    pub kept: Option<KeptView>,
    /// Refusals, since the agent started, at which more messages were kept than are followed.
    pub unfollowed_refusals: u64,
    /// Latest drill, if there was one.
    pub drill: Option<DrillView>,
}

/// View of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendView {
    /// Name of the backend.
    pub name: Arc<str>,
    /// Next hop, as `[host]:port`.
    pub next_hop: String,
    /// The operator's share, in percent.
    pub decided: u8,
    /// Share of the messages that try it first, in percent.
    pub carries: u8,
    /// True if the operator would send mail there now.
    pub standby: bool,
    /// Use of the backend for messages that another one does not take.
    pub alternate: AlternateUse,
    /// True if a drill refuses it now.
    pub is_refused: bool,
    /// State of the breaker, if it is open.
    pub breaker: Option<BreakerView>,
    /// Failures since the last success.
    pub failing: Option<FailureRun>,
    /// The last success, unless it is long ago.
    pub last_success: Option<Timestamp>,
}

/// State of an open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// Time at which it opened.
    pub since: Timestamp,
    /// Time before which no message tries the backend first; `None` while one may.
    pub next_trial_at: Option<Timestamp>,
}

/// Use of a backend for messages that another one does not take, within the same attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlternateUse {
    /// They go there.
    Used,
    /// The operator does not want it.
    No,
    /// It has taken as many messages as its limits of a day allow.
    Spent,
    /// TLS from the first byte, or its lack, sets it apart from the backend that carries most.
    SetApart,
}

impl AlternateUse {
    /// A name for status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Used => "Used",
            Self::No => "No",
            Self::Spent => "Spent",
            Self::SetApart => "SetApart",
        }
    }
}

/// Progress of the latest switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchView {
    /// Order that was given.
    pub order: SwitchOrder,
    /// Latest report; `None` before the first.
    pub report: Option<SwitchProgress>,
    /// Time at which the report came.
    pub done_at: Option<Timestamp>,
    /// Time from the decision until the first message went out on a new way.
    pub first_delivery_after: Option<Duration>,
    /// Number of [`CoreView::possible_duplicates`] before it.
    pub possible_duplicates_before: u64,
}

impl SwitchView {
    pub(super) fn of(order: SwitchOrder, possible_duplicates_before: u64) -> Self {
        Self { order, report: None, done_at: None, first_delivery_after: None, possible_duplicates_before }
    }

    pub(super) fn delivered(&mut self, now: Timestamp, backend: &Arc<str>, took: Duration) {
        let at = self.order.at;
        if self.first_delivery_after.is_none() && self.order.gained.contains(backend) && now - took >= at {
            self.first_delivery_after = Some(now.since(at));
        }
    }
}

/// Verdict of real mail on one backend, as the operator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendVerdict {
    /// Name of the backend.
    pub backend: Arc<str>,
    /// Content of the verdict.
    pub verdict: TrafficVerdict,
}

/// Verdict on a backend that real mail has met lately. It lapses a cooldown after the last delivery that it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrafficVerdict {
    /// Deliveries have failed often enough, and for long enough.
    Failing {
        /// Class of the failures.
        class: EvidenceClass,
        /// Failures that the verdict rests on.
        run: FailureRun,
    },
    /// For minutes it has met nothing but replies that ask for less.
    Throttled(ThrottledRun),
    /// The latest delivery that says anything went well.
    Working {
        /// Time of that delivery.
        at: Timestamp,
    },
}

impl TrafficVerdict {
    /// Returns the class of the trouble that deliveries meet, if they do.
    pub fn troubled_by(&self) -> Option<EvidenceClass> {
        match self {
            Self::Failing { class, .. } => Some(*class),
            Self::Throttled(_) => Some(EvidenceClass::Throttled),
            Self::Working { .. } => None,
        }
    }
}

impl AgentCore {
    /// Returns a verdict for each backend that real mail has met lately.
    pub fn verdicts(&self) -> Vec<BackendVerdict> {
        let Some(in_force) = &self.in_force else { return vec![] };
        let mut verdicts = vec![];
        for (backend, traffic) in in_force.routing.backends.iter().zip(&in_force.traffic) {
            if let Some(verdict) = traffic.verdict(&in_force.routing.deliveries) {
                verdicts.push(BackendVerdict { backend: backend.name.clone(), verdict });
            }
        }
        verdicts
    }

    /// Returns the whole state; `None` before the first routing.
    pub fn view(&self) -> Option<CoreView> {
        let in_force = self.in_force.as_ref()?;
        let routing = &in_force.routing;
        let carried = in_force.answers.carried();
        let backends = routing.backends.iter().enumerate().map(|(at, backend)| BackendView {
            name: backend.name.clone(),
            next_hop: backend.next_hop.to_string(),
            decided: backend.percent,
            carries: carried[at],
            standby: backend.standby,
            alternate: alternate_use(&in_force.answers, at),
            is_refused: in_force.answers.is_refused(&backend.name),
            breaker: in_force.traffic[at]
                .breaker
                .open_since()
                .map(|since| BreakerView { since, next_trial_at: in_force.traffic[at].breaker.next_trial_at() }),
            failing: in_force.traffic[at].run().cloned(),
            last_success: in_force.traffic[at].last_success(),
        });
        Some(CoreView {
            route: routing.route.clone(),
            transition: routing.transition,
            summary: routing.summary.clone(),
            backends: backends.collect(),
            last_switch: self.last_switch.clone(),
            possible_duplicates: self.possible_duplicates,
            kept: self.refusals.view(),
            unfollowed_refusals: self.refusals.unfollowed(),
            drill: self.drills.view(),
        })
    }
}

/// Returns the use of the backend at a position for messages that the one with the largest share does not take.
fn alternate_use(answers: &Answers, at: usize) -> AlternateUse {
    let backends = &answers.routing.backends;
    if !backends[at].alternate || !answers.usable[at] {
        return AlternateUse::No;
    }
    if answers.spent[at] {
        return AlternateUse::Spent;
    }
    let leading = backends.iter().zip(&answers.percents).rev().max_by_key(|(_, percent)| **percent);
    let is_apart = leading.is_some_and(|(leading, _)| leading.tls.is_implicit() != backends[at].tls.is_implicit());
    if is_apart { AlternateUse::SetApart } else { AlternateUse::Used }
}
