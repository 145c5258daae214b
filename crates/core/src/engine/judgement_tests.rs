use proptest::prelude::*;

use super::*;
use crate::model::{EvidenceClasses, FailureWindow};

const THREE_TWO: Thresholds = Thresholds {
    failure: 3,
    lasting: None,
    recovery: 2,
    stable_for: Duration::ZERO,
    window: None,
    latency: None,
    immediate: EvidenceClasses::NONE,
};

/// Half of at least ten within a minute; counts in a row never get there.
const HALF_OF_TEN: Thresholds = Thresholds {
    failure: 100,
    window: Some(FailureWindow { duration: Duration::from_mins(1), minimum_samples: 10, failure_percent: 50 }),
    ..THREE_TWO
};

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(0) + Duration::from_secs(second)
}

fn judge(classes: &[EvidenceClass]) -> Judgement {
    let mut judgement = Judgement::unknown(at(0));
    for (class, sequence) in classes.iter().zip(1..) {
        judgement.observe(&THREE_TWO, observation(sequence, *class));
    }
    judgement
}

fn observation(sequence: u64, class: EvidenceClass) -> Observation<'static> {
    let at = at(sequence);
    Observation {
        sequence,
        started_at: at,
        finished_at: at,
        class,
        is_extra: false,
        latency: None,
        is_before_login: false,
        message: class.as_str(),
    }
}

/// A history of one observation a second: `+` success, `-` no answer, `a` authentication refused,
/// `t` throttled, `r` recipient-level, `i` inconclusive, a space for a second without any.
fn history(thresholds: &Thresholds, text: &str) -> Judgement {
    let mut judgement = Judgement::unknown(at(0));
    for (mark, second) in text.chars().zip(1..) {
        let class = match mark {
            '+' => EvidenceClass::Ok,
            '-' => EvidenceClass::NoAnswer,
            'a' => EvidenceClass::AuthenticationRefused,
            't' => EvidenceClass::Throttled,
            'r' => EvidenceClass::RecipientLevel,
            'i' => EvidenceClass::Inconclusive,
            ' ' => continue,
            other => panic!("no such mark: {other}"),
        };
        judgement.observe(thresholds, observation(second, class));
    }
    judgement
}

#[test]
fn verdicts_follow_runs_of_evidence() {
    use EvidenceClass::{ConnectionRefused as Refused, Inconclusive, NoAnswer, Ok, RecipientLevel, Throttled};
    let cases: &[(&[EvidenceClass], Health)] = &[
        (&[], Health::Unknown),
        (&[Ok], Health::Healthy),
        (&[Refused, Refused], Health::Unknown),
        (&[Refused, Refused, Refused], Health::Unhealthy),
        (&[Ok, Refused, Refused, Ok, Refused, Refused], Health::Healthy),
        (&[Ok, Refused, NoAnswer, Refused], Health::Unhealthy),
        (&[Ok, Refused, Throttled, Refused, Inconclusive, Refused], Health::Unhealthy),
        (&[Ok, Throttled, Throttled, Throttled, RecipientLevel, RecipientLevel, Inconclusive], Health::Healthy),
        (&[Throttled, RecipientLevel], Health::Unknown),
        (&[Refused, Refused, Refused, Ok], Health::Unhealthy),
        (&[Refused, Refused, Refused, Ok, Refused, Ok], Health::Unhealthy),
        (&[Refused, Refused, Refused, Ok, Throttled, Ok], Health::Healthy),
    ];
    for (classes, health) in cases {
        assert_eq!(judge(classes).health, *health, "{classes:?}");
    }
}

#[test]
fn a_lasting_new_cause_replaces_the_reason_but_not_the_time() {
    use EvidenceClass::{ConnectionRefused, NoAnswer};
    let judgement = judge(&[ConnectionRefused, ConnectionRefused, ConnectionRefused, NoAnswer, NoAnswer]);
    assert_eq!(judgement.class, ConnectionRefused);
    let judgement = judge(&[ConnectionRefused, ConnectionRefused, ConnectionRefused, NoAnswer, NoAnswer, NoAnswer]);
    assert_eq!((judgement.class, judgement.since), (NoAnswer, at(3)));
}

