//! Times of the operator's pods: from a pod's creation until it is ready, beside one that does
//! nothing; and until another replica leads when the leader's pod is killed, or told to end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use mail_failover_e2e::in_cluster::installation::{NAMESPACE, RELEASE, ensure_installed};
use mail_failover_e2e::in_cluster::shop::{WAIT_TIMEOUT, process_with_variable};
use mail_failover_e2e::mail::statistics::{Align, Summary, Table, human};
use mail_failover_e2e::node::images::TOOLBOX;
use mail_failover_e2e::test_env::TestEnv;
use rustix::process::{Signal, kill_process};
use serde_json::json;
use tokio::time::sleep;

use super::rounds;

const LOOK: Duration = Duration::from_millis(10);

pub async fn measure(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let mut table =
        Table::new(&[("WHAT", Align::Left), ("TIMES", Align::Right), ("P50", Align::Right), ("LONGEST", Align::Right)]);
    let client = env.client();
    table.row(row(
        "a pod of the operator, created to ready",
        starts(&client, NAMESPACE, RELEASE, 2, rounds(10, 3)).await?,
    )?);
    let idle = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "idle" }, "spec": {
        "replicas": 0, "selector": { "matchLabels": { "app": "idle" } }, "template": { "metadata": { "labels": { "app": "idle" } },
            "spec": { "terminationGracePeriodSeconds": 1, "containers": [{ "name": "idle", "image": TOOLBOX, "imagePullPolicy": "Never" }] } } } });
    env.apply(&idle.to_string()).await?;
    table.row(row(
        "a pod that does nothing and has no probe",
        starts(&client, env.namespace(), "idle", 0, rounds(10, 3)).await?,
    )?);
    table
        .row(row("another leads after the leader is killed", successions(&client, End::Killed, rounds(10, 1)).await?)?);
    table.row(row(
        "another leads after the leader's pod is deleted",
        successions(&client, End::Deleted, rounds(10, 2)).await?,
    )?);
    println!(
        "\nA killed leader's Lease runs out first: after 15 s by default, as that of every controller of Kubernetes itself; probes and agents \
         go on meanwhile\n\n{table}"
    );
    Ok(())
}

fn row(what: &str, times: Vec<Duration>) -> Result<[String; 4]> {
    let summary = Summary::of(times).context("a time")?;
    Ok([what.to_owned(), summary.count.to_string(), human(summary.p50), human(summary.max)])
}

/// Scales up by one, waits until all are ready, and scales back.
async fn starts(client: &Client, namespace: &str, name: &str, usual: i32, count: usize) -> Result<Vec<Duration>> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        scale(&api, name, usual + 1).await?;
        times.push(begun.elapsed());
        scale(&api, name, usual).await?;
        // Until its pod is gone.
        sleep(Duration::from_secs(2)).await;
    }
    Ok(times)
}

async fn scale(api: &Api<Deployment>, name: &str, replicas: i32) -> Result<()> {
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let generation = api.patch(name, &PatchParams::default(), &patch).await?.metadata.generation;
    let begun = Instant::now();
    loop {
        let status = api.get(name).await?.status.unwrap_or_default();
        let counts = (status.observed_generation >= generation, status.ready_replicas.unwrap_or(0));
        if counts == (true, replicas) && status.replicas.unwrap_or(0) == replicas {
            return Ok(());
        }
        if begun.elapsed() > WAIT_TIMEOUT {
            bail!("{name} has {} ready pods of {replicas}", counts.1);
        }
        sleep(LOOK).await;
    }
}

/// The way in which the leader ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Without notice and for good, as with its node: the process is stopped, and its pod deleted
    /// by force.
    Killed,
    /// With notice, as in every update: it is told to end, and gives the Lease back.
    Deleted,
}

/// Ends the leader, and waits until another holds the Lease.
async fn successions(client: &Client, end: End, count: usize) -> Result<Vec<Duration>> {
    let (leases, pods): (Api<Lease>, Api<Pod>) =
        (Api::namespaced(client.clone(), NAMESPACE), Api::namespaced(client.clone(), NAMESPACE));
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let mut times = Vec::new();
    for _ in 0..count {
        scale(&deployments, RELEASE, 2).await?;
        let holder = holder(&leases).await?.context("no replica leads")?;
        let all = pods.list(&ListParams::default()).await?.items;
        let leader = all.iter().find(|pod| holder.contains(&pod.name_any())).context("the leader's pod")?.name_any();
        let begun = Instant::now();
        if end == End::Killed {
            kill_process(process_with_variable(&format!("HOSTNAME={leader}"))?, Signal::STOP)?;
        }
        let grace = if end == End::Killed { 0 } else { 30 };
        pods.delete(&leader, &DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() }).await?;
        while self::holder(&leases).await?.is_none_or(|now| now == holder || now.is_empty()) {
            if begun.elapsed() > WAIT_TIMEOUT {
                bail!("{holder} still holds the Lease");
            }
            sleep(LOOK).await;
        }
        times.push(begun.elapsed());
        sleep(Duration::from_secs(3)).await;
    }
    Ok(times)
}

async fn holder(leases: &Api<Lease>) -> Result<Option<String>> {
    let lease = leases.get(RELEASE).await.context("the operator's Lease")?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity))
}
