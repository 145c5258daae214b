//! Trials of a probe that runs as a Job and sees what probes in the operator do not: with real
//! pods, in a namespace that accepts restricted pods only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use mail_failover_api::{Health, MailRouteStatus, SendingBackend, SendingBackendStatus};
use mail_failover_e2e::assertions::{api, change};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{backend_status, condition, route_status, wait_health};
use mail_failover_e2e::helm::CHART;
use mail_failover_e2e::in_cluster::images::SMTP;
use mail_failover_e2e::in_cluster::installation::{NAMESPACE, RELEASE, ensure_installed, helm};
use mail_failover_e2e::in_cluster::shop::{LOGIN, PASSWORD, USER};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

/// A time limit for two rounds of a Job on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_mins(3);
const PROBE: &str = "zone-b";
/// The shortest interval that is allowed.
const INTERVAL: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a probe's Job in a restricted namespace sees a failure that the operator does not, and both replicas vote by it",
            sees_more,
        )
        .needs_own_node(),
    ]
}

async fn sees_more(env: Arc<TestEnv>) -> Result<()> {
    ensure_installed(&env).await?;
    let upgrade = ["upgrade", RELEASE, CHART];
    helm(&env, &upgrade, &["probeJobs.enabled=true"]).await?;
    let result = run_scenario(&env).await;
    // Restores the operator of the other trials, which has no rights on Jobs.
    helm(&env, &upgrade, &["probeJobs.enabled=false"]).await?;
    result
}

async fn run_scenario(env: &TestEnv) -> Result<()> {
    env.node()?.enforce_network_policies().await?;
    open(env).await?;
    wait_active(env, "a").await?;
    wait_probe(env, "a", PROBE, Health::Healthy, "Ok").await?;
    check_pod(env).await?;
    tokio::try_join!(check_removed_in_time(env), check_deadline(env))?;

    // A policy for pods with this probe's label only: they reach name servers, and nothing else.
    let policy = json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "zone-b" }, "spec": {
        "podSelector": { "matchLabels": { "mailfailover.io/probe": PROBE, "mailfailover.io/sending-backend": "a" } },
        "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } } }] }] } });
    env.apply(&policy.to_string()).await?;
    let status = wait_active(env, "b").await?;
    ensure!(condition(&status, "FailedOver").1 == "NoAnswer", "{status:?}");
    let last = status.last_transition.context("a transition")?;
    ensure!(last.reason == "NoAnswer", "{last:?}");
    let seen = wait_probe(env, "a", PROBE, Health::Unhealthy, "NoAnswer").await?;
    ensure!(probe(&seen, "smtp") == Some((Health::Healthy, "Ok".to_owned())), "{:?}", seen.probes);
    // Written after the decision, once it contains the other replica's verdict.
    wait_health(env, "a", Health::Unhealthy, "NoAnswer").await?;
    // Thresholds count rounds of Jobs as well: two, and the second came an interval after the first.
    let first = last.first_evidence_at.context("evidence")?.0;
    let took = last.decided_at.0.duration_since(first).unsigned_abs();
    eprintln!("decided {took:.1?} after the first Job began that failed");
    ensure!(took >= INTERVAL * 9 / 10, "{took:?}");
    check_both_vote(env).await?;

    env.kubectl(&["delete", "networkpolicy", "zone-b"]).await?;
    wait_probe(env, "a", PROBE, Health::Healthy, "Ok").await?;
    wait_active(env, "a").await?;
    check_collected(env).await
}

fn ours(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "mailfailover.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// The Service of a provider, with its login.
fn service(name: &str) -> Value {
    json!({ "name": name, "port": 2525, "auth": { "secretRef": { "name": "login" }, "allowPlaintext": true } })
}

/// A probe that runs as a Job.
fn there(name: &str, job: &Value) -> Value {
    json!({ "name": name, "interval": "30s", "timeout": "5s", "smtp": { "depth": "Auth" }, "job": job })
}

/// Creates two providers that demand a login, a route over them, and a backend whose Job fits on no
/// node.
async fn open(env: &TestEnv) -> Result<()> {
    env.kubectl(&["label", "namespace", env.namespace(), "pod-security.kubernetes.io/enforce=restricted"]).await?;
    let login = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "login" }, "type": "kubernetes.io/basic-auth",
        "stringData": { "username": USER, "password": PASSWORD } });
    let mut objects = vec![login];
    for name in ["a", "b"] {
        objects.extend(provider(name));
    }
    env.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()).await?;
    for name in ["a", "b"] {
        env.kubectl_for(WAIT_TIMEOUT, &["rollout", "status", &format!("deployment/{name}"), "--timeout=170s"]).await?;
    }
    let here = json!({ "name": "smtp", "interval": "1s", "timeout": "5s", "smtp": {} });
    let policy = json!({ "failure": { "consecutive": 2 }, "recovery": { "consecutive": 1 }, "failback": { "after": "1s" },
        "hold": { "cooldown": "0s", "minimumStay": "0s", "budget": { "switches": 10, "per": "1s" } } });
    let objects = [
        ours("FailoverPolicy", "fast", &policy),
        ours("SendingBackend", "a", &json!({ "service": service("a"), "probes": [here, there(PROBE, &json!({}))] })),
        ours("SendingBackend", "b", &json!({ "service": service("b"), "probes": [here] })),
        ours(
            "SendingBackend",
            "c",
            &json!({ "service": service("b"), "probes": [here, there("nowhere", &json!({ "nodeSelector": { "zone": "none" } }))] }),
        ),
        ours(
            "MailRoute",
            "orders",
            &json!({ "policyRef": { "name": "fast" }, "backends": [{ "name": "a" }, { "name": "b" }],
                "outputs": [{ "configMap": { "name": "orders", "format": "Env" } }] }),
        ),
    ];
    env.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()).await.map(drop)
}

