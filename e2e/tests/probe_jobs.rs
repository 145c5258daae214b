//! Trials of probes that run as Jobs, against a real API server with its Job controller, quota and
//! Pod Security admission.
//!
//! No kubelet runs here: a trial does its part, and nothing else, with the real `mail-failover
//! probe`. What only a real node can prove (that the image starts, that mounts and deadlines work)
//! is left to the suites that have one.

use std::net::SocketAddr;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use mail_failover_api::{Health, SendingBackend};
use mail_failover_e2e::assertions::{api, change, manifest, metric_sum, start_operator, wait_gone};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::fixture::{
    PolicyTimings, WAIT_TIMEOUT, backend, backend_status, condition, route, wait_active, wait_health,
};
use mail_failover_e2e::mail::server::{Logins, Options as Server, SmtpServer};
use mail_failover_e2e::operator::program;
use mail_failover_e2e::suite::{self, Options, trial};
use mail_failover_e2e::test_env::TestEnv;
use mail_failover_operator::probe_job::manifest::arguments_of;
use serde_json::{Value, json};
use tokio::process::Command;

const PASSWORD: &str = "correct-horse-battery";
const IMAGE: &str = "registry.example/mail-failover:test";

fn main() -> ExitCode {
    let options =
        Options { operator: true, controller_manager: true, deadline: Duration::from_mins(5), ..Options::default() };
    let trials = vec![
        trial("a Job sees what probes in process do not, and its word moves the mail", vantage_point).listens(),
        trial("a quota that refuses Jobs blocks their probe, which says so, and no other", quota).listens(),
    ];
    suite::run("probe_jobs", options, trials)
}

/// Creates a backend that the operator greets, and that a Job logs in to.
async fn set(env: &TestEnv) -> Result<(SmtpServer, SmtpServer)> {
    let logins = Logins::Only(vec![("shop".to_owned(), PASSWORD.to_owned())]);
    let primary = SmtpServer::start(Server::new("primary", SocketAddr::new(env.ipv4(), 25)).logins(logins)).await?;
    let standby = SmtpServer::start(Server::new("standby", SocketAddr::new(env.ipv4(), 25))).await?;
    let policy = json!({ "failure": { "consecutive": 3, "immediately": ["AuthenticationRefused"] }, "recovery": { "consecutive": 1 },
        "hold": { "cooldown": "0s", "minimumStay": "0s" }, "failback": { "after": "1s" } });
    let spec = json!({
        "smtp": { "host": primary.address().ip(), "port": 25, "auth": { "secretRef": { "name": "login" }, "allowPlaintext": true } },
        "probes": [{ "name": "smtp", "interval": "200ms", "timeout": "500ms", "smtp": {} },
            { "name": "zone-b", "interval": "30s", "timeout": "5s", "smtp": { "depth": "Auth" },
              "job": { "nodeSelector": { "zone": "b" }, "tolerations": [{ "key": "mail", "operator": "Exists" }] } }],
    });
    // The API server itself checks that the pods are restricted.
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    env.kubectl(&["label", "namespace", env.namespace(), enforce]).await?;
    let manifests = [
        manifest("FailoverPolicy", "fast", &policy),
        manifest("SendingBackend", "primary", &spec),
        backend("standby", standby.address(), &PolicyTimings::default()),
        route("orders", &["primary", "standby"], "mail"),
    ];
    env.apply(&manifests.concat()).await?;
    Ok((primary, standby))
}

