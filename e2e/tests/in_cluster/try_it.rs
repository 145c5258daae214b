//! A trial of the tutorial (docs/tutorial.md), after `helm install`: a relay of
//! `examples/try-it/try-it.yaml` is scaled down and up again.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::route_status;
use mail_failover_e2e::helm::repository;
use mail_failover_e2e::in_cluster::installation::{ensure_installed, installed_for};
use mail_failover_e2e::in_cluster::shop::WAIT_TIMEOUT;
use mail_failover_e2e::node::images::PYTHON;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;

/// The image that the example takes from a public registry.
const PUBLIC_PYTHON: &str = "python:3.11-slim";

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a newcomer tries it: a relay is scaled down, the orders go by the other one, and back", walk)
            .needs_images(),
    ]
}

async fn walk(env: Arc<TestEnv>) -> Result<()> {
    if env.node().is_err() {
        return installed_for(&env, run_scenario(&env)).await;
    }
    ensure_installed(&env).await?;
    run_scenario(&env).await
}

async fn run_scenario(env: &TestEnv) -> Result<()> {
    // The strictest Pod Security level, as a newcomer's cluster may have it.
    env.kubectl(&["label", "namespace", env.namespace(), "pod-security.kubernetes.io/enforce=restricted"]).await?;
    let text = std::fs::read_to_string(repository("examples/try-it/try-it.yaml"))?;
    ensure!(text.contains(PUBLIC_PYTHON), "no {PUBLIC_PYTHON} in the example");
    env.apply(&text.replace(PUBLIC_PYTHON, PYTHON)).await?;
    wait_active(env, "relay-a").await?;
    wait_said(env, "application", " orders are taken").await?;
    wait_said(env, "relay-a", "Subject: order ").await?;

    env.kubectl(&["scale", "deployment", "relay-a", "--replicas=0"]).await?;
    wait_active(env, "relay-b").await?;
    wait_said(env, "relay-b", "Subject: order ").await?;
    let row = env.kubectl(&["get", "mailroutes", "--no-headers"]).await?;
    ensure!(row.contains("relay-b") && row.contains("1/2") && row.contains("FailedOver"), "{row}");

    env.kubectl(&["scale", "deployment", "relay-a", "--replicas=1"]).await?;
    wait_active(env, "relay-a").await?;
    // A relay that was started again, so that its log has no earlier lines.
    wait_said(env, "relay-a", "Subject: order ").await?;
    let said = env.kubectl(&["logs", "deployment/application"]).await?;
    eprintln!("{}", said.lines().filter(|line| line.contains("order ")).collect::<Vec<_>>().join("\n"));
    Ok(())
}

async fn wait_active(env: &TestEnv, backend: &str) -> Result<()> {
    eventually(WAIT_TIMEOUT, &format!("the orders to leave by {backend}"), async || {
        let status = route_status(env, "orders").await?;
        ensure!(status.active.first().is_some_and(|active| active.backend == backend), "{:?}", status.explanation);
        Ok(Some(()))
    })
    .await
}

async fn wait_said(env: &TestEnv, deployment: &str, words: &str) -> Result<()> {
    eventually(WAIT_TIMEOUT, &format!("{deployment} to say {words:?}"), async || {
        let said = env.kubectl(&["logs", &format!("deployment/{deployment}"), "--tail=100"]).await?;
        ensure!(said.contains(words), "it said {said}");
        Ok(Some(()))
    })
    .await
    .with_context(|| format!("the pods of {deployment}"))
}
