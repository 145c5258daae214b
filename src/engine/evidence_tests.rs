use proptest::prelude::*;

use super::*;
use crate::engine::judgement::tests::any_thresholds;
use crate::engine::{Agreement, Fleet};
use crate::model::{Depth, EvidenceClasses, ObjectKey, ProbeKey, Resolution, Stage};

const TWO_THREE: Thresholds = Thresholds {
    failure: 2,
    recovery: 3,
    stable_for: Duration::ZERO,
    window: None,
    latency: None,
    immediate: EvidenceClasses::NONE,
};
/// 3 intervals, the timeout and the grace.
const STALE_AFTER: u64 = 65;

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(0) + Duration::from_secs(second)
}

fn probe(name: &str, interval: Duration) -> Probe {
    Probe { name: name.into(), interval, timeout: Duration::from_secs(5), depth: Depth::Ehlo }
}

fn tracked(probes: &[&str]) -> Evidence {
    let probes: Vec<_> = probes.iter().map(|name| probe(name, Duration::from_secs(10))).collect();
    let mut evidence = Evidence::default();
    assert!(evidence.track(&[TWO_THREE].into(), &probes, at(0)));
    assert!(!evidence.track(&[TWO_THREE].into(), &probes, at(1)));
    evidence
}

fn report(probe: &str, sequence: u64, finished_at: Timestamp, class: EvidenceClass) -> ProbeReport {
    ProbeReport {
        key: ProbeKey { backend: ObjectKey::new("shop", "ses"), probe: probe.into() },
        revision: 1,
        sequence,
        started_at: finished_at - Duration::from_secs(1),
        finished_at,
        resolution: Resolution::NotNeeded,
        addresses: vec![],
        outcome: Outcome {
            class,
            stage: Stage::Banner,
            message: class.as_str().to_owned(),
            certificate_not_after: None,
            elapsed: Duration::from_secs(1),
        },
    }
}

/// Feeds one observation a second, from this second on: `+` success, `-` failure, a space for none.
fn feed(evidence: &mut Evidence, probe: &str, second: u64, marks: &str) {
    for (mark, second) in marks.chars().zip(second..) {
        let class = match mark {
            '+' => EvidenceClass::Ok,
            '-' => EvidenceClass::NoAnswer,
            't' => EvidenceClass::Throttled,
            'r' => EvidenceClass::RecipientLevel,
            'i' => EvidenceClass::Inconclusive,
            _ => continue,
        };
        evidence.observe(&report(probe, second, at(second), class), at(second));
    }
}

fn verdict(evidence: &Evidence, second: u64) -> Verdict {
    evidence.verdict(TWO_THREE, at(second)).unwrap()
}

/// Health and since.
fn said(evidence: &Evidence, second: u64) -> (Health, Timestamp) {
    let verdict = verdict(evidence, second);
    (verdict.health, verdict.since)
}

fn hear(evidence: &mut Evidence, observer: &str, health: Health, since: u64, now: u64) {
    let class = if health == Health::Unhealthy { EvidenceClass::ConnectionRefused } else { EvidenceClass::Ok };
    let first_failure_at = (health == Health::Unhealthy).then(|| at(since) - Duration::from_secs(1));
    let sighting = Sighting { health, since: at(since), class, first_failure_at };
    evidence.hear(&observer.into(), TWO_THREE, sighting, at(now));
}

#[test]
fn the_probe_that_tells_most_speaks_for_the_backend() {
    let mut evidence = tracked(&["a", "b"]);
    feed(&mut evidence, "a", 1, "+");
    assert_eq!(said(&evidence, 2), (Health::Unknown, at(0)));
    feed(&mut evidence, "b", 3, "+");
    assert_eq!(said(&evidence, 4), (Health::Healthy, at(3)));
    assert_eq!(verdict(&evidence, 4).confirmed_at, Some(at(0)), "the earliest of them");
    feed(&mut evidence, "b", 5, "-");
    assert_eq!((verdict(&evidence, 6).confirmed_at, said(&evidence, 6).0), (None, Health::Healthy));
    feed(&mut evidence, "b", 7, "-");
    feed(&mut evidence, "a", 8, "--");
    let failed = verdict(&evidence, 10);
    assert_eq!((failed.health, failed.since, failed.first_failure_at), (Health::Unhealthy, at(7), Some(at(4))));
    assert_eq!((failed.failures, failed.observers), (2, Agreement { voters: 1, unhealthy: 1 }));
    feed(&mut evidence, "a", 11, "t");
    assert!(verdict(&evidence, 11).is_throttled);
}

