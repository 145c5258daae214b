use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::*;
use crate::model::ServicePort;

/// A cluster in which there is nothing.
struct Nothing;

impl Lookup for Nothing {
    fn ca(&self, _: &CaKey) -> Result<Arc<[u8]>, CaProblem> {
        Err(CaProblem::NotFound)
    }

    fn service(&self, _: &ObjectKey, _: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        Err(ServiceProblem::NotFound)
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
        "limits": {"messagesPerSecond": 14, "messagesPerDay": 50000,
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
        }
    );
    assert_eq!(backend.sender_domains, [Arc::from("shop.example"), Arc::from("news.example")]);
}

#[test]
fn a_password_goes_where_others_can_read_it_only_if_that_is_said() {
    let auth = json!({"secretRef": {"name": "relay"}});
    let readable = json!({"secretRef": {"name": "relay"}, "allowPlaintext": true});
    let smtp = |tls: &str, auth: &Value| json!({"smtp": {"host": "mx.example", "port": 25, "tls": {"mode": tls}, "auth": auth}});
    let secret = |fields: &Value| parsed(fields).map(|backend| backend.secret);
    assert_eq!(secret(&json!({})), Ok(None));
    for (tls, auth) in [("StartTLS", &auth), ("Implicit", &auth), ("None", &readable), ("Opportunistic", &readable)] {
        assert_eq!(secret(&smtp(tls, auth)), Ok(Some(Arc::from("relay"))), "{tls}");
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
