//! Trials of policies and suspensions.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mail_failover_api::{FailoverPolicy, Health, RouteState, SendingBackend};
use mail_failover_e2e::assertions::{change, manifest, notes, wait_event, wait_leads_to, wait_route};
use mail_failover_e2e::eventually::eventually_is;
use mail_failover_e2e::fixture::{
    PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT, condition, events, route_status, wait_active, wait_health,
};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a manual failback waits for a person, who sets Automatic", manual_failback).listens(),
        trial("with no healthy backend mail stays or goes to the preferred one, as the policy says", none_healthy)
            .listens(),
        trial("a suspended backend is left at once, and its death raises no Event", suspended).listens(),
    ]
}

async fn manual_failback(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    change::<FailoverPolicy>(&env, "fast", &json!({ "spec": { "failback": { "mode": "Manual" } } })).await?;
    let _operator = fixture.start_operator("a").await?;
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    fixture.primary.repair().await?;
    let held = wait_route(&env, "orders", "to say that the way back is open", |status| {
        status.waiting_for.as_ref().is_some_and(|hold| hold.reason == "ManualFailback" && hold.until.is_none())
    })
    .await?;
    ensure!(held.active[0].backend == "standby" && held.state == Some(RouteState::FailedOver), "{held:?}");
    ensure!(condition(&held, "Ready").0 == "True", "{held:?}");
    wait_leads_to(&env, "mail", &[fixture.standby.address().ip().to_string()]).await?;
    eventually_is(
        WAIT_TIMEOUT,
        "an Event that asks a person",
        async || events(&env, "orders").await,
        |events| *events == ["FailedOver", "ApprovalWanted"],
    )
    .await?;
    // A failing active backend is left in either mode.
    change::<FailoverPolicy>(&env, "fast", &json!({ "spec": { "failback": { "mode": "Automatic" } } })).await?;
    fixture.wait_active("primary").await?;
    // Events follow the outputs.
    eventually_is(
        WAIT_TIMEOUT,
        "an Event of each way",
        async || events(&env, "orders").await,
        |events| *events == ["FailedOver", "ApprovalWanted", "FailedBack"],
    )
    .await?;
    Ok(())
}

async fn none_healthy(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    // One failure domain. If two failed at once, the operator would suspect its own network, and nothing would move.
    for backend in ["primary", "standby"] {
        let domain = json!({ "spec": { "location": { "failureDomain": "site" } } });
        change::<SendingBackend>(&env, backend, &domain).await?;
    }
    let spec = json!({ "failure": { "consecutive": 3 }, "recovery": { "consecutive": 3 }, "whenNoneHealthy": "Preferred",
        "hold": { "cooldown": "0s", "minimumStay": "0s" }, "failback": { "after": "1s" } });
    let eager = json!({ "policyRef": { "name": "eager" }, "backends": [{ "name": "primary" }, { "name": "standby" }],
        "outputs": [{ "service": { "name": "eager", "ports": [{ "name": "smtp", "port": 25 }] } }] });
    env.apply(&[manifest("FailoverPolicy", "eager", &spec), manifest("MailRoute", "eager", &eager)].concat()).await?;
    let _operator = fixture.start_operator("a").await?;
    wait_active(&env, "eager", "primary").await?;
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    wait_active(&env, "eager", "standby").await?;
    fixture.standby.crash().await?;
    for (route, backend, leads) in [("orders", "standby", &fixture.standby), ("eager", "primary", &fixture.primary)] {
        let status = wait_route(&env, route, "to have no healthy backend", |status| {
            status.state == Some(RouteState::NoneHealthy) && status.active[0].backend == backend
        })
        .await?;
        ensure!(condition(&status, "Ready") == ("False".into(), "NoneHealthy".into()), "{status:?}");
        let service = if route == "orders" { "mail" } else { route };
        wait_leads_to(&env, service, &[leads.address().ip().to_string()]).await?;
        wait_event(&env, route, "NoneHealthy").await?;
    }
    ensure!(route_status(&env, "orders").await?.healthy_backends.as_deref() == Some("0/2"));
    // The first backend that recovers gets the mail.
    fixture.standby.repair().await?;
    for route in ["orders", "eager"] {
        wait_active(&env, route, "standby").await?;
        wait_event(&env, route, "Recovered").await?;
        ensure!(notes(&env, route, "NoneHealthy").await?.len() == 1);
    }
    Ok(())
}

async fn suspended(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    change::<SendingBackend>(&env, "primary", &json!({ "spec": { "suspended": true } })).await?;
    let status = fixture.wait_active("standby").await?;
    ensure!(status.last_transition.as_ref().is_some_and(|last| last.reason == "Suspended"), "{status:?}");
    ensure!(status.backends[0].reason == "Suspended", "{status:?}");
    fixture.primary.crash().await?;
    wait_health(&env, "primary", Health::Unhealthy, "ConnectionRefused").await?;
    // This Event follows the death of the suspended backend: an Event about that would exist by now.
    fixture.standby.set_fault(Fault::Refuse).await?;
    wait_event(&env, "standby", "BackendUnhealthy").await?;
    ensure!(events(&env, "primary").await?.is_empty(), "{:?}", events(&env, "primary").await?);
    // With no other backend in service the route does not move.
    let status = wait_route(&env, "orders", "to have no healthy backend", |status| {
        status.state == Some(RouteState::NoneHealthy)
    })
    .await?;
    ensure!(status.active[0].backend == "standby", "{status:?}");
    Ok(())
}
