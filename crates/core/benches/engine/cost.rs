//! What an observation and a decision cost, and whether that depends on how many backends there are.

use std::hint::black_box;
use std::time::Instant;

use crate::alarms::haproxy::Server;
use crate::scale::{KINDS, SIZES, ScaleFixture};

/// Each figure is the median of so many passes.
const PASSES: usize = 5;
const OBSERVATIONS: usize = 1_000_000;
const DECISIONS: usize = 100_000;
/// One observation in so many is a failure.
const FAILURE_EVERY: usize = 100;
/// Coprime to the sizes: results arrive in no order that memory could profit from.
const STRIDE: usize = 7_919;

/// Nanoseconds.
struct Cost {
    evidence: f64,
    staying: f64,
    moving: f64,
    peer: f64,
}

/// Measures and prints the table. `divisor`: with so many times fewer observations and decisions.
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

/// Nanoseconds for one of `count`.
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
