//! Behaviour of a route as tables: each case is a situation and the expected decision.

use std::time::Duration;

use super::*;
use crate::engine::testing::{Fleet, at, policy, transition};
use crate::engine::{Capacity, Pause, RequestAction, Share, Switch, UnseenFailure};
use crate::model::{Budget, EvidenceClass, FailbackMode, FailbackWindow, HoldPolicy, RampStep, WhenNoneHealthy};

/// Active, candidates, seconds for which everything has been as it is; then the expected active, state and hold.
type Case<'a> = (&'a str, &'a str, u64, &'a str, State, Option<HoldReason>);

#[test]
fn where_mail_goes() {
    let cases: &[Case] = &[
        // A healthy preferred backend stays.
        ("a", "a+ b+", 0, "a", State::Preferred, None),
        // A dead one is left at once, past those that cannot deliver, whatever the holds for comfort.
        ("a", "a- b+", 0, "b", State::FailedOver, None),
        ("a", "a- b- c+", 0, "c", State::FailedOver, None),
        ("a", "a- b? c+", 0, "c", State::FailedOver, None),
        ("a", "a- b~ c+", 0, "c", State::FailedOver, None),
        ("a", "a- b0 c+", 0, "c", State::FailedOver, None),
        ("a", "a- bx c+", 0, "c", State::FailedOver, None),
        ("b", "a- b- c+", 1, "c", State::FailedOver, None),
        ("b", "a+ b-", 1, "a", State::Preferred, None),
        // Unknown is not unhealthy, and an unusable object is no evidence.
        ("a", "a? b+", 9999, "a", State::Preferred, None),
        ("a", "a0 b+", 9999, "a", State::Holding, Some(HoldReason::ConfigurationRejected)),
        ("a", "a0 b-", 9999, "a", State::Holding, Some(HoldReason::ConfigurationRejected)),
        // Nobody to go to.
        ("a", "a- b-", 9999, "a", State::NoneHealthy, Some(HoldReason::NoneHealthy)),
        ("a", "a- b? c!", 9999, "a", State::NoneHealthy, Some(HoldReason::NoneHealthy)),
        // Suspended: left at once for a healthy one, kept while nobody else can deliver.
        ("a", "a~ b+", 0, "b", State::FailedOver, None),
        ("a", "a~ b-", 0, "a", State::Holding, Some(HoldReason::NoneHealthy)),
        ("a", "a! b-", 0, "a", State::NoneHealthy, Some(HoldReason::NoneHealthy)),
        // Gone from the list: as good as dead.
        ("z", "a- b+", 0, "b", State::FailedOver, None),
        ("z", "a+ b+", 0, "a", State::Preferred, None),
        // What the route must not use is left at once, and is not what counts as preferred.
        ("a", "ax b+", 0, "b", State::Preferred, None),
        ("a", "ax b-", 0, "b", State::NoneHealthy, Some(HoldReason::NoneHealthy)),
        // Slow is not dead: left for a sound one when the holds for comfort allow, used before none.
        ("a", "a= b+", 59, "a", State::Preferred, Some(HoldReason::MinimumStay)),
        ("a", "a= b+", 60, "b", State::FailedOver, None),
        ("a", "a= b=", 9999, "a", State::Preferred, None),
        ("a", "a= b-", 9999, "a", State::Preferred, None),
        ("a", "a- b= c+", 0, "c", State::FailedOver, None),
        ("a", "a- b=", 0, "b", State::FailedOver, None),
        ("b", "a= b+", 9999, "b", State::FailedOver, None),
        // Asking for less is no failure.
        ("a", "a% b+", 9999, "a", State::Preferred, None),
        // Failback waits for whichever hold ends last: soak 300 s, cooldown 600 s, minimum stay 60 s.
        ("b", "a+ b+", 299, "b", State::FailedOver, Some(HoldReason::Cooldown)),
        ("b", "a+ b+", 599, "b", State::FailedOver, Some(HoldReason::Cooldown)),
        ("b", "a+ b+", 600, "a", State::Preferred, None),
        // To the most preferred that is ready, and never sideways.
        ("c", "a- b+ c+", 600, "b", State::FailedOver, None),
        ("b", "a- b+ c+", 9999, "b", State::FailedOver, None),
        ("b", "a~ b+ c+", 9999, "b", State::FailedOver, None),
    ];
    for (active, text, now, expected, state, hold) in cases {
        let decision = Fleet::of(text).on(active).decide(*now);
        let case = format!("{active} of {text} at {now}: {decision:#?}");
        assert_eq!(decision.memory.lead().map(|lead| &**lead), Some(*expected), "{case}");
        assert_eq!((decision.memory.state, decision.memory.held_by), (*state, *hold), "{case}");
        assert_eq!(decision.transition.is_some(), active != expected, "{case}");
    }
}

