//! When a backend counts as failed, as slow, as recovered: as the policy says, and not sooner.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use mail_failover_api::{Health, MailRouteStatus, RouteState};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::{Action, Fault, Options, SmtpServer, Stage as At};
use mail_failover_e2e::scene::{backend_status, wait_active, wait_health};
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::views::{manifest, start_operator, wait_event};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::play::{Play, explains, held_by, held_until, later, policy, route, shares, stands};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a share of failures within the window is enough, however they are spread", window).listens(),
        trial("a slow backend is Degraded, left for a sound one within the holds, and used before none", latency)
            .listens(),
        trial("one failure of a class that is to count immediately is enough, and of no other", immediately).listens(),
        trial("a backend has recovered once it was stable for long enough, and one failure begins anew", stable)
            .listens(),
        trial("a backend that throttles keeps the mail, and the route says that it asks for less", throttled).listens(),
        trial("a backend that throttles gets half of its share until it does no more", throttled_share).listens(),
    ]
}

/// Probes ten times a second.
fn eager() -> Value {
    json!({ "probes": [{ "name": "smtp", "interval": "100ms", "timeout": "1s", "smtp": {} }] })
}

async fn window(stage: Arc<Stage>) -> Result<()> {
    const NOT_IN_A_ROW: i32 = 1000;
    let failure = |percent: i32| {
        json!({ "consecutive": NOT_IN_A_ROW,
            "window": { "duration": "1m", "minimumSamples": 20, "failurePercent": percent } })
    };
    let backends = [("primary", eager()), ("standby", json!({}))];
    let play = Play::set(stage.clone(), &backends, json!({ "failure": failure(30) }), json!({})).await?;
    // Another policy that takes more: the same backend is sound by it.
    let lenient = [
        policy("lenient", json!({ "failure": failure(95) })),
        route("lenient", "lenient", &["primary", "standby"], "lenient", json!({})),
    ];
    stage.apply(&lenient.concat()).await?;
    let _operator = play.begin("primary").await?;
    play.route_active("lenient", &[("primary", 100)]).await?;
    // Every other moment, at random.
    let primary = play.server("primary");
    let flaps = async {
        loop {
            let fault = if fastrand::bool() { Fault::reply(At::Banner, 421, "4.3.2 not now") } else { Fault::None };
            primary.set_fault(fault).await?;
            sleep(Duration::from_millis(100)).await;
        }
    };
    let left = play.active(&[("standby", 100)]);
    let status = tokio::select! {
        broken = flaps => return broken,
        status = left => status?,
    };
    stands(&status, RouteState::FailedOver, "Temporary")?;
    let told = wait_event(&stage, "orders", "FailedOver").await?;
    ensure!(told.contains("failed within 60s"), "{told}");
    play.leads_to(&["standby"]).await?;
    let lenient = play.route_active("lenient", &[("primary", 100)]).await?;
    ensure!(lenient.history.is_empty() && lenient.backends[0].health == Health::Healthy, "{lenient:?}");
    // What was before the recovery counts no more.
    primary.repair().await?;
    let status = play.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")
}

async fn latency(stage: Arc<Stage>) -> Result<()> {
    const STAY: Duration = Duration::from_secs(12);
    let slow = json!({
        "failure": { "latency": { "percentile": 50, "above": "600ms", "for": "2s" } },
        "hold": { "minimumStay": "12s" },
    });
    let patient = json!({ "probes": [{ "name": "smtp", "interval": "300ms", "timeout": "3s", "smtp": {} }] });
    let play = Play::set(stage.clone(), &[("primary", patient), ("standby", json!({}))], slow, json!({})).await?;
    let _operator = play.begin("primary").await?;
    let since = play.status().await?.since.context("since when")?;
    // The banner is some thirty bytes long.
    play.server("primary").set_fault(Fault::At(At::Banner, Action::Slow(Duration::from_millis(40)))).await?;
    wait_health(&stage, "primary", Health::Degraded, "Slow").await?;
    let held = play.until("to be slow", |status| status.backends[0].health == Health::Degraded).await?;
    if shares(&held) == [("primary", 100)] {
        ensure!(held_by(&held) == Some("MinimumStay"), "{held:?}");
        ensure!(held_until(&held) == Some(later(&since, STAY)), "{held:?}");
        explains(&held, "primary is Degraded (Slow)")?;
    }
    let status = play.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "Slow")?;
    ensure!(status.last_transition.as_ref().is_some_and(|last| last.decided_at >= later(&since, STAY)), "{status:?}");
    play.leads_to(&["standby"]).await?;
    let printed = stage.kubectl(&["get", "sendingbackend", "primary"]).await?;
    ensure!(printed.contains("Degraded") && printed.contains("Slow"), "{printed}");
    // Slow is better than dead.
    play.server("standby").crash().await?;
    let status = play.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "ConnectionRefused")?;
    play.server("primary").repair().await?;
    wait_health(&stage, "primary", Health::Healthy, "Ok").await.map(drop)
}

