use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use mail_failover_core::model::{
    DeliveryThresholds, Destination, EvidenceClass, Limits, Location, LoginReference, ObjectKey, ReplyRule, ReplyRules,
    ServicePort, SmtpHost, Thresholds, Tls, Uid,
};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";

fn owner() -> Owner {
    Owner { key: ObjectKey::new("shop", "orders"), uid: Uid::parse(Some("u-1")).unwrap() }
}

fn backend(host: &str, port: u16, mode: TlsMode) -> Backend {
    let host: Arc<str> = host.into();
    Backend {
        destination: Destination::Host(SmtpHost { host: host.clone(), port }),
        tls: Tls { mode, server_name: host, trust: TrustAnchors::WellKnown },
        secret: None,
        login: mail_failover_core::model::ProbeLogin::None,
        suspended: false,
        probes: vec![],
        location: Location::default(),
        limits: Limits::default(),
        sender_domains: vec![],
        replies: ReplyRules::default(),
    }
}

/// Returns the document that agents read when these backends carry these shares, and the backends that it leaves out.
fn rendered(
    members: &[(&str, &Backend, bool)],
    shares: &[(&str, &Backend, u8)],
    policy: &Policy,
    operators: &[OperatorEndpoint],
) -> Result<(Value, Vec<Sharing>), Refusal> {
    let targets: Vec<_> = shares
        .iter()
        .map(|(name, backend, percent)| Target {
            percent: *percent,
            transition: 7,
            name,
            backend,
            addresses: None,
            is_place_known: true,
        })
        .collect();
    let inputs = DocumentInputs {
        members: members
            .iter()
            .map(|(name, backend, is_standby)| DocumentMember {
                name,
                backend,
                is_standby: *is_standby,
                is_alternate: *is_standby,
                is_trial: false,
                part: AgentPart::of(&backend.limits, Senders { carrying: 3, spilling: 0 }, true, Timestamp::default()),
            })
            .collect(),
        sender_domains: &["shop.example".into()],
        summary: "Failover a → b: NoAnswer".to_owned(),
        policy,
        operators,
        agents: 3,
        has_only_relays: false,
        drill: None,
        now: Timestamp::default(),
    };
    let Rendered { text, left_out } = render(&owner(), &targets, &inputs)?;
    Ok((serde_json::from_str(&text).unwrap(), left_out))
}

fn percents(document: &Value) -> Vec<(&str, u64)> {
    let of = |backend: &'_ Value| backend["percent"].as_u64().unwrap();
    let backends = document["backends"].as_array().unwrap();
    backends.iter().map(|backend| (backend["name"].as_str().unwrap(), of(backend))).collect()
}

