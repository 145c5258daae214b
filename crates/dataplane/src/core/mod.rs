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
//! Architecture invariants: it does no I/O and reads no clock. The shares are the operator's: a breaker changes the
//! order of the lists and nothing else. No message goes to a backend without a share that the operator calls neither an
//! alternate nor a standby.
// ADR-0118: The breaker replaces the reflex.

mod allowance;
mod breaker;
mod change;
mod conclusions;
mod drill;
pub mod log_event;
mod memory;
mod refusals;
mod traffic;
mod view;

use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::{Refusal, RouteBackend, Routing, may_replace};
use mail_failover_core::model::{EvidenceClass, Timestamp};

use self::allowance::DayCount;
use self::drill::Drills;
use self::refusals::{BackendState, Refusals};
use self::traffic::BackendTraffic;
use super::answers::Answers;

pub use allowance::HourCount;
pub use change::{Cause, SwitchOrder, SwitchProgress};
pub use drill::{DrillView, SavedDrill};
pub use log_event::{Delivery, Disposition, LogEvent, LoggedReply, MessageRefusal, Place};
pub use memory::{CoreMemory, SavedBreaker, SavedDay};
pub use refusals::KeptView;
pub use traffic::{FailureRun, ThrottledRun};
pub use view::{AlternateUse, BackendVerdict, BackendView, BreakerView, CoreView, SwitchView, TrafficVerdict};

/// Input of the core.
#[derive(Clone, Debug, PartialEq)]
pub enum CoreInput {
    /// A routing that the operator has decided.
    Routing(Routing),
    /// An event of the MTA's log.
    LogEvent(LogEvent),
    /// Progress of a switch. The executor reports it several times.
    SwitchProgress(SwitchProgress),
    /// Sessions were begun with a backend, and nothing is heard of them.
    Stalled {
        /// Name of the backend.
        backend: Arc<str>,
        /// Number of the sessions.
        sessions: u32,
    },
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
    /// Time at which what the MTA held for a backend was last freed.
    freed_at: Option<Timestamp>,
    orders: u64,
    last_switch: Option<SwitchView>,
    /// Messages that may have been sent twice, since the start.
    possible_duplicates: u64,
    /// Messages that backends refuse and that are kept.
    refusals: Refusals,
    /// Drills that documents have ordered.
    drills: Drills,
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
    /// Messages that each of them took within a day.
    days: Vec<DayCount>,
    /// Backend for which the MTA holds messages that another one could take, and the class of its failures.
    freeing: Option<(usize, EvidenceClass)>,
    /// Time since which mail may leave by a backend whose breaker is not open.
    working_since: Option<Timestamp>,
}

