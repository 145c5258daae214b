//! Fifty failovers, as seen by a client of the route's Service, and by the recipients whose mail
//! goes through Postfix and the agent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use mail_failover_api::FailoverPolicy;
use mail_failover_core::engine::REPORT_HOLDS;
use mail_failover_e2e::assertions::change;
use mail_failover_e2e::bench::{load, machine};
use mail_failover_e2e::haproxy::{Checks, HOW_TO_INSTALL, HaProxy, Listen};
use mail_failover_e2e::in_cluster::installation::ensure_installed;
use mail_failover_e2e::in_cluster::shop::{Outage, Shop, WAIT_TIMEOUT};
use mail_failover_e2e::mail::sender::{Sender, SenderOptions, fixed};
use mail_failover_e2e::mail::statistics::{Align, Summary, Table, human};
use mail_failover_e2e::node::images::PROFILE;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::rounds;

/// The probes and threshold of the quick start, and of the peer.
const CHECKS: Checks =
    Checks { interval: "200ms", fast_interval: None, timeout: "500ms", failures: 3, successes: 5, told: None };
/// The time between two messages.
const PACE: Duration = Duration::from_millis(20);
const OUTAGES: [(Outage, &str); 2] = [(Outage::Refuses, "refused"), (Outage::CutOff, "packets dropped")];

pub async fn through_kube_proxy(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let profile = std::env::var(PROFILE).context("no profile of the image, as `make bench-cluster` sets it")?;
    println!("{}; the image compiled with the profile {profile}; load {}", machine(), load());
    let shop = Shop::without_mta(env, "200ms", "500ms").await?;
    return_soon(&shop, "fast").await?;
    let peer = start_peer(&shop).await?;
    let service = shop.service().await?;
    let count = rounds(50, 5);
    let mut table = Table::new(&[
        ("BREAK", Align::Left),
        ("BY", Align::Left),
        ("FAILOVERS", Align::Right),
        ("P50", Align::Right),
        ("P99", Align::Right),
        ("LONGEST", Align::Right),
    ]);
    for (outage, name) in OUTAGES {
        // Both run at once, so they meet the same breaks.
        let ours = Sender::start(SenderOptions::new(PACE, fixed(vec![service])));
        let theirs = Sender::start(SenderOptions::new(PACE, fixed(vec![peer.1])));
        let (mut by_us, mut by_peer) = (Vec::new(), Vec::new());
        for _ in 0..count {
            // A random phase of the probes.
            sleep(Duration::from_millis(300) + Duration::from_millis(fastrand::u64(0..400))).await;
            let broken = Instant::now();
            shop.break_provider("a", outage).await?;
            let (mine, other) = tokio::join!(
                ours.wait_for_failover(broken, WAIT_TIMEOUT),
                theirs.wait_for_failover(broken, WAIT_TIMEOUT)
            );
            by_us.push(mine.context("the operator")?.took());
            by_peer.push(other.context("HAProxy")?.took());
            shop.wait_active("b").await?;
            shop.repair("a", outage).await?;
            shop.wait_active("a").await?;
            // The peer returns by its own checks.
            sleep(Duration::from_millis(1_500)).await;
        }
        let lost = ours.stop(WAIT_TIMEOUT).await.totals().lost;
        drop(theirs);
        ensure!(lost == 0, "{lost} messages are lost");
        for (by, times) in [("operator and kube-proxy", by_us), ("HAProxy", by_peer)] {
            let summary = Summary::of(times).context("a failover")?;
            table.row([
                name.to_owned(),
                by.to_owned(),
                summary.count.to_string(),
                human(summary.p50),
                human(summary.p99),
                human(summary.max),
            ]);
        }
    }
    println!(
        "\nA client of the route's Service, without a way out, from its first failed send to the next accepted one\n\n{table}"
    );
    println!("load {}", load());
    Ok(())
}

/// Shortens the way back, which is not measured, and whose soak grows eightfold with so many
/// failovers.
async fn return_soon(shop: &Shop, policy: &str) -> Result<()> {
    change::<FailoverPolicy>(&shop.env, policy, &json!({ "spec": { "failback": { "after": "200ms" } } }))
        .await
        .map(drop)
}

/// Starts HAProxy on the node in front of the providers' pods, and returns its address.
async fn start_peer(shop: &Shop) -> Result<(HaProxy, std::net::SocketAddr)> {
    let program = HaProxy::program().context(HOW_TO_INSTALL)?;
    let at = (shop.env.ipv4(), 2500).into();
    let servers = vec![(shop.address("a").await?, 2525).into(), (shop.address("b").await?, 2525).into()];
    let haproxy = HaProxy::start(&program, CHECKS, &[Listen { at, servers }], shop.env.folder())?;
    sleep(Duration::from_secs(2)).await;
    Ok((haproxy, at))
}

