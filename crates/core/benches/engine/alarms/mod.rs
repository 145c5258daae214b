//! False alarms and missed outages: the numbers of wrong moves by random faults, by the engine and
//! by HAProxy's rule of "3 failed checks, 2 good ones". Virtual time, seeded: the same counts on
//! any machine.

pub mod fault_model;
pub mod haproxy;
pub mod ours;
pub mod probes;
pub mod profile;
pub mod simulation;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};
use std::time::{Duration, Instant};

use mail_failover_core::model::Timestamp;

use fault_model::{FaultModel, ROWS};
use profile::Profile;
use simulation::{AlarmCounts, Pace, simulate};

/// The number of hours for which a route is simulated at a stretch.
const DAY: u32 = 24;

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// A row under a policy.
pub struct Row {
    pub profile: Profile,
    pub fault_model: FaultModel,
    days: usize,
}

/// The rows, of two million route-hours. The fast policy has fifty times as many probes an hour, so
/// that its rows without stretches to skip get fewer hours, and the others more.
pub fn rows(divisor: usize) -> Vec<Row> {
    let row = |profile: fn() -> Profile, fault_model: FaultModel, hours: usize| Row {
        profile: profile(),
        fault_model,
        days: (hours / divisor).div_ceil(usize::try_from(DAY).unwrap_or(1)),
    };
    let of_default = ROWS.map(|fault_model| row(Profile::default_policy, fault_model, 100_000));
    let of_fast = ROWS.map(|fault_model| {
        let hours = match fault_model {
            FaultModel::Blip(_) => 275_000,
            FaultModel::Random(percent) => 30_000 / usize::try_from(percent).unwrap_or(1).isqrt().max(1),
            FaultModel::Slow => 3_000,
            FaultModel::Resolver(_) | FaultModel::CutOff(_) | FaultModel::AllAtOnce(_) => 45_000,
        };
        row(Profile::fast, fault_model, hours)
    });
    let of_confirming = ROWS.map(|fault_model| {
        let hours = match fault_model {
            FaultModel::Random(_) | FaultModel::Slow => 10_000,
            FaultModel::Blip(_) | FaultModel::Resolver(_) | FaultModel::CutOff(_) | FaultModel::AllAtOnce(_) => 50_000,
        };
        row(Profile::confirming, fault_model, hours)
    });
    of_default.into_iter().chain(of_confirming).chain(of_fast).collect()
}

/// Simulates and prints the table, with this many times fewer hours.
pub fn print(divisor: usize) {
    let rows = rows(divisor);
    let begun = Instant::now();
    let all_counts = simulate_all(&rows);
    let took = begun.elapsed();
    println!(
        "\nFalse alarms. WRONG: moves away from a backend that is not out. MISSED: outages of 10 minutes, one in ten hours, in which mail was\n\
         still led to the dead backend after interval x threshold (or `lasting`) + timeout + 1 s + interval (HAProxy: by its own numbers).\n\
         HAPROXY: fall 3, rise 2, backup, on the same probes. W/1000: wrong moves in 1,000 route-hours.\n"
    );
    println!(
        "{:<11} {:<22} {:>3} {:>8} {:>8} {:>9} {:>9} {:>9} {:>7} | {:>9} {:>9} {:>7}",
        "POLICY",
        "TROUBLE",
        "OBS",
        "HOURS",
        "OUTAGES",
        "MOVES",
        "WRONG",
        "W/1000",
        "MISSED",
        "HAPROXY W",
        "W/1000",
        "MISSED"
    );
    for (row, counts) in rows.iter().zip(&all_counts) {
        let per_thousand = |wrong: u64| format!("{:.3}", ratio(wrong * 1_000, counts.hours));
        println!(
            "{:<11} {:<22} {:>3} {:>8} {:>8} {:>9} {:>9} {:>9} {:>7} | {:>9} {:>9} {:>7}",
            row.profile.name,
            row.fault_model.name(),
            row.fault_model.observers(),
            counts.hours,
            counts.outages,
            counts.transitions,
            counts.ours.wrong,
            per_thousand(counts.ours.wrong),
            counts.ours.missed,
            counts.peer.wrong,
            per_thousand(counts.peer.wrong),
            counts.peer.missed,
        );
    }
    let hours: u64 = all_counts.iter().map(|counts| counts.hours).sum();
    println!("\n{hours} route-hours in {:.1} s", took.as_secs_f64());
    let promised = || rows.iter().zip(&all_counts).filter(|(row, _)| is_promised(row));
    let broken: u64 = promised().map(|(_, counts)| counts.ours.wrong).sum();
    let met = if broken == 0 { "met" } else { "NOT met" };
    println!(
        "goal: no wrong move by blips under the default policy, nor by our own network under any: {broken}, {met}"
    );
}

/// Returns true if the product promises that such a fault never moves a route under this policy.
pub fn is_promised(row: &Row) -> bool {
    match row.fault_model {
        FaultModel::Blip(_) => row.profile.name == Profile::default_policy().name,
        FaultModel::Resolver(_) | FaultModel::CutOff(_) | FaultModel::AllAtOnce(_) => true,
        FaultModel::Random(_) | FaultModel::Slow => false,
    }
}

/// Simulates all rows on every core. The counts do not depend on the number of cores.
pub fn simulate_all(rows: &[Row]) -> Vec<AlarmCounts> {
    let days: Vec<_> = rows.iter().enumerate().flat_map(|(row, of)| (0..of.days).map(move |day| (row, day))).collect();
    let next = AtomicUsize::new(0);
    let sums = Mutex::new(vec![AlarmCounts::default(); rows.len()]);
    let work = || {
        let mut own = vec![AlarmCounts::default(); rows.len()];
        while let Some((row, day)) = days.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Row { profile, fault_model, .. } = &rows[*row];
            let seed = (*row as u64) << 32 | *day as u64;
            own[*row] += simulate(profile, *fault_model, DAY, seed, Pace::Quick);
        }
        if let Ok(mut sums) = sums.lock() {
            sums.iter_mut().zip(own).for_each(|(sum, counts)| *sum += counts);
        }
    };
    scope(|threads| {
        for _ in 0..available_parallelism().map_or(1, std::num::NonZero::get) {
            threads.spawn(work);
        }
    });
    sums.into_inner().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}
