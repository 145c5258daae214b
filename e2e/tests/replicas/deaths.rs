//! Trials of deaths: an operator is killed before and after each write of a switch, and another one
//! finishes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use mail_failover_api::{FailoverPolicy, Health};
use mail_failover_e2e::apiserver_proxy::{Side, Write};
use mail_failover_e2e::assertions::{api, data, wait_leads_to, wait_object};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{
    PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, backend, backend_status, events, policy, route,
    wait_active, wait_health,
};
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::{Instant, sleep};

use super::check_managers;

/// A bound of the writes of a switch: the route's decision, four writes to its outputs, an Event
/// and the rest of its status; the backend's verdict, its Event and the rest of its status; and
/// some room.
const MOST_WRITES: usize = 12;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a switch takes no more writes than there are trials of an operator's death", undisturbed).listens(),
        trial("without an operator everything stays as it is, and the next one takes over", static_stability).listens(),
    ];
    for number in 1..=MOST_WRITES {
        for side in [Side::Before, Side::After] {
            let when = if side == Side::Before { "before" } else { "after" };
            let sentence = format!("an operator that dies {when} write {number} of a switch leaves it to the next one");
            trials.push(trial(sentence, async move |env| death(env, number, side).await).listens());
        }
    }
    trials
}

/// Creates a fixture whose standby is of the other address family: a switch creates a slice and
/// deletes one.
async fn set(env: Arc<TestEnv>) -> Result<TwoBackendFixture> {
    let primary = SmtpServer::start(Options::new("primary", SocketAddr::new(env.ipv4(), 25))).await?;
    let standby = SmtpServer::start(Options::new("standby", SocketAddr::new(env.ipv6(), 25))).await?;
    let timings = PolicyTimings::default();
    let manifests = [
        policy(&timings),
        backend("primary", primary.address(), &timings),
        backend("standby", standby.address(), &timings),
        route("orders", &["primary", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    Ok(TwoBackendFixture { env, primary, standby })
}

/// Waits until mail leaves by the primary and everything is written about it.
async fn wait_settled(fixture: &TwoBackendFixture) -> Result<()> {
    let env = &fixture.env;
    fixture.wait_active("primary").await?;
    for backend in ["primary", "standby"] {
        wait_health(env, backend, Health::Healthy, "Ok").await?;
    }
    wait_object(env, "fast", "to have its route", |policy: &FailoverPolicy| {
        policy.status.as_ref().is_some_and(|status| status.route_count == Some(1))
    })
    .await?;
    Ok(())
}

/// Checks that the switch happened once, with one Event.
async fn check_switched(fixture: &TwoBackendFixture) -> Result<()> {
    let env = &fixture.env;
    let status = fixture.wait_active("standby").await?;
    ensure!(status.history.len() == 1, "{:?}", status.history);
    ensure!(status.pending_events.is_empty(), "{:?}", status.pending_events);
    let standby = fixture.standby.address().ip().to_string();
    wait_leads_to(env, "mail", &[standby]).await?;
    let slices = api::<EndpointSlice>(env).list(&ListParams::default()).await?.items;
    ensure!(slices.len() == 1 && slices[0].address_type == "IPv6", "{slices:?}");
    ensure!(data(env, "mail").await?.get("SENDING_BACKEND").is_some_and(|name| name == "standby"));
    eventually(WAIT_TIMEOUT, "the primary's death to be told", async || {
        let status = backend_status(env, "primary").await?;
        let told = status.health == Some(Health::Unhealthy) && status.pending_events.is_empty();
        if told { Ok(Some(())) } else { bail!("{status:?}") }
    })
    .await?;
    let told = events(env, "orders").await?;
    ensure!(told == ["FailedOver"], "{told:?}");
    let told = events(env, "primary").await?;
    ensure!(told == ["BackendUnhealthy"], "{told:?}");
    Ok(())
}

async fn undisturbed(env: Arc<TestEnv>) -> Result<()> {
    let fixture = set(env.clone()).await?;
    let proxy = env.open_proxy().await?;
    let _operator = env.start_operator_behind(&proxy, "a", &QUICK_LEASE)?;
    wait_settled(&fixture).await?;
    let before = proxy.writes().len();
    fixture.primary.crash().await?;
    check_switched(&fixture).await?;
    let writes: Vec<_> = proxy.writes()[before..].iter().map(Write::text).collect();
    ensure!((7..=MOST_WRITES).contains(&writes.len()), "{writes:#?}");
    check_managers(&env).await
}

async fn death(env: Arc<TestEnv>, number: usize, side: Side) -> Result<()> {
    let fixture = set(env.clone()).await?;
    let proxy = env.open_proxy().await?;
    let first = env.start_operator_behind(&proxy, "first", &QUICK_LEASE)?;
    wait_settled(&fixture).await?;
    let before = proxy.writes().len();
    let mut crash_point = proxy.set_crash_point(number, side);
    fixture.primary.crash().await?;
    let over = async {
        check_switched(&fixture).await?;
        // The last write is the route's or the backend's; the other one may be in progress.
        let mut quiet_since = (proxy.writes().len(), Instant::now());
        while quiet_since.1.elapsed() < Duration::from_secs(2) {
            sleep(Duration::from_millis(50)).await;
            let writes = proxy.writes().len();
            if writes != quiet_since.0 {
                quiet_since = (writes, Instant::now());
            }
        }
        anyhow::Ok(())
    };
    let died_at = tokio::select! {
        reached = crash_point.wait_for(Option::is_some) => reached.context("the proxy is gone")?.clone(),
        // An error means that the operator is dead to the cluster, or that it lost the switch by itself.
        result = over => result.map(|()| None)?,
    };
    first.kill();
    let writes: Vec<_> = proxy.writes()[before..].iter().map(Write::text).collect();
    ensure!(died_at.is_some() || writes.len() < number, "the crash point was not reached: {writes:#?}");
    let second = env.start_own_operator("second", &QUICK_LEASE).await?;
    second.wait_ready(WAIT_TIMEOUT).await?;
    super::wait_holder(&env, "second").await?;
    let at = died_at.unwrap_or_else(|| "after the last write".to_owned());
    check_switched(&fixture).await.with_context(|| format!("died at {at}; writes: {writes:#?}"))?;
    check_managers(&env).await.with_context(|| format!("died at {at}"))
}

/// Names and versions of the slices.
async fn versions(env: &TestEnv) -> Result<Vec<(Option<String>, Option<String>)>> {
    let slices = api::<EndpointSlice>(env).list(&ListParams::default()).await?.items;
    Ok(slices.into_iter().map(|slice| (slice.metadata.name, slice.metadata.resource_version)).collect())
}

async fn static_stability(env: Arc<TestEnv>) -> Result<()> {
    let fixture = set(env.clone()).await?;
    let operator = env.start_own_operator("a", &QUICK_LEASE).await?;
    wait_settled(&fixture).await?;
    let before = versions(&env).await?;
    operator.kill();
    fixture.primary.crash().await?;
    // There is no condition to wait for: the trial shows that nothing happens, for longer than any lease.
    sleep(Duration::from_secs(7)).await;
    ensure!(versions(&env).await? == before);
    wait_leads_to(&env, "mail", &[fixture.primary.address().ip().to_string()]).await?;
    let _second = env.start_own_operator("b", &QUICK_LEASE).await?;
    wait_active(&env, "orders", "standby").await?;
    check_switched(&fixture).await
}
