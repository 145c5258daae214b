//! DNS records: where zones are led, when they are looked at again, and what is said of failures.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::testing::*;
use crate::controller::input::Input;
use crate::controller::secrets::{SecretContent, SecretKey, SecretPurpose};
use crate::dial::DialError;
use crate::dns::{DnsCall, DnsError, DnsResult, Led};
use mail_failover_api::OutputStatus;
use mail_failover_core::model::{DnsServer, EvidenceClass, ObjectKey};
use mail_failover_dns::api::ApiError;
use mail_failover_dns::tsig::{SECRET_TYPE, TsigKey};
use mail_failover_resolve::ReadProblem;

fn with_dns(dns: &Value) -> Vec<(&'static str, Value)> {
    let mut objects = quickstart();
    let mut output = json!({
        "zone": "shop.example", "name": "bounce.shop.example",
        "mx": [{"backend": "primary", "host": "mx.primary.example"}, {"backend": "standby", "host": "mx.standby.example"}],
        "rfc2136": {"servers": ["192.0.2.53"], "tsigSecretRef": {"name": "tsig"}},
    });
    output.as_object_mut().unwrap().extend(dns.as_object().unwrap().clone());
    objects[3].1["spec"]["outputs"].as_array_mut().unwrap().push(json!({"dns": output}));
    objects
}

fn give_key(env: &mut TestEnv) {
    let data = [("name", "mail-failover"), ("secret", "c2l4dGVlbiBieXRlcyBhdCBsZWFzdA==")];
    let data: BTreeMap<_, _> = data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into();
    let key = TsigKey::parse(Some(SECRET_TYPE), &data).unwrap();
    env.state.handle(
        env.now,
        Input::Secret(
            SecretKey { purpose: SecretPurpose::Tsig, object: ObjectKey::new("shop", "tsig") },
            Ok(SecretContent::Tsig(key)),
        ),
    );
}

/// A route with DNS records whose Secret was read, before the first choice.
fn started(dns: &Value) -> TestEnv {
    let mut env = TestEnv::with(&with_dns(dns));
    env.run(0.1);
    give_key(&mut env);
    env
}

/// Takes the only attempt that has begun since the last one.
pub(super) fn call(env: &mut TestEnv) -> DnsCall {
    assert_eq!(env.dns_calls.len(), 1, "{:?}", env.dns_calls);
    env.dns_calls.remove(0)
}

pub(super) fn answer(env: &mut TestEnv, call: &DnsCall, outcome: Result<Led, DnsError>) {
    let (number, route, output) = (call.number, call.route.clone(), call.request.output.name.clone());
    env.state.handle(env.now, Input::Dns(Box::new(DnsResult { number, route, output, outcome })));
    env.settle();
}

pub(super) fn led(is_changed: bool) -> Led {
    Led { is_changed, late: vec![], authorities: 2 }
}

fn silent() -> Result<Led, DnsError> {
    let server = DnsServer { host: "192.0.2.53".into(), port: 53 };
    let source = Box::new(DialError::Unresolved("ns1".to_owned(), "no answer".to_owned()));
    Err(DnsError::Unreachable { server, source })
}

/// A provider that asks for two minutes of patience.
fn throttled() -> Result<Led, DnsError> {
    let source = ApiError::Throttled { status: 429, retry_after: Some(120) };
    Err(DnsError::Api { url: "https://dns.example".into(), source })
}

/// Runs for so many seconds, and answers every attempt.
pub(super) fn run_answering(env: &mut TestEnv, seconds: u32, outcome: impl Fn() -> Result<Led, DnsError>) -> usize {
    let mut attempts = 0;
    for _ in 0..seconds * 2 {
        env.run(0.5);
        for call in std::mem::take(&mut env.dns_calls) {
            attempts += 1;
            answer(env, &call, outcome());
        }
    }
    attempts
}

pub(super) fn status(env: &TestEnv) -> OutputStatus {
    env.store.route("orders").outputs.into_iter().find(|output| output.kind == "DNS").unwrap()
}

pub(super) fn fail_over(env: &mut TestEnv) {
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(5.0);
    assert_eq!(env.active(), "standby");
}

const TO_STANDBY: &str = "MX 10 mx.standby.example; TTL 60";

