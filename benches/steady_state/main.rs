//! Cost of the operator while nothing happens: writes to the API server, CPU and memory with 100,
//! 1,000 and 10,000 backends, and the cost of an HAProxy that checks as many servers as often.
//!
//! All backends are healthy. The operator is one process and leads. It sees the backends being
//! created, and is restarted at the end, to measure a start among so many.

mod scale;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mail_failover_e2e::bench::{self, Arguments, Usage, load, machine};
use mail_failover_e2e::control_plane::install_crds;
use mail_failover_e2e::haproxy::{Checks, HOW_TO_INSTALL, HaProxy, Listen};
use mail_failover_e2e::mail::statistics::{Align, Table, human};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::scrape::{Durations, Scrape};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

/// Goals at the largest size.
const GOAL_CORES: f64 = 0.5;
const GOAL_MEGABYTES: u64 = 150;
/// The time without a write, longer than an interval, after which the operator has settled.
const QUIET: Duration = Duration::from_secs(15);
const SETTLING: Duration = Duration::from_mins(5);
const READY: Duration = Duration::from_mins(2);

struct Plan {
    sizes: &'static [usize],
    /// The duration of a measurement.
    stretch: Duration,
}

const FULL: Plan = Plan { sizes: &[100, 1_000, 10_000], stretch: Duration::from_mins(1) };
const QUICK: Plan = Plan { sizes: &[100, 1_000], stretch: Duration::from_secs(20) };

/// The cost of a stretch of time.
struct Cost {
    writes_per_minute: f64,
    reads_per_minute: f64,
    renewals_per_minute: f64,
    rounds_per_second: f64,
    lag: Durations,
    cores: f64,
    resident: u64,
}

fn main() -> ExitCode {
    bench::run("the bench of the steady state", measure)
}

async fn measure(env: Arc<TestEnv>, arguments: Arguments) -> Result<()> {
    let plan = if arguments.quick { QUICK } else { FULL };
    println!("{}; load {}", machine(), load());
    println!("probes every {} with a timeout of {}, as deep as EHLO", scale::INTERVAL, scale::TIMEOUT);
    let client = env.client();
    install_crds(&client).await?;
    let server = scale::start_server().await?;
    let mut operator = env.start_operator("bench", &[])?;
    operator.wait_ready(READY).await?;

    let mut costs = Vec::new();
    let mut there = 0;
    for size in plan.sizes.iter().copied() {
        let took = scale::create(&client, env.namespace(), there..size).await?;
        there = size;
        let settled = settle(&operator, size).await?;
        let routes = scale::check_routes(&client, env.namespace()).await?;
        println!(
            "{size} backends in {routes} routes: created in {:.1} s, settled {:.1} s later",
            took.as_secs_f64(),
            settled.as_secs_f64()
        );
        costs.push((size.to_string(), cost(&operator, plan.stretch).await?));
    }
    operator.terminate(Duration::from_secs(30)).await?;
    let begun = Instant::now();
    operator = env.start_operator("bench", &[])?;
    operator.wait_ready(READY).await?;
    let ready = begun.elapsed();
    settle(&operator, there).await?;
    let written = scrape(&operator).await?.writes(false);
    scale::check_routes(&client, env.namespace()).await?;
    println!("restarted: ready after {}, {written} writes until it settled", human(ready));
    costs.push((format!("{there}, restarted"), cost(&operator, plan.stretch).await?));
    operator.terminate(Duration::from_secs(30)).await?;

    let peer = match HaProxy::program().filter(|_| !arguments.no_peer) {
        Some(program) => {
            println!("HAProxy {}, TCP mode, option smtpchk", HaProxy::version(&program)?);
            by_haproxy(&env, &program, &plan).await?
        }
        None if arguments.no_peer => Vec::new(),
        None => {
            println!("the peer's columns are empty: {HOW_TO_INSTALL}");
            Vec::new()
        }
    };
    println!("load {}; {:?}", load(), server.counters());
    report(&costs, &peer);
    Ok(())
}

