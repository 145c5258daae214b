//! Properties of every decision, over random policies, fleets, histories and requests.

use std::time::Duration;

use proptest::prelude::*;

use super::histories::{any_history, walk};
use super::testing::Fleet;
use super::{
    Candidate, Decision, Eligibility, Health, HoldReason, Memory, RequestAction, State, TransitionKind,
    TransitionReason,
};
use crate::model::{EvidenceClass, FailbackMode, Strategy, Timestamp};

const MICROSECOND: Duration = Duration::from_micros(1);

/// Returns the backend of that name, if it stands in the route's list.
fn listed<'a>(fleet: &'a Fleet, name: &str) -> Option<&'a Candidate> {
    fleet.candidates.iter().find(|candidate| &*candidate.name == name)
}

fn find<'a>(fleet: &'a Fleet, name: &str) -> &'a Candidate {
    listed(fleet, name).unwrap_or_else(|| panic!("{name} has left the list"))
}

fn is_human(reason: TransitionReason) -> bool {
    match reason {
        TransitionReason::Suspended
        | TransitionReason::Excluded
        | TransitionReason::Unusable
        | TransitionReason::RemovedFromRoute
        | TransitionReason::Requested
        | TransitionReason::Drill => true,
        TransitionReason::Failed(_) | TransitionReason::Recovered | TransitionReason::NoneHealthy => false,
    }
}

/// Checks the move of a decision, if there is one.
fn check_move(fleet: &Fleet, before: &Memory, decision: &Decision, now: Timestamp) -> Result<(), TestCaseError> {
    let policy = fleet.policy.as_ref().unwrap();
    let Some(transition) = &decision.transition else {
        let members = |memory: &Memory| -> Vec<_> {
            let members = memory.shares.iter().filter(|share| !share.is_overflow);
            members.map(|share| share.backend.clone()).collect()
        };
        let kept = members(before).iter().filter(|name| members(&decision.memory).contains(name)).count();
        // A ramp that ends lets go of its old side; nothing else changes who carries the mail without a transition.
        prop_assert!(
            before.shares.is_empty()
                || before.ramp.is_some()
                || kept == members(before).len()
                || decision.is_withdrawn(),
            "a move without a transition"
        );
        return Ok(());
    };
    let last = before.last_transition();
    prop_assert_eq!(transition.id, last.map_or(0, |last| last.id) + 1);
    prop_assert_eq!(Some(transition), decision.memory.last_transition());
    let is_dead = matches!(
        transition.reason,
        TransitionReason::Failed(class) if !matches!(class, EvidenceClass::Slow | EvidenceClass::Throttled)
    );
    let is_excluded = transition.reason == TransitionReason::Excluded;
    let is_requested = transition.reason == TransitionReason::Requested;
    if let Some(last) = last.filter(|_| !is_dead && !is_human(transition.reason)) {
        prop_assert!(last.decided_at + policy.hold.cooldown <= now, "within the cooldown");
        prop_assert!(before.since + policy.hold.minimum_stay <= now, "within the minimum stay");
    }
    if is_dead {
        let (from, to) = (find(fleet, &transition.from), find(fleet, &transition.to));
        let is_seen_by_peer = to.health == Health::Unknown && from.confirmed_standbys.contains(&to.name);
        let is_answering = to.is_answering() || to.answered_at.is_some();
        prop_assert!(!fleet.is_storm || is_answering || is_seen_by_peer, "in a storm");
        prop_assert!(
            to.health != Health::Unhealthy || (to.answered_at.is_some() && !from.is_recovering),
            "to the dead"
        );
        prop_assert_eq!(from.health, Health::Unhealthy);
    }
    let limit = usize::from(policy.hold.budget.switches);
    let is_active_active = fleet.strategy == Strategy::ActiveActive;
    let mut counted =
        before.history.iter().filter(|transition| !is_active_active || transition.kind == TransitionKind::Failback);
    let is_spent = counted.nth(limit - 1).is_some_and(|oldest| oldest.decided_at + policy.hold.budget.per > now);
    // To take a dead member out of a pool is no flapping.
    let is_smaller_pool = is_active_active && is_dead;
    if is_spent && !is_human(transition.reason) && !is_smaller_pool {
        prop_assert!(is_dead, "beyond the budget");
        let rest = policy.hold.cooldown.max(policy.hold.minimum_stay);
        prop_assert!(last.is_some_and(|last| last.decided_at + rest <= now), "beyond the last resort");
    }
    if transition.reason == TransitionReason::Recovered {
        prop_assert!(find(fleet, &transition.to).since + policy.failback.after <= now, "before the soak was over");
        let is_approved = before.approved_at.is_some()
            || fleet.request.as_ref().is_some_and(|request| request.action == RequestAction::ApproveFailback);
        prop_assert!(policy.failback.mode == FailbackMode::Automatic || is_approved);
        let is_open = policy.failback.windows.iter().all(|window| window.open_until(now).is_some());
        prop_assert!(is_open, "outside the window");
    }
    let may_move = is_requested || is_excluded || before.pause.is_none() || decision.memory.pause.is_none();
    prop_assert!(may_move, "paused");
    Ok(())
}