/// Runs the next pod as a kubelet would, on this machine: the real program, the files of the
/// mounted Secret, and its termination message.
async fn run_next_pod(env: &TestEnv, password: &str) -> Result<Job> {
    let pods = api::<Pod>(env);
    let pod = eventually(WAIT_TIMEOUT, "a pod of a probe", async || {
        let of_probes = ListParams::default().labels("mailfailover.io/probe=zone-b");
        let pods = pods.list(&of_probes).await?.items;
        Ok(pods
            .into_iter()
            .find(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending")))
    })
    .await?;
    let owner = pod.owner_references().first().context("a Job owns it")?.name.clone();
    let job = api::<Job>(env).get(&owner).await?;
    let folder = env.folder().join(pod.name_any());
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("username"), "shop")?;
    std::fs::write(folder.join("password"), password)?;
    let last_words = folder.join("termination-log");
    let arguments = arguments_of(&job).context("its arguments")?.iter().map(|argument| {
        let argument = argument.replace("/var/run/mail-failover/login", &folder.display().to_string());
        argument.replace("/dev/termination-log", &last_words.display().to_string())
    });
    let run = Command::new(program()?).args(arguments).stdin(Stdio::null()).output().await?;
    ensure!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let message = std::fs::read_to_string(&last_words)?;
    ensure!(message.len() < 4096 && !message.contains(PASSWORD), "{message}");
    let now = created(&pod)?;
    let terminated =
        json!({ "exitCode": 0, "reason": "Completed", "message": message, "startedAt": now, "finishedAt": now });
    let status = json!({ "status": { "phase": "Succeeded", "containerStatuses": [{ "name": "probe", "image": IMAGE, "imageID": "",
        "ready": false, "restartCount": 0, "state": { "terminated": terminated } }] } });
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(job)
}

/// The time of the pod's creation, in place of its start.
fn created(pod: &Pod) -> Result<Value> {
    Ok(serde_json::to_value(pod.metadata.creation_timestamp.as_ref().context("a time")?)?)
}

async fn vantage_point(env: Arc<TestEnv>) -> Result<()> {
    let (primary, _standby) = set(&env).await?;
    let operator = start_operator(&env, &["--probe-image", IMAGE]).await?;
    let job = run_next_pod(&env, PASSWORD).await?;
    let spec = job.spec.as_ref().context("a spec")?;
    ensure!(spec.backoff_limit == Some(0) && spec.active_deadline_seconds == Some(96), "{spec:?}");
    wait_active(&env, "orders", "primary").await?;
    ensure!(primary.counters().commands.get("AUTH") == Some(&1), "{:?}", primary.counters());
    // The mounted Secret has another password by now.
    run_next_pod(&env, "another").await?;
    let status = wait_active(&env, "orders", "standby").await?;
    ensure!(condition(&status, "FailedOver") == ("True".into(), "AuthenticationRefused".into()), "{status:?}");
    let seen = backend_status(&env, "primary").await?;
    let health =
        ["smtp", "zone-b"].map(|name| seen.probes.iter().find(|probe| probe.name == name).map(|probe| probe.health));
    ensure!(health == [Some(Health::Healthy), Some(Health::Unhealthy)], "{seen:?}");
    let metrics = operator.metrics().await?;
    ensure!(metric_sum(&metrics, "mail_failover_login_reads_total", |_| true) < 0.5, "the operator reads no login");
    let reported = metric_sum(&metrics, "mail_failover_probe_jobs_total", |labels| labels.contains("reported"));
    ensure!(reported >= 2.0, "{metrics}");
    run_next_pod(&env, PASSWORD).await?;
    wait_active(&env, "orders", "primary").await?;
    // One Job at a time, and none is left behind.
    let jobs = api::<Job>(&env).list(&ListParams::default()).await?.items;
    ensure!(jobs.len() == 1, "{:?}", jobs.iter().map(ResourceExt::name_any).collect::<Vec<_>>());
    change::<mail_failover_api::MailRoute>(&env, "orders", &json!({ "spec": { "backends": [{ "name": "standby" }] } }))
        .await?;
    api::<SendingBackend>(&env).delete("primary", &DeleteParams::default()).await?;
    wait_gone::<Job>(&env, &jobs[0].name_any()).await
}

async fn quota(env: Arc<TestEnv>) -> Result<()> {
    let few = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few" }, "spec": { "hard": { "count/jobs.batch": "0" } } });
    env.apply(&few.to_string()).await?;
    eventually(WAIT_TIMEOUT, "the quota to be in force", async || {
        let quota = api::<ResourceQuota>(&env).get("few").await?;
        Ok(quota.status.and_then(|status| status.hard).map(drop))
    })
    .await?;
    let (_primary, _standby) = set(&env).await?;
    let _operator = start_operator(&env, &["--probe-image", IMAGE]).await?;
    // The other probe has a verdict, so that the blocked one abstains, and says so.
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    let blocked = eventually(WAIT_TIMEOUT, "the probe to be blocked", async || {
        let probes = backend_status(&env, "primary").await?.probes;
        Ok(probes.into_iter().find(|probe| probe.name == "zone-b" && probe.reason == "ProbeBlocked"))
    })
    .await?;
    let message = blocked.message.unwrap_or_default();
    ensure!(message.contains("the Job is refused") && message.contains("exceeded quota: few"), "{message}");
    api::<ResourceQuota>(&env).delete("few", &DeleteParams::default()).await?;
    run_next_pod(&env, PASSWORD).await?;
    wait_health(&env, "primary", Health::Healthy, "Ok").await?;
    wait_active(&env, "orders", "primary").await.map(drop)
}
