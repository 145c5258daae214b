//! Least privilege, both ways: all that the operator asks for in its whole life is granted, and all that is granted is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Resource, ResourceExt};
use mail_failover_e2e::apply::{Mode, apply};
use mail_failover_e2e::control_plane::{Right, granted};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::helm::{objects, repository};
use mail_failover_e2e::scene::{PATIENCE, Scene, Tempo};
use mail_failover_e2e::service_account;
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::views::{api, change, wait_gone, wait_object};
use mail_failover_operator::agent::document::{Document, KEY};
use mail_failover_operator::agent::reporter::{self, HEARTBEAT, ReportState, Reporter, Settings};
use mail_failover_operator::api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_operator::clock::Clock;
use mail_failover_operator::rbac::{OWN_NAMESPACE, REPORTS, WATCHED};
use mail_failover_operator::reports::message::AUDIENCE;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::shop::start_as;

/// As `config/install.yaml` has it.
const OPERATOR: (&str, &str) = ("mail-failover", "mail-failover-operator");
const AGENT: &str = "postfix";
const TAKES_REPORTS: [&str; 4] = ["--report-listen-address", "127.0.0.1:0", "--report-advertise-address", "127.0.0.1"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "with the rights of the plain manifests the operator is refused nothing in its whole life, and it uses every one of them",
            whole_life,
        )
        .needs_control()
        .listens()
        .alone(),
    ]
}

async fn whole_life(stage: Arc<Stage>) -> Result<()> {
    let manifests = objects(&std::fs::read_to_string(repository("config/install.yaml"))?)?;
    apply(&stage.client(), &manifests, Mode::Keep).await?;
    let scene = Scene::set(stage.clone(), &Tempo::with_failback()).await?;
    let authority = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "authority" }, "data": { "ca.crt": "" } });
    stage.apply(&authority.to_string()).await?;
    let tls = json!({ "mode": "StartTLS", "caRef": { "configMap": "authority" } });
    let relay = json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "metadata": { "name": "relay" },
        "spec": { "smtp": { "host": "192.0.2.9", "port": 25, "tls": tls } } });
    stage.apply(&relay.to_string()).await?;
    service_account::make(&stage, stage.namespace(), AGENT).await?;
    let outputs = json!([
        { "service": { "name": "mail", "ports": [{ "name": "smtp", "port": 25 }] } },
        { "configMap": { "name": "mail", "format": "Env" } },
        { "agent": { "configMap": "orders-agent", "serviceAccountName": AGENT } },
    ]);
    let routed = json!({ "spec": { "outputs": outputs, "backends": [{ "name": "primary" }, { "name": "standby" }, { "name": "relay" }] } });
    change::<MailRoute>(&stage, "orders", &routed).await?;

    let one = start_as(&stage, OPERATOR, "one", &TAKES_REPORTS).await?;
    one.wait_ready(PATIENCE).await?;
    let two = start_as(&stage, OPERATOR, "two", &TAKES_REPORTS).await?;
    two.wait_ready(PATIENCE).await?;
    scene.wait_active("primary").await?;
    scene.primary.crash().await?;
    scene.wait_active("standby").await?;
    scene.primary.repair().await?;
    scene.wait_active("primary").await?;
    report(&stage).await?;

    // What is rare: a write that somebody else's overtakes, after which the object is read afresh.
    let label = |number: u32| json!({ "metadata": { "labels": { "number": number.to_string() } } });
    let specification =
        |number: u32, spec: Value| if number.is_multiple_of(4) { json!({ "spec": spec }) } else { label(number) };
    overtake::<SendingBackend>(&stage, "standby", "mailfailover.io", "sendingbackends", |number| {
        specification(number, json!({ "location": { "region": format!("r{number}") } }))
    })
    .await?;
    overtake::<FailoverPolicy>(&stage, "fast", "mailfailover.io", "failoverpolicies", |number| {
        specification(number, json!({ "recovery": { "consecutive": 3 + number / 4 % 2 } }))
    })
    .await?;
    let drift = |number: u32| json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": format!("somebody-{number}") } } });
    overtake::<Service>(&stage, "mail", "", "services", drift).await?;
    let slices = api::<EndpointSlice>(&stage).list(&ListParams::default()).await?.items;
    let slice = slices.first().context("a slice")?.name_any();
    overtake::<EndpointSlice>(&stage, &slice, "discovery.k8s.io", "endpointslices", drift).await?;

    change::<MailRoute>(
        &stage,
        "orders",
        &json!({ "spec": { "outputs": [{ "configMap": { "name": "other", "format": "Env" } }] } }),
    )
    .await?;
    wait_object(&stage, "other", "to be written", |_: &ConfigMap| true).await?;
    wait_gone::<Service>(&stage, "mail").await?;
    wait_gone::<EndpointSlice>(&stage, &slice).await?;
    wait_gone::<ConfigMap>(&stage, "orders-agent").await?;

    // One dies and is swept away; the other ends as it should.
    two.kill();
    wait_used(&stage, "delete", "coordination.k8s.io", "leases").await?;
    one.terminate(Duration::from_secs(10)).await?;
    compare(&stage)
}