#[test]
fn silence_makes_a_verdict_unknown_and_leaves_what_it_rests_on() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "--+");
    let stale_at = 3 + STALE_AFTER;
    assert_eq!(evidence.next_change_at(at(3)), Some(at(stale_at)));
    assert_eq!(said(&evidence, stale_at - 1), (Health::Unhealthy, at(2)));
    let stale = verdict(&evidence, stale_at);
    assert_eq!((stale.health, stale.since, stale.class), (Health::Unknown, at(stale_at), EvidenceClass::Stale));
    assert_eq!(&*stale.message, "no conclusive evidence from probe a for longer than 65s");
    assert_eq!((stale.observers, stale.first_failure_at), (Agreement::default(), None));
    assert_eq!(evidence.next_change_at(at(stale_at)), None);
    // One success more than before the silence makes two; it takes three.
    feed(&mut evidence, "a", 100, "+");
    assert_eq!(said(&evidence, 100), (Health::Unhealthy, at(2)));
    feed(&mut evidence, "a", 101, "+");
    assert_eq!(said(&evidence, 101), (Health::Healthy, at(101)));
}

#[test]
fn what_proves_life_ends_a_silence_and_is_news_of_it() {
    let cases = [('+', true), ('-', true), ('t', true), ('r', true), ('i', false)];
    for (mark, ends) in cases {
        let mut evidence = tracked(&["a"]);
        feed(&mut evidence, "a", 1, "+");
        assert_eq!(said(&evidence, 100).0, Health::Unknown);
        let class = [EvidenceClass::Ok, EvidenceClass::NoAnswer, EvidenceClass::Throttled];
        let class = class.into_iter().chain([EvidenceClass::RecipientLevel, EvidenceClass::Inconclusive]);
        let class = class.zip("+-tri".chars()).find(|(_, of)| *of == mark).unwrap().0;
        let news = evidence.observe(&report("a", 100, at(100), class), at(100));
        assert_eq!((news == News::Turned, said(&evidence, 100).0 == Health::Healthy), (ends, ends), "{mark}");
    }
}

#[test]
fn a_restart_takes_verdicts_over_and_gives_them_time_to_be_seen_again() {
    let mut evidence = tracked(&["a"]);
    let earlier = Judgement::restored(Health::Unhealthy, Timestamp::from_micros(-5), EvidenceClass::NoAnswer, "silent");
    evidence.adopt_probe("a", &earlier, at(1));
    evidence.adopt_verdict(TWO_THREE, &earlier, at(1));
    assert_eq!(said(&evidence, STALE_AFTER - 1), (Health::Unhealthy, Timestamp::from_micros(-5)));
    assert!(!evidence.is_observed());
    assert_eq!(said(&evidence, STALE_AFTER), (Health::Unknown, at(STALE_AFTER)));
    // That it was stale when it was written down is nothing to take over.
    let stale = Judgement::restored(Health::Unknown, at(0), EvidenceClass::Stale, "");
    evidence.adopt_verdict(TWO_THREE, &stale, at(2));
    feed(&mut evidence, "a", 10, "+");
    assert_eq!(said(&evidence, 10).0, Health::Unhealthy, "what was Unhealthy needs the whole recovery");
}

#[test]
fn thresholds_and_probes_may_change_under_a_verdict() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "--");
    let other = Thresholds { recovery: 1, ..TWO_THREE };
    let quick = [probe("a", Duration::from_secs(1))];
    assert!(evidence.track(&[TWO_THREE, other].into(), &quick, at(3)));
    assert_eq!(evidence.verdict(other, at(3)).unwrap().health, Health::Unhealthy);
    assert_eq!(evidence.next_change_at(at(3)), Some(at(2 + 38)), "another interval, another silence");
    feed(&mut evidence, "a", 4, "+");
    assert_eq!(evidence.verdict(other, at(4)).unwrap().health, Health::Healthy);
    assert_eq!(evidence.worst(at(4)).unwrap().0.health, Health::Unhealthy);
    evidence.reset(at(5));
    assert_eq!(said(&evidence, 5), (Health::Unknown, at(5)));
    assert_eq!(evidence.next_change_at(at(5)), Some(at(5 + 38)));
}

