//! Trials of objects that a newer version wrote: with values and fields that this operator does not
//! know.
//!
//! The schema of the newer version is the present one with additions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt};
use mail_failover_e2e::assertions::{manifest, notes, untyped, wait_condition, wait_event, wait_leads_to};
use mail_failover_e2e::control_plane::install_crds;
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{
    PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT, backend, leads_to, route, wait_active,
};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

pub fn trials() -> Vec<Trial> {
    vec![
        // Alone, since all trials share the schema.
        trial(
            "an object that a newer version wrote stalls, keeps its last good decision, and stalls nothing else",
            newer,
        )
        .listens()
        .alone(),
    ]
}

fn add_value(at: Option<&mut Value>, value: &str) -> Result<()> {
    at.and_then(Value::as_array_mut).context("an enum")?.push(json!(value));
    Ok(())
}

/// Installs the definitions with additions: `values` at `path` of the schema of `plural`, and
/// unknown fields where `open` allows them.
async fn install_newer(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in mail_failover_api::crds() {
        let name = crd.name_any();
        let mut newer = serde_json::to_value(&crd)?;
        let spec = newer
            .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties")
            .context("a schema has properties")?;
        match crd.spec.names.kind.as_str() {
            "MailRoute" => add_value(spec.pointer_mut("/strategy/enum"), "Telepathy")?,
            "FailoverPolicy" => add_value(spec.pointer_mut("/failback/properties/mode/enum"), "Oracle")?,
            "SendingBackend" => {
                add_value(spec.pointer_mut("/smtp/properties/tls/properties/mode/enum"), "Quantum")?;
                spec["weight"] = json!({ "type": "integer" });
            }
            other => bail!("no newer version of {other}"),
        }
        api.patch(&name, &PatchParams::apply("mail-failover-e2e").force(), &Patch::Apply(&newer)).await?;
    }
    Ok(())
}

/// Changes an object once the API server knows the newer schema.
async fn set(env: &TestEnv, kind: &str, name: &str, spec: Value) -> Result<()> {
    let api = untyped(env, kind)?;
    let patch = json!({ "spec": spec });
    eventually(WAIT_TIMEOUT, &format!("{kind} {name} to take {patch}"), async || {
        let changed = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        // The old schema prunes unknown fields.
        let kept =
            spec.as_object().into_iter().flatten().all(|(key, value)| {
                value.is_null() || changed.data.get("spec").and_then(|spec| spec.get(key)).is_some()
            });
        Ok(kept.then_some(()))
    })
    .await
}

fn find<'a>(object: &'a DynamicObject, type_: &str) -> Option<&'a Value> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == type_)
}

/// Waits until an object reports that it cannot be read, and names the field.
async fn wait_stalled(env: &TestEnv, kind: &str, name: &str, field: &str) -> Result<()> {
    let api = untyped(env, kind)?;
    eventually(WAIT_TIMEOUT, &format!("{kind} {name} to say that {field} cannot be read"), async || {
        let object = api.get(name).await?;
        let stalled = find(&object, "Stalled").with_context(|| format!("{:?}", object.data["status"]))?;
        ensure!(stalled["status"] == "True" && stalled["reason"] == "Unreadable", "{stalled}");
        let message = stalled["message"].as_str().unwrap_or_default();
        ensure!(message.contains(field) && message.contains("upgrade the operator"), "{message}");
        let ready = find(&object, "Ready").context("no Ready")?;
        ensure!(ready["status"] == "False", "{ready}");
        ensure!(object.data["status"]["observedGeneration"] == json!(object.metadata.generation), "{:?}", object.data);
        Ok(Some(()))
    })
    .await
}

async fn wait_readable(env: &TestEnv, kind: &str, name: &str) -> Result<()> {
    let api = untyped(env, kind)?;
    eventually(WAIT_TIMEOUT, &format!("{kind} {name} to be readable again"), async || {
        let object = api.get(name).await?;
        ensure!(find(&object, "Stalled").is_none(), "{:?}", object.data["status"]);
        Ok(Some(()))
    })
    .await
}

async fn newer(env: Arc<TestEnv>) -> Result<()> {
    install_newer(&env.client()).await?;
    let result = with_newer_schema(&env).await;
    // Later trials need the present schema.
    install_crds(&env.client()).await?;
    result
}

