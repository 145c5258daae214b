//! Short helpers by which trials change and check objects of the cluster.

use std::fmt::Debug;

use anyhow::{Context, Result, bail};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use mail_failover_api::{FailoverPolicy, GROUP, MailRoute, MailRouteStatus, SendingBackend, VERSION};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::eventually::eventually;
use crate::fixture::{QUICK_LEASE, WAIT_TIMEOUT, backend_status, condition, route_status};
use crate::operator::Operator;
use crate::test_env::TestEnv;

/// The API of a kind in the trial's namespace.
pub fn api<K>(env: &TestEnv) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(env.client(), env.namespace())
}

/// The API of one of the operator's kinds, for objects of any content.
///
/// # Errors
/// When it is none of ours.
pub fn untyped(env: &TestEnv, kind: &str) -> Result<Api<DynamicObject>> {
    let resource = match kind {
        "SendingBackend" => ApiResource::erase::<SendingBackend>(&()),
        "FailoverPolicy" => ApiResource::erase::<FailoverPolicy>(&()),
        "MailRoute" => ApiResource::erase::<MailRoute>(&()),
        _ => bail!("{kind} is none of our kinds"),
    };
    Ok(Api::namespaced_with(env.client(), env.namespace(), &resource))
}

/// A manifest of one of the operator's kinds.
pub fn manifest(kind: &str, name: &str, spec: &Value) -> String {
    // JSON is YAML.
    let object =
        json!({ "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "metadata": { "name": name }, "spec": spec });
    format!("---\n{object}\n")
}

/// Starts an operator of this namespace that takes over quickly, with further arguments, and waits until it is ready.
///
/// # Errors
/// When that does not happen.
pub async fn start_operator(env: &TestEnv, arguments: &[&str]) -> Result<Operator> {
    let operator = env.start_own_operator("a", &[&QUICK_LEASE, arguments].concat()).await?;
    operator.wait_ready(WAIT_TIMEOUT).await?;
    Ok(operator)
}

/// Changes an object as somebody else would: a JSON merge patch.
///
/// # Errors
/// When the API server refuses it.
pub async fn change<K>(env: &TestEnv, name: &str, patch: &Value) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let params = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
    let changed = api::<K>(env).patch(name, &params, &Patch::Merge(patch)).await;
    changed.with_context(|| format!("changing {} {name}: {patch}", K::kind(&())))
}

/// Waits until an object satisfies `accept`, and returns it.
///
/// # Errors
/// When that does not happen.
pub async fn wait_object<K>(env: &TestEnv, name: &str, what: &str, accept: impl Fn(&K) -> bool) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api = api::<K>(env);
    eventually(WAIT_TIMEOUT * 2, &format!("{} {name} {what}", K::kind(&())), async || {
        let object = api.get_opt(name).await?.context("it does not exist")?;
        if accept(&object) { Ok(Some(object)) } else { bail!("{object:?}") }
    })
    .await
}

/// Waits until an object is gone.
///
/// # Errors
/// When that does not happen.
pub async fn wait_gone<K>(env: &TestEnv, name: &str) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api = api::<K>(env);
    eventually(WAIT_TIMEOUT, &format!("{} {name} to be gone", K::kind(&())), async || {
        Ok(api.get_opt(name).await?.is_none().then_some(()))
    })
    .await
}

/// Waits until the slices of a Service lead to these addresses, in any order.
///
/// # Errors
/// When that does not happen.
pub async fn wait_leads_to(env: &TestEnv, service: &str, expected: &[String]) -> Result<()> {
    let mut expected = expected.to_vec();
    expected.sort();
    eventually(WAIT_TIMEOUT, &format!("{service} to lead to {expected:?}"), async || {
        let seen = crate::fixture::leads_to(env, service).await?;
        if seen == expected { Ok(Some(())) } else { bail!("{seen:?}") }
    })
    .await
}

/// Waits until the status of a route satisfies a condition.
///
/// # Errors
/// When that does not happen.
pub async fn wait_route(
    env: &TestEnv,
    name: &str,
    what: &str,
    accept: impl Fn(&MailRouteStatus) -> bool,
) -> Result<MailRouteStatus> {
    eventually(WAIT_TIMEOUT * 2, &format!("MailRoute {name} {what}"), async || {
        let status = route_status(env, name).await?;
        if accept(&status) { Ok(Some(status)) } else { bail!("{status:?}") }
    })
    .await
}

