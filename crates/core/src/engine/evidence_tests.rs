use super::*;
use crate::engine::{Agreement, THROTTLED_ONLY, UnseenFailure};
use crate::model::{Depth, Envelope, EvidenceClasses, ObjectKey, ProbeKey, Resolution, Stage, Vantage};

const TWO_THREE: Thresholds = Thresholds {
    failure: 2,
    lasting: Some(Duration::ZERO),
    recovery: 3,
    stable_for: Duration::ZERO,
    window: None,
    latency: None,
    immediate: EvidenceClasses::NONE,
};
/// 3 intervals, the timeout and the grace.
/// The Lease by default.
const LEASE: Duration = Duration::from_secs(15);
const STALE_AFTER: u64 = 65;

pub(super) fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(0) + Duration::from_secs(second)
}

pub(super) fn probe(name: &str, interval: Duration) -> Probe {
    Probe {
        name: name.into(),
        interval,
        timeout: Duration::from_secs(5),
        depth: Depth::Ehlo,
        envelope: Envelope::default(),
        vantage: Vantage::Operator,
        idle_session: false,
        sharers: 1,
    }
}

fn tracked(probes: &[&str]) -> Evidence {
    let probes: Vec<_> = probes.iter().map(|name| probe(name, Duration::from_secs(10))).collect();
    let mut evidence = Evidence::default();
    assert!(evidence.track(&[TWO_THREE].into(), &probes, at(0)));
    assert!(!evidence.track(&[TWO_THREE].into(), &probes, at(1)));
    evidence
}

