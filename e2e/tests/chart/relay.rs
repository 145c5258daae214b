//! The chart of the relay, and the manifests that are generated from it for users without Helm.

use std::fs;
use std::time::Duration;

use clap::Parser;
use mail_failover_e2e::helm::RELAY_CHART;
use mail_failover_operator::rbac::{AGENT, RbacRule};
use mail_failover_relay::{RelayArguments, RelayCommand};

use super::*;

/// The manifests that are generated, and their values.
const MANIFESTS: &str = "examples/relay/relay.yaml";
const VALUES: &str = "charts/mail-failover-relay/examples/orders.yaml";
const HEAD: &str = "# `mail-failover relay` for the route of route.yaml: applications send to mail-relay.shop.svc, port 25, without a login. Pods that
# may send have the label `mail-relay-client: \"true\"`. The image is yours (docs/image.md).
#
# Generated from charts/mail-failover-relay with its examples/orders.yaml by `make manifests`; with Helm, install that chart.
";
/// Lines that only Helm needs.
const OF_HELM: [&str; 3] = ["app.kubernetes.io/managed-by: Helm", "helm.sh/chart: ", "# Source: "];

#[derive(Debug, Parser)]
struct RelayLine {
    #[command(subcommand)]
    command: RelayTree,
}

#[derive(Debug, clap::Subcommand)]
enum RelayTree {
    #[command(subcommand)]
    Relay(RelayCommand),
}

/// The least that the chart takes.
fn least() -> Value {
    json!({ "configMap": "orders-agent", "clients": { "networks": ["10.0.0.0/8"] } })
}

