//! Reasons to leave a backend, and the holds that keep a route there.

use std::sync::Arc;
use std::time::Duration;

use super::decision::{DecisionBuilder, is_excluded};
use super::{Candidate, Eligibility, Health, Hold, HoldReason, TransitionReason, holds};
use crate::model::{EvidenceClass, Policy, Strategy, Timestamp, WhenNoneHealthy};

/// Longest hold after a storm.
// What looked like a storm may have been a coincidence, so long stays do not lengthen this.
// ADR-0017: After a storm the backend in use may recover first.
const MAX_STORM_SETTLING: Duration = Duration::from_mins(1);

/// A member that must not keep the mail, with the reason.
pub(super) struct Departure {
    pub(super) member: Arc<str>,
    reason: TransitionReason,
    first_evidence_at: Option<Timestamp>,
}

impl Departure {
    /// Returns true if the backend itself said that it cannot deliver.
    // An answer proves that our network works, so no standby has to confirm the failure.
    fn is_answered(&self) -> bool {
        matches!(self.reason, TransitionReason::Failed(class) if class.is_answer())
    }
}

impl DecisionBuilder<'_> {
    /// Members that must not keep the mail.
    // Unknown is not Unhealthy; an unusable object is no evidence; slowness forces nothing.
    pub(super) fn departures(&self) -> Vec<Departure> {
        self.members.iter().filter_map(|member| self.departure(member)).collect()
    }

    fn departure(&self, member: &Arc<str>) -> Option<Departure> {
        let (reason, first_evidence_at) = match self.find(member) {
            None => (TransitionReason::RemovedFromRoute, None),
            Some(candidate) => match (candidate.eligibility, candidate.health) {
                (Eligibility::Excluded(_), _) => (TransitionReason::Excluded, None),
                (Eligibility::Suspended, _) => (TransitionReason::Suspended, None),
                (Eligibility::InService, Health::Unhealthy) => {
                    (TransitionReason::Failed(candidate.class), candidate.first_failure_at)
                }
                (Eligibility::InService, Health::Healthy | Health::Degraded | Health::Unknown)
                | (Eligibility::Unusable, _) => return None,
            },
        };
        Some(Departure { member: member.clone(), reason, first_evidence_at })
    }

    /// Leaves `departures`. Cooldown, minimum stay and soak do not hold such a move.
    pub(super) fn leave(&mut self, policy: &Policy, departures: &[Departure]) {
        let leaving: Vec<&Arc<str>> = departures.iter().map(|departure| &departure.member).collect();
        let staying: Vec<_> = self.members.iter().filter(|member| !leaving.contains(member)).cloned().collect();
        let can_stay = staying.iter().filter_map(|name| self.find(name)).any(Candidate::is_eligible);
        let telling = departures.iter().min_by_key(|departure| self.rank(&departure.member));
        let Some(telling) = telling else { return };
        let has_failed = matches!(telling.reason, TransitionReason::Failed(_));

        let mut targets = self.ranked.clone();
        targets.retain(|candidate| candidate.is_eligible() && !leaving.contains(&&candidate.name));
        if can_stay {
            targets.retain(|candidate| staying.contains(&candidate.name));
        }
        // Slow backends come after all sound ones; any is better than none.
        targets.sort_by_key(|candidate| candidate.health != Health::Healthy);
        if has_failed {
            if self.situation.is_storm {
                return self.hold(Hold::open(HoldReason::StormBrake));
            }
            if let Some(until) = self.storm_settles_at(policy, &targets) {
                return self.hold(Hold::until(HoldReason::StormBrake, until));
            }
        }
        if targets.is_empty() {
            return self.nowhere_to_go(policy, telling);
        }
        // A ramp whose old side fails is over; the failback it belongs to is decided already.
        if can_stay && self.situation.strategy == Strategy::ActivePassive && self.members.first() == staying.first() {
            self.members = staying;
            self.memory.ramp = None;
            return;
        }
        if has_failed {
            let began_at = departures
                .iter()
                .filter(|departure| !departure.is_answered())
                .filter_map(|departure| departure.first_evidence_at)
                .min();
            if let Some(began_at) = began_at {
                // ADR-0031: A leader does not take its peers' word for a standby: `confirmed_at` is of its own probes.
                targets.retain(|candidate| candidate.confirmed_at.is_some_and(|at| at >= began_at));
            }
            if targets.is_empty() {
                // ADR-0015: A standby must have answered since the failure began.
                return self.hold(Hold::open(HoldReason::AwaitingConfirmation));
            }
            if let Some(hold) = holds::budget(policy, &self.memory, self.now(), true) {
                return self.hold(hold);
            }
        }
        let members = match self.situation.strategy {
            Strategy::ActivePassive => targets.iter().take(1).map(|target| target.name.clone()).collect(),
            Strategy::ActiveActive if can_stay => staying,
            Strategy::ActiveActive => {
                let is_sound = targets.first().is_some_and(|target| target.is_sound());
                let alike = targets.iter().filter(|target| target.is_sound() == is_sound);
                alike.map(|target| target.name.clone()).collect()
            }
        };
        let first_evidence_at = telling.first_evidence_at;
        self.move_to(members, Some(&telling.member), telling.reason, first_evidence_at);
    }

    /// Returns the end of the storm hold: after a storm the active backend has `hold.minimumStay` to recover, so that
    /// the first backend to return takes no mail by chance.
    fn storm_settles_at(&self, policy: &Policy, targets: &[&Candidate]) -> Option<Timestamp> {
        if self.before.held_by != Some(HoldReason::StormBrake) {
            return None;
        }
        let settles_at =
            targets.iter().map(|target| target.since).min()? + policy.hold.minimum_stay.min(MAX_STORM_SETTLING);
        (settles_at > self.now()).then_some(settles_at)
    }

    fn nowhere_to_go(&mut self, policy: &Policy, telling: &Departure) {
        self.hold(Hold::open(HoldReason::NoneHealthy));
        // The lead is suspended but can deliver, and no other backend can: mail that leaves is better than mail that waits.
        if self.lead().is_some_and(|lead| lead.health != Health::Unhealthy && !is_excluded(lead)) {
            return;
        }
        let preferred = self.ranked.iter().find(|candidate| candidate.eligibility == Eligibility::InService).copied();
        let Some(preferred) = preferred.filter(|preferred| self.members.first() != Some(&preferred.name)) else {
            return;
        };
        match policy.when_none_healthy {
            WhenNoneHealthy::Hold => {}
            WhenNoneHealthy::Preferred => {
                if let Some(hold) = self.unforced_hold(policy) {
                    return self.hold(hold);
                }
                let evidence = telling.first_evidence_at;
                self.move_to(vec![preferred.name.clone()], None, TransitionReason::NoneHealthy, evidence);
                self.hold(Hold::open(HoldReason::NoneHealthy));
            }
        }
    }

    /// Returns the hold that keeps a move that nothing forces.
    fn unforced_hold(&self, policy: &Policy) -> Option<Hold> {
        let comfort = holds::comfort(policy, &self.memory);
        let comfort = Some(comfort).filter(|hold| hold.until.is_some_and(|until| until > self.now()));
        let budget = holds::budget(policy, &self.memory, self.now(), false);
        [comfort, budget]
            .into_iter()
            .flatten()
            .reduce(|latest, hold| if hold.until > latest.until { hold } else { latest })
    }

    /// Leaves members that answer too slowly, if a sound backend can take over and no hold is in force. Returns true
    /// if any member is slow.
    pub(super) fn escape_slowness(&mut self, policy: &Policy) -> bool {
        let (slow, quick): (Vec<_>, Vec<_>) =
            self.members.iter().filter_map(|name| self.find(name)).partition(|member| is_slow(member));
        let Some(slowest) = slow.first() else { return false };
        let sound = self.ranked.iter().filter(|candidate| candidate.is_sound());
        let sound = sound.map(|candidate| candidate.name.clone());
        let members: Vec<_> = match self.situation.strategy {
            // Half way through a return the old side is still there.
            Strategy::ActivePassive if self.members.first() != Some(&slowest.name) => return false,
            Strategy::ActivePassive => sound.take(1).collect(),
            Strategy::ActiveActive if quick.is_empty() => sound.collect(),
            Strategy::ActiveActive => quick.iter().map(|candidate| candidate.name.clone()).collect(),
        };
        if members.is_empty() {
            return false;
        }
        if let Some(hold) = self.unforced_hold(policy) {
            self.hold(hold);
        } else {
            let reason = TransitionReason::Failed(slowest.class);
            self.move_to(members, Some(&slowest.name), reason, Some(slowest.since));
        }
        true
    }
}

fn is_slow(candidate: &Candidate) -> bool {
    candidate.eligibility == Eligibility::InService
        && candidate.health == Health::Degraded
        && candidate.class == EvidenceClass::Slow
}
