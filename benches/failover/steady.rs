//! Failovers where probes are rare, beside HAProxy at the same steady rate: with `fastinter`, which confirms a failure as
//! `failure.lasting` does, and without it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::bench::{Arguments, load, machine};
use mail_failover_e2e::fixture::{PolicyTimings, WAIT_TIMEOUT};
use mail_failover_e2e::haproxy::{Checks, DownLog, HOW_TO_INSTALL, HaProxy};
use mail_failover_e2e::mail::statistics::{Align, Summary, Table, human};
use mail_failover_e2e::scrape::Scrape;
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

use crate::case::Case;
use crate::report::{Rounds, lost};
use crate::round::{Pair, Round};
use crate::{Schedule, patches, run_all, start_haproxy, start_operator, start_pairs};

/// `spec.probes[].interval`, and HAProxy's `inter`.
const INTERVAL: (&str, Duration) = ("2s", Duration::from_secs(2));
/// `spec.probes[].timeout`, and HAProxy's `timeout check`.
const TIMEOUT: &str = "1s";
/// `fastinter`: the time that the operator's looks are apart at that interval.
const FAST_INTERVAL: &str = "100ms";
/// `spec.failure.consecutive`, and `fall`.
const FAILURES: u32 = 3;
/// The share of HAProxy's time, with `fastinter`, in which a silent server is to be found.
const SILENT_GOAL: f64 = 0.6;
/// The port of the log.
const SYSLOG: u16 = 514;

/// The size of a measurement.
struct SteadyPlan {
    pairs: usize,
    /// Failovers per pair where connections are refused, and where nothing is said.
    rounds: (usize, usize),
    /// The same for HAProxy without `fastinter`.
    slow_rounds: (usize, usize),
    /// Intervals for which connections are counted while nothing fails.
    calm: u32,
}

const FULL: SteadyPlan = SteadyPlan { pairs: 10, rounds: (31, 10), slow_rounds: (5, 5), calm: 15 };
const QUICK: SteadyPlan = SteadyPlan { pairs: 4, rounds: (3, 2), slow_rounds: (1, 1), calm: 3 };

/// The measurement of one contender.
struct Contender {
    name: &'static str,
    rounds: Rounds,
    /// Connections a second to each server while nothing fails.
    rate: f64,
}

/// Measures, and prints tables and ratios.
pub async fn measure(env: &Arc<TestEnv>, arguments: Arguments) -> Result<()> {
    let plan = if arguments.quick { QUICK } else { FULL };
    let pairs = start_pairs(env, (plan.pairs, 0)).await?;
    println!("{}; load {}", machine(), load());
    println!(
        "Rare probes: every {} with a timeout of {TIMEOUT}, {FAILURES} failures; {} routes at a time. The operator: lasting 0s",
        INTERVAL.0,
        pairs.len()
    );
    let (ours, patch) = by_operator(env, &pairs, &plan).await.context("by the operator")?;
    let mut contenders = vec![ours];
    match HaProxy::program().filter(|_| !arguments.no_peer) {
        Some(program) => {
            let ways = [("HAProxy, fastinter", Some(FAST_INTERVAL), plan.rounds), ("HAProxy", None, plan.slow_rounds)];
            for (name, fast_interval, rounds) in ways {
                let contender = by_haproxy(env, &program, &pairs, (name, fast_interval), rounds, plan.calm).await;
                contenders.push(contender.context(name)?);
            }
        }
        None if arguments.no_peer => {}
        None => println!("the peer's rows are missing: {HOW_TO_INSTALL}"),
    }
    println!("load {}\n\n{}", load(), table(&contenders));
    println!(
        "DETECTION: from the break to the decision; CLIENT: from its first failed attempt to the next accepted one"
    );
    if let [ours, fast, slow] = contenders.as_slice() {
        compare(ours, fast, slow, patch);
    }
    for contender in &contenders {
        ensure!(lost(&contender.rounds) == 0, "{}: messages are lost", contender.name);
    }
    Ok(())
}

fn schedule((refused, silent): (usize, usize)) -> Schedule {
    let mut cases = vec![Case::Refused; refused];
    cases.extend(vec![Case::Silent; silent]);
    Schedule { cases: [cases, vec![]], spread: INTERVAL.1 }
}

/// The operator's failovers, and the time in which 99 of 100 of its patches were answered.
async fn by_operator(env: &Arc<TestEnv>, pairs: &[Pair], plan: &SteadyPlan) -> Result<(Contender, Option<Duration>)> {
    let timings = PolicyTimings {
        interval: INTERVAL.0,
        timeout: TIMEOUT,
        failures: FAILURES,
        lasting: Some("0s"),
        successes: 1,
        cooldown: "0s",
        minimum_stay: "0s",
        soak: "0s",
    };
    let (operator, ways) = start_operator(env, pairs, &timings, false).await?;
    let rate = steady_rate(pairs, plan.calm).await;
    let rounds = run_all(pairs, ways, schedule(plan.rounds)).await?;
    let patch = patches(&Scrape::new(operator.metrics().await?)).percentile(99);
    operator.terminate(WAIT_TIMEOUT).await?;
    Ok((Contender { name: "the operator", rounds, rate }, patch))
}

