//! Agent beside an MTA, as far as a simulation needs one: it judges deliveries by the policy, tries what it has
//! condemned again, ever more rarely, and reports. Pure.

use std::sync::Arc;

use mail_failover_core::model::{
    DeliveryStage, DeliveryVerdict, Effect, EvidenceClass, FailingDeliveries, Policy, Timestamp,
};

/// Reply that a message meets.
#[derive(Clone, Debug)]
pub(super) struct MetReply {
    pub(super) class: EvidenceClass,
    pub(super) stage: DeliveryStage,
    pub(super) message: Arc<str>,
}

/// Deliveries of one backend, as the agent sees them.
#[derive(Clone, Debug, Default)]
pub(super) struct BackendMail {
    failures: u32,
    first_failure_at: Option<Timestamp>,
    condemned: Option<Condemned>,
}

#[derive(Clone, Copy, Debug)]
struct Condemned {
    failed_trials: u32,
    next_trial_at: Timestamp,
}

impl BackendMail {
    /// A message has been refused. Returns the verdict to report, if it is one.
    pub(super) fn refused(&mut self, now: Timestamp, reply: &MetReply, policy: &Policy) -> Option<DeliveryVerdict> {
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

    /// A message has been taken. Returns the verdict to report, if it is one.
    pub(super) fn taken(&mut self) -> Option<DeliveryVerdict> {
        (self.failures, self.first_failure_at) = (0, None);
        self.condemned.take().map(|_| DeliveryVerdict::Passing)
    }

    /// Time at which one message tries the backend again, which has condemned it.
    pub(super) fn next_trial_at(&self) -> Option<Timestamp> {
        self.condemned.map(|condemned| condemned.next_trial_at)
    }
}

/// Returns the pause after this number of failed trials, as a breaker of the agent keeps it.
fn pause(failed_trials: u32, policy: &Policy) -> std::time::Duration {
    let longest = policy.breaker.longest_pause.max(policy.hold.cooldown);
    policy.breaker.first_pause.saturating_mul(1 << failed_trials.min(16)).min(longest)
}
