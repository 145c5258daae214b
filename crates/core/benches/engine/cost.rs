//! Cost of an observation and of a decision, at different numbers of backends.

use std::hint::black_box;
use std::time::Instant;

use crate::alarms::haproxy::Server;
use crate::scale::{KINDS, SIZES, ScaleFixture};

/// The number of passes whose median is each figure.
const PASSES: usize = 5;
const OBSERVATIONS: usize = 1_000_000;
const DECISIONS: usize = 100_000;
/// The number of observations of which one is a failure.
const FAILURE_EVERY: usize = 100;
/// The distance between successive observations. It is coprime to the sizes, so results arrive in
/// no order that memory could profit from.
const STRIDE: usize = 7_919;

/// The nanoseconds of each part.
struct Cost {
    evidence: f64,
    staying: f64,
    moving: f64,
    peer: f64,
}

/// Measures and prints the table, with this many times fewer observations and decisions.
pub fn print(divisor: usize) {
    println!(
        "\nCost of the engine, in nanoseconds, with the default policy and routes of three backends. EVIDENCE: one result of a probe, one in\n\
         {FAILURE_EVERY} a failure. STAY, MOVE: three verdicts, three candidates and a decision. HAPROXY: its rule per result.\n\
         RATIO: to {} backends; 1 means that so many times the backends cost so many times as much.\n",
        SIZES[0]
    );
    println!(
        "{:>8} {:>9} {:>6} {:>7} {:>6} {:>7} {:>6} {:>8} {:>6}",
        "BACKENDS", "EVIDENCE", "RATIO", "STAY", "RATIO", "MOVE", "RATIO", "HAPROXY", "RATIO"
    );
    let costs = SIZES.map(|size| (size, cost(size, divisor)));
    let first = &costs[0].1;
    for (size, cost) in &costs {
        let ratio = |of: fn(&Cost) -> f64| of(cost) / of(first).max(f64::MIN_POSITIVE);
        println!(
            "{size:>8} {:>9.1} {:>6.2} {:>7.0} {:>6.2} {:>7.0} {:>6.2} {:>8.1} {:>6.2}",
            cost.evidence,
            ratio(|cost| cost.evidence),
            cost.staying,
            ratio(|cost| cost.staying),
            cost.moving,
            ratio(|cost| cost.moving),
            cost.peer,
            ratio(|cost| cost.peer),
        );
    }
}

fn cost(size: usize, divisor: usize) -> Cost {
    let mut scale = ScaleFixture::of(size, KINDS[0]);
    let observations = (OBSERVATIONS / divisor).max(size);
    let evidence = median(observations, |count| {
        for number in 0..count {
            if number % size == 0 {
                scale.pass_round();
            }
            black_box(scale.observe(number * STRIDE % size, number % FAILURE_EVERY > 0));
        }
    });
    // Every last result is a success again.
    scale.pass_round();
    for number in 0..size {
        scale.observe(number, true);
    }
    let decisions = (DECISIONS / divisor).max(scale.routes());
    let deciding = |is_dead: bool| {
        median(decisions, |count| {
            for number in 0..count {
                black_box(scale.decide(number * STRIDE % scale.routes(), is_dead));
            }
        })
    };
    let mut servers = vec![Server::up(); size];
    let peer = median(observations, |count| {
        for number in 0..count {
            let server = &mut servers[number * STRIDE % size];
            server.check(black_box(number % FAILURE_EVERY > 0));
            black_box(server.is_up());
        }
    });
    Cost { evidence, staying: deciding(false), moving: deciding(true), peer }
}

/// The nanoseconds for one of `count`.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
fn median(count: usize, mut pass: impl FnMut(usize)) -> f64 {
    let mut times = [0.0; PASSES];
    for time in &mut times {
        let begun = Instant::now();
        pass(count);
        *time = begun.elapsed().as_nanos() as f64 / count as f64;
    }
    times.sort_by(f64::total_cmp);
    times[PASSES / 2]
}