async fn by_haproxy(
    env: &TestEnv,
    program: &Path,
    pairs: &[Pair],
    (name, fast_interval): (&'static str, Option<&'static str>),
    rounds: (usize, usize),
    calm: u32,
) -> Result<Contender> {
    let log = Arc::new(DownLog::listen(SocketAddr::new(env.ipv4(), SYSLOG)).await?);
    let checks = Checks {
        interval: INTERVAL.0,
        fast_interval,
        timeout: TIMEOUT,
        failures: FAILURES,
        successes: 1,
        told: Some(log.address()),
    };
    let (_haproxy, ways) = start_haproxy(env, program, checks, pairs, Some(&log)).await?;
    let rate = steady_rate(pairs, calm).await;
    let rounds = run_all(pairs, ways, schedule(rounds)).await?;
    Ok(Contender { name, rounds, rate })
}

/// Connections a second to each server while nothing fails and nobody sends.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
async fn steady_rate(pairs: &[Pair], intervals: u32) -> f64 {
    let time = INTERVAL.1 * intervals;
    let before = connections(pairs);
    sleep(time).await;
    (connections(pairs) - before) as f64 / time.as_secs_f64() / (2 * pairs.len()) as f64
}

fn connections(pairs: &[Pair]) -> u64 {
    pairs.iter().flat_map(|pair| [&pair.primary, &pair.standby]).map(|server| server.counters().connections).sum()
}

fn table(contenders: &[Contender]) -> Table {
    let mut columns = vec![("FAULT", Align::Left), ("BY", Align::Left)];
    let figures = ["N", "DETECTION P50", "P99", "MAX", "CLIENT P50", "P99", "MAX", "PROBES/S"];
    columns.extend(figures.map(|name| (name, Align::Right)));
    let mut table = Table::new(&columns);
    for case in [Case::Refused, Case::Silent] {
        for Contender { name, rounds, rate } in contenders {
            let Some(rounds) = rounds.get(&case) else { continue };
            let mut cells = vec![case.name().to_owned(), (*name).to_owned(), rounds.len().to_string()];
            for summary in [detection(rounds), client(rounds)] {
                match summary {
                    Some(summary) => cells.extend([summary.p50, summary.p99, summary.max].map(human)),
                    None => cells.extend(["never"; 3].map(str::to_owned)),
                }
            }
            cells.push(format!("{rate:.2}"));
            table.row(cells);
        }
    }
    table
}

/// Summary of the detections; `None` if one is missing.
fn detection(rounds: &[Round]) -> Option<Summary> {
    Summary::of(rounds.iter().map(|round| round.decided).collect::<Option<Vec<_>>>()?)
}

fn client(rounds: &[Round]) -> Option<Summary> {
    Summary::of(rounds.iter().map(|round| round.failover).collect::<Option<Vec<_>>>()?)
}

/// Prints ours as parts of theirs, and the goals.
fn compare(ours: &Contender, fast: &Contender, slow: &Contender, patch: Option<Duration>) {
    for case in [Case::Refused, Case::Silent] {
        let detections = [ours, fast, slow].map(|contender| detection(contender.rounds.get(&case)?));
        let [Some(our), Some(fast_one), Some(slow_one)] = detections else {
            println!("{}: not every failure was seen", case.name());
            continue;
        };
        println!(
            "{}: detection is {:.2} of that with fastinter at the median and {:.2} at p99, {:.2} and {:.2} of that without",
            case.name(),
            part(our.p50, fast_one.p50),
            part(our.p99, fast_one.p99),
            part(our.p50, slow_one.p50),
            part(our.p99, slow_one.p99),
        );
        if case == Case::Silent {
            let is_met = part(our.p50, fast_one.p50) <= SILENT_GOAL;
            println!("  goal: at most {SILENT_GOAL} at the median: {}", met(is_met));
        } else {
            println!("  goal: at most 1 at p99: {}", met(our.p99 <= fast_one.p99));
        }
        let clients = [ours, fast].map(|contender| client(contender.rounds.get(&case)?));
        if let ([Some(our), Some(fast_one)], Some(patch)) = (clients, patch) {
            let goal = fast_one.p99 + 2 * patch;
            println!(
                "  client-seen p99: {}; with fastinter {}, and two patches at p99 of at most {} each: {}",
                human(our.p99),
                human(fast_one.p99),
                human(patch),
                met(our.p99 <= goal)
            );
        }
    }
}

fn part(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "NOT met" }
}
