//! Trials of least privilege, both ways: every request of the operator in its whole life is
//! granted, and every granted right is used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_contract::document::{Document, KEY};
use mail_failover_contract::report::AUDIENCE;
use mail_failover_core::model::ObjectKey;
use mail_failover_dataplane::reporter::{self, HEARTBEAT, ReportState, Reporter, Settings};
use mail_failover_e2e::apply::{Mode, apply};
use mail_failover_e2e::assertions::{api, change, wait_gone, wait_object};
use mail_failover_e2e::control_plane::{Right, granted};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{PolicyTimings, TwoBackendFixture, WAIT_TIMEOUT};
use mail_failover_e2e::helm::{objects, repository};
use mail_failover_e2e::service_account;
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use mail_failover_operator::probe_job::manifest;
use mail_failover_operator::rbac::{OWN_NAMESPACE, PROBE_JOBS, REPORTS, WATCHED};
use mail_failover_runtime::clock::Clock;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::shop::{plain_manifests, start_as};

/// Namespace and service account in `config/operator.yaml`.
const OPERATOR: (&str, &str) = ("mail-failover", "mail-failover-operator");
const AGENT: &str = "postfix";
/// Arguments of an operator that takes reports, and runs probes as Jobs. There is no node to run
/// their pods.
const ARGUMENTS: [&str; 6] = [
    "--report-listen-address",
    "127.0.0.1:0",
    "--report-advertise-address",
    "127.0.0.1",
    "--probe-image",
    "registry.example/mail-failover:test",
];

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

async fn whole_life(env: Arc<TestEnv>) -> Result<()> {
    let manifests = plain_manifests()?;
    apply(&env.client(), &manifests, Mode::Keep).await?;
    let rights = objects(&std::fs::read_to_string(repository("config/probe-jobs.yaml"))?)?;
    apply(&env.client(), &rights, Mode::Keep).await?;
    let fixture = TwoBackendFixture::create(env.clone(), &PolicyTimings::with_failback()).await?;
    let authority = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "authority" }, "data": { "ca.crt": "" } });
    env.apply(&authority.to_string()).await?;
    let tls = json!({ "mode": "StartTLS", "caRef": { "configMap": "authority" } });
    let relay = json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "metadata": { "name": "relay" },
        "spec": { "smtp": { "host": "192.0.2.9", "port": 25, "tls": tls } } });
    env.apply(&relay.to_string()).await?;
    let probes =
        json!([{ "name": "smtp", "smtp": {} }, { "name": "zone-b", "interval": "30s", "smtp": {}, "job": {} }]);
    let remote = json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "metadata": { "name": "remote" },
        "spec": { "smtp": { "host": "192.0.2.9", "port": 25 }, "probes": probes } });
    env.apply(&remote.to_string()).await?;
    let job = occupy_name_of_job(&env, "remote", "zone-b").await?;
    service_account::make(&env, env.namespace(), AGENT).await?;
    let outputs = json!([
        { "service": { "name": "mail", "ports": [{ "name": "smtp", "port": 25 }] } },
        { "configMap": { "name": "mail", "format": "Env" } },
        { "agent": { "configMap": "orders-agent", "serviceAccountName": AGENT } },
    ]);
    let routed = json!({ "spec": { "outputs": outputs, "backends": [{ "name": "primary" }, { "name": "standby" }, { "name": "relay" }, { "name": "remote" }] } });
    change::<MailRoute>(&env, "orders", &routed).await?;

    let one = start_as(&env, OPERATOR, "one", &ARGUMENTS).await?;
    one.wait_ready(WAIT_TIMEOUT).await?;
    let two = start_as(&env, OPERATOR, "two", &ARGUMENTS).await?;
    two.wait_ready(WAIT_TIMEOUT).await?;
    fixture.wait_active("primary").await?;
    wait_used(&env, "get", "batch", "jobs").await?;
    api::<Job>(&env).delete(&job, &DeleteParams::background()).await?;
    fixture.primary.crash().await?;
    fixture.wait_active("standby").await?;
    fixture.primary.repair().await?;
    fixture.wait_active("primary").await?;
    report(&env).await?;

    // A rare case: another manager's write comes first, and the operator reads the object again.
    overtake::<SendingBackend>(&env, "standby", "mailfailover.io", "sendingbackends", |number| {
        spec_or_label(number, &json!({ "location": { "region": format!("r{number}") } }))
    })
    .await?;
    overtake::<FailoverPolicy>(&env, "fast", "mailfailover.io", "failoverpolicies", |number| {
        spec_or_label(number, &json!({ "recovery": { "consecutive": 3 + number / 4 % 2 } }))
    })
    .await?;
    overtake::<Service>(&env, "mail", "", "services", drift).await?;
    let slices = api::<EndpointSlice>(&env).list(&ListParams::default()).await?.items;
    let slice = slices.first().context("a slice")?.name_any();
    overtake::<EndpointSlice>(&env, &slice, "discovery.k8s.io", "endpointslices", drift).await?;

    end_job(&env, &job).await?;
    wait_used(&env, "delete", "batch", "jobs").await?;

    change::<MailRoute>(
        &env,
        "orders",
        &json!({ "spec": { "outputs": [{ "configMap": { "name": "other", "format": "Env" } }] } }),
    )
    .await?;
    wait_object(&env, "other", "to be written", |_: &ConfigMap| true).await?;
    wait_gone::<Service>(&env, "mail").await?;
    wait_gone::<EndpointSlice>(&env, &slice).await?;
    wait_gone::<ConfigMap>(&env, "orders-agent").await?;

    // One replica is killed, and its Lease removed; the other ends in order.
    two.kill();
    wait_used(&env, "delete", "coordination.k8s.io", "leases").await?;
    one.terminate(Duration::from_secs(10)).await?;
    compare(&env)
}

