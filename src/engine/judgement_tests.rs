use super::*;

const THREE_TWO: Thresholds = Thresholds {
    failure: 3,
    recovery: 2,
    stable_for: std::time::Duration::ZERO,
    window: None,
    latency: None,
    immediate: crate::model::EvidenceClasses::NONE,
};

fn judge(classes: &[EvidenceClass]) -> Judgement {
    let mut judgement = Judgement::unknown(Timestamp::from_micros(0));
    for (class, sequence) in classes.iter().zip(1..) {
        judgement.observe(&THREE_TWO, observation(sequence, *class));
    }
    judgement
}

fn observation(sequence: u64, class: EvidenceClass) -> Observation<'static> {
    let at = Timestamp::from_micros(i64::try_from(sequence).unwrap());
    Observation { sequence, started_at: at, finished_at: at, class, latency: None, message: class.as_str() }
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
    assert_eq!((judgement.class, judgement.since), (NoAnswer, Timestamp::from_micros(3)));
}

#[test]
fn an_older_observation_that_arrives_late_changes_nothing() {
    let mut judgement = judge(&[EvidenceClass::Ok]);
    for sequence in [4, 5] {
        judgement.observe(&THREE_TWO, observation(sequence, EvidenceClass::NoAnswer));
    }
    judgement.observe(&THREE_TWO, observation(2, EvidenceClass::Ok));
    judgement.observe(&THREE_TWO, observation(6, EvidenceClass::NoAnswer));
    assert_eq!(judgement.health, Health::Unhealthy);
    assert_eq!(judgement.first_failure_at, Some(Timestamp::from_micros(4)));
}
