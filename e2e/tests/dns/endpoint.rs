//! Records that external-dns publishes: the operator's part, with the published definition of its object. external-dns
//! itself is played by the trial, which does the one thing that it does to the object: it notes the generation.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use mail_failover_api::MailRoute;
use mail_failover_e2e::assertions::{api, metric_sum, wait_condition, wait_leads_to};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{WAIT_TIMEOUT, condition, route_status};
use mail_failover_e2e::helm::repository;
use mail_failover_e2e::mail::server::Fault;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

use crate::arena::{Arena, BOUNCE, wait_dns};

/// The object of the route's output.
const NAME: &str = "bounce";

fn endpoints(env: &TestEnv) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "externaldns.k8s.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "externaldns.k8s.io/v1alpha1".to_owned(),
        kind: "DNSEndpoint".to_owned(),
        plural: "dnsendpoints".to_owned(),
    };
    Api::namespaced_with(env.client(), env.namespace(), &resource)
}

/// The records that lead to a backend.
fn records(backend: &str) -> Value {
    json!([{ "dnsName": BOUNCE, "recordType": "MX", "recordTTL": 60, "targets": [format!("10 mx.{backend}.example")] }])
}

/// Waits until the object has the records of a backend.
async fn wait_records(env: &TestEnv, backend: &str, limit: Duration) -> Result<DynamicObject> {
    eventually(limit, "the object to have the records", async || {
        let object = endpoints(env).get(NAME).await?;
        Ok((object.data["spec"]["endpoints"] == records(backend)).then_some(object))
    })
    .await
}

/// Notes the generation of the object, as external-dns does when it reads it.
async fn take_over(env: &TestEnv, object: &DynamicObject) -> Result<()> {
    let generation = object.metadata.generation.context("a generation")?;
    let status = Patch::Merge(json!({ "status": { "observedGeneration": generation } }));
    endpoints(env).patch_status(NAME, &PatchParams::default(), &status).await.map(drop).map_err(Into::into)
}

async fn merge(env: &TestEnv, name: &str, patch: Value) -> Result<()> {
    endpoints(env).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop).map_err(Into::into)
}

pub async fn followed(env: Arc<TestEnv>) -> Result<()> {
    let arena = Arena::create(&env, &[], json!({ "rfc2136": null, "dnsEndpoint": { "name": NAME } })).await?;
    let operator = arena.start_operator("a", &[]).await?;

    // Without the definition.
    let message = wait_condition(&env, "orders", "DnsApplied", "False", "DnsEndpointUnavailable").await?;
    ensure!(message.contains("install the definition of external-dns"), "{message}");
    arena.fixture.primary.set_fault(Fault::Refuse).await?;
    let status = arena.fixture.wait_active("standby").await?;
    wait_leads_to(&env, "mail", &[arena.fixture.standby.address().ip().to_string()]).await?;
    ensure!(condition(&status, "Ready").0 == "True", "{status:?}");

    // With it.
    env.apply(&fs::read_to_string(repository("e2e/fixtures/dnsendpoints.externaldns.k8s.io.yaml"))?).await?;
    let object = wait_records(&env, "standby", Duration::from_secs(90)).await?;
    wait_dns(&env, "external-dns to be waited for", |output| {
        output.failure.as_ref().is_some_and(|failure| failure.message.contains("has not taken over DNSEndpoint bounce"))
    })
    .await?;
    take_over(&env, &object).await?;
    arena.wait_led("standby").await?;
    arena.fixture.primary.repair().await?;
    let object = wait_records(&env, "primary", WAIT_TIMEOUT).await?;
    take_over(&env, &object).await?;
    arena.wait_led("primary").await?;
    let last = route_status(&env, "orders").await?.last_transition.context("a transition")?;
    let written = object.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.time.as_ref()).max();
    println!("decided at {}, the object written at {written:?}", last.decided_at.0);

    // Nothing is written while nothing happens, and drift is put right.
    let version = endpoints(&env).get(NAME).await?.metadata.resource_version;
    let looks = metric_sum(&operator.metrics().await?, "mail_failover_dns_attempts_total", is_in_place);
    eventually(Duration::from_secs(90), "a look at the object", async || {
        let now = metric_sum(&operator.metrics().await?, "mail_failover_dns_attempts_total", is_in_place);
        Ok((now > looks).then_some(()))
    })
    .await?;
    ensure!(endpoints(&env).get(NAME).await?.metadata.resource_version == version, "it was not written");
    merge(&env, NAME, json!({ "spec": { "endpoints": records("elsewhere") } })).await?;
    let object = wait_records(&env, "primary", Duration::from_secs(90)).await?;
    take_over(&env, &object).await?;

    // Whose it is, and what becomes of it.
    ensure!(object.metadata.owner_references.is_none(), "it outlives the route");
    arena.edit(json!({ "dnsEndpoint": { "onDelete": "Remove", "labels": { "team": "mail" } } })).await?;
    eventually(WAIT_TIMEOUT, "the object to be the route's", async || {
        let metadata = endpoints(&env).get(NAME).await?.metadata;
        let is_owned = metadata.owner_references.iter().flatten().any(|owner| owner.kind == "MailRoute");
        let is_labelled = metadata.labels.is_some_and(|labels| labels.get("team").is_some_and(|team| team == "mail"));
        Ok((is_owned && is_labelled).then_some(()))
    })
    .await?;
    arena.edit(json!({ "dnsEndpoint": { "onDelete": "Keep", "labels": {} } })).await?;
    eventually(WAIT_TIMEOUT, "the object to be nobody's", async || {
        Ok(endpoints(&env).get(NAME).await?.metadata.owner_references.is_none().then_some(()))
    })
    .await?;

    // Somebody else's.
    let theirs = json!({ "apiVersion": "externaldns.k8s.io/v1alpha1", "kind": "DNSEndpoint",
        "metadata": { "name": "theirs" }, "spec": { "endpoints": records("elsewhere") } });
    endpoints(&env).create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;
    arena.edit(json!({ "dnsEndpoint": { "name": "theirs" } })).await?;
    let message = wait_condition(&env, "orders", "DnsApplied", "False", "DnsConflict").await?;
    ensure!(message.contains("DNSEndpoint theirs exists and is not the operator's"), "{message}");
    ensure!(endpoints(&env).get("theirs").await?.data["spec"]["endpoints"] == records("elsewhere"));
    arena.edit(json!({ "dnsEndpoint": { "name": NAME } })).await?;
    let object = wait_records(&env, "primary", WAIT_TIMEOUT).await?;
    take_over(&env, &object).await?;
    arena.wait_led("primary").await?;

    // The route goes, the records stay.
    api::<MailRoute>(&env).delete("orders", &DeleteParams::default()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(endpoints(&env).get(NAME).await?.data["spec"]["endpoints"] == records("primary"));
    env.kubectl(&["delete", "customresourcedefinition", "dnsendpoints.externaldns.k8s.io"]).await.map(drop)
}

fn is_in_place(labels: &str) -> bool {
    labels.contains("in_place")
}