#[test]
fn agents_are_told_all_they_need_and_no_secret() {
    let private = Backend {
        tls: Tls {
            mode: TlsMode::Implicit,
            server_name: "mail.example".into(),
            trust: TrustAnchors::Pem(PEM.as_bytes().into()),
        },
        secret: Some("ses-smtp".into()),
        limits: Limits {
            messages_per_second: Some(14),
            messages_per_day: Some(50_000),
            connections: Some(20),
            messages_per_connection: Some(50),
            ..Limits::default()
        },
        sender_domains: vec!["shop.example".into()],
        replies: ReplyRules {
            provider: Some("SES".into()),
            rules: vec![ReplyRule {
                name: "spent".into(),
                about: "Quota".into(),
                stages: vec!["DATA".into()],
                codes: vec![],
                enhanced_codes: vec!["x.7.*".into()],
                words: vec!["spent".into()],
            }],
            rejected: vec!["spec.replies[broken]: not for agents".into()],
        },
        ..backend("2001:db8::7", 465, TlsMode::Implicit)
    };
    let endpoints = vec!["192.0.2.7:2525".parse().unwrap()];
    // Of a headless Service clients are told the port of its endpoints.
    let service =
        ServicePort { dns_name: "relay.shop.svc.cluster.local".into(), port: 25, client_port: 2525, endpoints };
    let inside = Backend { destination: Destination::Service(service), ..backend("x", 25, TlsMode::Opportunistic) };
    let policy = Policy {
        deliveries: DeliveryThresholds { consecutive: 3, lasting: Duration::from_millis(1500) },
        thresholds: Thresholds {
            immediate: [EvidenceClass::AccountPaused].into_iter().collect(),
            ..Thresholds::default()
        },
        ..Policy::default()
    };
    let operators =
        [OperatorEndpoint { address: "[2001:db8::1]:8443".to_owned(), certificate_sha256: "ab".repeat(32) }];
    let members = [("a", &private, true), ("b", &inside, false)];
    let (document, left_out) = rendered(&members, &[("b", &inside, 100)], &policy, &operators).unwrap();
    let expected = json!({
        "apiVersion": "agent.mailfailover.io/v1alpha1",
        "route": {"namespace": "shop", "name": "orders", "uid": "u-1"},
        "decision": {"transition": 7, "summary": "Failover a → b: NoAnswer"},
        "backends": [
            {"name": "a", "percent": 0, "standby": true, "alternate": true, "rate": {"messages": 14, "perMilliseconds": 3000}, "messagesPerDay": 16_666, "connections": 6, "messagesPerConnection": 50, "host": "2001:db8::7", "port": 465, "secret": "ses-smtp", "senderDomains": ["shop.example"],
                "provider": "SES", "replies": [{"name": "spent", "about": "Quota", "stages": ["DATA"], "enhancedCodes": ["x.7.*"], "words": ["spent"]}],
                "tls": {"mode": "Implicit", "serverName": "mail.example", "ca": PEM}},
            {"name": "b", "percent": 100, "standby": false, "host": "relay.shop.svc.cluster.local", "port": 2525, "tls": {"mode": "Opportunistic"}},
        ],
        "breaker": {"consecutive": 3, "firstPauseMilliseconds": 5000, "longestPauseMilliseconds": 60_000},
        "deliveries": {"consecutive": 3, "lastingMilliseconds": 1500, "immediately": ["AccountPaused"], "cooldownMilliseconds": 600_000},
        // For agents of the first release.
        "reflex": {"consecutive": 3, "lastingMilliseconds": 1500, "immediately": ["AccountPaused"],
            "cooldownMilliseconds": 600_000, "switches": 6, "perMilliseconds": 3_600_000},
        "senderDomains": ["shop.example"],
        "operators": [{"address": "[2001:db8::1]:8443", "certificateSha256": "ab".repeat(32)}],
        "agents": 3,
    });
    assert_eq!((document, left_out), (expected, vec![]));
}

#[test]
fn a_backend_that_left_the_route_is_told_of_while_it_carries_mail() {
    let (old, new) = (backend("old.example", 25, TlsMode::None), backend("new.example", 25, TlsMode::None));
    let policy = Policy::default();
    let (document, _) = rendered(&[("new", &new, false)], &[("old", &old, 100)], &policy, &[]).unwrap();
    assert_eq!(percents(&document), [("new", 0), ("old", 100)]);
    assert_eq!(document["backends"][1]["standby"], false);
}

#[test]
fn of_backends_at_one_host_and_port_agents_are_told_of_the_one_that_carries_most() {
    let (here, there) =
        (backend("mx.example", 587, TlsMode::StartTls), backend("other.example", 587, TlsMode::StartTls));
    let shouted = backend("MX.example", 587, TlsMode::StartTls);
    let policy = Policy::default();
    let members = [("a", &here, true), ("b", &shouted, true), ("c", &there, true)];
    for (shares, told, kept, left) in [
        ([("a", &here, 100), ("b", &shouted, 0), ("c", &there, 0)], [("a", 100), ("c", 0)], "a", "b"),
        ([("a", &here, 0), ("b", &shouted, 100), ("c", &there, 0)], [("b", 100), ("c", 0)], "b", "a"),
        ([("a", &here, 0), ("b", &shouted, 0), ("c", &there, 100)], [("a", 0), ("c", 100)], "a", "b"),
        // To an MTA they are one.
        ([("a", &here, 20), ("b", &shouted, 30), ("c", &there, 50)], [("b", 50), ("c", 50)], "b", "a"),
    ] {
        let (document, left_out) = rendered(&members, &shares, &policy, &[]).unwrap();
        assert_eq!(percents(&document), told);
        let next_hop = if left == "a" { "[mx.example]:587" } else { "[MX.example]:587" };
        let sharing = Sharing { told: kept.to_owned(), left_out: left.to_owned(), next_hop: next_hop.to_owned() };
        assert_eq!(left_out, [sharing]);
        // Who goes by names, as the relay does, is told of all.
        let accounts = document["accounts"].as_array().unwrap().iter();
        let accounts: Vec<_> = accounts.map(|backend| backend["percent"].as_u64().unwrap()).collect();
        assert_eq!(accounts, shares.map(|(_, _, percent)| u64::from(percent)));
    }
}

