//! Trials of a removal from Git: everything that was made of it is gone.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_e2e::assertions::{api, wait_gone};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::WAIT_TIMEOUT;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;

use super::platform::GitShop;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a route that is removed from Git takes its outputs along, and holds up neither Flux nor its namespace",
            removed,
        )
        .needs_own_node(),
    ]
}

async fn removed(env: Arc<TestEnv>) -> Result<()> {
    let shop = GitShop::open(&env).await?;
    let slices = api::<EndpointSlice>(&env).list(&ListParams::default()).await?.items;
    ensure!(!slices.is_empty(), "the Service leads nowhere");
    shop.remove("route.yaml").await?;
    wait_gone::<MailRoute>(&env, "orders").await?;
    wait_gone::<Service>(&env, "mail").await?;
    wait_gone::<ConfigMap>(&env, "mail").await?;
    eventually(WAIT_TIMEOUT, "the slices to be gone", async || {
        let left = api::<EndpointSlice>(&env).list(&ListParams::default()).await?.items;
        if left.is_empty() { Ok(Some(())) } else { bail!("{left:?}") }
    })
    .await?;
    ensure!(api::<SendingBackend>(&env).get_opt("primary").await?.is_some(), "the backend is still in Git");

    shop.close().await?;
    wait_gone::<SendingBackend>(&env, "primary").await?;
    wait_gone::<FailoverPolicy>(&env, "fast").await?;
    let namespaces: Api<Namespace> = Api::all(env.client());
    namespaces.delete(env.namespace(), &DeleteParams::default()).await?;
    eventually(WAIT_TIMEOUT, "the namespace to be gone", async || match namespaces.get_opt(env.namespace()).await? {
        None => Ok(Some(())),
        Some(namespace) => bail!("{:?}", namespace.status),
    })
    .await
}
