use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::*;
use mail_failover_core::model::{Login, ServicePort};

/// A cluster in which there is nothing.
struct Nothing;

impl Lookup for Nothing {
    fn ca(&self, _: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        Err(ReadProblem::NotFound)
    }

    fn login(&self, key: &LoginKey) -> Result<Login, ReadProblem> {
        match &*key.object.name {
            "relay" => Ok(Login::new("shop", "hunter2")),
            "unread" => Err(ReadProblem::Pending),
            "broken" => Err(ReadProblem::Malformed("it has no key password".into())),
            "forbidden" => Err(ReadProblem::Unreadable("secrets is forbidden".into())),
            _ => Err(ReadProblem::NotFound),
        }
    }

    fn service(&self, _: &ObjectKey, _: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        Err(ServiceProblem::NotFound)
    }
}

/// A cluster in which each Service is there, without endpoints.
struct Services;

impl Lookup for Services {
    fn ca(&self, _: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        Err(ReadProblem::NotFound)
    }

    fn login(&self, _: &LoginKey) -> Result<Login, ReadProblem> {
        Err(ReadProblem::NotFound)
    }

    fn service(&self, _: &ObjectKey, _: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        Ok(ServicePort { dns_name: "relay.shop.svc".into(), port: 25, client_port: 25, endpoints: vec![] })
    }
}

/// A backend with these fields beside what it must have.
fn parsed(fields: &Value) -> Result<Backend, Unresolved> {
    let mut spec = json!({"smtp": {"host": "mx.example.", "port": 25}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    backend(&ObjectKey::new("shop", "a"), &serde_json::from_value(spec).unwrap(), &Nothing)
}

#[test]
fn what_a_backend_leaves_out_restricts_nothing() {
    for fields in [json!({}), json!({"location": {}, "limits": {}})] {
        let backend = parsed(&fields).unwrap();
        assert_eq!(backend.location, Location::default(), "{fields}");
        assert_eq!(backend.limits, Limits::default(), "{fields}");
        assert!(backend.sender_domains.is_empty(), "{fields}");
    }
}

#[test]
fn where_it_is_how_much_it_takes_and_for_whom_is_taken_at_its_word() {
    let backend = parsed(&json!({
        "location": {"region": "eu-west-1", "jurisdiction": "EU", "failureDomain": "aws"},
        "limits": {"messagesPerSecond": 14, "messagesPerDay": 50000, "connections": 20, "messagesPerConnection": 50,
            "warmUp": {"startedAt": "2026-11-01T01:00:00+01:00", "schedule": [200, 500]}},
        "senderDomains": [{"domain": "Shop.Example"}, {"domain": "shop.example"}, {"domain": "news.example"}],
    }))
    .unwrap();
    let text = |text: &str| Some(Arc::from(text));
    assert_eq!(
        backend.location,
        Location { region: text("eu-west-1"), jurisdiction: text("EU"), failure_domain: text("aws") }
    );
    // 2026-11-01T00:00:00Z.
    let started_at = Timestamp::from_micros(1_793_491_200_000_000);
    assert_eq!(
        backend.limits,
        Limits {
            messages_per_second: Some(14),
            messages_per_day: Some(50_000),
            warm_up: Some(WarmUp { started_at, schedule: vec![200, 500] }),
            connections: Some(20),
            messages_per_connection: Some(50),
        }
    );
    assert_eq!(backend.sender_domains, [Arc::from("shop.example"), Arc::from("news.example")]);
}

#[test]
fn tls_follows_the_port_where_a_spec_leaves_it_out() {
    let mode = |fields: &Value| parsed(fields).map(|backend| backend.tls.mode);
    for (port, want) in [
        (25, TlsMode::Opportunistic),
        (465, TlsMode::Implicit),
        (587, TlsMode::StartTls),
        (2525, TlsMode::None),
        (2465, TlsMode::None),
    ] {
        assert_eq!(mode(&json!({"smtp": {"host": "mx.example", "port": port}})), Ok(want), "{port}");
    }
    let plain = json!({"smtp": {"host": "mx.example", "port": 587, "tls": {"mode": "None"}}});
    assert_eq!(mode(&plain), Ok(TlsMode::None), "a mode that is written counts");
    let auth = json!({"secretRef": {"name": "relay"}});
    let login = json!({"smtp": {"host": "mx.example", "port": 587, "auth": auth}});
    assert_eq!(parsed(&login).map(|backend| backend.secret), Ok(Some(LoginReference::new("relay", None, None))));
}

#[test]
fn a_timeout_that_is_left_out_fits_delays_of_ordinary_servers_and_the_interval() {
    let timeout = |fields: Value| parsed(&fields).unwrap().probes[0].timeout;
    let probe = |more: Value| {
        let mut probe = json!({"name": "a", "smtp": {}});
        probe.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"probes": [probe]})
    };
    assert_eq!(timeout(json!({})), Duration::from_secs(10));
    assert_eq!(timeout(probe(json!({}))), Duration::from_secs(10));
    assert_eq!(timeout(probe(json!({"interval": "1s"}))), Duration::from_secs(10));
    assert_eq!(timeout(probe(json!({"interval": "500ms"}))), Duration::from_secs(5));
    assert_eq!(timeout(probe(json!({"interval": "500ms", "timeout": "400ms"}))), Duration::from_millis(400));
}