/// Values that turn every option on.
fn all_options() -> Value {
    json!({
        "configMap": "orders-agent", "loginSecrets": ["ses-login", "sendgrid-login"], "commonLabels": { "team": "mail" },
        "clients": { "networks": ["10.0.0.0/8", "fd00::/8"], "usersSecret": "users", "proxies": ["10.9.0.7/32"] },
        "tls": { "secretName": "relay-tls", "required": true }, "hostname": "mail.shop.example", "whenAmbiguous": "retry",
        "autoscaling": { "enabled": true }, "log": { "addresses": true }, "extraArgs": ["--backend-connections=5"],
        "service": { "type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["192.0.2.0/24"] },
        "networkPolicy": { "egress": [{ "ports": [{ "port": 587 }] }], "metricsFrom": [{ "podSelector": {} }] },
        "metrics": { "serviceMonitor": { "enabled": true, "labels": { "release": "prometheus" } } },
        "imagePullSecrets": [{ "name": "registry" }], "extraEnv": [{ "name": "A", "value": "b" }], "priorityClassName": "high",
    })
}

fn relay_objects(values: &Value) -> Result<Vec<Value>> {
    objects(&HELM.template_of(RELAY_CHART, "mail", "shop", values)?)
}

/// The arguments of the relay's container, parsed by the relay.
fn relay_arguments(values: &Value) -> Result<RelayArguments> {
    let rendered = relay_objects(values)?;
    let container = &only(&rendered, "Deployment")?["spec"]["template"]["spec"]["containers"][0];
    let given = container["args"].as_array().context("arguments")?;
    let given = given.iter().map(|argument| argument.as_str().unwrap_or_default());
    let RelayTree::Relay(RelayCommand::Run(arguments)) =
        RelayLine::try_parse_from(["mail-failover"].into_iter().chain(given))?.command;
    arguments.check()?;
    Ok(*arguments)
}

#[test]
fn helm_finds_nothing_to_complain_about_in_the_relays_chart() -> Result<()> {
    for values in [least(), all_options()] {
        HELM.lint_of(RELAY_CHART, &values)?;
    }
    Ok(())
}

#[test]
fn the_relay_understands_what_its_chart_tells_it() -> Result<()> {
    let arguments = relay_arguments(&least())?;
    assert_eq!(arguments.source.config_map.as_ref().map(ToString::to_string).as_deref(), Some("shop/orders-agent"));
    assert_eq!(arguments.hostname.as_deref(), Some("mail-mail-failover-relay.shop.svc.cluster.local"));
    assert_eq!(arguments.allow_networks, ["10.0.0.0/8".parse()?]);
    ensure!(arguments.certificate_directory.is_none() && arguments.users_directory.is_none());
    ensure!(arguments.smtps_address.is_empty() && arguments.token_file.is_some() && !arguments.log_addresses);
    // The chart's defaults are the program's.
    let defaults = RelayLine::try_parse_from(["mail-failover", "relay", "run", "--config-file", "f"])?.command;
    let RelayTree::Relay(RelayCommand::Run(defaults)) = defaults;
    assert_eq!(
        (arguments.transaction_timeout, arguments.max_message_size, arguments.max_connections, arguments.buffer_memory),
        (defaults.transaction_timeout, defaults.max_message_size, defaults.max_connections, defaults.buffer_memory)
    );
    assert_eq!((arguments.buffer_disk, arguments.when_ambiguous), (defaults.buffer_disk, defaults.when_ambiguous));

    let arguments = relay_arguments(&all_options())?;
    assert_eq!((arguments.allow_networks.len(), arguments.proxy_from.len(), arguments.smtps_address.len()), (2, 1, 1));
    ensure!(arguments.require_tls && arguments.users_directory.is_some() && arguments.log_addresses);
    assert_eq!((arguments.backend_connections, arguments.hostname.as_deref()), (5, Some("mail.shop.example")));
    Ok(())
}

#[test]
fn what_could_not_work_is_refused_in_words() -> Result<()> {
    for (values, words) in [
        (json!({}), "configMap is needed"),
        (json!({ "configMap": "a" }), "nobody could send"),
        (json!({ "configMap": "a", "clients": { "usersSecret": "u" } }), "needs tls.secretName"),
        (json!({ "configMap": "a", "clients": { "networks": ["10.0.0.0"] } }), "at '/clients/networks/0'"),
        (json!({ "configMap": "a", "clients": { "network": [] } }), "at '/clients'"),
        (json!({ "configmap": "a" }), "'configmap'"),
        (
            json!({ "configMap": "a", "clients": { "networks": ["::/0"] }, "tls": { "required": true } }),
            "tls.required needs",
        ),
        (
            json!({ "configMap": "a", "clients": { "networks": ["::/0"] }, "service": { "externalTrafficPolicy": "Local" } }),
            "service.externalTrafficPolicy is for",
        ),
        (
            json!({ "configMap": "a", "clients": { "networks": ["::/0"] }, "service": { "smtpPort": 0, "submissionPort": 0 } }),
            "would have no port",
        ),
        (json!({ "configMap": "a", "clients": { "networks": ["10.0.0.0/33"] } }), "10.0.0.0/33 is no network"),
        (
            json!({ "configMap": "a", "clients": { "networks": ["::/0"], "proxies": ["10.0.0.256/8"] } }),
            "10.0.0.256/8 is",
        ),
        (
            json!({ "configMap": "a", "clients": { "networks": ["::/0"] }, "transactionTimeout": "14s" }),
            "transactionTimeout is 14s: it must be 15s at least",
        ),
        (
            json!({ "configMap": "a", "clients": { "networks": ["::/0"] }, "terminationGracePeriodSeconds": 35 }),
            "terminationGracePeriodSeconds is 35: it must be longer",
        ),
        (
            json!({ "configMap": "a", "clients": { "networks": ["::/0"] }, "drain": { "delay": "1m" } }),
            "drain.delay (1m)",
        ),
        (json!({ "configMap": "a", "clients": { "networks": ["::/0"] }, "clusterDomain": "a b" }), "is no host name"),
        (json!({ "configMap": "a", "log": { "level": "a=loud" } }), "at '/log/level'"),
        (json!({ "configMap": "a", "whenAmbiguous": "guess" }), "at '/whenAmbiguous'"),
    ] {
        match HELM.template_of(RELAY_CHART, "mail", "shop", &values) {
            Ok(_) => bail!("{values} is accepted"),
            Err(error) => ensure!(format!("{error:#}").contains(words), "{values}: {error:#}"),
        }
    }
    Ok(())
}

#[test]
fn the_pods_are_restricted_and_end_after_their_transactions() -> Result<()> {
    let rendered = relay_objects(&all_options())?;
    let pod = &only(&rendered, "Deployment")?["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let expected = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } });
    assert_eq!(container["securityContext"], expected);
    ensure!(pod["securityContext"]["runAsNonRoot"] == true && pod["automountServiceAccountToken"] == false);
    assert_eq!(container["livenessProbe"]["httpGet"], json!({ "path": "/livez", "port": "health" }));
    assert_eq!(container["readinessProbe"]["httpGet"], json!({ "path": "/readyz", "port": "health" }));
    let arguments = relay_arguments(&all_options())?;
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().context("a number")?);
    ensure!(grace > arguments.drain_delay + arguments.drain_timeout);
    ensure!(arguments.drain_timeout > arguments.transaction_timeout && !arguments.drain_delay.is_zero());
    // Each login lies where the relay looks for it, and every volume has a mount.
    let mounts = container["volumeMounts"].as_array().context("mounts")?;
    for secret in ["ses-login", "sendgrid-login"] {
        let path = arguments.credentials_directory.join(secret).display().to_string();
        let mount = mounts.iter().find(|mount| mount["mountPath"] == *path).with_context(|| path.clone())?;
        let volumes = pod["volumes"].as_array().context("volumes")?;
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).context("a volume")?;
        assert_eq!(volume["secret"]["secretName"], secret);
    }
    assert_eq!(mounts.len(), pod["volumes"].as_array().context("volumes")?.len());
    let spool = pod["volumes"].as_array().into_iter().flatten().find(|volume| volume["name"] == "spool");
    let room = spool.context("a spool")?["emptyDir"]["sizeLimit"].as_str().context("a size")?.parse::<u64>()?;
    ensure!(room > arguments.buffer_disk);
    Ok(())
}

