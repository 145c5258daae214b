//! What is removed from Git is gone, with all that was made of it.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::scene::PATIENCE;
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::views::{api, wait_gone};

use super::platform::Shop;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a route that is removed from Git takes its outputs along, and holds up neither Flux nor its namespace",
            removed,
        )
        .needs_own_node(),
    ]
}

async fn removed(stage: Arc<Stage>) -> Result<()> {
    let shop = Shop::open(&stage).await?;
    let slices = api::<EndpointSlice>(&stage).list(&ListParams::default()).await?.items;
    ensure!(!slices.is_empty(), "the Service leads nowhere");
    shop.remove("route.yaml").await?;
    wait_gone::<MailRoute>(&stage, "orders").await?;
    wait_gone::<Service>(&stage, "mail").await?;
    wait_gone::<ConfigMap>(&stage, "mail").await?;
    eventually(PATIENCE, "the slices to be gone", async || {
        let left = api::<EndpointSlice>(&stage).list(&ListParams::default()).await?.items;
        if left.is_empty() { Ok(Some(())) } else { bail!("{left:?}") }
    })
    .await?;
    ensure!(api::<SendingBackend>(&stage).get_opt("primary").await?.is_some(), "the backend is still in Git");

    shop.close().await?;
    wait_gone::<SendingBackend>(&stage, "primary").await?;
    wait_gone::<FailoverPolicy>(&stage, "fast").await?;
    let namespaces: Api<Namespace> = Api::all(stage.client());
    namespaces.delete(stage.namespace(), &DeleteParams::default()).await?;
    eventually(PATIENCE, "the namespace to be gone", async || match namespaces.get_opt(stage.namespace()).await? {
        None => Ok(Some(())),
        Some(namespace) => bail!("{:?}", namespace.status),
    })
    .await
}