#[test]
fn the_first_choice_waits_until_what_is_preferred_to_it_is_known_to_be_dead() {
    let cases = [
        ("a+ b+", Some("a"), State::Preferred),
        ("a? b+", None, State::Unknown),
        ("a- b+", Some("b"), State::FailedOver),
        ("a- b? c+", None, State::Unknown),
        ("a= b+", Some("b"), State::FailedOver),
        ("a= b-", Some("a"), State::Preferred),
        ("a~ b+", Some("b"), State::FailedOver),
        ("a0 b+", Some("b"), State::FailedOver),
        ("ax b+", Some("b"), State::Preferred),
        ("a- b-", Some("a"), State::NoneHealthy),
        ("a! b-", Some("b"), State::NoneHealthy),
        ("a~ b~", None, State::Unknown),
        ("ax bx", None, State::NoneHealthy),
    ];
    for (text, expected, state) in cases {
        let decision = Fleet::of(text).decide(5);
        assert_eq!((decision.memory.lead().map(|lead| &**lead), decision.memory.state), (expected, state), "{text}");
        assert_eq!(decision.transition, None, "a first choice is no transition: {text}");
    }
}

#[test]
fn a_first_choice_waits_a_minute_for_what_nothing_is_known_of() {
    for (text, chosen) in [("a? b+", "b"), ("a? b? c+", "c"), ("a? b- c=", "c")] {
        let mut fleet = Fleet::of(text);
        let waiting = fleet.settle(59);
        assert_eq!(waiting.hold, Some(Hold::until(HoldReason::AwaitingEvidence, at(60))), "{text}");
        fleet.settle(60);
        assert_eq!(fleet.shares(), format!("{chosen}100"), "{text}");
    }
    let mut silent = Fleet::of("a? b?");
    assert_eq!(silent.settle(9999).hold, Some(Hold::open(HoldReason::AwaitingEvidence)), "never on silence alone");
    silent.candidates[1].confirmed_at = Some(at(9990));
    silent.settle(9999);
    assert_eq!(silent.shares(), "b100", "one probe is answered, another one cannot be made");
    let mut pool = Fleet::of("a? b+ c+").active_active(&[1, 1, 1]);
    assert_eq!(pool.settle(59).memory.held_by, Some(HoldReason::AwaitingEvidence));
    pool.settle(60);
    assert_eq!(pool.shares(), "b50 c50");
}

#[test]
fn a_live_standby_is_used_before_a_dead_primary_whatever_is_blocked() {
    let mut fleet = Fleet::of("a- b? c?").on("a");
    fleet.candidates[0].first_failure_at = Some(at(100));
    fleet.candidates[1].confirmed_at = Some(at(99));
    assert_eq!(fleet.decide(160).memory.held_by, Some(HoldReason::NoneHealthy), "nobody has answered since");
    fleet.candidates[2].confirmed_at = Some(at(100));
    fleet.settle(160);
    assert_eq!(fleet.shares(), "c100");
    let mut better = Fleet::of("a- b? c+").on("a");
    better.candidates[1].confirmed_at = Some(at(1));
    better.settle(160);
    assert_eq!(better.shares(), "c100", "what is known to be alive comes first");
}