#[test]
fn what_agents_would_not_read_is_not_written() {
    let trust = TrustAnchors::Pem(PEM.repeat(20_000).as_bytes().into());
    let mut bulky = backend("mx.example", 465, TlsMode::Implicit);
    bulky.tls.trust = trust;
    let refusal = rendered(&[("a", &bulky, true)], &[("a", &bulky, 100)], &Policy::default(), &[]).unwrap_err();
    assert!(matches!(refusal, Refusal::TooLarge(_)), "{refusal}");
}

proptest! {
    /// Shares of which a part could not be placed, of backends of which some are not known, with
    /// places that several have: an agent reads whatever is written, and what carries mail is among
    /// it.
    #[test]
    fn an_agent_reads_whatever_is_written(
        hosts in prop::collection::vec(0_u8..6, 1..9),
        shares in prop::collection::vec(0_u8..=100, 1..9),
        known in prop::collection::vec(any::<bool>(), 9),
    ) {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let backends: Vec<_> = hosts.iter().map(|host| backend(&format!("h{host}.example"), 25, TlsMode::None)).collect();
        let named = || names.into_iter().zip(&backends);
        let members: Vec<_> = named().zip(&known).filter(|(_, is_known)| **is_known).map(|((name, backend), _)| (name, backend, true)).collect();
        let carrying: Vec<_> = named().zip(&shares).map(|((name, backend), share)| (name, backend, *share)).collect();
        let (document, left_out) = rendered(&members, &carrying, &Policy::default(), &[]).unwrap();
        let told = percents(&document);
        prop_assert_eq!(told.iter().map(|(_, percent)| percent).sum::<u64>(), 100);
        let everybody: std::collections::BTreeSet<_> = members.iter().map(|member| member.0).chain(carrying.iter().map(|share| share.0)).collect();
        prop_assert_eq!(told.len() + left_out.len(), everybody.len());
        let by_name = document["accounts"].as_array().map_or(told.len(), Vec::len);
        prop_assert_eq!(by_name, everybody.len());
    }
}

#[test]
fn shares_keep_their_proportions() {
    for (shares, percents) in [
        (&[100, 0][..], &[100, 0][..]),
        (&[0, 0], &[100, 0]),
        // A part was not placed: the rest is all there is.
        (&[10, 30], &[25, 75]),
        (&[1, 1, 1], &[34, 33, 33]),
        (&[0, 7], &[0, 100]),
        (&[100, 100, 100, 100], &[25, 25, 25, 25]),
    ] {
        assert_eq!(to_hundred(shares), percents, "{shares:?}");
    }
}

#[test]
fn agents_are_told_of_the_keys_of_a_login_if_they_are_not_the_usual_ones() {
    let login = LoginReference::new("both", Some("ses-user"), None);
    let keyed = Backend { secret: Some(login), ..backend("a.example", 587, TlsMode::StartTls) };
    let usual = Backend { secret: Some("usual".into()), ..backend("b.example", 587, TlsMode::StartTls) };
    let members = [("keyed", &keyed, true), ("usual", &usual, true)];
    let (document, _) = rendered(&members, &[("keyed", &keyed, 100)], &Policy::default(), &[]).unwrap();
    let told =
        |at: usize| ["secret", "usernameKey", "passwordKey"].map(|field| document["backends"][at][field].as_str());
    assert_eq!(told(0), [Some("both"), Some("ses-user"), None]);
    assert_eq!(told(1), [Some("usual"), None, None]);
}

#[test]
fn agents_are_told_that_nobody_may_carry_the_mail_in_words_that_an_older_one_understands() {
    let policy = Policy::default();
    let operators =
        [OperatorEndpoint { address: "[2001:db8::1]:8443".to_owned(), certificate_sha256: "ab".repeat(32) }];
    let summary = "Withdrawn: nobody may carry the mail".to_owned();
    let inputs = DocumentInputs {
        members: vec![],
        summary,
        policy: &policy,
        sender_domains: &[],
        operators: &operators,
        agents: 1,
        has_only_relays: false,
        drill: None,
        now: Timestamp::default(),
    };
    let text = render_withdrawn(&owner(), 7, &inputs).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["withdrawn"], true);
    assert_eq!(document["decision"], json!({"transition": 7, "summary": "Withdrawn: nobody may carry the mail"}));
    let nowhere = json!([{"name": "withdrawn", "percent": 100, "standby": false, "host": "255.255.255.255", "port": 25,
        "tls": {"mode": "None"}}]);
    assert_eq!(document["backends"], nowhere);
    assert_eq!(document["operators"][0]["address"], "[2001:db8::1]:8443", "it goes on reporting");
}
