//! Trials of ownership: an output belongs to one route, under one field manager, and is never taken
//! from another owner.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DeleteParams;
use kube::{Resource, ResourceExt};
use mail_failover_api::MailRoute;
use mail_failover_e2e::assertions::{
    api, change, data, wait_condition, wait_event, wait_leads_to, wait_object, wait_route,
};
use mail_failover_e2e::fixture::{PolicyTimings, TwoBackendFixture, condition, route, route_status, wait_active};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde::de::DeserializeOwned;
use serde_json::json;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("outputs belong to their route and to one field manager, before and after a switch", ownership).listens(),
        trial("a change of format leaves nothing of the old one behind", format_change).listens(),
        trial(
            "a foreign Service and ConfigMap are refused, left as they are, and replaced when they are gone",
            foreign,
        )
        .listens(),
        trial("of two routes that claim one target the older has it and the newer says so", rivals).listens(),
    ]
}

/// Checks the single owner reference, to the route, and the single field manager, of server-side
/// apply.
pub async fn check<K>(env: &TestEnv, name: &str) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let route = api::<MailRoute>(env).get("orders").await?;
    let object = api::<K>(env).get(name).await?;
    let [owner] = object.owner_references() else { anyhow::bail!("not one owner: {object:?}") };
    ensure!((&*owner.kind, &*owner.name, owner.controller) == ("MailRoute", "orders", Some(true)), "{owner:?}");
    ensure!(Some(&owner.uid) == route.metadata.uid.as_ref(), "{owner:?}");
    let managers: Vec<_> = object
        .managed_fields()
        .iter()
        .map(|entry| (entry.manager.as_deref().unwrap_or_default(), entry.operation.as_deref().unwrap_or_default()))
        .collect();
    ensure!(managers == [("mail-failover-output", "Apply")], "{} {name}: {managers:?}", K::kind(&()));
    Ok(())
}

async fn ownership(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let _operator = fixture.start_operator("a").await?;
    for active in ["primary", "standby"] {
        fixture.wait_active(active).await?;
        check::<Service>(&env, "mail").await?;
        check::<EndpointSlice>(&env, "mail-ipv4").await?;
        check::<ConfigMap>(&env, "mail").await?;
        fixture.primary.crash().await?;
    }
    Ok(())
}

fn outputs_of(format: &str) -> serde_json::Value {
    json!({ "spec": { "outputs": [{ "configMap": { "name": "mail", "format": format } }] } })
}

fn keys(map: &ConfigMap) -> Vec<String> {
    map.data.iter().flatten().map(|(key, _)| key.clone()).collect()
}

async fn format_change(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    change::<MailRoute>(&env, "orders", &outputs_of("Postfix")).await?;
    let _operator = fixture.start_operator("a").await?;
    let expected = ["relayhost", "tls_policy", "transport"];
    wait_object(&env, "mail", "to have Postfix's keys only", |map: &ConfigMap| keys(map) == expected).await?;
    // A key of another owner does not belong to the format.
    change::<ConfigMap>(&env, "mail", &json!({ "data": { "note": "kept" } })).await?;
    change::<MailRoute>(&env, "orders", &outputs_of("Env")).await?;
    let expected = ["SENDING_BACKEND", "SMTP_HOST", "SMTP_PORT", "SMTP_TLS", "SMTP_TLS_SERVER_NAME", "note"];
    wait_object(&env, "mail", "to have the environment's keys and somebody's only", |map: &ConfigMap| {
        keys(map) == expected
    })
    .await?;
    Ok(())
}

/// The versions of the Service and the `ConfigMap`.
async fn versions(env: &TestEnv) -> Result<[Option<String>; 2]> {
    let service = api::<Service>(env).get("mail").await?.resource_version();
    Ok([service, api::<ConfigMap>(env).get("mail").await?.resource_version()])
}

async fn foreign(env: Arc<TestEnv>) -> Result<()> {
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "mail" },
        "spec": { "selector": { "app": "legacy" }, "ports": [{ "port": 2525 }] } });
    let config_map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "mail" },
        "data": { "SMTP_HOST": "legacy.example" } });
    env.apply(&format!("---\n{service}\n---\n{config_map}\n")).await?;
    let untouched = versions(&env).await?;
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    let operator = mail_failover_e2e::assertions::start_operator(&env, &[]).await?;
    let message = wait_condition(&env, "orders", "OutputsApplied", "False", "OutputConflict").await?;
    let (service_field, map_field) = ("spec.outputs[].service.name", "spec.outputs[].configMap.name");
    ensure!(message.contains(service_field) && message.contains(map_field) && message.contains("mail"), "{message}");
    wait_condition(&env, "orders", "Ready", "False", "OutputConflict").await?;
    wait_event(&env, "orders", "OutputRefused").await?;
    // A failover tries again, and is refused again.
    fixture.primary.crash().await?;
    wait_route(&env, "orders", "to fail over all the same", |status| {
        status.active.first().is_some_and(|active| active.backend == "standby")
    })
    .await?;
    ensure!(versions(&env).await? == untouched, "somebody else's object was written");
    api::<Service>(&env).delete("mail", &DeleteParams::default()).await?;
    api::<ConfigMap>(&env).delete("mail", &DeleteParams::default()).await?;
    let taken = wait_condition(&env, "orders", "OutputsApplied", "True", "Applied");
    // A foreign ConfigMap is not watched: its deletion is noticed within half a minute.
    tokio::time::timeout(Duration::from_secs(90), taken).await.context("never taken over")??;
    wait_leads_to(&env, "mail", &[fixture.standby.address().ip().to_string()]).await?;
    ensure!(data(&env, "mail").await?.get("SENDING_BACKEND").is_some_and(|name| name == "standby"));
    drop(operator);
    Ok(())
}

async fn rivals(env: Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::default()).await?;
    // Creation times have whole seconds only, so the two must differ by more.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    env.apply(&route("newer", &["standby", "primary"], "mail")).await?;
    let _operator = fixture.start_operator("a").await?;
    let message = wait_condition(&env, "newer", "OutputsApplied", "False", "OutputClaimed").await?;
    ensure!(message.contains("MailRoute orders"), "{message}");
    wait_condition(&env, "newer", "Ready", "False", "OutputClaimed").await?;
    ensure!(condition(&route_status(&env, "orders").await?, "OutputsApplied").0 == "True");
    wait_leads_to(&env, "mail", &[fixture.primary.address().ip().to_string()]).await?;
    // The older route gives the target up, and the newer one takes it.
    let moved = json!({ "spec": { "outputs": [{ "service": { "name": "elsewhere", "ports": [{ "name": "smtp", "port": 25 }] } }] } });
    change::<MailRoute>(&env, "orders", &moved).await?;
    wait_active(&env, "newer", "standby").await?;
    wait_leads_to(&env, "mail", &[fixture.standby.address().ip().to_string()]).await?;
    wait_leads_to(&env, "elsewhere", &[fixture.primary.address().ip().to_string()]).await
}