/// Waits until all backends are probed and nothing is written any more.
async fn settle(operator: &Operator, size: usize) -> Result<Duration> {
    let begun = Instant::now();
    let (mut written, mut since) = (-1.0, Instant::now());
    loop {
        // It may be too busy to answer in time.
        if let Ok(scrape) = scrape(operator).await {
            let (now, targets) = (scrape.writes(false), scrape.sum("mail_failover_probe_targets", |_| true));
            #[expect(clippy::cast_precision_loss, reason = "at most ten thousand")]
            let complete = targets >= size as f64;
            if now > written || !complete {
                (written, since) = (now, Instant::now());
            } else if since.elapsed() >= QUIET {
                return Ok(since.duration_since(begun));
            }
        }
        if begun.elapsed() > SETTLING {
            bail!("the operator still writes after {SETTLING:?}");
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn scrape(operator: &Operator) -> Result<Scrape> {
    Ok(Scrape::new(operator.metrics().await?))
}

/// The delay of rounds behind their schedule.
fn lag(scrape: &Scrape) -> Durations {
    scrape.durations("mail_failover_probe_start_lag_seconds", |_| true)
}

async fn cost(operator: &Operator, stretch: Duration) -> Result<Cost> {
    let before = (scrape(operator).await?, Usage::of(operator.id())?, Instant::now());
    sleep(stretch).await;
    // The clock is read first, so that the cost of the scrape is not counted.
    let (elapsed, usage) = (before.2.elapsed(), Usage::of(operator.id())?);
    let after = scrape(operator).await?;
    let per_second = |of: fn(&Scrape) -> f64| (of(&after) - of(&before.0)) / elapsed.as_secs_f64();
    Ok(Cost {
        writes_per_minute: per_second(|scrape| scrape.writes(false)) * 60.0,
        reads_per_minute: per_second(Scrape::reads) * 60.0,
        renewals_per_minute: per_second(|scrape| scrape.writes(true)) * 60.0,
        rounds_per_second: per_second(|scrape| scrape.sum("mail_failover_probe_rounds_total", |_| true)),
        lag: lag(&after).since(&lag(&before.0)),
        cores: usage.cores_since(&before.1),
        resident: usage.resident,
    })
}

/// Cores and memory at each size.
async fn by_haproxy(env: &TestEnv, program: &Path, plan: &Plan) -> Result<Vec<(f64, u64)>> {
    let checks = Checks {
        interval: scale::INTERVAL,
        fast_interval: None,
        timeout: scale::TIMEOUT,
        failures: 3,
        successes: 3,
        told: None,
    };
    let mut costs = Vec::new();
    for size in plan.sizes {
        let mut listens = Vec::new();
        for (port, members) in (2500..).zip(scale::routes(0..*size)) {
            let servers = members.map(scale::address).collect::<Result<_>>()?;
            listens.push(Listen { at: ([192, 0, 2, 200], port).into(), servers });
        }
        let haproxy = HaProxy::start(program, checks, &listens, env.folder())?;
        sleep(QUIET).await;
        let before = Usage::of(haproxy.id()).context("HAProxy has ended")?;
        sleep(plan.stretch).await;
        let after = Usage::of(haproxy.id()).context("HAProxy has ended")?;
        costs.push((after.cores_since(&before), after.resident));
    }
    Ok(costs)
}

fn report(costs: &[(String, Cost)], peer: &[(f64, u64)]) {
    let mut columns = vec![("BACKENDS", Align::Left)];
    columns.extend(
        [
            "WRITES/MIN",
            "READS/MIN",
            "RENEWALS/MIN",
            "ROUNDS/S",
            "LAG MEAN",
            "P99 <=",
            "CORES",
            "MB",
            "PEER CORES",
            "MB",
        ]
        .map(|name| (name, Align::Right)),
    );
    let mut table = Table::new(&columns);
    for (number, (size, cost)) in costs.iter().enumerate() {
        let mut cells = vec![size.clone()];
        cells.extend(
            [cost.writes_per_minute, cost.reads_per_minute, cost.renewals_per_minute].map(|n| format!("{n:.0}")),
        );
        cells.push(format!("{:.1}", cost.rounds_per_second));
        let shown = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), human);
        cells.extend([cost.lag.mean(), cost.lag.percentile(99)].map(shown));
        cells.extend([format!("{:.3}", cost.cores), megabytes(cost.resident).to_string()]);
        match peer.get(number) {
            Some((cores, resident)) => cells.extend([format!("{cores:.3}"), megabytes(*resident).to_string()]),
            None => cells.extend(["-", "-"].map(str::to_owned)),
        }
        table.row(cells);
    }
    println!("\nThe steady state; LAG: how much later than scheduled rounds start; PEER: HAProxy\n\n{table}");
    let worst = |of: fn(&Cost) -> f64| costs.iter().map(|(_, cost)| of(cost)).fold(0.0, f64::max);
    let (writes, cores) = (worst(|cost| cost.writes_per_minute), worst(|cost| cost.cores));
    let resident = costs.iter().map(|(_, cost)| megabytes(cost.resident)).max().unwrap_or(0);
    let met = |met: bool| if met { "met" } else { "NOT met" };
    println!("goal: no writes: {writes:.0} a minute, {}", met(writes < 0.5));
    println!("goal: {GOAL_CORES} cores: {cores:.3}, {}", met(cores <= GOAL_CORES));
    println!("goal: {GOAL_MEGABYTES} MB: {resident}, {}", met(resident <= GOAL_MEGABYTES));
}

/// Bytes in units of 1,000,000, rounded up.
fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}