/// A backend that failed since this second, and that nobody can look at any more.
fn unseen(fleet: &mut Fleet, name: &str, seconds: u64) {
    let candidate = fleet.candidates.iter_mut().find(|candidate| &*candidate.name == name).unwrap();
    candidate.unseen_failure = Some(UnseenFailure { since: at(seconds), class: EvidenceClass::NoAnswer });
}

#[test]
fn mail_leaves_what_was_last_seen_dead_for_what_can_deliver() {
    let mut fleet = Fleet::of("a? b+").on("a");
    assert_eq!(fleet.settle(150).transition, None, "of what was never seen to fail nothing is known");
    unseen(&mut fleet, "a", 100);
    let mut unconfirmed = fleet.clone();
    unconfirmed.candidates[1].confirmed_at = Some(at(99));
    assert_eq!(unconfirmed.decide(160).memory.held_by, Some(HoldReason::AwaitingConfirmation));
    let left = fleet.settle(160).transition.unwrap();
    assert_eq!((fleet.shares(), left.reason), ("b100".to_owned(), TransitionReason::Failed(EvidenceClass::NoAnswer)));

    let mut nobody = Fleet::of("a- b-").on("a");
    assert_eq!(nobody.settle(100).memory.state, State::NoneHealthy);
    nobody.set("a", "?", 110);
    unseen(&mut nobody, "a", 100);
    let still = nobody.settle(110);
    assert_eq!((still.memory.state, still.notices), (State::NoneHealthy, vec![]), "nobody has seen it answer");
    nobody.set("b", "+", 120);
    nobody.settle(200);
    assert_eq!(nobody.shares(), "b100");
}

#[test]
fn no_storm_keeps_mail_from_what_has_answered_since() {
    let mut fleet = Fleet::of("a- b? c-").on("a");
    fleet.is_storm = true;
    fleet.candidates[0].first_failure_at = Some(at(100));
    fleet.candidates[2].first_failure_at = Some(at(100));
    fleet.candidates[1].confirmed_at = Some(at(99));
    assert_eq!(fleet.decide(160).memory.held_by, Some(HoldReason::StormBrake));
    fleet.candidates[1].confirmed_at = Some(at(150));
    fleet.settle(160);
    assert_eq!(fleet.shares(), "b100");
}

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
fn without_a_policy_the_documented_defaults_are_in_force() {
    let fleet = Fleet::of("a- b+").on("a").without_policy();
    assert_eq!(fleet.decide(5).memory.lead().map(|lead| &**lead), Some("b"));
    let back = Fleet::of("a+ b+").on("b").without_policy();
    let soak = Policy::default().failback.after;
    assert_eq!(back.decide(5).hold, Some(Hold::until(HoldReason::Soak, at(0) + soak)));
}

#[test]
fn a_backend_whose_object_is_gone_is_left_for_a_healthy_standby_after_a_minute() {
    let mut fleet = Fleet::of("a0 b+").on("a");
    let held = fleet.settle(1000);
    assert_eq!(held.hold, Some(Hold::until(HoldReason::ConfigurationRejected, at(1060))));
    assert_eq!(held.next_timeout, Some(at(1060)));
    assert_eq!(fleet.settle(1030).hold, held.hold, "the grace began when it was first found");
    let mut back = fleet.clone();
    back.set("a", "+", 1050);
    assert_eq!(back.settle(1060).hold, None);
    back.set("a", "0", 1070);
    assert_eq!(back.settle(1070).hold.unwrap().until, Some(at(1130)), "a grace of its own each time");
    let left = fleet.settle(1060);
    assert_eq!((fleet.shares(), left.memory.state), ("b100".to_owned(), State::FailedOver));
    assert_eq!(left.transition.unwrap().reason, TransitionReason::Unusable);
    for text in ["a0 b=", "a0 b?", "a0 b-"] {
        let mut fleet = Fleet::of(text).on("a");
        fleet.settle(1000);
        assert_eq!(fleet.settle(9999).hold, Some(Hold::open(HoldReason::ConfigurationRejected)), "{text}");
        assert_eq!(fleet.shares(), "a100", "{text}");
    }
    let mut pool = Fleet::of("a0 b+ c+").active_active(&[1, 1, 1]);
    pool.memory.shares = ["a", "b"].map(|name| Share { backend: name.into(), percent: 50, is_overflow: false }).into();
    pool.settle(1000);
    pool.settle(1060);
    assert_eq!(pool.shares(), "b100", "the pool goes on without it");
}

