//! Shares of a pool: weights, limits, warm-up, and members that leave and join.

use std::time::Duration;

use super::holds_tests::ramped;
use super::*;
use crate::engine::testing::{Fleet, at};
use crate::engine::{Capacity, RequestAction, Share, State};
use crate::model::{Budget, FailbackMode, HoldPolicy};

#[test]
fn a_pool_leaves_a_slow_backend_for_a_healthy_one_only() {
    for (text, shares) in [("a? b=", "a50 b50"), ("a? b%", "a50 b50"), ("a+ b=", "a100"), ("a+ b%", "a75 b25")] {
        let mut fleet = Fleet::of(text).active_active(&[1, 1]);
        fleet.memory.shares =
            ["a", "b"].map(|name| Share { backend: name.into(), percent: 50, is_overflow: false }).into();
        fleet.settle(100);
        assert_eq!(fleet.shares(), shares, "{text}");
    }
}

#[test]
fn a_share_that_only_overflows_is_withdrawn_as_well() {
    let mut fleet = Fleet::of("a+ b+").on("a");
    fleet.candidates[0].capacity.percent = 60;
    fleet.ask("1", RequestAction::Pause { duration: None });
    fleet.settle(1000);
    fleet.memory.shares.push(Share { backend: "b".into(), percent: 40, is_overflow: true });
    fleet.memory.shares[0].percent = 60;
    fleet.set("b", "x", 1010);
    let decision = fleet.settle(1010);
    assert_eq!((fleet.shares(), decision.unplaced), ("a60".to_owned(), 40));
}

#[test]
fn active_active_spreads_by_weight_and_shares_out_what_a_dead_one_carried() {
    let mut fleet = Fleet::of("a+ b+ c+").active_active(&[50, 30, 20]);
    let first = fleet.settle(1);
    assert_eq!((first.memory.state, fleet.shares()), (State::Preferred, "a50 b30 c20".to_owned()));
    fleet.set("b", "-", 1000);
    let failed = fleet.settle(1000);
    assert_eq!((failed.memory.state, fleet.shares()), (State::FailedOver, "a71 c29".to_owned()));
    let transition = failed.transition.unwrap();
    assert_eq!((&*transition.from, transition.kind), ("b", TransitionKind::Failover));
    fleet.set("b", "+", 2000);
    assert_eq!(fleet.settle(2299).hold, Some(Hold::until(HoldReason::Soak, at(2300))));
    let back = fleet.settle(2300);
    assert_eq!((back.memory.state, fleet.shares()), (State::Preferred, "a50 b30 c20".to_owned()));
    let transition = back.transition.unwrap();
    assert_eq!((&*transition.to, transition.kind), ("b", TransitionKind::Failback));
}

#[test]
fn a_member_that_leaves_the_list_leaves_its_share_to_the_others_even_if_they_are_dead() {
    let mut fleet = Fleet::of("a+ b+").active_active(&[1, 1]);
    fleet.settle(0);
    fleet.set("a", "-", 1000);
    fleet.candidates.retain(|candidate| &*candidate.name != "b");
    let decision = fleet.settle(1000);
    assert_eq!((decision.memory.state, fleet.shares()), (State::NoneHealthy, "a100".to_owned()));
    let transition = decision.transition.unwrap();
    assert_eq!((&*transition.from, transition.reason), ("b", TransitionReason::RemovedFromRoute));
}

#[test]
fn approval_and_failback_of_a_pool_let_its_sound_backends_join() {
    let mut fleet = Fleet::of("a+ b+ c+").active_active(&[1, 1, 1]);
    fleet.policy.as_mut().unwrap().failback.mode = FailbackMode::Manual;
    fleet.settle(0);
    fleet.ask("0", RequestAction::ApproveFailback);
    assert!(!fleet.settle(1).memory.request.unwrap().is_done, "all are there");
    fleet.ask("1", RequestAction::Failback);
    assert!(!fleet.settle(2).memory.request.unwrap().is_done, "all are there");
    for name in ["a", "b"] {
        fleet.set(name, "-", 1000);
    }
    fleet.settle(1000);
    fleet.ask("2", RequestAction::Failback);
    let refused = fleet.settle(1010).memory.request.unwrap();
    assert!(!refused.is_done && refused.message.starts_with("a is Unhealthy"), "{refused:?}");
    fleet.set("b", "+", 2000);
    assert_eq!(fleet.settle(9000).memory.held_by, Some(HoldReason::ManualFailback));
    let mut returned = fleet.clone();
    returned.ask("3", RequestAction::Failback);
    let answer = returned.settle(9010).memory.request.unwrap();
    assert_eq!((returned.shares(), &*answer.message), ("b50 c50".to_owned(), "mail leaves by b, too"));
    fleet.ask("3", RequestAction::ApproveFailback);
    fleet.settle(9010);
    assert_eq!(fleet.shares(), "b50 c50");
}

