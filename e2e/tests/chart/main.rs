//! The Helm chart, rendered by the real `helm`. `tests/install/` hands it to an API server.

mod access;
mod deployment;
mod manifests;
mod monitoring;
mod relay;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail, ensure};
use mail_failover_e2e::helm::{CHART, Helm, objects, repository};
use serde_json::{Value, json};

static HELM: LazyLock<Helm> = LazyLock::new(|| Helm::locate().unwrap_or_else(|error| panic!("{error:#}")));

/// Renders the objects of the release `mail` in the namespace `ops`.
fn render(values: &Value) -> Result<Vec<Value>> {
    objects(&HELM.template("mail", "ops", values)?)
}

/// Renders refused values, and returns the words that a user reads.
fn refusal(values: &Value) -> Result<String> {
    match HELM.template("mail", "ops", values) {
        Ok(_) => bail!("{values} is accepted"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn only<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    match of_kind(objects, kind)[..] {
        [object] => Ok(object),
        ref others => bail!("{} objects of kind {kind}", others.len()),
    }
}

/// Values that turn every option on.
fn everything() -> Value {
    json!({
        "namespaces": ["shop", "billing"], "commonLabels": { "team": "mail" }, "imagePullSecrets": [{ "name": "registry" }],
        "rbac": { "secretNames": ["relay-ca"] }, "networkPolicy": { "enabled": true, "egress": [{ "ports": [{ "port": 25 }] }] },
        "metrics": { "serviceMonitor": { "enabled": true, "labels": { "release": "prometheus" } }, "prometheusRule": { "enabled": true } },
        "extraArgs": ["--identity=a"], "extraEnv": [{ "name": "A", "value": "b" }], "priorityClassName": "high",
        "probeJobs": { "enabled": true, "image": "registry.example/probe:1", "max": 3 },
        "smtpDestinations": { "deny": ["10.0.0.0/8", "fd00::/8"], "allow": ["10.9.0.7"], "ports": [25, "1024-65535"] },
        "webhooks": { "ports": [443, "8000-8999"] },
        "dns": { "owner": "eu", "ports": [53, "5300-5399"] },
        "smtpProbes": { "ehloName": "mx.example", "dnsServers": ["10.0.0.1:53", "10.0.0.2:53"] },
        "nodeSelector": { "kubernetes.io/os": "linux" }, "tolerations": [{ "operator": "Exists" }], "podLabels": { "a": "b" },
        "podAnnotations": { "c": "d" }, "deploymentAnnotations": { "e": "f" }, "serviceAccount": { "annotations": { "g": "h" } },
    })
}

#[test]
fn helm_finds_nothing_to_complain_about() -> Result<()> {
    for values in [json!({}), everything()] {
        HELM.lint_of(CHART, &values)?;
    }
    Ok(())
}

#[test]
fn every_object_is_named_once_labelled_and_where_it_belongs() -> Result<()> {
    for values in
        [json!({}), everything(), json!({ "fullnameOverride": "x", "metrics": { "podMonitor": { "enabled": true } } })]
    {
        let rendered = render(&values)?;
        let mut names = BTreeSet::new();
        for object in &rendered {
            let (kind, metadata) = (object["kind"].as_str().context("a kind")?, &object["metadata"]);
            let (namespace, name) = (metadata["namespace"].as_str(), metadata["name"].as_str().context("a name")?);
            let is_global = ["CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"].contains(&kind);
            ensure!(namespace.is_none() == is_global, "{kind} {name}: {namespace:?}");
            ensure!(
                namespace.is_none_or(|there| ["ops", "shop", "billing"].contains(&there)),
                "{kind} {name}: {namespace:?}"
            );
            ensure!(names.insert((kind, namespace, name)), "{kind} {name} is there twice");
            ensure!(metadata["labels"]["app.kubernetes.io/instance"] == "mail", "{kind} {name}: {metadata}");
            ensure!(metadata["labels"]["team"] == values["commonLabels"]["team"], "{kind} {name}: {metadata}");
            // The operator takes objects whose label `managed-by` has its own name for outputs of a route.
            ensure!(metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm", "{kind} {name}: {metadata}");
        }
    }
    Ok(())
}

/// Kind, namespace and name of all objects of a release.
fn names(release: &str, namespace: &str, values: &Value) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for object in objects(&HELM.template(release, namespace, values)?)? {
        names.insert(format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]));
    }
    Ok(names)
}

#[test]
fn two_releases_have_no_object_in_common() -> Result<()> {
    let values = json!({ "crds": { "enabled": false }, "namespaces": ["shop"] });
    let first = names("a", "ops", &values)?;
    for (release, namespace) in [
        ("b", "ops"),
        ("a", "dev"),
        ("mail-failover-operator", "ops"),
        ("mail-failover-operator", "mail-failover-operator"),
    ] {
        let common: Vec<_> = names(release, namespace, &values)?.intersection(&first).cloned().collect();
        ensure!(common.is_empty(), "{release} in {namespace}: {common:?}");
    }
    Ok(())
}

