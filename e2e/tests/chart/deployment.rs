//! The Deployment by which the chart runs the operator.

use clap::Parser;
use mail_failover_operator::app::OperatorArguments;
use mail_failover_runtime::dial_guard::DialGuard;

use super::*;

#[derive(Parser)]
enum Line {
    Run(Box<OperatorArguments>),
}

fn pod(values: &Value) -> Result<Value> {
    Ok(only(&render(values)?, "Deployment")?["spec"]["template"]["spec"].clone())
}

/// The arguments of the operator's container, parsed by the operator. (Environment variables are
/// the test's own.)
fn arguments(values: &Value) -> Result<Box<OperatorArguments>> {
    let pod = pod(values)?;
    let given = pod["containers"][0]["args"].as_array().context("arguments")?;
    let given = given.iter().map(|argument| argument.as_str().unwrap_or_default());
    let Line::Run(arguments) = Line::try_parse_from(["mail-failover"].into_iter().chain(given))?;
    Ok(arguments)
}

fn environment(pod: &Value) -> Vec<&str> {
    pod["containers"][0]["env"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|variable| variable["name"].as_str())
        .collect()
}

#[test]
fn the_operator_understands_what_the_chart_tells_it() -> Result<()> {
    let usual = arguments(&json!({}))?;
    assert_eq!(usual.lease_name, "mail-mail-failover-operator");
    let addresses = [usual.listen_address, usual.health_listen_address, usual.report_listen_address];
    assert_eq!(addresses.map(|address| address.port()), [8080, 8081, 8443]);
    ensure!(usual.namespaces.is_empty() && !usual.without_reports && usual.identity.is_none());
    assert_eq!(environment(&pod(&json!({}))?), ["POD_NAMESPACE", "POD_IP"]);

    let all = arguments(&everything())?;
    assert_eq!(all.namespaces.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop", "billing"]);
    assert_eq!((all.identity.as_deref(), all.ehlo_name.as_deref()), (Some("a"), Some("mx.example")));
    assert_eq!(all.dns_servers.len(), 2);
    assert_eq!(usual.dial_guard, DialGuard::default());
    assert_eq!(
        all.dial_guard.arguments(),
        ["--deny-destinations=10.0.0.0/8,fd00::/8", "--allow-destinations=10.9.0.7/32", "--allow-ports=25,1024-65535"]
    );

    let ports: Vec<_> = all.call_ports.allow_webhook_ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["443", "8000-8999"]);
    let ports: Vec<_> = all.call_ports.allow_dns_ports.iter().map(ToString::to_string).collect();
    assert_eq!((ports, all.dns_owner.as_str()), (vec!["53".to_owned(), "5300-5399".to_owned()], "eu"));
    assert_eq!(usual.dns_owner, "default");

    ensure!(usual.probe_image.is_none());
    assert_eq!((all.probe_image.as_deref(), all.max_probe_jobs), (Some("registry.example/probe:1"), 3));

    let values = json!({ "reports": { "enabled": false }, "clusterDomain": "k8s.example", "log": { "level": "debug", "format": "text" },
        "leaderElection": { "leaseDuration": "30s", "renewDeadline": "20s", "retryPeriod": "3s" }, "smtpProbes": { "concurrency": 7 } });
    let other = arguments(&values)?;
    ensure!(other.without_reports);
    assert_eq!(
        (other.cluster_domain.as_str(), other.log.as_str(), other.probe_concurrency),
        ("k8s.example", "debug", 7)
    );
    assert_eq!(
        [other.lease_duration, other.lease_renew_deadline, other.lease_retry_period].map(|duration| duration.as_secs()),
        [30, 20, 3]
    );
    let without = pod(&values)?;
    assert_eq!(environment(&without), ["POD_NAMESPACE"]);
    assert_eq!(without["containers"][0]["ports"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[test]
fn the_image_is_named_by_its_digest_where_there_is_one() -> Result<()> {
    let digest = format!("sha256:{}", "0".repeat(64));
    for (values, expected) in [
        (json!({}), format!("mail-failover-operator:{}", env!("CARGO_PKG_VERSION"))),
        (json!({ "repository": "registry.example/mail", "tag": "1.2" }), "registry.example/mail:1.2".to_owned()),
        (
            json!({ "repository": "registry.example/mail", "tag": "1.2", "digest": digest }),
            format!("registry.example/mail@{digest}"),
        ),
    ] {
        // Probe Jobs use the same image, unless another is set.
        let values = json!({ "image": values, "probeJobs": { "enabled": true } });
        assert_eq!(pod(&values)?["containers"][0]["image"], expected);
        assert_eq!(arguments(&values)?.probe_image, Some(expected));
    }
    Ok(())
}

#[test]
fn the_pods_are_restricted_and_probed() -> Result<()> {
    let pod = pod(&json!({}))?;
    assert_eq!(pod["securityContext"], json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } }));
    let container = &pod["containers"][0];
    let expected = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } });
    assert_eq!(container["securityContext"], expected);
    assert_eq!(container["livenessProbe"]["httpGet"], json!({ "path": "/livez", "port": "health" }));
    assert_eq!(container["readinessProbe"]["httpGet"], json!({ "path": "/readyz", "port": "health" }));
    assert_eq!(container["ports"][1], json!({ "name": "health", "containerPort": 8081, "protocol": "TCP" }));
    ensure!(
        container["resources"]["requests"]["memory"].is_string() && container["resources"]["limits"]["cpu"].is_null()
    );
    ensure!(pod["volumes"].is_null() && pod["hostNetwork"].is_null());
    Ok(())
}

