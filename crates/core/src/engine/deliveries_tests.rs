use proptest::prelude::*;

use super::*;
use crate::model::ObjectKey;

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(0) + Duration::from_secs(second)
}

fn agent(name: &str) -> Agent {
    Agent { route: ObjectKey::new("shop", "orders"), name: name.into() }
}

const COOLDOWN: Duration = Duration::from_mins(10);

/// Deliveries that have failed in this second.
fn failing(since: u64) -> DeliveryVerdict {
    of_class(EvidenceClass::AccountPaused, since)
}

fn of_class(class: EvidenceClass, since: u64) -> DeliveryVerdict {
    DeliveryVerdict::Failing(FailingDeliveries {
        class,
        message: "554 Sending paused".into(),
        first_failure_at: at(since),
        last_failure_at: at(since),
        stage: None,
    })
}

fn health(deliveries: &Deliveries) -> Option<Health> {
    deliveries.judgement().map(|judgement| judgement.health)
}

#[test]
fn a_majority_of_those_with_an_opinion_decides() {
    for (words, wanted) in [
        (vec![failing(9)], Some(Health::Unhealthy)),
        (vec![failing(9), DeliveryVerdict::Silent, DeliveryVerdict::Silent], Some(Health::Unhealthy)),
        (vec![failing(9), DeliveryVerdict::Passing], None),
        (vec![failing(9), DeliveryVerdict::Passing, DeliveryVerdict::Passing], None),
        (vec![failing(9), failing(9), DeliveryVerdict::Passing], Some(Health::Unhealthy)),
        (vec![DeliveryVerdict::Passing, DeliveryVerdict::Passing], None),
        (vec![DeliveryVerdict::Silent], None),
    ] {
        let mut deliveries = Deliveries::default();
        // Those who pass first: otherwise the first to fail is alone for a moment.
        let mut ordered = words.clone();
        ordered.sort_by_key(|verdict| matches!(verdict, DeliveryVerdict::Failing(_)));
        for (index, verdict) in ordered.into_iter().enumerate() {
            deliveries.record(&agent(&index.to_string()), verdict, COOLDOWN, at(10));
        }
        assert_eq!(health(&deliveries), wanted, "{words:?}");
    }
}

#[test]
fn the_verdict_tells_what_the_first_failure_was() {
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("a"), failing(9), COOLDOWN, at(10));
    let judgement = deliveries.judgement().unwrap();
    assert_eq!((judgement.since, judgement.first_failure_at), (at(10), Some(at(9))));
    assert_eq!(
        (judgement.class, &*judgement.message),
        (EvidenceClass::AccountPaused, "deliveries: 554 Sending paused")
    );
}

#[test]
fn it_lapses_after_the_last_failure_and_is_healthy_only_since_then() {
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("a"), failing(9), COOLDOWN, at(10));
    // The agent has nothing to send there any more; then it is gone.
    deliveries.record(&agent("a"), DeliveryVerdict::Silent, COOLDOWN, at(20));
    assert_eq!(deliveries.next_timeout(at(20)), Some(at(609)));
    deliveries.handle_timeout(at(608));
    assert_eq!(health(&deliveries), Some(Health::Unhealthy));
    deliveries.handle_timeout(at(609));
    let judgement = deliveries.judgement().unwrap();
    assert_eq!((judgement.health, judgement.since), (Health::Healthy, at(609)));
    assert_eq!(deliveries.next_timeout(at(609)), None);
}

#[test]
fn further_failures_put_the_lapse_off_and_a_word_that_is_only_repeated_does_not() {
    let mut deliveries = Deliveries::default();
    for second in (10..700).step_by(10) {
        deliveries.record(&agent("a"), failing(if second < 100 { second } else { 90 }), COOLDOWN, at(second));
    }
    // The last failure was at 90 s.
    let judgement = deliveries.judgement().unwrap();
    assert_eq!((judgement.health, judgement.since), (Health::Healthy, at(690)));
}

#[test]
fn who_falls_silent_has_no_opinion() {
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("b"), DeliveryVerdict::Passing, COOLDOWN, at(0));
    deliveries.record(&agent("a"), failing(9), COOLDOWN, at(10));
    assert_eq!(health(&deliveries), None, "one of two");
    assert_eq!(deliveries.next_timeout(at(10)), Some(at(30)));
    deliveries.handle_timeout(at(30));
    assert_eq!(health(&deliveries), Some(Health::Unhealthy), "the other has not been heard for 30 s");
}

