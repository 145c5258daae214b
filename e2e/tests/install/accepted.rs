//! What a real API server thinks of the manifests.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::apply::{Mode, apply};
use mail_failover_e2e::helm::{Helm, objects, repository};
use mail_failover_e2e::stage::Stage;
use mail_failover_e2e::suite::{Trial, trial};
use serde_json::{Value, json};

use super::shop::make_namespace;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the API server accepts whatever the chart renders, and its pods where pods are restricted", chart)
            .alone(),
        trial("the API server accepts the plain manifests", plain).alone(),
    ]
}

async fn chart(stage: Arc<Stage>) -> Result<()> {
    let helm = Helm::locate()?;
    let (own, shop) = (format!("{}-o", stage.namespace()), stage.namespace());
    make_namespace(&stage, &own, &[("pod-security.kubernetes.io/enforce", "restricted")]).await?;
    let constraint = json!({ "maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule" });
    for values in [
        json!({}),
        json!({ "namespaces": [shop], "reports": { "enabled": false }, "rbac": { "secretNames": ["relay-ca"] },
            "probeJobs": { "enabled": true } }),
        json!({
            "commonLabels": { "team": "mail" }, "imagePullSecrets": [{ "name": "registry" }], "replicaCount": 3,
            "networkPolicy": { "enabled": true, "egress": [{ "ports": [{ "port": 25 }] }], "metricsFrom": [{ "podSelector": {} }],
                "reportsFrom": [{ "namespaceSelector": {} }] },
            "image": { "digest": format!("sha256:{}", "0".repeat(64)) }, "podDisruptionBudget": { "maxUnavailable": "50%" },
            "extraArgs": ["--identity=a"], "extraEnv": [{ "name": "A", "value": "b" }], "priorityClassName": "system-cluster-critical",
            "smtpProbes": { "ehloName": "mx.example", "dnsServers": ["10.0.0.1:53"] },
            "nodeSelector": { "kubernetes.io/os": "linux" }, "tolerations": [{ "operator": "Exists" }],
            "podLabels": { "a": "b" }, "podAnnotations": { "c": "d" }, "deploymentAnnotations": { "e": "f" },
            "serviceAccount": { "annotations": { "g": "h" } }, "topologySpreadConstraints": [constraint],
            "updateStrategy": { "type": "Recreate", "rollingUpdate": null },
        }),
    ] {
        let rendered = objects(&helm.template("mail", &own, &values)?)?;
        apply(&stage.client(), &rendered, Mode::DryRun).await.with_context(|| values.to_string())?;
        let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").context("a Deployment")?;
        apply(&stage.client(), &[pod(deployment)], Mode::DryRun).await.with_context(|| values.to_string())?;
    }
    let rendered =
        objects(&helm.template("mail", &own, &json!({ "podSecurityContext": { "runAsNonRoot": false } }))?)?;
    let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").context("a Deployment")?;
    let refused =
        apply(&stage.client(), &[pod(deployment)], Mode::DryRun).await.expect_err("nothing is restricted here");
    ensure!(format!("{refused:#}").contains("restricted"), "{refused:#}");
    Ok(())
}

/// What the Deployment would make.
fn pod(deployment: &Value) -> Value {
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "operator".into();
    pod["metadata"]["namespace"] = deployment["metadata"]["namespace"].clone();
    // Nobody defined it here.
    pod["spec"].as_object_mut().map(|spec| spec.remove("priorityClassName"));
    pod
}

async fn plain(stage: Arc<Stage>) -> Result<()> {
    let manifests = objects(&std::fs::read_to_string(repository("config/install.yaml"))?)?;
    // A namespace that does not exist holds nothing, not even for a dry run.
    let namespaces: Vec<_> = manifests.iter().filter(|object| object["kind"] == "Namespace").cloned().collect();
    ensure!(namespaces.len() == 1);
    apply(&stage.client(), &namespaces, Mode::Keep).await?;
    apply(&stage.client(), &manifests, Mode::DryRun).await?;
    let rights = objects(&std::fs::read_to_string(repository("config/probe-jobs.yaml"))?)?;
    apply(&stage.client(), &rights, Mode::DryRun).await
}
