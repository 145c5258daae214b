use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{Budget, Failback, Hold, Objectives, Thresholds};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(0) + Duration::from_secs(seconds)
}

fn policy() -> Policy {
    Policy {
        thresholds: Thresholds { failure: 3, recovery: 5, ..Thresholds::default() },
        hold: Hold {
            cooldown: Duration::from_mins(10),
            minimum_stay: Duration::from_mins(1),
            budget: Budget { switches: 10, per: Duration::from_secs(1) },
        },
        when_none_healthy: WhenNoneHealthy::Hold,
        failback: Failback {
            mode: FailbackMode::Automatic,
            after: Duration::from_mins(5),
            windows: vec![],
            ramp: vec![],
        },
        objectives: Objectives { recovery_time: None },
    }
}

/// `a+` is healthy, `a-` unhealthy, `a?` unknown, `a~` suspended and healthy, `a!` suspended and unhealthy, `a0` unusable; all since 0 s.
fn candidates(text: &str) -> Vec<Candidate> {
    let candidate = |word: &str| {
        let (name, mark) = word.split_at(word.len() - 1);
        let (standing, health) = match mark {
            "+" => (Standing::InService, Health::Healthy),
            "-" => (Standing::InService, Health::Unhealthy),
            "?" => (Standing::InService, Health::Unknown),
            "~" => (Standing::Suspended, Health::Healthy),
            "!" => (Standing::Suspended, Health::Unhealthy),
            "0" => (Standing::Unusable, Health::Unknown),
            other => panic!("{other} means nothing"),
        };
        let class = if health == Health::Healthy { EvidenceClass::Ok } else { EvidenceClass::NoAnswer };
        Candidate { name: name.into(), standing, health, since: at(0), class, first_failure_at: None }
    };
    text.split_whitespace().map(candidate).collect()
}

/// A route that has been on `active` since 0 s, having got there by a transition unless it is the first of the list.
fn memory(active: &str, state: State) -> Memory {
    let last_transition = (active != "a").then(|| Transition {
        id: 7,
        kind: TransitionKind::Failover,
        from: "a".into(),
        to: active.into(),
        reason: TransitionReason::Failed(EvidenceClass::NoAnswer),
        first_evidence_at: None,
        decided_at: at(0),
    });
    Memory { active: Some(active.into()), since: at(0), state, last_transition }
}

/// Active, candidates, seconds since everything was as it is; then: active, state, hold.
type Case<'a> = (&'a str, &'a str, u64, &'a str, State, Option<HoldReason>);

#[test]
fn where_mail_goes() {
    let cases: &[Case] = &[
        // A healthy preferred backend stays.
        ("a", "a+ b+", 0, "a", State::Preferred, None),
        // A dead one is left at once, past those that cannot deliver, whatever the holds.
        ("a", "a- b+", 0, "b", State::FailedOver, None),
        ("a", "a- b- c+", 0, "c", State::FailedOver, None),
        ("a", "a- b? c+", 0, "c", State::FailedOver, None),
        ("a", "a- b~ c+", 0, "c", State::FailedOver, None),
        ("a", "a- b0 c+", 0, "c", State::FailedOver, None),
        ("b", "a- b- c+", 1, "c", State::FailedOver, None),
        ("b", "a+ b-", 1, "a", State::Preferred, None),
        // Unknown is not unhealthy, and an unusable object is no evidence.
        ("a", "a? b+", 9999, "a", State::Preferred, None),
        ("a", "a0 b+", 9999, "a", State::Holding, Some(HoldReason::ConfigurationRejected)),
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
        let decision = decide(at(*now), Some(&policy()), &candidates(text), &memory(active, State::Unknown));
        let case = format!("{active} of {text} at {now}: {decision:?}");
        assert_eq!(decision.memory.active.as_deref(), Some(*expected), "{case}");
        assert_eq!((decision.memory.state, decision.hold.map(|hold| hold.0)), (*state, *hold), "{case}");
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
        ("a~ b+", Some("b"), State::FailedOver),
        ("a0 b+", Some("b"), State::FailedOver),
        ("a- b-", Some("a"), State::NoneHealthy),
        ("a! b-", Some("b"), State::NoneHealthy),
        ("a~ b~", None, State::Unknown),
    ];
    for (text, expected, state) in cases {
        let decision = decide(at(5), Some(&policy()), &candidates(text), &Memory::default());
        assert_eq!((decision.memory.active.as_deref(), decision.memory.state), (expected, state), "{text}");
        assert_eq!(decision.transition, None, "a first choice is no transition: {text}");
    }
}

