//! Trials of an API server that goes away during a failover, and comes back, and of the store of the Events.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ListParams;
use mail_failover_api::MailRoute;
use mail_failover_e2e::environment::exhaustive;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{
    PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, backend, backend_status, events, leads_to, policy,
    route_status, wait_active,
};
use mail_failover_e2e::mail::server::{self, SmtpServer};
use mail_failover_e2e::suite::{self, Options, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::{sleep, sleep_until};

/// The duration of the API server's absence: longer than the Lease and than every timeout of the
/// operator's calls.
const OUTAGE: Duration = Duration::from_secs(30);
const OUTAGE_EXHAUSTIVELY: Duration = Duration::from_mins(1);
/// The time limit of the recovery after its return, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let options =
        Options { operator: true, events_store: true, deadline: Duration::from_mins(5), ..Options::default() };
    let trials = vec![
        trial("a failover that fell into an outage of the API server's happens once, when it is back", async |env| {
            outage(env, ApiServerOutage::Gone).await
        })
        .stops_api_server()
        .listens(),
        trial("a failover that fell into a time with a frozen API server happens once, when it thaws", async |env| {
            outage(env, ApiServerOutage::Frozen).await
        })
        .stops_api_server()
        .listens(),
        trial("120 routes leave a dead provider as fast while Events cannot be stored", events_cannot_be_stored)
            .stops_api_server()
            .listens(),
    ];
    suite::run("outages", options, trials)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ApiServerOutage {
    /// The API server is killed: connections are reset and refused.
    Gone,
    /// The API server is stopped: connections stay, and nothing is answered.
    Frozen,
}

async fn outage(env: Arc<TestEnv>, outage: ApiServerOutage) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    // Without a proxy, since the API server's own treatment of connections matters.
    let operator = env.start_operator("a", &QUICK_LEASE)?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    fixture.wait_active("primary").await?;
    let control = env.control()?;
    let end = tokio::time::Instant::now() + exhaustive(OUTAGE, OUTAGE_EXHAUSTIVELY);
    match outage {
        ApiServerOutage::Gone => control.stop_api_server(),
        ApiServerOutage::Frozen => control.pause_api_server()?,
    }
    // A write may be refused, or in progress when the primary dies.
    sleep(Duration::from_millis(fastrand::u64(0..3000))).await;
    fixture.primary.crash().await?;
    let probed = fixture.standby.counters().connections;
    sleep_until(end).await;
    ensure!(operator.ended().is_none(), "it has ended: {:?}", operator.ended());
    operator.get("/livez").await.context("alive without an API server")?;
    ensure!(fixture.standby.counters().connections > probed + 100, "probes go on without an API server");

    match outage {
        ApiServerOutage::Gone => control.start_api_server().await?,
        ApiServerOutage::Frozen => {
            control.resume_api_server()?;
            control.start_api_server().await?;
        }
    }
    let back = Instant::now();
    // A new object shows that the operator's own watches are back.
    eventually(RECOVERY, "the API server to take a new object", async || {
        env.apply(&backend("fresh", fixture.standby.address(), &PolicyTimings::default())).await.map(Some)
    })
    .await?;
    let applied = Instant::now();
    let switched = async {
        let status = wait_active(&env, "orders", "standby").await?;
        anyhow::Ok((status, back.elapsed()))
    };
    let noticed = async {
        eventually(WAIT_TIMEOUT, "the new object to be noticed", async || {
            let status = backend_status(&env, "fresh").await?;
            Ok(status.conditions.iter().any(|condition| condition.type_ == "Ready").then_some(()))
        })
        .await?;
        anyhow::Ok(applied.elapsed())
    };
    let ((status, switched), noticed) = tokio::try_join!(switched, noticed)?;
    println!("switched {switched:.1?} and noticed a new object {noticed:.1?} after the API server was back");
    ensure!(switched < RECOVERY, "the switch took {switched:?}");
    ensure!(noticed < RECOVERY, "the watches took {noticed:?}");
    ensure!(status.history.len() == 1, "{:?}", status.history);
    ensure!(leads_to(&env, "mail").await? == [fixture.standby.address().ip().to_string()]);
    // The present leader continues: no Event is late or published twice.
    sleep(Duration::from_secs(3)).await;
    let told = events(&env, "orders").await?;
    ensure!(told == ["FailedOver"], "{told:?}");
    ensure!(route_status(&env, "orders").await?.pending_events.is_empty());
    let last = status.last_transition.context("a transition")?;
    let evidence = last.first_evidence_at.clone().context("evidence")?;
    ensure!(last.reason == "ConnectionRefused" && evidence.0 < last.decided_at.0, "{last:?}");
    Ok(())
}

const ROUTES: usize = 120;