#[test]
fn with_two_observers_both_must_see_a_failure_and_both_its_end() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+");
    hear(&mut evidence, "b", Health::Healthy, 2, 3);
    feed(&mut evidence, "a", 9, "--");
    let torn = verdict(&evidence, 10);
    assert_eq!((torn.health, torn.since, torn.class), (Health::Healthy, at(1), EvidenceClass::Ok));
    assert_eq!(torn.observers, Agreement { voters: 2, unhealthy: 1 });
    assert_eq!(&*torn.message, "1 of 2 observers see it fail");
    hear(&mut evidence, "b", Health::Unhealthy, 12, 13);
    let failed = verdict(&evidence, 13);
    assert_eq!((failed.health, failed.since, failed.class), (Health::Unhealthy, at(12), EvidenceClass::NoAnswer));
    assert_eq!(failed.first_failure_at, Some(at(8)), "the earliest of theirs");
    feed(&mut evidence, "a", 20, "+++");
    let torn = verdict(&evidence, 22);
    assert_eq!((torn.health, torn.since, torn.class), (Health::Unhealthy, at(12), EvidenceClass::ConnectionRefused));
    assert_eq!(&*torn.message, "seen by b");
    hear(&mut evidence, "b", Health::Healthy, 30, 31);
    assert_eq!(said(&evidence, 31), (Health::Healthy, at(30)));
}

#[test]
fn of_three_observers_two_decide() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+");
    for observer in ["b", "c"] {
        hear(&mut evidence, observer, Health::Healthy, 1, 2);
    }
    hear(&mut evidence, "b", Health::Unhealthy, 10, 11);
    assert_eq!(said(&evidence, 11), (Health::Healthy, at(1)));
    hear(&mut evidence, "c", Health::Unhealthy, 20, 21);
    let failed = verdict(&evidence, 21);
    assert_eq!((failed.health, failed.since), (Health::Unhealthy, at(20)));
    assert_eq!((failed.observers, &*failed.message), (Agreement { voters: 3, unhealthy: 2 }, "seen by b"));
    // The verdict has stood since then, whoever else joins it.
    hear(&mut evidence, "c", Health::Unhealthy, 5, 22);
    assert_eq!(said(&evidence, 22), (Health::Unhealthy, at(20)));
    hear(&mut evidence, "b", Health::Degraded, 30, 31);
    assert_eq!(said(&evidence, 31), (Health::Healthy, at(30)));
    hear(&mut evidence, "c", Health::Degraded, 40, 41);
    assert_eq!(said(&evidence, 41), (Health::Degraded, at(40)));
}

#[test]
fn who_has_no_verdict_has_no_vote() {
    let mut evidence = tracked(&["a"]);
    hear(&mut evidence, "b", Health::Unknown, 0, 1);
    feed(&mut evidence, "a", 2, "+ --");
    assert_eq!(said(&evidence, 5), (Health::Unhealthy, at(5)));
    assert_eq!(verdict(&evidence, 5).observers, Agreement { voters: 1, unhealthy: 1 });
    hear(&mut evidence, "b", Health::Healthy, 6, 7);
    assert_eq!(said(&evidence, 7), (Health::Unhealthy, at(5)), "a tie");
    // Our own goes stale: the other one is the only voter, and healthy since before the failure was known to be over.
    let stale_at = 5 + STALE_AFTER;
    assert_eq!(said(&evidence, stale_at - 1), (Health::Unhealthy, at(5)));
    assert_eq!(said(&evidence, stale_at), (Health::Healthy, at(6)));
    evidence.forget_observer("b", at(stale_at + 10));
    assert_eq!(said(&evidence, stale_at + 10), (Health::Unknown, at(stale_at)));
}

#[test]
fn a_verdict_that_ends_because_an_observer_left_has_not_ended_before() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+");
    hear(&mut evidence, "b", Health::Unhealthy, 4, 5);
    hear(&mut evidence, "c", Health::Unhealthy, 5, 6);
    assert_eq!(said(&evidence, 6), (Health::Unhealthy, at(5)));
    assert!(evidence.forget_observer("b", at(20)));
    assert!(!evidence.forget_observer("b", at(20)));
    assert_eq!(said(&evidence, 20), (Health::Unhealthy, at(5)), "a tie");
    evidence.forget_observer("c", at(30));
    assert_eq!(said(&evidence, 31), (Health::Healthy, at(30)), "a soak must not look back on the failure");
    feed(&mut evidence, "a", 40, "--");
    assert_eq!(said(&evidence, 41), (Health::Unhealthy, at(41)));
    feed(&mut evidence, "a", 50, "+++");
    assert_eq!(said(&evidence, 52), (Health::Healthy, at(52)));
}