/// A change of the spec every fourth time, and of a label otherwise.
fn spec_or_label(number: u32, spec: &Value) -> Value {
    if number.is_multiple_of(4) {
        json!({ "spec": spec })
    } else {
        json!({ "metadata": { "labels": { "number": number.to_string() } } })
    }
}

/// A change of an output that the operator undoes.
fn drift(number: u32) -> Value {
    json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": format!("somebody-{number}") } } })
}

/// Creates a Job of another owner under the name that the operator gives to that of a probe, and
/// returns the name.
async fn occupy_name_of_job(env: &TestEnv, backend: &str, probe: &str) -> Result<String> {
    let uid = api::<SendingBackend>(env).get(backend).await?.uid().context("a uid")?;
    let name = manifest::name(&uid, &ObjectKey::new(env.namespace(), backend), probe);
    let pod =
        json!({ "restartPolicy": "Never", "containers": [{ "name": "theirs", "image": "registry.example/theirs:1" }] });
    let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name }, "spec": { "template": { "spec": pod } } });
    env.apply(&job.to_string()).await?;
    Ok(name)
}

/// Waits for the operator's own Job and ends it as the Job controller, which does not run here,
/// would. The next one takes its place.
async fn end_job(env: &TestEnv, name: &str) -> Result<()> {
    wait_object(env, name, "to be the operator's", |job: &Job| {
        job.owner_references().iter().any(|owner| owner.kind == "SendingBackend")
    })
    .await?;
    let now = "2026-01-01T00:00:00Z";
    let conditions = ["FailureTarget", "Failed"]
        .map(|kind| json!({ "type": kind, "status": "True", "reason": "DeadlineExceeded", "lastTransitionTime": now }));
    let status = json!({ "status": { "startTime": now, "conditions": conditions } });
    api::<Job>(env).patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// Reports to the operator as an agent.
async fn report(env: &TestEnv) -> Result<()> {
    let document = eventually(WAIT_TIMEOUT, "both replicas in the agent's document", async || {
        let config_map = api::<ConfigMap>(env).get("orders-agent").await?;
        let document: Document = serde_json::from_str(&config_map.data.context("data")?[KEY])?;
        Ok((document.operators.len() == 2).then_some(document))
    })
    .await?;
    let token_file = env.folder().join("agent.token");
    std::fs::write(&token_file, service_account::token(env, env.namespace(), AGENT, AUDIENCE).await?)?;
    let settings = Settings {
        agent: "postfix-0".to_owned(),
        token_file: Some(token_file),
        heartbeat: HEARTBEAT,
        tells_accounts_apart: false,
    };
    let end = CancellationToken::new();
    let _ends = end.clone().drop_guard();
    let metrics = reporter::ReporterMetrics::new(&mut Registry::default());
    let (reporter, _task) = Reporter::start(settings, Clock::system(), metrics, end);
    let Document { route, operators, .. } = document;
    reporter.publish(ReportState {
        route,
        operators,
        backends: BTreeMap::new(),
        last_switch: None,
        kept: None,
        queue: None,
        drill: None,
    });
    wait_used(env, "create", "authentication.k8s.io", "tokenreviews").await
}

/// The operator's requests until now, as rights.
fn used(env: &TestEnv) -> Result<BTreeSet<Right>> {
    let calls = env.control()?.calls_of(&service_account::user(OPERATOR.0, OPERATOR.1))?;
    Ok(calls.into_iter().map(|call| call.right).collect())
}

fn right(verb: &str, api_group: &str, resource: &str) -> Right {
    Right { api_group: api_group.to_owned(), resource: resource.to_owned(), verb: verb.to_owned() }
}

async fn wait_used(env: &TestEnv, verb: &str, api_group: &str, resource: &str) -> Result<()> {
    let right = right(verb, api_group, resource);
    eventually(WAIT_TIMEOUT, &format!("the operator to {right}"), async || {
        Ok(used(env)?.contains(&right).then_some(()))
    })
    .await
}

/// Changes an object repeatedly until the operator reads it again, because a write of its own came
/// too late.
async fn overtake<K>(
    env: &TestEnv,
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
        change::<K>(env, name, &patch(number)).await?;
        if number % 50 == 0 && used(env)?.contains(&right) {
            eprintln!("{right}: after {number} changes, {:?}", begun.elapsed());
            return Ok(());
        }
        if begun.elapsed() > WAIT_TIMEOUT {
            bail!("{number} changes of {resource} {name} have overtaken no write of the operator");
        }
    }
    Ok(())
}