#[test]
fn the_relay_may_read_one_config_map_and_nothing_else() -> Result<()> {
    let rendered = relay_objects(&all_options())?;
    let RbacRule { purpose: _, api_group, resources, verbs } = AGENT;
    let rule =
        json!({ "apiGroups": [api_group], "resources": resources, "resourceNames": ["orders-agent"], "verbs": verbs });
    assert_eq!(only(&rendered, "Role")?["rules"], json!([rule]));
    ensure!(of_kind(&rendered, "ClusterRole").is_empty());
    let account = &only(&rendered, "ServiceAccount")?["metadata"]["name"];
    assert_eq!(only(&rendered, "RoleBinding")?["subjects"][0]["name"], *account);
    assert_eq!(only(&rendered, "Deployment")?["spec"]["template"]["spec"]["serviceAccountName"], *account);
    Ok(())
}

#[test]
fn the_network_policy_is_on_and_lets_labelled_pods_send() -> Result<()> {
    let rendered = relay_objects(&least())?;
    let policy = &only(&rendered, "NetworkPolicy")?["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress"]));
    assert_eq!(
        policy["ingress"][0]["from"],
        json!([{ "podSelector": { "matchLabels": { "mail-relay-client": "true" } } }])
    );
    assert_eq!(policy["ingress"][0]["ports"], json!([{ "port": "smtp", "protocol": "TCP" }]));
    let rendered = relay_objects(&all_options())?;
    let policy = &only(&rendered, "NetworkPolicy")?["spec"];
    assert_eq!(policy["ingress"][0]["ports"][1]["port"], "smtps");
    assert_eq!(policy["egress"], json!([{ "ports": [{ "port": 587 }] }]));
    let without =
        json!({ "configMap": "a", "clients": { "networks": ["::/0"] }, "networkPolicy": { "enabled": false } });
    ensure!(of_kind(&relay_objects(&without)?, "NetworkPolicy").is_empty());
    Ok(())
}

