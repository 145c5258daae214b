//! Requests of people: Switch, Failback, Pause, and their answers.

use std::time::Duration;

use super::*;
use crate::engine::Health;
use crate::engine::testing::{Fleet, at};
use crate::engine::{Pause, RequestAction, State, Switch};

#[test]
fn a_switch_to_a_backend_whose_object_is_gone_ends_after_a_minute() {
    let mut fleet = Fleet::of("a+ b+").on("b");
    fleet.memory.switch = Some(Switch { to: "b".into(), is_forced: false, until: None });
    assert_eq!(fleet.settle(100).memory.held_by, Some(HoldReason::Switched));
    fleet.set("b", "0", 110);
    assert_eq!(fleet.settle(110).hold, Some(Hold::until(HoldReason::ConfigurationRejected, at(170))));
    fleet.settle(150);
    fleet.settle(170);
    assert_eq!((fleet.shares(), fleet.memory.switch), ("a100".to_owned(), None));
}

#[test]
fn a_forced_switch_ends_when_its_backend_leaves_the_list() {
    let forced =
        |fleet: &mut Fleet| fleet.memory.switch = Some(Switch { to: "b".into(), is_forced: true, until: None });
    for mark in ["+", "-", "!"] {
        let mut fleet = Fleet::of("a+ b+ c+").on("b");
        forced(&mut fleet);
        fleet.set("b", mark, 50);
        assert_eq!(fleet.settle(100).memory.held_by, Some(HoldReason::Switched), "force overrides {mark}");
        fleet.candidates.retain(|candidate| *candidate.name != *"b");
        let left = fleet.settle(110);
        assert_eq!(left.transition.map(|moved| moved.reason), Some(TransitionReason::RemovedFromRoute), "{mark}");
        assert_eq!((fleet.shares().as_str(), &fleet.memory.switch), ("a100", &None), "{mark}");
    }
}

#[test]
fn a_forced_switch_ends_a_minute_after_the_object_of_its_backend_is_gone() {
    for is_dead in [false, true] {
        let mut fleet = Fleet::of("a+ b+").on("b");
        fleet.memory.switch = Some(Switch { to: "b".into(), is_forced: true, until: None });
        fleet.set("b", "0", 110);
        if is_dead {
            fleet.candidates[1].health = Health::Unhealthy;
        }
        let gone = fleet.settle(110);
        assert_eq!(gone.hold, Some(Hold::until(HoldReason::ConfigurationRejected, at(170))), "dead: {is_dead}");
        fleet.settle(150);
        assert_eq!(fleet.shares(), "b100");
        fleet.settle(170);
        assert_eq!((fleet.shares().as_str(), &fleet.memory.switch), ("a100", &None), "dead: {is_dead}");
    }
}

#[test]
fn an_id_that_was_answered_is_not_answered_again() {
    let to_b = RequestAction::Switch { to: "b".into(), duration: None, is_forced: false };
    let mut fleet = Fleet::of("a+ b+").on("a");
    for (at, (id, action, shares)) in [
        ("1", to_b.clone(), "b100"),
        ("2", RequestAction::Failback, "a100"),
        ("1", to_b, "a100"),
        ("3", RequestAction::Pause { duration: None }, "a100"),
    ]
    .into_iter()
    .enumerate()
    {
        fleet.ask(id, action);
        fleet.settle(100 * at as u64);
        assert_eq!(fleet.shares(), shares, "{id}");
    }
    // The second use of `1` was the latest before `3`.
    assert_eq!(fleet.memory.answered.iter().map(|id| &**id).collect::<Vec<_>>(), ["1", "2"]);
    for id in 0..100 {
        fleet.ask(&format!("n{id}"), RequestAction::Resume);
        fleet.settle(1000 + id);
    }
    assert_eq!(fleet.memory.answered.len(), crate::engine::MAX_ANSWERED, "a bounded list");
}

#[test]
fn who_uses_an_id_again_is_told_once_that_nothing_is_done() {
    let mut fleet = Fleet::of("a+ b+").on("a");
    let request = |id: &str, action: RequestAction, digest: &str| {
        Some(Request { digest: digest.into(), reason: Some("INC-42".into()), ..Request::new(id, action) })
    };
    let to_b = RequestAction::Switch { to: "b".into(), duration: None, is_forced: false };
    fleet.request = request("1", to_b.clone(), "first");
    let done = fleet.settle(0);
    let answer = done.memory.request.unwrap();
    assert!(answer.is_done && answer.reason.as_deref() == Some("INC-42"));
    assert!(fleet.settle(100).notices.is_empty(), "it stands there, and is answered");
    fleet.request = request("1", RequestAction::Failback, "second");
    let refused = fleet.settle(1000);
    let answer = refused.memory.request.unwrap();
    assert!(!answer.is_done && answer.message.contains("a Switch with the id 1 was answered at"), "{}", answer.message);
    assert_eq!((refused.notices, fleet.shares()), (vec![Notice::RequestAnswered], "b100".to_owned()));
    assert!(fleet.settle(2000).notices.is_empty(), "told once");
    fleet.request = request("2", RequestAction::Failback, "third");
    assert!(fleet.settle(3000).memory.request.unwrap().is_done);
    fleet.request = request("1", to_b, "first");
    let refused = fleet.settle(4000);
    let message = refused.memory.request.unwrap().message;
    assert!(message.contains("the id 1 was used before"), "{message}");
    assert_eq!(fleet.shares(), "a100");
    assert!(fleet.settle(5000).notices.is_empty(), "told once");
}