#[test]
fn replicas_keep_apart_unless_told_otherwise() -> Result<()> {
    let usual = render(&json!({}))?;
    let deployment = only(&usual, "Deployment")?;
    assert_eq!(deployment["spec"]["replicas"], 2);
    let labels = &deployment["spec"]["selector"]["matchLabels"];
    let pod = &deployment["spec"]["template"];
    for (key, value) in labels.as_object().context("labels")? {
        assert_eq!(pod["metadata"]["labels"][key], *value);
    }
    let term = &pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
    assert_eq!(
        (&term["topologyKey"], &term["labelSelector"]["matchLabels"]),
        (&json!("kubernetes.io/hostname"), labels)
    );
    let spread = &pod["spec"]["topologySpreadConstraints"][0];
    assert_eq!(
        (&spread["topologyKey"], &spread["labelSelector"]["matchLabels"]),
        (&json!("topology.kubernetes.io/zone"), labels)
    );
    assert_eq!(only(&usual, "PodDisruptionBudget")?["spec"]["selector"]["matchLabels"], *labels);

    let constraint = json!({ "maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule" });
    let values = json!({ "affinity": { "nodeAffinity": { "a": 1 } }, "topologySpreadConstraints": [constraint],
        "podDisruptionBudget": { "enabled": false }, "priorityClassName": "high", "updateStrategy": { "type": "Recreate", "rollingUpdate": null } });
    let other = render(&values)?;
    let deployment = only(&other, "Deployment")?;
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!((&pod["affinity"], &pod["priorityClassName"]), (&json!({ "nodeAffinity": { "a": 1 } }), &json!("high")));
    assert_eq!(pod["topologySpreadConstraints"], json!([constraint]));
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
    ensure!(of_kind(&other, "PodDisruptionBudget").is_empty());
    Ok(())
}

#[test]
fn what_is_given_for_pods_reaches_them() -> Result<()> {
    let rendered = render(&everything())?;
    let deployment = only(&rendered, "Deployment")?;
    let template = &deployment["spec"]["template"];
    assert_eq!(template["spec"]["imagePullSecrets"], json!([{ "name": "registry" }]));
    assert_eq!(template["spec"]["nodeSelector"], json!({ "kubernetes.io/os": "linux" }));
    assert_eq!(template["spec"]["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!([&template["metadata"]["labels"]["a"], &template["metadata"]["annotations"]["c"]], ["b", "d"]);
    assert_eq!(deployment["metadata"]["annotations"], json!({ "e": "f" }));
    assert_eq!(only(&rendered, "ServiceAccount")?["metadata"]["annotations"], json!({ "g": "h" }));
    Ok(())
}
