//! Trials of the manifests on a real API server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mail_failover_e2e::apply::{Mode, apply};
use mail_failover_e2e::go_module::GoModule;
use mail_failover_e2e::helm::{Helm, objects, repository};
use mail_failover_e2e::suite::{Trial, trial};
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

use super::shop::{make_namespace, plain_manifests};

/// The module with its resource definitions.
pub const PROMETHEUS_OPERATOR: GoModule =
    GoModule { tools: "prometheus-operator", path: "github.com/prometheus-operator/prometheus-operator" };
const MONITORING: [&str; 3] = ["servicemonitors", "podmonitors", "prometheusrules"];
const DEADLINE: Duration = Duration::from_mins(1);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the API server accepts whatever the chart renders, and its pods where pods are restricted", chart)
            .alone(),
        trial("the API server accepts the plain manifests", plain).alone(),
        trial("monitors and alerts are what the definitions of the Prometheus operator ask for", monitoring).alone(),
    ]
}

async fn chart(env: Arc<TestEnv>) -> Result<()> {
    let helm = Helm::locate()?;
    let (own, shop) = (format!("{}-o", env.namespace()), env.namespace());
    make_namespace(&env, &own, &[("pod-security.kubernetes.io/enforce", "restricted")]).await?;
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
        apply(&env.client(), &rendered, Mode::DryRun).await.with_context(|| values.to_string())?;
        let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").context("a Deployment")?;
        apply(&env.client(), &[pod(deployment)], Mode::DryRun).await.with_context(|| values.to_string())?;
    }
    let rendered =
        objects(&helm.template("mail", &own, &json!({ "podSecurityContext": { "runAsNonRoot": false } }))?)?;
    let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").context("a Deployment")?;
    let refused = apply(&env.client(), &[pod(deployment)], Mode::DryRun).await.expect_err("nothing is restricted here");
    ensure!(format!("{refused:#}").contains("restricted"), "{refused:#}");
    Ok(())
}

/// The pod that the Deployment would create.
fn pod(deployment: &Value) -> Value {
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "operator".into();
    pod["metadata"]["namespace"] = deployment["metadata"]["namespace"].clone();
    // The cluster does not define this kind.
    pod["spec"].as_object_mut().map(|spec| spec.remove("priorityClassName"));
    pod
}

async fn plain(env: Arc<TestEnv>) -> Result<()> {
    let manifests = plain_manifests()?;
    // Even a dry run needs an existing namespace.
    let namespaces: Vec<_> = manifests.iter().filter(|object| object["kind"] == "Namespace").cloned().collect();
    ensure!(namespaces.len() == 1);
    apply(&env.client(), &namespaces, Mode::Keep).await?;
    apply(&env.client(), &manifests, Mode::DryRun).await?;
    let rights = objects(&std::fs::read_to_string(repository("config/probe-jobs.yaml"))?)?;
    apply(&env.client(), &rights, Mode::DryRun).await
}

async fn monitoring(env: Arc<TestEnv>) -> Result<()> {
    let folder = PROMETHEUS_OPERATOR.source()?.join("example/prometheus-operator-crd");
    for kind in MONITORING {
        let definition = folder.join(format!("monitoring.coreos.com_{kind}.yaml")).display().to_string();
        env.kubectl(&["create", "--filename", &definition]).await?;
        let name = format!("customresourcedefinition/{kind}.monitoring.coreos.com");
        env.kubectl_for(DEADLINE, &["wait", "--for=condition=Established", &name]).await?;
    }
    let helm = Helm::locate()?;
    let (labels, relabelings) =
        (json!({ "release": "prometheus" }), json!([{ "action": "labeldrop", "regex": "pod|container" }]));
    let endpoint =
        json!({ "enabled": true, "labels": labels, "relabelings": relabelings, "metricRelabelings": relabelings });
    for (kind, metrics) in [
        ("ServiceMonitor", json!({ "serviceMonitor": endpoint })),
        ("PodMonitor", json!({ "podMonitor": endpoint })),
        (
            "PrometheusRule",
            json!({ "prometheusRule": { "enabled": true, "labels": labels, "runbookUrl": "https://example.org/alerts" } }),
        ),
    ] {
        let rendered = objects(&helm.template("mail", env.namespace(), &json!({ "metrics": metrics }))?)?;
        let mut object = rendered.into_iter().find(|object| object["kind"] == kind).context(kind)?;
        apply(&env.client(), &[object.clone()], Mode::DryRun).await?;
        // It would be heard.
        object["spec"]["typo"] = true.into();
        let refused = apply(&env.client(), &[object], Mode::DryRun).await.expect_err("a field that is not there");
        ensure!(format!("{refused:#}").contains("typo"), "{refused:#}");
    }
    Ok(())
}
