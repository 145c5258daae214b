//! Trials of verdicts: a backend counts as failed, as slow, or as recovered when the policy says
//! so, and not sooner.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use mail_failover_api::{Health, MailRouteStatus, RouteState};
use mail_failover_e2e::assertions::{manifest, start_operator, wait_event};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{backend_status, wait_active, wait_health};
use mail_failover_e2e::mail::certificates::{Authority, Validity};
use mail_failover_e2e::mail::server::{Action, Fault, Options, SessionStage, SmtpServer};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::fixture::{DecisionFixture, explains, held_by, held_until, later, policy, route, shares, stands};

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

/// A probe that runs ten times a second.
fn eager() -> Value {
    json!({ "probes": [{ "name": "smtp", "interval": "100ms", "timeout": "1s", "smtp": {} }] })
}

/// Failures that count by their share in a window, and never by their number in a row.
fn failures_in_window(percent: i32) -> Value {
    json!({ "consecutive": 1000, "window": { "duration": "1m", "minimumSamples": 20, "failurePercent": percent } })
}

async fn window(env: Arc<TestEnv>) -> Result<()> {
    let backends = [("primary", eager()), ("standby", json!({}))];
    let fixture =
        DecisionFixture::create(env.clone(), &backends, json!({ "failure": failures_in_window(30) }), json!({}))
            .await?;
    // A more tolerant policy, by which the same backend is Healthy.
    let lenient = [
        policy("lenient", json!({ "failure": failures_in_window(95) })),
        route("lenient", "lenient", &["primary", "standby"], "lenient", json!({})),
    ];
    env.apply(&lenient.concat()).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.route_active("lenient", &[("primary", 100)]).await?;
    // The server flaps at random moments.
    let primary = fixture.server("primary");
    let flaps = async {
        loop {
            let fault =
                if fastrand::bool() { Fault::reply(SessionStage::Banner, 421, "4.3.2 not now") } else { Fault::None };
            primary.set_fault(fault).await?;
            sleep(Duration::from_millis(100)).await;
        }
    };
    let left = fixture.active(&[("standby", 100)]);
    let status = tokio::select! {
        broken = flaps => return broken,
        status = left => status?,
    };
    stands(&status, RouteState::FailedOver, "Temporary")?;
    let told = wait_event(&env, "orders", "FailedOver").await?;
    ensure!(told.contains("failed within 60s"), "{told}");
    fixture.leads_to(&["standby"]).await?;
    let lenient = fixture.route_active("lenient", &[("primary", 100)]).await?;
    ensure!(lenient.history.is_empty() && lenient.backends[0].health == Health::Healthy, "{lenient:?}");
    // Evidence from before the recovery no longer counts.
    primary.repair().await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "Recovered")
}

async fn latency(env: Arc<TestEnv>) -> Result<()> {
    const STAY: Duration = Duration::from_secs(12);
    let slow = json!({
        "failure": { "latency": { "percentile": 50, "above": "600ms", "for": "2s" } },
        "hold": { "minimumStay": "12s" },
    });
    let patient = json!({ "probes": [{ "name": "smtp", "interval": "300ms", "timeout": "3s", "smtp": {} }] });
    let fixture =
        DecisionFixture::create(env.clone(), &[("primary", patient), ("standby", json!({}))], slow, json!({})).await?;
    let _operator = fixture.begin("primary").await?;
    let since = fixture.status().await?.since.context("since when")?;
    // The banner is some thirty bytes long.
    fixture
        .server("primary")
        .set_fault(Fault::At(SessionStage::Banner, Action::Slow(Duration::from_millis(40))))
        .await?;
    wait_health(&env, "primary", Health::Degraded, "Slow").await?;
    let held = fixture.until("to be slow", |status| status.backends[0].health == Health::Degraded).await?;
    if shares(&held) == [("primary", 100)] {
        ensure!(held_by(&held) == Some("MinimumStay"), "{held:?}");
        ensure!(held_until(&held) == Some(later(&since, STAY)), "{held:?}");
        explains(&held, "primary is Degraded (Slow)")?;
    }
    let status = fixture.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "Slow")?;
    ensure!(status.last_transition.as_ref().is_some_and(|last| last.decided_at >= later(&since, STAY)), "{status:?}");
    fixture.leads_to(&["standby"]).await?;
    let printed = env.kubectl(&["get", "sendingbackend", "primary"]).await?;
    ensure!(printed.contains("Degraded") && printed.contains("Slow"), "{printed}");
    // A slow backend is preferred to a dead one.
    fixture.server("standby").crash().await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    stands(&status, RouteState::Preferred, "ConnectionRefused")?;
    fixture.server("primary").repair().await?;
    wait_health(&env, "primary", Health::Healthy, "Ok").await.map(drop)
}

