//! Failover times of a sending client whose primary fails: by the operator, and by HAProxy in the
//! same place.
//!
//! The client measures from the start of its first attempt that is refused or not answered to the
//! first accepted one after it. Many routes, each with two servers of its own, break at random
//! moments, so that the phase of the probes is random.

mod case;
mod killed;
mod report;
mod round;
mod steady;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use mail_failover_e2e::bench::{self, Arguments, load, machine};
use mail_failover_e2e::control_plane::install_crds;
use mail_failover_e2e::fixture::{PolicyTimings, QUICK_LEASE, WAIT_TIMEOUT, policy, route, wait_active};
use mail_failover_e2e::haproxy::{Checks, DownLog, HOW_TO_INSTALL, HaProxy, Listen};
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::endpoints::ServiceEndpoints;
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_e2e::mail::statistics::human;
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::scrape::{Durations, Scrape, label};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::time::{interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use self::case::{Case, INTERVAL, THRESHOLD, TIMEOUT};
use self::report::Rounds;
use self::round::{BOUND, PACE, Pair, Round, SERVER_NAME, Setup, Tls, run_scenario};

/// The address of HAProxy.
const FRONTEND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));
/// The time in which HAProxy has made all its first checks.
const FIRST_CHECKS: Duration = Duration::from_secs(2);
/// The `ConfigMap` with the authority of the servers.
const CA: &str = "bench-ca";

/// The shortest time over which the phases of fast probes are random.
const SPREAD: Duration = Duration::from_secs(1);

/// The size of a measurement.
struct Plan {
    /// Pairs of servers for the faults that need no TLS, and for those that do.
    pairs: (usize, usize),
    /// Failovers per fault and pair.
    rounds: (usize, usize),
    /// Failovers per fault and pair for the peer, which never notices the faults of TLS.
    peer_rounds: (usize, usize),
}

const FULL: Plan = Plan { pairs: (6, 3), rounds: (17, 34), peer_rounds: (17, 3) };
const QUICK: Plan = Plan { pairs: (2, 1), rounds: (1, 2), peer_rounds: (1, 1) };

fn main() -> ExitCode {
    bench::run("the bench of failovers", measure)
}

async fn measure(env: Arc<TestEnv>, arguments: Arguments) -> Result<()> {
    let plan = if arguments.quick { QUICK } else { FULL };
    install_crds(&env.client()).await?;
    steady::measure(&env, arguments).await.context("at a steady rate")?;
    killed::measure(&env, arguments).await.context("with idle sessions")?;

    let pairs = start_pairs(&env, plan.pairs).await?;
    println!("{}; load {}", machine(), load());
    println!(
        "{} routes at a time, a message every {} ms on each; probes every {} with a timeout of {}, threshold {THRESHOLD}",
        pairs.len(),
        PACE.as_millis(),
        INTERVAL.0,
        TIMEOUT.0
    );

    let begun = Instant::now();
    let ours = by_operator(&env, &pairs, plan.rounds).await.context("by the operator")?;
    println!("measured by the operator in {:.0} s; load {}", begun.elapsed().as_secs_f64(), load());
    let begun = Instant::now();
    let peer = match HaProxy::program().filter(|_| !arguments.no_peer) {
        Some(program) => {
            println!("HAProxy {}, TCP mode, option smtpchk, a backup server", HaProxy::version(&program)?);
            let rounds = by_haproxy(&env, &program, &pairs, plan.peer_rounds).await.context("by HAProxy")?;
            println!("measured by HAProxy in {:.0} s; load {}", begun.elapsed().as_secs_f64(), load());
            Some(rounds)
        }
        None if arguments.no_peer => None,
        None => {
            println!("the peer's columns are empty: {HOW_TO_INSTALL}");
            None
        }
    };

    let (failovers, all_met) = report::failovers(&ours, peer.as_ref());
    println!("\nFailover time as the sending client sees it; PEER: HAProxy; RATIO: ours to the peer's\n\n{failovers}");
    println!(
        "Detection: first evidence to decision. Write: decision to last output. Messages sent, lost, received twice\n\n{}",
        report::details(&ours, peer.as_ref())
    );
    println!("never: not within {} s", BOUND.as_secs());
    println!("{}", if all_met { "Every goal is met." } else { "NOT every goal is met." });
    let lost = report::lost(&ours);
    ensure!(lost == 0, "{lost} messages are lost");
    Ok(())
}