#[test]
fn an_earlier_leaders_verdict_holds_unless_agents_were_heard() {
    let mut earlier = Judgement::restored(Health::Unhealthy, at(5), EvidenceClass::AccountPaused, "paused");
    earlier.first_failure_at = Some(at(4));
    let mut fresh = Deliveries::default();
    fresh.adopt(&earlier, None, COOLDOWN, at(10));
    assert_eq!(fresh.judgement(), Some(&earlier));
    assert_eq!(fresh.next_timeout(at(10)), Some(at(605)));

    let mut late = Deliveries::default();
    late.adopt(&earlier, None, COOLDOWN, at(605));
    assert_eq!(late.judgement(), None, "it has lapsed");

    let mut reported = Deliveries::default();
    reported.record(&agent("a"), DeliveryVerdict::Passing, COOLDOWN, at(9));
    reported.adopt(&earlier, None, COOLDOWN, at(10));
    assert_eq!(reported.judgement(), None, "agents say otherwise");

    let mut same = Deliveries::default();
    same.record(&agent("a"), failing(9), COOLDOWN, at(10));
    same.adopt(&earlier, None, COOLDOWN, at(10));
    assert_eq!(same.judgement().map(|judgement| judgement.since), Some(at(5)), "a change of leaders is no news");
}

/// A message that was refused in this second, at a stage.
fn refused(stage: DeliveryStage, since: u64) -> DeliveryVerdict {
    let DeliveryVerdict::Failing(failing) = failing(since) else { unreachable!("that is what it makes") };
    DeliveryVerdict::Failing(FailingDeliveries { stage: Some(stage), ..failing })
}

#[test]
fn what_was_refused_at_the_data_is_trusted_again_by_a_message_alone() {
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("a"), refused(DeliveryStage::Data, 9), COOLDOWN, at(10));
    for stage in Stage::ALL {
        deliveries.probe_succeeded(*stage, at(20), at(20));
    }
    deliveries.handle_timeout(at(100_000));
    assert_eq!((health(&deliveries), deliveries.awaited_stage()), (Some(Health::Unhealthy), Some(DeliveryStage::Data)));
    deliveries.record(&agent("a"), DeliveryVerdict::Passing, COOLDOWN, at(100_010));
    assert_eq!((health(&deliveries), deliveries.awaited_stage()), (Some(Health::Healthy), None));
    assert_eq!(deliveries.judgement().unwrap().since, at(100_010), "the soak starts there");
}

#[test]
fn a_probe_as_deep_acquits_after_the_cooldown_and_a_shallow_one_never() {
    let mail = DeliveryStage::Session(Stage::Mail);
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("a"), refused(mail, 9), COOLDOWN, at(10));
    deliveries.probe_succeeded(Stage::Auth, at(20), at(20));
    deliveries.handle_timeout(at(700));
    assert_eq!(health(&deliveries), Some(Health::Unhealthy));
    deliveries.probe_succeeded(Stage::Mail, at(701), at(702));
    assert_eq!(health(&deliveries), Some(Health::Healthy));
    // One that came before the cooldown has ended waits for that.
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("a"), refused(mail, 9), COOLDOWN, at(10));
    deliveries.probe_succeeded(Stage::Mail, at(20), at(20));
    assert_eq!(health(&deliveries), Some(Health::Unhealthy));
    deliveries.handle_timeout(at(609));
    assert_eq!(health(&deliveries), Some(Health::Healthy));
}

#[test]
fn an_accusation_outlives_a_restart_and_every_cooldown() {
    let earlier = Judgement::restored(Health::Unhealthy, at(5), EvidenceClass::AccountPaused, "paused");
    let mut fresh = Deliveries::default();
    fresh.adopt(&earlier, Some(DeliveryStage::Data), COOLDOWN, at(100_000));
    fresh.handle_timeout(at(100_001));
    assert_eq!((health(&fresh), fresh.awaited_stage()), (Some(Health::Unhealthy), Some(DeliveryStage::Data)));
}

#[test]
fn a_persons_word_acquits_and_what_was_judged_does_not_accuse_again() {
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("a"), refused(DeliveryStage::Data, 9), COOLDOWN, at(10));
    deliveries.acquit(at(20));
    assert_eq!(health(&deliveries), Some(Health::Healthy));
    deliveries.record(&agent("a"), refused(DeliveryStage::Data, 9), COOLDOWN, at(21));
    assert_eq!(health(&deliveries), Some(Health::Healthy), "the agent says the same again");
    deliveries.record(&agent("a"), refused(DeliveryStage::Data, 25), COOLDOWN, at(26));
    assert_eq!(health(&deliveries), Some(Health::Unhealthy), "it has failed again");
    // Nobody is acquitted of what the agents see now without an accusation.
    let mut plain = Deliveries::default();
    plain.record(&agent("a"), failing(9), COOLDOWN, at(10));
    plain.acquit(at(20));
    assert_eq!(health(&plain), Some(Health::Unhealthy));
}

