use std::sync::Arc;

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::probe_job::ProbeArguments;
use mail_failover_core::model::{Depth, Destination, TlsMode};
use mail_failover_resolve::{Presumed, backend, ca_key};

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    probe: ProbeArguments,
}

/// The Job of the first probe of a spec.
fn made(spec: &Value) -> (Job, Arc<Backend>) {
    guarded(spec, &DialGuard::default())
}

fn guarded(spec: &Value, guard: &DialGuard) -> (Job, Arc<Backend>) {
    let key = ObjectKey::new("shop", "ses-eu");
    let spec: api::SendingBackendSpec = serde_json::from_value(spec.clone()).unwrap();
    let backend = Arc::new(backend(&key, &spec, &Presumed).unwrap());
    let order = JobParameters {
        key: &key,
        uid: "uid-1",
        backend: &backend,
        probe: &backend.probes[0],
        job: spec.probes.as_ref().unwrap()[0].job.as_ref().unwrap(),
        ca: ca_key(&key, &spec),
        image: "registry.example/mail-failover@sha256:1",
        ehlo_name: None,
        guard,
    };
    (job(&order), backend.clone())
}

fn deep() -> Value {
    json!({
        "smtp": {"host": "smtp.provider.example.", "port": 587, "tls": {"mode": "StartTLS", "caRef": {"secret": "authority", "key": "root.pem"}},
            "auth": {"secretRef": {"name": "ses-login"}}},
        "probes": [{"name": "zone-b", "interval": "45m", "timeout": "7s", "smtp": {"depth": "RcptTo", "from": "a@shop.example", "to": "b@inbox.example"},
            "job": {"serviceAccountName": "mail-probe", "nodeSelector": {"zone": "b"}, "tolerations": [{"key": "mail", "operator": "Exists"}]}}]})
}

#[test]
fn the_pod_is_restricted_and_holds_nothing_but_its_login_and_its_authority() {
    let (job, _) = made(&deep());
    let spec = job.spec.unwrap();
    assert_eq!((spec.backoff_limit, spec.active_deadline_seconds), (Some(0), Some(108)));
    assert_eq!(spec.ttl_seconds_after_finished, Some(90 * 60));
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert_eq!(pod.service_account_name.as_deref(), Some("mail-probe"));
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    assert_eq!(pod.node_selector.unwrap()["zone"], "b");
    assert_eq!(pod.tolerations.unwrap()[0].key.as_deref(), Some("mail"));
    // Pod Security Standards, Restricted.
    let of_pod = pod.security_context.unwrap();
    assert_eq!(
        (of_pod.run_as_non_root, of_pod.seccomp_profile.unwrap().type_),
        (Some(true), "RuntimeDefault".to_owned())
    );
    let [container] = pod.containers.as_slice() else { panic!("one container") };
    let security = container.security_context.clone().unwrap();
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(security.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
    assert!(container.env.is_none() && container.env_from.is_none());
    let volumes = serde_json::to_value(pod.volumes.unwrap()).unwrap();
    assert_eq!(
        volumes,
        json!([
            {"name": "login", "secret": {"secretName": "ses-login", "defaultMode": 0o440, "optional": true,
                "items": [{"key": "username", "path": "username"}, {"key": "password", "path": "password"}]}},
            {"name": "ca", "secret": {"secretName": "authority", "optional": true, "items": [{"key": "root.pem", "path": "ca.crt"}]}},
        ])
    );
    assert!(container.volume_mounts.as_ref().unwrap().iter().all(|mount| mount.read_only == Some(true)));
    let owner = &job.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("SendingBackend", "uid-1", Some(true)));
}

#[test]
fn what_is_written_on_the_command_line_is_read_back() {
    let (job, _) = made(&deep());
    let arguments = arguments_of(&job).unwrap();
    let read = CommandLine::parse_from(arguments).probe;
    assert_eq!((read.host.as_str(), read.port), ("smtp.provider.example.", 587));
    assert_eq!((read.tls, read.depth, read.timeout), (TlsMode::StartTls, Depth::RcptTo, Duration::from_secs(7)));
    assert_eq!(read.server_name.as_deref(), Some("smtp.provider.example"));
    assert_eq!((read.from.as_deref(), read.to.as_deref()), (Some("a@shop.example"), Some("b@inbox.example")));
    assert_eq!(read.ca_file.unwrap().to_str(), Some("/var/run/mail-failover/ca/ca.crt"));
    assert_eq!(read.login_folder.unwrap().to_str(), Some("/var/run/mail-failover/login"));
    assert_eq!(read.result_file.unwrap().to_str(), Some("/dev/termination-log"));
}

#[test]
fn a_headless_service_is_probed_at_the_port_of_its_endpoints() {
    let of_service =
        json!({"service": {"name": "relay", "port": 25}, "probes": [{"name": "zone-b", "smtp": {}, "job": {}}]});
    let mut backend = Backend::clone(&made(&of_service).1);
    let Destination::Service(service) = &mut backend.destination else { panic!("a Service") };
    service.client_port = 2525;
    let guard = DialGuard::default();
    let arguments = crate::probe_job::arguments::arguments(&backend, &backend.probes[0], false, None, &guard);
    let read = CommandLine::parse_from(arguments).probe;
    assert_eq!((read.host.as_str(), read.port), ("relay.shop.svc", 2525));
    assert_eq!(read.guard, guard.of_service(2525));
}

