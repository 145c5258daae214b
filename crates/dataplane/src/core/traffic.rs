//! Evidence from real deliveries about one backend. Pure; bounded memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::{BreakerPolicy, DeliveryPolicy, Routing};
use mail_failover_core::engine::THROTTLED_ONLY;
use mail_failover_core::model::{DeliveryStage, Effect, EvidenceClass, EvidenceClasses, Stage, Timestamp};
use mail_failover_replies::Answered;

use super::breaker::Breaker;
use super::log_event::Delivery;
use super::{SavedBreaker, TrafficVerdict};

/// Number of failed messages whose times are remembered.
// Postfix has at most 20 on their way to one destination by default.
const MESSAGES: usize = 64;
/// Time within which failures of one message belong to one attempt.
// Recipients of one attempt are logged together, and no message is tried again sooner than this.
const TOGETHER: Duration = Duration::from_millis(500);

/// Time after a reply that asks for less for which nothing is offered to the backend again by a flush.
// Postfix itself tries again after as long (`minimal_backoff_time`).
const THROTTLED_FOR: Duration = Duration::from_mins(1);

/// Failed deliveries without a success between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRun {
    /// Number of failures. Each attempt of each message counts once, however many recipients it has.
    pub failures: u32,
    /// Time of the first failure.
    pub since: Timestamp,
    /// Time of the latest failure.
    pub until: Timestamp,
    /// Class of the latest failure.
    pub class: EvidenceClass,
    /// Summary of the latest failure: see [`Delivery::summary`].
    pub summary: Arc<str>,
    /// Deepest stage at which one failed.
    pub stage: DeliveryStage,
    /// Every class among them.
    classes: EvidenceClasses,
}

impl FailureRun {
    pub(super) fn of(
        failures: u32,
        since: Timestamp,
        until: Timestamp,
        class: EvidenceClass,
        stage: DeliveryStage,
        summary: Arc<str>,
    ) -> Self {
        Self { failures, since, until, class, summary, stage, classes: [class].into_iter().collect() }
    }

    /// Returns the class for which these failures are enough for a verdict, if they are.
    fn condemns(&self, policy: &DeliveryPolicy) -> Option<EvidenceClass> {
        let in_a_row = self.failures >= policy.consecutive && self.until.since(self.since) >= policy.lasting;
        self.grave(policy).or_else(|| in_a_row.then_some(self.class))
    }

    /// Returns the class of which one failure is enough, if there was one.
    fn grave(&self, policy: &DeliveryPolicy) -> Option<EvidenceClass> {
        self.classes.iter().find(|class| policy.immediately.contains(*class))
    }

    /// True if the backend did not answer.
    pub(super) fn is_silent(&self) -> bool {
        self.class == EvidenceClass::NoAnswer
    }
}

/// Replies that ask for less, without a success between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottledRun {
    /// Time of the first.
    pub since: Timestamp,
    /// Time of the latest.
    pub until: Timestamp,
    /// Summary of the latest: see [`Delivery::summary`].
    pub summary: Arc<str>,
}

impl ThrottledRun {
    /// Returns true if a backend that does nothing else counts as Degraded.
    // ADR-0084: Nothing but throttling for five minutes is Degraded.
    fn is_long(&self) -> bool {
        self.until.since(self.since) >= THROTTLED_ONLY
    }
}

/// The deliveries of one backend.
#[derive(Clone, Debug, Default)]
pub(super) struct BackendTraffic {
    /// Time since which mail goes there without interruption. Attempts that began earlier do not count.
    given_at: Option<Timestamp>,
    run: Option<FailureRun>,
    throttled: Option<ThrottledRun>,
    /// Time of the latest reply that asks for less, whatever followed.
    throttled_at: Option<Timestamp>,
    last_success: Option<Timestamp>,
    /// Messages that failed lately, with the time of the failure.
    failed: VecDeque<(u64, Timestamp)>,
    /// Breaker that these failures open.
    pub(super) breaker: Breaker,
    /// True if the backend has no share, and one message at a time may try it.
    is_on_trial: bool,
}

impl BackendTraffic {
    /// Goes on where the agent's last process ended.
    pub(super) fn restored(now: Timestamp, saved: &SavedBreaker, routing: &Routing) -> Self {
        let (since, run) = saved.restored(now);
        let breaker = Breaker::opened(since, now, &routing.breaker);
        Self { run: Some(run), breaker, ..Self::default() }
    }

    /// Begins anew: mail goes there from now on.
    pub(super) fn given(&mut self, now: Timestamp) {
        *self = Self { given_at: Some(now), ..Self::default() };
    }

