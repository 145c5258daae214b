//! Trials of pods: they run, and are reached, read and entered.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mail_failover_e2e::eventually::eventually;
use mail_failover_e2e::node::images::TOOLBOX;
use mail_failover_e2e::node::{NAME, evidence};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A time limit longer than any pod needs on a busy machine of two cores.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(90);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a node is Ready", async |env| {
            let ready = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
            let statuses = env.kubectl(&["get", "nodes", "--output", ready]).await?;
            ensure!(statuses.split(' ').any(|status| status == "True"), "{statuses:?}");
            Ok(())
        }),
        trial("a Deployment is answered through its Service by the cluster's DNS name", async |env| {
            let server = "while :; do echo \"220 $HOSTNAME\" | nc -l -p 2525; done";
            let labels = json!({ "app": "relay" });
            let deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "relay" },
                "spec": {
                    "replicas": 2,
                    "selector": { "matchLabels": labels },
                    "template": { "metadata": { "labels": labels }, "spec": pod(&["sh", "-c", server], "Always") },
                },
            });
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": "relay" },
                "spec": { "selector": labels, "ports": [{ "port": 25, "targetPort": 2525 }] },
            });
            env.apply(&deployment.to_string()).await?;
            env.apply(&service.to_string()).await?;
            env.kubectl_for(WAIT_TIMEOUT, &["rollout", "status", "deployment/relay", "--timeout=80s"]).await?;
            let name = format!("relay.{}.svc.cluster.local", env.namespace());
            let client = format!("for i in 1 2 3 4 5 6 7 8 9; do nc -w 5 {name} 25 </dev/null; sleep 0.2; done");
            run_pod(&env, "client", &["sh", "-c", &client]).await?;
            let answers = env.kubectl(&["logs", "client"]).await?;
            let good = answers.lines().filter(|line| line.starts_with("220 relay-")).count();
            ensure!(good >= 5, "{answers}");
            Ok(())
        })
        .needs_images(),
        trial("a Job completes", async |env| {
            let job = json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "probe" },
                "spec": { "backoffLimit": 0, "template": { "spec": pod(&["true"], "Never") } },
            });
            env.apply(&job.to_string()).await?;
            env.kubectl_for(WAIT_TIMEOUT, &["wait", "--for=condition=Complete", "job/probe", "--timeout=80s"]).await?;
            Ok(())
        })
        .needs_images(),
        trial("a Job that fails says so with its termination message", async |env| {
            let script = "echo refused > /dev/termination-log; exit 3";
            let job = json!({
                "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "probe" },
                "spec": { "backoffLimit": 0, "template": { "spec": pod(&["sh", "-c", script], "Never") } },
            });
            env.apply(&job.to_string()).await?;
            env.kubectl_for(WAIT_TIMEOUT, &["wait", "--for=condition=Failed", "job/probe", "--timeout=80s"]).await?;
            let message = "jsonpath={.items[0].status.containerStatuses[0].state.terminated.message}";
            let message = env.kubectl(&["get", "pods", "--selector=job-name=probe", "--output", message]).await?;
            ensure!(message.trim() == "refused", "{message:?}");
            Ok(())
        })
        .needs_images(),
        trial("what a container prints is read, and a command is run inside", async |env| {
            apply_pod(&env, "talker", pod(&["sh", "-c", "echo 250 queued; sleep 600"], "Never")).await?;
            env.kubectl_for(WAIT_TIMEOUT, &["wait", "--for=condition=Ready", "pod/talker", "--timeout=80s"]).await?;
            eventually(WAIT_TIMEOUT, "the log", async || {
                let log = env.kubectl(&["logs", "talker"]).await?;
                Ok((log == "250 queued\n").then_some(()))
            })
            .await?;
            let printed = env.kubectl(&["exec", "talker", "--", "id", "-u"]).await?;
            ensure!(printed == "65532\n", "{printed:?}");
            Ok(())
        })
        .needs_images(),
        trial("a restricted namespace runs what is restricted and refuses what is not", async |env| {
            let label = "pod-security.kubernetes.io/enforce=restricted";
            env.kubectl(&["label", "namespace", env.namespace(), label]).await?;
            let mut open = pod(&["true"], "Never");
            open["containers"][0]["securityContext"] = json!({});
            match apply_pod(&env, "open", open).await {
                Err(error) if error.to_string().contains("violates PodSecurity \"restricted:latest\"") => {}
                other => bail!("{other:?}"),
            }
            run_pod(&env, "restricted", &["sh", "-c", "! touch /bin/new"]).await
        })
        .needs_images(),
        trial(
            "a Secret, a ConfigMap and a token are mounted, and the API server is reached by its name",
            async |env| {
                env.kubectl(&["create", "secret", "generic", "login", "--from-literal=username=shop"]).await?;
                env.kubectl(&["create", "configmap", "mail", "--from-literal=relay=a"]).await?;
                let script = "cat /etc/login/username /etc/mail/relay && \
                          test -s /var/run/secrets/kubernetes.io/serviceaccount/token && \
                          nc -w 10 kubernetes.default.svc.cluster.local 443 </dev/null";
                let mut spec = pod(&["sh", "-c", script], "Never");
                spec["volumes"] = json!([
                    { "name": "login", "secret": { "secretName": "login" } },
                    { "name": "mail", "configMap": { "name": "mail" } },
                ]);
                spec["containers"][0]["volumeMounts"] = json!([
                    { "name": "login", "mountPath": "/etc/login" },
                    { "name": "mail", "mountPath": "/etc/mail" },
                ]);
                apply_pod(&env, "reader", spec).await?;
                succeeded(&env, "reader").await?;
                let printed = env.kubectl(&["logs", "reader"]).await?;
                ensure!(printed.starts_with("shopa"), "{printed}");
                Ok(())
            },
        )
        .needs_images(),
        trial("a pod reaches a server of the trial, and nothing else outside of the cluster", async |env| {
            let listener = TcpListener::bind((env.ipv4(), 25)).await?;
            let server = async {
                let (mut connection, peer) = listener.accept().await?;
                connection.write_all(b"220 outside\r\n").await?;
                connection.shutdown().await?;
                let mut rest = Vec::new();
                connection.read_to_end(&mut rest).await?;
                anyhow::Ok(peer)
            };
            let script = format!(
                "nc -w 10 {} 25 </dev/null && ! nc -w 5 192.88.99.1 25 </dev/null",
                listener.local_addr()?.ip()
            );
            let command = ["sh", "-c", &script];
            let (peer, ()) = tokio::try_join!(server, run_pod(&env, "client", &command))?;
            let printed = env.kubectl(&["logs", "client"]).await?;
            ensure!(printed.starts_with("220 outside"), "{printed}");
            ensure!(peer.ip().to_string().starts_with("10.244."), "the pod comes from {peer}");
            Ok(())
        })
        .needs_own_node(),
        trial("a NetworkPolicy keeps a pod from a server, and no other pod", async |env| {
            env.node()?.enforce_network_policies().await?;
            apply_pod(&env, "server", pod(&["sh", "-c", "while :; do echo 220 here | nc -l -p 2525; done"], "Always"))
                .await?;
            env.kubectl_for(WAIT_TIMEOUT, &["wait", "--for=condition=Ready", "pod/server", "--timeout=80s"]).await?;
            let address = env.kubectl(&["get", "pod", "server", "--output=jsonpath={.status.podIP}"]).await?;
            let policy = json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "cut" },
                "spec": { "podSelector": { "matchLabels": { "run": "cut" } }, "policyTypes": ["Egress"], "egress": [] },
            });
            env.apply(&policy.to_string()).await?;
            run_pod(&env, "free", &["sh", "-c", &format!("nc -w 10 {address} 2525 </dev/null")]).await?;
            let cut = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "cut", "labels": { "run": "cut" } },
                "spec": pod(&["sh", "-c", &format!("! nc -w 3 {address} 2525 </dev/null")], "Never"),
            });
            env.apply(&cut.to_string()).await?;
            succeeded(&env, "cut").await
        })
        .needs_own_node(),
        trial("what a person needs after a failure is collected", async |env| {
            apply_pod(&env, "doomed", pod(&["sh", "-c", "echo last words; exit 1"], "Never")).await?;
            let phase = "jsonpath={.status.phase}=Failed";
            env.kubectl_for(WAIT_TIMEOUT, &["wait", &format!("--for={phase}"), "pod/doomed", "--timeout=80s"]).await?;
            let folder = env.folder().join("collected");
            let node = env.node()?;
            evidence::collect(&node.kubectl()?, true, &folder).await?;
            let expected = [
                (format!("{}_doomed.log", env.namespace()), "last words"),
                ("events.txt".to_owned(), "Container started"),
                ("objects.txt".to_owned(), "deployment.apps/coredns"),
                ("describe-nodes.txt".to_owned(), NAME),
                ("iptables.txt".to_owned(), "KUBE-SERVICES"),
            ];
            for (file, text) in expected {
                let content = std::fs::read_to_string(folder.join(&file)).with_context(|| file.clone())?;
                ensure!(content.contains(text), "{file} has no {text:?}");
            }
            Ok(())
        })
        .needs_own_node(),
    ]
}

