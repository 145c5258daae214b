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
    /// True if the backend is Unhealthy.
    is_dead: bool,
    /// True if it has answered since, and has not failed anew for as long as it takes to fail.
    is_recovering: bool,
    /// Start of the failure by our own clock, if the backend is dead.
    failing_since: Timestamp,
    /// Standbys that a believed peer has seen answer since it saw the failure begin.
    confirmed: Vec<Arc<str>>,
}

impl Departure {
    /// Returns true if the route must not use the backend any more.
    pub(super) fn is_exclusion(&self) -> bool {
        self.reason == TransitionReason::Excluded
    }

    fn has_failed(&self) -> bool {
        matches!(self.reason, TransitionReason::Failed(_))
    }

    /// Returns true if the backend itself said that it cannot deliver.
    // An answer proves that our network works, so no standby has to confirm the failure.
    fn is_answered(&self) -> bool {
        matches!(self.reason, TransitionReason::Failed(class) if class.is_answer())
    }

    /// Returns true if the standby has answered since the failure began: us, or a peer that is believed and sees the
    /// failure, each by its own clock.
    // ADR-0081: Peers confirm a standby for the failure that they see.
    fn is_confirmed_by(&self, standby: &Candidate) -> bool {
        standby.confirmed_at.is_some_and(|at| at >= self.failing_since) || self.confirmed.contains(&standby.name)
    }
}

impl<'a> DecisionBuilder<'a> {
    /// Members that must not keep the mail.
    // Unknown is not Unhealthy; slowness forces nothing. What answers every probe again is left for a better one only.
    pub(super) fn departures(&self) -> Vec<Departure> {
        self.members.iter().filter_map(|member| self.departure(member)).collect()
    }

    fn departure(&self, member: &Arc<str>) -> Option<Departure> {
        let candidate = self.find(member);
        let reason = match candidate {
            None => TransitionReason::RemovedFromRoute,
            Some(candidate) => match (candidate.eligibility, candidate.health) {
                (Eligibility::Excluded(_), _) => TransitionReason::Excluded,
                (Eligibility::Suspended, _) => TransitionReason::Suspended,
                (Eligibility::InService, Health::Unhealthy)
                    if candidate.is_answering_again() && !self.is_after_storm() && !self.is_any_able_but(candidate) =>
                {
                    return None;
                }
                // One whose object is gone is probed on as long as this process knows it.
                (Eligibility::InService | Eligibility::Unusable, Health::Unhealthy) => {
                    TransitionReason::Failed(candidate.class)
                }
                (Eligibility::Unusable, _) if self.unusable_until().is_some_and(|until| until <= self.now()) => {
                    TransitionReason::Unusable
                }
                (Eligibility::InService, Health::Unknown) => self.unseen(candidate)?,
                (Eligibility::InService, Health::Healthy | Health::Degraded) | (Eligibility::Unusable, _) => {
                    return None;
                }
            },
        };
        let failed = candidate.filter(|_| matches!(reason, TransitionReason::Failed(_)));
        let dead = candidate.filter(|candidate| candidate.is_failing());
        Some(Departure {
            member: member.clone(),
            reason,
            first_evidence_at: failed.and_then(|failed| failed.first_evidence_at.or(failed.first_failure_at)),
            is_dead: dead.is_some(),
            is_recovering: dead.is_some_and(|dead| dead.is_recovering || dead.is_answering_again()),
            failing_since: dead.map_or(self.now(), failing_since),
            confirmed: dead.map_or_else(Vec::new, |dead| dead.confirmed_standbys.clone()),
        })
    }

    /// Returns true if a forced Switch to the member goes on all the same.
    // ADR-0209: Force overrides health and suspension, and nothing else.
    pub(super) fn yields_to_force(&self, departure: &Departure) -> bool {
        let candidate = self.find(&departure.member);
        let is_unusable = candidate.is_some_and(|candidate| candidate.eligibility == Eligibility::Unusable);
        let is_gone = is_unusable && self.unusable_until().is_some_and(|until| until <= self.now());
        matches!(departure.reason, TransitionReason::Failed(_) | TransitionReason::Suspended) && !is_gone
    }

    /// Returns the reason to leave a backend that failed when somebody could look last, if another one can deliver.
    // ADR-0104: A failure ends by a fresh answer, and not because nobody can look.
    fn unseen(&self, candidate: &Candidate) -> Option<TransitionReason> {
        let failure = candidate.unseen_failure?;
        self.is_any_able_but(candidate).then_some(TransitionReason::Failed(failure.class))
    }

    /// Returns true during a storm, and while the backend in use may recover after one.
    fn is_after_storm(&self) -> bool {
        let is_settling = || self.before.held_until.map_or(!self.settling().is_zero(), |until| until > self.now());
        self.situation.is_storm || (self.before.held_by == Some(HoldReason::StormBrake) && is_settling())
    }

    /// Returns the time that the backend in use has to recover after a storm.
    fn settling(&self) -> Duration {
        self.situation.policy.hold.minimum_stay.min(MAX_STORM_SETTLING)
    }