#[test]
fn an_older_observation_that_arrives_late_changes_nothing() {
    let mut judgement = judge(&[EvidenceClass::Ok]);
    for sequence in [4, 5] {
        judgement.observe(&THREE_TWO, observation(sequence, EvidenceClass::NoAnswer));
    }
    assert_eq!(judgement.observe(&THREE_TWO, observation(2, EvidenceClass::Ok)), News::Nothing);
    judgement.observe(&THREE_TWO, observation(6, EvidenceClass::NoAnswer));
    assert_eq!(judgement.health, Health::Unhealthy);
    assert_eq!(judgement.first_failure_at, Some(at(4)));
}

#[test]
fn a_class_that_trips_at_once_needs_no_second_failure() {
    let thresholds =
        Thresholds { immediate: [EvidenceClass::AuthenticationRefused].into_iter().collect(), ..THREE_TWO };
    let cases = [
        ("+a", Health::Unhealthy),
        ("a", Health::Unhealthy),
        ("+-", Health::Healthy),
        ("+-a", Health::Unhealthy),
        ("a+", Health::Unhealthy),
        ("a++", Health::Healthy),
        // An Unhealthy backend that is refused once more starts its recovery over, and no sooner.
        ("a+a+", Health::Unhealthy),
    ];
    for (text, health) in cases {
        assert_eq!(history(&thresholds, text).health, health, "{text}");
    }
    assert_eq!(history(&THREE_TWO, "+a").health, Health::Healthy);
    assert_eq!(history(&thresholds, "+-a").first_failure_at, Some(at(2)));
}

#[test]
fn a_share_of_failures_trips_although_none_came_in_a_row() {
    let cases = [
        ("five of ten", "+-+-+-+-+-", Health::Unhealthy),
        ("nine are too few to say anything", "---------", Health::Unknown),
        ("four of ten", "+-+-+-+++-", Health::Healthy),
        ("a success never trips, the next failure does", "-+-+-+-+-+", Health::Healthy),
        ("the next failure", "-+-+-+-+-+-", Health::Unhealthy),
        ("what counts neither way is no sample", "+-+-+-+-+rtirtirti", Health::Healthy),
        ("and dilutes nothing", "+-+-+-+-+rtirtirti-", Health::Unhealthy),
        (
            "what was a minute ago is forgotten",
            "-+-+-+-+-                                                  -",
            Health::Healthy,
        ),
        ("after a recovery the window is empty", "---------+-++--------", Health::Healthy),
        ("and fills again", "---------+-++--------+-", Health::Unhealthy),
    ];
    for (case, text, health) in cases {
        assert_eq!(history(&HALF_OF_TEN, text).health, health, "{case}");
    }
    let judgement = history(&HALF_OF_TEN, "+-+-+-+-+-");
    assert_eq!(&*judgement.message, "5 of 10 failed within 60s, the latest: NoAnswer");
}

#[test]
fn successes_of_a_recovery_must_span_a_time() {
    let thresholds = Thresholds { stable_for: Duration::from_secs(5), ..THREE_TWO };
    let cases = [
        ("---++", Health::Unhealthy),
        ("---+++++", Health::Unhealthy),
        ("---++++++", Health::Healthy),
        ("---+    +", Health::Healthy),
        ("---+    t", Health::Unhealthy),
        ("---++++-++++", Health::Unhealthy),
        ("---++++-++++++", Health::Healthy),
    ];
    for (text, health) in cases {
        assert_eq!(history(&thresholds, text).health, health, "{text}");
    }
    // From the start of the first to the end of the latest.
    let mut judgement = history(&thresholds, "---");
    for (sequence, start, end) in [(4, 10, 12), (5, 13, 15)] {
        let observation =
            Observation { started_at: at(start), finished_at: at(end), ..observation(sequence, EvidenceClass::Ok) };
        judgement.observe(&thresholds, observation);
    }
    assert_eq!((judgement.health, judgement.since), (Health::Healthy, at(15)));
}

#[test]
fn restored_throttling_ends_with_a_whole_recovery() {
    let mut judgement =
        Judgement::restored(Health::Degraded, at(0), EvidenceClass::Throttled, "nothing but throttling");
    for (sequence, health) in [(1, Health::Degraded), (2, Health::Healthy)] {
        judgement.observe(&THREE_TWO, observation(sequence, EvidenceClass::Ok));
        assert_eq!(judgement.health, health, "{sequence}");
    }
}