/// Waits until a condition of a route has this status and reason, and returns its message.
///
/// # Errors
/// When that does not happen.
pub async fn wait_condition(env: &TestEnv, route: &str, type_: &str, status: &str, reason: &str) -> Result<String> {
    let expected = (status.to_owned(), reason.to_owned());
    let found = wait_route(env, route, &format!("to have {type_}={status} ({reason})"), |status| {
        condition(status, type_) == expected
    })
    .await?;
    let condition = found.conditions.into_iter().find(|condition| condition.type_ == type_);
    Ok(condition.map(|condition| condition.message).unwrap_or_default())
}

/// Waits until a backend's condition has this status and reason, and returns its message.
///
/// # Errors
/// When that does not happen.
pub async fn wait_backend_condition(
    env: &TestEnv,
    name: &str,
    type_: &str,
    status: &str,
    reason: &str,
) -> Result<String> {
    eventually(WAIT_TIMEOUT * 2, &format!("SendingBackend {name} to have {type_}={status} ({reason})"), async || {
        let conditions = backend_status(env, name).await?.conditions;
        let found = conditions.iter().find(|found| found.type_ == type_);
        match found {
            Some(found) if found.status == status && found.reason == reason => Ok(Some(found.message.clone())),
            Some(_) | None => bail!("{conditions:?}"),
        }
    })
    .await
}

/// Name and note of every Event about an object with this reason.
///
/// # Errors
/// When the API server does not answer.
pub async fn notes(env: &TestEnv, name: &str, reason: &str) -> Result<Vec<(String, String)>> {
    let events = api::<Event>(env).list(&ListParams::default()).await?.items;
    let about = events.into_iter().filter(|event| {
        event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
            && event.reason.as_deref() == Some(reason)
    });
    Ok(about.map(|event| (event.name_any(), event.note.unwrap_or_default())).collect())
}

/// Waits for an Event about an object with this reason.
///
/// # Errors
/// When there is none.
pub async fn wait_event(env: &TestEnv, name: &str, reason: &str) -> Result<String> {
    eventually(WAIT_TIMEOUT, &format!("an Event {reason} about {name}"), async || {
        Ok(notes(env, name, reason).await?.into_iter().next().map(|(_, note)| note))
    })
    .await
}

/// Creates a Service without selector and its one `EndpointSlice`, as a controller would keep it.
///
/// # Errors
/// When the API server refuses one.
pub async fn set_endpoints(env: &TestEnv, service: &str, port: u16, endpoints: &[(String, bool)]) -> Result<()> {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(address, ready)| json!({ "addresses": [address], "conditions": { "ready": ready } }))
        .collect();
    let ports = json!([{ "name": "smtp", "port": port, "protocol": "TCP" }]);
    let service_object: Service = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": service }, "spec": { "ports": ports },
    }))?;
    let slice: EndpointSlice = serde_json::from_value(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": format!("{service}-by-hand"), "labels": { "kubernetes.io/service-name": service } },
        "ports": ports, "endpoints": endpoints,
    }))?;
    let params = PatchParams::apply("somebody").force();
    api::<Service>(env).patch(service, &params, &Patch::Apply(&service_object)).await?;
    api::<EndpointSlice>(env).patch(&slice.name_any(), &params, &Patch::Apply(&slice)).await?;
    Ok(())
}

/// The data of a `ConfigMap`; empty if it does not exist.
///
/// # Errors
/// When the API server does not answer.
pub async fn data(env: &TestEnv, name: &str) -> Result<std::collections::BTreeMap<String, String>> {
    Ok(api::<ConfigMap>(env).get_opt(name).await?.and_then(|map| map.data).unwrap_or_default())
}

/// The sum of the operator's metrics with this name whose labels satisfy `accept`.
pub fn metric_sum(metrics: &str, name: &str, accept: impl Fn(&str) -> bool) -> f64 {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    lines.filter(|(labels, _)| accept(labels)).filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}