    fn is_any_able_but(&self, candidate: &Candidate) -> bool {
        self.ranked.iter().any(|other| other.name != candidate.name && other.is_eligible())
    }

    /// Returns the last resort before mail stays on the dead: backends of which one probe cannot be made, and another
    /// one has been answered since the dead failed. Without any, those that have not recovered yet, but have answered
    /// every probe since the dead failed.
    // ADR-0205: What answers every probe again is the last resort.
    fn last_resort(&self, departures: &[Departure]) -> Vec<&'a Candidate> {
        let dead: Vec<_> = departures.iter().filter(|departure| departure.is_dead).collect();
        let mut unknown = self.ranked.clone();
        unknown.retain(|candidate| {
            let is_answering = !dead.is_empty() || candidate.is_answering();
            candidate.is_unknown() && is_answering && dead.iter().all(|dead| dead.is_confirmed_by(candidate))
        });
        if unknown.is_empty() {
            let mut answering = self.ranked.clone();
            answering.retain(|candidate| candidate.is_answering_again() && is_last_resort_of(candidate, departures));
            return answering;
        }
        unknown
    }

    /// Returns the time until which mail stays with members that cannot be used; `None` if no other backend is sound.
    // The hold of the decision before says when that began, over a restart, too.
    // ADR-0083: What is missing holds up nothing.
    fn unusable_until(&self) -> Option<Timestamp> {
        self.ranked.iter().find(|candidate| candidate.is_sound())?;
        let is_held = self.before.held_by == Some(HoldReason::ConfigurationRejected);
        let until = self.before.held_until.filter(|_| is_held);
        Some(until.unwrap_or(self.now() + holds::UNUSABLE_GRACE))
    }

    /// Holds a route of which a member cannot be used. Returns true if there is one.
    pub(super) fn hold_unusable(&mut self) -> bool {
        let mut members = self.members.iter().filter_map(|name| self.find(name));
        let is_unusable = members.any(|member| member.eligibility == Eligibility::Unusable);
        if is_unusable {
            self.hold(Hold { reason: HoldReason::ConfigurationRejected, until: self.unusable_until() });
        }
        is_unusable
    }

    /// Leaves `departures`. Cooldown, minimum stay and soak do not hold such a move.
    pub(super) fn leave(&mut self, policy: &Policy, departures: &[Departure]) {
        if let Some(hold) = self.hold_or_leave(policy, departures) {
            self.hold(hold);
        }
        self.drop_excluded();
    }

    /// Leaves `departures`, or returns the hold that keeps the route.
    fn hold_or_leave(&mut self, policy: &Policy, departures: &[Departure]) -> Option<Hold> {
        let leaving: Vec<&Arc<str>> = departures.iter().map(|departure| &departure.member).collect();
        let staying: Vec<_> = self.members.iter().filter(|member| !leaving.contains(member)).cloned().collect();
        let can_stay = self.is_any_eligible(&staying);
        let cause = departures.iter().min_by_key(|departure| self.rank(&departure.member))?;
        let has_failed = cause.has_failed();

        let mut targets = self.ranked.clone();
        targets.retain(|candidate| candidate.is_eligible() && !leaving.contains(&&candidate.name));
        if can_stay {
            targets.retain(|candidate| staying.contains(&candidate.name));
        }
        if cause.reason == TransitionReason::Unusable {
            targets.retain(|candidate| candidate.is_sound());
        }
        // Slow backends come after all sound ones; any is better than none.
        targets.sort_by_key(|candidate| candidate.health != Health::Healthy);
        if has_failed {
            if self.situation.is_storm {
                // What has answered since the failure began is no part of the storm. Members that stay carry mail as it is.
                targets = if can_stay { vec![] } else { self.last_resort(departures) };
                if targets.is_empty() {
                    return Some(Hold::open(HoldReason::StormBrake));
                }
            }
            if let Some(until) = self.storm_settles_at(&targets) {
                return Some(Hold::until(HoldReason::StormBrake, until));
            }
        }
        let can_lead_carry = self.lead().is_some_and(|lead| lead.health != Health::Unhealthy && !is_excluded(lead));
        if targets.is_empty() && !can_lead_carry {
            targets = self.last_resort(departures);
        }
        if targets.is_empty() {
            // Beside one that a person takes out of service, another one that failed in the storm may recover first.
            let brake = self.storm_settles_at(&targets).map(|until| Hold::until(HoldReason::StormBrake, until));
            let brake = brake.or(self.situation.is_storm.then_some(Hold::open(HoldReason::StormBrake)));
            let brake = brake.filter(|_| departures.iter().any(Departure::has_failed));
            return Some(brake.unwrap_or_else(|| self.hold_without_target(policy, cause)));
        }
        // A ramp whose old side fails is over; the failback it belongs to is decided already.
        if can_stay && self.situation.strategy == Strategy::ActivePassive && self.members.first() == staying.first() {
            self.members = staying;
            self.memory.ramp = None;
            return None;
        }
        if has_failed {
            let unanswered: Vec<_> =
                departures.iter().filter(|departure| departure.has_failed() && !departure.is_answered()).collect();
            targets.retain(|target| unanswered.iter().all(|departure| departure.is_confirmed_by(target)));
            if targets.is_empty() {
                // ADR-0015: A standby must have answered since the failure began.
                return Some(Hold::open(HoldReason::AwaitingConfirmation));
            }
            let is_smaller_pool = can_stay && self.situation.strategy == Strategy::ActiveActive;
            if !is_smaller_pool
                && let Some(hold) = holds::budget(policy, self.situation.strategy, &self.memory, self.now(), true)
            {
                return Some(hold);
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
        let first_evidence_at = cause.first_evidence_at;
        self.move_to(members, Some(&cause.member), cause.reason, first_evidence_at);
        None
    }

    /// Returns the end of the storm hold: after a storm the active backend has `hold.minimumStay` to recover, so that
    /// the first backend to return takes no mail by chance.
    fn storm_settles_at(&self, targets: &[&Candidate]) -> Option<Timestamp> {
        if self.before.held_by != Some(HoldReason::StormBrake) {
            return None;
        }
        let settling = self.settling();
        // What answers again has done so for as long.
        let recovered = targets.iter().filter(|target| target.health != Health::Unhealthy);
        if recovered.clone().next().is_none() && !targets.is_empty() {
            return None;
        }
        let settles_at = match recovered.map(|target| target.since).min() {
            Some(first_recovery) => first_recovery + settling,
            // A backend of another route was first: those of this one follow.
            None => self.before.held_until.unwrap_or(self.now() + settling),
        };
        (settles_at > self.now()).then_some(settles_at)
    }

    /// Returns the hold of a route of which no other backend can deliver. The policy may prefer the preferred one then.
    fn hold_without_target(&mut self, policy: &Policy, cause: &Departure) -> Hold {
        let none_healthy = Hold::open(HoldReason::NoneHealthy);
        // The lead is suspended but can deliver, and no other backend can: mail that leaves is
        // better than mail that waits. Mail that its backend must not carry is taken away in any
        // case.
        if self.lead().is_some_and(|lead| lead.health != Health::Unhealthy || is_excluded(lead)) {
            return none_healthy;
        }
        // A backend that recovers is no worse than a preferred one that does not, and one failure does not end that.
        if self.lead().is_some_and(|lead| lead.eligibility == Eligibility::InService && lead.is_recovering) {
            return none_healthy;
        }
        let preferred = self.ranked.iter().find(|candidate| candidate.eligibility == Eligibility::InService).copied();
        let preferred = preferred.filter(|preferred| {
            let is_lead = self.members.first() == Some(&preferred.name);
            // It would be left at once for a backend that answers some probe.
            let departure = self.departure(&preferred.name);
            !is_lead && departure.is_none_or(|departure| self.last_resort(&[departure]).is_empty())
        });
        match (preferred, policy.when_none_healthy) {
            (None, _) | (Some(_), WhenNoneHealthy::Hold) => {}
            (Some(preferred), WhenNoneHealthy::Preferred) => {
                if let Some(hold) = self.unforced_hold(policy) {
                    return hold;
                }
                let evidence = cause.first_evidence_at;
                self.move_to(vec![preferred.name.clone()], None, TransitionReason::NoneHealthy, evidence);
            }
        }
        none_healthy
    }

    /// Returns the hold that keeps a move that nothing forces.
    fn unforced_hold(&self, policy: &Policy) -> Option<Hold> {
        let comfort = holds::comfort(policy, &self.memory);
        let comfort = Some(comfort).filter(|hold| hold.until.is_some_and(|until| until > self.now()));
        let budget = holds::budget(policy, self.situation.strategy, &self.memory, self.now(), false);
        [comfort, budget]
            .into_iter()
            .flatten()
            .reduce(|latest, hold| if hold.until > latest.until { hold } else { latest })
    }

    /// Leaves members that answer too slowly, or only ask for less, if a sound backend can take over and no hold is in
    /// force. Returns true if any member is so.
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
            // A slow backend is left for a healthy one only.
            Strategy::ActiveActive if !quick.iter().any(|member| member.is_sound()) => sound.collect(),
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

/// Returns true if mail may leave the dead for a backend that has not recovered either, but answers every probe: it has
/// answered since each of them failed, and none of them recovers.
// Two backends that recover must not take the mail from each other.
fn is_last_resort_of(candidate: &Candidate, departures: &[Departure]) -> bool {
    departures.iter().all(|departure| {
        let is_since = candidate.answered_at.is_some_and(|at| at >= departure.failing_since);
        departure.member != candidate.name && (!departure.is_dead || (!departure.is_recovering && is_since))
    })
}

/// Returns the start of the failure of a backend that is dead, by our own clock.
fn failing_since(dead: &Candidate) -> Timestamp {
    // A verdict that does not say since when it fails has failed since its start at the latest.
    let since = dead.first_failure_at.unwrap_or(dead.since);
    dead.unseen_failure.map_or(since, |unseen| unseen.since)
}

fn is_slow(candidate: &Candidate) -> bool {
    candidate.eligibility == Eligibility::InService
        && candidate.health == Health::Degraded
        && matches!(candidate.class, EvidenceClass::Slow | EvidenceClass::Throttled)
}
