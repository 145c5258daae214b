//! Failure of calls to something outside the cluster, and its form in a status.

use std::time::Duration;

use mail_failover_api::OutputFailure;
use mail_failover_core::model::Timestamp;

use crate::text::{MAX_MESSAGE, truncated};
use crate::time::{micro_time, timestamp};

/// Failure of calls since the last one that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// Time of the first of them.
    pub since: Timestamp,
    /// Reason of the latest one, for people.
    pub message: String,
    /// End of the pause after the latest one; `None` without a pause.
    pub retry_at: Option<Timestamp>,
    /// Time until which the other side has asked for patience.
    pub not_before: Option<Timestamp>,
}

impl CallFailure {
    /// The failure that a status remembers. A pause that the other side has asked for goes on.
    pub fn restored(failure: &OutputFailure) -> Self {
        let not_before = failure.not_before.as_ref().map(timestamp);
        Self { since: timestamp(&failure.since), message: failure.message.clone(), retry_at: not_before, not_before }
    }

    /// One more failure after an earlier one, or the first. It has no pause.
    #[must_use]
    pub fn following(earlier: Option<&Self>, now: Timestamp, message: &str) -> Self {
        let since = earlier.map_or(now, |earlier| earlier.since);
        Self { since, message: truncated(message, MAX_MESSAGE), retry_at: None, not_before: None }
    }

    /// Begins a pause until `retry_at`, and longer if the other side has asked for that.
    pub fn pause(&mut self, retry_at: Timestamp, not_before: Option<Timestamp>) {
        self.retry_at = Some(not_before.map_or(retry_at, |not_before| not_before.max(retry_at)));
        self.not_before = not_before;
    }

    /// Ends the pause, but for one that the other side has asked for.
    pub fn end_pause(&mut self) {
        self.retry_at = self.not_before;
    }

    /// End of the pause, if it is not over.
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.retry_at.filter(|at| *at > now)
    }

    /// Returns true if it has lasted for so long.
    pub fn has_lasted(&self, duration: Duration, now: Timestamp) -> bool {
        self.since + duration <= now
    }

    /// Time at which it will have lasted for so long, if it has not yet.
    pub fn lasts_at(&self, duration: Duration, now: Timestamp) -> Option<Timestamp> {
        Some(self.since + duration).filter(|at| *at > now)
    }

    /// The failure as a status remembers it.
    pub fn status(&self) -> OutputFailure {
        OutputFailure {
            since: micro_time(self.since),
            message: self.message.clone(),
            not_before: self.not_before.map(micro_time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_A_MINUTE: Duration = Duration::from_secs(30);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn failures_in_a_row_are_one_failure_with_the_latest_message() {
        let mut first = CallFailure::following(None, at(10), "refused");
        first.pause(at(11), None);
        let second = CallFailure::following(Some(&first), at(12), "no answer");
        assert_eq!((second.since, second.message.as_str(), second.retry_at), (at(10), "no answer", None));
        assert!(!second.has_lasted(HALF_A_MINUTE, at(39)) && second.has_lasted(HALF_A_MINUTE, at(40)));
        assert_eq!(
            (second.lasts_at(HALF_A_MINUTE, at(39)), second.lasts_at(HALF_A_MINUTE, at(40))),
            (Some(at(40)), None)
        );
    }

    #[test]
    fn a_pause_that_the_other_side_asks_for_outlasts_ours_and_a_restart() {
        let mut failure = CallFailure::following(None, at(10), "429");
        failure.pause(at(11), Some(at(70)));
        assert_eq!((failure.paused_until(at(69)), failure.paused_until(at(70))), (Some(at(70)), None));
        failure.end_pause();
        assert_eq!(failure.paused_until(at(12)), Some(at(70)));
        assert_eq!(CallFailure::restored(&failure.status()), failure);

        let mut ours = CallFailure::following(None, at(10), "refused");
        ours.pause(at(15), Some(at(12)));
        assert_eq!(ours.paused_until(at(13)), Some(at(15)), "the longer of both");
        ours.end_pause();
        assert_eq!(ours.paused_until(at(13)), None);
    }

    #[test]
    fn a_message_fits_into_the_schema() {
        let failure = CallFailure::following(None, at(0), &"x".repeat(2 * MAX_MESSAGE));
        assert!(failure.message.len() <= MAX_MESSAGE);
    }
}