#[test]
fn a_password_goes_where_others_can_read_it_only_if_that_is_said() {
    let auth = json!({"secretRef": {"name": "relay"}});
    let readable = json!({"secretRef": {"name": "relay"}, "allowPlaintext": true});
    let smtp = |tls: &str, auth: &Value| json!({"smtp": {"host": "mx.example", "port": 25, "tls": {"mode": tls}, "auth": auth}});
    let secret = |fields: &Value| parsed(fields).map(|backend| backend.secret);
    assert_eq!(secret(&json!({})), Ok(None));
    for (tls, auth) in [("StartTLS", &auth), ("Implicit", &auth), ("None", &readable), ("Opportunistic", &readable)] {
        assert_eq!(secret(&smtp(tls, auth)), Ok(Some(LoginReference::new("relay", None, None))), "{tls}");
    }
    let expected = "spec.smtp.auth: whoever sits between reads the password; use tls.mode StartTLS or Implicit, or set allowPlaintext to true if that is meant";
    for tls in ["None", "Opportunistic"] {
        let rejection = Rejection { reason: "InvalidSpec", message: expected.to_owned() };
        assert_eq!(secret(&smtp(tls, &auth)), Err(Unresolved::Rejected(rejection)), "{tls}");
    }
}

#[test]
fn what_an_old_schema_lets_pass_is_rejected_all_the_same() {
    let warm_up = json!({"startedAt": "2026-11-01T00:00:00Z", "schedule": [200, 0]});
    let rejected = [
        (
            json!({"messagesPerSecond": 1_000_001}),
            "spec.limits.messagesPerSecond: 1000001 is not between 1 and 1000000",
        ),
        (json!({"connections": 0}), "spec.limits.connections: 0 is not between 1 and 100000"),
        (json!({"messagesPerConnection": 0}), "spec.limits.messagesPerConnection: 0 is not between 1 and 1000000"),
        (json!({"messagesPerDay": 0}), "spec.limits.messagesPerDay: 0 is not between 1 and 1000000000"),
        (json!({"warmUp": warm_up}), "spec.limits.warmUp.schedule[]: 0 is not between 1 and 1000000000"),
    ];
    for (limits, expected) in rejected {
        let rejection = Rejection { reason: "InvalidSpec", message: expected.to_owned() };
        assert_eq!(parsed(&json!({"limits": limits})), Err(Unresolved::Rejected(rejection)), "{limits}");
    }
}

#[test]
fn no_probe_has_the_name_of_what_agents_say() {
    let refused = parsed(&json!({"probes": [{"name": "deliveries", "smtp": {}}]})).unwrap_err();
    let Unresolved::Rejected(Rejection { reason, message }) = refused else { panic!("{refused:?}") };
    assert_eq!(
        (reason, message.starts_with("spec.probes[].name: deliveries is the name")),
        ("InvalidSpec", true),
        "{message}"
    );
}

