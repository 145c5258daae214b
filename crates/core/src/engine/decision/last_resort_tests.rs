//! What carries mail while no backend is trusted.

use super::*;
use crate::engine::State;
use crate::engine::testing::{Fleet, at};
use crate::model::{EvidenceClass, WhenNoneHealthy};

/// Has a backend that is Unhealthy answer every probe again, the latest time since this second.
fn answering_again(fleet: &mut Fleet, name: &str, second: u64) {
    let candidate = fleet.candidates.iter_mut().find(|candidate| &*candidate.name == name).unwrap();
    candidate.answered_at = Some(at(second));
    candidate.confirmed_at = Some(at(second));
    candidate.is_recovering = true;
}

fn lead(decision: &Decision) -> Option<&str> {
    decision.memory.lead().map(|lead| &**lead)
}

#[test]
fn what_answers_every_probe_again_is_used_before_a_dead_primary() {
    let mut fleet = Fleet::of("a- b- c-").on("a");
    fleet.candidates[0].first_failure_at = Some(at(100));
    answering_again(&mut fleet, "b", 99);
    assert_eq!(fleet.decide(160).memory.held_by, Some(HoldReason::NoneHealthy), "not since the failure began");
    answering_again(&mut fleet, "c", 100);
    let moved = fleet.settle(160).transition.unwrap();
    assert_eq!((&*moved.to, moved.reason), ("c", TransitionReason::Failed(EvidenceClass::NoAnswer)));
    let rests = fleet.decide(161);
    assert_eq!((rests.hold, rests.memory.state), (None, State::FailedOver), "it can deliver");
    // Whoever has recovered comes first, and one that is only unknown, too.
    for mark in ["+", "=", "?"] {
        let mut better = Fleet::of(&format!("a- b- c{mark}")).on("a");
        answering_again(&mut better, "b", 200);
        better.candidates[2].confirmed_at = Some(at(200));
        assert_eq!(lead(&better.decide(300)), Some("c"), "{mark}");
    }
}

#[test]
fn two_backends_that_recover_take_no_mail_from_each_other() {
    let mut fleet = Fleet::of("a- b-").on("a");
    answering_again(&mut fleet, "b", 100);
    fleet.settle(160);
    assert_eq!(fleet.shares(), "b100");
    // The first one answers again, too, and the second one fails once: that is no failure yet.
    answering_again(&mut fleet, "a", 170);
    fleet.candidates[1].answered_at = None;
    let stays = fleet.settle(175);
    assert_eq!((stays.transition, stays.memory.state), (None, State::NoneHealthy));
    fleet.policy.as_mut().unwrap().when_none_healthy = WhenNoneHealthy::Preferred;
    assert_eq!(fleet.decide(99_999).transition, None);
    // It fails for as long as it takes to fail.
    fleet.candidates[1].is_recovering = false;
    fleet.candidates[1].first_failure_at = Some(at(172));
    assert_eq!(fleet.decide(300).transition, None, "the first one has not answered since");
    answering_again(&mut fleet, "a", 175);
    assert_eq!(lead(&fleet.decide(300)), Some("a"));
    // What has recovered is better than what recovers.
    let mut sound = Fleet::of("a+ b-").on("b");
    answering_again(&mut sound, "b", 100);
    assert_eq!(lead(&sound.decide(300)), Some("a"));
}

#[test]
fn a_backend_in_use_that_recovers_after_a_storm_keeps_the_mail() {
    let mut fleet = Fleet::of("a- b-").on("a");
    fleet.is_storm = true;
    answering_again(&mut fleet, "a", 100);
    answering_again(&mut fleet, "b", 100);
    let held = fleet.settle(160);
    assert_eq!((held.memory.held_by, held.transition), (Some(HoldReason::StormBrake), None));
    fleet.is_storm = false;
    // A backend of another route was the first to recover.
    assert_eq!(fleet.settle(169).memory.held_by, Some(HoldReason::StormBrake));
    fleet.set("b", "+", 170);
    let settles = fleet.settle(171);
    assert_eq!((settles.memory.held_by, settles.transition), (Some(HoldReason::StormBrake), None));
    // One that stays dead while another one answers was no part of it.
    let mut dead = Fleet::of("a- b-").on("a");
    dead.is_storm = true;
    dead.settle(50);
    answering_again(&mut dead, "b", 100);
    assert_eq!(lead(&dead.decide(160)), Some("b"));
}

#[test]
fn a_first_choice_prefers_what_answers_every_probe() {
    let mut fleet = Fleet::of("a- b-");
    answering_again(&mut fleet, "b", 100);
    fleet.settle(160);
    assert_eq!((fleet.shares(), fleet.memory.state), ("b100".to_owned(), State::FailedOver));
}

#[test]
fn a_first_choice_that_the_votes_are_equal_about_waits_a_minute() {
    let mut fleet = Fleet::of("a?");
    fleet.candidates[0].is_disputed = true;
    assert_eq!(fleet.settle(59).memory.held_by, Some(HoldReason::AwaitingEvidence));
    fleet.settle(60);
    assert_eq!(fleet.shares(), "a100");
}
