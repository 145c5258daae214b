//! DNS records that external-dns publishes: what is asked of its object, and who may.

use serde_json::{Value, json};

use super::dns_tests::{answer, call, fail_over, led, run_answering, status};
use super::testing::*;
use crate::controller::input::Input;
use crate::controller::secrets::{SecretKey, SecretPurpose};
use crate::dns::{DnsAccess, DnsError, Led};
use mail_failover_api::MailRoute;
use mail_failover_core::model::{ObjectKey, SharedError};
use mail_failover_dns::api::ApiError;
use mail_failover_resolve::{CaKey, CaKind, PemError, ReadProblem};

fn output(name: &str, object: &str) -> Value {
    json!({"dns": {
        "zone": "shop.example", "name": name,
        "mx": [{"backend": "primary", "host": "mx.primary.example"}, {"backend": "standby", "host": "mx.standby.example"}],
        "dnsEndpoint": {"name": object, "onDelete": "Remove"},
    }})
}

fn with_endpoint() -> Vec<(&'static str, Value)> {
    let mut objects = quickstart();
    objects[3].1["spec"]["outputs"].as_array_mut().unwrap().push(output("bounce.shop.example", "bounce"));
    objects
}

/// A route with the object, after the first choice.
fn started() -> TestEnv {
    let mut env = TestEnv::with(&with_endpoint());
    env.run(2.0);
    env
}

fn missing() -> Result<Led, DnsError> {
    Err(DnsError::NoDefinition)
}

#[test]
fn an_object_is_led_to_each_choice_without_a_secret() {
    let mut env = started();
    let first = call(&mut env);
    let DnsAccess::Endpoint(object, uid) = &first.request.access else { panic!("{:?}", first.request.access) };
    assert_eq!((&*object.name, object.goes_with_route), ("bounce", true));
    assert_eq!(uid.as_str(), env.store.get::<MailRoute>("MailRoute", "orders").unwrap().metadata.uid.unwrap());
    answer(&mut env, &first, Ok(led(true)));
    env.run(2.0);
    assert_eq!(status(&env).destination.as_deref(), Some("DNSEndpoint bounce"));
    let conditions = env.store.route("orders").conditions;
    let message = &conditions.iter().find(|one| one.type_ == "DnsApplied").unwrap().message;
    assert!(message.contains("external-dns has the records") && message.contains("for 60 s"), "{message}");
    assert!(!message.contains("stay in the zone"), "it goes with the route: {message}");
    fail_over(&mut env);
    let second = call(&mut env);
    assert_eq!(&*second.request.backend, "standby");
}

#[test]
fn the_api_of_a_provider_gets_the_credentials_of_its_secret() {
    let mut objects = with_endpoint();
    let output = objects[3].1["spec"]["outputs"].as_array_mut().unwrap().last_mut().unwrap();
    let dns = output["dns"].as_object_mut().unwrap();
    dns.remove("dnsEndpoint");
    dns.insert("api".to_owned(), json!({"cloudflare": {"zoneId": "z1"}, "secretRef": {"name": "cloudflare"}}));
    let mut env = TestEnv::with(&objects);
    env.run(1.0);
    let key = SecretKey { purpose: SecretPurpose::DnsApi, object: ObjectKey::new("shop", "cloudflare") };
    env.state.handle(env.now, Input::Secret(key.clone(), Err(ReadProblem::NotFound)));
    env.run(130.0);
    assert!(env.dns_calls.is_empty());
    assert_eq!(env.condition("DnsApplied"), ("False".into(), "SecretNotFound".into()));
    assert!(
        status(&env).failure.is_some_and(|failure| failure.message.starts_with("api.secretRef: Secret cloudflare"))
    );
    let secret = SecretPurpose::DnsApi.parse(Some("mailfailover.io/dns-api"), [("token".into(), b"x".to_vec())].into());
    env.state.handle(env.now, Input::Secret(key, Ok(secret.unwrap())));
    env.run(1.0);
    let first = call(&mut env);
    assert!(matches!(&first.request.access, DnsAccess::Api(..)), "{:?}", first.request.access);
    let source = ApiError::Throttled { status: 429, retry_after: Some(300) };
    answer(&mut env, &first, Err(DnsError::Api { url: "https://api.cloudflare.com".into(), source }));
    env.run(250.0);
    assert!(env.dns_calls.is_empty(), "it has asked for patience");
    env.run(60.0);
    let second = call(&mut env);
    answer(&mut env, &second, Ok(led(true)));
    env.run(2.0);
    assert_eq!(env.condition("DnsApplied").0, "True");
    assert_eq!(status(&env).destination.as_deref(), Some("https://api.cloudflare.com"));
    let conditions = env.store.route("orders").conditions;
    let message = &conditions.iter().find(|one| one.type_ == "DnsApplied").unwrap().message;
    assert!(
        message.ends_with("; when the route is deleted the records of bounce.shop.example stay in the zone"),
        "{message}"
    );
}