#[test]
fn a_zone_is_led_to_each_choice_and_looked_at_from_time_to_time_without_a_write() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    assert_eq!(&*first.request.backend, "primary");
    assert_eq!(first.request.owner.to_string(), "MailRoute shop/orders of the operator test");
    assert_eq!(env.condition("DnsApplied"), ("Unknown".into(), "DnsPending".into()));
    answer(&mut env, &first, Ok(led(true)));
    fail_over(&mut env);
    let second = call(&mut env);
    assert_eq!(&*second.request.backend, "standby");
    answer(&mut env, &second, Ok(led(true)));
    env.run(3.0);
    let told = status(&env);
    assert_eq!((told.wanted.as_deref(), told.applied.as_deref()), (Some(TO_STANDBY), Some(TO_STANDBY)));
    assert_eq!((told.destination.as_deref(), told.active[0].backend.as_str()), (Some("192.0.2.53:53"), "standby"));
    assert_eq!(env.condition("DnsApplied"), ("True".into(), "Applied".into()));
    let writes = env.store.writes;
    let looks = run_answering(&mut env, 300, || Ok(led(false)));
    assert!((4..=6).contains(&looks), "{looks}");
    assert_eq!(env.store.writes, writes, "nothing to say: {:?}", env.store.log);
}

#[test]
fn a_process_that_begins_looks_at_once_and_says_nothing_new() {
    let mut env = started(&json!({"await": true}));
    env.run(2.0);
    let first = call(&mut env);
    answer(&mut env, &first, Ok(led(true)));
    env.run(3.0);
    let before = status(&env);
    env.restart();
    give_key(&mut env);
    env.run(1.0);
    let look = call(&mut env);
    assert_eq!(env.condition("OutputsApplied").0, "True", "as it was");
    answer(&mut env, &look, Ok(led(false)));
    env.run(3.0);
    assert_eq!(status(&env), before);
}

#[test]
fn a_newer_decision_follows_at_once_on_the_attempt_under_way() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    fail_over(&mut env);
    assert!(env.dns_calls.is_empty(), "one at a time");
    answer(&mut env, &first, Ok(led(true)));
    let second = call(&mut env);
    assert_eq!(&*second.request.backend, "standby");
    answer(&mut env, &second, Ok(led(true)));
    env.run(1.0);
    assert_eq!(status(&env).applied.as_deref(), Some(TO_STANDBY));
}

#[test]
fn a_dead_server_is_told_of_after_a_while_and_costs_the_other_outputs_nothing() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let _hangs = call(&mut env);
    fail_over(&mut env);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"]);
    assert!(env.store.route("orders").last_transition.is_some_and(|last| last.applied_at.is_some()), "not awaited");

    let mut env = started(&json!({}));
    let attempts = run_answering(&mut env, 120, silent);
    assert!((6..=14).contains(&attempts), "pauses that double: {attempts}");
    assert_eq!(env.condition("DnsApplied"), ("False".into(), "DnsFailing".into()));
    assert_eq!(env.store.events().iter().filter(|reason| *reason == "DnsFailing").count(), 1);
    assert_eq!((env.condition("Ready").0, env.condition("OutputsApplied").0), ("True".into(), "True".into()));
    assert!(
        status(&env).failure.is_some_and(|failure| failure.message.contains("192.0.2.53:53: ns1 cannot be resolved"))
    );
    // By now pauses are long; a move waits for none.
    fail_over(&mut env);
    let retried = call(&mut env);
    answer(&mut env, &retried, Ok(led(true)));
    env.run(3.0);
    assert_eq!((status(&env).failure, env.condition("DnsApplied").0), (None, "True".into()));
}

#[test]
fn awaited_records_are_a_part_of_applying() {
    let mut env = started(&json!({"await": true}));
    env.run(2.0);
    let first = call(&mut env);
    assert_eq!(env.condition("OutputsApplied").0, "Unknown");
    answer(&mut env, &first, Ok(led(true)));
    env.run(2.0);
    assert_eq!(env.condition("OutputsApplied").0, "True");
    fail_over(&mut env);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"], "the Service waits for no zone");
    assert!(env.store.route("orders").last_transition.is_some_and(|last| last.applied_at.is_none()));
    let late = || {
        Ok(Led { is_changed: true, late: vec!["ns2:53 still says 10 mx.primary.example".to_owned()], authorities: 2 })
    };
    let second = call(&mut env);
    answer(&mut env, &second, late());
    run_answering(&mut env, 60, late);
    assert_eq!(env.condition("OutputsApplied"), ("False".into(), "DnsFailing".into()));
    assert!(status(&env).failure.is_some_and(|failure| failure.message.contains("ns2:53 still says")));
    run_answering(&mut env, 90, || Ok(led(false)));
    assert_eq!(env.condition("OutputsApplied").0, "True");
    assert!(env.store.route("orders").last_transition.is_some_and(|last| last.applied_at.is_some()));
}

#[test]
fn a_look_that_fails_says_nothing_about_records_that_are_applied() {
    let mut env = started(&json!({"await": true}));
    env.run(2.0);
    let first = call(&mut env);
    answer(&mut env, &first, Ok(led(true)));
    run_answering(&mut env, 200, silent);
    assert_eq!(env.condition("OutputsApplied").0, "True", "what was seen last");
    assert_eq!(env.condition("DnsApplied"), ("False".into(), "DnsFailing".into()), "before it matters");
}

