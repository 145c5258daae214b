//! Trials of two replicas that see different things: a switch needs both, as long as both are
//! alive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use mail_failover_api::Health;
use mail_failover_e2e::assertions::{api, manifest, metric_sum, wait_gone};
use mail_failover_e2e::eventually::{eventually, eventually_is};
use mail_failover_e2e::fixture::{
    PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, backend, events, policy, route, route_status,
    wait_active, wait_health,
};
use mail_failover_e2e::mail::dns::DnsServer;
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::time::sleep;

use super::{holder, wait_holder};

const NAME: &str = "relay.provider.example";
/// A time longer than any failover of these trials, and than a Lease.
const A_WHILE: Duration = Duration::from_secs(6);

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a replica that ends takes back what it told, and what a killed one told is swept", leases).listens(),
        trial("a leader that reaches no backend gives its lease to a replica that does, once", gives_away).listens(),
        trial("two replicas agree on a failure in about the time that one needs to see it", cost).listens(),
    ];
    for leads in [Which::Blind, Which::Seeing] {
        let who = if leads == Which::Blind { "sees it fail" } else { "sees it answer" };
        trials.push(
            trial(
                format!(
                    "of two replicas one sees a backend fail: it is left when both do, if the one leads that {who}"
                ),
                async move |env| quorum(env, leads).await,
            )
            .listens(),
        );
        trials.push(
            trial(
                format!("when one of two replicas is killed the other decides alone, if the one led that {who}"),
                async move |env| alone(env, leads).await,
            )
            .listens(),
        );
    }
    trials
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// The replica whose name server no longer knows the primary.
    Blind,
    Seeing,
}

/// Two replicas with name servers of their own; the primary is known by its name.
struct Views {
    env: Arc<TestEnv>,
    names: [DnsServer; 2],
    /// The replicas, the blind one first.
    replicas: [Operator; 2],
    _servers: [SmtpServer; 2],
}

impl Views {
    /// Creates a fixture whose mail leaves by the primary, and whose replicas count on each other.
    async fn set(env: Arc<TestEnv>, leads: Which) -> Result<Self> {
        let timings = PolicyTimings::default();
        let primary = SmtpServer::start(Options::new("primary", SocketAddr::new(env.ipv4(), 25))).await?;
        let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
        let manifests = [
            policy(&timings),
            by_name("primary", NAME, &timings),
            backend("standby", standby.address(), &timings),
            route("orders", &["primary", "standby"], "mail"),
        ];
        env.apply(&manifests.concat()).await?;
        let names = [
            DnsServer::start(SocketAddr::new(env.ipv4(), 53)).await?,
            DnsServer::start(SocketAddr::new(env.ipv4(), 53)).await?,
        ];
        for server in &names {
            server.set(NAME, vec![primary.address().ip()])?;
        }
        let replicas = match leads {
            Which::Blind => {
                let blind = start(&env, "blind", &names[0]).await?;
                wait_holder(&env, "blind").await?;
                [blind, start(&env, "seeing", &names[1]).await?]
            }
            Which::Seeing => {
                let seeing = start(&env, "seeing", &names[1]).await?;
                wait_holder(&env, "seeing").await?;
                [start(&env, "blind", &names[0]).await?, seeing]
            }
        };
        wait_active(&env, "orders", "primary").await?;
        for replica in &replicas {
            wait_heard(replica, 1.0).await?;
        }
        Ok(Self { env, names, replicas, _servers: [primary, standby] })
    }

    /// Makes the blind replica see the primary fail, and waits until it has published that.
    async fn blind(&self) -> Result<()> {
        self.names[0].set_nxdomain(NAME)?;
        let replica = &self.replicas[0];
        eventually_is(
            WAIT_TIMEOUT,
            "the blind replica to report",
            async || Ok(metric_sum(&replica.metrics().await?, "mail_failover_observer_report_verdicts", str::is_empty)),
            |count| *count > 0.5,
        )
        .await?;
        Ok(())
    }

    /// Checks that nothing happens to the route for a while.
    async fn check_stays(&self) -> Result<()> {
        // There is no condition to wait for: the trial shows that nothing happens.
        sleep(A_WHILE).await;
        let status = route_status(&self.env, "orders").await?;
        ensure!(status.active.first().is_some_and(|active| active.backend == "primary"), "{status:?}");
        ensure!(status.history.is_empty(), "{:?}", status.history);
        Ok(())
    }