#[test]
fn a_new_leader_keeps_what_stood_while_votes_are_equal() {
    for (earlier, since) in [(Health::Unhealthy, 7), (Health::Healthy, 0)] {
        let mut evidence = tracked(&["a"]);
        feed(&mut evidence, "a", 1, "+");
        hear(&mut evidence, "b", Health::Unhealthy, 5, 6);
        let class = if earlier == Health::Healthy { EvidenceClass::Ok } else { EvidenceClass::NoAnswer };
        evidence.adopt_verdict(TWO_THREE, &Judgement::restored(earlier, at(since), class, ""), at(10));
        assert_eq!(said(&evidence, 10), (earlier, at(since)));
        hear(&mut evidence, "b", Health::Healthy, 20, 21);
        assert_eq!(said(&evidence, 21).0, Health::Healthy);
    }
}

#[test]
fn who_is_suspect_has_no_vote() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+--");
    hear(&mut evidence, "b", Health::Healthy, 1, 4);
    assert_eq!(said(&evidence, 4).0, Health::Unhealthy, "a tie");
    let suspects = [Observer::Own].into();
    assert!(evidence.suspect(&suspects, at(5)));
    assert!(!evidence.suspect(&suspects, at(6)));
    assert_eq!(said(&evidence, 6), (Health::Healthy, at(5)));
    evidence.forget_observer("b", at(7));
    let unknown = verdict(&evidence, 8);
    assert_eq!((unknown.health, unknown.since), (Health::Unknown, at(5)), "nobody is left to believe");
    evidence.suspect(&BTreeSet::new(), at(9));
    assert_eq!(said(&evidence, 9).0, Health::Unhealthy);
    hear(&mut evidence, "b", Health::Healthy, 1, 10);
    evidence.suspect(&[Observer::Other("b".into())].into(), at(11));
    assert_eq!(verdict(&evidence, 11).observers, Agreement { voters: 1, unhealthy: 1 });
}

/// What can happen to the evidence of a backend.
#[derive(Clone, Debug)]
enum Step {
    Round { probe: usize, sequence: u64, class: EvidenceClass, took: Duration },
    Hear { observer: usize, health: Health, since: Timestamp },
    Forget { observer: usize },
    Suspect(BTreeSet<Observer>),
    Adopt { health: Health, since: Timestamp },
    Reset,
}

const PROBES: [&str; 2] = ["a", "b"];
const OBSERVERS: [&str; 3] = ["x", "y", "z"];
const HEALTHS: [Health; 4] = [Health::Healthy, Health::Degraded, Health::Unknown, Health::Unhealthy];

fn any_step(times: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = Step> {
    let took = prop_oneof![(0_u64..60).prop_map(Duration::from_secs), Just(Duration::MAX)];
    let round = (0_usize..2, 1_u64..4, prop::sample::select(&EvidenceClass::ALL[..]), took)
        .prop_map(|(probe, sequence, class, took)| Step::Round { probe, sequence, class, took });
    let health = || prop::sample::select(&HEALTHS[..]);
    let hear = (0_usize..3, health(), times.clone()).prop_map(|(observer, health, since)| Step::Hear {
        observer,
        health,
        since,
    });
    let observer = prop_oneof![
        Just(Observer::Own),
        prop::sample::select(&OBSERVERS[..]).prop_map(|name| Observer::Other(name.into()))
    ];
    prop_oneof![
        12 => round,
        4 => hear,
        1 => (0_usize..3).prop_map(|observer| Step::Forget { observer }),
        1 => prop::collection::btree_set(observer, 0..2).prop_map(Step::Suspect),
        1 => (health(), times).prop_map(|(health, since)| Step::Adopt { health, since }),
        1 => Just(Step::Reset),
    ]
}

/// Seconds of a few minutes.
fn near_times() -> impl Strategy<Value = Timestamp> + Clone {
    (0_u64..600).prop_map(at)
}

fn any_times() -> impl Strategy<Value = Timestamp> + Clone {
    any::<i64>().prop_map(Timestamp::from_micros)
}

fn take(evidence: &mut Evidence, thresholds: Thresholds, sequence: &mut u64, step: &Step, now: Timestamp) {
    match step {
        Step::Round { probe, sequence: ahead, class, took } => {
            // Now and then a late one: the sequence goes back by one.
            *sequence = (*sequence + ahead).saturating_sub(2);
            let mut report = report(PROBES[*probe], *sequence, now, *class);
            report.outcome.elapsed = *took;
            evidence.observe(&report, now);
        }
        Step::Hear { observer, health, since } => {
            let sighting =
                Sighting { health: *health, since: *since, class: EvidenceClass::NoAnswer, first_failure_at: None };
            evidence.hear(&OBSERVERS[*observer].into(), thresholds, sighting, now);
        }
        Step::Forget { observer } => {
            evidence.forget_observer(OBSERVERS[*observer], now);
        }
        Step::Suspect(suspects) => {
            evidence.suspect(suspects, now);
        }
        Step::Adopt { health, since } => {
            let earlier = Judgement::restored(*health, *since, EvidenceClass::NoAnswer, "earlier");
            evidence.adopt_probe(PROBES[0], &earlier, now);
            evidence.adopt_verdict(thresholds, &earlier, now);
        }
        Step::Reset => evidence.reset(now),
    }
}

fn evidence_of(thresholds: Thresholds, interval: Duration, now: Timestamp) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.track(&[thresholds].into(), &PROBES.map(|name| probe(name, interval)), now);
    evidence
}

