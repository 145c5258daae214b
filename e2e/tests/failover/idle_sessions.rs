//! Trials of idle sessions: their end starts a look, and decides nothing by itself.
//!
//! Probes are minutes apart, so that no round can do what a session is there for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use mail_failover_api::Health;
use mail_failover_e2e::assertions::{manifest, metric_sum, set_endpoints, start_operator, wait_leads_to};
use mail_failover_e2e::eventually::eventually_is;
use mail_failover_e2e::fixture::{
    PolicyTimings, WAIT_TIMEOUT, events, policy, route, route_status, wait_active, wait_health,
};
use mail_failover_e2e::mail::server::{Options, SmtpServer};
use mail_failover_e2e::operator::Operator;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::time::sleep;

/// The time in which a burst of looks would have begun.
const A_WHILE: Duration = Duration::from_secs(2);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a relay that is killed is left as soon as its idle session ends", killed).listens(),
        trial("a rollout's end of an idle session is one look and moves nothing", rollout).listens(),
        trial("a server that closes an idle session by 421 is looked at once and stays", idle_timeout).listens(),
    ]
}

/// Policy by which three looks decide, however close together.
fn timings() -> PolicyTimings {
    PolicyTimings { interval: "10m", lasting: Some("0s"), successes: 1, ..PolicyTimings::default() }
}

fn probes(idle_session: bool) -> Value {
    json!([{ "name": "smtp", "interval": "10m", "timeout": "500ms", "smtp": { "idleSession": idle_session } }])
}

fn by_address(name: &str, at: SocketAddr, idle_session: bool) -> String {
    let smtp = json!({ "host": at.ip(), "port": at.port() });
    manifest("SendingBackend", name, &json!({ "smtp": smtp, "probes": probes(idle_session) }))
}

async fn server(env: &TestEnv, name: &str) -> Result<SmtpServer> {
    Ok(SmtpServer::start(Options::new(name, SocketAddr::new(env.ipv4(), 25))).await?)
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
    let (primary, standby) = (server(&env, "primary").await?, server(&env, "standby").await?);
    let manifests = [
        policy(&timings()),
        by_address("primary", primary.address(), true),
        by_address("standby", standby.address(), false),
        route("orders", &["primary", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    let operator = start_operator(&env, &[]).await?;
    wait_active(&env, "orders", "primary").await?;
    wait_metric(&operator, "idle_sessions", 1.0).await?;
    primary.crash().await?;
    let status = wait_active(&env, "orders", "standby").await?;
    ensure!(
        status.last_transition.as_ref().is_some_and(|last| last.reason == "ConnectionRefused"),
        "{:?}",
        status.last_transition
    );
    wait_leads_to(&env, "mail", &[standby.address().ip().to_string()]).await?;
    wait_metric(&operator, "idle_sessions", 0.0).await
}

async fn rollout(env: Arc<TestEnv>) -> Result<()> {
    let (old, new, standby) = (server(&env, "old").await?, server(&env, "new").await?, server(&env, "standby").await?);
    let [old_address, new_address] = [&old, &new].map(|server| server.address().ip().to_string());
    set_endpoints(&env, "relay", 25, &[(old_address.clone(), true), (new_address.clone(), true)]).await?;
    let manifests = [
        policy(&timings()),
        manifest(
            "SendingBackend",
            "primary",
            &json!({ "service": { "name": "relay", "port": "smtp" },
            "probes": [{ "name": "smtp", "interval": "10m", "timeout": "500ms", "smtp": {} }] }),
        ),
        by_address("standby", standby.address(), false),
        route("orders", &["primary", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    let operator = start_operator(&env, &[]).await?;
    wait_active(&env, "orders", "primary").await?;
    // A relay of one's own has them without a wish.
    wait_metric(&operator, "idle_sessions", 2.0).await?;
    let before = metric(&operator, "looks_total").await?;
    old.crash().await?;
    wait_metric(&operator, "idle_session_ends_total", 1.0).await?;
    wait_metric(&operator, "looks_total", before + 1.0).await?;
    sleep(A_WHILE).await;
    // Its pod is deleted now: the session with the other one stays.
    set_endpoints(&env, "relay", 25, &[(new_address.clone(), true)]).await?;
    wait_leads_to(&env, "mail", &[new_address]).await?;
    wait_metric(&operator, "idle_sessions", 1.0).await?;
    wait_metric(&operator, "looks_total", before + 1.0).await?;
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    ensure!(events(&env, "orders").await?.is_empty() && !has_moved(&env).await?);
    // An endpoint that leaves while it is alive is told QUIT.
    let quits = quits(&new);
    set_endpoints(&env, "relay", 25, &[]).await?;
    wait_metric(&operator, "idle_sessions", 0.0).await?;
    ensure!(self::quits(&new) == quits + 1, "{:?} after {quits}", new.counters());
    Ok(())
}

async fn idle_timeout(env: Arc<TestEnv>) -> Result<()> {
    let options = Options::new("primary", SocketAddr::new(env.ipv4(), 25));
    let primary = SmtpServer::start(Options { idle_timeout: Duration::from_secs(12), ..options }).await?;
    let standby = server(&env, "standby").await?;
    let manifests = [
        policy(&timings()),
        by_address("primary", primary.address(), true),
        by_address("standby", standby.address(), false),
        route("orders", &["primary", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    let operator = start_operator(&env, &[]).await?;
    wait_active(&env, "orders", "primary").await?;
    wait_metric(&operator, "idle_sessions", 1.0).await?;
    let before = metric(&operator, "looks_total").await?;
    wait_metric(&operator, "idle_session_ends_total{end=\"ServiceNotAvailable\"}", 1.0).await?;
    sleep(A_WHILE).await;
    let (looks, sessions) = (metric(&operator, "looks_total").await?, metric(&operator, "idle_sessions").await?);
    // It was shorter than it is of use for: the next one waits for half a minute at least.
    ensure!((looks - before, sessions) == (1.0, 0.0), "{looks} looks after {before}, {sessions} sessions");
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    ensure!(!has_moved(&env).await?);
    Ok(())
}

async fn has_moved(env: &TestEnv) -> Result<bool> {
    Ok(route_status(env, "orders").await?.last_transition.is_some())
}

fn quits(server: &SmtpServer) -> u64 {
    server.counters().commands.get("QUIT").copied().unwrap_or(0)
}
