//! Choice of a backend as tables: each case is a situation and the expected decision.

use std::time::Duration;

use super::*;
use crate::engine::testing::{Fleet, at, policy};
use crate::engine::{Health, RequestAction, Share, State, UnseenFailure};
use crate::model::{EvidenceClass, WhenNoneHealthy};

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
fn the_policy_of_these_tests_is_what_the_tables_say() {
    let policy = policy();
    assert_eq!((policy.hold.cooldown.as_secs(), policy.hold.minimum_stay.as_secs()), (600, 60));
    assert_eq!(policy.failback.after.as_secs(), 300);
}