#[test]
fn throttling_is_marked_until_enough_successes_follow() {
    let cases = [
        ("+", false),
        ("+t", true),
        ("+t+", true),
        ("+t++", false),
        ("+t+t+", true),
        ("+t+-+", true),
        ("+t+-++", false),
        ("t---", true),
    ];
    for (text, is_throttled) in cases {
        assert_eq!(history(&THREE_TWO, text).is_throttled(), is_throttled, "{text}");
    }
}

#[test]
fn the_latest_success_confirms_until_a_failure_follows() {
    let cases = [
        ("", None),
        ("+", Some(1)),
        ("++", Some(2)),
        ("++-", None),
        ("++-+", Some(4)),
        ("+tri", Some(1)),
        ("---+", Some(4)),
    ];
    for (text, second) in cases {
        assert_eq!(history(&THREE_TWO, text).confirmed_at, second.map(at), "{text}");
    }
}

#[test]
fn a_failure_is_remembered_from_its_beginning_until_it_is_over() {
    let cases = [("+--", None), ("+---", Some(2)), ("+---+", Some(2)), ("+---+--", Some(2)), ("+---++", None)];
    for (text, second) in cases {
        assert_eq!(history(&THREE_TWO, text).first_failure_at, second.map(at), "{text}");
    }
}

#[test]
fn only_what_is_healthy_degrades_and_what_fails_is_unhealthy() {
    let limit = LatencyLimit { percentile: 95, above: Duration::from_secs(5), held_for: Duration::from_mins(1) };
    let thresholds = Thresholds { latency: Some(limit), ..THREE_TWO };
    let mut judgement = Judgement::unknown(at(0));
    let mut feed = |thresholds: &Thresholds, seconds: std::ops::Range<u64>, class, latency: u64| {
        for second in seconds {
            let latency = Some(Duration::from_secs(latency)).filter(|_| class == EvidenceClass::Ok);
            judgement.observe(thresholds, Observation { latency, ..observation(second, class) });
        }
        (judgement.health, judgement.since, judgement.message.clone())
    };
    let ok = EvidenceClass::Ok;
    assert_eq!(feed(&thresholds, 1..61, ok, 9).0, Health::Healthy);
    let degraded = (Health::Degraded, at(61), "p95 over 5s for 60s".into());
    assert_eq!(feed(&thresholds, 61..62, ok, 9), degraded);
    assert_eq!(feed(&thresholds, 62..140, ok, 1).0, Health::Degraded);
    assert_eq!(feed(&thresholds, 140..160, ok, 1).0, Health::Healthy);
    assert_eq!(feed(&thresholds, 160..240, ok, 9).0, Health::Degraded);
    assert_eq!(feed(&thresholds, 240..243, EvidenceClass::NoAnswer, 0).0, Health::Unhealthy);
    assert_eq!(feed(&thresholds, 243..245, ok, 9).0, Health::Healthy, "slowness does not lengthen a recovery");
    assert_eq!(feed(&thresholds, 245..305, ok, 9).0, Health::Healthy, "nor does what was slow before it count");
    assert_eq!(feed(&thresholds, 305..306, ok, 9).0, Health::Degraded);
    assert_eq!(feed(&THREE_TWO, 306..307, ok, 9).0, Health::Healthy, "without a limit nothing is slow");
}

#[test]
fn who_waits_for_an_answer_hears_of_it() {
    use EvidenceClass::{NoAnswer, Ok, RecipientLevel, Throttled};
    let mut judgement = Judgement::unknown(at(0));
    let cases = [
        (Ok, News::Turned),
        (Ok, News::Answered),
        (RecipientLevel, News::Nothing),
        (Throttled, News::Turned),
        (Throttled, News::Nothing),
        (Ok, News::Answered),
        (Ok, News::Turned),
        (NoAnswer, News::Doubted),
        (NoAnswer, News::Nothing),
        (NoAnswer, News::Turned),
        (NoAnswer, News::Nothing),
        (Ok, News::Answered),
        (Ok, News::Turned),
    ];
    for ((class, news), sequence) in cases.into_iter().zip(1..) {
        assert_eq!(judgement.observe(&THREE_TWO, observation(sequence, class)), news, "{sequence}");
    }
}

