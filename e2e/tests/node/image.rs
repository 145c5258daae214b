//! Trials of images that are built here: they run.

use anyhow::ensure;
use mail_failover_e2e::node::images::{self, OPERATOR, POSTFIX_AGENT, POSTFIX_AGENT_OPTIONS, Recipe};
use mail_failover_e2e::suite::{Trial, trial};
use serde_json::json;

use crate::pods::{WAIT_TIMEOUT, apply_pod, restricted, succeeded};

/// The name of an image with Postfix and a configuration of its own, as a user would build it.
const NAME: &str = "localhost/configured-postfix:1";
const DOCKERFILE: &str = "ARG BASE=debian:bookworm-slim
FROM ${BASE}
RUN touch /etc/postfix/main.cf && postconf -e myhostname=mail.shop.example
";

pub fn recipe() -> Recipe {
    Recipe {
        name: NAME,
        bases: &[images::postfix],
        key: || Ok(DOCKERFILE.to_owned()),
        assemble: |folder| Ok(std::fs::write(folder.join("Dockerfile"), DOCKERFILE)?),
        arguments: &[("BASE", images::POSTFIX)],
    }
}

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an image that is built on Debian with Postfix runs, as the users that Postfix takes", async |env| {
            let script = "postconf -h myhostname && postfix check && id -u postfix";
            let spec = json!({
                "restartPolicy": "Never",
                "containers": [
                    { "name": "postfix", "image": NAME, "imagePullPolicy": "Never", "command": ["sh", "-c", script] },
                ],
            });
            apply_pod(&env, "postfix", spec).await?;
            let phase = "--for=jsonpath={.status.phase}=Succeeded";
            let waited = env.kubectl_for(WAIT_TIMEOUT, &["wait", phase, "pod/postfix", "--timeout=80s"]).await;
            let log = env.kubectl(&["logs", "postfix"]).await?;
            ensure!(waited.is_ok() && log.starts_with("mail.shop.example\n"), "{waited:?}\n{log}");
            Ok(())
        })
        .needs_images(),
        trial("the operator's image runs in a restricted namespace on a read-only root, as the user that it names", async |env| {
            let label = "pod-security.kubernetes.io/enforce=restricted";
            env.kubectl(&["label", "namespace", env.namespace(), label]).await?;
            let mut spec = restricted(OPERATOR, "Never");
            spec["containers"][0]["args"] = json!(["--version"]);
            apply_pod(&env, "version", spec).await?;
            succeeded(&env, "version").await?;
            let printed = env.kubectl(&["logs", "version"]).await?;
            ensure!(printed == format!("mail-failover {}\n", env!("CARGO_PKG_VERSION")), "{printed:?}");
            // There is nothing but the operator in it.
            let mut spec = restricted(OPERATOR, "Never");
            spec["containers"][0]["command"] = json!(["/bin/sh"]);
            apply_pod(&env, "shell", spec).await?;
            let reason = "jsonpath={.status.containerStatuses[0].state..message}";
            let wait = ["wait", "--for=jsonpath={.status.phase}=Failed", "pod/shell", "--timeout=80s"];
            env.kubectl_for(WAIT_TIMEOUT, &wait).await?;
            let why = env.kubectl(&["get", "pod", "shell", &format!("--output={reason}")]).await?;
            ensure!(why.contains("/bin/sh") && why.contains("no such file or directory"), "{why}");
            Ok(())
        })
        .needs_images(),
        trial("the image of Postfix with the agent has a configuration that stands its own check", async |env| {
            let check = "mail-failover agent postfix-config --check --fail-on warning";
            let script = format!("postfix check && {check} {POSTFIX_AGENT_OPTIONS}");
            let spec = json!({
                "restartPolicy": "Never",
                "containers": [{ "name": "postfix", "image": POSTFIX_AGENT, "imagePullPolicy": "Never", "command": ["sh", "-c", script] }],
            });
            apply_pod(&env, "postfix", spec).await?;
            succeeded(&env, "postfix").await
        })
        .needs_images(),
    ]
}
