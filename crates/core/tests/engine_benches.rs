//! The tests of what `benches/engine/` counts with.

#[expect(dead_code, reason = "what prints is not used here")]
#[path = "../benches/engine/alarms/mod.rs"]
mod alarms;

use alarms::fault_model::{Fault, FaultModel, ROWS, draw_faults};
use alarms::haproxy::{Balancer, FALL, RISE, Server};
use alarms::probes::Stream;
use alarms::profile::Profile;
use alarms::simulation::{AlarmCounts, Pace, simulate};
use alarms::{is_promised, rows, simulate_all};
use fastrand::Rng;
use mail_failover_core::model::EvidenceClass;

#[test]
fn three_failed_checks_in_a_row_bring_it_down_and_two_good_ones_up() {
    let cases = [
        ("--", true),
        ("---", false),
        ("--+--", true),
        ("--+---", false),
        ("---+", false),
        ("---++", true),
        ("---+-+", false),
        ("---+-++", true),
        ("---++--", true),
        ("---++---", false),
    ];
    for (checks, is_up) in cases {
        let mut server = Server::up();
        checks.chars().for_each(|check| server.check(check == '+'));
        assert_eq!(server.is_up(), is_up, "{checks}");
    }
}

#[test]
fn the_backup_is_used_only_while_the_primary_is_down() {
    let mut balancer = Balancer::new();
    assert_eq!(balancer.in_use(), Some(0));
    (0..FALL).for_each(|_| balancer.servers[0].check(false));
    assert_eq!(balancer.in_use(), Some(1));
    (0..FALL).for_each(|_| balancer.servers[1].check(false));
    assert_eq!(balancer.in_use(), None);
    (0..RISE).for_each(|_| balancer.servers[0].check(true));
    assert_eq!(balancer.in_use(), Some(0));
}

#[test]
fn what_fails_at_random_fails_as_often_as_it_says() {
    let share = |fault_model: FaultModel| {
        let mut random = Rng::with_seed(1);
        let failures = (0..100_000).filter(|_| fault_model.everyday(random.u32(..), 5_000_000).0 != EvidenceClass::Ok);
        failures.count()
    };
    for (fault_model, expected) in
        [(FaultModel::Random(1), 1_000), (FaultModel::Random(20), 20_000), (FaultModel::Slow, 13_534), (ROWS[0], 0)]
    {
        assert!(share(fault_model).abs_diff(expected) <= expected / 20, "{fault_model:?}: {}", share(fault_model));
    }
}

#[test]
fn every_hour_has_its_trouble_and_one_in_ten_an_outage_apart_from_it() {
    for fault_model in ROWS.into_iter().filter(|fault_model| fault_model.has_calm()) {
        let faults = draw_faults(fault_model, 1_000, &mut Rng::with_seed(2));
        let (outages, troubles): (Vec<_>, Vec<_>) = faults.iter().partition(|fault| fault.is_outage);
        assert_eq!(troubles.len(), 1_000, "{fault_model:?}");
        assert!((60..140).contains(&outages.len()), "{fault_model:?}: {}", outages.len());
        let overlaps = |a: &Fault, b: &Fault| a.from < b.until && b.from < a.until;
        let is_met = outages.iter().any(|outage| troubles.iter().any(|fault_model| overlaps(outage, fault_model)));
        assert_eq!(is_met, matches!(fault_model, FaultModel::CutOff(_)), "{fault_model:?}");
    }
}

#[test]
fn starts_are_an_interval_apart_less_or_more_five_percent() {
    let profile = Profile::default_policy();
    let mut gaps = vec![];
    for seed in 0..20 {
        let mut stream = Stream::new(0, 0, &profile, Rng::with_seed(seed));
        let starts: Vec<_> = (0..500).map(|_| stream.probe(ROWS[0], &[]).start).collect();
        gaps.extend(starts.windows(2).map(|pair| pair[1] - pair[0]));
    }
    let (least, most) = (gaps.iter().min().copied(), gaps.iter().max().copied());
    assert!(least > Some(9_550_000 - 1) && least < Some(9_600_000), "{least:?}");
    assert!(most < Some(10_450_000 + 1) && most > Some(10_400_000), "{most:?}");
}

#[test]
fn no_check_begins_while_one_waits() {
    let profile = Profile::fast();
    let mut stream = Stream::new(0, 0, &profile, Rng::with_seed(3));
    let mut free_at = 0;
    let mut checks = 0;
    for _ in 0..10_000 {
        let probe = stream.probe(FaultModel::Random(20), &[]);
        assert_eq!(probe.is_check, probe.start >= free_at);
        if probe.is_check {
            free_at = probe.finish;
            checks += 1;
        }
    }
    // A tenth of them wait for the timeout, in which four others would have begun.
    assert!((6_500..7_500).contains(&checks), "{checks}");
}

#[test]
fn what_is_promised_to_move_no_route_moves_none_and_hides_no_outage() {
    let rows: Vec<_> = rows(100).into_iter().filter(is_promised).collect();
    assert!(rows.len() >= 9, "{}", rows.len());
    for (row, counts) in rows.iter().zip(simulate_all(&rows)) {
        let name = format!("{} {}", row.profile.name, row.fault_model.name());
        assert!(counts.hours >= 400 && counts.outages > 20, "{name}: {counts:?}");
        assert_eq!((counts.ours.wrong, counts.ours.missed), (0, 0), "{name}: {counts:?}");
    }
}

#[test]
fn skipping_changes_no_count() {
    let mut sum = AlarmCounts::default();
    for (profile, hours, seeds) in
        [(Profile::default_policy(), 24, 0..8), (Profile::confirming(), 24, 0..4), (Profile::fast(), 2, 0..2)]
    {
        for fault_model in ROWS {
            for seed in seeds.clone() {
                let full = simulate(&profile, fault_model, hours, seed, Pace::Full);
                let quick = simulate(&profile, fault_model, hours, seed, Pace::Quick);
                assert_eq!(full, quick, "{} {fault_model:?} {seed}", profile.name);
                sum += quick;
            }
        }
    }
    assert!(sum.ours.wrong > 0 && sum.peer.wrong > 0 && sum.outages > 0 && sum.transitions > 0, "{sum:?}");
}