pub(super) fn report(probe: &str, sequence: u64, finished_at: Timestamp, class: EvidenceClass) -> ProbeReport {
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
        delay: None,
        is_extra: false,
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

/// Health and start of the verdict.
fn said(evidence: &Evidence, second: u64) -> (Health, Timestamp) {
    let verdict = verdict(evidence, second);
    (verdict.health, verdict.since)
}

fn record(evidence: &mut Evidence, observer: &str, health: Health, since: u64, now: u64) {
    let class = if health == Health::Unhealthy { EvidenceClass::ConnectionRefused } else { EvidenceClass::Ok };
    let first_failure_at = (health == Health::Unhealthy).then(|| at(since) - Duration::from_secs(1));
    let confirms = [].into();
    let message = Arc::default();
    let verdict =
        ObserverVerdict { health, since: at(since), class, first_failure_at, confirms, runs: [].into(), message };
    evidence.record_peer(&observer.into(), TWO_THREE, verdict, at(now));
}

#[test]
fn what_fails_answers_again_once_every_probe_has_answered_for_a_minute() {
    const SLOW_TO_TRUST: Thresholds = Thresholds { recovery: 1000, ..TWO_THREE };
    let probes = ["a", "b"].map(|name| probe(name, Duration::from_secs(10)));
    let mut evidence = Evidence::default();
    evidence.track(&[SLOW_TO_TRUST].into(), &probes, at(0));
    let answered_at = |evidence: &Evidence, second: u64| {
        let verdict = evidence.verdict(SLOW_TO_TRUST, at(second)).unwrap();
        assert_eq!(verdict.health, Health::Unhealthy);
        (verdict.answered_at, verdict.is_recovering)
    };
    feed(&mut evidence, "a", 1, "+");
    feed(&mut evidence, "b", 2, "--");
    assert_eq!(answered_at(&evidence, 4), (None, false));
    feed(&mut evidence, "b", 10, "+");
    for second in [20, 30, 40, 50, 60] {
        feed(&mut evidence, "a", second, "+");
        feed(&mut evidence, "b", second, "+");
    }
    assert_eq!(answered_at(&evidence, 61), (None, true), "not for a minute");
    feed(&mut evidence, "b", 70, "+");
    assert_eq!(answered_at(&evidence, 71), (None, true), "the other one has not answered for so long");
    feed(&mut evidence, "a", 71, "+");
    assert_eq!(answered_at(&evidence, 72), (Some(at(69)), true));
    // The first failure ends it, and the backend is down again when it has failed for as long as it takes.
    feed(&mut evidence, "b", 73, "-");
    assert_eq!(answered_at(&evidence, 74), (None, true));
    feed(&mut evidence, "b", 75, "-");
    assert_eq!(answered_at(&evidence, 76), (None, false));
}

#[test]
fn the_probe_that_tells_most_speaks_for_the_backend() {
    let mut evidence = tracked(&["a", "b"]);
    feed(&mut evidence, "a", 1, "+");
    assert_eq!(said(&evidence, 2), (Health::Unknown, at(0)));
    feed(&mut evidence, "b", 3, "+");
    assert_eq!(said(&evidence, 4), (Health::Healthy, at(3)));
    assert_eq!(verdict(&evidence, 4).confirmed_at, Some(at(2)), "the latest of them");
    feed(&mut evidence, "b", 5, "-");
    assert_eq!((verdict(&evidence, 6).confirmed_at, said(&evidence, 6).0), (Some(at(0)), Health::Healthy));
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
    assert_eq!(evidence.next_timeout(at(3)), Some(at(stale_at)));
    assert_eq!(said(&evidence, stale_at - 1), (Health::Unhealthy, at(2)));
    let stale = verdict(&evidence, stale_at);
    assert_eq!((stale.health, stale.since, stale.class), (Health::Unknown, at(stale_at), EvidenceClass::Stale));
    assert_eq!(&*stale.message, "no conclusive evidence from probe a for longer than 65s");
    assert_eq!((stale.observers, stale.first_failure_at), (Agreement::default(), None));
    assert_eq!(evidence.next_timeout(at(stale_at)), None);
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
    evidence.adopt_verdict(TWO_THREE, &earlier, LEASE, at(1));
    assert_eq!(said(&evidence, STALE_AFTER - 1), (Health::Unhealthy, Timestamp::from_micros(-5)));
    assert!(!evidence.is_observed());
    assert_eq!(said(&evidence, STALE_AFTER), (Health::Unknown, at(STALE_AFTER)));
    // That it was stale when it was written down is nothing to take over.
    let stale = Judgement::restored(Health::Unknown, at(0), EvidenceClass::Stale, "");
    evidence.adopt_verdict(TWO_THREE, &stale, LEASE, at(2));
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
    assert_eq!(evidence.next_timeout(at(3)), Some(at(2 + 38)), "another interval, another silence");
    feed(&mut evidence, "a", 4, "+");
    assert_eq!(evidence.verdict(other, at(4)).unwrap().health, Health::Healthy);
    assert_eq!(evidence.worst(at(4)).unwrap().0.health, Health::Unhealthy);
    evidence.reset(at(5));
    assert_eq!(said(&evidence, 5), (Health::Unknown, at(5)));
    assert_eq!(evidence.next_timeout(at(5)), Some(at(5 + 38)));
}

#[test]
fn with_two_observers_both_must_see_a_failure_and_both_its_end() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+");
    record(&mut evidence, "b", Health::Healthy, 2, 3);
    feed(&mut evidence, "a", 9, "--");
    let torn = verdict(&evidence, 10);
    assert_eq!((torn.health, torn.since, torn.class), (Health::Healthy, at(1), EvidenceClass::Ok));
    assert_eq!(torn.observers, Agreement { voters: 2, unhealthy: 1 });
    assert_eq!(&*torn.message, "1 of 2 observers see it fail");
    record(&mut evidence, "b", Health::Unhealthy, 12, 13);
    let failed = verdict(&evidence, 13);
    assert_eq!((failed.health, failed.since, failed.class), (Health::Unhealthy, at(13), EvidenceClass::NoAnswer));
    assert_eq!(failed.first_failure_at, Some(at(8)), "our own");
    assert_eq!(failed.first_evidence_at, Some(at(8)), "the earliest of theirs");
    feed(&mut evidence, "a", 20, "+++");
    let torn = verdict(&evidence, 22);
    assert_eq!((torn.health, torn.since, torn.class), (Health::Unhealthy, at(13), EvidenceClass::ConnectionRefused));
    assert_eq!(&*torn.message, "seen by b");
    record(&mut evidence, "b", Health::Healthy, 30, 31);
    assert_eq!(said(&evidence, 31), (Health::Healthy, at(31)), "since it was heard");
}