#[test]
fn who_changes_the_records_again_and_again_is_told_of() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    answer(&mut env, &first, Ok(led(true)));
    run_answering(&mut env, 130, || Ok(led(true)));
    assert_eq!(env.condition("DnsApplied").0, "True", "twice may be chance");
    run_answering(&mut env, 70, || Ok(led(true)));
    assert_eq!(env.condition("DnsApplied"), ("False".into(), "DnsConflict".into()));
    run_answering(&mut env, 70, || Ok(led(false)));
    assert_eq!(env.condition("DnsApplied").0, "True");
}

#[test]
fn a_provider_that_asks_for_patience_has_it_over_a_restart_and_for_a_new_decision() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    answer(&mut env, &first, throttled());
    env.run(10.0);
    assert!(status(&env).failure.is_some_and(|failure| failure.not_before.is_some()));
    env.restart();
    give_key(&mut env);
    fail_over(&mut env);
    env.run(90.0);
    assert_eq!(env.dns_calls.len(), 0, "not even for a move");
    env.run(30.0);
    assert_eq!(&*call(&mut env).request.backend, "standby");
}

#[test]
fn a_provider_that_asks_an_attempt_for_patience_has_it_from_the_one_that_overtakes_it() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    fail_over(&mut env);
    answer(&mut env, &first, throttled());
    env.run(110.0);
    assert_eq!(env.dns_calls.len(), 0);
    env.run(15.0);
    let second = call(&mut env);
    assert_eq!(&*second.request.backend, "standby");
    answer(&mut env, &second, Ok(led(true)));
    env.run(1.0);
    assert_eq!(status(&env).failure, None);
}

#[test]
fn a_secret_that_cannot_be_used_is_named_and_waited_for() {
    let mut env = TestEnv::with(&with_dns(&json!({})));
    env.run(1.0);
    env.state.handle(
        env.now,
        Input::Secret(
            SecretKey { purpose: SecretPurpose::Tsig, object: ObjectKey::new("shop", "tsig") },
            Err(ReadProblem::NotFound),
        ),
    );
    env.run(40.0);
    assert_eq!(env.dns_calls.len(), 0);
    assert_eq!(env.condition("DnsApplied"), ("False".into(), "SecretNotFound".into()));
    let failure = status(&env).failure.unwrap().message;
    assert!(failure.contains("rfc2136.tsigSecretRef: Secret tsig: it does not exist"), "{failure}");
    give_key(&mut env);
    env.run(1.0);
    let first = call(&mut env);
    answer(&mut env, &first, Ok(led(true)));
    env.run(3.0);
    assert_eq!(env.condition("DnsApplied").0, "True");
}

#[test]
fn a_ttl_beyond_the_objective_is_said_before_it_matters() {
    let mut objects = with_dns(&json!({"ttl": "5m"}));
    let policy = json!({"metadata": {"name": "quick", "namespace": "shop", "uid": "policy-quick"},
        "spec": {"objectives": {"recoveryTime": "30s"}}});
    objects.insert(0, ("FailoverPolicy", policy));
    objects[4].1["spec"]["policyRef"] = json!({"name": "quick"});
    let mut env = TestEnv::with(&objects);
    env.run(0.1);
    give_key(&mut env);
    env.run(2.0);
    let first = call(&mut env);
    answer(&mut env, &first, Ok(led(true)));
    env.run(3.0);
    let conditions = env.store.route("orders").conditions;
    let message = &conditions.iter().find(|one| one.type_ == "DnsApplied").unwrap().message;
    assert!(message.contains("300 s, which is longer than objectives.recoveryTime (30 s)"), "{message}");
}

#[test]
fn the_records_and_marks_that_stay_without_the_route_are_known_by_name() {
    let env = started(
        &json!({"records": [{"name": "em.shop.example", "type": "CNAME", "values": ["{{ backend }}.example"]}]}),
    );
    let route = env.state.routes.get(&ObjectKey::new("shop", "orders")).unwrap();
    assert_eq!(
        route.staying_records(),
        [
            "bounce.shop.example MX",
            "_mail-failover-mx.bounce.shop.example TXT",
            "em.shop.example CNAME",
            "_mail-failover-cname.em.shop.example TXT",
        ]
    );
}

#[test]
fn records_stay_when_the_output_or_the_route_goes() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    answer(&mut env, &first, Ok(led(true)));
    env.run(3.0);
    env.edit("MailRoute", "orders", |route| {
        route["spec"]["outputs"].as_array_mut().unwrap().pop();
    });
    env.run(120.0);
    assert!(env.dns_calls.is_empty());
    assert!(env.store.route("orders").outputs.iter().all(|output| output.kind != "DNS"));
    assert_eq!(env.condition("DnsApplied"), (String::new(), String::new()));
}