async fn immediately(stage: Arc<Stage>) -> Result<()> {
    const NAME: &str = "relay.provider.example";
    let authority = Authority::new()?;
    let good = || authority.issue(&[NAME], Validity::Valid);
    let primary =
        SmtpServer::start(Options::new("primary", SocketAddr::new(stage.ipv4(), 587)).start_tls(good()?)).await?;
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "authority" },
        "data": { "ca.crt": authority.pem() } });
    stage.apply(&map.to_string()).await?;
    let tls = json!({ "mode": "StartTLS", "serverName": NAME, "caRef": { "configMap": "authority" } });
    let spec = json!({ "smtp": { "host": primary.address().ip(), "port": 587, "tls": tls },
        "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "2s", "smtp": {} }] });
    let failure = json!({ "failure": { "consecutive": 1000, "immediately": ["CertificateInvalid"] } });
    let standby = [("standby", json!({}))];
    let backends = json!({ "backends": [{ "name": "primary" }, { "name": "standby" }] });
    let play = Play::set(stage.clone(), &standby, failure, backends).await?;
    stage.apply(&manifest("SendingBackend", "primary", &spec)).await?;
    let _operator = start_operator(&stage, &[]).await?;
    wait_active(&stage, "orders", "primary").await?;
    // Refused a few times: of that class a thousand are needed.
    primary.set_fault(Fault::reply(At::Banner, 554, "5.3.2 no service")).await?;
    let connections = primary.counters().connections;
    eventually(Duration::from_mins(1), "a few failures", async || {
        Ok((primary.counters().connections >= connections + 5).then_some(()))
    })
    .await?;
    let status = play.active(&[("primary", 100)]).await?;
    ensure!(status.backends[0].health == Health::Healthy && status.history.is_empty(), "{status:?}");
    primary.set_certificate(&authority.issue(&[NAME], Validity::Expired)?)?;
    primary.repair().await?;
    let status = play.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "CertificateInvalid")?;
    primary.set_certificate(&good()?)?;
    play.active(&[("primary", 100)]).await.map(drop)
}

async fn stable(stage: Arc<Stage>) -> Result<()> {
    const STABLE: Duration = Duration::from_secs(4);
    let play = Play::of_two(stage.clone(), json!({ "recovery": { "consecutive": 2, "stableFor": "4s" } })).await?;
    let _operator = play.begin("primary").await?;
    play.server("primary").crash().await?;
    play.active(&[("standby", 100)]).await?;
    play.server("primary").repair().await?;
    sleep(STABLE / 2).await;
    let status = play.status().await?;
    ensure!(status.backends[0].health == Health::Unhealthy, "two successes are not enough: {status:?}");
    // One failure at least.
    play.server("primary").set_fault(Fault::At(At::Banner, Action::Reset)).await?;
    let connections = play.server("primary").counters().connections;
    eventually(Duration::from_mins(1), "a failure", async || {
        Ok((play.server("primary").counters().connections >= connections + 2).then_some(()))
    })
    .await?;
    play.server("primary").repair().await?;
    let repaired_at = MicroTime(jiff::Timestamp::now());
    let status = wait_health(&stage, "primary", Health::Healthy, "Ok").await?;
    // The first success may have been begun a moment before the repair was over.
    let earliest = later(&repaired_at, STABLE * 7 / 8);
    ensure!(status.since.as_ref().is_some_and(|since| *since >= earliest), "{earliest:?}: {status:?}");
    play.active(&[("primary", 100)]).await.map(drop)
}

async fn throttled(stage: Arc<Stage>) -> Result<()> {
    let play = Play::of_two(stage.clone(), json!({ "failure": { "consecutive": 2 } })).await?;
    let _operator = play.begin("primary").await?;
    let asks = [
        Fault::reply(At::Banner, 421, "4.7.0 too many connections from you"),
        Fault::reply(At::Ehlo, 454, "4.7.0 Throttling failure: Maximum sending rate exceeded"),
        Fault::reply(At::Ehlo, 451, "4.7.0 too many sessions, try again later"),
    ];
    for fault in asks {
        play.server("primary").set_fault(fault.clone()).await?;
        let asks_for_less = |status: &MailRouteStatus| {
            status.explanation.iter().any(|reason| reason.starts_with("primary") && reason.ends_with("asks for less"))
        };
        play.until("to say that it asks for less", asks_for_less).await.with_context(|| fault.to_string())?;
        let connections = play.server("primary").counters().connections;
        eventually(Duration::from_mins(1), "more answers", async || {
            Ok((play.server("primary").counters().connections >= connections + 6).then_some(()))
        })
        .await?;
        let status = play.active(&[("primary", 100)]).await?;
        ensure!(status.history.is_empty() && status.state == Some(RouteState::Preferred), "{fault}: {status:?}");
        ensure!(status.backends[0].health == Health::Healthy, "{fault}: {status:?}");
        ensure!(backend_status(&stage, "primary").await?.health == Some(Health::Healthy), "{fault}");
        play.server("primary").repair().await?;
        play.until("to say so no more", |status| !asks_for_less(status)).await?;
    }
    Ok(())
}

async fn throttled_share(stage: Arc<Stage>) -> Result<()> {
    let backends = [("a", json!({})), ("b", json!({}))];
    let play = Play::set(stage.clone(), &backends, json!({}), json!({ "strategy": "ActiveActive" })).await?;
    let _operator = start_operator(&stage, &[]).await?;
    play.active(&[("a", 50), ("b", 50)]).await?;
    play.server("a").set_fault(Fault::reply(At::Ehlo, 451, "4.7.0 too many sessions, try again later")).await?;
    let status = play.active(&[("a", 25), ("b", 75)]).await?;
    ensure!(status.history.is_empty() && status.state == Some(RouteState::Preferred), "{status:?}");
    play.leads_to(&["b"]).await?;
    play.server("a").repair().await?;
    play.active(&[("a", 50), ("b", 50)]).await?;
    play.leads_to(&["a", "b"]).await
}
