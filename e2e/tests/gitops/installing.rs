//! Trials of an installation by a commit.

use std::sync::Arc;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ObjectMeta;
use kube::{Api, Resource, ResourceExt};
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend, crds};
use mail_failover_e2e::assertions::api;
use mail_failover_e2e::fixture::{leads_to, wait_active};
use mail_failover_e2e::helm::repository;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;

use super::flux;
use super::platform::{GitShop, OPERATOR, OPERATOR_NAMESPACE, Platform};

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a commit installs the resource definitions and the operator, another one a route, and both are waited for",
            installed,
        )
        .needs_own_node(),
        trial("the patch for Argo CD is taken by the API server", argo_cd).needs_own_node(),
    ]
}

/// Returns true if Flux, and no other manager, has applied the object. The operator writes `status`
/// by patches.
fn is_applied_by_flux(metadata: &ObjectMeta) -> bool {
    let entries = metadata.managed_fields.iter().flatten();
    let applied = entries.filter(|entry| entry.operation.as_deref() == Some("Apply"));
    let managers: Vec<_> = applied.filter_map(|entry| entry.manager.as_deref()).collect();
    managers == ["kustomize-controller"]
}

async fn installed(env: Arc<TestEnv>) -> Result<()> {
    let platform = Platform::get(&env).await?;
    let installed = flux::kustomizations(&env).get(OPERATOR).await?;
    ensure!(installed.data["status"]["lastAppliedRevision"] == platform.revision, "{installed:?}");
    let definitions: Api<CustomResourceDefinition> = Api::all(env.client());
    for crd in crds() {
        let crd = definitions.get(&crd.name_any()).await?;
        ensure!(is_applied_by_flux(&crd.metadata), "{:?}", crd.metadata);
        // An uninstallation must not delete every route.
        let prune = crd.annotations().get("kustomize.toolkit.fluxcd.io/prune");
        ensure!(prune.is_some_and(|prune| prune == "disabled"), "{:?}", crd.metadata);
    }
    let deployments: Api<Deployment> = Api::namespaced(env.client(), OPERATOR_NAMESPACE);
    let deployment = deployments.get(OPERATOR).await?;
    ensure!(is_applied_by_flux(deployment.meta()), "{deployment:?}");
    // `wait` has waited for this.
    ensure!(deployment.status.and_then(|status| status.available_replicas) == Some(2), "the operator is not available");

    let shop = GitShop::open(&env).await?;
    // `wait` has waited for a decision and its outputs: nothing more has to come.
    ensure!(leads_to(&env, "mail").await? == [shop.primary.address().ip().to_string()]);
    let applied =
        [api::<MailRoute>(&env).get("orders").await?.metadata, api::<FailoverPolicy>(&env).get("fast").await?.metadata];
    for metadata in applied {
        ensure!(is_applied_by_flux(&metadata), "{metadata:?}");
    }
    wait_active(&env, "orders", "primary").await?;
    ensure!(api::<SendingBackend>(&env).get("standby").await?.status.is_some());
    shop.close().await
}

/// Runs the command in the file's comment on a `ConfigMap` as Argo CD installs it.
async fn argo_cd(env: Arc<TestEnv>) -> Result<()> {
    env.kubectl(&["create", "namespace", "argocd"]).await?;
    env.kubectl(&["create", "configmap", "argocd-cm", "-n", "argocd", "--from-literal=admin.enabled=true"]).await?;
    let file = repository("config/argocd/argocd-cm.yaml").display().to_string();
    let patch = ["patch", "configmap", "argocd-cm", "-n", "argocd", "--type", "merge", "--patch-file", &file];
    env.kubectl(&patch).await?;
    let keys = env.kubectl(&["get", "configmap", "argocd-cm", "-n", "argocd", "--output=jsonpath={.data}"]).await?;
    for kind in ["FailoverPolicy", "MailRoute", "SendingBackend"] {
        ensure!(keys.contains(&format!("resource.customizations.health.mailfailover.io_{kind}")), "{keys}");
    }
    ensure!(keys.contains("admin.enabled"), "{keys}");
    env.kubectl(&["delete", "namespace", "argocd", "--wait=false"]).await?;
    Ok(())
}