#[test]
fn without_a_policy_nothing_moves() {
    let decision = decide(at(5), None, &candidates("a- b+"), &memory("a", State::Preferred));
    assert_eq!((decision.memory.active.as_deref(), decision.memory.state), (Some("a"), State::Holding));
    assert_eq!(decision.hold, Some((HoldReason::ConfigurationRejected, None)));
}

#[test]
fn manual_failback_says_that_the_way_back_is_open_and_stays() {
    let policy = Policy { failback: Failback { mode: FailbackMode::Manual, ..policy().failback }, ..policy() };
    let decide = |now, text| decide(at(now), Some(&policy), &candidates(text), &memory("b", State::FailedOver));
    assert_eq!(decide(599, "a+ b+").hold, Some((HoldReason::Cooldown, Some(at(600)))));
    let open = decide(600, "a+ b+");
    assert_eq!((open.memory.active.as_deref(), open.hold), (Some("b"), Some((HoldReason::ManualFailback, None))));
    assert_eq!(
        decide(600, "a+ b-").memory.active.as_deref(),
        Some("a"),
        "a dead active backend is left in either mode"
    );
}

#[test]
fn when_none_is_healthy_the_policy_may_prefer_the_preferred_one_as_soon_as_the_holds_allow() {
    let policy = Policy { when_none_healthy: WhenNoneHealthy::Preferred, ..policy() };
    let decide = |now| decide(at(now), Some(&policy), &candidates("a- b-"), &memory("b", State::FailedOver));
    let waiting = decide(599);
    assert_eq!((waiting.memory.active.as_deref(), waiting.wake_at), (Some("b"), Some(at(600))));
    let moved = decide(600);
    assert_eq!((moved.memory.active.as_deref(), moved.memory.state), (Some("a"), State::NoneHealthy));
    assert_eq!(moved.announcements, [Announcement::Moved, Announcement::NoneHealthy]);
}

#[test]
fn people_hear_once_that_nobody_is_healthy_and_once_that_somebody_is_again() {
    let dead = decide(at(1), Some(&policy()), &candidates("a- b-"), &memory("a", State::Preferred));
    assert_eq!(dead.announcements, [Announcement::NoneHealthy]);
    let still = decide(at(2), Some(&policy()), &candidates("a- b-"), &dead.memory);
    assert_eq!(still.announcements, []);
    let unknown = decide(at(3), Some(&policy()), &candidates("a? b-"), &still.memory);
    assert_eq!((unknown.announcements.len(), unknown.memory.state), (0, State::NoneHealthy));
    let back = decide(at(4), Some(&policy()), &candidates("a+ b-"), &unknown.memory);
    assert_eq!((back.announcements, back.memory.state), (vec![Announcement::Recovered], State::Preferred));
    let moved = decide(at(4), Some(&policy()), &candidates("a- b+"), &unknown.memory);
    assert_eq!(moved.announcements, [Announcement::Moved, Announcement::Recovered]);
}

const MARKS: [&str; 6] = ["+", "-", "?", "~", "!", "0"];

