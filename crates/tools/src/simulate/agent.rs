//! Agent beside an MTA, as far as a simulation needs one: it judges deliveries by the policy, tries what it has
//! condemned again, ever more rarely, and reports. Pure.

use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::engine::THROTTLED_ONLY;
use mail_failover_core::model::{
    DeliveryStage, DeliveryVerdict, Effect, EvidenceClass, FailingDeliveries, Policy, Stage, ThrottledDeliveries,
    Timestamp,
};

/// Reply that a message meets.
#[derive(Clone, Debug)]
pub(super) struct MetReply {
    pub(super) class: EvidenceClass,
    pub(super) stage: DeliveryStage,
    pub(super) message: Arc<str>,
}

impl MetReply {
    /// Returns true if it asks for less mail. What is said to a log-in may be about the number of our own.
    fn is_throttling(&self) -> bool {
        self.class == EvidenceClass::Throttled && self.stage != DeliveryStage::Session(Stage::Auth)
    }
}

/// Least time for which evidence counts, with a cooldown of nothing.
const LEAST: Duration = Duration::from_secs(1);

/// Deliveries of one backend, as the agent sees them.
#[derive(Clone, Debug, Default)]
pub(super) struct BackendMail {
    failures: u32,
    first_failure_at: Option<Timestamp>,
    condemned: Option<Condemned>,
    throttled: Option<ThrottledRun>,
}

/// Replies that ask for less, without a success between them.
#[derive(Clone, Copy, Debug)]
struct ThrottledRun {
    since: Timestamp,
    until: Timestamp,
    lapses_at: Timestamp,
}

impl ThrottledRun {
    /// Returns true if a backend that does nothing else counts as Degraded.
    fn is_long(self) -> bool {
        self.until.since(self.since) >= THROTTLED_ONLY
    }
}

#[derive(Clone, Copy, Debug)]
struct Condemned {
    failed_trials: u32,
    next_trial_at: Timestamp,
}

impl BackendMail {
    /// A message has been refused. Returns the verdict to report, if it is one.
    pub(super) fn refused(&mut self, now: Timestamp, reply: &MetReply, policy: &Policy) -> Option<DeliveryVerdict> {
        if reply.is_throttling() {
            return self.throttled(now, reply, policy);
        }
        if reply.class.effect() != Effect::Failure {
            return None;
        }
        let first_failure_at = *self.first_failure_at.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        let thresholds = policy.deliveries;
        let in_a_row = self.failures >= thresholds.consecutive && now.since(first_failure_at) >= thresholds.lasting;
        if self.condemned.is_none() && !in_a_row && !policy.thresholds.immediate.contains(reply.class) {
            return None;
        }
        if let Some(condemned) = self.condemned.as_mut().filter(|condemned| condemned.next_trial_at <= now) {
            condemned.failed_trials = condemned.failed_trials.saturating_add(1);
            condemned.next_trial_at = now + pause(condemned.failed_trials, policy);
        }
        self.condemned.get_or_insert(Condemned { failed_trials: 0, next_trial_at: now + pause(0, policy) });
        let MetReply { class, stage, message } = reply.clone();
        let stage = Some(stage);
        Some(DeliveryVerdict::Failing(FailingDeliveries {
            class,
            message,
            first_failure_at,
            last_failure_at: now,
            stage,
        }))
    }

    /// A message was asked to come later. Returns the verdict to report, if it is one.
    fn throttled(&mut self, now: Timestamp, reply: &MetReply, policy: &Policy) -> Option<DeliveryVerdict> {
        self.throttled.take_if(|run| run.lapses_at <= now);
        let run = self.throttled.get_or_insert(ThrottledRun { since: now, until: now, lapses_at: now });
        (run.until, run.lapses_at) = (now, now + policy.hold.cooldown.max(policy.deliveries.lasting * 2).max(LEAST));
        // What has failed is told first.
        run.is_long().then_some(*run).filter(|_| self.condemned.is_none()).map(|run| {
            let message = reply.message.clone();
            DeliveryVerdict::Throttled(ThrottledDeliveries { message, first_at: run.since, last_at: run.until })
        })
    }

    /// A message has been taken. Returns the verdict to report, if it is one.
    pub(super) fn taken(&mut self) -> Option<DeliveryVerdict> {
        (self.failures, self.first_failure_at) = (0, None);
        let was_throttled = self.throttled.take().is_some_and(ThrottledRun::is_long);
        (self.condemned.take().is_some() || was_throttled).then_some(DeliveryVerdict::Passing)
    }

    /// Returns true while the latest messages were asked to come later.
    pub(super) fn is_throttled(&self, now: Timestamp) -> bool {
        self.throttled.is_some_and(|run| now < run.lapses_at)
    }

    /// Time at which one message tries the backend again, which has condemned it.
    pub(super) fn next_trial_at(&self) -> Option<Timestamp> {
        self.condemned.map(|condemned| condemned.next_trial_at)
    }
}

/// Returns the pause after this number of failed trials, as a breaker of the agent keeps it.
fn pause(failed_trials: u32, policy: &Policy) -> Duration {
    let longest = policy.breaker.longest_pause.max(policy.hold.cooldown);
    policy.breaker.first_pause.saturating_mul(1 << failed_trials.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn asks_for_less(stage: DeliveryStage) -> MetReply {
        MetReply { class: EvidenceClass::Throttled, stage, message: "454 too fast".into() }
    }

    /// The seconds at which a backend is reported as throttled that says nothing else, every 10 s of some minutes.
    fn reported(mail: &mut BackendMail, reply: &MetReply, seconds: std::ops::Range<i64>) -> Vec<i64> {
        let policy = Policy::default();
        let mut reported = vec![];
        for second in seconds.step_by(10) {
            match mail.refused(at(second), reply, &policy) {
                Some(DeliveryVerdict::Throttled(run)) => {
                    assert_eq!(run.last_at, at(second));
                    reported.push(second);
                }
                None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        reported
    }

    #[test]
    fn nothing_but_throttling_is_reported_after_five_minutes_and_a_success_ends_it() {
        let reply = asks_for_less(DeliveryStage::Data);
        let mut mail = BackendMail::default();
        assert_eq!(reported(&mut mail, &reply, 0..321), [300, 310, 320]);
        assert_eq!(mail.taken(), Some(DeliveryVerdict::Passing));
        assert_eq!((mail.taken(), mail.is_throttled(at(321))), (None, false));
        assert_eq!(reported(&mut mail, &reply, 330..630), Vec::<i64>::new());
        assert_eq!(reported(&mut mail, &reply, 630..631), [630]);
        // A run that nothing has followed for the cooldown is over.
        assert_eq!(reported(&mut mail, &reply, 9000..9290), Vec::<i64>::new());
    }

    #[test]
    fn what_is_said_to_a_login_is_no_throttling_of_mail() {
        let mut mail = BackendMail::default();
        assert_eq!(reported(&mut mail, &asks_for_less(DeliveryStage::Session(Stage::Auth)), 0..900), Vec::<i64>::new());
    }
}