/// The spec of a restricted pod of one container.
pub fn pod(command: &[&str], restart_policy: &str) -> Value {
    let mut spec = restricted(TOOLBOX, restart_policy);
    spec["containers"][0]["command"] = json!(command);
    spec
}

/// The spec of a restricted pod of one container with its image's own command.
pub fn restricted(image: &str, restart_policy: &str) -> Value {
    json!({
        "restartPolicy": restart_policy,
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "main",
            "image": image,
            "imagePullPolicy": "Never",
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "runAsNonRoot": true,
                "seccompProfile": { "type": "RuntimeDefault" },
                "capabilities": { "drop": ["ALL"] },
            },
        }],
    })
}

pub async fn apply_pod(env: &TestEnv, name: &str, spec: Value) -> Result<()> {
    let object = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec });
    env.apply(&object.to_string()).await.map(drop)
}

/// Runs a command in a pod until it succeeds.
async fn run_pod(env: &TestEnv, name: &str, command: &[&str]) -> Result<()> {
    apply_pod(env, name, pod(command, "Never")).await?;
    succeeded(env, name).await
}

pub async fn succeeded(env: &TestEnv, name: &str) -> Result<()> {
    let phase = eventually(WAIT_TIMEOUT, &format!("the pod {name} to end"), async || {
        let phase = env.kubectl(&["get", "pod", name, "--output=jsonpath={.status.phase}"]).await?;
        match phase.as_str() {
            "Succeeded" | "Failed" => Ok(Some(phase)),
            other => bail!("{other}"),
        }
    })
    .await?;
    if phase == "Succeeded" {
        return Ok(());
    }
    bail!("the pod {name} failed: {}", env.kubectl(&["logs", name]).await?)
}
