//! Holds, budgets, soaks, windows and ramps: what delays a move or a return, and for how long.

use std::time::Duration;

use super::*;
use crate::engine::testing::{Fleet, at, transition};
use crate::engine::{RequestAction, State};
use crate::model::{Budget, CronWindow, EvidenceClass, FailbackMode, RampStep};

#[test]
fn manual_failback_says_that_the_way_back_is_open_and_waits_for_a_person() {
    let mut fleet = Fleet::of("a+ b+").on("b");
    fleet.policy.as_mut().unwrap().failback.mode = FailbackMode::Manual;
    assert_eq!(fleet.decide(599).hold, Some(Hold::until(HoldReason::Cooldown, at(600))));
    let open = fleet.settle(600);
    assert_eq!(
        (open.memory.lead().map(|lead| &**lead), open.hold),
        (Some("b"), Some(Hold::open(HoldReason::ManualFailback)))
    );
    fleet.ask("1", RequestAction::ApproveFailback);
    let moved = fleet.settle(700);
    assert_eq!(moved.memory.lead().map(|lead| &**lead), Some("a"));
    assert_eq!(moved.memory.approved_at, None, "an approval is used once");
    assert_eq!(moved.notices, [Notice::RequestAnswered, Notice::Moved]);
    let mut dead = Fleet::of("a+ b-").on("b");
    dead.policy = fleet.policy;
    assert_eq!(dead.decide(1).memory.lead().map(|lead| &**lead), Some("a"), "a dead one is left in either mode");
}

#[test]
fn an_approval_lapses_with_the_recovery_that_it_was_given_for() {
    let mut fleet = Fleet::of("a+ b+").on("a");
    fleet.policy.as_mut().unwrap().failback.mode = FailbackMode::Manual;
    fleet.settle(0);
    fleet.set("a", "-", 1000);
    fleet.settle(1000);
    fleet.ask("0", RequestAction::ApproveFailback);
    let answer = fleet.settle(1500).memory.request.unwrap();
    assert!(!answer.is_done && answer.message.contains("has not recovered yet"), "{answer:?}");
    fleet.set("a", "+", 2000);
    fleet.settle(2000);
    fleet.ask("1", RequestAction::ApproveFailback);
    assert!(fleet.settle(2010).memory.request.unwrap().is_done);
    fleet.set("a", "-", 2100);
    assert_eq!(fleet.settle(2100).memory.approved_at, None);
    fleet.set("a", "+", 700_000);
    fleet.settle(700_000);
    assert_eq!(fleet.settle(703_000).hold, Some(Hold::open(HoldReason::ManualFailback)));
}

#[test]
fn a_backend_that_only_asks_for_less_is_left_for_a_sound_one_when_the_holds_allow() {
    let mut fleet = Fleet::of("a= b+").on("a");
    fleet.candidates[0].class = EvidenceClass::Throttled;
    assert_eq!(fleet.decide(59).memory.held_by, Some(HoldReason::MinimumStay));
    let left = fleet.settle(60);
    assert_eq!(left.transition.map(|moved| moved.reason), Some(TransitionReason::Failed(EvidenceClass::Throttled)));
    let mut alone = Fleet::of("a= b-").on("a");
    alone.candidates[0].class = EvidenceClass::Throttled;
    assert_eq!(alone.decide(9999).transition, None);
}

#[test]
fn a_spent_budget_holds_comfort_altogether_and_a_dead_backend_to_one_move_a_cooldown() {
    let mut fleet = Fleet::of("a- b+").on("a");
    let hold = &mut fleet.policy.as_mut().unwrap().hold;
    hold.budget = Budget { switches: 2, per: Duration::from_hours(1) };
    fleet.memory.history = vec![transition(2, "b", "a", 1000), transition(1, "a", "b", 900)];
    fleet.memory.since = at(1000);
    let held = fleet.decide(1100);
    assert_eq!(held.hold, Some(Hold::until(HoldReason::SwitchBudget, at(1600))), "the last resort");
    assert_eq!(fleet.decide(1600).memory.lead().map(|lead| &**lead), Some("b"));
    let mut comfort = Fleet::of("a+ b+").on("b");
    comfort.policy = fleet.policy.clone();
    comfort.memory.history = vec![transition(2, "a", "b", 1000), transition(1, "b", "a", 900)];
    comfort.memory.since = at(1000);
    assert_eq!(comfort.decide(2000).hold, Some(Hold::until(HoldReason::SwitchBudget, at(4500))));
    assert_eq!(comfort.decide(4500).memory.lead().map(|lead| &**lead), Some("a"));
}