/// Checks where the mail goes.
fn check_shares(fleet: &Fleet, before: &Memory, decision: &Decision) -> Result<(), TestCaseError> {
    let memory = &decision.memory;
    prop_assert_eq!(decision.is_withdrawn(), memory.held_by == Some(HoldReason::Withdrawn));
    prop_assert!(!decision.is_withdrawn() || (memory.shares.is_empty() && memory.state == State::NoneHealthy));
    prop_assert!(before.shares.is_empty() || !memory.shares.is_empty() || decision.is_withdrawn(), "forgotten");
    if memory.shares.is_empty() {
        return Ok(());
    }
    let total: u32 = memory.shares.iter().map(|share| u32::from(share.percent)).sum();
    prop_assert_eq!(total + u32::from(decision.unplaced), 100, "the remainder is not named");
    for share in &memory.shares {
        let Some(candidate) = listed(fleet, &share.backend) else {
            check_unlisted(fleet, decision, &share.backend)?;
            continue;
        };
        let is_new = before.shares.iter().all(|earlier| earlier.backend != share.backend);
        prop_assert!(!matches!(candidate.eligibility, Eligibility::Excluded(_)), "residency yields to nothing");
        let may = match candidate.eligibility {
            Eligibility::InService => true,
            Eligibility::Suspended => {
                memory.switch.as_ref().is_some_and(|switch| switch.is_forced) || is_requested(decision)
            }
            Eligibility::Excluded(_) | Eligibility::Unusable => false,
        };
        prop_assert!(!is_new || may, "to {candidate:?}");
        prop_assert!(
            memory.pause.is_some() || share.percent <= candidate.capacity.percent,
            "beyond its limits: {candidate:?}"
        );
        prop_assert!(!share.is_overflow || memory.pause.is_some() || candidate.health != Health::Unhealthy);
    }
    let is_any_excluded = before.shares.iter().any(|share| {
        listed(fleet, &share.backend).is_some_and(|known| matches!(known.eligibility, Eligibility::Excluded(_)))
    });
    let is_paused = memory.pause.is_some() && before.pause.is_some() && !is_any_excluded;
    if memory.request == before.request && is_paused {
        prop_assert_eq!(&memory.shares, &before.shares, "paused");
    }
    Ok(())
}

/// Checks mail that stays with a backend which has left the list: a person has stopped every move, or nobody can
/// deliver; and people are told.
fn check_unlisted(fleet: &Fleet, decision: &Decision, name: &str) -> Result<(), TestCaseError> {
    let is_paused = decision.memory.pause.is_some();
    let is_any_able = fleet.candidates.iter().any(Candidate::is_eligible);
    prop_assert!(is_paused || !is_any_able, "{} stays though it has left the list", name);
    prop_assert_eq!(&decision.memory.switch.as_ref().filter(|switch| *switch.to == *name && !is_paused), &None);
    let state = decision.shown_state(&fleet.candidates, |_| false);
    prop_assert!(matches!(state, State::Holding | State::NoneHealthy), "{state:?}");
    Ok(())
}

