//! Two replicas, one of which leads: frozen and thawed, asked to end, or just standing by.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mail_failover_api::Health;
use mail_failover_e2e::eventually::{eventually, eventually_is};
use mail_failover_e2e::gateway::{Gateway, Write};
use mail_failover_e2e::scene::{PATIENCE, QUICK_LEASE, Scene, Tempo, events, wait_health};
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::views::{metric_sum, notes};
use tokio::time::sleep;

use super::{holder, wait_holder};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a frozen leader that thaws after another took over writes no more, whenever it froze", frozen).listens(),
        trial("a leader that is asked to end hands over in about a second, amid a switch too", terminated).listens(),
        trial("a replica that does not lead probes and writes nothing but what it sees", standing_by).listens(),
    ]
}

async fn frozen(stage: Arc<Stage>) -> Result<()> {
    const ROUNDS: usize = 8;
    let scene = Scene::set(stage.clone(), &Tempo::with_failback()).await?;
    let gateways = [stage.open_gateway().await?, stage.open_gateway().await?];
    let names = ["a", "b"];
    let replicas = [
        stage.start_operator_behind(&gateways[0], names[0], &QUICK_LEASE)?,
        stage.start_operator_behind(&gateways[1], names[1], &QUICK_LEASE)?,
    ];
    for replica in &replicas {
        replica.wait_ready(PATIENCE).await?;
    }
    scene.wait_active("primary").await?;
    for round in 0..ROUNDS {
        let leader = holder(&stage).await?.context("nobody leads")?;
        let old = names.iter().position(|name| *name == leader).context("a stranger leads")?;
        let new = 1 - old;
        let expected = if round % 2 == 0 {
            scene.primary.crash().await?;
            "standby"
        } else {
            scene.primary.repair().await?;
            "primary"
        };
        // The decision falls half a second after the crash, about two seconds after the repair; with the writes around it.
        let latest = if round % 2 == 0 { 1000 } else { 2500 };
        sleep(Duration::from_millis(fastrand::u64(latest / 3..latest))).await;
        let frozen_at = Instant::now();
        replicas[old].freeze()?;
        wait_holder(&stage, names[new]).await?;
        // Thawed before, amid or after what the new leader has to do.
        sleep(Duration::from_millis(fastrand::u64(0..1000))).await;
        let thawed_at = Instant::now();
        replicas[old].thaw()?;
        let status = scene.wait_active(expected).await.with_context(|| format!("round {round}"))?;
        let last = status.last_transition.context("a transition")?;
        ensure!(last.id == i64::try_from(round)? + 1, "round {round}: {last:?}");
        let health = if round % 2 == 0 { Health::Unhealthy } else { Health::Healthy };
        let reason = if round % 2 == 0 { "ConnectionRefused" } else { "Ok" };
        wait_health(&stage, "primary", health, reason).await?;
        // Time for the thawed one to do what it must not.
        sleep(Duration::from_secs(1)).await;
        check_alone(&gateways[old], &gateways[new], frozen_at, thawed_at).with_context(|| format!("round {round}"))?;
    }
    let told = events(&stage, "orders").await?;
    let expected: Vec<_> = ["FailedOver", "FailedBack"].into_iter().cycle().take(ROUNDS).collect();
    ensure!(told == expected, "{told:?}");
    for reason in ["BackendUnhealthy", "BackendRecovered"] {
        let notes = notes(&stage, "primary", reason).await?;
        ensure!(notes.len() == ROUNDS / 2, "{notes:?}");
    }
    Ok(())
}