#[test]
fn dead_members_leave_a_pool_without_budget_and_joining_is_budgeted() {
    let names: Vec<String> = (0..12).map(|n| format!("m{n:02}+")).collect();
    let mut fleet = Fleet::of(&names.join(" ")).active_active(&[1; 12]);
    fleet.policy = Some(Policy::default());
    fleet.settle(0);
    for n in 0..8_u64 {
        fleet.set(&format!("m{n:02}"), "-", 1000 + n * 120);
        fleet.settle(1000 + n * 120);
        let carriers = fleet.memory.shares.iter().filter(|share| *share.backend <= *format!("m{n:02}")).count();
        assert_eq!(carriers, 0, "{}", fleet.shares());
    }
    // One after the other returns, as soon as the cooldown allows, until the budget is spent.
    fleet.policy.as_mut().unwrap().hold = HoldPolicy {
        cooldown: Duration::ZERO,
        minimum_stay: Duration::ZERO,
        budget: Budget { switches: 2, per: Duration::from_hours(1) },
    };
    for (n, at) in [(0, 10_000_u64), (1, 11_000), (2, 12_000)] {
        fleet.set(&format!("m{n:02}"), "+", at);
        fleet.settle(at);
        fleet.settle(at + 600);
    }
    let held = fleet.settle(13_000);
    assert_eq!(held.hold, Some(Hold::until(HoldReason::SwitchBudget, at(10_600 + 3600))));
    assert_eq!(fleet.memory.shares.len(), 6);
}

#[test]
fn active_active_ramps_the_one_that_returns() {
    let mut fleet = Fleet::of("a+ b-").active_active(&[50, 50]);
    fleet.policy = ramped().policy;
    fleet.settle(1);
    assert_eq!(fleet.shares(), "a100");
    fleet.set("b", "+", 1000);
    fleet.settle(1300);
    assert_eq!((fleet.memory.state, fleet.shares()), (State::FailingBack, "a90 b10".to_owned()));
    fleet.settle(1600);
    assert_eq!(fleet.shares(), "a50 b50");
    fleet.set("b", "-", 1610);
    fleet.settle(1610);
    assert_eq!((fleet.memory.state, fleet.shares()), (State::FailedOver, "a100".to_owned()));
    assert_eq!(fleet.memory.ramp, None);
}

#[test]
fn active_active_starts_with_whoever_can_once_all_are_known() {
    assert_eq!(Fleet::of("a+ b?").active_active(&[1, 1]).decide(1).memory.held_by, Some(HoldReason::AwaitingEvidence));
    let mut fleet = Fleet::of("a- b+ c~").active_active(&[1, 1, 1]);
    fleet.settle(1);
    assert_eq!((fleet.memory.state, fleet.shares()), (State::FailedOver, "b100".to_owned()));
    let mut dead = Fleet::of("a- b-").active_active(&[1, 1]);
    dead.settle(1);
    assert_eq!((dead.memory.state, dead.shares()), (State::NoneHealthy, "a100".to_owned()));
    dead.set("b", "+", 100);
    dead.settle(100);
    assert_eq!((dead.memory.state, dead.shares()), (State::FailedOver, "b100".to_owned()));
}

#[test]
fn limits_let_mail_spill_over_and_name_what_has_nowhere_to_go() {
    let mut fleet = Fleet::of("a+ b+ c+").on("a");
    fleet.candidates[0].capacity.percent = 60;
    fleet.candidates[1].capacity.percent = 30;
    fleet.settle(1);
    assert_eq!((fleet.shares(), fleet.memory.state), ("a60 b30* c10*".to_owned(), State::Preferred));
    fleet.set("c", "-", 2);
    assert_eq!((fleet.settle(2).unplaced, fleet.shares()), (10, "a60 b30*".to_owned()));
    let mut weighted = Fleet::of("a+ b+ c+").active_active(&[60, 30, 10]);
    weighted.candidates[0].capacity.percent = 40;
    weighted.settle(1);
    assert_eq!(weighted.shares(), "a40 b45 c15");
    weighted.candidates[1].capacity.percent = 20;
    weighted.candidates[2].capacity.percent = 20;
    assert_eq!((weighted.settle(2).unplaced, weighted.shares()), (20, "a40 b20 c20".to_owned()));
}

#[test]
fn whoever_asks_for_less_gets_at_most_half_of_its_part_unless_there_is_no_other_way() {
    let mut fleet = Fleet::of("a% b+").active_active(&[60, 40]);
    fleet.settle(1);
    assert_eq!(fleet.shares(), "a30 b70");
    fleet.candidates[1].capacity.percent = 50;
    fleet.settle(2);
    assert_eq!(fleet.shares(), "a50 b50");
    let mut alone = Fleet::of("a% b-").active_active(&[60, 40]);
    alone.settle(1);
    assert_eq!(alone.shares(), "a100");
}

#[test]
fn warm_up_opens_day_by_day() {
    let mut fleet = Fleet::of("a- b+").on("a");
    fleet.candidates[1].capacity = Capacity { percent: 20, until: Some(at(86_400)) };
    let decision = fleet.settle(10);
    assert_eq!((fleet.shares(), decision.unplaced, decision.next_timeout), ("b20".to_owned(), 80, Some(at(86_400))));
}

#[test]
fn a_share_knows_whether_it_is_overflow() {
    let mut fleet = Fleet::of("a+ b+").on("a");
    fleet.candidates[0].capacity.percent = 60;
    fleet.settle(1);
    let overflow = Share { backend: "b".into(), percent: 40, is_overflow: true };
    assert_eq!(fleet.memory.shares[1], overflow);
    assert_eq!(fleet.memory.lead().map(|lead| &**lead), Some("a"));
}
