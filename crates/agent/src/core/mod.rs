//! State machine of the agent: the routing in force, the backends that it has left by itself, and the actions for the
//! MTA, the operator and the disk.
//!
//! ```text
//! handle(Routing) ────────┐                  ┌─▶ Publish(Answers) ─▶ socketmap
//! handle(LogEvent) ───────┤                  ├─▶ Switch(order)    ─▶ MTA: reload, flush
//! handle(SwitchProgress) ─┼─▶ core (no I/O) ─┤                           └─▶ SwitchProgress
//! handle_timeout ─────────┘                  ├─▶ Remember(memory) ─▶ disk
//!                                            └─▶ Report           ─▶ operators
//! ```
//!
//! Deterministic: the same calls with the same times give the same actions. Actions are carried out in their order.
//! Architecture invariants: it does no I/O and reads no clock. It never goes to a backend without a share that the
//! operator does not call a standby. It never leaves a backend when no other can carry the mail. A breaker changes the
//! order of the lists, and neither a share nor the budget.

mod breaker;
mod change;
mod ejection;
pub mod log_event;
mod memory;
mod refusals;
mod shares;
mod traffic;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::{Refusal, RouteBackend, Routing, may_replace};
use mail_failover_core::model::{EvidenceClass, Timestamp};

use self::refusals::{BackendState, Refusals};
use self::traffic::BackendTraffic;
use super::answers::Answers;

pub use change::{Cause, SwitchOrder, SwitchProgress};
pub use log_event::{Delivery, Disposition, LogEvent, LoggedReply, MessageRefusal, Place};
pub use memory::{CoreMemory, Ejection, SavedEjection};
pub use refusals::KeptView;
pub use traffic::{FailureRun, ThrottledRun};
pub use view::{
    AlternateUse, BackendVerdict, BackendView, BreakerView, CoreView, EjectionBlocker, PendingEjection, SwitchView,
    TrafficVerdict,
};

/// Limit of the agent's own moves that are remembered.
// A budget that allows more in any time would be no budget.
const MAX_MOVES: usize = 100;

/// Input of the core.
#[derive(Clone, Debug, PartialEq)]
pub enum CoreInput {
    /// A routing that the operator has decided.
    Routing(Routing),
    /// An event of the MTA's log.
    LogEvent(LogEvent),
    /// Progress of a switch. The executor reports it several times.
    SwitchProgress(SwitchProgress),
}

/// Work for the driver, to be done in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum CoreAction {
    /// Publish these answers to the MTA.
    Publish(Arc<Answers>),
    /// Make the MTA notice, after the actions before are done.
    Switch(SwitchOrder),
    /// Save this for the next start.
    Remember(CoreMemory),
    /// Report the [`AgentCore::verdicts`], which have changed, to the operator.
    Report,
}

/// State machine of the agent; the module describes it.
#[derive(Debug, Default)]
pub struct AgentCore {
    in_force: Option<InForce>,
    /// Memory from before the start, until the first routing comes.
    remembered: Option<CoreMemory>,
    /// Times of the agent's own moves, the oldest first.
    moves: VecDeque<Timestamp>,
    orders: u64,
    last_switch: Option<SwitchView>,
    /// Messages that may have been sent twice, since the start.
    possible_duplicates: u64,
    /// Messages that backends refuse and that are kept.
    refusals: Refusals,
    /// Verdicts of the latest report.
    reported: Vec<(Arc<str>, Option<EvidenceClass>)>,
    actions: Vec<CoreAction>,
}

#[derive(Debug)]
struct InForce {
    routing: Arc<Routing>,
    answers: Arc<Answers>,
    /// Deliveries of each backend of `routing`.
    traffic: Vec<BackendTraffic>,
    /// Ejection of each backend of `routing`.
    ejections: Vec<Option<Ejection>>,
    /// Backend that carries everything because none of the operator's choice is left.
    fallback: Option<Arc<str>>,
    pending: Option<PendingEjection>,
}

impl InForce {
    /// Returns the position of a backend that has kept its name and its next hop.
    fn position_of(&self, backend: &RouteBackend) -> Option<usize> {
        let mut backends = self.routing.backends.iter();
        backends.position(|old| old.name == backend.name && old.next_hop == backend.next_hop)
    }

    /// Returns for each backend whether it is ejected.
    fn is_ejected(&self) -> Vec<bool> {
        self.ejections.iter().map(Option::is_some).collect()
    }
}

impl AgentCore {
    /// Creates a core that knows nothing but the memory of an earlier one.
    pub fn new(remembered: Option<CoreMemory>) -> Self {
        Self { remembered, ..Self::default() }
    }

    /// Checks that a routing is not older than the one in force.
    ///
    /// # Errors
    /// [`Refusal::Older`]
    pub fn accepts(&self, routing: &Routing) -> Result<(), Refusal> {
        self.in_force.as_ref().map_or(Ok(()), |in_force| may_replace(&in_force.routing, routing))
    }

    /// Takes an input. A routing that the core does not [accept](Self::accepts) changes nothing.
    pub fn handle(&mut self, now: Timestamp, input: CoreInput) {
        match input {
            CoreInput::Routing(routing) if self.accepts(&routing).is_ok() => self.routed(now, routing),
            CoreInput::Routing(_older) => {}
            CoreInput::LogEvent(LogEvent::Delivery(delivery)) => self.delivered(now, &delivery),
            CoreInput::LogEvent(LogEvent::PossibleDuplicate(_)) => {
                self.possible_duplicates = self.possible_duplicates.saturating_add(1);
            }
            CoreInput::LogEvent(LogEvent::Suspended) => {}
            CoreInput::LogEvent(LogEvent::Gone(message)) => {
                if self.refusals.gone(message) {
                    self.relearn(now);
                }
            }
            CoreInput::SwitchProgress(progress) => self.switched(now, progress),
        }
    }