/// A spec with these probes, at a host that asks for a login.
fn probed(secret: &str, probes: &Value) -> Result<Backend, Unresolved> {
    parsed(
        &json!({"smtp": {"host": "mx.example", "port": 587, "tls": {"mode": "StartTLS"}, "auth": {"secretRef": {"name": secret}}},
        "probes": probes}),
    )
}

#[test]
fn a_deep_probe_has_its_addresses_and_its_login() {
    let to = json!({"depth": "RcptTo", "from": "probe+1@shop.example", "to": "sink@inbox.example"});
    let backend = probed("relay", &json!([{"name": "deep", "smtp": to}, {"name": "smtp", "smtp": {}}])).unwrap();
    assert_eq!(backend.login, ProbeLogin::With(Login::new("shop", "hunter2")));
    let deep = &backend.probes[0];
    assert_eq!((deep.depth, deep.interval), (Depth::RcptTo, Duration::from_secs(30)));
    let address = |text: &str| Some(Arc::from(text));
    assert_eq!(
        deep.envelope,
        Envelope { sender: address("probe+1@shop.example"), recipient: address("sink@inbox.example") }
    );
    assert_eq!(backend.probes[1].interval, Duration::from_secs(10));
    // Where no probe logs in nothing is read.
    assert_eq!(probed("unread", &json!([{"name": "smtp", "smtp": {}}])).unwrap().login, ProbeLogin::None);
    assert_eq!(probed("unread", &json!([{"name": "deep", "smtp": {"depth": "Auth"}}])), Err(Unresolved::Pending));
}

#[test]
fn the_keys_of_a_login_can_be_named() {
    let spec = |secret: Value| {
        let smtp = json!({"host": "mx.example", "port": 465, "auth": {"secretRef": secret}});
        json!({"smtp": smtp, "probes": [{"name": "deep", "smtp": {"depth": "Auth"}}]})
    };
    let named = spec(json!({"name": "relay", "usernameKey": "ses-user", "passwordKey": "ses-key"}));
    let expected = LoginReference::new("relay", Some("ses-user"), Some("ses-key"));
    assert_eq!(parsed(&named).unwrap().secret, Some(expected.clone()));
    let key = login_key(&ObjectKey::new("shop", "a"), &serde_json::from_value(named).unwrap());
    assert_eq!(key, Some(LoginKey::beside(&ObjectKey::new("shop", "a"), &expected)));
    let absent = parsed(&spec(json!({"name": "absent", "passwordKey": "ses-key"}))).unwrap();
    let ProbeLogin::Missing { message, .. } = absent.login else { panic!() };
    assert!(message.ends_with("create it with the keys username and ses-key"), "{message}");
}

#[test]
fn a_login_that_cannot_be_had_keeps_the_rest_of_the_backend_in_force() {
    for (secret, reason, says) in [
        ("absent", "SecretNotFound", "Secret absent does not exist in namespace shop; create it"),
        ("broken", "SecretMalformed", "Secret broken holds no login: it has no key password"),
        ("forbidden", "SecretUnreadable", "Secret forbidden cannot be read; let the operator get it"),
    ] {
        let backend = probed(secret, &json!([{"name": "deep", "smtp": {"depth": "Auth"}}])).unwrap();
        let ProbeLogin::Missing { reason: given, message } = backend.login else { panic!("{secret}") };
        assert_eq!(given, reason);
        assert!(message.starts_with(&format!("spec.smtp.auth.secretRef: {says}")), "{message}");
    }
}

