//! Images that are built here run.

use anyhow::ensure;
use mail_failover_e2e::node::images::{self, Recipe};
use mail_failover_e2e::suite::{Trial, trial};
use serde_json::json;

use crate::pods::{PATIENCE, apply_pod};

/// As somebody would build Postfix with a configuration of their own.
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
        trial("an image that is built on Debian with Postfix runs, as the users that Postfix takes", async |stage| {
            let script = "postconf -h myhostname && postfix check && id -u postfix";
            let spec = json!({
                "restartPolicy": "Never",
                "containers": [
                    { "name": "postfix", "image": NAME, "imagePullPolicy": "Never", "command": ["sh", "-c", script] },
                ],
            });
            apply_pod(&stage, "postfix", spec).await?;
            let phase = "--for=jsonpath={.status.phase}=Succeeded";
            let waited = stage.kubectl_for(PATIENCE, &["wait", phase, "pod/postfix", "--timeout=80s"]).await;
            let log = stage.kubectl(&["logs", "postfix"]).await?;
            ensure!(waited.is_ok() && log.starts_with("mail.shop.example\n"), "{waited:?}\n{log}");
            Ok(())
        })
        .needs_images(),
    ]
}