/// Starts so many pairs without TLS, and with it.
async fn start_pairs(env: &TestEnv, (plain, with_tls): (usize, usize)) -> Result<Vec<Pair>> {
    let authority = Authority::new()?;
    let tls = Tls {
        good: authority.issue(&[SERVER_NAME], Validity::Valid)?,
        expired: authority.issue(&[SERVER_NAME], Validity::Expired)?,
        client: authority.client_config()?,
    };
    let config_map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": CA }, "data": { "ca.crt": authority.pem() },
    });
    env.apply(&config_map.to_string()).await?;
    let mut pairs = Vec::new();
    for number in 0..plain + with_tls {
        let tls = (number >= plain).then(|| tls.clone());
        let [mut primary, mut standby] =
            ["primary", "standby"].map(|name| Options::new(name, SocketAddr::new(env.ipv4(), 25)));
        if let Some(tls) = &tls {
            (primary, standby) = (primary.start_tls(tls.good.clone()), standby.start_tls(tls.good.clone()));
        }
        let (primary, standby) = (SmtpServer::start(primary).await?, SmtpServer::start(standby).await?);
        pairs.push(Pair { primary, standby, tls });
    }
    Ok(pairs)
}

async fn by_operator(env: &Arc<TestEnv>, pairs: &[Pair], rounds: (usize, usize)) -> Result<Rounds> {
    let timings = PolicyTimings {
        interval: INTERVAL.0,
        timeout: TIMEOUT.0,
        failures: THRESHOLD,
        lasting: None,
        successes: THRESHOLD,
        cooldown: "0s",
        minimum_stay: "0s",
        soak: "0s",
    };
    let (operator, ways) = start_operator(env, pairs, &timings, false).await?;
    let rounds = run_all(pairs, ways, Schedule::of_all(rounds)).await?;
    let scrape = Scrape::new(operator.metrics().await?);
    operator.terminate(WAIT_TIMEOUT).await?;
    let answers = patches(&scrape);
    let lag = scrape.durations("mail_failover_probe_start_lag_seconds", |_| true);
    for (what, times) in [("the API server's answers to its writes", answers), ("its probes' lateness", lag)] {
        let [p50, p99] =
            [50, 99].map(|percent| times.percentile(percent).map_or_else(|| "more than any bound".to_owned(), human));
        println!("{what}: half within {p50}, 99 of 100 within {p99}");
    }
    Ok(rounds)
}

/// The durations of the operator's patches.
fn patches(scrape: &Scrape) -> Durations {
    scrape.durations("mail_failover_api_request_duration_seconds", |labels| label(labels, "method") == Some("PATCH"))
}

/// Starts an operator with a route for each pair, and waits until all lead to their primaries.
async fn start_operator(
    env: &Arc<TestEnv>,
    pairs: &[Pair],
    timings: &PolicyTimings,
    idle_sessions: bool,
) -> Result<(Operator, Vec<Setup>)> {
    let mut manifests = policy(timings);
    for (number, pair) in pairs.iter().enumerate() {
        let (primary, standby) = (format!("primary-{number}"), format!("standby-{number}"));
        for (name, server) in [(&primary, &pair.primary), (&standby, &pair.standby)] {
            manifests.push_str(&backend(name, server.address(), pair.tls.is_some(), timings, idle_sessions));
        }
        let name = format!("route-{number}");
        manifests.push_str(&route(&name, &[&primary, &standby], &name));
    }
    env.apply(&manifests).await?;
    let operator = env.start_operator("bench", &QUICK_LEASE)?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    let mut ways = Vec::new();
    for (number, pair) in pairs.iter().enumerate() {
        let name = format!("route-{number}");
        let endpoints = ServiceEndpoints::follow(env.client(), env.namespace(), &name, "smtp");
        // The Service of an earlier measurement may lead to its primary still.
        endpoints.wait_for(WAIT_TIMEOUT, |now| *now == [pair.primary.address()]).await?;
        wait_active(env, &name, &format!("primary-{number}")).await?;
        ways.push(Setup::Operator { env: Arc::clone(env), route: name, endpoints });
    }
    Ok((operator, ways))
}

