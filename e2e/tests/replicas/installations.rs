//! Trials of two installations of the operator over one namespace: each has a Lease of its own, so both lead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mail_failover_api::MailRouteStatus;
use mail_failover_e2e::apiserver_proxy::ApiServerProxy;
use mail_failover_e2e::assertions::{metric_sum, notes};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{
    PolicyTimings, QUICK_LEASE, TwoBackendFixture, WAIT_TIMEOUT, condition, route_status,
};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use tokio::time::sleep;

const CONFLICT: &str = "InstallationConflict";
/// The Lease of the second installation.
const SECOND: &str = "second-operator";
/// The time for which writes are counted.
const COUNTED: Duration = Duration::from_secs(30);
/// Longest time between two signs of life: two leases of five seconds, on a machine that may be busy.
const RENEWAL: Duration = Duration::from_secs(10);
/// Longest time until one that is gone is forgotten: six leases, and patience.
const FORGOTTEN: Duration = Duration::from_mins(1);

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "two installations over one namespace say so, move mail once, write no more than signs of life, and forget one that is gone",
            conflict,
        )
        .listens(),
        trial("an installation that has moved takes over without a word of conflict", moved).listens(),
    ]
}

/// Starts an operator that leads by a Lease of its own.
async fn start_second(env: &TestEnv, proxy: &ApiServerProxy) -> Result<Operator> {
    let arguments = [&["--lease-name", SECOND], &QUICK_LEASE[..]].concat();
    let operator = env.start_operator_behind(proxy, "second", &arguments)?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    Ok(operator)
}

async fn wait_status(
    env: &TestEnv,
    what: &str,
    within: Duration,
    is_so: impl Fn(&MailRouteStatus) -> bool,
) -> Result<()> {
    eventually(within, what, async || {
        let status = route_status(env, "orders").await?;
        if !is_so(&status) {
            bail!("{:?}, {:?}", status.installations, status.conditions);
        }
        Ok(Some(()))
    })
    .await
}

async fn conflict(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    let proxies = [env.open_proxy().await?, env.open_proxy().await?];
    let first = env.start_operator_behind(&proxies[0], "first", &QUICK_LEASE)?;
    first.wait_ready(WAIT_TIMEOUT).await?;
    fixture.wait_active("primary").await?;
    ensure!(route_status(&env, "orders").await?.installations.len() == 1);
    let second = start_second(&env, &proxies[1]).await?;
    let is_told = |status: &MailRouteStatus| {
        condition(status, CONFLICT) == ("True".to_owned(), "SeveralInstallations".to_owned())
    };
    wait_status(&env, "the conflict to be told", WAIT_TIMEOUT, is_told).await?;

    let status = route_status(&env, "orders").await?;
    let names: Vec<_> = status.installations.iter().map(|one| one.name.clone()).collect();
    let namespace = env.namespace();
    ensure!(names == [format!("{namespace}/mail-failover-operator"), format!("{namespace}/{SECOND}")], "{names:?}");
    let told = status.conditions.iter().find(|one| one.type_ == CONFLICT).context("a condition")?;
    for part in [names[0].as_str(), names[1].as_str(), "`namespaces`"] {
        ensure!(told.message.contains(part), "{}", told.message);
    }
    eventually(WAIT_TIMEOUT, "one Event", async || {
        let notes = notes(&env, "orders", CONFLICT).await?;
        ensure!(notes.len() == 1, "{notes:?}");
        Ok(Some(()))
    })
    .await?;
    for operator in [&first, &second] {
        eventually(WAIT_TIMEOUT, "the series of the condition", async || {
            let told = metric_sum(&operator.metrics().await?, "mail_failover_condition", |labels| {
                labels.contains(&format!("type=\"{CONFLICT}\"")) && labels.contains("status=\"True\"")
            });
            ensure!(told > 0.5, "{told}");
            Ok(Some(()))
        })
        .await?;
    }
    let logs = [first.log(), second.log()].map(std::fs::read_to_string);
    let logs = logs.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    ensure!(logs.contains("several installations of the operator lead a route"), "no line in a log");

    // Neither takes back what the other one writes.
    sleep(Duration::from_secs(2)).await;
    let since = Instant::now();
    sleep(COUNTED).await;
    let written: Vec<_> = proxies.iter().map(|proxy| statuses(proxy, since)).collect();
    eprintln!("writes of statuses in {COUNTED:?}: {} and {}", written[0].len(), written[1].len());
    let most = usize::try_from(COUNTED.as_secs() / RENEWAL.as_secs())? + 2;
    ensure!(written.iter().all(|of_one| of_one.len() <= most), "more than {most}: {written:#?}");
    ensure!(is_told(&route_status(&env, "orders").await?));

    // Whoever decides: mail moves, once.
    fixture.primary.crash().await?;
    let status = fixture.wait_active("standby").await?;
    ensure!(status.history.len() == 1, "{:?}", status.history);
    sleep(Duration::from_secs(2)).await;
    let since = Instant::now();
    sleep(COUNTED).await;
    let written: Vec<_> = proxies.iter().map(|proxy| statuses(proxy, since)).collect();
    eprintln!("after a failover: {} and {}", written[0].len(), written[1].len());
    ensure!(written.iter().all(|of_one| of_one.len() <= most), "more than {most}: {written:#?}");

    // The first one is uninstalled. The second one writes what people read from then on.
    first.terminate(WAIT_TIMEOUT).await?;
    let gone = Instant::now();
    let is_alone =
        |status: &MailRouteStatus| status.installations.len() == 1 && condition(status, CONFLICT).0.is_empty();
    wait_status(&env, "the first one to be forgotten", FORGOTTEN, is_alone).await?;
    eprintln!("one that is gone is forgotten after {:.1} s", gone.elapsed().as_secs_f64());
    fixture.primary.repair().await?;
    fixture.wait_active("primary").await?;
    second.terminate(WAIT_TIMEOUT).await?;
    Ok(())
}

/// The writes of statuses through a proxy since this time, as text.
fn statuses(proxy: &ApiServerProxy, since: Instant) -> Vec<String> {
    let writes = proxy.writes().into_iter().filter(|write| write.arrived > since);
    writes.map(|write| write.text()).filter(|text| text.contains("/status")).collect()
}

async fn moved(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    let proxy = env.open_proxy().await?;
    let first = fixture.start_operator("first").await?;
    first.terminate(WAIT_TIMEOUT).await?;
    let second = start_second(&env, &proxy).await?;
    let begun = Instant::now();
    let name = format!("{}/{SECOND}", env.namespace());
    wait_status(&env, "the second one to be alone", FORGOTTEN, |status| {
        status.installations.len() == 1 && status.installations[0].name == name
    })
    .await?;
    eprintln!("one that has moved is forgotten after {:.1} s", begun.elapsed().as_secs_f64());
    ensure!(notes(&env, "orders", CONFLICT).await?.is_empty(), "nobody else was there");
    second.terminate(WAIT_TIMEOUT).await?;
    Ok(())
}