/// A route with a `ConfigMap` of its name as output.
fn route_to(name: &str, backends: [&str; 2]) -> String {
    let [first, second] = backends;
    format!(
        "---\napiVersion: mailfailover.io/v1alpha1\nkind: MailRoute\nmetadata: {{name: {name}}}\nspec:\n  policyRef: {{name: fast}}\n  \
         backends: [{{name: {first}}}, {{name: {second}}}]\n  outputs: [{{configMap: {{name: {name}, format: Env}}}}]\n"
    )
}

/// Waits until so many routes lead their mail to a server. Returns the time that it took.
async fn lead_to(env: &TestEnv, count: usize, server: &SmtpServer) -> Result<Duration> {
    let began = Instant::now();
    let config_maps: Api<ConfigMap> = Api::namespaced(env.client(), env.namespace());
    let host = server.address().ip().to_string();
    eventually(WAIT_TIMEOUT, &format!("{count} routes to lead to {host}"), async || {
        let all = config_maps.list(&ListParams::default()).await?;
        let hosts = all.items.iter().filter_map(|object| object.data.as_ref()?.get("SMTP_HOST"));
        Ok((hosts.filter(|found| **found == host).count() == count).then_some(()))
    })
    .await?;
    Ok(began.elapsed())
}

async fn events_cannot_be_stored(env: Arc<TestEnv>) -> Result<()> {
    let timings = PolicyTimings::with_failback();
    let mut servers = vec![];
    let mut manifests = policy(&timings);
    for name in ["primary", "primary2", "standby"] {
        let server = SmtpServer::start(server::Options::new(name, SocketAddr::new(env.ipv4(), 25))).await?;
        manifests += &backend(name, server.address(), &timings);
        servers.push(server);
    }
    for number in 0..ROUTES {
        manifests += &route_to(&format!("r{number:03}"), ["primary", "standby"]);
    }
    // The last by name.
    manifests += &route_to("zz", ["primary2", "standby"]);
    env.apply(&manifests).await?;
    let operator = env.start_operator("a", &QUICK_LEASE)?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    lead_to(&env, ROUTES, &servers[0]).await?;
    lead_to(&env, 1, &servers[1]).await?;

    // The shortest times count: what else the machine does makes a round longer and never shorter.
    let mut shortest = depart(&env, &servers, 0).await?;
    for round in 1..DEPARTURES {
        if shortest.check().is_ok() {
            break;
        }
        let again = depart(&env, &servers, round).await?;
        shortest = Departures {
            without: shortest.without.min(again.without),
            with: shortest.with.min(again.with),
            last: shortest.last.min(again.last),
        };
    }
    shortest.check()
}

/// Most rounds of departures that are measured.
const DEPARTURES: usize = 3;

/// Times until routes have left a dead provider.
struct Departures {
    without: Duration,
    /// While Events cannot be stored.
    with: Duration,
    /// Of one more route, after those that wait for their Events.
    last: Duration,
}

impl Departures {
    fn check(&self) -> Result<()> {
        let Self { without, with, last } = *self;
        // A second for the differences between two runs on a busy machine.
        let bound = without.mul_f64(1.5) + Duration::from_secs(1);
        ensure!(with <= bound, "{with:.1?} while Events cannot be stored, {without:.1?} otherwise");
        ensure!(last <= bound, "one more route, after those that wait for their Events: {last:.1?}");
        Ok(())
    }
}

/// Lets all routes leave their dead provider and come back, then leave while Events cannot be stored, and come back.
async fn depart(env: &TestEnv, servers: &[SmtpServer], round: usize) -> Result<Departures> {
    let [primary, primary2, standby] = servers else { anyhow::bail!("three servers were started") };
    primary.crash().await?;
    let without = lead_to(env, ROUTES, standby).await?;
    primary.repair().await?;
    lead_to(env, ROUTES, primary).await?;

    let control = env.control()?;
    control.pause_events_store()?;
    primary.crash().await?;
    let with = lead_to(env, ROUTES, standby).await?;
    primary2.crash().await?;
    let last = lead_to(env, ROUTES + 1, standby).await?;
    println!(
        "120 routes have left after {without:.1?}, with hanging Events after {with:.1?}; then one more after {last:.1?}"
    );
    control.resume_events_store()?;
    eventually(WAIT_TIMEOUT, "every Event to be published", async || {
        let routes: Api<MailRoute> = Api::namespaced(env.client(), env.namespace());
        let all = routes.list(&ListParams::default()).await?;
        let mut pending = all
            .items
            .iter()
            .filter(|route| route.status.as_ref().is_none_or(|status| !status.pending_events.is_empty()));
        let is_none = pending.next().is_none();
        Ok(is_none.then_some(()))
    })
    .await?;
    let told = events(env, "zz").await?;
    let expected: Vec<_> = ["FailedOver", "FailedBack"].into_iter().cycle().take(2 * round + 1).collect();
    ensure!(told == expected, "{told:?}");
    primary.repair().await?;
    primary2.repair().await?;
    lead_to(env, ROUTES, primary).await?;
    lead_to(env, 1, primary2).await?;
    Ok(Departures { without, with, last })
}