/// The manifest of a backend.
fn backend(name: &str, at: SocketAddr, tls: bool, timings: &PolicyTimings, idle_sessions: bool) -> String {
    let mut text = format!(
        "---\napiVersion: mailfailover.io/v1alpha1\nkind: SendingBackend\nmetadata: {{name: {name}}}\nspec:\n  probes: [{{name: smtp, interval: {}, timeout: {}, smtp: {{idleSession: {idle_sessions}}}}}]\n  smtp:\n    host: {}\n    port: {}\n",
        timings.interval,
        timings.timeout,
        at.ip(),
        at.port()
    );
    if tls {
        let _ = writeln!(text, "    tls: {{mode: StartTLS, serverName: {SERVER_NAME}, caRef: {{configMap: {CA}}}}}");
    }
    text
}

async fn by_haproxy(env: &TestEnv, program: &Path, pairs: &[Pair], rounds: (usize, usize)) -> Result<Rounds> {
    let checks = Checks {
        interval: INTERVAL.0,
        fast_interval: None,
        timeout: TIMEOUT.0,
        failures: THRESHOLD,
        successes: THRESHOLD,
        told: None,
    };
    let (_haproxy, mut ways) = start_haproxy(env, program, checks, pairs, None).await?;
    // One after the other: if the peer never fails over, clients keep trying, and their TLS
    // handshakes take most of a machine.
    let tls_from = pairs.iter().position(|pair| pair.tls.is_some()).unwrap_or(pairs.len());
    let of_tls = ways.split_off(tls_from);
    let mut played = run_all(&pairs[..tls_from], ways, Schedule::of_all(rounds)).await?;
    played.extend(run_all(&pairs[tls_from..], of_tls, Schedule::of_all(rounds)).await?);
    Ok(played)
}

/// Starts HAProxy in front of all pairs.
async fn start_haproxy(
    env: &TestEnv,
    program: &Path,
    checks: Checks,
    pairs: &[Pair],
    log: Option<&Arc<DownLog>>,
) -> Result<(HaProxy, Vec<Setup>)> {
    let (mut listens, mut ways) = (Vec::new(), Vec::new());
    for (number, (port, pair)) in (2500..).zip(pairs).enumerate() {
        let frontend = SocketAddr::new(FRONTEND, port);
        listens.push(Listen { at: frontend, servers: vec![pair.primary.address(), pair.standby.address()] });
        let noted = log.map(|log| (log.clone(), format!("route{number}/s0")));
        ways.push(Setup::Proxy { frontend, noted });
    }
    let haproxy = HaProxy::start(program, checks, &listens, env.folder())?;
    // HAProxy trusts its servers before it has checked them. Wait for the first checks.
    sleep(FIRST_CHECKS).await;
    Ok((haproxy, ways))
}

/// The faults that are played on each pair.
#[derive(Clone, Debug)]
struct Schedule {
    /// The fault of each round, without TLS and with it, in any order.
    cases: [Vec<Case>; 2],
    /// The time over which the phases of probes are random.
    spread: Duration,
}

impl Schedule {
    /// All faults, so many times each without TLS, and with it.
    fn of_all((plain, tls): (usize, usize)) -> Self {
        let [mut without, mut with] = [vec![], vec![]];
        for case in Case::ALL {
            let (cases, times) = if case.takes_tls() { (&mut with, tls) } else { (&mut without, plain) };
            cases.extend(std::iter::repeat_n(case, times));
        }
        Self { cases: [without, with], spread: SPREAD }
    }
}

/// Runs all rounds, on all pairs at the same time, each in an order of its own.
async fn run_all(pairs: &[Pair], ways: Vec<Setup>, schedule: Schedule) -> Result<Rounds> {
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    let mut total = 0;
    for (number, setup) in ways.into_iter().enumerate() {
        let done = Arc::clone(&done);
        let is_tls = pairs.get(number).context("a way has a pair")?.tls.is_some();
        let mut order = schedule.cases[usize::from(is_tls)].clone();
        fastrand::shuffle(&mut order);
        total += order.len();
        tasks.push(async move {
            let pair = pairs.get(number).context("a way has a pair")?;
            let mut played: Vec<(Case, Round)> = Vec::new();
            for case in order {
                let round = run_scenario(pair, &setup, case, schedule.spread).await;
                played.push((case, round.with_context(|| format!("route {number}, {}", case.name()))?));
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(played)
        });
    }
    let _progress = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut due = interval(Duration::from_secs(20));
        due.tick().await;
        loop {
            due.tick().await;
            println!("  {} of {total} failovers", done.load(Ordering::Relaxed));
        }
    }));
    let mut rounds: Rounds = BTreeMap::new();
    for (case, round) in try_join_all(tasks).await?.into_iter().flatten() {
        rounds.entry(case).or_default().push(round);
    }
    Ok(rounds)
}