impl InForce {
    /// Returns the position of a backend that has kept its name and its next hop.
    fn position_of(&self, backend: &RouteBackend) -> Option<usize> {
        let mut backends = self.routing.backends.iter();
        backends.position(|old| old.name == backend.name && old.next_hop == backend.next_hop)
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
            CoreInput::Stalled { backend, sessions } => self.stalled(now, &backend, sessions),
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
        let policy = &in_force.routing.deliveries;
        let lapses = in_force.traffic.iter().filter_map(|traffic| traffic.next_timeout(policy));
        let limits = in_force.routing.backends.iter().map(|backend| backend.messages_per_day);
        let days = in_force.days.iter().zip(limits).filter_map(|(day, limit)| day.next_timeout(limit));
        let freeing = in_force.freeing.and(self.freed_at).map(|at| at + conclusions::BETWEEN_FREEINGS);
        let of_core = self.refusals.next_timeout().into_iter().chain(self.drills.next_timeout());
        lapses.chain(days).chain(in_force.next_lost()).chain(freeing).chain(of_core).min()
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

    /// Returns true if a backend that messages try first has asked for less mail within the last minute.
    pub fn is_throttled(&self, now: Timestamp) -> bool {
        let Some(in_force) = &self.in_force else { return false };
        let carried = in_force.answers.carried();
        let mut backends = in_force.traffic.iter().zip(carried);
        backends.any(|(traffic, carried)| carried > 0 && traffic.is_throttled(now))
    }

    fn routed(&mut self, now: Timestamp, routing: Routing) {
        let routing = Arc::new(routing);
        let before = self.in_force.take();
        let same_route = before.as_ref().filter(|known| known.routing.route_uid == routing.route_uid);
        let remembered = self.remembered.take().filter(|memory| memory.route_uid == *routing.route_uid);
        let (mut traffic, mut days) = (vec![], vec![]);
        for backend in &routing.backends {
            let known = same_route.and_then(|known| Some(known.traffic[known.position_of(backend)?].clone()));
            let saved = remembered.as_ref().and_then(|memory| memory.breaker_of(backend));
            traffic.push(known.or_else(|| Some(BackendTraffic::restored(now, saved?, &routing))).unwrap_or_default());
            let known = same_route.and_then(|known| Some(known.days[known.position_of(backend)?].clone()));
            let saved = remembered.as_ref().and_then(|memory| memory.day_of(backend));
            days.push(known.or_else(|| Some(DayCount::restored(&saved?.hours, now))).unwrap_or_default());
        }
        if same_route.is_none() {
            self.drills = Drills::restored(remembered.as_ref().map_or(&[], |memory| &memory.drills));
        }
        self.drills.ordered(now, routing.drill.as_ref());
        let answers = Arc::new(Answers::as_decided(routing.clone()));
        let working_since = same_route.and_then(|known| known.working_since);
        self.in_force = Some(InForce { routing, answers, traffic, days, freeing: None, working_since });
        let cause = if before.is_none() { Cause::Start } else { Cause::Operator };
        self.update_answers(now, before.map(|known| known.answers).as_ref(), cause);
        self.reconsider(now);
    }

    fn delivered(&mut self, now: Timestamp, delivery: &Delivery) {
        let Some(in_force) = &mut self.in_force else { return };
        let Some(at) = delivery.place.position_in(&in_force.routing) else { return };
        let Some(traffic) = in_force.traffic.get_mut(at) else { return };
        let rulebook = &in_force.routing.backends[at].rulebook;
        let is_of_sender = delivery.is_about_sender(rulebook);
        let delivery = delivery.read_by(rulebook);
        let before = in_force.answers.clone();
        let failures = traffic.failures();
        let is_repeated = self.refusals.is_repeated(&in_force.routing.backends[at].name, &delivery);
        let has_opened = if is_of_sender {
            // Other senders' mail may go there: it is no evidence about the backend.
            let of_sender = Delivery { class: EvidenceClass::RecipientLevel, ..Delivery::clone(&delivery) };
            traffic.handle(now, &of_sender, is_repeated, &in_force.routing)
        } else {
            traffic.handle(now, &delivery, is_repeated, &in_force.routing)
        };
        let mut is_news = refusals::is_turn(failures, traffic.failures());
        is_news |= self.refusals.handle(now, &in_force.routing.backends[at].name, &delivery);
        if delivery.disposition == Disposition::Sent {
            in_force.days[at].add(now);
        }
        if let (Some(last), EvidenceClass::Ok) = (&mut self.last_switch, delivery.class) {
            last.delivered(now, &in_force.routing.backends[at].name, delivery.took);
        }
        self.note_drilled(now, at, &delivery);
        self.reconsider(now);
        if is_news {
            self.relearn(now);
        }
        if has_opened {
            self.wants_freeing(at, delivery.disposition, &before);
            self.free_when_due(now);
        }
    }

    fn stalled(&mut self, now: Timestamp, backend: &str, sessions: u32) {
        let Some(in_force) = &mut self.in_force else { return };
        let Some(at) = in_force.routing.backends.iter().position(|known| *known.name == *backend) else { return };
        let before = in_force.answers.clone();
        if in_force.traffic[at].stalled(now, sessions, &in_force.routing) {
            self.reconsider(now);
            self.wants_freeing(at, Disposition::PassedOn, &before);
            self.free_when_due(now);
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
mod drill_tests;
#[cfg(test)]
mod tests;