async fn with_newer_schema(env: &Arc<TestEnv>) -> Result<()> {
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    env.apply(&route("other", &["primary", "standby"], "other")).await?;
    // Unreadable from the start on, which does not prevent the start.
    let outputs = json!([{ "configMap": { "name": "born", "format": "Env" } }]);
    let born = json!({ "strategy": "Telepathy", "backends": [{ "name": "primary" }], "outputs": outputs });
    eventually(WAIT_TIMEOUT, "the newer schema to be in force", async || {
        env.apply(&manifest("MailRoute", "born", &born)).await.map(Some)
    })
    .await?;
    let operator = fixture.start_operator("a").await?;
    wait_stalled(env, "MailRoute", "born", "spec.strategy: unknown variant `Telepathy`").await?;
    wait_event(env, "born", "ConfigurationRejected").await?;

    // A route that turns unreadable while it is failed over stays there, whatever its backends do.
    let (primary, standby) = (fixture.primary.address().ip().to_string(), fixture.standby.address().ip().to_string());
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    wait_active(env, "other", "standby").await?;
    set(env, "MailRoute", "orders", json!({ "strategy": "Telepathy" })).await?;
    wait_stalled(env, "MailRoute", "orders", "spec.strategy: unknown variant `Telepathy`").await?;
    fixture.primary.repair().await?;
    wait_active(env, "other", "primary").await?;
    wait_leads_to(env, "other", std::slice::from_ref(&primary)).await?;
    ensure!(leads_to(env, "mail").await? == std::slice::from_ref(&standby), "an unreadable route moved");
    set(env, "MailRoute", "orders", json!({ "strategy": null })).await?;
    fixture.wait_active("primary").await?;
    wait_readable(env, "MailRoute", "orders").await?;

    // A backend that turns unreadable is still probed by its last good spec; its failure moves every route.
    for (spec, repaired, field) in [
        (
            json!({ "smtp": { "tls": { "mode": "Quantum" } } }),
            json!({ "smtp": { "tls": null } }),
            "spec.smtp.tls.mode: unknown variant `Quantum`",
        ),
        (json!({ "weight": 3 }), json!({ "weight": null }), "spec.weight: unknown field `weight`"),
    ] {
        set(env, "SendingBackend", "primary", spec).await?;
        wait_stalled(env, "SendingBackend", "primary", field).await?;
        let probed = fixture.primary.counters().connections;
        eventually(WAIT_TIMEOUT, "the unreadable backend to be probed", async || {
            Ok((fixture.primary.counters().connections > probed + 3).then_some(()))
        })
        .await?;
        ensure!(leads_to(env, "mail").await? == std::slice::from_ref(&primary));
        fixture.primary.crash().await?;
        fixture.wait_active("standby").await?;
        wait_active(env, "other", "standby").await?;
        fixture.primary.repair().await?;
        fixture.wait_active("primary").await?;
        set(env, "SendingBackend", "primary", repaired).await?;
        wait_readable(env, "SendingBackend", "primary").await?;
    }

    // A policy that turns unreadable: the routes report it, and use the last good one.
    set(env, "FailoverPolicy", "fast", json!({ "failback": { "mode": "Oracle" } })).await?;
    wait_stalled(env, "FailoverPolicy", "fast", "spec.failback.mode: unknown variant `Oracle`").await?;
    wait_condition(env, "orders", "Ready", "False", "PolicyRejected").await?;
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    fixture.primary.repair().await?;
    fixture.wait_active("primary").await?;
    set(env, "FailoverPolicy", "fast", json!({ "failback": { "mode": "Automatic" } })).await?;
    wait_readable(env, "FailoverPolicy", "fast").await?;
    wait_condition(env, "orders", "Ready", "True", "Delivering").await?;

    // New objects are noticed, and no Event was published twice.
    env.apply(&backend("fresh", fixture.standby.address(), &PolicyTimings::default())).await?;
    mail_failover_e2e::assertions::wait_backend_condition(env, "fresh", "Ready", "True", "Observed").await?;
    ensure!(notes(env, "born", "ConfigurationRejected").await?.len() == 1);
    ensure!(operator.ended().is_none());

    // A new operator finds the same state, and publishes no second Event.
    operator.terminate(Duration::from_secs(10)).await?;
    let _second = fixture.start_operator("b").await?;
    wait_stalled(env, "MailRoute", "born", "Telepathy").await?;
    let events = notes(env, "born", "ConfigurationRejected").await?;
    ensure!(events.len() == 1, "{events:?}");
    Ok(())
}