#[test]
fn a_person_is_needed_when_no_message_has_tried_it_for_a_day() {
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("a"), refused(DeliveryStage::Data, 9), COOLDOWN, at(10));
    // An agent that says nothing of it may have no trial to give.
    for second in (1000..86_000).step_by(10) {
        deliveries.record(&agent("a"), DeliveryVerdict::Silent, COOLDOWN, at(second));
    }
    assert_eq!(deliveries.needs_person_at(), Some(at(9 + 86_400)));
    assert_eq!(deliveries.next_timeout(at(86_000)), Some(at(9 + 86_400)));
    deliveries.acquit(at(86_500));
    assert_eq!(deliveries.needs_person_at(), None);
}

#[test]
fn trials_that_fail_need_no_person_and_a_failure_that_is_only_repeated_is_no_trial() {
    let mut deliveries = Deliveries::default();
    // Two days of trials, one in an hour.
    for hour in 0..48 {
        let tried_at = hour * 3600;
        for second in [10, 300, 900, 3590] {
            deliveries.record(&agent("a"), refused(DeliveryStage::Data, tried_at), COOLDOWN, at(tried_at + second));
        }
        assert_eq!(deliveries.needs_person_at(), Some(at(tried_at + 86_400)), "hour {hour}");
    }
    assert_eq!(health(&deliveries), Some(Health::Unhealthy));
}

#[test]
fn a_new_process_gives_trials_a_day_before_it_asks_a_person() {
    let earlier = Judgement::restored(Health::Unhealthy, at(5), EvidenceClass::AccountPaused, "paused");
    let mut fresh = Deliveries::default();
    fresh.adopt(&earlier, Some(DeliveryStage::Data), COOLDOWN, at(100_000));
    fresh.record(&agent("a"), DeliveryVerdict::Silent, COOLDOWN, at(100_010));
    assert_eq!(fresh.needs_person_at(), Some(at(100_000 + 86_400)));
}

fn any_word() -> impl Strategy<Value = (u8, DeliveryVerdict)> {
    let class = prop::sample::select(EvidenceClass::ALL);
    let failing = (class, 0_u64..100).prop_map(|(class, since)| of_class(class, since));
    let throttled = (0_u64..100).prop_map(|since| throttled(since, since + 300));
    (
        0_u8..5,
        prop_oneof![3 => failing, 2 => throttled, 2 => Just(DeliveryVerdict::Passing), 1 => Just(DeliveryVerdict::Silent)],
    )
}

proptest! {
    /// Replies about recipients, and whatever is no failure of the backend, never count.
    #[test]
    fn without_a_failure_of_the_backend_there_is_never_a_verdict(words in prop::collection::vec((any_word(), 0_u64..60), 0..40)) {
        let (mut deliveries, mut now) = (Deliveries::default(), at(100));
        for ((name, verdict), pause) in words {
            let is_trouble = match &verdict {
                DeliveryVerdict::Failing(failing) => failing.class.effect() == Effect::Failure,
                DeliveryVerdict::Throttled(_) => true,
                DeliveryVerdict::Passing | DeliveryVerdict::Silent => false,
            };
            if !is_trouble {
                deliveries.record(&agent(&name.to_string()), verdict, COOLDOWN, now);
            }
            now = now + Duration::from_secs(pause);
            deliveries.handle_timeout(now);
            prop_assert_eq!(deliveries.judgement(), None);
        }
    }

    /// A verdict of Unhealthy needs more than half of the agents that have a verdict, and ends at
    /// the latest when the last verdict has lapsed.
    #[test]
    fn a_minority_turns_nothing_and_nothing_lasts_for_ever(words in prop::collection::vec((any_word(), 0_u64..60), 0..60)) {
        let (mut deliveries, mut now) = (Deliveries::default(), at(100));
        // Until when each agent's verdict holds, and whether it is that deliveries fail.
        let mut verdicts: BTreeMap<u8, (Timestamp, bool)> = BTreeMap::new();
        for ((name, verdict), pause) in words {
            let held = match &verdict {
                DeliveryVerdict::Failing(failing) if failing.class.effect() == Effect::Failure => {
                    let lapses_at = failing.last_failure_at + COOLDOWN;
                    Some((lapses_at.min(now + REPORT_HOLDS), true))
                }
                DeliveryVerdict::Throttled(throttled) => {
                    Some(((throttled.last_at.min(now) + COOLDOWN).min(now + REPORT_HOLDS), false))
                }
                DeliveryVerdict::Passing => Some((now + REPORT_HOLDS, false)),
                DeliveryVerdict::Failing(_) | DeliveryVerdict::Silent => None,
            };
            verdicts.remove(&name);
            verdicts.extend(held.map(|held| (name, held)));
            let before = health(&deliveries);
            deliveries.record(&agent(&name.to_string()), verdict, COOLDOWN, now);
            verdicts.retain(|_, (until, _)| *until > now);
            let fails = verdicts.values().filter(|(_, fails)| *fails).count();
            if before != Some(Health::Unhealthy) && health(&deliveries) == Some(Health::Unhealthy) {
                prop_assert!(fails * 2 > verdicts.len(), "{fails} of {}", verdicts.len());
            }
            now = now + Duration::from_secs(pause);
        }
        deliveries.handle_timeout(at(10_000));
        prop_assert!(matches!(health(&deliveries), None | Some(Health::Healthy)));
        prop_assert_eq!(deliveries.next_timeout(at(10_000)), None);
    }
}