#[test]
fn the_pod_is_guarded_as_the_operator_is() {
    let guard = DialGuard {
        deny_destinations: vec!["10.0.0.0/8".parse().unwrap()],
        allow_destinations: vec!["10.9.0.0/16".parse().unwrap()],
        ..DialGuard::default()
    };
    let read = |spec: &Value| CommandLine::parse_from(arguments_of(&guarded(spec, &guard).0).unwrap()).probe;
    assert_eq!(read(&deep()).guard, guard);
    // A Service's address is in a network that is denied to hosts of specs.
    let of_service =
        json!({"service": {"name": "relay", "port": 2526}, "probes": [{"name": "zone-b", "smtp": {}, "job": {}}]});
    let read = read(&of_service);
    assert_eq!(read.host, "relay.shop.svc");
    assert_eq!(read.guard, guard.of_service(2526));
}

#[test]
fn the_named_keys_of_a_login_are_mounted_under_the_usual_names() {
    let mut spec = deep();
    spec["smtp"]["auth"]["secretRef"] = json!({"name": "both", "usernameKey": "ses-user", "passwordKey": "ses-key"});
    let (job, _) = made(&spec);
    let pod = job.spec.unwrap().template.spec.unwrap();
    let login = pod.volumes.unwrap().into_iter().find_map(|volume| volume.secret).unwrap();
    assert_eq!(login.secret_name.as_deref(), Some("both"));
    let items: Vec<_> = login.items.unwrap().into_iter().map(|item| (item.key, item.path)).collect();
    assert_eq!(items, [("ses-user", "username"), ("ses-key", "password")].map(|(key, path)| (key.into(), path.into())));
}

#[test]
fn a_probe_that_does_not_log_in_has_no_login() {
    let mut spec = deep();
    spec["probes"][0]["smtp"] = json!({"depth": "StartTLS"});
    spec["smtp"]["tls"]["caRef"] = json!({"configMap": "roots"});
    spec["probes"][0]["job"] = json!({});
    let (job, _) = made(&spec);
    let pod = job.spec.unwrap().template.spec.unwrap();
    let volumes = serde_json::to_value(pod.volumes.unwrap()).unwrap();
    let expected = json!([{"name": "ca", "configMap": {"name": "roots", "optional": true, "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]);
    assert_eq!(volumes, expected);
    assert_eq!(pod.service_account_name.as_deref(), Some("default"));
}

#[test]
fn a_job_has_one_name_that_is_a_label_and_tells_backends_and_probes_apart() {
    let long = ObjectKey::new("shop", format!("{}.example", "a".repeat(240)));
    let key = ObjectKey::new("shop", "ses-eu");
    let names = [
        name("uid-1", &key, "zone-b"),
        name("uid-2", &key, "zone-b"),
        name("uid-1", &key, "zone-c"),
        name("uid-1", &long, &"p".repeat(63)),
        name("uid-1", &ObjectKey::new("shop", format!("{}.b", "a".repeat(23))), "zone-b"),
    ];
    for name in &names {
        let is_label = name.len() <= 63
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        assert!(is_label && !name.contains("--"), "{name}");
    }
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(names[0].starts_with("probe-ses-eu-zone-b-"), "{}", names[0]);
    assert_eq!(names[0], name("uid-1", &key, "zone-b"));
    assert!(labels(&long, "p")[BACKEND_LABEL].len() <= 63);
}

#[test]
fn rules_about_replies_come_through_the_command_line_whatever_their_letters() {
    let mut spec = deep();
    spec["provider"] = json!("SES");
    spec["replies"] = json!([
        {"name": "house", "about": "Quota", "stages": ["MAIL", "DATA"], "codes": ["5xx"], "enhancedCodes": ["x.7.*"],
            "words": ["limit of \\$$(HOME) \"letters\"", "d\u{e9}pass\u{e9}$"]},
    ]);
    let (job, backend) = made(&spec);
    let arguments = arguments_of(&job).unwrap();
    // Kubernetes expands these in arguments.
    assert!(arguments.iter().all(|argument| !argument.contains('$')), "{arguments:?}");
    let read = CommandLine::parse_from(arguments).probe;
    assert_eq!(read.provider.as_deref(), Some("SES"));
    let rules: Vec<mail_failover_core::model::ReplyRule> =
        read.reply_rules.unwrap().iter().cloned().map(Into::into).collect();
    assert_eq!(rules, backend.replies.rules);
    assert_eq!(rules.len(), 1);
}

#[test]
fn what_the_host_tells_is_not_said_again() {
    let mut spec = deep();
    spec["smtp"]["host"] = json!("email-smtp.eu-west-1.amazonaws.com");
    let (job, backend) = made(&spec);
    assert_eq!(backend.replies.provider.as_deref(), Some("SES"));
    let arguments = arguments_of(&job).unwrap();
    let said =
        arguments.iter().any(|argument| argument.starts_with("--provider") || argument.starts_with("--reply-rules"));
    assert!(!said, "{arguments:?}");
}
