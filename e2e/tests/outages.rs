//! Trials of an API server that goes away during a failover, and comes back.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::environment::exhaustive;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{
    PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, backend, backend_status, events, leads_to,
    route_status, wait_active,
};
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
    let options = Options { operator: true, deadline: Duration::from_mins(5), ..Options::default() };
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