#[test]
fn nothing_but_throttling_for_five_minutes_is_degraded() {
    let throttled = |second| Observation { is_before_login: true, ..observation(second, EvidenceClass::Throttled) };
    let mut judgement = judge(&[EvidenceClass::Ok]);
    for second in (10..310).step_by(10) {
        judgement.observe(&THREE_TWO, throttled(second));
        assert_eq!(judgement.health, Health::Healthy, "{second}");
    }
    let mut relieved = judgement.clone();
    assert_eq!(judgement.observe(&THREE_TWO, throttled(310)), News::Turned);
    assert_eq!((judgement.health, judgement.class), (Health::Degraded, EvidenceClass::Throttled));
    assert_eq!(&*judgement.message, "nothing but throttling for 300s: Throttled");
    assert_eq!(judgement.observe(&THREE_TWO, throttled(320)), News::Nothing);
    // It ends as a failure does: with the whole recovery.
    judgement.observe(&THREE_TWO, observation(330, EvidenceClass::Ok));
    judgement.observe(&THREE_TWO, throttled(340));
    judgement.observe(&THREE_TWO, observation(350, EvidenceClass::Ok));
    assert_eq!(judgement.health, Health::Degraded);
    judgement.observe(&THREE_TWO, observation(360, EvidenceClass::Ok));
    assert_eq!((judgement.health, judgement.since), (Health::Healthy, at(360)));
    // One success, and the time begins anew.
    relieved.observe(&THREE_TWO, observation(310, EvidenceClass::Ok));
    for second in (320..620).step_by(10) {
        relieved.observe(&THREE_TWO, throttled(second));
    }
    assert_eq!(relieved.health, Health::Healthy);
    relieved.observe(&THREE_TWO, throttled(620));
    assert_eq!(relieved.health, Health::Degraded);
    // The replies to our own log-ins tell of our log-ins alone.
    let mut login = judge(&[EvidenceClass::Ok]);
    for second in (10..9000).step_by(10) {
        login.observe(&THREE_TWO, observation(second, EvidenceClass::Throttled));
    }
    assert_eq!((login.health, login.is_throttled()), (Health::Healthy, true));
}

#[test]
fn a_restored_failure_has_lasted_since_its_verdict_at_the_latest() {
    let restored = |since| Judgement::restored(Health::Unhealthy, at(since), EvidenceClass::NoAnswer, "");
    assert_eq!(restored(7).first_failure_at, Some(at(7)));
    let mut judgement = Judgement::unknown(at(10));
    judgement.adopt(&restored(7), at(10));
    assert_eq!(judgement.first_failure_at, Some(at(7)));
    // The clock that wrote it down was ahead.
    let mut judgement = Judgement::unknown(at(10));
    judgement.adopt(&restored(600), at(10));
    assert_eq!((judgement.since, judgement.first_failure_at), (at(10), Some(at(10))));
}

#[test]
fn a_failure_after_answers_begins_anew_once_it_has_lasted() {
    let mut judgement = judge(&[EvidenceClass::NoAnswer; 3]);
    assert_eq!((judgement.first_failure_at, judgement.succeeding_since()), (Some(at(1)), None));
    judgement.observe(&THREE_TWO, observation(4, EvidenceClass::Ok));
    assert!(judgement.is_recovering());
    assert_eq!(judgement.succeeding_since(), Some(at(4)));
    assert_eq!(judgement.observe(&THREE_TWO, observation(5, EvidenceClass::NoAnswer)), News::Turned, "it answered");
    judgement.observe(&THREE_TWO, observation(6, EvidenceClass::NoAnswer));
    assert!(judgement.is_recovering(), "fewer failures than it takes to fail");
    assert_eq!(judgement.first_failure_at, Some(at(1)));
    assert_eq!(judgement.observe(&THREE_TWO, observation(7, EvidenceClass::NoAnswer)), News::Turned);
    assert!(!judgement.is_recovering());
    assert_eq!((judgement.since, judgement.first_failure_at), (at(3), Some(at(5))));
}

