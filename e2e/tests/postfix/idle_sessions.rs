//! Trials of idle sessions with a real Postfix as the relay: it is killed, and it closes what is idle.
//!
//! Probes are minutes apart, so that no round can do what a session is there for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mail_failover_api::Health;
use mail_failover_e2e::assertions::{manifest, metric_sum, start_operator};
use mail_failover_e2e::eventually::eventually_is;
use mail_failover_e2e::fixture::{PolicyTimings, WAIT_TIMEOUT, policy, route, route_status, wait_active, wait_health};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::postfix::{Options, Postfix};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::time::sleep;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a Postfix that is killed is left as soon as its idle session ends", killed).listens(),
        trial("a Postfix that closes an idle session is looked at once and stays", idle_timeout).listens(),
    ]
}

/// A route that prefers a Postfix with these parameters to another one, and its operator with an idle session.
async fn started(env: &TestEnv, parameters: &[(&'static str, &str)]) -> Result<(Postfix, Postfix, Operator)> {
    let timings = PolicyTimings { lasting: Some("0s"), successes: 1, ..PolicyTimings::default() };
    let mut manifests = vec![policy(&timings), route("orders", &["primary", "standby"], "mail")];
    let mut relays = vec![];
    for (name, is_watched) in [("primary", true), ("standby", false)] {
        let at = SocketAddr::new(env.ipv4(), 25);
        let mut options = Options::new(at, env.folder().join(format!("{name}.log")));
        if is_watched {
            for (parameter, value) in parameters {
                options = options.with(parameter, *value);
            }
        }
        relays.push(Postfix::start(options).await?);
        let probe =
            json!({ "name": "smtp", "interval": "10m", "timeout": "5s", "smtp": { "idleSession": is_watched } });
        let spec =
            json!({ "smtp": { "host": at.ip(), "port": at.port(), "tls": { "mode": "None" } }, "probes": [probe] });
        manifests.push(manifest("SendingBackend", name, &spec));
    }
    env.apply(&manifests.concat()).await?;
    let operator = start_operator(env, &[]).await?;
    wait_active(env, "orders", "primary").await?;
    let (standby, primary) = (relays.pop(), relays.pop());
    let (Some(primary), Some(standby)) = (primary, standby) else { anyhow::bail!("two relays were started") };
    Ok((primary, standby, operator))
}

async fn metric(operator: &Operator, name: &str) -> Result<f64> {
    Ok(metric_sum(&operator.metrics().await?, &format!("mail_failover_probe_{name}"), |_| true))
}

#[expect(clippy::float_cmp, reason = "counts")]
async fn wait_metric(operator: &Operator, name: &str, count: f64) -> Result<()> {
    eventually_is(WAIT_TIMEOUT, name, async || metric(operator, name).await, |seen| *seen == count).await?;
    Ok(())
}

async fn killed(env: Arc<TestEnv>) -> Result<()> {
    let (primary, _standby, operator) = started(&env, &[]).await?;
    wait_metric(&operator, "idle_sessions", 1.0).await?;
    primary.kill();
    let status = wait_active(&env, "orders", "standby").await?;
    ensure!(
        status.last_transition.as_ref().is_some_and(|last| last.reason == "ConnectionRefused"),
        "{:?}",
        status.last_transition
    );
    Ok(())
}

async fn idle_timeout(env: Arc<TestEnv>) -> Result<()> {
    let (primary, _standby, operator) = started(&env, &[("smtpd_timeout", "5s")]).await?;
    wait_metric(&operator, "idle_session_ends_total{end=\"ServiceNotAvailable\"}", 1.0).await?;
    // A burst of looks would have begun by then.
    sleep(Duration::from_secs(2)).await;
    let (looks, sessions) = (metric(&operator, "looks_total").await?, metric(&operator, "idle_sessions").await?);
    ensure!((looks, sessions) == (1.0, 0.0), "{looks} looks, {sessions} sessions");
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    ensure!(route_status(&env, "orders").await?.last_transition.is_none());
    primary.stop().await
}
