//! The chart's objects for Prometheus and for the network.

use std::process::Command;

use anyhow::anyhow;
use mail_failover_e2e::control_plane::binaries::on_path;

use super::*;

#[test]
fn monitors_select_what_tells_metrics_and_keep_the_labels_of_routes() -> Result<()> {
    let usual = render(&json!({}))?;
    for kind in ["ServiceMonitor", "PodMonitor", "PrometheusRule", "NetworkPolicy"] {
        ensure!(of_kind(&usual, kind).is_empty(), "{kind} must be asked for");
    }
    let rendered = render(
        &json!({ "metrics": { "serviceMonitor": { "enabled": true, "interval": "15s", "labels": { "release": "prometheus" } } } }),
    )?;
    let (monitor, service) = (only(&rendered, "ServiceMonitor")?, only(&rendered, "Service")?);
    let selector = monitor["spec"]["selector"]["matchLabels"].as_object().context("labels")?;
    ensure!(selector.iter().all(|(key, value)| service["metadata"]["labels"][key] == *value), "{selector:?}");
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"], service["spec"]["ports"][0]["name"]);
    // ADR-0064: Monitors honour the operator's labels.
    assert_eq!((&endpoint["interval"], &endpoint["honorLabels"]), (&json!("15s"), &json!(true)));
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");

    let rendered =
        render(&json!({ "metrics": { "service": { "enabled": false }, "podMonitor": { "enabled": true } } }))?;
    ensure!(of_kind(&rendered, "Service").is_empty());
    let endpoint = &only(&rendered, "PodMonitor")?["spec"]["podMetricsEndpoints"][0];
    let ports = &only(&rendered, "Deployment")?["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!((&endpoint["port"], &endpoint["honorLabels"]), (&ports[0]["name"], &json!(true)));
    Ok(())
}

#[test]
fn a_monitor_that_would_see_nothing_or_everything_twice_is_refused() -> Result<()> {
    let values = json!({ "metrics": { "service": { "enabled": false }, "serviceMonitor": { "enabled": true } } });
    ensure!(refusal(&values)?.contains("metrics.serviceMonitor.enabled needs metrics.service.enabled"));
    let values = json!({ "metrics": { "serviceMonitor": { "enabled": true }, "podMonitor": { "enabled": true } } });
    ensure!(refusal(&values)?.contains("Enable one of them"));
    Ok(())
}

/// The alerts with these values of `metrics.prometheusRule`.
fn alerts(values: &Value) -> Result<Vec<Value>> {
    let rendered = render(&json!({ "metrics": { "prometheusRule": values } }))?;
    Ok(only(&rendered, "PrometheusRule")?["spec"]["groups"][1]["rules"].as_array().context("rules")?.clone())
}

#[test]
fn alerts_are_about_this_installation_and_can_be_left_out() -> Result<()> {
    let all = alerts(&json!({ "enabled": true }))?;
    for alert in &all {
        let expression = alert["expr"].as_str().context("an expression")?;
        ensure!(!expression.contains("SERIES"), "{expression}");
        promql_parser::parser::parse(expression).map_err(|error| anyhow!("{expression}: {error}"))?;
        let is_of_pods =
            expression.contains(r#"namespace="ops",pod=~"mail-mail-failover-operator-[a-z0-9]+-[a-z0-9]+""#);
        let tenants = [
            "by (namespace, route)",
            "by (namespace, backend)",
            "by (namespace, policy)",
            "by (namespace, name)",
            "by (kind, namespace, name)",
            "by (namespace, route, objective)",
        ];
        let is_of_tenants = tenants.iter().any(|by| expression.contains(by));
        ensure!(is_of_pods != is_of_tenants, "{expression}");
        ensure!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap_or_default()), "{alert}");
        ensure!(
            alert["annotations"]["summary"].is_string() && alert["annotations"]["description"].is_string(),
            "{alert}"
        );
        ensure!(alert["annotations"]["runbook_url"].is_null(), "{alert}");
    }
    let fewer = alerts(
        &json!({ "enabled": true, "disabled": ["MailFailoverNoLeader", "MailFailoverStorm"], "runbookUrl": "https://wiki.example/alerts" }),
    )?;
    assert_eq!(fewer.len(), all.len() - 2);
    ensure!(fewer.iter().all(|alert| alert["alert"] != "MailFailoverNoLeader"));
    assert_eq!(fewer[0]["annotations"]["runbook_url"], "https://wiki.example/alerts#mailfailovernonehealthy");
    Ok(())
}

/// Tells the rules of Prometheus' own program what to expect of them over time.
#[test]
fn alerts_fire_when_they_should() -> Result<()> {
    let Some(promtool) = on_path("promtool") else {
        ensure!(
            std::env::var_os("E2E_REQUIRE_ALL").is_none(),
            "promtool is missing: sudo e2e/tools/install-debian-packages"
        );
        eprintln!("skipped: promtool is missing; the Debian package prometheus has it");
        return Ok(());
    };
    let rendered = render(&json!({ "metrics": { "prometheusRule": { "enabled": true } } }))?;
    let rules = &only(&rendered, "PrometheusRule")?["spec"];
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("rules.yaml"), rules.to_string())?;
    std::fs::copy(repository("e2e/fixtures/alerts.yaml"), folder.path().join("alerts.yaml"))?;
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "alerts.yaml"]] {
        let ran = Command::new(&promtool).args(arguments).current_dir(folder.path()).output()?;
        let (out, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        ensure!(ran.status.success(), "promtool {}:\n{out}{said}", arguments.join(" "));
    }
    Ok(())
}

/// The spec of the `NetworkPolicy` with these values.
fn network_policy(values: &Value) -> Result<Value> {
    Ok(only(&render(values)?, "NetworkPolicy")?["spec"].clone())
}

/// The first port of each ingress rule.
fn ports(policy: &Value) -> Vec<String> {
    let rules = policy["ingress"].as_array().cloned().unwrap_or_default();
    rules.iter().map(|rule| rule["ports"][0]["port"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_network_policy_lets_in_what_asks_and_holds_nothing_back_unless_told() -> Result<()> {
    let usual = network_policy(&json!({ "networkPolicy": { "enabled": true } }))?;
    assert_eq!(usual["policyTypes"], json!(["Ingress"]));
    assert_eq!(ports(&usual), ["http", "reports"]);
    let from = json!([{ "podSelector": { "matchLabels": { "app": "postfix" } } }]);
    let egress = json!([{ "ports": [{ "port": 25 }] }]);
    let narrow =
        network_policy(&json!({ "networkPolicy": { "enabled": true, "reportsFrom": from, "egress": egress } }))?;
    assert_eq!((&narrow["ingress"][1]["from"], &narrow["egress"]), (&from, &egress));
    assert_eq!(narrow["policyTypes"], json!(["Ingress", "Egress"]));
    let quiet = network_policy(&json!({ "networkPolicy": { "enabled": true }, "reports": { "enabled": false } }))?;
    assert_eq!(ports(&quiet), ["http"]);
    Ok(())
}