#[test]
fn a_look_that_goes_less_deep_acquits_nothing_that_failed_at_the_login() {
    let look =
        |sequence| Observation { is_extra: true, is_before_login: true, ..observation(sequence, EvidenceClass::Ok) };
    let mut judgement = judge(&[EvidenceClass::AuthenticationRefused; 3]);
    assert_eq!(judgement.observe(&THREE_TWO, look(4)), News::Nothing);
    judgement.observe(&THREE_TWO, observation(5, EvidenceClass::Ok));
    assert_eq!(judgement.observe(&THREE_TWO, look(6)), News::Nothing, "it has not recovered yet");
    assert_eq!(judgement.confirmed_at, Some(at(5)));
    // After a restart nobody knows where it failed.
    let mut restored = Judgement::restored(Health::Unhealthy, at(0), EvidenceClass::Temporary, "");
    restored.observe(&THREE_TWO, look(1));
    assert_eq!(restored.confirmed_at, None);
}

#[test]
fn a_judgement_takes_bounded_memory() {
    assert!(size_of::<Judgement>() <= 192, "{}", size_of::<Judgement>());
    // Only under thresholds that ask for them; the message is at most as long as an outcome's.
    assert!(size_of::<Window>() <= 104, "{}", size_of::<Window>());
    assert!(size_of::<Slowness>() <= 128, "{}", size_of::<Slowness>());
}

pub(crate) fn any_thresholds() -> impl Strategy<Value = Thresholds> {
    let seconds = || prop_oneof![8 => (0_u64..120).prop_map(Duration::from_secs), 1 => Just(Duration::ZERO), 1 => Just(Duration::MAX)];
    let window = (seconds(), 0_u32..8, any::<u8>()).prop_map(|(duration, minimum_samples, failure_percent)| {
        FailureWindow { duration, minimum_samples, failure_percent }
    });
    let latency = (any::<u8>(), seconds(), seconds()).prop_map(|(percentile, above, held_for)| LatencyLimit {
        percentile,
        above,
        held_for,
    });
    let classes = prop::collection::vec(prop::sample::select(EvidenceClass::ALL), 0..3);
    let lasting = prop::option::of((0_u64..60).prop_map(Duration::from_secs));
    (0_u32..6, lasting, 0_u32..8, seconds(), prop::option::of(window), prop::option::of(latency), classes).prop_map(
        |(failure, lasting, recovery, stable_for, window, latency, immediate)| Thresholds {
            failure,
            lasting,
            recovery,
            stable_for: if stable_for == Duration::MAX { Duration::ZERO } else { stable_for },
            window,
            latency,
            immediate: immediate.into_iter().collect(),
        },
    )
}