#[test]
fn a_typo_is_refused_by_its_name_and_place() -> Result<()> {
    for (values, words) in [
        (json!({ "replicas": 3 }), ["at ''", "'replicas'"]),
        (json!({ "image": { "tga": "1" } }), ["at '/image'", "'tga'"]),
        (json!({ "crds": { "keep": "yes" } }), ["at '/crds/keep'", "want boolean"]),
        (json!({ "namespaces": "shop" }), ["at '/namespaces'", "want array"]),
        (json!({ "namespaces": ["Shop"] }), ["at '/namespaces/0'", "'Shop'"]),
        (json!({ "namespaces": ["shop", "shop"] }), ["at '/namespaces'", "equal"]),
        (json!({ "rbac": { "secretName": ["ca"] } }), ["at '/rbac'", "'secretName'"]),
        (json!({ "metrics": { "serviceMonitor": { "enable": true } } }), ["at '/metrics/serviceMonitor'", "'enable'"]),
        (
            json!({ "metrics": { "prometheusRule": { "disabled": ["NoLeader"] } } }),
            ["/disabled/0'", "MailFailoverNoLeader"],
        ),
        (json!({ "leaderElection": { "leaseDuration": 15 } }), ["at '/leaderElection/leaseDuration'", "want string"]),
        (json!({ "leaderElection": { "leaseDuration": "15" } }), ["at '/leaderElection/leaseDuration'", "'15'"]),
        (json!({ "probeJobs": { "max": 0 } }), ["at '/probeJobs/max'", "minimum"]),
        (json!({ "probeJobs": true }), ["at '/probeJobs'", "want object"]),
        (json!({ "reports": { "port": 443 } }), ["at '/reports/port'", "1,024"]),
        (json!({ "image": { "digest": "sha256:1" } }), ["at '/image/digest'", "sha256:1"]),
        (json!({ "resources": { "limit": {} } }), ["at '/resources'", "'limit'"]),
        (json!({ "podSecurityContext": { "runAsNonroot": true } }), ["at '/podSecurityContext'", "'runAsNonroot'"]),
        (json!({ "affinity": { "podAntiaffinity": {} } }), ["at '/affinity'", "'podAntiaffinity'"]),
        (json!({ "extraEnv": [{ "nam": "A" }] }), ["at '/extraEnv/0'", "'nam'"]),
        (json!({ "log": { "format": "xml" } }), ["at '/log/format'", "'json'"]),
    ] {
        let said = refusal(&values)?;
        ensure!(words.iter().all(|word| said.contains(word)), "{values}: {said}");
    }
    Ok(())
}

/// What the program refuses at its start would be pods that end at once.
#[test]
fn values_that_the_program_would_refuse_are_refused_by_the_chart() -> Result<()> {
    for (values, words) in [
        (json!({ "leaderElection": { "renewDeadline": "14s" } }), "renewDeadline is 14s: with a quarter added"),
        (json!({ "leaderElection": { "renewDeadline": "20s" } }), "must not exceed leaderElection.leaseDuration, 15s"),
        (
            json!({ "leaderElection": { "leaseDuration": "1500ms" } }),
            "leaseDuration is 1500ms: it must be between 1s and 5m",
        ),
        (json!({ "leaderElection": { "leaseDuration": "6m" } }), "leaseDuration is 6m"),
        (json!({ "leaderElection": { "retryPeriod": "6s" } }), "retryPeriod is 6s: it must be at least 100ms"),
        (json!({ "leaderElection": { "retryPeriod": "50ms" } }), "retryPeriod is 50ms"),
        (json!({ "smtpDestinations": { "deny": ["10.0.0.0/33"] } }), "10.0.0.0/33 is no network"),
        (json!({ "smtpDestinations": { "allow": ["fd00::/129"] } }), "fd00::/129 is no network"),
        (json!({ "smtpDestinations": { "ports": ["2000-1000"] } }), "2000-1000 is no port"),
        (json!({ "webhooks": { "ports": ["8000-70000"] } }), "8000-70000 is no port"),
        (json!({ "dns": { "ports": ["53-70000"] } }), "53-70000 is no port"),
        (json!({ "smtpDestinations": { "deny": ["300.0.0.1"] } }), "300.0.0.1 is no network and no address"),
        (json!({ "smtpDestinations": { "deny": ["10.0.0.1.2/8"] } }), "10.0.0.1.2/8 is no network and no address"),
        (json!({ "smtpDestinations": { "allow": ["fd00::1::2"] } }), "fd00::1::2 is no network and no address"),
        (json!({ "smtpDestinations": { "allow": ["fd00:1:2/64"] } }), "fd00:1:2/64 is no network and no address"),
        (json!({ "smtpProbes": { "dnsServers": ["10.0.0.300:53"] } }), "10.0.0.300:53 is no address with a port"),
        (json!({ "smtpProbes": { "dnsServers": ["10.0.0.1:70000"] } }), "10.0.0.1:70000 is no address with a port"),
        (json!({ "smtpProbes": { "dnsServers": ["[fd00::g]:53"] } }), "dnsServers"),
        (json!({ "log": { "level": "info,mail_failover_operator=loud" } }), "at '/log/level'"),
        (json!({ "reports": { "port": 8080 } }), "/reports/port"),
        (json!({ "smtpProbes": { "dnsServers": ["dns.example:53"] } }), "dnsServers"),
    ] {
        let said = refusal(&values)?;
        ensure!(said.contains(words), "{values}: {said}");
    }
    for values in [
        json!({ "leaderElection": { "leaseDuration": "1m", "renewDeadline": "40s", "retryPeriod": "2.5s" } }),
        json!({ "leaderElection": { "renewDeadline": "12s" } }),
        json!({ "smtpProbes": { "dnsServers": ["10.0.0.1:53", "[fd00::1]:53"] } }),
        json!({ "smtpDestinations": { "deny": ["0.0.0.0/0", "::/0", "::1", "fd00::/8", "1:2:3:4:5:6:7:8", "::ffff:10.0.0.1"] } }),
        json!({ "log": { "level": "info,mail_failover_operator::leader=debug,off" } }),
    ] {
        render(&values)?;
    }
    Ok(())
}