#[test]
fn a_soak_begins_when_a_peer_is_heard_to_see_the_recovery_whatever_its_clock_says() {
    for clock in [11, 500, 610, 1200] {
        let mut evidence = tracked(&["a"]);
        feed(&mut evidence, "a", 1, "--");
        for observer in ["b", "c"] {
            record(&mut evidence, observer, Health::Unhealthy, 3, 4);
        }
        assert_eq!(said(&evidence, 5).0, Health::Unhealthy);
        for observer in ["b", "c"] {
            record(&mut evidence, observer, Health::Healthy, clock, 610);
        }
        // Our own goes on failing, and is outvoted.
        feed(&mut evidence, "a", 611, "-");
        assert_eq!(said(&evidence, 611), (Health::Healthy, at(610)), "by a clock that says {clock}");
    }
}

#[test]
fn a_takeover_loses_no_soak_that_was_served() {
    // A new process: its own first round and the peers' reports are new, and the recovery is long ago.
    let healthy = Judgement::restored(Health::Healthy, at(2), EvidenceClass::Ok, "");
    let mut fresh = tracked(&["a"]);
    fresh.adopt_probe("a", &healthy, at(50));
    fresh.adopt_verdict(TWO_THREE, &healthy, LEASE, at(50));
    for observer in ["b", "c"] {
        record(&mut fresh, observer, Health::Healthy, 51, 51);
    }
    feed(&mut fresh, "a", 52, "+");
    assert_eq!(said(&fresh, 53), (Health::Healthy, at(2)));
    // A replica that has just heard its peers, and takes over.
    let mut taken = tracked(&["a"]);
    feed(&mut taken, "a", 40, "+");
    for observer in ["b", "c"] {
        record(&mut taken, observer, Health::Healthy, 42, 45);
    }
    taken.adopt_verdict(TWO_THREE, &healthy, LEASE, at(46));
    assert_eq!(said(&taken, 47), (Health::Healthy, at(2)));
}

#[test]
fn a_blocked_probe_abstains_while_another_one_has_an_opinion() {
    let blocked = |evidence: &mut Evidence, probe: &str, second| {
        evidence.observe(&report(probe, second, at(second), EvidenceClass::ProbeBlocked), at(second));
    };
    for (marks, said_) in [("+", Health::Healthy), ("--", Health::Unhealthy), ("", Health::Unknown)] {
        let mut evidence = tracked(&["a", "b"]);
        feed(&mut evidence, "a", 1, marks);
        blocked(&mut evidence, "b", 5);
        assert_eq!(said(&evidence, 6).0, said_, "{marks}");
    }
    let mut alone = tracked(&["a"]);
    feed(&mut alone, "a", 1, "+");
    blocked(&mut alone, "a", 5);
    assert_eq!((said(&alone, 6).0, verdict(&alone, 6).class), (Health::Unknown, EvidenceClass::ProbeBlocked));
    // That it failed is not over because nobody can look.
    let mut failed = tracked(&["a", "b"]);
    feed(&mut failed, "a", 1, "+++");
    feed(&mut failed, "b", 1, "--");
    blocked(&mut failed, "b", 5);
    assert_eq!(said(&failed, 6).0, Health::Unknown);
    assert_eq!(verdict(&failed, 6).confirmed_at, Some(at(2)), "it answers all the same");
}

#[test]
fn a_job_that_brings_no_result_abstains_as_well() {
    let mut evidence = Evidence::default();
    let job = Probe { vantage: Vantage::Job, ..probe("b", Duration::from_secs(10)) };
    evidence.track(&[TWO_THREE].into(), &[probe("a", Duration::from_hours(1)), job], at(0));
    feed(&mut evidence, "a", 1, "+");
    feed(&mut evidence, "b", 1, "+");
    assert_eq!(said(&evidence, 3000).0, Health::Healthy);
}