/// Messages of each application per second.
const PER_SECOND: u32 = 10;
/// The number of tenants that fail over side by side. There are several because a backend that real
/// mail has failed at is not Healthy for half a minute.
pub const TENANTS: usize = 3;

/// Measurements of one kind of break.
#[derive(Default)]
struct Seen {
    /// The times from each break to the first message by the standby.
    first: Vec<Duration>,
    /// The times from the application's acceptance of each message to the provider's.
    delivery: Vec<Duration>,
}

/// The tenants that are done, and their measurements by the index of [`OUTAGES`].
static SEEN: Mutex<(usize, [Seen; 2])> = Mutex::const_new((0, [Seen::NONE, Seen::NONE]));

impl Seen {
    const NONE: Self = Self { first: Vec::new(), delivery: Vec::new() };
}

pub async fn through_postfix(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let shop = Shop::open(env).await?;
    return_soon(&shop, "providers").await?;
    let count = rounds(50, 6).div_ceil(TENANTS);
    shop.start_application(PER_SECOND).await?;
    shop.wait_stored("a", 20).await?;
    for (index, (outage, name)) in OUTAGES.into_iter().enumerate() {
        let seen = break_again_and_again(&shop, outage, count).await.context(name)?;
        let all = &mut SEEN.lock().await.1[index];
        all.first.extend(seen.first);
        all.delivery.extend(seen.delivery);
    }
    let mut all = SEEN.lock().await;
    all.0 += 1;
    if all.0 == TENANTS { tell(&all.1) } else { Ok(()) }
}

async fn break_again_and_again(shop: &Shop, outage: Outage, count: usize) -> Result<Seen> {
    let begun = now();
    let mut seen = Seen::default();
    for round in 0..count {
        sleep(Duration::from_millis(300) + Duration::from_millis(fastrand::u64(0..400))).await;
        let broken = now();
        shop.break_provider("a", outage).await?;
        shop.wait_active("b").await?;
        shop.wait_stored("b", 5).await?;
        let by_standby = shop.record("b")?.into_iter().find(|entry| entry.at > broken).context("a message by b")?;
        seen.first.push(by_standby.at.saturating_sub(broken));
        shop.repair("a", outage).await?;
        // Constant requests would load the machine that is measured.
        sleep(REPORT_HOLDS).await;
        shop.wait_active("a").await?;
        shop.wait_stored("a", 5).await?;
        eprintln!("{outage:?}: {} of {count}", round + 1);
    }
    let ended = now();
    shop.wait_drained().await?;
    let mut delivered: HashMap<String, Duration> = HashMap::new();
    for entry in [shop.record("a")?, shop.record("b")?].concat() {
        delivered.entry(entry.id).and_modify(|at| *at = entry.at.min(*at)).or_insert(entry.at);
    }
    for entry in shop.record("application")? {
        if entry.at >= begun && entry.at < ended {
            let at = delivered.get(&entry.id).with_context(|| format!("{} is lost", entry.id))?;
            seen.delivery.push(at.saturating_sub(entry.at));
        }
    }
    Ok(seen)
}

fn tell(all: &[Seen]) -> Result<()> {
    let mut table = Table::new(&[
        ("BREAK", Align::Left),
        ("FAILOVERS", Align::Right),
        ("FIRST BY STANDBY, P50", Align::Right),
        ("P99", Align::Right),
        ("LONGEST", Align::Right),
        ("DELIVERY, P50", Align::Right),
        ("P99", Align::Right),
        ("LONGEST", Align::Right),
        ("WITHIN 5 s", Align::Right),
    ]);
    for ((_, name), Seen { first, delivery }) in OUTAGES.into_iter().zip(all) {
        let soon = delivery.iter().filter(|time| **time <= Duration::from_secs(5)).count();
        let within = format!("{soon} of {}", delivery.len());
        let first = Summary::of(first.clone()).context("a failover")?;
        let times = Summary::of(delivery.clone()).context("a message")?;
        table.row([
            name.to_owned(),
            first.count.to_string(),
            human(first.p50),
            human(first.p99),
            human(first.max),
            human(times.p50),
            human(times.p99),
            human(times.max),
            within,
        ]);
    }
    println!(
        "\nThrough Postfix and the agent, {TENANTS} tenants side by side: from the break to the first message by the standby, and from the \
         application's acceptance to the provider's, of every message of those minutes\n\n{table}\nload {}",
        load()
    );
    Ok(())
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