#[test]
fn a_backend_whose_object_is_gone_is_left_at_once_when_it_is_seen_to_fail() {
    let mut fleet = Fleet::of("a- b+").on("a");
    fleet.candidates[0].eligibility = Eligibility::Unusable;
    let left = fleet.settle(5);
    assert_eq!(fleet.shares(), "b100");
    assert!(matches!(left.transition.unwrap().reason, TransitionReason::Failed(_)));
}

#[test]
fn residency_and_sender_domains_yield_to_nothing() {
    let switch = RequestAction::Switch { to: "b".into(), duration: None, is_forced: true };
    let pause = RequestAction::Pause { duration: None };
    for (request, lead, marks, left) in [
        (None, "a", "x-", "b100"),
        (None, "a", "x+", "b100"),
        (None, "a", "xx", ""),
        (None, "a", "x~", ""),
        (Some(switch.clone()), "b", "+x", "a100"),
        (Some(switch), "b", "-x", "a100"),
        (Some(pause.clone()), "a", "x+", "b100"),
        (Some(pause.clone()), "a", "x-", "b100"),
        (Some(pause), "a", "xx", ""),
    ] {
        let case = format!("{request:?} {marks}");
        let mut fleet = Fleet::of("a+ b+").on("a");
        if let Some(request) = request {
            fleet.ask("1", request);
        }
        fleet.settle(1000);
        assert_eq!(fleet.memory.lead().map(|lead| &**lead), Some(lead), "{case}");
        fleet.set("a", &marks[..1], 2000);
        fleet.set("b", &marks[1..], 2000);
        let decision = fleet.settle(2000);
        assert_eq!(fleet.shares(), left, "{case}");
        assert_eq!(decision.is_withdrawn(), left.is_empty(), "{case}");
        assert_eq!(fleet.settle(2000).transition, None, "{case}");
        assert_eq!(fleet.shares(), left, "{case}");
    }
}

