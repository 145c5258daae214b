//! Trials of requests and their answers beside Git: they change nothing that the keeper of the
//! manifests sees.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use mail_failover_api::MailRoute;
use mail_failover_e2e::assertions::{api, start_operator};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::json;
use tokio::time::sleep;

use super::fixture::{DecisionFixture, REQUEST, route};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("applying the same manifest again, from the client, reverts no request", async |env| {
            applied_again(env, &["apply", "-f", "-"], &["diff", "-f", "-"]).await
        })
        .listens(),
        trial("applying the same manifest again, on the server, reverts no request", async |env| {
            applied_again(env, &["apply", "--server-side", "-f", "-"], &["diff", "--server-side", "-f", "-"]).await
        })
        .listens(),
    ]
}

async fn applied_again(env: Arc<TestEnv>, apply: &[&str], diff: &[&str]) -> Result<()> {
    let fixture = DecisionFixture::of_two(env.clone(), json!({})).await?;
    let manifest = route("second", "fast", &["primary", "standby"], "second", json!({}));
    env.kubectl_with_input(apply, &manifest).await?;
    let operator = start_operator(&env, &[]).await?;
    fixture.route_active("second", &[("primary", 100)]).await?;
    let text = json!({ "id": "1", "action": "Switch", "to": "standby" }).to_string();
    fixture.write_request("second", &text).await?;
    let before = fixture.route_active("second", &[("standby", 100)]).await?;
    // Argo CD and Flux would report anything that kubectl prints here as drift.
    let drift = env.kubectl_with_input(diff, &manifest).await.context("drift")?;
    ensure!(drift.is_empty(), "{drift}");
    for round in 0..3 {
        let said = env.kubectl_with_input(apply, &manifest).await?;
        ensure!(said.contains("unchanged") || said.contains("serverside-applied"), "round {round}: {said}");
        sleep(Duration::from_millis(500)).await;
    }
    let object = api::<MailRoute>(&env).get("second").await?;
    ensure!(object.metadata.generation == Some(1), "{object:?}");
    ensure!(object.annotations().get(REQUEST) == Some(&text), "{object:?}");
    // The operator writes the status and nothing else: all other fields have people as their managers.
    let ours = object.managed_fields().iter().filter(|entry| {
        !matches!(entry.manager.as_deref(), Some("kubectl" | "kubectl-client-side-apply" | "somebody"))
    });
    let subresources: Vec<_> = ours.map(|entry| entry.subresource.as_deref()).collect();
    ensure!(!subresources.is_empty() && subresources.iter().all(|of| *of == Some("status")), "{object:?}");
    let after = fixture.route_active("second", &[("standby", 100)]).await?;
    ensure!(after == before, "{before:?} became {after:?}");
    ensure!(operator.ended().is_none());
    Ok(())
}