    async fn check_left(&self) -> Result<()> {
        let status = wait_active(&self.env, "orders", "standby").await?;
        ensure!(status.history.len() == 1, "{:?}", status.history);
        ensure!(status.history[0].reason == "Unresolvable", "{:?}", status.history);
        ensure!(events(&self.env, "orders").await? == ["FailedOver"]);
        Ok(())
    }
}

/// A backend that is known by its name.
fn by_name(backend: &str, host: &str, timings: &PolicyTimings) -> String {
    let probe = json!({ "name": "smtp", "interval": timings.interval, "timeout": timings.timeout, "smtp": {} });
    manifest("SendingBackend", backend, &json!({ "smtp": { "host": host, "port": 25 }, "probes": [probe] }))
}

async fn gives_away(env: Arc<TestEnv>) -> Result<()> {
    const STANDBY: &str = "standby.provider.example";
    let timings = PolicyTimings::default();
    let primary = SmtpServer::start(Options::new("primary", SocketAddr::new(env.ipv4(), 25))).await?;
    let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
    let manifests = [
        policy(&timings),
        by_name("primary", NAME, &timings),
        by_name("standby", STANDBY, &timings),
        route("orders", &["primary", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    let names = [
        DnsServer::start(SocketAddr::new(env.ipv4(), 53)).await?,
        DnsServer::start(SocketAddr::new(env.ipv4(), 53)).await?,
    ];
    for server in &names {
        server.set(NAME, vec![primary.address().ip()])?;
        server.set(STANDBY, vec![standby.address().ip()])?;
    }
    let cut_off = start(&env, "cut-off", &names[0]).await?;
    wait_holder(&env, "cut-off").await?;
    let seeing = start(&env, "seeing", &names[1]).await?;
    wait_active(&env, "orders", "primary").await?;
    for replica in [&cut_off, &seeing] {
        wait_heard(replica, 1.0).await?;
    }

    // Where nobody listens.
    let nowhere = env.ipv4();
    for name in [NAME, STANDBY] {
        names[0].set(name, vec![nowhere])?;
    }
    wait_holder(&env, "seeing").await?;
    primary.crash().await?;
    let status = wait_active(&env, "orders", "standby").await?;
    ensure!(status.history.len() == 1, "{:?}", status.history);
    // There is no condition to wait for: the trial shows that the lease stays for longer than its duration.
    sleep(A_WHILE).await;
    ensure!(holder(&env).await?.as_deref() == Some("seeing"));
    let gifts = |labels: &str| labels.contains("\"give\"");
    ensure!((metric_sum(&cut_off.metrics().await?, "mail_failover_lease_calls_total", gifts) - 1.0).abs() < 0.1);
    ensure!(metric_sum(&seeing.metrics().await?, "mail_failover_lease_calls_total", gifts) < 0.1);
    Ok(())
}

/// Starts a replica with a name server of its own.
async fn start(env: &TestEnv, identity: &str, names: &DnsServer) -> Result<Operator> {
    let asked = names.address().to_string();
    let arguments = [&QUICK_LEASE[..], &["--dns-server", &asked]].concat();
    let operator = env.start_own_operator(identity, &arguments).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    Ok(operator)
}

/// Waits until a replica counts on this many others.
async fn wait_heard(operator: &Operator, others: f64) -> Result<()> {
    eventually(WAIT_TIMEOUT, "the other replicas to be heard", async || {
        let metrics = operator.metrics().await?;
        let heard = metric_sum(&metrics, "mail_failover_observers", |labels| labels.contains("\"heard\""));
        ensure!((heard - others).abs() < 0.1, "{heard} are heard");
        Ok(Some(()))
    })
    .await
}

async fn quorum(env: Arc<TestEnv>, leads: Which) -> Result<()> {
    let views = Views::set(env, leads).await?;
    views.blind().await?;
    views.check_stays().await?;
    views.names[1].set_nxdomain(NAME)?;
    views.check_left().await
}

async fn alone(env: Arc<TestEnv>, leads: Which) -> Result<()> {
    let views = Views::set(env, leads).await?;
    views.blind().await?;
    views.check_stays().await?;
    views.replicas[1].kill();
    let killed = Instant::now();
    views.check_left().await?;
    let took = killed.elapsed();
    // The lease of five seconds was renewed 1.7 s before at the earliest.
    ensure!(took > Duration::from_millis(1500), "the dead replica still has its say for a while, but it took {took:?}");
    ensure!(took < Duration::from_secs(15), "it took {took:?}");
    eprintln!("the other replica decides alone {took:?} after one was killed ({leads:?} led; a lease of 5 s)");
    Ok(())
}

/// The names of the Leases in which replicas publish their observations.
async fn observer_leases(env: &TestEnv) -> Result<Vec<String>> {
    const OBSERVERS: &str = "mailfailover.io/observer=true,mailfailover.io/lease=mail-failover-operator";
    let leases = api::<Lease>(env).list(&ListParams::default().labels(OBSERVERS)).await?.items;
    Ok(leases.into_iter().filter_map(|lease| lease.metadata.name).collect())
}

fn observer_lease(identity: &str) -> String {
    format!("mail-failover-operator-observer-{identity}")
}

async fn leases(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let leader = fixture.start_operator("leader").await?;
    let asked = env.start_own_operator("asked", &QUICK_LEASE).await?;
    let killed = env.start_own_operator("killed", &QUICK_LEASE).await?;
    wait_heard(&leader, 2.0).await?;
    ensure!(
        observer_leases(&env).await? == [observer_lease("asked"), observer_lease("killed"), observer_lease("leader")],
        "{:?}",
        observer_leases(&env).await?
    );
    // A Lease of another installation, and one without a live owner: neither is touched.
    let [other, foreign] = [("another-observer-x", "another"), ("payroll", "mail-failover-operator")].map(
        |(name, lease)| {
            let labels = json!({ "mailfailover.io/observer": "true", "mailfailover.io/lease": lease });
            json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name, "labels": labels } })
        },
    );
    env.apply(&format!("{other}\n---\n{foreign}\n")).await?;

    let status = asked.terminate(Duration::from_secs(10)).await?;
    ensure!(status.success(), "it ended with {status}");
    ensure!(!observer_leases(&env).await?.contains(&observer_lease("asked")), "{:?}", observer_leases(&env).await?);
    killed.kill();
    wait_heard(&leader, 0.0).await?;
    ensure!(observer_leases(&env).await?.contains(&observer_lease("killed")), "it is kept for a while");
    // Ten leases of five seconds.
    wait_gone::<Lease>(&env, &observer_lease("killed")).await?;
    ensure!(
        observer_leases(&env).await? == [observer_lease("leader"), "payroll".to_owned()],
        "{:?}",
        observer_leases(&env).await?
    );
    ensure!(api::<Lease>(&env).get_opt("another-observer-x").await?.is_some());
    Ok(())
}