#[test]
fn mail_that_was_withdrawn_leaves_again_as_soon_as_somebody_may_carry_it() {
    let mut fleet = Fleet::of("a+ bx").on("a");
    fleet.settle(1000);
    fleet.set("a", "x", 1010);
    let withdrawn = fleet.settle(1010);
    assert_eq!((withdrawn.memory.state, withdrawn.memory.held_by), (State::NoneHealthy, Some(HoldReason::Withdrawn)));
    assert_eq!((withdrawn.notices, withdrawn.transition), (vec![Notice::NoneHealthy], None));
    // Nothing is known of b yet: it waits, and outputs still lead nowhere.
    fleet.set("b", "?", 1020);
    let waiting = fleet.settle(1020);
    assert!(waiting.is_withdrawn() && waiting.next_timeout == Some(at(1080)), "{waiting:?}");
    fleet.set("b", "+", 1030);
    let back = fleet.settle(1030);
    assert_eq!((fleet.shares(), back.is_withdrawn()), ("b100".to_owned(), false));
    assert_eq!(back.notices, [Notice::Recovered]);
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
fn a_region_that_is_preferred_comes_before_the_list() {
    let mut fleet = Fleet::of("a+ b+ c+").on("c");
    fleet.candidates[0].region = Some("us".into());
    fleet.candidates[2].region = Some("eu".into());
    fleet.preferred_regions = vec!["eu".into(), "us".into()];
    let decision = fleet.decide(9999);
    assert_eq!((decision.memory.lead().map(|lead| &**lead), decision.memory.state), (Some("c"), State::Preferred));
    fleet.candidates[2].health = Health::Unhealthy;
    assert_eq!(fleet.decide(9999).memory.lead().map(|lead| &**lead), Some("a"));
}

#[test]
fn nobody_is_gone_to_who_has_not_answered_since_the_failure_began() {
    let mut fleet = Fleet::of("a- b+ c+").on("a");
    fleet.candidates[0].first_failure_at = Some(at(100));
    let (b, c) = (1, 2);
    fleet.candidates[b].confirmed_at = Some(at(99));
    fleet.candidates[c].confirmed_at = None;
    assert_eq!(fleet.decide(130).memory.held_by, Some(HoldReason::AwaitingConfirmation));
    fleet.candidates[c].confirmed_at = Some(at(101));
    assert_eq!(fleet.decide(131).memory.lead().map(|lead| &**lead), Some("c"), "rather than wait for b");
    let mut answered = Fleet::of("a- b+").on("a");
    answered.candidates[0].first_failure_at = Some(at(100));
    answered.candidates[0].class = EvidenceClass::AccountPaused;
    assert_eq!(answered.decide(100).memory.lead().map(|lead| &**lead), Some("b"), "a reply came through our network");
    fleet.candidates[b].confirmed_at = Some(at(100));
    assert_eq!(fleet.decide(131).memory.lead().map(|lead| &**lead), Some("b"));
}

#[test]
fn a_peer_that_sees_the_failure_and_an_answer_of_the_standby_since_confirms_it() {
    let mut fleet = Fleet::of("a- b+ c+").on("a");
    fleet.candidates[0].first_failure_at = Some(at(100));
    fleet.candidates[1].confirmed_at = None;
    fleet.candidates[2].confirmed_at = Some(at(99));
    assert_eq!(fleet.decide(130).memory.held_by, Some(HoldReason::AwaitingConfirmation));
    fleet.candidates[0].confirmed_standbys = vec!["c".into()];
    assert_eq!(fleet.decide(130).memory.lead().map(|lead| &**lead), Some("c"));
    // Of two that fail, each needs it.
    let mut pool = Fleet::of("a- b- c+").active_active(&[1, 1, 1]);
    pool.memory.shares =
        ["a", "b", "c"].map(|name| Share { backend: name.into(), percent: 33, is_overflow: false }).into();
    pool.candidates[2].confirmed_at = Some(at(99));
    for (name, first_failure_at) in [(0, 90), (1, 100)] {
        pool.candidates[name].first_failure_at = Some(at(first_failure_at));
    }
    assert_eq!(pool.decide(130).memory.held_by, Some(HoldReason::AwaitingConfirmation));
    pool.candidates[1].confirmed_standbys = vec!["c".into()];
    pool.settle(130);
    assert_eq!(pool.shares(), "c100");
}

#[test]
fn confirmation_is_asked_of_a_failure_of_which_only_the_verdict_is_known() {
    let mut fleet = Fleet::of("a- b+").on("a");
    fleet.set("a", "+", 0);
    fleet.set("a", "-", 100);
    fleet.candidates[1].confirmed_at = Some(at(99));
    assert_eq!(fleet.decide(130).memory.held_by, Some(HoldReason::AwaitingConfirmation));
    fleet.candidates[1].confirmed_at = Some(at(100));
    assert_eq!(fleet.decide(130).memory.lead().map(|lead| &**lead), Some("b"));
}

#[test]
fn a_storm_moves_nothing_and_afterwards_the_backend_in_use_has_its_chance() {
    let mut fleet = Fleet::of("a- b-").on("a");
    fleet.policy.as_mut().unwrap().when_none_healthy = WhenNoneHealthy::Preferred;
    fleet.is_storm = true;
    fleet.settle(1000);
    assert_eq!((fleet.memory.state, fleet.memory.held_by), (State::NoneHealthy, Some(HoldReason::StormBrake)));
    fleet.is_storm = false;
    fleet.set("b", "+", 1010);
    let settling = fleet.settle(1010);
    assert_eq!(settling.hold, Some(Hold::until(HoldReason::StormBrake, at(1070))));
    assert_eq!(settling.next_timeout, Some(at(1070)));
    let mut patient = fleet.clone();
    patient.policy.as_mut().unwrap().hold.minimum_stay = Duration::from_hours(5);
    assert_eq!(patient.decide(1011).hold, settling.hold, "a minute at most");
    let mut recovered = fleet.clone();
    recovered.set("a", "+", 1020);
    let decision = recovered.settle(1020);
    assert_eq!((decision.transition, decision.memory.state), (None, State::Preferred));
    assert_eq!(fleet.settle(1070).memory.lead().map(|lead| &**lead), Some("b"), "the one in use stays dead");
}

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
    assert_eq!(fleet.memory.answered.iter().map(|id| &**id).collect::<Vec<_>>(), ["2", "1"]);
    for id in 0..100 {
        fleet.ask(&format!("n{id}"), RequestAction::Resume);
        fleet.settle(1000 + id);
    }
    assert_eq!(fleet.memory.answered.len(), crate::engine::MAX_ANSWERED, "a bounded list");
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
fn when_none_is_healthy_the_policy_may_prefer_the_preferred_one_as_soon_as_the_holds_allow() {
    let mut fleet = Fleet::of("a- b-").on("b");
    fleet.policy.as_mut().unwrap().when_none_healthy = WhenNoneHealthy::Preferred;
    let waiting = fleet.decide(599);
    assert_eq!((waiting.memory.lead().map(|lead| &**lead), waiting.next_timeout), (Some("b"), Some(at(600))));
    let moved = fleet.decide(600);
    assert_eq!((moved.memory.lead().map(|lead| &**lead), moved.memory.state), (Some("a"), State::NoneHealthy));
    assert_eq!(moved.notices, [Notice::Moved, Notice::NoneHealthy]);
}

#[test]
fn people_hear_once_that_nobody_is_healthy_and_once_that_somebody_is_again() {
    let mut fleet = Fleet::of("a- b-").on("a");
    assert_eq!(fleet.settle(1).notices, [Notice::NoneHealthy]);
    assert_eq!(fleet.settle(2).notices, []);
    fleet.set("a", "?", 3);
    let unknown = fleet.settle(3);
    assert_eq!((unknown.notices.len(), unknown.memory.state), (0, State::NoneHealthy));
    let mut back = fleet.clone();
    back.set("a", "+", 4);
    let back = back.settle(4);
    assert_eq!((back.notices, back.memory.state), (vec![Notice::Recovered], State::Preferred));
    fleet.set("a", "-", 4);
    fleet.set("b", "+", 4);
    assert_eq!(fleet.settle(4).notices, [Notice::Moved, Notice::Recovered]);
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
    let window = FailbackWindow::new("0 2 * * *", "UTC", Duration::from_hours(2)).unwrap();
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
    let window = FailbackWindow::new("0 2 * * *", "UTC", Duration::from_hours(2)).unwrap();
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

fn ramped() -> Fleet {
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

#[test]
fn every_decision_is_explained() {
    let fleet = Fleet::of("a+ b+ cx").on("b");
    let decision = fleet.decide(599);
    let reasons: Vec<_> = decision.explanation.reasons.iter().map(ToString::to_string).collect();
    assert_eq!(
        reasons,
        [
            "a is Healthy since 1970-01-01T00:00:00Z",
            "b is Healthy since 1970-01-01T00:00:00Z",
            "c is outside the jurisdictions of the route",
            "the route moved at 1970-01-01T00:00:00Z from a to b: NoAnswer of a",
            "held by Cooldown until 1970-01-01T00:10:00Z: too soon after the latest transition",
            "b carries 100 %",
        ]
    );
    let next_changes: Vec<_> = decision.explanation.next_changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        next_changes,
        ["Cooldown ends at 1970-01-01T00:10:00Z", "b turns Unhealthy (0 of 3 failures in a row): mail goes to a",]
    );
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

#[test]
fn the_policy_of_these_tests_is_what_the_tables_say() {
    let policy = policy();
    assert_eq!((policy.hold.cooldown.as_secs(), policy.hold.minimum_stay.as_secs()), (600, 60));
    assert_eq!(policy.failback.after.as_secs(), 300);
}
