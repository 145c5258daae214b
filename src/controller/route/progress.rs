//! Progress of an output outside the cluster: the state that a decision wants there, the state that was reached, the call
//! under way, and the failure of calls.
//!
//! Pure. Webhooks and DNS records share it. What a call is, and when one is made without a failure before it, is theirs.

use std::time::Duration;

use mail_failover_api::{MailRouteStatus, OutputShare, OutputStatus};
use mail_failover_core::model::Timestamp;
use mail_failover_resolve::time::{micro_time, timestamp};
use mail_failover_resolve::{CallFailure, Rejection};
use mail_failover_runtime::backoff::Backoff;

/// State to which an output is to be led.
pub(super) trait DesiredState {
    /// Its name in `status.outputs`: equal states have equal names.
    fn name(&self) -> String;

    /// The backends that the output leads to in this state.
    fn active(&self) -> Vec<OutputShare>;
}

/// Progress of one output.
#[derive(Debug)]
pub(super) struct Progress<D> {
    wanted: Option<D>,
    reached: Option<ReachedState>,
    /// Number of the call under way, and the state that it is for.
    under_way: Option<(u64, D)>,
    failure: Option<OutputCallFailure>,
    backoff: Backoff,
}

/// State that an output was seen to have.
#[derive(Clone, Debug, PartialEq)]
struct ReachedState {
    name: String,
    active: Vec<OutputShare>,
    at: Timestamp,
}

/// Failure of the calls of one output, with the reason for its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutputCallFailure {
    pub(super) reason: &'static str,
    pub(super) calls: CallFailure,
}

/// State of all outputs of one kind, or of those that are awaited.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ProgressState {
    /// Every output is in the state that is wanted, or none is wanted yet.
    Applied,
    /// Names of the outputs that are not.
    Pending(Vec<String>),
    /// Outputs whose calls have failed for a while.
    Failing(Vec<Rejection>),
}

impl ProgressState {
    /// The state of outputs of which these are pending and those fail.
    pub(super) fn of(pending: Vec<String>, failing: Vec<Rejection>) -> Self {
        match (failing.is_empty(), pending.is_empty()) {
            (false, _) => Self::Failing(failing),
            (true, false) => Self::Pending(pending),
            (true, true) => Self::Applied,
        }
    }

    /// The state of these outputs and of others.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        let (mut pending, mut failing) = (vec![], vec![]);
        for state in [self, other] {
            match state {
                Self::Applied => {}
                Self::Pending(names) => pending.extend(names),
                Self::Failing(rejections) => failing.extend(rejections),
            }
        }
        Self::of(pending, failing)
    }
}

/// The entry of `status.outputs` for one output, as it was written last.
pub(super) fn remembered<'a>(before: Option<&'a MailRouteStatus>, kind: &str, name: &str) -> Option<&'a OutputStatus> {
    before?.outputs.iter().find(|output| output.kind == kind && output.name == name)
}

impl<D: DesiredState> Progress<D> {
    /// The progress of an output of which nothing is known, with the shortest and the longest pause after a failure.
    pub(super) fn new(first_pause: Duration, longest_pause: Duration) -> Self {
        Self {
            wanted: None,
            reached: None,
            under_way: None,
            failure: None,
            backoff: Backoff::new(first_pause, longest_pause),
        }
    }

    /// Takes over what a status remembers. `reason` is that of a failure.
    #[must_use]
    pub(super) fn restored(mut self, status: &OutputStatus, reason: &'static str) -> Self {
        self.reached = status.applied.clone().zip(status.applied_at.as_ref()).map(|(name, at)| ReachedState {
            name,
            active: status.active.clone(),
            at: timestamp(at),
        });
        let calls = status.failure.as_ref().map(CallFailure::restored);
        self.failure = calls.map(|calls| OutputCallFailure { reason, calls });
        self
    }

    /// The state that is wanted.
    pub(super) fn wanted(&self) -> Option<&D> {
        self.wanted.as_ref()
    }

    /// Name of the state that was reached last.
    pub(super) fn reached(&self) -> Option<&str> {
        self.reached.as_ref().map(|reached| reached.name.as_str())
    }

    /// The failure since the last call that succeeded.
    pub(super) fn failure(&self) -> Option<&OutputCallFailure> {
        self.failure.as_ref()
    }

    /// Returns true if the output is in the state that is wanted, or none is wanted yet.
    pub(super) fn is_applied(&self) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| self.reached() == Some(wanted.name().as_str()))
    }

    /// Returns true if a call is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Notes another state that is wanted. It waits for no pause, but for one that the other side has asked for.
    pub(super) fn want(&mut self, wanted: D) {
        self.wanted = Some(wanted);
        if let Some(failure) = &mut self.failure {
            failure.calls.end_pause();
        }
    }

    /// Forgets how long the pauses have become.
    pub(super) fn reset_backoff(&mut self) {
        self.backoff.reset();
    }

    /// Notes that a call has begun.
    pub(super) fn begun(&mut self, number: u64, desired: D) {
        self.under_way = Some((number, desired));
    }

    /// Notes the end of a call. Returns the state that it was for; `None` if it is not the call under way.
    pub(super) fn ended(&mut self, number: u64) -> Option<D> {
        self.under_way.take_if(|(under_way, _)| *under_way == number).map(|(_, desired)| desired)
    }

    /// Notes that the output has been seen in this state.
    pub(super) fn reach(&mut self, now: Timestamp, desired: &D) {
        self.reached = Some(ReachedState { name: desired.name(), active: desired.active(), at: now });
    }

    /// Ends a failure.
    pub(super) fn succeed(&mut self) {
        self.failure = None;
        self.backoff.reset();
    }

    /// Notes a failure without a pause.
    pub(super) fn fail(&mut self, now: Timestamp, reason: &'static str, message: &str) -> &mut CallFailure {
        let earlier = self.failure.as_ref().map(|failure| &failure.calls);
        let calls = CallFailure::following(earlier, now, message);
        &mut self.failure.insert(OutputCallFailure { reason, calls }).calls
    }

    /// End of the pause after one more call that failed now. `random` is a number from 0 to 1.
    pub(super) fn next_attempt(&mut self, now: Timestamp, random: f64) -> Timestamp {
        now + self.backoff.after_failure_with(random)
    }

    /// End of the pause after a failure, if it is not over.
    pub(super) fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.failure.as_ref()?.calls.paused_until(now)
    }

    /// The entry of `status.outputs`.
    pub(super) fn status(&self, kind: &str, name: &str, destination: String) -> OutputStatus {
        let reached = self.reached.as_ref();
        OutputStatus {
            kind: kind.to_owned(),
            name: name.to_owned(),
            active: reached.map(|reached| reached.active.clone()).unwrap_or_default(),
            destination: Some(destination),
            wanted: self.wanted.as_ref().map(DesiredState::name),
            applied: reached.map(|reached| reached.name.clone()),
            applied_at: reached.map(|reached| micro_time(reached.at)),
            failure: self.failure.as_ref().map(|failure| failure.calls.status()),
        }
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
