//! Requests and their answers are invisible to whoever keeps the manifests.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use mail_failover_api::MailRoute;
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::views::{api, start_operator};
use serde_json::json;
use tokio::time::sleep;

use super::play::{Play, REQUEST, route};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("applying the same manifest again, from the client, reverts no request", async |stage| {
            applied_again(stage, &["apply", "-f", "-"], &["diff", "-f", "-"]).await
        })
        .listens(),
        trial("applying the same manifest again, on the server, reverts no request", async |stage| {
            applied_again(stage, &["apply", "--server-side", "-f", "-"], &["diff", "--server-side", "-f", "-"]).await
        })
        .listens(),
    ]
}

async fn applied_again(stage: Arc<Stage>, apply: &[&str], diff: &[&str]) -> Result<()> {
    let play = Play::of_two(stage.clone(), json!({})).await?;
    let manifest = route("second", "fast", &["primary", "standby"], "second", json!({}));
    stage.kubectl_with_input(apply, &manifest).await?;
    let operator = start_operator(&stage, &[]).await?;
    play.route_active("second", &[("primary", 100)]).await?;
    let text = json!({ "id": "1", "action": "Switch", "to": "standby" }).to_string();
    play.write_request("second", &text).await?;
    let before = play.route_active("second", &[("standby", 100)]).await?;
    // Argo CD and Flux would call anything that kubectl prints here drift.
    let drift = stage.kubectl_with_input(diff, &manifest).await.context("drift")?;
    ensure!(drift.is_empty(), "{drift}");
    for round in 0..3 {
        let said = stage.kubectl_with_input(apply, &manifest).await?;
        ensure!(said.contains("unchanged") || said.contains("serverside-applied"), "round {round}: {said}");
        sleep(Duration::from_millis(500)).await;
    }
    let object = api::<MailRoute>(&stage).get("second").await?;
    ensure!(object.metadata.generation == Some(1), "{object:?}");
    ensure!(object.annotations().get(REQUEST) == Some(&text), "{object:?}");
    // The operator writes the status and nothing else: no manager of anything else is anyone but people.
    let ours = object.managed_fields().iter().filter(|entry| {
        !matches!(entry.manager.as_deref(), Some("kubectl" | "kubectl-client-side-apply" | "somebody"))
    });
    let subresources: Vec<_> = ours.map(|entry| entry.subresource.as_deref()).collect();
    ensure!(!subresources.is_empty() && subresources.iter().all(|of| *of == Some("status")), "{object:?}");
    let after = play.route_active("second", &[("standby", 100)]).await?;
    ensure!(after == before, "{before:?} became {after:?}");
    ensure!(operator.ended().is_none());
    Ok(())
}