fn compare(env: &TestEnv) -> Result<()> {
    let calls = env.control()?.calls_of(&service_account::user(OPERATOR.0, OPERATOR.1))?;
    let refused: BTreeSet<_> =
        calls.iter().filter(|call| !call.is_allowed).map(|call| format!("{} ({})", call.right, call.uri)).collect();
    ensure!(refused.is_empty(), "src/rbac.rs lacks what the operator asks for: {refused:#?}");
    let granted = granted([WATCHED, PROBE_JOBS, OWN_NAMESPACE, REPORTS].into_iter().flatten());
    let used: BTreeSet<_> = calls.iter().map(|call| call.right.clone()).collect();
    let idle: Vec<_> = granted.difference(&used).map(ToString::to_string).collect();
    ensure!(idle.is_empty(), "src/rbac.rs grants what the operator never asks for: {idle:#?}");
    let others: Vec<_> = used.difference(&granted).map(ToString::to_string).collect();
    ensure!(others.is_empty(), "src/rbac.rs does not grant what the operator asks for: {others:#?}");
    for call in &calls {
        let expected =
            if call.right.resource == "leases" { call.namespace == OPERATOR.0 } else { call.namespace != OPERATOR.0 };
        ensure!(expected, "{call:?}");
    }
    Ok(())
}