/// The median time from the first evidence to the decision over some crashes, in seconds. Each time
/// there is a new route: one that has switched often is held back.
async fn decided_after(fixture: &TwoBackendFixture, rounds: usize, name: &str) -> Result<f64> {
    let mut took = vec![];
    for round in 0..rounds {
        let name = format!("{name}-{round}");
        fixture.env.apply(&route(&name, &["primary", "standby"], &name)).await?;
        wait_active(&fixture.env, &name, "primary").await.with_context(|| name.clone())?;
        sleep(Duration::from_millis(fastrand::u64(0..400))).await;
        fixture.primary.crash().await?;
        let begun = Instant::now();
        let status = wait_active(&fixture.env, &name, "standby").await.with_context(|| name.clone())?;
        let since_crash = begun.elapsed();
        ensure!(since_crash < Duration::from_secs(15), "it took {since_crash:?}");
        let last = status.last_transition.context("a transition")?;
        let evidence = last.first_evidence_at.context("evidence")?;
        took.push(last.decided_at.0.duration_since(evidence.0).as_secs_f64());
        fixture.primary.repair().await?;
        wait_health(&fixture.env, "primary", Health::Healthy, "Ok").await?;
    }
    // Of a mean, one replica that a busy machine held up once would be the most.
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() / 2])
}

async fn cost(env: Arc<TestEnv>) -> Result<()> {
    const ROUNDS: usize = 6;
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let one = fixture.start_operator("one").await?;
    let alone = decided_after(&fixture, ROUNDS, "alone").await?;
    let two = env.start_own_operator("two", &QUICK_LEASE).await?;
    for replica in [&one, &two] {
        wait_heard(replica, 1.0).await?;
    }
    let together = decided_after(&fixture, ROUNDS, "together").await?;
    eprintln!(
        "from the first evidence to the decision: {alone:.3} s with one replica, {together:.3} s with two that must agree (a probe each 200 ms, 3 failures)"
    );
    ensure!(together < alone + 2.0, "{together} s is much more than {alone} s");
    Ok(())
}