/// A provider like the shop's, but restricted.
fn provider(name: &str) -> Vec<Value> {
    let labels = json!({ "provider": name });
    let arguments =
        ["serve", &format!("--name={name}"), "--record=/records/all.jsonl", &format!("--login-folder={LOGIN}")];
    let pod = json!({
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "securityContext": { "runAsNonRoot": true, "runAsUser": 10_000, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{
            "name": "smtp", "image": SMTP, "imagePullPolicy": "Never", "args": arguments,
            "readinessProbe": { "tcpSocket": { "port": 8025 }, "periodSeconds": 1 },
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            "volumeMounts": [{ "name": "records", "mountPath": "/records" }, { "name": "login", "mountPath": LOGIN }],
        }],
        "volumes": [{ "name": "records", "emptyDir": {} }, { "name": "login", "secret": { "secretName": "login" } }],
    });
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels }, "spec": pod } } });
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "clusterIP": "None", "selector": labels, "ports": [{ "name": "smtp", "port": 2525 }] } });
    vec![deployment, service]
}

async fn wait_active(env: &TestEnv, backend: &str) -> Result<MailRouteStatus> {
    eventually(WAIT_TIMEOUT, &format!("mail of orders to leave by {backend}"), async || {
        let status = route_status(env, "orders").await?;
        let there = status.active.first().is_some_and(|active| active.backend == backend)
            && condition(&status, "OutputsApplied").0 == "True";
        if !there {
            bail!("active: {:?}, conditions: {:?}", status.active, status.conditions);
        }
        Ok(Some(status))
    })
    .await
}

fn probe(status: &SendingBackendStatus, name: &str) -> Option<(Health, String)> {
    let found = status.probes.iter().find(|probe| probe.name == name);
    found.map(|probe| (probe.health, probe.reason.clone()))
}

async fn wait_probe(
    env: &TestEnv,
    backend: &str,
    name: &str,
    health: Health,
    reason: &str,
) -> Result<SendingBackendStatus> {
    eventually(WAIT_TIMEOUT, &format!("the probe {name} of {backend} to be {health:?}/{reason}"), async || {
        let status = backend_status(env, backend).await?;
        ensure!(probe(&status, name) == Some((health, reason.to_owned())), "{:?}", status.probes);
        Ok(Some(status))
    })
    .await
}

/// The Job of a probe. There is one at a time.
async fn job_of(env: &TestEnv, probe: &str) -> Result<Job> {
    let selector = ListParams::default().labels(&format!("mailfailover.io/probe={probe}"));
    let jobs = api::<Job>(env).list(&selector).await?.items;
    ensure!(jobs.len() <= 1, "{} Jobs of {probe} at a time", jobs.len());
    jobs.into_iter().next().with_context(|| format!("no Job of {probe}"))
}

/// The reason of a Job's condition, if it is True.
fn is(job: &Job, type_: &str) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")?;
    Some(found.reason.clone().unwrap_or_default())
}

/// Checks that a pod of a probe has no access to the cluster.
async fn check_pod(env: &TestEnv) -> Result<()> {
    let pod = eventually(WAIT_TIMEOUT, "a pod of the probe", async || {
        let selector = ListParams::default().labels(&format!("mailfailover.io/probe={PROBE}"));
        Ok(api::<Pod>(env).list(&selector).await?.items.into_iter().next())
    })
    .await?;
    let spec = pod.spec.context("a spec")?;
    let volumes: Vec<_> = spec.volumes.unwrap_or_default().into_iter().map(|volume| volume.name).collect();
    ensure!(volumes == ["login"] && spec.automount_service_account_token == Some(false), "{volumes:?}");
    // An admission that refuses nothing would prove nothing.
    let bare = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "bare" }, "spec": { "containers": [{ "name": "a", "image": SMTP }] } });
    let refused = env.apply(&bare.to_string()).await.expect_err("pods have to be restricted here");
    ensure!(format!("{refused:#}").contains("restricted"), "{refused:#}");
    let events = api::<Event>(env).list(&ListParams::default()).await?.items;
    let refused: Vec<_> = events.into_iter().filter(|event| event.reason.as_deref() == Some("FailedCreate")).collect();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