#[test]
fn a_primary_that_fails_again_and_again_soaks_longer() {
    let mut fleet = Fleet::of("a+ b+").on("b");
    fleet.policy.as_mut().unwrap().failback.after = Duration::from_hours(1);
    let soaks = |fleet: &Fleet| {
        let hold = fleet.decide(100_001).hold.unwrap();
        (hold.reason, hold.until.unwrap().since(at(100_000)).as_secs() / 3600)
    };
    fleet.set("a", "-", 90_000);
    fleet.set("a", "+", 100_000);
    let failure = |id, seconds| transition(id, "a", "b", seconds);
    fleet.memory.history = vec![failure(1, 90_000)];
    assert_eq!(soaks(&fleet), (HoldReason::Soak, 1));
    fleet.memory.history = vec![failure(2, 90_000), failure(1, 80_000)];
    assert_eq!(soaks(&fleet), (HoldReason::Soak, 2));
    fleet.memory.history = vec![failure(2, 90_000), failure(1, 1_000)];
    assert_eq!(soaks(&fleet), (HoldReason::Soak, 1), "more than a day ago");
    fleet.memory.history = (0..9).map(|n| failure(9 - n, 90_000)).collect();
    assert_eq!(soaks(&fleet), (HoldReason::Soak, 8));
}

#[test]
fn a_soak_never_begins_before_the_backend_was_left() {
    let mut fleet = Fleet::of("a+ b+").on("b");
    fleet.policy.as_mut().unwrap().failback.after = Duration::from_secs(1);
    fleet.policy.as_mut().unwrap().hold.cooldown = Duration::ZERO;
    fleet.policy.as_mut().unwrap().hold.minimum_stay = Duration::ZERO;
    // A new leader that has not seen the failure yet: its verdict is older than the move.
    fleet.memory.history = vec![transition(1, "a", "b", 2_000)];
    fleet.candidates[0].confirmed_at = Some(at(1_999));
    assert_eq!(fleet.decide(2_005).hold, Some(Hold::until(HoldReason::Soak, at(2_060))));
    fleet.candidates[0].confirmed_at = None;
    assert_eq!(fleet.decide(2_059).hold, Some(Hold::until(HoldReason::Soak, at(2_060))));
    assert_eq!(fleet.decide(2_060).memory.lead().map(|lead| &**lead), Some("a"), "only others can see it");
    fleet.candidates[0].confirmed_at = Some(at(2_002));
    assert_eq!(fleet.decide(2_003).memory.lead().map(|lead| &**lead), Some("a"));
}

#[test]
fn a_return_begins_in_a_window_only() {
    let mut fleet = Fleet::of("a+ b+").on("b");
    // The epoch was a Thursday; the window opens at 02:00 UTC.
    let window = CronWindow::new("0 2 * * *", "UTC", Duration::from_hours(2)).unwrap();
    fleet.policy.as_mut().unwrap().failback.windows = vec![window];
    let hours = |hours: u64| hours * 3600;
    let closed = fleet.decide(hours(1));
    assert_eq!(closed.hold, Some(Hold::until(HoldReason::FailbackWindow, at(hours(2)))));
    assert_eq!(closed.next_timeout, Some(at(hours(2))));
    assert_eq!(fleet.decide(hours(2)).memory.lead().map(|lead| &**lead), Some("a"));
    assert_eq!(fleet.decide(hours(4)).hold, Some(Hold::until(HoldReason::FailbackWindow, at(hours(26)))));
}