    /// A delivery is over. A refusal of a message that was refused there before, and was kept, is no further failure.
    /// Returns true if the breaker has opened.
    pub(super) fn handle(&mut self, now: Timestamp, delivery: &Delivery, is_repeated: bool, routing: &Routing) -> bool {
        let policy = &routing.deliveries;
        let began_at = began_at(now, delivery);
        // An earlier attempt belongs to a past that was judged.
        if self.given_at.is_some_and(|given_at| began_at < given_at) {
            return false;
        }
        match delivery.class.effect() {
            Effect::Success => {
                self.run = None;
                self.throttled = None;
                self.last_success = Some(now);
            }
            Effect::Neutral if is_throttling(delivery) => {
                self.handle_timeout(now, routing);
                self.throttled_at = Some(now);
                let first = || ThrottledRun { since: now, until: now, summary: delivery.summary.clone() };
                let run = self.throttled.get_or_insert_with(first);
                (run.until, run.summary) = (now, delivery.summary.clone());
            }
            Effect::Neutral => {}
            Effect::Failure if is_repeated => {
                self.handle_timeout(now, routing);
                // It shows that the failures go on.
                if let Some(run) = &mut self.run {
                    run.until = now;
                }
            }
            Effect::Failure => {
                if self.is_news(now, delivery) {
                    self.handle_timeout(now, routing);
                    self.fail(now, delivery);
                }
            }
        }
        let breaker_policy = self.breaker_policy(routing);
        let effect = delivery.class.effect();
        if effect == Effect::Neutral {
            // It opens nothing, and proves nothing of what the breaker is open for.
            // One that asks for less is not asked at once, and neither is one that a fault of ours kept from answering.
            let is_alive = delivery.class == EvidenceClass::RecipientLevel;
            self.breaker.undecided(now, began_at_latest(now, delivery), is_alive, &breaker_policy);
            return false;
        }
        let is_grave = self.run.as_ref().is_some_and(|run| run.grave(policy).is_some());
        let began_at = (effect == Effect::Failure).then(|| began_at_latest(now, delivery));
        self.breaker.handle(now, self.run.as_ref(), is_grave, began_at, &breaker_policy)
    }

    /// Sessions were begun, and nothing is heard of them. It opens the breaker, and is no failure of a delivery: that is
    /// counted when the log tells. Returns true if the breaker has opened.
    pub(super) fn stalled(&mut self, now: Timestamp, sessions: u32, routing: &Routing) -> bool {
        let summary: Arc<str> = format!("no word of {sessions} deliveries that were begun").into();
        // It says nothing about how far they came.
        let stage = DeliveryStage::Session(Stage::Resolve);
        let first = || FailureRun::of(0, now, now, EvidenceClass::NoAnswer, stage, summary);
        let run = self.run.get_or_insert_with(first);
        run.until = now;
        let breaker_policy = self.breaker_policy(routing);
        self.breaker.handle(now, self.run.as_ref(), true, None, &breaker_policy)
    }

    /// Returns true if the attempt is none of those that have been counted.
    fn is_news(&mut self, now: Timestamp, delivery: &Delivery) -> bool {
        let known = self.failed.iter_mut().find(|(message, _)| *message == delivery.message);
        if let Some((_, failed_at)) = known {
            let again = now - delivery.took > *failed_at + TOGETHER;
            *failed_at = now;
            return again;
        }
        if self.failed.len() >= MESSAGES {
            self.failed.pop_front();
        }
        self.failed.push_back((delivery.message, now));
        true
    }

    fn fail(&mut self, now: Timestamp, delivery: &Delivery) {
        let stage = delivery.failed_stage();
        let first = || FailureRun::of(0, now, now, delivery.class, stage, delivery.summary.clone());
        let run = self.run.get_or_insert_with(first);
        run.failures = run.failures.saturating_add(1);
        run.until = now;
        run.class = delivery.class;
        run.stage = run.stage.max(stage);
        run.summary = delivery.summary.clone();
        run.classes = run.classes.iter().chain([delivery.class]).collect();
    }

    /// Forgets failures and a success that nothing has followed for long.
    pub(super) fn handle_timeout(&mut self, now: Timestamp, routing: &Routing) {
        let policy = &routing.deliveries;
        if self.run.as_ref().is_some_and(|run| lapses_at(run.until, policy) <= now) {
            self.run = None;
        }
        if self.throttled.as_ref().is_some_and(|run| lapses_at(run.until, policy) <= now) {
            self.throttled = None;
        }
        if self.last_success.is_some_and(|at| lapses_at(at, policy) <= now) {
            self.last_success = None;
        }
        if self.run.is_none() && !self.is_on_trial {
            self.breaker.handle(now, None, false, None, &routing.breaker);
        }
    }

    /// Takes note if the operator wants the backend to be tried although it has no share: then its breaker is open.
    // ADR-0119: Acquit at the depth of the accusation.
    pub(super) fn set_on_trial(&mut self, now: Timestamp, is_on_trial: bool, routing: &Routing) {
        self.is_on_trial = is_on_trial;
        if is_on_trial && self.breaker.open_since().is_none() {
            self.breaker = Breaker::opened(now, now, &routing.breaker);
        }
    }