prop_compose! {
    fn any_policy()(
        cooldown in 0_u64..600, minimum_stay in 0_u64..600, after in 0_u64..600,
        prefers in any::<bool>(), is_manual in any::<bool>(),
    ) -> Policy {
        Policy {
            thresholds: Thresholds::default(),
            hold: Hold { cooldown: Duration::from_secs(cooldown), minimum_stay: Duration::from_secs(minimum_stay), budget: Budget { switches: 10, per: Duration::from_secs(1) } },
            when_none_healthy: if prefers { WhenNoneHealthy::Preferred } else { WhenNoneHealthy::Hold },
            failback: Failback {
                mode: if is_manual { FailbackMode::Manual } else { FailbackMode::Automatic },
                after: Duration::from_secs(after),
                windows: vec![],
                ramp: vec![],
            },
            objectives: Objectives { recovery_time: None },
        }
    }
}

proptest! {
    /// Random fleets whose marks change at random times: each decision is checked against the promises.
    #[test]
    fn promises_hold_over_random_histories(
        policy in any_policy(),
        steps in prop::collection::vec((0_u64..200, prop::collection::vec(0_usize..6, 4)), 1..40),
    ) {
        let names = ["a", "b", "c", "d"];
        let (mut now, mut memory) = (at(1000), Memory::default());
        let mut fleet: Vec<(usize, Timestamp)> = vec![(2, now); 4];
        for (wait, marks) in steps {
            now = now + Duration::from_secs(wait);
            for (member, mark) in fleet.iter_mut().zip(marks) {
                if member.0 != mark {
                    *member = (mark, now);
                }
            }
            let text: Vec<_> = names.iter().zip(&fleet).map(|(name, (mark, _))| format!("{name}{}", MARKS[*mark])).collect();
            let mut candidates = candidates(&text.join(" "));
            for (candidate, (_, since)) in candidates.iter_mut().zip(&fleet) {
                candidate.since = *since;
            }
            let decision = decide(now, Some(&policy), &candidates, &memory);
            prop_assert_eq!(&decision, &decide(now, Some(&policy), &candidates, &memory), "the same inputs, another decision");
            let find = |name: &str| candidates.iter().find(|candidate| &*candidate.name == name).unwrap();
            if let Some(transition) = &decision.transition {
                let (from, to) = (find(&transition.from), find(&transition.to));
                let was_forced = from.standing == Standing::Suspended
                    || (from.standing == Standing::InService && from.health == Health::Unhealthy);
                prop_assert!(to.standing == Standing::InService, "to {to:?}");
                prop_assert!(to.health == Health::Healthy || transition.reason == TransitionReason::NoneHealthy);
                if !was_forced || transition.reason == TransitionReason::NoneHealthy {
                    prop_assert!(memory.since + policy.hold.minimum_stay <= now);
                    if let Some(last) = &memory.last_transition {
                        prop_assert!(last.decided_at + policy.hold.cooldown <= now, "within cooldown");
                    }
                }
                if transition.reason == TransitionReason::Recovered {
                    prop_assert!(to.since + policy.failback.after <= now, "before the soak was over");
                    prop_assert_eq!(policy.failback.mode, FailbackMode::Automatic);
                }
                prop_assert_eq!(transition.id, memory.last_transition.as_ref().map_or(0, |last| last.id) + 1);
            } else if memory.active.is_some() {
                prop_assert_eq!(&decision.memory.active, &memory.active, "a move without a transition");
            }
            if let Some(wake_at) = decision.wake_at {
                prop_assert!(wake_at > now, "a timer that has already ended");
                let just_before = decide(wake_at - Duration::from_micros(1), Some(&policy), &candidates, &decision.memory);
                prop_assert_eq!(just_before.transition, None, "earlier than its timer");
                let then = decide(wake_at, Some(&policy), &candidates, &decision.memory);
                prop_assert!(then.transition.is_some() || then.hold != decision.hold, "a timer after which nothing is different");
            }
            memory = decision.memory;
        }
    }
}
