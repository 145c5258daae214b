//! Trials of operators that die, freeze, hand over and disagree: each switch still happens once,
//! with one Event.

mod deaths;
mod handovers;
mod installations;
mod quorum;

use std::fmt::Debug;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Resource, ResourceExt};
use mail_failover_e2e::assertions::{api, change, wait_object};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::WAIT_TIMEOUT;
use mail_failover_e2e::suite::{self, Options};
use mail_failover_e2e::test_env::TestEnv;
use serde::de::DeserializeOwned;
use serde_json::json;

fn main() -> ExitCode {
    let options = Options { operator: true, parallel: 6, deadline: Duration::from_mins(5), ..Options::default() };
    // The longest trial starts first, so that it does not end last.
    let trials =
        installations::trials().into_iter().chain(handovers::trials()).chain(quorum::trials()).chain(deaths::trials());
    let trials = trials.collect();
    suite::run("replicas", options, trials)
}

/// The holder of the Lease; `None` if it is vacated.
async fn holder(env: &TestEnv) -> Result<Option<String>> {
    let lease = api::<Lease>(env).get_opt("mail-failover-operator").await?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()))
}

async fn wait_holder(env: &TestEnv, identity: &str) -> Result<()> {
    eventually(WAIT_TIMEOUT, &format!("{identity} to hold the lease"), async || match holder(env).await? {
        Some(holder) if holder == identity => Ok(Some(())),
        other => bail!("{other:?}"),
    })
    .await
}

/// Checks that every output is owned by server-side apply alone once it has been applied. This
/// includes outputs that were created by an operator that died before it could hand the fields
/// over.
async fn check_managers(env: &TestEnv) -> Result<()> {
    check_managers_of::<Service>(env).await?;
    check_managers_of::<EndpointSlice>(env).await?;
    check_managers_of::<ConfigMap>(env).await
}

async fn check_managers_of<K>(env: &TestEnv) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    const LABEL: &str = "app.kubernetes.io/managed-by";
    let mut objects = api::<K>(env).list(&ListParams::default()).await?.items;
    objects.retain(|object| object.meta().owner_references.is_some());
    ensure!(!objects.is_empty(), "no {}", K::kind(&()));
    for object in objects {
        let name = object.name_any();
        // The change makes the operator apply the object.
        change::<K>(env, &name, &json!({ "metadata": { "labels": { LABEL: "somebody" } } })).await?;
        wait_object(env, &name, "to be ours alone", |object: &K| {
            let managers: Vec<_> = object
                .managed_fields()
                .iter()
                .map(|entry| {
                    (entry.manager.as_deref().unwrap_or_default(), entry.operation.as_deref().unwrap_or_default())
                })
                .collect();
            object.labels().get(LABEL).is_some_and(|value| value != "somebody")
                && managers == [("mail-failover-output", "Apply")]
        })
        .await?;
    }
    Ok(())
}
