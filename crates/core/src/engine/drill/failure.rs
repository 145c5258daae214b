//! The simulated failure: looks at the intervals of the backend's probe that all fail, judged by the policy.

use std::time::Duration;

use crate::engine::{Candidate, Confirmation, ConfirmationRule, Health, Judgement, Look, Observation};
use crate::model::{Effect, EvidenceClass, Stage, Thresholds, Timestamp};

/// Evidence of the simulated failure. It is no answer, so that a standby has to confirm it, as after most real ones.
pub(super) const CLASS: EvidenceClass = EvidenceClass::ConnectionRefused;

/// State of the simulated failure.
// Worked out anew from its start each time: nothing of it is lost by a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SimulatedFailure {
    /// Time at which the backend counts as Unhealthy; `None` before it.
    pub(super) detected_at: Option<Timestamp>,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Time of the next look, while it is not detected.
    pub(super) next: Option<Timestamp>,
}

impl SimulatedFailure {
    /// Returns what the thresholds make of looks that fail since `started_at`, as the prober would make them.
    pub(super) fn of(
        thresholds: &Thresholds,
        interval: Option<Duration>,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        // Without a probe nobody would see a failure.
        let Some(interval) = interval.filter(|interval| !interval.is_zero()) else {
            return Self { detected_at: None, failures: 0, next: None };
        };
        let rule = ConfirmationRule::of([thresholds], interval);
        let mut confirmation = Confirmation::default();
        let mut judgement = Judgement::restored(Health::Healthy, started_at, EvidenceClass::Ok, "");
        judgement.demand(thresholds.must_last(interval));
        let (mut due, mut sequence) = (started_at, 0);
        loop {
            let at = confirmation.next().map_or(due, |look: Timestamp| look.min(due));
            if at > now {
                return Self { detected_at: None, failures: judgement.failures(), next: Some(at) };
            }
            confirmation.begin(at);
            let is_look = at < due;
            if !is_look {
                due = due + interval;
            }
            sequence += 1;
            let look = Look { started: at, effect: Effect::Failure, stage: Stage::Connect };
            confirmation.observe(&rule, interval, look, at);
            due = confirmation.align(due, interval);
            judgement.observe(
                thresholds,
                Observation {
                    sequence,
                    started_at: at,
                    finished_at: at,
                    class: CLASS,
                    latency: None,
                    is_before_login: true,
                    is_extra: is_look,
                    message: "",
                },
            );
            if judgement.health == Health::Unhealthy {
                return Self { detected_at: Some(at), failures: judgement.failures(), next: None };
            }
        }
    }

    /// Puts the failure into the evidence about a candidate.
    pub(super) fn show_in(&self, candidate: &mut Candidate, started_at: Timestamp) {
        candidate.health = Health::Unhealthy;
        candidate.since = self.detected_at.unwrap_or(started_at);
        candidate.class = CLASS;
        candidate.first_failure_at = Some(started_at);
        candidate.first_evidence_at = Some(started_at);
        candidate.confirmed_at = None;
        candidate.answered_at = None;
        candidate.is_recovering = false;
        candidate.failures = self.failures;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn detected(failure: u32, lasting: Option<u64>, interval: u64) -> i64 {
        let lasting = lasting.map(Duration::from_secs);
        let thresholds = Thresholds { failure, lasting, ..Thresholds::default() };
        let interval = Some(Duration::from_secs(interval));
        let seen = SimulatedFailure::of(&thresholds, interval, at(0), at(3_600_000));
        let detected_at = seen.detected_at.unwrap();
        // Not sooner than it is told, and from then on for ever.
        let before = SimulatedFailure::of(&thresholds, interval, at(0), detected_at - Duration::from_micros(1));
        assert_eq!(before.detected_at, None);
        assert!(before.next.is_some_and(|next| next <= detected_at));
        detected_at.as_micros() / 1000
    }

    #[test]
    fn a_simulated_failure_is_detected_when_a_real_one_would_be() {
        // Six rounds ten seconds apart, the last one with the end of the time.
        assert_eq!(detected(6, None, 10), 50_005);
        assert_eq!(detected(1, Some(0), 10), 0);
        // Looks at once after the first failure.
        assert_eq!(detected(3, Some(0), 10), 200);
        assert_eq!(detected(6, Some(5), 10), 5005);
    }

    #[test]
    fn what_is_not_probed_is_never_seen_to_fail() {
        let seen = SimulatedFailure::of(&Thresholds::default(), None, at(0), at(3_600_000));
        assert_eq!((seen.detected_at, seen.next), (None, None));
    }
}