#[test]
fn windows_follow_the_wall_clock_and_holds_the_clock_that_never_jumps() {
    let hours = |hours: u64| hours * 3600;
    let micros = |hours: i64| ClockDrift::from_micros(hours * 3_600_000_000);
    let mut fleet = Fleet::of("a+ b+").on("b");
    let window = CronWindow::new("0 2 * * *", "UTC", Duration::from_hours(2)).unwrap();
    fleet.policy.as_mut().unwrap().failback.windows = vec![window];
    // The machine slept for five hours: at 01:00 of the process it is 06:00.
    fleet.drift = micros(5);
    assert_eq!(fleet.decide(hours(1)).hold, Some(Hold::until(HoldReason::FailbackWindow, at(hours(21)))));
    assert_eq!(fleet.decide(hours(21)).memory.lead().map(|lead| &**lead), Some("a"));
    // The clock was set back by an hour.
    fleet.drift = micros(-1);
    assert_eq!(fleet.decide(hours(2)).hold, Some(Hold::until(HoldReason::FailbackWindow, at(hours(3)))));
    let soaking = Fleet { drift: micros(5), ..Fleet::of("a+ b+").on("b") };
    assert_eq!(soaking.decide(10), Fleet::of("a+ b+").on("b").decide(10), "a soak does not end early");
}

pub(super) fn ramped() -> Fleet {
    let mut fleet = Fleet::of("a+ b+").on("b");
    fleet.policy.as_mut().unwrap().failback.ramp = vec![
        RampStep { percent: 10, duration: Duration::from_mins(5) },
        RampStep { percent: 50, duration: Duration::from_mins(10) },
    ];
    fleet
}

#[test]
fn a_ramp_goes_step_by_step() {
    let mut fleet = ramped();
    let begun = fleet.settle(600);
    assert_eq!((begun.memory.state, fleet.shares()), (State::FailingBack, "a10 b90".to_owned()));
    assert_eq!(begun.hold, Some(Hold::until(HoldReason::Ramp, at(900))));
    assert_eq!(begun.transition.map(|transition| transition.kind), Some(TransitionKind::Failback));
    assert_eq!(fleet.settle(899).next_timeout, Some(at(900)));
    let second = fleet.settle(900);
    assert_eq!((second.transition, fleet.shares()), (None, "a50 b50".to_owned()));
    let whole = fleet.settle(1500);
    assert_eq!((whole.memory.state, fleet.shares(), whole.memory.ramp), (State::Preferred, "a100".to_owned(), None));
}

#[test]
fn a_ramp_falls_back_at_once_when_what_it_returns_to_fails_and_goes_whole_when_what_it_leaves_fails() {
    let mut fleet = ramped();
    fleet.settle(600);
    let mut primary_fails = fleet.clone();
    primary_fails.set("a", "-", 610);
    let back = primary_fails.settle(610);
    assert_eq!((back.memory.state, primary_fails.shares()), (State::FailedOver, "b100".to_owned()));
    assert_eq!(back.transition.map(|transition| transition.kind), Some(TransitionKind::Failover));
    fleet.set("b", "-", 610);
    let whole = fleet.settle(610);
    assert_eq!((whole.transition, fleet.shares(), whole.memory.state), (None, "a100".to_owned(), State::Preferred));
}

#[test]
fn a_ramp_does_not_advance_on_doubt() {
    let mut fleet = ramped();
    fleet.settle(600);
    fleet.set("a", "?", 610);
    let doubtful = fleet.settle(2000);
    assert_eq!((fleet.shares(), doubtful.hold), ("a10 b90".to_owned(), Some(Hold::open(HoldReason::Ramp))));
    fleet.set("a", "+", 2010);
    fleet.settle(2010);
    assert_eq!(fleet.shares(), "a50 b50");
}

#[test]
fn the_start_of_a_hold_stays_until_another_reason_holds() {
    let mut fleet = Fleet::of("a+ b+").on("a");
    fleet.candidates[1].confirmed_at = None;
    fleet.set("a", "-", 100);
    fleet.candidates[1].confirmed_at = None;
    for second in [100, 130, 400] {
        let held = fleet.settle(second).memory;
        assert_eq!((held.held_by, held.held_since), (Some(HoldReason::AwaitingConfirmation), Some(at(100))));
    }
    fleet.is_storm = true;
    let held = fleet.settle(410).memory;
    assert_eq!((held.held_by, held.held_since), (Some(HoldReason::StormBrake), Some(at(410))));
}