#[test]
fn a_probe_that_an_old_schema_lets_pass_is_rejected_or_bounded() {
    for (probe, expected) in [
        (json!({"depth": "MailFrom"}), "spec.probes[].smtp.from: depth MailFrom needs an address; give it one"),
        (
            json!({"depth": "RcptTo", "from": "a@b.example"}),
            "spec.probes[].smtp.to: depth RcptTo needs an address; give it one",
        ),
        (
            json!({"depth": "MailFrom", "from": "a@b.example>\r\nDATA"}),
            "spec.probes[].smtp.from: it is no address as SMTP has it (RFC 5321 §4.1.2); use probe@shop.example",
        ),
    ] {
        let rejection = Rejection { reason: "InvalidSpec", message: expected.to_owned() };
        assert_eq!(probed("relay", &json!([{"name": "a", "smtp": probe}])), Err(Unresolved::Rejected(rejection)));
    }
    let eager = probed("relay", &json!([{"name": "a", "interval": "1s", "smtp": {"depth": "Auth"}}])).unwrap();
    assert_eq!(eager.probes[0].interval, Duration::from_secs(30));
    let rejected = parsed(&json!({"probes": [{"name": "a", "smtp": {"depth": "Auth"}}]})).unwrap_err();
    let Unresolved::Rejected(rejection) = rejected else { panic!("{rejected:?}") };
    assert!(rejection.message.contains("name a Secret in spec.smtp.auth.secretRef"), "{}", rejection.message);
}

#[test]
fn ones_own_relays_keep_idle_sessions_and_others_do_by_wish() {
    let kept = |spec: Value| {
        let parsed = backend(&ObjectKey::new("shop", "a"), &serde_json::from_value(spec.clone()).unwrap(), &Services);
        parsed.unwrap_or_else(|problem| panic!("{spec}: {problem:?}")).probes[0].idle_session
    };
    let (host, service) = (json!({"host": "mx.example", "port": 25}), json!({"name": "relay", "port": 25}));
    assert!(kept(json!({"service": service})));
    assert!(!kept(json!({"smtp": host})));
    for (smtp, job, by_service, by_host) in [
        (json!({}), None, true, false),
        (json!({"idleSession": true}), None, true, true),
        (json!({"idleSession": false}), None, false, false),
        (json!({"depth": "Banner"}), None, false, false),
        (json!({"depth": "Ehlo"}), None, true, false),
        (json!({}), Some(json!({})), false, false),
        (json!({"idleSession": false}), Some(json!({})), false, false),
    ] {
        let mut probe = json!({"name": "a", "smtp": smtp});
        probe.as_object_mut().unwrap().extend(job.map(|job| ("job".to_owned(), job)));
        assert_eq!(kept(json!({"service": service, "probes": [probe]})), by_service, "{probe}");
        assert_eq!(kept(json!({"smtp": host, "probes": [probe]})), by_host, "{probe}");
    }
}

#[test]
fn an_idle_session_that_an_old_schema_lets_pass_is_rejected_where_it_cannot_be() {
    for (probe, why) in [
        (json!({"name": "a", "smtp": {"idleSession": true}, "job": {}}), "the pod ends with its round"),
        (json!({"name": "a", "smtp": {"idleSession": true, "depth": "Connect"}}), "the session is idle after EHLO"),
    ] {
        let Err(Unresolved::Rejected(rejection)) = parsed(&json!({"probes": [probe]})) else { panic!("{probe}") };
        let expected = format!("spec.probes[].smtp.idleSession: {why}");
        assert!(rejection.message.starts_with(&expected), "{}", rejection.message);
    }
}

#[test]
fn an_address_is_one_as_smtp_has_it() {
    let long = |length: usize| format!("{}@b.example", "x".repeat(length));
    for good in ["a@b.example", "a.b+c@b-1.example", "!#$%&'*+-/=?^_`{|}~@b", &long(64)] {
        assert!(is_mailbox(good), "{good}");
    }
    for bad in [
        "",
        "a",
        "@b",
        "a@",
        "a@b..c",
        "a@-b.example",
        ".a@b",
        "a..b@c",
        "a b@c",
        "a@b>",
        "a@b\r\nDATA",
        "<a@b>",
        "ä@b",
        &long(65),
    ] {
        assert!(!is_mailbox(bad), "{bad}");
    }
}