fn is_requested(decision: &Decision) -> bool {
    decision.transition.as_ref().is_some_and(|transition| transition.reason == TransitionReason::Requested)
}

/// Checks the timer: not early, and not for nothing.
fn check_timer(fleet: &Fleet, decision: &Decision, now: Timestamp) -> Result<(), TestCaseError> {
    let Some(next_timeout) = decision.next_timeout else { return Ok(()) };
    prop_assert!(next_timeout > now, "a timer that has already ended");
    let mut later = fleet.clone();
    later.memory = decision.memory.clone();
    let early = later.decide_at(next_timeout - MICROSECOND);
    prop_assert_eq!(early.transition, None, "earlier than its timer");
    prop_assert_eq!(&early.memory.shares, &decision.memory.shares, "earlier than its timer");
    prop_assert_eq!(&early.memory.ramp, &decision.memory.ramp, "earlier than its timer");
    let then = later.decide_at(next_timeout);
    let is_news = then.transition.is_some()
        || then.hold != decision.hold
        || then.memory.shares != decision.memory.shares
        || then.memory != decision.memory;
    prop_assert!(is_news, "a timer after which nothing is different");
    Ok(())
}

/// Checks that a decision is stable: the next one at the same moment changes nothing, unless the policy knows no hold
/// at all.
// Without a hold a return may follow a departure at once.
fn check_rest(fleet: &Fleet, decision: &Decision, now: Timestamp) -> Result<(), TestCaseError> {
    let hold = &fleet.policy.as_ref().unwrap().hold;
    if decision.transition.is_some() && hold.cooldown.is_zero() && hold.minimum_stay.is_zero() {
        return Ok(());
    }
    let mut again = fleet.clone();
    again.memory = decision.memory.clone();
    let again = again.decide_at(now);
    prop_assert_eq!(&again.transition, &None, "moves twice");
    prop_assert_eq!(&again.notices, &vec![], "says it twice");
    let Memory { held_by, held_since, held_until, .. } = decision.memory;
    let restless = Memory { held_by, held_since, held_until, ..again.memory };
    prop_assert_eq!(&restless, &decision.memory);
    Ok(())
}

proptest! {
    #[test]
    fn promises_hold_over_random_histories(history in any_history()) {
        walk(history, |fleet, before, decision, now| {
            prop_assert_eq!(decision, &fleet.decide_at(now), "the same inputs, another decision");
            check_move(fleet, before, decision, now)?;
            check_shares(fleet, before, decision)?;
            check_timer(fleet, decision, now)?;
            check_rest(fleet, decision, now)?;
            let memory = &decision.memory;
            prop_assert!(!decision.explanation.reasons.is_empty());
            prop_assert_eq!(memory.state == State::Paused, memory.pause.is_some() && !memory.shares.is_empty());
            prop_assert_eq!(memory.held_by, decision.hold.map(|hold| hold.reason));
            prop_assert_eq!(memory.held_until, decision.hold.and_then(|hold| hold.until));
            let goes_on = memory.held_by.is_some() && memory.held_by == before.held_by;
            let held_since = if goes_on { before.held_since } else { memory.held_by.map(|_| now) };
            prop_assert_eq!(memory.held_since, held_since);
            if memory.held_by == Some(HoldReason::StormBrake) {
                let is_by_the_spec = |reason| matches!(reason, TransitionReason::Excluded | TransitionReason::RemovedFromRoute);
                let has_moved = decision.transition.as_ref().is_some_and(|moved| !is_by_the_spec(moved.reason));
                prop_assert!(!has_moved, "in a storm");
            }
            Ok(memory.clone())
        })?;
    }
}