fn age(job: &Job) -> Result<Duration> {
    let created = job.metadata.creation_timestamp.as_ref().context("a time")?.0;
    Ok(SystemTime::now().duration_since(created.into()).unwrap_or_default())
}

/// Checks that Kubernetes removes a finished Job at its time, long before the next round, and that
/// the rounds continue.
async fn check_removed_in_time(env: &TestEnv) -> Result<()> {
    let job = eventually(WAIT_TIMEOUT, "a Job that has just finished", async || {
        let job = job_of(env, PROBE).await?;
        ensure!(is(&job, "Complete").is_some() && age(&job)? < INTERVAL / 2, "{:?}", job.status);
        Ok(Some(job))
    })
    .await?;
    let spec = job.spec.as_ref().context("a spec")?;
    ensure!(spec.ttl_seconds_after_finished == Some(3600), "{spec:?}");
    change::<Job>(env, &job.name_any(), &json!({ "spec": { "ttlSecondsAfterFinished": 0 } })).await?;
    let jobs = api::<Job>(env);
    eventually(INTERVAL / 3, "the Job to be removed", async || {
        let now = jobs.get_opt(&job.name_any()).await?;
        Ok(now.is_none_or(|now| now.uid() != job.uid()).then_some(()))
    })
    .await?;
    ensure!(age(&job)? < INTERVAL * 9 / 10, "the next round came first, after {:?}", age(&job)?);
    eventually(WAIT_TIMEOUT, "the next Job", async || {
        let next = job_of(env, PROBE).await?;
        Ok((next.uid() != job.uid() && is(&next, "Complete").is_some()).then_some(()))
    })
    .await
}

/// Checks that a Job whose pod never starts ends at its deadline, gives no evidence about the
/// backend, and makes room for the next.
async fn check_deadline(env: &TestEnv) -> Result<()> {
    let first =
        eventually(WAIT_TIMEOUT, "a Job that fits nowhere", async || job_of(env, "nowhere").await.map(Some)).await?;
    let deadline = first.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    ensure!(deadline == Some(96), "{deadline:?}");
    let status = wait_probe(env, "c", "nowhere", Health::Unknown, "ProbeBlocked").await?;
    let told = status.probes.iter().find(|probe| probe.name == "nowhere").and_then(|probe| probe.message.clone());
    let told = told.unwrap_or_default();
    ensure!(told.contains("DeadlineExceeded") || told.contains("Unschedulable"), "{told}");
    ensure!(status.health != Some(Health::Unhealthy), "{status:?}");
    eprintln!("a Job that fits nowhere: {told}");
    eventually(WAIT_TIMEOUT, "the next Job that fits nowhere", async || {
        Ok((job_of(env, "nowhere").await?.uid() != first.uid()).then_some(()))
    })
    .await
}

/// Checks that each replica tells the others that `a` is not healthy.
async fn check_both_vote(env: &TestEnv) -> Result<()> {
    let backend = format!("{}/a", env.namespace());
    let leases = Api::<Lease>::namespaced(env.client(), NAMESPACE);
    eventually(WAIT_TIMEOUT, "both replicas to say that a fails", async || {
        let observers = leases.list(&ListParams::default().labels("mailfailover.io/observer=true")).await?.items;
        let votes = observers.iter().filter(|lease| {
            let sightings = lease.annotations().get("mailfailover.io/sightings");
            let sightings: Value = sightings.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
            let verdicts = sightings["backends"][&backend].as_object();
            verdicts.is_some_and(|verdicts| verdicts.values().any(|verdict| verdict["health"] == "Unhealthy"))
        });
        let votes: BTreeSet<_> = votes.map(ResourceExt::name_any).collect();
        ensure!(votes.len() == 2, "{votes:?}");
        Ok(Some(()))
    })
    .await
}

/// Checks that a probe's Job, and the Job's pods, are deleted with the backend.
async fn check_collected(env: &TestEnv) -> Result<()> {
    env.kubectl(&["delete", "mailroute", "orders"]).await?;
    for name in ["a", "c"] {
        api::<SendingBackend>(env).delete(name, &DeleteParams::default()).await?;
    }
    eventually(WAIT_TIMEOUT, "all Jobs and their pods to be gone", async || {
        let jobs = api::<Job>(env).list(&ListParams::default()).await?.items;
        let pods = api::<Pod>(env).list(&ListParams::default().labels("mailfailover.io/probe")).await?.items;
        ensure!(jobs.is_empty() && pods.is_empty(), "{} Jobs, {} pods", jobs.len(), pods.len());
        Ok(Some(()))
    })
    .await
}