#[test]
fn a_peer_confirms_by_its_own_clock_and_its_clock_dates_nothing_here() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+");
    let peer_verdict = |first_failure_at, confirms: &[&str]| ObserverVerdict {
        health: Health::Unhealthy,
        since: at(first_failure_at),
        class: EvidenceClass::NoAnswer,
        first_failure_at: Some(at(first_failure_at)),
        confirms: confirms.iter().map(|name| Arc::from(*name)).collect(),
        runs: [].into(),
        message: "EHLO: no answer within 10s".into(),
    };
    for (observer, confirms) in [("b", &["sendgrid"][..]), ("c", &["mailgun", "sendgrid"])] {
        evidence.record_peer(&observer.into(), TWO_THREE, peer_verdict(5, confirms), at(605));
    }
    let failed = verdict(&evidence, 606);
    assert_eq!((failed.health, failed.first_failure_at), (Health::Unhealthy, Some(at(605))), "as it was heard");
    assert_eq!(failed.first_evidence_at, Some(at(5)));
    assert_eq!(&*failed.message, "seen by b: EHLO: no answer within 10s", "what it saw, and not only who");
    assert_eq!(failed.confirmed_standbys, ["mailgun", "sendgrid"].map(Arc::from));
    // The same run of failures, another answer; then another run.
    evidence.record_peer(&"b".into(), TWO_THREE, peer_verdict(5, &[]), at(700));
    evidence.record_peer(&"c".into(), TWO_THREE, peer_verdict(5, &[]), at(700));
    assert_eq!(verdict(&evidence, 700).first_failure_at, Some(at(605)));
    assert!(verdict(&evidence, 700).confirmed_standbys.is_empty());
    // Who is not believed confirms nothing.
    evidence.record_peer(&"b".into(), TWO_THREE, peer_verdict(5, &["sendgrid"]), at(701));
    evidence.suspect(&[Observer::Other("b".into())].into(), at(702));
    assert!(verdict(&evidence, 702).confirmed_standbys.is_empty());
    // Our own run is dated by our own clock.
    feed(&mut evidence, "a", 800, "--");
    assert_eq!(verdict(&evidence, 801).first_failure_at, Some(at(799)));
}

#[test]
fn an_answer_since_a_time_is_that_of_any_probe_unless_the_probe_has_failed_after_it() {
    let mut evidence = tracked(&["a", "b"]);
    assert!(!evidence.has_answered_since(at(0)));
    feed(&mut evidence, "a", 10, "+");
    feed(&mut evidence, "b", 20, "+");
    assert!(evidence.has_answered_since(at(19)) && !evidence.has_answered_since(at(20)));
    feed(&mut evidence, "b", 21, "-");
    assert!(evidence.has_answered_since(at(9)) && !evidence.has_answered_since(at(10)));
}

/// A round that tries these of the addresses that DNS has named; the first of the pool refuses.
fn round_of(sequence: u64, resolved: &[SocketAddr], tried: &[SocketAddr], dead: SocketAddr) -> ProbeReport {
    let mut round = report("a", sequence, at(sequence * 10), EvidenceClass::Ok);
    round.resolution = Resolution::Addresses(resolved.to_vec());
    for address in tried {
        let class = if *address == dead { EvidenceClass::ConnectionRefused } else { EvidenceClass::Ok };
        let outcome = Outcome { class, ..round.outcome.clone() };
        round.addresses.push(AddressOutcome { address: *address, outcome });
    }
    round
}

fn pool(count: u8) -> Vec<SocketAddr> {
    (1..=count).map(|n| SocketAddr::from(([192, 0, 2, n], 25))).collect()
}

