//! What a policy and a suspension ask for is what happens.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mail_failover_api::{FailoverPolicy, Health, RouteState, SendingBackend};
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::scene::{Scene, Tempo, condition, events, route_status, wait_active, wait_health};
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::views::{change, manifest, notes, wait_event, wait_leads_to, wait_route};
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a manual failback waits for a person, who sets Automatic", manual_failback).listens(),
        trial("with no healthy backend mail stays or goes to the preferred one, as the policy says", none_healthy)
            .listens(),
        trial("a suspended backend is left at once, and its death raises no Event", suspended).listens(),
    ]
}

async fn manual_failback(stage: Arc<Stage>) -> Result<()> {
    let scene = Scene::set(stage.clone(), &Tempo::with_failback()).await?;
    change::<FailoverPolicy>(&stage, "fast", &json!({ "spec": { "failback": { "mode": "Manual" } } })).await?;
    let _operator = scene.start_operator("a").await?;
    scene.primary.crash().await?;
    scene.wait_active("standby").await?;
    scene.primary.repair().await?;
    let is_held = |status: &mail_failover_api::MailRouteStatus| {
        status.waiting_for.as_ref().is_some_and(|hold| hold.reason == "ManualFailback" && hold.until.is_none())
    };
    let held = wait_route(&stage, "orders", "to say that the way back is open", is_held).await?;
    ensure!(held.active[0].backend == "standby" && held.state == Some(RouteState::FailedOver), "{held:?}");
    ensure!(condition(&held, "Ready").0 == "True", "{held:?}");
    wait_leads_to(&stage, "mail", &[scene.standby.address().ip().to_string()]).await?;
    // A failing active backend is left in either mode.
    change::<FailoverPolicy>(&stage, "fast", &json!({ "spec": { "failback": { "mode": "Automatic" } } })).await?;
    scene.wait_active("primary").await?;
    ensure!(events(&stage, "orders").await? == ["FailedOver", "FailedBack"]);
    Ok(())
}

async fn none_healthy(stage: Arc<Stage>) -> Result<()> {
    let scene = Scene::set(stage.clone(), &Tempo::with_failback()).await?;
    // One failure domain: were there two that fail at once, it would rather be our own network, and nothing would move.
    for backend in ["primary", "standby"] {
        let domain = json!({ "spec": { "location": { "failureDomain": "site" } } });
        change::<SendingBackend>(&stage, backend, &domain).await?;
    }
    let spec = json!({ "failure": { "consecutive": 3 }, "recovery": { "consecutive": 3 }, "whenNoneHealthy": "Preferred",
        "hold": { "cooldown": "0s", "minimumStay": "0s" }, "failback": { "after": "1s" } });
    let eager = json!({ "policyRef": { "name": "eager" }, "backends": [{ "name": "primary" }, { "name": "standby" }],
        "outputs": [{ "service": { "name": "eager", "ports": [{ "name": "smtp", "port": 25 }] } }] });
    stage.apply(&[manifest("FailoverPolicy", "eager", &spec), manifest("MailRoute", "eager", &eager)].concat()).await?;
    let _operator = scene.start_operator("a").await?;
    wait_active(&stage, "eager", "primary").await?;
    scene.primary.crash().await?;
    scene.wait_active("standby").await?;
    wait_active(&stage, "eager", "standby").await?;
    scene.standby.crash().await?;
    for (route, backend, leads) in [("orders", "standby", &scene.standby), ("eager", "primary", &scene.primary)] {
        let status = wait_route(&stage, route, "to have no healthy backend", |status| {
            status.state == Some(RouteState::NoneHealthy) && status.active[0].backend == backend
        })
        .await?;
        ensure!(condition(&status, "Ready") == ("False".into(), "NoneHealthy".into()), "{status:?}");
        let service = if route == "orders" { "mail" } else { route };
        wait_leads_to(&stage, service, &[leads.address().ip().to_string()]).await?;
        wait_event(&stage, route, "NoneHealthy").await?;
    }
    ensure!(route_status(&stage, "orders").await?.healthy_backends.as_deref() == Some("0/2"));
    // Whoever recovers first has the mail.
    scene.standby.repair().await?;
    for route in ["orders", "eager"] {
        wait_active(&stage, route, "standby").await?;
        wait_event(&stage, route, "Recovered").await?;
        ensure!(notes(&stage, route, "NoneHealthy").await?.len() == 1);
    }
    Ok(())
}

async fn suspended(stage: Arc<Stage>) -> Result<()> {
    let scene = Scene::set(stage.clone(), &Tempo::default()).await?;
    let _operator = scene.start_operator("a").await?;
    change::<SendingBackend>(&stage, "primary", &json!({ "spec": { "suspended": true } })).await?;
    let status = scene.wait_active("standby").await?;
    ensure!(status.last_transition.as_ref().is_some_and(|last| last.reason == "Suspended"), "{status:?}");
    ensure!(status.backends[0].reason == "Suspended", "{status:?}");
    scene.primary.crash().await?;
    wait_health(&stage, "primary", Health::Unhealthy, "ConnectionRefused").await?;
    // Told after the suspended one died: had there been an Event about that, it would be there by now.
    scene.standby.set_fault(Fault::Refuse).await?;
    wait_event(&stage, "standby", "BackendUnhealthy").await?;
    ensure!(events(&stage, "primary").await?.is_empty(), "{:?}", events(&stage, "primary").await?);
    // With nobody else in service the route stays where it is.
    let status = wait_route(&stage, "orders", "to have no healthy backend", |status| {
        status.state == Some(RouteState::NoneHealthy)
    })
    .await?;
    ensure!(status.active[0].backend == "standby", "{status:?}");
    Ok(())
}
