//! State machine of the agent: the routing in force, the backends that it has left by itself, and the actions for the MTA, the operator and
//! the disk.
//!
//! ```text
//! offer(Routing) ─┐                    ┌─▶ Publish(Answers) ─▶ socketmap
//! observe(log)  ──┼─▶ Core (no I/O) ───┼─▶ Switch(order)    ─▶ MTA: reload, flush ─▶ switch_done
//! on_timer      ──┘                    ├─▶ Remember(memory) ─▶ disk
//!                                      └─▶ Report           ─▶ operators
//! ```
//!
//! Deterministic: the same calls with the same times give the same actions. Actions are carried out in their order. Architecture
//! invariants: it does no I/O and reads no clock. It never goes to a backend without a share that the operator does not call a standby. It
//! never leaves a backend when no other can carry the mail.

mod change;
mod memory;
mod reflex;
mod shares;
pub mod sighting;
mod traffic;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use change::{Cause, SwitchOrder, SwitchReport};
pub use memory::{Left, Memory, RememberedLeave};
pub use sighting::{Delivery, Disposition, Place, Sighting};
pub use traffic::Run;
pub use view::{BackendView, Held, Opinion, SwitchView, View, Why, Word};

use self::traffic::Traffic;
use super::answers::Answers;
use mail_failover_contract::routing::{Backend, Refusal, Routing, may_replace};
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// Limit of the agent's own moves that are remembered.
// A budget that allows more in any time would be no budget.
const MAX_MOVES: usize = 100;

/// Work for the driver, to be done in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Publish these answers to the MTA.
    Publish(Arc<Answers>),
    /// Make the MTA notice, after the actions before are done.
    Switch(SwitchOrder),
    /// Save this for the next start.
    Remember(Memory),
    /// Report the [`Core::words`], which have changed, to the operator.
    Report,
}

/// State machine of the agent; the module describes it.
#[derive(Debug, Default)]
pub struct Core {
    in_force: Option<InForce>,
    /// Memory from before the start, until the first routing comes.
    remembered: Option<Memory>,
    /// Times of the agent's own moves, the oldest first.
    moves: VecDeque<Timestamp>,
    orders: u64,
    last_switch: Option<SwitchView>,
    /// Messages that may have been sent twice, since the start.
    possible_duplicates: u64,
    told: Vec<(Arc<str>, Option<EvidenceClass>)>,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct InForce {
    routing: Arc<Routing>,
    answers: Arc<Answers>,
    /// Deliveries of each backend of `routing`.
    traffic: Vec<Traffic>,
    left: Vec<Option<Left>>,
    /// Backend that carries everything because none of the operator's choice is left.
    refuge: Option<Arc<str>>,
    held: Option<Held>,
}

impl Core {
    /// A core that knows nothing but what an earlier one left for it.
    pub fn new(remembered: Option<Memory>) -> Self {
        Self { remembered, ..Self::default() }
    }

    /// Takes a routing, unless it is older than the one in force.
    ///
    /// # Errors
    /// [`Refusal::Older`]; nothing has changed then.
    pub fn offer(&mut self, now: Timestamp, routing: Routing) -> Result<(), Refusal> {
        let before = self.in_force.take();
        if let Some(known) = &before
            && let Err(refusal) = may_replace(&known.routing, &routing)
        {
            self.in_force = before;
            return Err(refusal);
        }
        let routing = Arc::new(routing);
        let (mut traffic, mut left, mut refuge) = (vec![], vec![], None);
        let same_route = before.as_ref().filter(|known| known.routing.route_uid == routing.route_uid);
        let remembered = self.remembered.take().filter(|memory| memory.route_uid == *routing.route_uid);
        if let Some(memory) = &remembered {
            self.moves = memory.moves.iter().map(|at| Timestamp::from_micros(*at)).collect();
            refuge = memory.refuge.as_deref().map(Arc::from);
        }
        if let Some(known) = same_route {
            refuge.clone_from(&known.refuge);
        } else if before.is_some() {
            self.moves.clear();
        }
        let newer = match (same_route, &remembered) {
            (Some(known), _) => routing.transition > known.routing.transition,
            (None, Some(memory)) => routing.transition > memory.transition,
            (None, None) => true,
        };
        for backend in &routing.backends {
            let known = same_route.and_then(|known| {
                let same = |old: &Backend| old.name == backend.name && old.next_hop == backend.next_hop;
                known.routing.backends.iter().position(same).map(|at| (known, at))
            });
            traffic.push(known.map(|(known, at)| known.traffic[at].clone()).unwrap_or_default());
            let was_left = known.and_then(|(known, at)| known.left[at].clone());
            let was_left = was_left.or_else(|| remembered.as_ref().and_then(|memory| memory.left_of(backend)));
            // A newer decision that still gives the backend a share overrides our ejection; one that gives it none agrees with us.
            left.push(was_left.filter(|_| !(newer && backend.percent > 0)));
        }
        let answers = Arc::new(Answers::as_decided(routing.clone()));
        self.in_force = Some(InForce { routing, answers, traffic, left, refuge, held: None });
        let cause = if before.is_none() { Cause::Start } else { Cause::Operator };
        let switches = self.switches();
        self.settle(now, before.map(|known| known.answers).as_ref(), cause);
        if newer && self.switches() == switches {
            self.confirm();
        }
        self.reconsider(now);
        Ok(())
    }