#[test]
fn a_dead_address_is_known_although_a_round_tries_a_part_of_many() {
    for count in [4_u8, 16, 17, 20, 24, 32, 64] {
        let (all, mut evidence) = (pool(count), tracked(&["a"]));
        let (dead, size) = (all[0], usize::from(count));
        let mut known_at = None;
        for n in 1..=100_u64 {
            // As the prober takes turns.
            let mut turn = all.clone();
            turn.rotate_left(usize::try_from(n).unwrap() * 16 % size);
            turn.truncate(16);
            evidence.observe(&round_of(n, &all, &turn, dead), at(n * 10));
            known_at = known_at.or(evidence.is_failing_address(TWO_THREE, dead).then_some(n));
        }
        assert!(known_at.is_some_and(|round| round <= 20), "{count} addresses: {known_at:?}");
    }
}

#[test]
fn a_dead_address_stays_known_while_answers_rotate_and_is_forgotten_when_dns_drops_it() {
    let (all, mut evidence) = (pool(12), tracked(&["a"]));
    let dead = all[0];
    let (mut seen, mut known) = (0, 0);
    for n in 1..=2000_u64 {
        let turn = usize::try_from(n / 6).unwrap();
        let answer: Vec<_> = (0..3).map(|at| all[(turn * 5 + at) % 12]).collect();
        evidence.observe(&round_of(n, &answer, &answer, dead), at(n * 10));
        if answer.contains(&dead) {
            seen += 1;
            known += u32::from(evidence.is_failing_address(TWO_THREE, dead));
        }
    }
    assert!(known + 3 >= seen, "known in {known} of {seen} rounds that saw it");
    for n in 2001..=2061 {
        evidence.observe(&round_of(n, &all[1..4], &all[1..4], dead), at(n * 10));
    }
    assert!(!evidence.is_failing_address(TWO_THREE, dead));
}

#[test]
fn evidence_about_addresses_is_bounded_however_many_dns_names() {
    let mut evidence = tracked(&["a"]);
    for n in 1..=100_u64 {
        let answer: Vec<_> =
            (0..16_u8).map(|low| SocketAddr::from(([198, 51, u8::try_from(n).unwrap(), low], 25))).collect();
        evidence.observe(&round_of(n, &answer, &answer, answer[0]), at(100 + n));
    }
    assert!(evidence.judged[&TWO_THREE].addresses.len() <= MAX_ADDRESSES);
}

#[test]
fn of_three_observers_two_decide() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+");
    for observer in ["b", "c"] {
        record(&mut evidence, observer, Health::Healthy, 1, 2);
    }
    record(&mut evidence, "b", Health::Unhealthy, 10, 11);
    assert_eq!(said(&evidence, 11), (Health::Healthy, at(1)));
    record(&mut evidence, "c", Health::Unhealthy, 20, 21);
    let failed = verdict(&evidence, 21);
    assert_eq!((failed.health, failed.since), (Health::Unhealthy, at(21)));
    assert_eq!((failed.observers, &*failed.message), (Agreement { voters: 3, unhealthy: 2 }, "seen by b"));
    // The verdict has stood since then, whoever else joins it.
    record(&mut evidence, "c", Health::Unhealthy, 5, 22);
    assert_eq!(said(&evidence, 22), (Health::Unhealthy, at(21)));
    record(&mut evidence, "b", Health::Degraded, 30, 31);
    assert_eq!(said(&evidence, 31), (Health::Healthy, at(31)));
    record(&mut evidence, "c", Health::Degraded, 40, 41);
    assert_eq!(said(&evidence, 41), (Health::Degraded, at(41)));
}

#[test]
fn who_has_no_verdict_has_no_vote() {
    let mut evidence = tracked(&["a"]);
    record(&mut evidence, "b", Health::Unknown, 0, 1);
    feed(&mut evidence, "a", 2, "+ --");
    assert_eq!(said(&evidence, 5), (Health::Unhealthy, at(5)));
    assert_eq!(verdict(&evidence, 5).observers, Agreement { voters: 1, unhealthy: 1 });
    record(&mut evidence, "b", Health::Healthy, 6, 7);
    assert_eq!(said(&evidence, 7), (Health::Unhealthy, at(5)), "a tie");
    // Our own goes stale: the other one is the only voter, and healthy since before the failure was known to be over.
    let stale_at = 5 + STALE_AFTER;
    assert_eq!(said(&evidence, stale_at - 1), (Health::Unhealthy, at(5)));
    assert_eq!(said(&evidence, stale_at), (Health::Healthy, at(7)));
    evidence.forget_observer("b", at(stale_at + 10));
    assert_eq!(said(&evidence, stale_at + 10), (Health::Unknown, at(stale_at)));
}