#[test]
fn certificates_of_a_provider_that_are_missing_are_told_of_as_those_of_a_backend() {
    let mut objects = with_endpoint();
    let output = objects[3].1["spec"]["outputs"].as_array_mut().unwrap().last_mut().unwrap();
    let dns = output["dns"].as_object_mut().unwrap();
    dns.remove("dnsEndpoint");
    let api = json!({"powerDns": {"url": "https://pdns.example"}, "secretRef": {"name": "pdns"}, "caRef": {"configMap": "pdns-ca"}});
    dns.insert("api".to_owned(), api);
    let mut env = TestEnv::with(&objects);
    env.run(1.0);
    let key = SecretKey { purpose: SecretPurpose::DnsApi, object: ObjectKey::new("shop", "pdns") };
    let secret = SecretPurpose::DnsApi.parse(Some("mailfailover.io/dns-api"), [("token".into(), b"x".to_vec())].into());
    env.state.handle(env.now, Input::Secret(key, Ok(secret.unwrap())));
    let ca = CaKey { object: ObjectKey::new("shop", "pdns-ca"), kind: CaKind::ConfigMap, data_key: "ca.crt".into() };
    for (problem, reason, told) in [
        (ReadProblem::NotFound, "CANotFound", "it does not exist; create it in namespace shop"),
        (ReadProblem::Malformed(SharedError::new(PemError::NoEndLine(1))), "CAMalformed", "section 1 has no END line"),
    ] {
        env.state.handle(env.now, Input::Ca(ca.clone(), Err(problem)));
        env.run(130.0);
        assert!(env.dns_calls.is_empty());
        assert_eq!(env.condition("DnsApplied"), ("False".into(), reason.into()));
        let message = status(&env).failure.unwrap().message;
        assert!(
            message.starts_with("api.caRef: key ca.crt of ConfigMap pdns-ca") && message.contains(told),
            "{message}"
        );
    }
}

#[test]
fn what_is_not_installed_is_told_at_once_and_costs_the_other_outputs_nothing() {
    let mut env = started();
    let first = call(&mut env);
    answer(&mut env, &first, missing());
    env.run(0.5);
    assert_eq!(env.condition("DnsApplied"), ("False".into(), "DnsEndpointUnavailable".into()));
    assert!(
        status(&env).failure.is_some_and(|failure| failure.message.contains("install the definition of external-dns"))
    );
    assert_eq!((env.condition("Ready").0, env.condition("OutputsApplied").0), ("True".into(), "True".into()));
    let attempts = run_answering(&mut env, 120, missing);
    assert!((3..=12).contains(&attempts), "pauses that double: {attempts}");
    fail_over(&mut env);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"]);
    // Once it is installed.
    run_answering(&mut env, 70, || Ok(led(false)));
    assert_eq!(env.condition("DnsApplied").0, "True");
}

#[test]
fn external_dns_has_its_minute_before_people_are_told() {
    let late =
        || Ok(Led { is_changed: false, late: vec!["external-dns has not taken it over".to_owned()], authorities: 0 });
    let mut env = started();
    run_answering(&mut env, 150, late);
    assert_eq!(env.condition("DnsApplied").0, "Unknown");
    run_answering(&mut env, 60, late);
    assert_eq!(env.condition("DnsApplied"), ("False".into(), "DnsFailing".into()));
}

#[test]
fn records_that_an_older_route_leads_are_left_to_it_until_it_is_gone() {
    let mut env = started();
    let first = call(&mut env);
    answer(&mut env, &first, Ok(led(true)));
    let (_, mut news) = route();
    // Of the first route no creation is known, which counts as older.
    news["metadata"] = json!({"name": "news", "namespace": "shop", "creationTimestamp": "2026-11-30T00:00:00Z"});
    news["spec"]["outputs"] = json!([output("Bounce.shop.example", "news")]);
    env.store.create("MailRoute", news);
    env.watch();
    env.run(5.0);
    assert!(env.dns_calls.is_empty(), "{:?}", env.dns_calls);
    let conditions = env.store.route("news").conditions;
    let applied = conditions.iter().find(|one| one.type_ == "DnsApplied").unwrap();
    assert_eq!(applied.reason, "DnsConflict");
    assert!(applied.message.contains("bounce.shop.example MX is led by MailRoute shop/orders"), "{}", applied.message);
    env.delete("MailRoute", "orders");
    env.run(2.0);
    let taken = call(&mut env);
    assert_eq!(&*taken.route.name, "news");
}