/// Deliveries that were asked for less since one second, and in another one last.
fn throttled(since: u64, last: u64) -> DeliveryVerdict {
    DeliveryVerdict::Throttled(ThrottledDeliveries {
        message: "454 Throttling failure: Maximum sending rate exceeded".into(),
        first_at: at(since),
        last_at: at(last),
    })
}

#[test]
fn real_mail_that_most_agents_see_throttled_only_makes_a_backend_degraded_until_it_passes_or_nothing_is_sent() {
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("a"), throttled(100, 400), COOLDOWN, at(400));
    let judgement = deliveries.judgement().unwrap();
    assert_eq!(
        (judgement.health, judgement.class, judgement.since),
        (Health::Degraded, EvidenceClass::Throttled, at(400))
    );
    assert_eq!(judgement.first_failure_at, None, "it has not failed");
    let words = "deliveries: nothing but throttling for 300s: 454 Throttling failure: Maximum sending rate exceeded";
    assert_eq!(&*judgement.message, words);
    deliveries.record(&agent("a"), DeliveryVerdict::Passing, COOLDOWN, at(410));
    assert_eq!(health(&deliveries), Some(Health::Healthy));

    deliveries.record(&agent("a"), throttled(420, 720), COOLDOWN, at(720));
    deliveries.record(&agent("a"), DeliveryVerdict::Silent, COOLDOWN, at(730));
    assert_eq!(health(&deliveries), Some(Health::Degraded), "its mail has moved away");
    assert_eq!(deliveries.next_timeout(at(730)), Some(at(1320)));
    deliveries.handle_timeout(at(1320));
    assert_eq!(health(&deliveries), Some(Health::Healthy));
}

#[test]
fn a_majority_decides_about_throttling_and_a_failure_weighs_more() {
    for (words, wanted) in [
        (vec![throttled(0, 300), DeliveryVerdict::Passing], None),
        (vec![throttled(0, 300), throttled(0, 300), DeliveryVerdict::Passing], Some(Health::Degraded)),
        (vec![throttled(0, 300), DeliveryVerdict::Silent], Some(Health::Degraded)),
        (vec![failing(300), failing(300), throttled(0, 300)], Some(Health::Unhealthy)),
        (vec![failing(300), throttled(0, 300)], None),
    ] {
        let mut deliveries = Deliveries::default();
        for name in ["a", "b", "c"].iter().take(words.len()) {
            deliveries.record(&agent(name), DeliveryVerdict::Passing, COOLDOWN, at(290));
        }
        for (name, verdict) in ["a", "b", "c"].iter().zip(&words) {
            deliveries.record(&agent(name), verdict.clone(), COOLDOWN, at(300));
        }
        assert_eq!(health(&deliveries), wanted, "{words:?}");
    }
}

#[test]
fn who_is_throttled_after_a_failure_has_not_recovered() {
    let mut deliveries = Deliveries::default();
    deliveries.record(&agent("a"), failing(9), COOLDOWN, at(10));
    deliveries.record(&agent("a"), throttled(20, 330), COOLDOWN, at(330));
    assert_eq!(health(&deliveries), Some(Health::Unhealthy), "the failure has not lapsed");
    deliveries.record(&agent("a"), throttled(20, 609), COOLDOWN, at(609));
    assert_eq!(health(&deliveries), Some(Health::Degraded));
}
