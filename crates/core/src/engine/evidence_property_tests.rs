use proptest::prelude::*;

use super::tests::{at, probe, report};
use super::*;
use crate::engine::judgement::tests::any_thresholds;
use crate::model::{FailingDeliveries, ObjectKey};

/// Input to the evidence of a backend.
#[derive(Clone, Debug)]
enum Step {
    Round { probe: usize, sequence: u64, class: EvidenceClass, took: Duration },
    Record { observer: usize, health: Health, since: Timestamp },
    Forget { observer: usize },
    Suspect(BTreeSet<Observer>),
    Adopt { health: Health, since: Timestamp },
    Word { agent: usize, verdict: DeliveryVerdict },
    Reset,
}

const PROBES: [&str; 2] = ["a", "b"];
const OBSERVERS: [&str; 3] = ["x", "y", "z"];
const HEALTHS: [Health; 4] = [Health::Healthy, Health::Degraded, Health::Unknown, Health::Unhealthy];

fn any_step(times: impl Strategy<Value = Timestamp> + Clone + 'static) -> impl Strategy<Value = Step> {
    let took = prop_oneof![(0_u64..60).prop_map(Duration::from_secs), Just(Duration::MAX)];
    let round = (0_usize..2, 1_u64..4, prop::sample::select(EvidenceClass::ALL), took)
        .prop_map(|(probe, sequence, class, took)| Step::Round { probe, sequence, class, took });
    let health = || prop::sample::select(&HEALTHS[..]);
    let record = (0_usize..3, health(), times.clone()).prop_map(|(observer, health, since)| Step::Record {
        observer,
        health,
        since,
    });
    let (agent, verdict) = (0_usize..3, any_word(times.clone()));
    let verdict = (agent, verdict).prop_map(|(agent, verdict)| Step::Word { agent, verdict });
    let observer = prop_oneof![
        Just(Observer::Own),
        prop::sample::select(&OBSERVERS[..]).prop_map(|name| Observer::Other(name.into()))
    ];
    prop_oneof![
        12 => round,
        4 => record,
        4 => verdict,
        1 => (0_usize..3).prop_map(|observer| Step::Forget { observer }),
        1 => prop::collection::btree_set(observer, 0..2).prop_map(Step::Suspect),
        1 => (health(), times).prop_map(|(health, since)| Step::Adopt { health, since }),
        1 => Just(Step::Reset),
    ]
}

fn any_word(times: impl Strategy<Value = Timestamp>) -> impl Strategy<Value = DeliveryVerdict> {
    let class = prop::sample::select(EvidenceClass::ALL);
    let failing = (class, times).prop_map(|(class, at)| {
        DeliveryVerdict::Failing(FailingDeliveries {
            class,
            message: "".into(),
            first_failure_at: at,
            last_failure_at: at,
            stage: None,
        })
    });
    prop_oneof![3 => failing, 2 => Just(DeliveryVerdict::Passing), 1 => Just(DeliveryVerdict::Silent)]
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
        Step::Record { observer, health, since } => {
            let verdict = ObserverVerdict {
                health: *health,
                since: *since,
                class: EvidenceClass::NoAnswer,
                first_failure_at: None,
                confirms: [].into(),
                runs: [].into(),
                message: Arc::default(),
            };
            evidence.record_peer(&OBSERVERS[*observer].into(), thresholds, verdict, now);
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
            evidence.adopt_verdict(thresholds, &earlier, Duration::from_secs(15), now);
        }
        Step::Word { agent, verdict } => {
            let agent = Agent { route: ObjectKey::new("shop", "orders"), name: OBSERVERS[*agent].into() };
            evidence.record_agent(&agent, verdict.clone(), Duration::from_mins(2), now);
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
                // That a login is there after all is what any reply tells.
                let class = if *class == EvidenceClass::ProbeBlocked { &EvidenceClass::Inconclusive } else { class };
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

    /// Agents' reports never make a backend better than its probes; without a Failing one they change nothing.
    #[test]
    fn words_make_no_backend_better_and_without_a_failure_none_worse(
        thresholds in any_thresholds(),
        may_fail in any::<bool>(),
        steps in prop::collection::vec((any_step(near_times()), 0_u64..20), 1..60),
    ) {
        let start = || evidence_of(thresholds, Duration::from_secs(10), at(0));
        let (mut without, mut with) = (start(), start());
        let mut now = at(0);
        for ((step, gap), sequence) in steps.into_iter().zip((10..).step_by(10)) {
            now = now + Duration::from_secs(gap);
            match &step {
                Step::Word { verdict: DeliveryVerdict::Failing(failing), .. }
                    if !may_fail && failing.class.effect() == Effect::Failure => {}
                Step::Word { .. } => take(&mut with, thresholds, &mut 0, &step, now),
                Step::Round { .. } | Step::Reset => {
                    for evidence in [&mut without, &mut with] {
                        take(evidence, thresholds, &mut { sequence }, &step, now);
                    }
                }
                // One voter: what a majority of observers makes of it is another matter.
                Step::Record { .. } | Step::Forget { .. } | Step::Suspect(_) | Step::Adopt { .. } => {}
            }
            with.handle_timeout(now);
            let (probes, all) = (without.verdict(thresholds, now), with.verdict(thresholds, now));
            if may_fail {
                prop_assert!(all.as_ref().map(|all| all.health) >= probes.as_ref().map(|probes| probes.health));
            } else {
                prop_assert_eq!(all, probes);
            }
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
            let until = evidence.next_timeout(now).unwrap_or(now + Duration::from_hours(1000));
            prop_assert!(until > now);
            let last = until - Duration::from_micros(1);
            prop_assert_eq!(&said, &evidence.verdict(thresholds, last), "earlier than {:?}", until);
            let between = now + last.since(now).mul_f64(part);
            prop_assert_eq!(&said, &evidence.verdict(thresholds, between), "at {:?}", between);
            prop_assert_eq!(evidence.next_timeout(between), evidence.next_timeout(now));
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
            evidence.next_timeout(now);
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
            let ignorant = Step::Record { observer, health: Health::Unknown, since: now };
            take(&mut among, thresholds, &mut 0, &ignorant, now);
            if let Step::Round { .. } | Step::Reset = step {
                for evidence in [&mut alone, &mut among] {
                    take(evidence, thresholds, &mut { sequence }, &step, now);
                }
            }
            prop_assert_eq!(alone.verdict(thresholds, now), among.verdict(thresholds, now));
        }
    }
}