    fn switches(&self) -> u64 {
        self.last_switch.as_ref().map_or(0, |last| last.order.number)
    }

    /// Credits the last switch to a newer decision that changes no answer: it has decided what the agent had done by
    /// itself.
    fn confirm(&mut self) {
        let (Some(last), Some(in_force)) = (&mut self.last_switch, &self.in_force) else { return };
        let Cause::Left { backend, .. } = &last.order.cause else { return };
        let is_left = |way: &Backend| way.name == *backend && way.percent == 0;
        if last.confirmed_by.is_none() && in_force.routing.backends.iter().any(is_left) {
            last.confirmed_by = Some(in_force.routing.transition);
        }
    }

    /// Takes an event from the MTA's log.
    pub fn observe(&mut self, now: Timestamp, sighting: &Sighting) {
        match sighting {
            Sighting::Delivery(delivery) => self.delivered(now, delivery),
            Sighting::PossibleDuplicate(_) => self.possible_duplicates = self.possible_duplicates.saturating_add(1),
            Sighting::Suspended => {}
        }
    }

    fn delivered(&mut self, now: Timestamp, delivery: &Delivery) {
        let Some(in_force) = &mut self.in_force else { return };
        let Some(at) = delivery.place.position_in(&in_force.routing) else { return };
        let Some(traffic) = in_force.traffic.get_mut(at) else { return };
        traffic.observe(now, delivery, &in_force.routing.reflex);
        if let (Some(last), EvidenceClass::Ok) = (&mut self.last_switch, delivery.class) {
            last.delivered(now, &in_force.routing.backends[at].name, delivery.took);
        }
        self.reconsider(now);
    }

    /// Takes the progress of a switch. The executor reports it several times.
    pub fn switch_done(&mut self, now: Timestamp, report: SwitchReport) {
        if let Some(last) = self.last_switch.as_mut().filter(|last| last.order.number == report.number) {
            last.report = Some(report);
            last.done_at = Some(now);
        }
    }

    /// Returns the time from the latest switch to the first message that went out on a new way, if one has.
    pub fn first_delivery(&self) -> Option<Duration> {
        self.last_switch.as_ref()?.first_delivery_after
    }

    /// Returns the latest time for the next call of [`Self::on_timer`]. An earlier call or another one does no harm.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let in_force = self.in_force.as_ref()?;
        let reflex = &in_force.routing.reflex;
        let lapses = in_force.traffic.iter().filter_map(|traffic| traffic.next_lapse(reflex));
        let returns = (0..in_force.left.len()).filter_map(|at| self.returns_at(in_force, at));
        let waits = in_force.held.as_ref().is_some_and(|held| held.why == Why::BudgetSpent);
        let freed = waits.then(|| self.next_move(reflex));
        lapses.chain(returns).chain(freed).min()
    }

    /// Draws the conclusions that follow from time alone.
    pub fn on_timer(&mut self, now: Timestamp) {
        self.reconsider(now);
    }

    /// Returns the answers for the MTA; `None` before the first routing.
    pub fn answers(&self) -> Option<Arc<Answers>> {
        self.in_force.as_ref().map(|in_force| in_force.answers.clone())
    }

    /// Returns the work that has come up since the last call.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