/// Reference judgement from all observations: slow, and simple enough to be seen to be right.
fn health_by_the_book(thresholds: &Thresholds, observed: &[Observation<'_>]) -> Health {
    let mut health = Health::Unknown;
    let (mut failures, mut successes): (Vec<Timestamp>, _) = (vec![], vec![]);
    let mut samples: Vec<(Timestamp, bool)> = vec![];
    for observation in observed {
        match observation.class.effect() {
            Effect::Neutral => {}
            Effect::Success => {
                failures.clear();
                successes.push(*observation);
                samples.push((observation.finished_at, false));
                let span = observation.finished_at.since(successes[0].started_at);
                let is_enough = successes.len() >= thresholds.recovery as usize && span >= thresholds.stable_for;
                if health == Health::Unknown || (health == Health::Unhealthy && is_enough) {
                    if health == Health::Unhealthy {
                        samples.clear();
                    }
                    health = Health::Healthy;
                }
            }
            Effect::Failure => {
                failures.push(observation.started_at);
                successes.clear();
                samples.push((observation.finished_at, true));
                let is_share = thresholds.window.is_some_and(|limit| {
                    let part = i64::try_from(limit.duration.as_micros()).unwrap_or(i64::MAX) / 12;
                    let part_of = |at: Timestamp| at.as_micros().div_euclid(part.max(1));
                    let newest = part_of(observation.finished_at);
                    let within: Vec<_> = samples.iter().filter(|(at, _)| newest - part_of(*at) < 12).collect();
                    let failed = within.iter().filter(|(_, is_failure)| *is_failure).count();
                    within.len() >= limit.minimum_samples as usize
                        && failed * 100 >= usize::from(limit.failure_percent) * within.len()
                });
                let span = observation.started_at.since(failures[0]);
                let is_run =
                    failures.len() >= thresholds.failure as usize && span >= thresholds.lasting.unwrap_or_default();
                if is_run || thresholds.immediate.contains(observation.class) || is_share {
                    health = Health::Unhealthy;
                }
            }
        }
    }
    health
}

proptest! {
    #[test]
    fn a_judgement_keeps_counts_and_says_what_the_whole_history_says(
        thresholds in any_thresholds(),
        steps in prop::collection::vec((prop::sample::select(EvidenceClass::ALL), 0_u64..20, 0_u64..5), 1..80),
    ) {
        let thresholds = Thresholds { latency: None, ..thresholds };
        let mut judgement = Judgement::unknown(at(0));
        judgement.demand(thresholds.lasting.unwrap_or_default());
        let mut observed = vec![];
        let mut second = 1;
        for ((class, gap, took), sequence) in steps.into_iter().zip(1..) {
            second += gap;
            let observation = Observation {
                started_at: at(second), finished_at: at(second + took), ..observation(sequence, class)
            };
            second += took;
            observed.push(observation);
            judgement.observe(&thresholds, observation);
            prop_assert_eq!(judgement.health, health_by_the_book(&thresholds, &observed));
        }
    }

    /// Checks that no recovery needs fewer successes than the policy demands, with more evidence to
    /// recover than to fail, as by default, or the other way round.
    #[test]
    fn no_success_ends_a_failure_before_the_recovery_is_whole(
        thresholds in any_thresholds(),
        is_success in prop::collection::vec(prop::bool::weighted(0.7), 1..100),
    ) {
        let mut judgement = Judgement::unknown(at(0));
        let (mut in_a_row, mut failures) = (0, 0);
        for (is_success, sequence) in is_success.into_iter().zip(1..) {
            let before = judgement.health;
            let class = if is_success { EvidenceClass::Ok } else { EvidenceClass::NoAnswer };
            (in_a_row, failures) = if is_success { (in_a_row + 1, 0) } else { (0, failures + 1) };
            judgement.observe(&thresholds, Observation { latency: Some(Duration::ZERO), ..observation(sequence, class) });
            if before == Health::Unhealthy && judgement.health != Health::Unhealthy {
                prop_assert!(in_a_row >= thresholds.recovery.max(1));
                prop_assert!(Duration::from_secs(u64::from(in_a_row - 1)) >= thresholds.stable_for);
            }
            if before != Health::Unhealthy && judgement.health == Health::Unhealthy {
                let is_hasty = thresholds.window.is_some() || thresholds.immediate.contains(class);
                prop_assert!(is_hasty || failures >= thresholds.failure);
            }
        }
    }
}

#[test]
fn a_blocked_probe_is_unknown_with_the_reason_and_what_stood_before_stands_after_it() {
    use EvidenceClass::{AuthenticationRefused, Ok, ProbeBlocked};
    for (before, health) in
        [(vec![Ok], Health::Healthy), (vec![AuthenticationRefused; 3], Health::Unhealthy), (vec![], Health::Unknown)]
    {
        let mut judgement = judge(&before);
        let sequence = before.len() as u64 + 1;
        assert_eq!(judgement.observe(&THREE_TWO, observation(sequence, ProbeBlocked)), News::Turned);
        assert_eq!(judgement.observe(&THREE_TWO, observation(sequence + 1, ProbeBlocked)), News::Nothing);
        let blocked = judgement.blocked().unwrap();
        assert_eq!((&*blocked.message, blocked.since), ("ProbeBlocked", at(sequence)));
        assert!(judgement.is_observed());
        assert_eq!(judgement.health, health);
        assert_eq!(judgement.carried_over().blocked(), judgement.blocked(), "under other thresholds too");
        assert_eq!(judgement.observe(&THREE_TWO, observation(sequence + 2, Ok)), News::Turned);
        assert_eq!(judgement.blocked(), None);
        assert_eq!(judgement.health == Health::Unhealthy, health == Health::Unhealthy, "the whole recovery is owed");
    }
}

#[test]
fn another_reason_of_a_blocked_probe_is_told_and_since_stays() {
    let mut judgement = judge(&[EvidenceClass::Ok, EvidenceClass::ProbeBlocked]);
    let other = Observation { message: "another", ..observation(3, EvidenceClass::ProbeBlocked) };
    assert_eq!(judgement.observe(&THREE_TWO, other), News::Turned);
    assert_eq!(judgement.blocked(), Some(&Blocked { since: at(2), message: "another".into() }));
}

#[test]
fn that_a_probe_was_blocked_is_no_verdict_to_take_over() {
    let mut judgement = Judgement::unknown(at(0));
    let earlier = Judgement::restored(Health::Unknown, at(0), EvidenceClass::ProbeBlocked, "Secret relay is missing");
    judgement.adopt(&earlier, at(1));
    assert_eq!(judgement.class, EvidenceClass::Inconclusive);
}

/// Takes looks at these milliseconds; negative ones fail. Those with true came beside the interval.
fn looks(thresholds: &Thresholds, looks: &[(i64, bool)]) -> Judgement {
    let mut judgement = Judgement::unknown(at(0));
    judgement.demand(thresholds.must_last(Duration::from_secs(10)));
    judgement.observe(thresholds, observation(1, EvidenceClass::Ok));
    for ((millis, is_extra), sequence) in looks.iter().zip(2..) {
        let started_at = Timestamp::from_micros(millis.abs() * 1000);
        let class = if *millis < 0 { EvidenceClass::NoAnswer } else { EvidenceClass::Ok };
        let look =
            Observation { started_at, finished_at: started_at, is_extra: *is_extra, ..observation(sequence, class) };
        judgement.observe(thresholds, look);
    }
    judgement
}

#[test]
fn failures_count_when_there_are_enough_and_they_have_lasted() {
    let lasting = Thresholds { lasting: Some(Duration::from_secs(50)), ..THREE_TWO };
    let at_once = Thresholds { lasting: Some(Duration::ZERO), ..THREE_TWO };
    let burst = [(-10_000, false), (-10_000, true), (-10_200, true)];
    assert_eq!(looks(&at_once, &burst).health, Health::Unhealthy);
    assert_eq!(looks(&lasting, &burst).health, Health::Healthy);
    // Measured between the starts of the first and the last.
    let until = |last: i64| [burst.as_slice(), &[(-last, true)]].concat();
    assert_eq!(looks(&lasting, &until(59_999)).health, Health::Healthy);
    let failed = looks(&lasting, &until(60_000));
    assert_eq!((failed.health, failed.first_failure_at), (Health::Unhealthy, Some(at(10))));
    // Two that span it are too few.
    assert_eq!(looks(&lasting, &[(-10_000, false), (-70_000, false)]).health, Health::Healthy);
}

#[test]
fn a_look_that_succeeds_beside_the_interval_ends_a_run_and_is_no_recovery() {
    let at_once = Thresholds { lasting: Some(Duration::ZERO), ..THREE_TWO };
    let mut run = vec![(-10_000, false), (-10_001, true), (10_200, true), (-20_000, false), (-20_001, true)];
    assert_eq!(looks(&at_once, &run).health, Health::Healthy);
    run.push((-20_200, true));
    assert_eq!(looks(&at_once, &run).health, Health::Unhealthy);
    run.extend([(30_000, true), (30_100, true), (30_200, true), (40_000, false)]);
    assert_eq!(looks(&at_once, &run).health, Health::Unhealthy, "one at the interval");
    run.push((50_000, false));
    assert_eq!(looks(&at_once, &run).health, Health::Healthy);
}

#[test]
fn without_a_time_failures_span_what_as_many_intervals_do() {
    let burst = [(-10_000, false), (-10_001, true), (-10_002, true), (-20_000, false)];
    assert_eq!(looks(&THREE_TWO, &burst).health, Health::Healthy);
    assert_eq!(looks(&THREE_TWO, &[burst.as_slice(), &[(-29_999, false)]].concat()).health, Health::Healthy);
    assert_eq!(looks(&THREE_TWO, &[burst.as_slice(), &[(-30_000, true)]].concat()).health, Health::Unhealthy);
}

#[test]
fn a_look_up_to_the_login_acquits_nothing_that_failed_there() {
    let mut judgement = Judgement::unknown(at(0));
    for (second, class, is_before_login, is_extra) in [
        (1, EvidenceClass::Temporary, false, false),
        (2, EvidenceClass::Ok, true, true),
        (3, EvidenceClass::Temporary, false, false),
        (4, EvidenceClass::Ok, true, true),
        (5, EvidenceClass::Temporary, false, false),
    ] {
        let look = Observation { is_before_login, is_extra, ..observation(second, class) };
        judgement.observe(&THREE_TWO, look);
    }
    assert_eq!((judgement.health, judgement.failures()), (Health::Unhealthy, 3));
}