#[test]
fn the_resource_definitions_come_with_the_chart_and_stay_when_it_goes() -> Result<()> {
    for (values, policy) in [(json!({}), json!("keep")), (json!({ "crds": { "keep": false } }), Value::Null)] {
        let rendered = render(&values)?;
        // ADR-0061: Resource definitions are templates of the chart.
        let crds = of_kind(&rendered, "CustomResourceDefinition");
        ensure!(crds.len() == 3);
        for crd in crds {
            ensure!(crd["metadata"]["annotations"]["helm.sh/resource-policy"] == policy, "{}", crd["metadata"]);
            let name = crd["metadata"]["name"].as_str().context("a name")?;
            let (plural, group) = name.split_once('.').context("a group")?;
            let committed = std::fs::read_to_string(repository(&format!("crds/{group}_{plural}.yaml")))?;
            let committed: Value = serde_saphyr::from_str(&committed)?;
            ensure!(as_floats(&crd["spec"]) == as_floats(&committed["spec"]), "{name} is not as in crds/");
        }
    }
    ensure!(of_kind(&render(&json!({ "crds": { "enabled": false } }))?, "CustomResourceDefinition").is_empty());
    Ok(())
}

/// The value with all numbers as floats. In YAML 1 and 1.0 are the same number, in `Value` they are
/// not.
fn as_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.iter().map(as_floats).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), as_floats(value))).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other.clone(),
    }
}

/// The notes after an installation with these values.
fn notes(values: &str) -> Result<String> {
    let output = HELM.run(&["install", "mail", CHART, "--namespace", "ops", "--dry-run=client", "--set", values])?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said.split_once("NOTES:").context("notes")?.1.to_owned())
}

#[test]
fn the_notes_say_the_next_step() -> Result<()> {
    let usual = notes("crds.enabled=true")?;
    for words in [
        "watches every namespace",
        "rollout status deployment/mail-mail-failover-operator",
        "kind: MailRoute",
        "get mailroutes",
        "logs --prefix --tail=-1 --selector app.kubernetes.io/name=",
        "mail-failover explain route orders",
    ] {
        ensure!(usual.contains(words), "{words}: {usual}");
    }
    ensure!(!usual.contains("replicaCount") && !usual.contains("crds.enabled"), "{usual}");
    let manifest = usual.split_once("<<YAML").and_then(|(_, rest)| rest.split_once("YAML")).context("a manifest")?.0;
    let examples = objects(
        &manifest.lines().map(|line| line.strip_prefix("     ").unwrap_or(line)).collect::<Vec<_>>().join("\n"),
    )?;
    ensure!(examples.len() == 3, "{examples:?}");
    for (values, words) in [
        ("namespaces={shop}", "apply --namespace shop"),
        ("replicaCount=1", "nobody to take over"),
        ("crds.enabled=false", "crds.enabled=false"),
        ("rbac.create=false", "templates/rbac.yaml"),
    ] {
        ensure!(notes(values)?.contains(words), "{values}: {words}");
    }
    Ok(())
}