#[test]
fn replicas_are_counted_by_one_and_monitored_once() -> Result<()> {
    let rendered = relay_objects(&least())?;
    ensure!(
        of_kind(&rendered, "HorizontalPodAutoscaler").is_empty() && of_kind(&rendered, "ServiceMonitor").is_empty()
    );
    let deployment = only(&rendered, "Deployment")?;
    assert_eq!(deployment["spec"]["replicas"], 2);
    let labels = &deployment["spec"]["selector"]["matchLabels"];
    assert_eq!(only(&rendered, "PodDisruptionBudget")?["spec"]["selector"]["matchLabels"], *labels);
    for service in of_kind(&rendered, "Service") {
        assert_eq!(service["spec"]["selector"], *labels);
    }
    let rendered = relay_objects(&all_options())?;
    let deployment = only(&rendered, "Deployment")?;
    ensure!(deployment["spec"]["replicas"].is_null(), "the autoscaler sets it");
    let target = &only(&rendered, "HorizontalPodAutoscaler")?["spec"]["scaleTargetRef"];
    assert_eq!(target["name"], deployment["metadata"]["name"]);
    // Of the two Services the monitor selects the one with metrics.
    let monitor = only(&rendered, "ServiceMonitor")?;
    let selector = monitor["spec"]["selector"]["matchLabels"].as_object().context("labels")?;
    let selected = of_kind(&rendered, "Service")
        .into_iter()
        .filter(|service| selector.iter().all(|(key, value)| service["metadata"]["labels"][key] == *value));
    let selected: Vec<_> = selected.collect();
    ensure!(selected.len() == 1 && selected[0]["spec"]["ports"][0]["name"] == monitor["spec"]["endpoints"][0]["port"]);
    Ok(())
}

#[test]
fn the_services_ports_lead_to_ports_of_the_container() -> Result<()> {
    let rendered = relay_objects(&all_options())?;
    let ports = &only(&rendered, "Deployment")?["spec"]["template"]["spec"]["containers"][0]["ports"];
    let arguments = relay_arguments(&all_options())?;
    for service in of_kind(&rendered, "Service") {
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            let container = ports.as_array().into_iter().flatten().find(|known| known["name"] == port["targetPort"]);
            let number = container.with_context(|| port.to_string())?["containerPort"].as_u64().context("a port")?;
            let listening =
                [&arguments.smtp_address[..], &arguments.smtps_address, &[arguments.listen_address]].concat();
            ensure!(listening.iter().any(|address| u64::from(address.port()) == number), "{port}");
        }
    }
    Ok(())
}

#[test]
fn the_manifests_for_users_without_helm_are_those_of_the_chart() -> Result<()> {
    let values: Value = serde_saphyr::from_str(&fs::read_to_string(repository(VALUES))?)?;
    let rendered = HELM.template_of(RELAY_CHART, "mail-relay", "shop", &values)?;
    let mut text = HEAD.to_owned();
    for document in rendered.split("\n---\n").map(|document| document.trim_start_matches("---\n")) {
        let lines = document.lines().filter(|line| !OF_HELM.iter().any(|word| line.trim_start().starts_with(word)));
        let document = lines.collect::<Vec<_>>().join("\n");
        if !document.trim().is_empty() {
            text.extend(["---\n", document.trim(), "\n"]);
        }
    }
    let file = repository(MANIFESTS);
    if std::env::var_os("UPDATE_MANIFESTS").is_some() {
        fs::write(&file, &text)?;
    }
    ensure!(
        fs::read_to_string(&file).unwrap_or_default() == text,
        "{MANIFESTS} differs from the chart; run `make manifests` and commit the result"
    );
    Ok(())
}
