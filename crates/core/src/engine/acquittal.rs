//! Accusations by real mail, and what refutes one: a success at the stage where the mail failed, or beyond. Pure.

use crate::model::{DeliveryStage, Stage, Timestamp};

/// Time without a delivery after which no message seems to try a backend that real mail has condemned: a person has to.
pub(super) const UNTRIED: std::time::Duration = std::time::Duration::from_hours(24);

/// Failure of real mail at a stage. It stands until a success at that stage or beyond.
///
/// A paused account refuses at DATA, where no probe looks. Without this, its route would return and fail again for as
/// long as the account is paused.
// ADR-0119: Acquit at the depth of the accusation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accusation {
    stage: DeliveryStage,
    failed_at: Timestamp,
    /// True once a probe has succeeded at that stage or beyond, after the latest failure.
    is_refuted: bool,
}

impl Accusation {
    /// Creates one for mail that failed last at `failed_at`.
    pub(super) fn new(stage: DeliveryStage, failed_at: Timestamp) -> Self {
        Self { stage, failed_at, is_refuted: false }
    }

    /// Takes a further failure into account. The deepest stage of all counts.
    pub(super) fn renew(&mut self, stage: DeliveryStage, failed_at: Timestamp) {
        if failed_at > self.failed_at || stage > self.stage {
            self.is_refuted = false;
        }
        self.failed_at = self.failed_at.max(failed_at);
        self.stage = self.stage.max(stage);
    }

    /// Takes the success of a probe into account that was begun at `started_at` and came as far as `stage`.
    pub(super) fn probe_succeeded(&mut self, stage: Stage, started_at: Timestamp) {
        if started_at > self.failed_at && DeliveryStage::Session(stage) >= self.stage {
            self.is_refuted = true;
        }
    }

    /// The deepest stage at which mail failed.
    pub(super) fn stage(&self) -> DeliveryStage {
        self.stage
    }

    /// True if no probe has refuted it.
    pub(super) fn stands(&self) -> bool {
        !self.is_refuted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn only_a_later_success_at_that_stage_or_beyond_refutes() {
        let accused = Accusation::new(DeliveryStage::Session(Stage::Mail), at(10));
        for (stage, started, refutes) in [
            (Stage::Banner, 20, false),
            (Stage::Auth, 20, false),
            (Stage::Mail, 10, false),
            (Stage::Mail, 11, true),
            (Stage::Recipient, 11, true),
        ] {
            let mut accused = accused;
            accused.probe_succeeded(stage, at(started));
            assert_eq!(!accused.stands(), refutes, "{stage:?} {started}");
        }
        let mut of_message = Accusation::new(DeliveryStage::Data, at(10));
        of_message.probe_succeeded(Stage::Recipient, at(20));
        assert!(of_message.stands(), "no probe sends a message");
    }

    #[test]
    fn a_further_failure_revives_it_at_the_deepest_stage() {
        let mut accused = Accusation::new(DeliveryStage::Session(Stage::Auth), at(10));
        accused.probe_succeeded(Stage::Auth, at(11));
        accused.renew(DeliveryStage::Session(Stage::Auth), at(10));
        assert!(!accused.stands(), "the same failure again");
        accused.renew(DeliveryStage::Session(Stage::Banner), at(12));
        assert!(accused.stands());
        accused.probe_succeeded(Stage::Banner, at(13));
        assert!(accused.stands(), "it has failed at AUTH as well");
        accused.renew(DeliveryStage::Data, at(12));
        assert_eq!(accused.stage(), DeliveryStage::Data);
    }
}
