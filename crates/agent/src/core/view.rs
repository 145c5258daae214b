//! What the core knows, for people, metrics and the operator.

use std::sync::Arc;
use std::time::Duration;

use super::{Core, Left, Run, SwitchOrder, SwitchReport, Traffic};
use mail_failover_contract::routing::Backend;
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// Everything, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// `namespace/name` of the route.
    pub route: Arc<str>,
    /// The transition in force.
    pub transition: i64,
    /// What it was.
    pub summary: Arc<str>,
    /// In order of preference.
    pub backends: Vec<BackendView>,
    /// A backend that should be left and is not.
    pub held: Option<Held>,
    /// Moves of its own that the budget still allows.
    pub moves_left: u32,
    /// The latest switch.
    pub last_switch: Option<SwitchView>,
    /// Messages that may have been sent twice, since the agent started.
    pub possible_duplicates: u64,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendView {
    /// Its name.
    pub name: Arc<str>,
    /// `[host]:port`.
    pub next_hop: String,
    /// The operator's share, in percent.
    pub decided: u8,
    /// What it carries, in percent.
    pub carries: u8,
    /// Whether the agent may go there by itself.
    pub standby: bool,
    /// Why the agent keeps away.
    pub left: Option<Left>,
    /// Failures since the last success.
    pub failing: Option<Run>,
    /// The last success, unless it is long ago.
    pub last_success: Option<Timestamp>,
}

/// A backend that should be left and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub backend: Arc<str>,
    /// For what it should be left.
    pub class: EvidenceClass,
    /// Why it is not.
    pub why: Why,
}

/// Why a backend that should be left is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The agent has moved as often as it may.
    BudgetSpent,
    /// There is no other place that the operator calls good.
    NoStandby,
}

impl Why {
    /// A name for status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BudgetSpent => "BudgetSpent",
            Self::NoStandby => "NoStandby",
        }
    }
}

/// The latest switch, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchView {
    /// What was ordered.
    pub order: SwitchOrder,
    /// How it went; nothing while it is under way.
    pub report: Option<SwitchReport>,
    /// When the report came.
    pub done_at: Option<Timestamp>,
    /// From the decision until the first message was out on a way that was new.
    pub first_delivery_after: Option<Duration>,
    /// Of [`View::possible_duplicates`], those that were counted before it.
    pub possible_duplicates_before: u64,
    /// For a move of the agent's own: the operator's transition that came after it and has decided the same.
    pub confirmed_by: Option<i64>,
}

impl SwitchView {
    pub(super) fn of(order: SwitchOrder, possible_duplicates_before: u64) -> Self {
        Self {
            order,
            report: None,
            done_at: None,
            first_delivery_after: None,
            possible_duplicates_before,
            confirmed_by: None,
        }
    }

    pub(super) fn delivered(&mut self, now: Timestamp, backend: &Arc<str>, took: Duration) {
        let at = self.order.at;
        if self.first_delivery_after.is_none() && self.order.gained.contains(backend) && now - took >= at {
            self.first_delivery_after = Some(now.since(at));
        }
    }
}

/// What the agent tells the operator about a backend, by what real mail met there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its name.
    pub backend: Arc<str>,
    /// What.
    pub opinion: Opinion,
}

/// Of a backend that real mail has met lately. It lapses a cooldown after the last delivery that it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// The agent would leave it, or has.
    Failing {
        /// For what.
        class: EvidenceClass,
        /// On what grounds.
        run: Run,
    },
    /// The latest delivery that says anything went well.
    Working {
        /// When it was over.
        at: Timestamp,
    },
}

impl Opinion {
    /// For what it fails, if it does.
    pub fn failing_for(&self) -> Option<EvidenceClass> {
        match self {
            Self::Failing { class, .. } => Some(*class),
            Self::Working { .. } => None,
        }
    }
}

impl Core {
    /// What the operator is to know, of every backend of which the agent has an opinion.
    pub fn words(&self) -> Vec<Word> {
        let Some(in_force) = &self.in_force else { return vec![] };
        let backends = in_force.routing.backends.iter().zip(&in_force.traffic);
        let word = |(backend, traffic): (&Backend, &Traffic)| {
            let opinion = match traffic.run() {
                Some(run) => Opinion::Failing { class: run.condemns(&in_force.routing.reflex)?, run: run.clone() },
                None => Opinion::Working { at: traffic.last_success()? },
            };
            Some(Word { backend: backend.name.clone(), opinion })
        };
        backends.filter_map(word).collect()
    }

    /// Everything, for people; nothing before the first routing.
    pub fn view(&self, now: Timestamp) -> Option<View> {
        let in_force = self.in_force.as_ref()?;
        let routing = &in_force.routing;
        let backends = routing.backends.iter().enumerate().map(|(at, backend)| BackendView {
            name: backend.name.clone(),
            next_hop: backend.next_hop.to_string(),
            decided: backend.percent,
            carries: in_force.answers.percents[at],
            standby: backend.standby,
            left: in_force.left[at].clone(),
            failing: in_force.traffic[at].run().cloned(),
            last_success: in_force.traffic[at].last_success(),
        });
        let recent = self.moves.iter().filter(|at| **at + routing.reflex.per > now).count();
        Some(View {
            route: routing.route.clone(),
            transition: routing.transition,
            summary: routing.summary.clone(),
            backends: backends.collect(),
            held: in_force.held.clone(),
            moves_left: routing.reflex.switches.saturating_sub(u32::try_from(recent).unwrap_or(u32::MAX)),
            last_switch: self.last_switch.clone(),
            possible_duplicates: self.possible_duplicates,
        })
    }
}
