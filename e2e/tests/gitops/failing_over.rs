//! Trials of a failover under Flux: Flux undoes nothing, and the operator ignores Flux's
//! reconciliations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use mail_failover_api::{FailoverPolicy, MailRoute, RouteState, SendingBackend};
use mail_failover_e2e::assertions::wait_route;
use mail_failover_e2e::control_plane::Call;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{leads_to, wait_active};
use mail_failover_e2e::health::Health;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;

use super::flux::{kustomizations, ready, reconcile};
use super::platform::{GitShop, Platform};

/// A time limit longer than three reconciliations at the interval of the trials' Kustomizations.
const WAIT_TIMEOUT: Duration = Duration::from_mins(3);
const SOON: Duration = Duration::from_mins(1);

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a failover while Flux reconciles every 30 s is neither reverted nor followed by any write of ours",
            undisturbed,
        )
        .needs_own_node(),
        trial(
            "Flux and Argo CD find a route that has failed over healthy, and one by which nothing can be sent not",
            judged,
        )
        .needs_own_node(),
    ]
}

/// The operator's writes until now, without those of Leases, by which replicas show that they live.
fn writes(env: &TestEnv) -> Result<Vec<Call>> {
    let mut calls = env.control()?.calls_of(&Platform::operator_user())?;
    calls.retain(|call| {
        let reads = ["get", "list", "watch"].contains(&call.right.verb.as_str());
        !reads && call.right.resource != "leases"
    });
    Ok(calls)
}

/// Kind, name and version of every object of Flux's and ours.
async fn versions(env: &TestEnv) -> Result<BTreeMap<String, String>> {
    let kinds = [
        ApiResource::erase::<MailRoute>(&()),
        ApiResource::erase::<SendingBackend>(&()),
        ApiResource::erase::<FailoverPolicy>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<EndpointSlice>(&()),
        ApiResource::erase::<ConfigMap>(&()),
    ];
    let mut versions = BTreeMap::new();
    for kind in kinds {
        let api: Api<DynamicObject> = Api::namespaced_with(env.client(), env.namespace(), &kind);
        for object in api.list(&ListParams::default()).await?.items {
            let version = object.resource_version().context("a version")?;
            versions.insert(format!("{} {}", kind.kind, object.name_any()), version);
        }
    }
    Ok(versions)
}

async fn undisturbed(env: Arc<TestEnv>) -> Result<()> {
    let shop = GitShop::open(&env).await?;
    wait_active(&env, "orders", "primary").await?;
    shop.primary.crash().await?;
    let before = wait_active(&env, "orders", "standby").await?;
    // A failover's last writes follow within seconds: Events, and their record in `status`.
    let mut counted = writes(&env)?.len();
    eventually(SOON, "the failover to settle", async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = writes(&env)?.len();
        let is_quiet = now == counted;
        counted = now;
        Ok(is_quiet.then_some(()))
    })
    .await?;
    let (versions_before, begun) = (versions(&env).await?, shop.reconciliations().await?);
    ensure!(versions_before.len() >= 7, "{versions_before:?}");

    eventually(WAIT_TIMEOUT, "three reconciliations", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let done = shop.reconciliations().await? - begun;
        if done >= 3 { Ok(Some(())) } else { bail!("{done}") }
    })
    .await?;
    let reconciled = reconcile(&kustomizations(&env), &shop.kustomization).await?;
    ensure!(ready(&reconciled).0 == "True", "{:?}", ready(&reconciled));

    let versions_after = versions(&env).await?;
    ensure!(versions_after == versions_before, "{versions_before:#?} became {versions_after:#?}");
    let written = writes(&env)?.split_off(counted);
    ensure!(written.is_empty(), "{written:#?}");
    ensure!(wait_active(&env, "orders", "standby").await? == before);
    ensure!(leads_to(&env, "mail").await? == [shop.standby.address().ip().to_string()]);
    shop.close().await
}

/// The health of the live route by Argo CD's script and by Flux's expressions.
async fn assessments(env: &TestEnv, health: &Health) -> Result<(String, String, String)> {
    let kind = ApiResource::erase::<MailRoute>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(env.client(), env.namespace(), &kind);
    let route = serde_json::to_value(api.get("orders").await?)?;
    let found = health.of(&[route]).await?.pop().context("an answer")?;
    Ok((found.argo_cd.status, found.argo_cd.message, found.flux.status))
}

async fn judged(env: Arc<TestEnv>) -> Result<()> {
    let health = Health::locate()?;
    let shop = GitShop::open(&env).await?;
    wait_active(&env, "orders", "primary").await?;
    let (argo_cd, message, flux) = assessments(&env, &health).await?;
    ensure!(
        argo_cd == "Healthy" && message.starts_with("Mail leaves by primary since 20") && flux == "Current",
        "{argo_cd} {message} {flux}"
    );

    shop.primary.crash().await?;
    wait_active(&env, "orders", "standby").await?;
    let (argo_cd, message, flux) = assessments(&env, &health).await?;
    ensure!(argo_cd == "Healthy" && flux == "Current", "{argo_cd} {message} {flux}");
    ensure!(message.starts_with("Failed over: mail leaves by standby since 20"), "{message}");
    ensure!(message.ends_with("(ConnectionRefused); no other backend could take over"), "{message}");
    let reconciled = reconcile(&kustomizations(&env), &shop.kustomization).await?;
    ensure!(ready(&reconciled).0 == "True", "{:?}", ready(&reconciled));

    shop.standby.crash().await?;
    wait_route(&env, "orders", "to have no way out", |status| status.state == Some(RouteState::NoneHealthy)).await?;
    let (argo_cd, message, flux) = assessments(&env, &health).await?;
    ensure!(
        argo_cd == "Degraded" && message.starts_with("No mail can be sent: ") && flux == "Failed",
        "{argo_cd} {message} {flux}"
    );
    let route = format!("MailRoute/{}/orders status: 'Failed'", env.namespace());
    let api = kustomizations(&env);
    reconcile(&api, &shop.kustomization).await?;
    eventually(SOON, "the Kustomization to fail", async || {
        let (status, why) = ready(&api.get(&shop.kustomization).await?);
        if status == "False" && why.starts_with("HealthCheckFailed: ") && why.contains(&route) {
            return Ok(Some(()));
        }
        bail!("{status} {why}")
    })
    .await?;

    shop.primary.repair().await?;
    wait_active(&env, "orders", "primary").await?;
    eventually(WAIT_TIMEOUT, "the Kustomization to be Ready again", async || {
        let (status, why) = ready(&api.get(&shop.kustomization).await?);
        if status == "True" { Ok(Some(())) } else { bail!("{status} {why}") }
    })
    .await?;
    shop.close().await
}