#[test]
fn a_verdict_that_ends_because_an_observer_left_has_not_ended_before() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+");
    record(&mut evidence, "b", Health::Unhealthy, 4, 5);
    record(&mut evidence, "c", Health::Unhealthy, 5, 6);
    assert_eq!(said(&evidence, 6), (Health::Unhealthy, at(6)));
    assert!(evidence.forget_observer("b", at(20)));
    assert!(!evidence.forget_observer("b", at(20)));
    assert_eq!(said(&evidence, 20), (Health::Unhealthy, at(6)), "a tie");
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
        record(&mut evidence, "b", Health::Unhealthy, 5, 6);
        let class = if earlier == Health::Healthy { EvidenceClass::Ok } else { EvidenceClass::NoAnswer };
        evidence.adopt_verdict(TWO_THREE, &Judgement::restored(earlier, at(since), class, ""), LEASE, at(10));
        assert_eq!(said(&evidence, 10), (earlier, at(since)));
        record(&mut evidence, "b", Health::Healthy, 20, 21);
        assert_eq!(said(&evidence, 21).0, Health::Healthy);
    }
}

#[test]
fn a_new_leader_keeps_a_persisted_failure_until_a_newer_answer() {
    let unhealthy = Judgement::restored(Health::Unhealthy, at(7), EvidenceClass::NoAnswer, "no answer");
    for peer in [None, Some(Health::Healthy)] {
        let mut evidence = tracked(&["a"]);
        feed(&mut evidence, "a", 1, "+");
        // The earlier leader has died before it reported the failure, and our own rounds have said nothing since.
        if let Some(health) = peer {
            record(&mut evidence, "b", health, 1, 2);
        }
        evidence.adopt_verdict(TWO_THREE, &unhealthy, LEASE, at(10));
        let kept = verdict(&evidence, 11);
        assert_eq!((kept.health, kept.since, kept.class), (Health::Unhealthy, at(7), EvidenceClass::NoAnswer));
        assert_eq!(&*kept.message, "no answer");
        evidence.forget_observer("b", at(12));
        assert_eq!(said(&evidence, 12), (Health::Unhealthy, at(7)), "a dead peer takes nothing with it");
        feed(&mut evidence, "a", 13, "i");
        assert_eq!(said(&evidence, 13), (Health::Unhealthy, at(7)), "an inconclusive round is no answer");
        feed(&mut evidence, "a", 14, "+");
        assert_eq!(said(&evidence, 14), (Health::Healthy, at(14)), "a soak begins with the answer");
    }
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+");
    evidence.adopt_verdict(TWO_THREE, &unhealthy, LEASE, at(10));
    record(&mut evidence, "b", Health::Healthy, 9, 11);
    assert_eq!(said(&evidence, 11).0, Health::Healthy, "a peer's new word is as good");
}