async fn immediately(env: Arc<TestEnv>) -> Result<()> {
    const NAME: &str = "relay.provider.example";
    let authority = Authority::new()?;
    let good = authority.issue(&[NAME], Validity::Valid)?;
    let primary = SmtpServer::start(Options::new("primary", SocketAddr::new(env.ipv4(), 587)).start_tls(good)).await?;
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "authority" },
        "data": { "ca.crt": authority.pem() } });
    env.apply(&map.to_string()).await?;
    let tls = json!({ "mode": "StartTLS", "serverName": NAME, "caRef": { "configMap": "authority" } });
    let spec = json!({ "smtp": { "host": primary.address().ip(), "port": 587, "tls": tls },
        "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "2s", "smtp": {} }] });
    let failure = json!({ "failure": { "consecutive": 1000, "immediately": ["CertificateInvalid"] } });
    let standby = [("standby", json!({}))];
    let backends = json!({ "backends": [{ "name": "primary" }, { "name": "standby" }] });
    let fixture = DecisionFixture::create(env.clone(), &standby, failure, backends).await?;
    env.apply(&manifest("SendingBackend", "primary", &spec)).await?;
    let _operator = start_operator(&env, &[]).await?;
    wait_active(&env, "orders", "primary").await?;
    // A few refusals: that class needs a thousand.
    primary.set_fault(Fault::reply(SessionStage::Banner, 554, "5.3.2 no service")).await?;
    let connections = primary.counters().connections;
    eventually(Duration::from_mins(1), "a few failures", async || {
        Ok((primary.counters().connections >= connections + 5).then_some(()))
    })
    .await?;
    let status = fixture.active(&[("primary", 100)]).await?;
    ensure!(status.backends[0].health == Health::Healthy && status.history.is_empty(), "{status:?}");
    primary.set_certificate(&authority.issue(&[NAME], Validity::Expired)?)?;
    primary.repair().await?;
    let status = fixture.active(&[("standby", 100)]).await?;
    stands(&status, RouteState::FailedOver, "CertificateInvalid")?;
    primary.set_certificate(&authority.issue(&[NAME], Validity::Valid)?)?;
    fixture.active(&[("primary", 100)]).await.map(drop)
}

async fn stable(env: Arc<TestEnv>) -> Result<()> {
    const STABLE: Duration = Duration::from_secs(4);
    let fixture =
        DecisionFixture::of_two(env.clone(), json!({ "recovery": { "consecutive": 2, "stableFor": "4s" } })).await?;
    let _operator = fixture.begin("primary").await?;
    fixture.server("primary").crash().await?;
    fixture.active(&[("standby", 100)]).await?;
    fixture.server("primary").repair().await?;
    sleep(STABLE / 2).await;
    let status = fixture.status().await?;
    ensure!(status.backends[0].health == Health::Unhealthy, "two successes are not enough: {status:?}");
    // One failure at least.
    fixture.server("primary").set_fault(Fault::At(SessionStage::Banner, Action::Reset)).await?;
    let connections = fixture.server("primary").counters().connections;
    eventually(Duration::from_mins(1), "a failure", async || {
        Ok((fixture.server("primary").counters().connections >= connections + 2).then_some(()))
    })
    .await?;
    fixture.server("primary").repair().await?;
    let repaired_at = MicroTime(jiff::Timestamp::now());
    let status = wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    // The first success may have been begun a moment before the repair was over.
    let earliest = later(&repaired_at, STABLE * 7 / 8);
    ensure!(status.since.as_ref().is_some_and(|since| *since >= earliest), "{earliest:?}: {status:?}");
    fixture.active(&[("primary", 100)]).await.map(drop)
}

fn asks_for_less(status: &MailRouteStatus) -> bool {
    status.explanation.iter().any(|reason| reason.starts_with("primary") && reason.ends_with("asks for less"))
}

async fn throttled(env: Arc<TestEnv>) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({ "failure": { "consecutive": 2 } })).await?;
    let _operator = fixture.begin("primary").await?;
    let asks = [
        Fault::reply(SessionStage::Banner, 421, "4.7.0 too many connections from you"),
        Fault::reply(SessionStage::Ehlo, 454, "4.7.0 Throttling failure: Maximum sending rate exceeded"),
        Fault::reply(SessionStage::Ehlo, 451, "4.7.0 too many sessions, try again later"),
    ];
    for fault in asks {
        fixture.server("primary").set_fault(fault.clone()).await?;
        fixture.until("to say that it asks for less", asks_for_less).await.with_context(|| fault.to_string())?;
        let connections = fixture.server("primary").counters().connections;
        eventually(Duration::from_mins(1), "more answers", async || {
            Ok((fixture.server("primary").counters().connections >= connections + 6).then_some(()))
        })
        .await?;
        let status = fixture.active(&[("primary", 100)]).await?;
        ensure!(status.history.is_empty() && status.state == Some(RouteState::Preferred), "{fault}: {status:?}");
        ensure!(status.backends[0].health == Health::Healthy, "{fault}: {status:?}");
        ensure!(backend_status(&env, "primary").await?.health == Some(Health::Healthy), "{fault}");
        fixture.server("primary").repair().await?;
        fixture.until("to say so no more", |status| !asks_for_less(status)).await?;
    }
    Ok(())
}

async fn throttled_share(env: Arc<TestEnv>) -> Result<()> {
    let backends = [("a", json!({})), ("b", json!({}))];
    let fixture =
        DecisionFixture::create(env.clone(), &backends, json!({}), json!({ "strategy": "ActiveActive" })).await?;
    let _operator = start_operator(&env, &[]).await?;
    fixture.active(&[("a", 50), ("b", 50)]).await?;
    fixture
        .server("a")
        .set_fault(Fault::reply(SessionStage::Ehlo, 451, "4.7.0 too many sessions, try again later"))
        .await?;
    let status = fixture.active(&[("a", 25), ("b", 75)]).await?;
    ensure!(status.history.is_empty() && status.state == Some(RouteState::Preferred), "{status:?}");
    // Each has one address, so that no Service comes nearer to the shares.
    fixture.leads_to(&["a", "b"]).await?;
    fixture.server("a").repair().await?;
    fixture.active(&[("a", 50), ("b", 50)]).await?;
    fixture.leads_to(&["a", "b"]).await
}