/// Once the new leader has written, the old one has not: unless it has won the lease again in the meantime.
fn check_alone(old: &Gateway, new: &Gateway, frozen_at: Instant, thawed_at: Instant) -> Result<()> {
    let since = |log: Vec<Write>, at: Instant| log.into_iter().filter(move |write| write.arrived > at);
    let took_over = since(new.log(), frozen_at).find(|write| write.is_of_lease() && write.is_done());
    ensure!(took_over.is_some(), "the new leader never wrote the lease");
    let first = since(new.writes(), frozen_at).find(Write::is_done);
    let from = first.map_or(thawed_at, |first| first.arrived.max(thawed_at));
    let won_again = since(old.log(), thawed_at).find(|write| write.is_of_lease() && write.is_done());
    let until = won_again.map(|write| write.arrived);
    let late: Vec<_> = since(old.writes(), from)
        .filter(|write| write.is_done() && until.is_none_or(|until| write.arrived < until))
        .map(|write| write.text())
        .collect();
    ensure!(late.is_empty(), "the thawed replica wrote: {late:#?}");
    Ok(())
}

/// Customary times: without a handover it would take fifteen seconds.
const LONG_LEASE: [&str; 6] =
    ["--lease-duration", "15s", "--lease-renew-deadline", "10s", "--lease-retry-period", "500ms"];

async fn terminated(stage: Arc<Stage>) -> Result<()> {
    let scene = Scene::set(stage.clone(), &Tempo::with_failback()).await?;
    let first = stage.start_own_operator("first", &LONG_LEASE).await?;
    wait_holder(&stage, "first").await?;
    let second = stage.start_own_operator("second", &LONG_LEASE).await?;
    second.wait_ready(PATIENCE).await?;
    scene.wait_active("primary").await?;
    let begun = Instant::now();
    let status = first.terminate(Duration::from_secs(10)).await?;
    ensure!(status.success(), "it ended with {status}");
    wait_holder(&stage, "second").await?;
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(4), "the handover took {took:?}");
    let third = stage.start_own_operator("third", &LONG_LEASE).await?;
    third.wait_ready(PATIENCE).await?;
    // Amid a switch: half a second after the crash it is decided.
    scene.primary.crash().await?;
    sleep(Duration::from_millis(fastrand::u64(300..700))).await;
    let begun = Instant::now();
    second.terminate(Duration::from_secs(10)).await?;
    wait_holder(&stage, "third").await?;
    ensure!(begun.elapsed() < Duration::from_secs(4), "the handover took {:?}", begun.elapsed());
    let status = scene.wait_active("standby").await?;
    ensure!(status.history.len() == 1, "{:?}", status.history);
    ensure!(events(&stage, "orders").await? == ["FailedOver"]);
    ensure!(third.ended().is_none());
    Ok(())
}

async fn standing_by(stage: Arc<Stage>) -> Result<()> {
    let scene = Scene::set(stage.clone(), &Tempo::default()).await?;
    let leader = stage.start_own_operator("leader", &LONG_LEASE).await?;
    wait_holder(&stage, "leader").await?;
    let gateway = stage.open_gateway().await?;
    let other = stage.start_operator_behind(&gateway, "other", &LONG_LEASE)?;
    other.wait_ready(PATIENCE).await?;
    scene.wait_active("primary").await?;
    let rounds = async || -> Result<f64> {
        Ok(metric_sum(&other.metrics().await?, "mail_failover_probe_rounds_total", |_| true))
    };
    let before = rounds().await?;
    scene.primary.crash().await?;
    scene.wait_active("standby").await?;
    eventually_is(PATIENCE, "the other replica to probe", rounds, |now| *now > before + 20.0).await?;
    let metrics = other.metrics().await?;
    ensure!(metric_sum(&metrics, "mail_failover_leader", str::is_empty) < 0.1);
    let written: Vec<_> = gateway.log().iter().filter(|write| !write.is_of_observer()).map(Write::text).collect();
    ensure!(written.is_empty(), "it wrote: {written:#?}");
    // It has the evidence: dead leader or not, it goes on where that one was.
    scene.primary.repair().await?;
    leader.kill();
    eventually(PATIENCE, "the other replica to lead", async || {
        Ok((holder(&stage).await?.as_deref() == Some("other")).then_some(()))
    })
    .await?;
    wait_health(&stage, "primary", Health::Healthy, "Ok").await?;
    ensure!(events(&stage, "orders").await? == ["FailedOver"]);
    ensure!(!gateway.writes().is_empty());
    Ok(())
}