/// An agent tells the operator who it is.
async fn report(stage: &Stage) -> Result<()> {
    let document = eventually(PATIENCE, "both replicas in the agent's document", async || {
        let config_map = api::<ConfigMap>(stage).get("orders-agent").await?;
        let document: Document = serde_json::from_str(&config_map.data.context("data")?[KEY])?;
        Ok((document.operators.len() == 2).then_some(document))
    })
    .await?;
    let token_file = stage.folder().join("agent.token");
    std::fs::write(&token_file, service_account::token(stage, stage.namespace(), AGENT, AUDIENCE).await?)?;
    let settings = Settings { agent: "postfix-0".to_owned(), token_file: Some(token_file), heartbeat: HEARTBEAT };
    let end = CancellationToken::new();
    let _ends = end.clone().drop_guard();
    let metrics = reporter::Metrics::new(&mut Registry::default());
    let (reporter, _task) = Reporter::start(settings, Clock::system(), metrics, end);
    let Document { route, operators, .. } = document;
    reporter.publish(ReportState { route, operators, backends: BTreeMap::new(), last_switch: None });
    wait_used(stage, "create", "authentication.k8s.io", "tokenreviews").await
}

/// What the operator has asked for until now.
fn used(stage: &Stage) -> Result<BTreeSet<Right>> {
    let calls = stage.control()?.calls_of(&service_account::user(OPERATOR.0, OPERATOR.1))?;
    Ok(calls.into_iter().map(|call| call.right).collect())
}

fn right(verb: &str, api_group: &str, resource: &str) -> Right {
    Right { api_group: api_group.to_owned(), resource: resource.to_owned(), verb: verb.to_owned() }
}

async fn wait_used(stage: &Stage, verb: &str, api_group: &str, resource: &str) -> Result<()> {
    let right = right(verb, api_group, resource);
    eventually(PATIENCE, &format!("the operator to {right}"), async || Ok(used(stage)?.contains(&right).then_some(())))
        .await
}

/// Changes an object over and over until the operator reads it afresh, because a write of its own came too late.
async fn overtake<K>(
    stage: &Stage,
    name: &str,
    api_group: &str,
    resource: &str,
    patch: impl Fn(u32) -> Value,
) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let (begun, right) = (Instant::now(), right("get", api_group, resource));
    for number in 0.. {
        change::<K>(stage, name, &patch(number)).await?;
        if number % 50 == 0 && used(stage)?.contains(&right) {
            eprintln!("{right}: after {number} changes, {:?}", begun.elapsed());
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            bail!("{number} changes of {resource} {name} have overtaken no write of the operator");
        }
    }
    Ok(())
}

fn compare(stage: &Stage) -> Result<()> {
    let calls = stage.control()?.calls_of(&service_account::user(OPERATOR.0, OPERATOR.1))?;
    let refused: BTreeSet<_> =
        calls.iter().filter(|call| !call.is_allowed).map(|call| format!("{} ({})", call.right, call.uri)).collect();
    ensure!(refused.is_empty(), "src/rbac.rs lacks what the operator asks for: {refused:#?}");
    let granted = granted([WATCHED, OWN_NAMESPACE, REPORTS].into_iter().flatten());
    let used: BTreeSet<_> = calls.iter().map(|call| call.right.clone()).collect();
    let idle: Vec<_> = granted.difference(&used).map(ToString::to_string).collect();
    ensure!(idle.is_empty(), "src/rbac.rs grants what the operator never asks for: {idle:#?}");
    let others: Vec<_> = used.difference(&granted).map(ToString::to_string).collect();
    ensure!(others.is_empty(), "somebody else than src/rbac.rs grants {others:#?}");
    for call in &calls {
        let expected =
            if call.right.resource == "leases" { call.namespace == OPERATOR.0 } else { call.namespace != OPERATOR.0 };
        ensure!(expected, "{call:?}");
    }
    Ok(())
}
