//! Trials of two replicas, one of which leads: frozen and thawed, asked to end, or on standby.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mail_failover_api::Health;
use mail_failover_e2e::apiserver_proxy::{ApiServerProxy, Write};
use mail_failover_e2e::assertions::{metric_sum, notes};
use mail_failover_e2e::eventually::{eventually, eventually_is};
use mail_failover_e2e::fixture::{PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, events, wait_health};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

use super::{holder, wait_holder};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a frozen leader that thaws after another took over writes no more, whenever it froze", frozen).listens(),
        trial("a leader that is asked to end hands over in about a second, amid a switch too", terminated).listens(),
        trial("a replica that does not lead probes and writes nothing but what it sees", standing_by).listens(),
    ]
}

async fn frozen(env: Arc<TestEnv>) -> Result<()> {
    const ROUNDS: usize = 8;
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    let proxies = [env.open_proxy().await?, env.open_proxy().await?];
    let names = ["a", "b"];
    let replicas = [
        env.start_operator_behind(&proxies[0], names[0], &QUICK_LEASE)?,
        env.start_operator_behind(&proxies[1], names[1], &QUICK_LEASE)?,
    ];
    for replica in &replicas {
        replica.wait_ready(WAIT_TIMEOUT).await?;
    }
    fixture.wait_active("primary").await?;
    for round in 0..ROUNDS {
        let leader = holder(&env).await?.context("no replica leads")?;
        let old = names.iter().position(|name| *name == leader).context("a stranger leads")?;
        let new = 1 - old;
        let expected = if round % 2 == 0 {
            fixture.primary.crash().await?;
            "standby"
        } else {
            fixture.primary.repair().await?;
            "primary"
        };
        // The decision falls half a second after the crash, about two seconds after the repair; with the writes around
        // it.
        let latest = if round % 2 == 0 { 1000 } else { 2500 };
        sleep(Duration::from_millis(fastrand::u64(latest / 3..latest))).await;
        let frozen_at = Instant::now();
        replicas[old].freeze()?;
        wait_holder(&env, names[new]).await?;
        // Thawed before, during or after the new leader's writes.
        sleep(Duration::from_millis(fastrand::u64(0..1000))).await;
        let thawed_at = Instant::now();
        replicas[old].thaw()?;
        let status = fixture.wait_active(expected).await.with_context(|| format!("round {round}"))?;
        let last = status.last_transition.context("a transition")?;
        ensure!(last.id == i64::try_from(round)? + 1, "round {round}: {last:?}");
        let health = if round % 2 == 0 { Health::Unhealthy } else { Health::Healthy };
        let reason = if round % 2 == 0 { "ConnectionRefused" } else { "Ok" };
        wait_health(&env, "primary", health, reason).await?;
        // Time for forbidden writes of the thawed replica.
        sleep(Duration::from_secs(1)).await;
        check_alone(&proxies[old], &proxies[new], frozen_at, thawed_at).with_context(|| format!("round {round}"))?;
    }
    let told = events(&env, "orders").await?;
    let expected: Vec<_> = ["FailedOver", "FailedBack"].into_iter().cycle().take(ROUNDS).collect();
    ensure!(told == expected, "{told:?}");
    for reason in ["BackendUnhealthy", "BackendRecovered"] {
        let notes = notes(&env, "primary", reason).await?;
        ensure!(notes.len() == ROUNDS / 2, "{notes:?}");
    }
    Ok(())
}

fn since(log: Vec<Write>, at: Instant) -> impl Iterator<Item = Write> {
    log.into_iter().filter(move |write| write.arrived > at)
}

/// Checks that the old leader has not written since the new one did, unless it has won the Lease
/// again in the meantime.
fn check_alone(old: &ApiServerProxy, new: &ApiServerProxy, frozen_at: Instant, thawed_at: Instant) -> Result<()> {
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

/// The usual times of a Lease. Without a handover a change of the leader would take fifteen
/// seconds.
const LONG_LEASE: [&str; 6] =
    ["--lease-duration", "15s", "--lease-renew-deadline", "10s", "--lease-retry-period", "500ms"];

async fn terminated(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    let first = env.start_own_operator("first", &LONG_LEASE).await?;
    wait_holder(&env, "first").await?;
    let second = env.start_own_operator("second", &LONG_LEASE).await?;
    second.wait_ready(WAIT_TIMEOUT).await?;
    fixture.wait_active("primary").await?;
    let begun = Instant::now();
    let status = first.terminate(Duration::from_secs(10)).await?;
    ensure!(status.success(), "it ended with {status}");
    wait_holder(&env, "second").await?;
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(4), "the handover took {took:?}");
    let third = env.start_own_operator("third", &LONG_LEASE).await?;
    third.wait_ready(WAIT_TIMEOUT).await?;
    // During a switch: the decision falls half a second after the crash.
    fixture.primary.crash().await?;
    sleep(Duration::from_millis(fastrand::u64(300..700))).await;
    let begun = Instant::now();
    second.terminate(Duration::from_secs(10)).await?;
    wait_holder(&env, "third").await?;
    ensure!(begun.elapsed() < Duration::from_secs(4), "the handover took {:?}", begun.elapsed());
    let status = fixture.wait_active("standby").await?;
    ensure!(status.history.len() == 1, "{:?}", status.history);
    ensure!(events(&env, "orders").await? == ["FailedOver"]);
    ensure!(third.ended().is_none());
    Ok(())
}

async fn probe_rounds(operator: &mail_failover_e2e::operator::Operator) -> Result<f64> {
    Ok(metric_sum(&operator.metrics().await?, "mail_failover_probe_rounds_total", |_| true))
}

async fn standing_by(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let leader = env.start_own_operator("leader", &LONG_LEASE).await?;
    wait_holder(&env, "leader").await?;
    let proxy = env.open_proxy().await?;
    let other = env.start_operator_behind(&proxy, "other", &LONG_LEASE)?;
    other.wait_ready(WAIT_TIMEOUT).await?;
    fixture.wait_active("primary").await?;
    let before = probe_rounds(&other).await?;
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    eventually_is(
        WAIT_TIMEOUT,
        "the other replica to probe",
        async || probe_rounds(&other).await,
        |now| *now > before + 20.0,
    )
    .await?;
    let metrics = other.metrics().await?;
    ensure!(metric_sum(&metrics, "mail_failover_leader", str::is_empty) < 0.1);
    let written: Vec<_> = proxy.log().iter().filter(|write| !write.is_of_observer()).map(Write::text).collect();
    ensure!(written.is_empty(), "it wrote: {written:#?}");
    // The replica has the evidence, so it continues where the leader was.
    fixture.primary.repair().await?;
    leader.kill();
    eventually(WAIT_TIMEOUT, "the other replica to lead", async || {
        Ok((holder(&env).await?.as_deref() == Some("other")).then_some(()))
    })
    .await?;
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    ensure!(events(&env, "orders").await? == ["FailedOver"]);
    ensure!(!proxy.writes().is_empty());
    Ok(())
}