#[test]
fn a_new_leader_without_a_vote_keeps_a_persisted_failure_while_the_others_may_be_dead() {
    let unhealthy = Judgement::restored(Health::Unhealthy, at(7), EvidenceClass::NoAnswer, "no answer");
    let suspects = BTreeSet::from([Observer::Own]);
    let start = || {
        let mut evidence = tracked(&["a"]);
        feed(&mut evidence, "a", 1, "+");
        record(&mut evidence, "b", Health::Healthy, 1, 2);
        evidence.suspect(&suspects, at(9));
        evidence.adopt_verdict(TWO_THREE, &unhealthy, LEASE, at(10));
        evidence
    };
    let mut evidence = start();
    assert_eq!(said(&evidence, 69), (Health::Unhealthy, at(7)), "the last report of a dead peer");
    assert_eq!(evidence.next_timeout(at(11)), Some(at(1 + 65)), "a probe goes stale first");
    assert_eq!(evidence.next_timeout(at(66)), Some(at(70)));
    assert_eq!(said(&evidence, 75), (Health::Healthy, at(70)), "whoever is heard for a minute is alive");
    evidence.suspect(&BTreeSet::new(), at(80));
    assert_eq!(said(&evidence, 81).0, Health::Healthy);

    let mut evidence = start();
    evidence.adopt_verdict(TWO_THREE, &unhealthy, Duration::from_secs(137), at(10));
    assert_eq!(said(&evidence, 557), (Health::Unhealthy, at(7)), "a dead replica's Lease may still be held");
    assert_eq!(said(&evidence, 558), (Health::Healthy, at(558)));

    let mut evidence = start();
    evidence.forget_observer("b", at(25));
    assert_eq!(said(&evidence, 26).0, Health::Unknown, "nobody is left who could say");
    evidence.suspect(&BTreeSet::new(), at(30));
    assert_eq!(said(&evidence, 31), (Health::Unhealthy, at(7)), "an old success of our own ends nothing");

    let mut evidence = start();
    record(&mut evidence, "b", Health::Healthy, 3, 12);
    assert_eq!(said(&evidence, 13).0, Health::Healthy, "a report that changed since is fresh");
}

#[test]
fn a_failure_behind_an_obstacle_is_remembered_over_a_restart() {
    let mut evidence = tracked(&["greet", "login"]);
    let failed = Judgement::restored(Health::Unhealthy, at(3), EvidenceClass::AuthenticationRefused, "535");
    evidence.adopt_probe("login", &failed.blocked_since(at(7), "no Secret"), at(10));
    feed(&mut evidence, "greet", 11, "+");
    let unseen = verdict(&evidence, 12);
    assert_eq!((unseen.health, unseen.since, &*unseen.message), (Health::Unknown, at(7), "no Secret"));
    let failure = UnseenFailure { since: at(3), class: EvidenceClass::AuthenticationRefused };
    assert_eq!(unseen.unseen_failure, Some(failure));
    feed(&mut evidence, "login", 13, "+");
    assert_eq!(verdict(&evidence, 13).health, Health::Unhealthy, "the recovery is not whole");
    feed(&mut evidence, "login", 14, "++");
    assert_eq!((verdict(&evidence, 15).health, verdict(&evidence, 15).unseen_failure), (Health::Healthy, None));
}

#[test]
fn what_no_observer_sees_well_is_not_healthy() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+");
    record(&mut evidence, "b", Health::Unhealthy, 2, 3);
    assert_eq!(said(&evidence, 3).0, Health::Healthy, "a tie");
    let long = 5 + 2 * THROTTLED_ONLY.as_secs();
    for second in (5..long).step_by(10) {
        feed(&mut evidence, "a", second, "t");
    }
    assert_eq!(said(&evidence, long).0, Health::Degraded);
}

#[test]
fn who_is_suspect_has_no_vote() {
    let mut evidence = tracked(&["a"]);
    feed(&mut evidence, "a", 1, "+--");
    record(&mut evidence, "b", Health::Healthy, 1, 4);
    assert_eq!(said(&evidence, 4).0, Health::Unhealthy, "a tie");
    let suspects = [Observer::Own].into();
    assert!(evidence.suspect(&suspects, at(5)));
    assert!(!evidence.suspect(&suspects, at(6)));
    assert_eq!(said(&evidence, 6), (Health::Healthy, at(4)), "the other one has said so since");
    evidence.forget_observer("b", at(7));
    let unknown = verdict(&evidence, 8);
    assert_eq!((unknown.health, unknown.since), (Health::Unknown, at(5)), "nobody is left to believe");
    evidence.suspect(&BTreeSet::new(), at(9));
    assert_eq!(said(&evidence, 9).0, Health::Unhealthy);
    record(&mut evidence, "b", Health::Healthy, 1, 10);
    evidence.suspect(&[Observer::Other("b".into())].into(), at(11));
    assert_eq!(verdict(&evidence, 11).observers, Agreement { voters: 1, unhealthy: 1 });
}