    /// Draws the conclusions that follow from time alone.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let is_news = self.refusals.handle_timeout(now);
        self.reconsider(now);
        if is_news {
            self.relearn(now);
        }
    }

    /// Returns the latest time for the next call of [`Self::handle_timeout`]. An earlier call or another one does no
    /// harm.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let in_force = self.in_force.as_ref()?;
        let policy = &in_force.routing.reflex;
        let lapses = in_force.traffic.iter().filter_map(|traffic| traffic.next_timeout(policy));
        let returns = (0..in_force.ejections.len()).filter_map(|at| self.returns_at(in_force, at));
        let waits = in_force.pending.as_ref().is_some_and(|pending| pending.blocker == EjectionBlocker::BudgetSpent);
        let freed = waits.then(|| self.next_move(policy));
        lapses.chain(returns).chain(freed).chain(self.refusals.next_timeout()).min()
    }

    /// Returns the actions that have come up since the last call.
    pub fn poll(&mut self) -> Vec<CoreAction> {
        std::mem::take(&mut self.actions)
    }

    /// Returns the answers for the MTA; `None` before the first routing.
    pub fn answers(&self) -> Option<Arc<Answers>> {
        self.in_force.as_ref().map(|in_force| in_force.answers.clone())
    }

    /// Returns the time from the latest switch to the first message that went out on a new way, if one has.
    pub fn first_delivery(&self) -> Option<Duration> {
        self.last_switch.as_ref()?.first_delivery_after
    }

    fn routed(&mut self, now: Timestamp, routing: Routing) {
        let routing = Arc::new(routing);
        let before = self.in_force.take();
        let same_route = before.as_ref().filter(|known| known.routing.route_uid == routing.route_uid);
        let remembered = self.remembered.take().filter(|memory| memory.route_uid == *routing.route_uid);
        let mut fallback = None;
        if let Some(memory) = &remembered {
            self.moves = memory.moves.iter().map(|at| Timestamp::from_micros(*at)).collect();
            fallback = memory.fallback.as_deref().map(Arc::from);
        }
        if let Some(known) = same_route {
            fallback.clone_from(&known.fallback);
        } else if before.is_some() {
            self.moves.clear();
        }
        let newer = match (same_route, &remembered) {
            (Some(known), _) => routing.transition > known.routing.transition,
            (None, Some(memory)) => routing.transition > memory.transition,
            (None, None) => true,
        };
        let (mut traffic, mut ejections) = (vec![], vec![]);
        for backend in &routing.backends {
            let known = same_route.and_then(|known| Some((known, known.position_of(backend)?)));
            traffic.push(known.map(|(known, at)| known.traffic[at].clone()).unwrap_or_default());
            let ejection = known.and_then(|(known, at)| known.ejections[at].clone());
            let ejection = ejection.or_else(|| remembered.as_ref().and_then(|memory| memory.ejection_of(backend)));
            // A newer decision that still gives the backend a share overrides our ejection; one that gives it none
            // agrees with us.
            ejections.push(ejection.filter(|_| !(newer && backend.percent > 0)));
        }
        let answers = Arc::new(Answers::as_decided(routing.clone()));
        self.in_force = Some(InForce { routing, answers, traffic, ejections, fallback, pending: None });
        let cause = if before.is_none() { Cause::Start } else { Cause::Operator };
        let switches = self.switches();
        self.update_answers(now, before.map(|known| known.answers).as_ref(), cause);
        if newer && self.switches() == switches {
            self.confirm();
        }
        self.reconsider(now);
    }

    fn switches(&self) -> u64 {
        self.last_switch.as_ref().map_or(0, |last| last.order.number)
    }

    /// Credits the last switch to a newer decision that changes no answer: it has decided what the agent had done by
    /// itself.
    fn confirm(&mut self) {
        let (Some(last), Some(in_force)) = (&mut self.last_switch, &self.in_force) else { return };
        let Cause::Left { backend, .. } = &last.order.cause else { return };
        let agrees = in_force.routing.backends.iter().any(|way| way.name == *backend && way.percent == 0);
        if last.confirmed_by.is_none() && agrees {
            last.confirmed_by = Some(in_force.routing.transition);
        }
    }

    fn delivered(&mut self, now: Timestamp, delivery: &Delivery) {
        let Some(in_force) = &mut self.in_force else { return };
        let Some(at) = delivery.place.position_in(&in_force.routing) else { return };
        let Some(traffic) = in_force.traffic.get_mut(at) else { return };
        let delivery = delivery.read_by(&in_force.routing.backends[at].rulebook);
        let failures = traffic.failures();
        let is_repeated = self.refusals.is_repeated(&in_force.routing.backends[at].name, &delivery);
        let has_opened = traffic.handle(now, &delivery, is_repeated, &in_force.routing.reflex);
        let mut is_news = refusals::is_turn(failures, traffic.failures());
        is_news |= self.refusals.handle(now, &in_force.routing.backends[at].name, &delivery);
        if let (Some(last), EvidenceClass::Ok) = (&mut self.last_switch, delivery.class) {
            last.delivered(now, &in_force.routing.backends[at].name, delivery.took);
        }
        self.reconsider(now);
        if is_news {
            self.relearn(now);
        }
        if has_opened {
            self.free_slots(now, at);
        }
    }

    fn switched(&mut self, now: Timestamp, progress: SwitchProgress) {
        if let Some(last) = self.last_switch.as_mut().filter(|last| last.order.number == progress.number) {
            last.report = Some(progress);
            last.done_at = Some(now);
        }
    }
}

#[cfg(test)]
mod breaker_tests;
#[cfg(test)]
mod tests;