    /// The policy of its breaker. What real mail has condemned is tried ever more rarely, down to once in a cooldown.
    fn breaker_policy(&self, routing: &Routing) -> BreakerPolicy {
        let longest = if self.is_on_trial { routing.deliveries.cooldown } else { Duration::ZERO };
        BreakerPolicy { longest_pause: routing.breaker.longest_pause.max(longest), ..routing.breaker }
    }

    /// Returns the time at which the next part of it lapses.
    pub(super) fn next_timeout(&self, policy: &DeliveryPolicy) -> Option<Timestamp> {
        let run = self.run.as_ref().map(|run| run.until);
        let throttled = self.throttled.as_ref().map(|run| run.until);
        let lapses = run.into_iter().chain(throttled).chain(self.last_success).map(|at| lapses_at(at, policy));
        lapses.chain(self.breaker.next_timeout()).min()
    }

    /// Returns the class of the verdict that the backend fails, if its failures are enough for that.
    fn condemned(&self, policy: &DeliveryPolicy) -> Option<EvidenceClass> {
        let run = self.run.as_ref()?;
        // An open breaker lets few messages fail: what counts is that trials do, for so long.
        let is_outage = self.breaker.is_outage() && run.until.since(run.since) >= policy.lasting;
        // What is condemned already is tried as rarely as failures lapse: each failed trial says that it goes on.
        let goes_on = self.is_on_trial && run.failures > 0;
        run.condemns(policy).or_else(|| (is_outage || goes_on).then_some(run.class))
    }

    /// Number of failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.run.as_ref().map_or(0, |run| run.failures)
    }

    /// The failures since the last success.
    pub(super) fn run(&self) -> Option<&FailureRun> {
        self.run.as_ref()
    }

    /// Returns the verdict on the backend; `None` if no delivery says enough.
    pub(super) fn verdict(&self, policy: &DeliveryPolicy) -> Option<TrafficVerdict> {
        let condemned = self.run.as_ref().and_then(|run| Some((self.condemned(policy)?, run)));
        if let Some((class, run)) = condemned {
            return Some(TrafficVerdict::Failing { class, run: run.clone() });
        }
        if let Some(run) = self.throttled.as_ref().filter(|run| run.is_long()) {
            return Some(TrafficVerdict::Throttled(run.clone()));
        }
        let at = self.last_success.filter(|_| self.run.is_none())?;
        Some(TrafficVerdict::Working { at })
    }

    /// True if it does not take mail: its breaker is open, or since then it has failed or asked for less, and nothing was
    /// taken afterwards.
    pub(super) fn fails_since(&self, since: Timestamp) -> bool {
        self.breaker.open_since().is_some()
            || self.run.as_ref().is_some_and(|run| run.until >= since)
            || self.throttled.as_ref().is_some_and(|run| run.until >= since)
    }

    /// True if the backend has asked for less mail within the last minute.
    pub(super) fn is_throttled(&self, now: Timestamp) -> bool {
        self.throttled_at.is_some_and(|at| now.since(at) < THROTTLED_FOR)
    }

    /// Time of the last success.
    pub(super) fn last_success(&self) -> Option<Timestamp> {
        self.last_success
    }
}

/// Returns true if a delivery shows that the backend does not take mail now.
pub(super) fn fails(delivery: &Delivery) -> bool {
    delivery.class.effect() == Effect::Failure || is_throttling(delivery)
}

/// Returns true if a backend asks for less mail. What it says to a log-in may be about the number of our own.
fn is_throttling(delivery: &Delivery) -> bool {
    let is_of_login = delivery.logged.as_ref().is_some_and(|reply| reply.answered == Some(Answered::Auth));
    delivery.class == EvidenceClass::Throttled && !is_of_login
}

/// Least time for which evidence counts, with a cooldown of nothing.
const LEAST: Duration = Duration::from_secs(1);

/// Returns the time at which evidence lapses. It lasts for the policy's cooldown, and long enough for a run to span its
/// least duration and for a trial to come.
fn lapses_at(at: Timestamp, policy: &DeliveryPolicy) -> Timestamp {
    at + policy.cooldown.max(policy.lasting * 2).max(LEAST)
}

/// Returns the start of an attempt: the earliest time that the rounded duration and the way through the log allow.
fn began_at(now: Timestamp, delivery: &Delivery) -> Timestamp {
    now - delivery.took - delivery.took / 20 - Duration::from_millis(10)
}

/// Returns the start of an attempt: the latest time that the rounded duration allows.
// A trial that ends must not count as one of the attempts before it: the next one would wait for minutes.
fn began_at_latest(now: Timestamp, delivery: &Delivery) -> Timestamp {
    now - delivery.took + delivery.took / 20 + Duration::from_millis(10)
}