#[test]
fn a_switch_is_made_once_lasts_as_long_as_asked_and_ends_when_its_backend_dies() {
    let to_b = |is_forced| RequestAction::Switch { to: "b".into(), duration: Some(Duration::from_hours(2)), is_forced };
    let mut fleet = Fleet::of("a+ b+").on("a");
    fleet.ask("1", to_b(false));
    let switched = fleet.settle(10);
    assert_eq!((fleet.shares(), switched.memory.state), ("b100".to_owned(), State::FailedOver));
    assert!(switched.memory.request.as_ref().unwrap().is_done);
    assert_eq!(
        (switched.transition.unwrap().reason, switched.next_timeout),
        (TransitionReason::Requested, Some(at(7210)))
    );
    let again = fleet.settle(20);
    assert_eq!((again.transition, again.notices.len(), again.memory.held_by), (None, 0, Some(HoldReason::Switched)));
    let mut dies = fleet.clone();
    dies.set("b", "-", 30);
    dies.settle(30);
    assert_eq!((dies.shares(), dies.memory.switch.as_ref()), ("a100".to_owned(), None));
    fleet.settle(7210);
    assert_eq!((fleet.shares(), fleet.memory.switch.as_ref()), ("a100".to_owned(), None));
}

#[test]
fn what_is_impossible_is_refused_with_the_reason_and_force_overrides_health_alone() {
    let switch = |to: &str, is_forced| RequestAction::Switch { to: to.into(), duration: None, is_forced };
    let cases = [
        ("a+ b-", switch("b", false), Some("\"force\"")),
        ("a+ b-", switch("b", true), None),
        ("a+ b?", switch("b", false), Some("Unknown")),
        ("a+ b~", switch("b", false), Some("suspended")),
        ("a+ b~", switch("b", true), None),
        ("a+ bx", switch("b", true), Some("spec.residency")),
        ("a+ b0", switch("b", true), Some("cannot be used")),
        ("a+ b+", switch("c", true), Some("one of a, b")),
        ("a+ b+", RequestAction::Failback, Some("already leaves by a")),
        ("a+ b+", RequestAction::Resume, Some("not paused")),
        ("a+ b+", RequestAction::ApproveFailback, Some("not Manual")),
        ("a+ b+", RequestAction::Malformed("no JSON".to_owned()), Some("no JSON")),
    ];
    for (text, action, refusal) in cases {
        let mut fleet = Fleet::of(text).on("a");
        fleet.ask("1", action.clone());
        let decision = fleet.settle(10);
        let answer = decision.memory.request.unwrap();
        assert_eq!(answer.is_done, refusal.is_none(), "{text} {action:?}: {}", answer.message);
        assert!(answer.message.contains(refusal.unwrap_or_default()), "{text} {action:?}: {}", answer.message);
        assert_eq!(fleet.shares() == "b100", refusal.is_none(), "{text} {action:?}");
        assert_eq!(fleet.settle(11).notices.len(), 0, "answered once");
    }
}

#[test]
fn a_forced_switch_stays_on_a_dead_backend() {
    let mut fleet = Fleet::of("a+ b-").on("a");
    fleet.ask("1", RequestAction::Switch { to: "b".into(), duration: None, is_forced: true });
    fleet.settle(10);
    assert_eq!((fleet.settle(9999).memory.held_by, fleet.shares()), (Some(HoldReason::Switched), "b100".to_owned()));
    fleet.ask("2", RequestAction::Failback);
    fleet.settle(10_000);
    assert_eq!((fleet.shares(), fleet.memory.switch.clone()), ("a100".to_owned(), None::<Switch>));
}

#[test]
fn a_requested_failback_waits_for_no_hold() {
    let mut fleet = Fleet::of("a+ b+").on("b");
    fleet.ask("1", RequestAction::Failback);
    fleet.settle(1);
    assert_eq!(fleet.shares(), "a100");
    let mut dead = Fleet::of("a- b+").on("b");
    dead.ask("1", RequestAction::Failback);
    dead.settle(1);
    assert_eq!((dead.shares(), dead.memory.request.unwrap().is_done), ("b100".to_owned(), false));
}

#[test]
fn a_pause_moves_nothing_not_even_away_from_a_dead_backend() {
    let mut fleet = Fleet::of("a+ b+").on("a");
    fleet.ask("1", RequestAction::Pause { duration: Some(Duration::from_mins(10)) });
    fleet.settle(10);
    fleet.set("a", "-", 20);
    let paused = fleet.settle(20);
    assert_eq!((paused.memory.state, fleet.shares()), (State::Paused, "a100".to_owned()));
    assert_eq!(paused.hold, Some(Hold::until(HoldReason::Paused, at(610))));
    let mut resumed = fleet.clone();
    resumed.ask("2", RequestAction::Resume);
    resumed.settle(30);
    assert_eq!((resumed.shares(), resumed.memory.pause.clone()), ("b100".to_owned(), None::<Pause>));
    fleet.settle(610);
    assert_eq!(fleet.shares(), "b100");
}