proptest! {
    /// A reply about a recipient, and an observation that failed on our side, change no verdict, whatever else happens.
    #[test]
    fn recipient_level_evidence_never_changes_anything(
        thresholds in any_thresholds(),
        steps in prop::collection::vec((any_step(near_times()), any::<bool>(), any::<bool>()), 1..60),
    ) {
        let hour = Duration::from_hours(1);
        let (mut without, mut with) = (evidence_of(thresholds, hour, at(0)), evidence_of(thresholds, hour, at(0)));
        let (mut now, mut sequence, mut neutral) = (at(0), 0, 0);
        for (step, is_interleaved, is_ours) in steps {
            now = now + Duration::from_secs(7);
            if is_interleaved {
                let class = if is_ours { EvidenceClass::Inconclusive } else { EvidenceClass::RecipientLevel };
                for probe in PROBES {
                    neutral += 1;
                    // Of a sequence that no other round has, and not above any that is still to come.
                    let news = with.observe(&report(probe, sequence, now, class), now);
                    prop_assert_eq!(news, News::Nothing);
                }
            }
            sequence += 1;
            if let Step::Round { probe, class, took, .. } = &step {
                for evidence in [&mut without, &mut with] {
                    let mut report = report(PROBES[*probe], sequence, now, *class);
                    report.outcome.elapsed = *took;
                    evidence.observe(&report, now);
                }
                sequence += 1;
            } else if !matches!(step, Step::Adopt { .. }) {
                // What is observed takes over less; that is not about verdicts.
                take(&mut without, thresholds, &mut 0, &step, now);
                take(&mut with, thresholds, &mut 0, &step, now);
            }
            prop_assert_eq!(without.verdict(thresholds, now), with.verdict(thresholds, now), "after {} of them", neutral);
        }
    }

    #[test]
    fn the_same_history_gives_the_same_verdicts_and_no_timer_fires_early(
        thresholds in any_thresholds(),
        interval in 0_u64..20,
        steps in prop::collection::vec((any_step(near_times()), 0_u64..60, 0.0..1.0_f64), 1..60),
    ) {
        let start = || evidence_of(thresholds, Duration::from_secs(interval), at(0));
        let (mut evidence, mut again) = (start(), start());
        let (mut now, mut sequence, mut sequence_again) = (at(0), 0, 0);
        for (step, gap, part) in steps {
            now = now + Duration::from_secs(gap);
            take(&mut evidence, thresholds, &mut sequence, &step, now);
            take(&mut again, thresholds, &mut sequence_again, &step, now);
            let said = evidence.verdict(thresholds, now);
            prop_assert_eq!(&said, &again.verdict(thresholds, now));
            let until = evidence.next_change_at(now).unwrap_or(now + Duration::from_hours(1000));
            prop_assert!(until > now);
            let last = until - Duration::from_micros(1);
            prop_assert_eq!(&said, &evidence.verdict(thresholds, last), "earlier than {:?}", until);
            let between = now + last.since(now).mul_f64(part);
            prop_assert_eq!(&said, &evidence.verdict(thresholds, between), "at {:?}", between);
            prop_assert_eq!(evidence.next_change_at(between), evidence.next_change_at(now));
        }
    }

    /// Clocks that jump, intervals of centuries, thresholds that nobody would write.
    #[test]
    fn no_input_panics(
        thresholds in any_thresholds(),
        interval in prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), (0_u64..100).prop_map(Duration::from_secs)],
        steps in prop::collection::vec((any_step(any_times()), prop_oneof![any_times(), near_times()]), 1..60),
    ) {
        let mut evidence = evidence_of(thresholds, interval, at(0));
        let mut sequence = 0;
        for (step, now) in steps {
            take(&mut evidence, thresholds, &mut sequence, &step, now);
            evidence.verdict(thresholds, now);
            evidence.worst(now);
            evidence.next_change_at(now);
        }
    }

    /// Others that know nothing change nothing: with one voter everything is as if it were alone.
    #[test]
    fn one_voter_is_as_good_as_alone(
        thresholds in any_thresholds(),
        steps in prop::collection::vec((any_step(near_times()), 0_u64..30, 0_usize..3), 1..60),
    ) {
        let start = || evidence_of(thresholds, Duration::from_secs(10), at(0));
        let (mut alone, mut among) = (start(), start());
        let mut now = at(0);
        for ((step, gap, observer), sequence) in steps.into_iter().zip((10..).step_by(10)) {
            now = now + Duration::from_secs(gap);
            let ignorant = Step::Hear { observer, health: Health::Unknown, since: now };
            take(&mut among, thresholds, &mut 0, &ignorant, now);
            if let Step::Round { .. } | Step::Reset = step {
                for evidence in [&mut alone, &mut among] {
                    take(evidence, thresholds, &mut { sequence }, &step, now);
                }
            }
            prop_assert_eq!(alone.verdict(thresholds, now), among.verdict(thresholds, now));
        }
    }

    /// Kept up to date change by change, a fleet says what is said about all of it at once.
    #[test]
    fn a_fleet_says_what_a_walk_over_all_backends_says(
        steps in prop::collection::vec((0_usize..6, 0_usize..4, 0_usize..3, 0_usize..4, 0_usize..12), 1..120),
    ) {
        let observers = [Observer::Own, Observer::Other("x".into()), Observer::Other("y".into())];
        let domains = [None, None, Some(Arc::<str>::from("aws")), Some("google".into())];
        let mut fleet = Fleet::default();
        let mut seen: BTreeMap<(usize, usize), Health> = BTreeMap::new();
        let mut placed: BTreeMap<usize, usize> = BTreeMap::new();
        for (backend, domain, observer, health, what) in steps {
            let key = ObjectKey::new("shop", format!("b{backend}"));
            match what {
                0 => {
                    fleet.leave_out(&key);
                    seen.retain(|(of, _), _| *of != backend);
                }
                1 => {
                    fleet.forget_observer(&observers[observer]);
                    seen.retain(|(_, by), _| *by != observer);
                }
                _ => {
                    fleet.note(&key, domains[domain].as_ref(), &observers[observer], HEALTHS[health]);
                    placed.insert(backend, domain);
                    seen.insert((backend, observer), HEALTHS[health]);
                }
            }
            let mut views: BTreeMap<Observer, BTreeMap<String, bool>> = BTreeMap::new();
            for ((backend, observer), health) in seen.iter().filter(|(_, health)| **health != Health::Unknown) {
                let domain = domains[placed[backend]].as_ref().map_or_else(|| format!("alone {backend}"), |name| format!("named {name}"));
                let works = views.entry(observers[*observer].clone()).or_default().entry(domain).or_default();
                *works |= *health != Health::Unhealthy;
            }
            let suspects = crate::engine::suspects(&views);
            prop_assert_eq!(fleet.suspects(), suspects.clone());
            let counting: Vec<_> = views.iter().filter(|(observer, _)| !suspects.contains(observer)).collect();
            let known: BTreeSet<_> = counting.iter().flat_map(|(_, view)| view.keys()).collect();
            let is_storm = known.len() >= 2 && !counting.iter().any(|(_, view)| view.values().any(|works| *works));
            prop_assert_eq!(fleet.is_storm(), is_storm);
        }
    }
}
