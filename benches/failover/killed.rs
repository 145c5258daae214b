//! Failovers from a relay of one's own that is killed: the end of its idle session starts the looks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::assertions::metric_sum;
use mail_failover_e2e::bench::{Arguments, load, machine};
use mail_failover_e2e::eventually::eventually_is;
use mail_failover_e2e::fixture::{PolicyTimings, QUICK_LEASE, WAIT_TIMEOUT};
use mail_failover_e2e::haproxy::{Checks, HOW_TO_INSTALL, HaProxy};
use mail_failover_e2e::mail::statistics::{Align, Summary, Table, human};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::scrape::Scrape;
use mail_failover_e2e::test_env::TestEnv;

use crate::case::{Case, INTERVAL, THRESHOLD, TIMEOUT};
use crate::report::{Rounds, lost};
use crate::round::{Pair, Round};
use crate::{Schedule, patches, run_all, start_haproxy, start_operator, start_pairs};

/// The bound that half of the failovers by one replica must meet, as the client sees them.
const GOAL: Duration = Duration::from_millis(150);
/// The time between two looks at that interval, and HAProxy's `fastinter`.
const FAST_INTERVAL: &str = "100ms";

/// The size of a measurement.
struct KilledPlan {
    pairs: usize,
    /// Failovers per pair.
    rounds: usize,
}

const FULL: KilledPlan = KilledPlan { pairs: 6, rounds: 34 };
const QUICK: KilledPlan = KilledPlan { pairs: 2, rounds: 10 };

/// The measurement of one contender.
struct Contender {
    name: &'static str,
    rounds: Rounds,
    /// The time in which half of its patches were answered.
    patch: Option<Duration>,
}

/// Measures, and prints a table and the goal.
pub async fn measure(env: &Arc<TestEnv>, arguments: Arguments) -> Result<()> {
    let plan = if arguments.quick { QUICK } else { FULL };
    let pairs = start_pairs(env, (plan.pairs, 0)).await?;
    println!("{}; load {}", machine(), load());
    println!(
        "Relays that are killed: probes every {} with a timeout of {}, {THRESHOLD} failures, lasting 0s; {} routes at a time",
        INTERVAL.0,
        TIMEOUT.0,
        pairs.len()
    );
    let mut contenders = vec![];
    for (name, replicas, idle_sessions) in [
        ("idle sessions, one replica", 1, true),
        ("idle sessions, two replicas", 2, true),
        ("without them, one replica", 1, false),
    ] {
        let contender = by_operator(env, &pairs, &plan, name, (replicas, idle_sessions)).await.context(name)?;
        contenders.push(contender);
    }
    match HaProxy::program().filter(|_| !arguments.no_peer) {
        Some(program) => contenders.push(by_haproxy(env, &program, &pairs, &plan).await.context("by HAProxy")?),
        None if arguments.no_peer => {}
        None => println!("the peer's row is missing: {HOW_TO_INSTALL}"),
    }
    println!("load {}\n\n{}", load(), table(&contenders));
    println!(
        "DETECTION: from the kill to the decision; CLIENT: from its first failed attempt to the next accepted one"
    );
    let one = contenders.first().and_then(|contender| client(contender.rounds.get(&Case::Killed)?));
    let is_met = one.is_some_and(|summary| summary.p50 <= GOAL);
    println!("  goal: {} at the median for one replica: {}", human(GOAL), if is_met { "met" } else { "NOT met" });
    for contender in &contenders {
        ensure!(lost(&contender.rounds) == 0, "{}: messages are lost", contender.name);
    }
    Ok(())
}

fn schedule(rounds: usize) -> Schedule {
    Schedule { cases: [vec![Case::Killed; rounds], vec![]], spread: Duration::from_secs(1) }
}

async fn by_operator(
    env: &Arc<TestEnv>,
    pairs: &[Pair],
    plan: &KilledPlan,
    name: &'static str,
    (replicas, idle_sessions): (usize, bool),
) -> Result<Contender> {
    let timings = PolicyTimings {
        interval: INTERVAL.0,
        timeout: TIMEOUT.0,
        failures: THRESHOLD,
        lasting: Some("0s"),
        successes: 1,
        cooldown: "0s",
        minimum_stay: "0s",
        soak: "0s",
    };
    let (first, ways) = start_operator(env, pairs, &timings, idle_sessions).await?;
    let mut operators = vec![first];
    for number in 1..replicas {
        let operator = env.start_operator(&format!("bench-{number}"), &QUICK_LEASE)?;
        operator.wait_ready(WAIT_TIMEOUT).await?;
        operators.push(operator);
    }
    if idle_sessions {
        for operator in &operators {
            wait_for_sessions(operator, 2 * pairs.len()).await?;
        }
    }
    let rounds = run_all(pairs, ways, schedule(plan.rounds)).await?;
    let patch = patches(&Scrape::new(operators[0].metrics().await?)).percentile(50);
    for operator in operators {
        operator.terminate(WAIT_TIMEOUT).await?;
    }
    Ok(Contender { name, rounds, patch })
}

/// Waits until an operator has a session with each server.
async fn wait_for_sessions(operator: &Operator, servers: usize) -> Result<()> {
    let sessions =
        async || Ok(metric_sum(&operator.metrics().await?, "mail_failover_probe_idle_sessions", |_| true).to_string());
    let wanted = servers.to_string();
    eventually_is(WAIT_TIMEOUT, "an idle session with each server", sessions, |seen| *seen == wanted).await?;
    Ok(())
}

async fn by_haproxy(env: &TestEnv, program: &Path, pairs: &[Pair], plan: &KilledPlan) -> Result<Contender> {
    let checks = Checks {
        interval: INTERVAL.0,
        fast_interval: Some(FAST_INTERVAL),
        timeout: TIMEOUT.0,
        failures: THRESHOLD,
        successes: 1,
        told: None,
    };
    let (_haproxy, ways) = start_haproxy(env, program, checks, pairs, None).await?;
    let rounds = run_all(pairs, ways, schedule(plan.rounds)).await?;
    Ok(Contender { name: "HAProxy, fastinter", rounds, patch: None })
}

fn table(contenders: &[Contender]) -> Table {
    let mut columns = vec![("BY", Align::Left)];
    let figures = ["N", "DETECTION P50", "P99", "MAX", "CLIENT P50", "P99", "MAX", "PATCH P50 <="];
    columns.extend(figures.map(|name| (name, Align::Right)));
    let mut table = Table::new(&columns);
    for Contender { name, rounds, patch } in contenders {
        let Some(rounds) = rounds.get(&Case::Killed) else { continue };
        let mut cells = vec![(*name).to_owned(), rounds.len().to_string()];
        for summary in [detection(rounds), client(rounds)] {
            match summary {
                Some(summary) => cells.extend([summary.p50, summary.p99, summary.max].map(human)),
                None => cells.extend(["-"; 3].map(str::to_owned)),
            }
        }
        cells.push(patch.map_or_else(|| "-".to_owned(), human));
        table.row(cells);
    }
    table
}

/// Summary of the detections; `None` if one is missing.
fn detection(rounds: &[Round]) -> Option<Summary> {
    Summary::of(rounds.iter().map(|round| round.decided).collect::<Option<Vec<_>>>()?)
}

/// Summary of the failovers; `None` if one is missing.
fn client(rounds: &[Round]) -> Option<Summary> {
    Summary::of(rounds.iter().map(|round| round.failover).collect::<Option<Vec<_>>>()?)
}
