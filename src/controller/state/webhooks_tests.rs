//! Webhooks: which events are sent, under which id, after what, and what is said of failures.

use std::time::Duration;

use serde_json::{Value, json};

use super::testing::*;
use crate::controller::input::Input;
use crate::controller::secrets::{SecretContent, SecretKey, SecretPurpose};
use crate::webhook::{WebhookCall, WebhookError, WebhookResult};
use mail_failover_api::OutputStatus;
use mail_failover_core::model::{EvidenceClass, ObjectKey};
use mail_failover_resolve::{CaKey, CaKind, ReadProblem};
use mail_failover_webhook::secret::{SECRET_TYPE, WebhookSecret, signing_secret_text};

fn with_webhook(webhook: &Value) -> Vec<(&'static str, Value)> {
    let mut objects = quickstart();
    let mut output = json!({"name": "flags", "url": "https://flags.example/t0ken", "secretRef": {"name": "flags"}});
    output.as_object_mut().unwrap().extend(webhook.as_object().unwrap().clone());
    objects[3].1["spec"]["outputs"].as_array_mut().unwrap().push(json!({"webhook": output}));
    objects
}

fn give_secret(env: &mut TestEnv) {
    let data = [("signing-secret".to_owned(), signing_secret_text(&[7; 24]).into_bytes())].into();
    let secret = WebhookSecret::parse(Some(SECRET_TYPE), data).unwrap();
    env.state.handle(
        env.now,
        Input::Secret(
            SecretKey { purpose: SecretPurpose::Webhook, object: ObjectKey::new("shop", "flags") },
            Ok(SecretContent::Webhook(secret)),
        ),
    );
}

/// A route with a webhook whose Secret was read, before the first choice.
fn started(webhook: &Value) -> TestEnv {
    let mut env = TestEnv::with(&with_webhook(webhook));
    env.run(0.1);
    give_secret(&mut env);
    env
}

fn restart(env: &mut TestEnv) {
    env.restart();
    give_secret(env);
}

/// Takes the only call that has begun since the last one.
fn call(env: &mut TestEnv) -> WebhookCall {
    assert_eq!(env.webhook_calls.len(), 1, "{:?}", env.webhook_calls);
    env.webhook_calls.remove(0)
}

fn answer(env: &mut TestEnv, call: &WebhookCall, outcome: Result<(), WebhookError>) {
    let (number, route, output) = (call.number, call.route.clone(), call.output.clone());
    env.state.handle(env.now, Input::Webhook(Box::new(WebhookResult { number, route, output, outcome })));
    env.settle();
}

fn to(call: &WebhookCall) -> String {
    let body: Value = serde_json::from_slice(&call.request.body).unwrap();
    assert_eq!(body["id"], json!(call.id.to_string()));
    body["data"]["backend"].as_str().unwrap_or_default().to_owned()
}

fn status(env: &TestEnv) -> OutputStatus {
    env.store.route("orders").outputs.into_iter().find(|output| output.kind == "Webhook").unwrap()
}

fn late() -> WebhookError {
    WebhookError::Timeout(Duration::from_secs(10))
}

fn fail_over(env: &mut TestEnv) {
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(5.0);
    assert_eq!(env.active(), "standby");
}

#[test]
fn a_receiver_is_called_for_the_first_choice_and_for_each_move_once_and_told_in_status() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    assert_eq!(to(&first), "primary");
    assert_eq!(status(&env).applied, None);
    assert_eq!(env.condition("WebhooksApplied"), ("Unknown".into(), "WebhookPending".into()));
    answer(&mut env, &first, Ok(()));
    env.run(3.0);
    let told = status(&env);
    assert_eq!((told.wanted.clone(), told.applied.clone()), (Some(first.id.to_string()), Some(first.id.to_string())));
    assert_eq!(
        (told.destination.as_deref(), told.active[0].backend.as_str()),
        (Some("https://flags.example"), "primary")
    );
    assert_eq!(env.condition("WebhooksApplied"), ("True".into(), "Applied".into()));
    fail_over(&mut env);
    let second = call(&mut env);
    assert_eq!(to(&second), "standby");
    assert!(second.id.sequence > first.id.sequence);
    answer(&mut env, &second, Ok(()));
    env.run(3.0);
    let writes = env.store.writes;
    env.run(60.0);
    assert_eq!((env.webhook_calls.len(), env.store.writes), (0, writes), "nothing more: {:?}", env.store.log);
    assert!(!serde_json::to_string(&env.store.route("orders")).unwrap().contains("t0ken"), "the path may be a secret");
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_under_the_same_id() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    answer(&mut env, &first, Err(late()));
    env.run(0.3);
    assert!(env.webhook_calls.is_empty(), "a pause first");
    env.run(2.0);
    let again = call(&mut env);
    assert_eq!((again.id.clone(), to(&again).as_str()), (first.id.clone(), "primary"));
    assert!(status(&env).failure.is_some_and(|failure| failure.message.contains("no answer within 10.0 s")));
    answer(&mut env, &again, Ok(()));
    env.run(3.0);
    assert_eq!(status(&env).failure, None);
}

#[test]
fn a_process_that_dies_at_any_moment_goes_on_under_the_same_ids() {
    for death in [Death::BeforeWrite, Death::AfterWrite] {
        for at in 0..60 {
            let mut env = started(&json!({"await": true}));
            env.store.dies_at = Some((at, death));
            let mut accepted: Vec<String> = vec![];
            let mut told = vec![];
            for step in 0..200 {
                if step == 60 {
                    env.answer("primary", EvidenceClass::ConnectionRefused);
                }
                let deaths = env.deaths;
                env.run(0.1);
                if env.deaths > deaths {
                    // What was on its way arrives all the same; nobody hears the answer.
                    for call in std::mem::take(&mut env.webhook_calls) {
                        accepted.push(call.id.to_string());
                        told.push(to(&call));
                    }
                    give_secret(&mut env);
                }
                for call in std::mem::take(&mut env.webhook_calls) {
                    accepted.push(call.id.to_string());
                    told.push(to(&call));
                    answer(&mut env, &call, Ok(()));
                    if env.deaths > deaths {
                        give_secret(&mut env);
                    }
                }
            }
            accepted.dedup();
            told.dedup();
            assert_eq!(
                (accepted.len(), told),
                (2, vec!["primary".to_owned(), "standby".to_owned()]),
                "{death:?} at {at}: {accepted:?}"
            );
            assert_eq!(status(&env).applied, Some(accepted[1].clone()), "{death:?} at {at}");
        }
    }
}

#[test]
fn events_arrive_in_order_and_one_that_is_overtaken_is_not_sent() {
    let mut env = started(&json!({"timeout": "30s"}));
    env.run(2.0);
    let first = call(&mut env);
    // While the first one is on its way, mail moves twice.
    fail_over(&mut env);
    env.answer("primary", EvidenceClass::Ok);
    env.run(60.0);
    assert_eq!((env.active(), env.webhook_calls.len()), ("primary".to_owned(), 0));
    answer(&mut env, &first, Ok(()));
    env.run(1.0);
    let last = call(&mut env);
    assert_eq!(to(&last), "primary");
    assert!(last.id.sequence > first.id.sequence && last.id.digest != first.id.digest);
}

#[test]
fn a_dead_receiver_is_told_of_after_a_while_and_costs_the_other_outputs_nothing() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let _hangs = call(&mut env);
    fail_over(&mut env);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"]);
    let status_of = |env: &TestEnv| env.store.route("orders");
    assert!(status_of(&env).last_transition.is_some_and(|last| last.applied_at.is_some()), "not awaited");
    assert_eq!(env.condition("OutputsApplied").0, "True");

    let mut env = started(&json!({}));
    for _ in 0..120 {
        env.run(0.5);
        for call in std::mem::take(&mut env.webhook_calls) {
            answer(&mut env, &call, Err(late()));
        }
    }
    assert_eq!(env.condition("WebhooksApplied"), ("False".into(), "WebhookFailing".into()));
    assert_eq!(env.store.events().iter().filter(|reason| *reason == "WebhookFailing").count(), 1);
    assert_eq!((env.condition("Ready").0, env.condition("OutputsApplied").0), ("True".into(), "True".into()));
}

#[test]
fn an_awaited_receiver_is_a_part_of_applying() {
    let mut env = started(&json!({"await": true}));
    env.run(2.0);
    let first = call(&mut env);
    assert_eq!(env.condition("OutputsApplied").0, "Unknown");
    answer(&mut env, &first, Ok(()));
    env.run(2.0);
    assert_eq!(env.condition("OutputsApplied").0, "True");
    fail_over(&mut env);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"], "the Service waits for no receiver");
    let second = call(&mut env);
    assert!(env.store.route("orders").last_transition.is_some_and(|last| last.applied_at.is_none()));
    answer(&mut env, &second, Err(late()));
    for _ in 0..80 {
        env.run(0.5);
        for call in std::mem::take(&mut env.webhook_calls) {
            answer(&mut env, &call, Err(late()));
        }
    }
    assert_eq!(env.condition("OutputsApplied"), ("False".into(), "WebhookFailing".into()));
    env.run(400.0);
    let last = env.webhook_calls.pop().unwrap();
    assert_eq!(last.id, second.id);
    answer(&mut env, &last, Ok(()));
    env.run(3.0);
    assert_eq!(env.condition("OutputsApplied").0, "True");
    assert!(env.store.route("orders").last_transition.is_some_and(|last| last.applied_at.is_some()));
}

#[test]
fn a_receiver_that_asks_for_patience_has_it_over_a_restart_too() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    let busy = WebhookError::Status { status: 429, retry_after: Some(Duration::from_mins(2)) };
    answer(&mut env, &first, Err(busy));
    env.run(10.0);
    restart(&mut env);
    fail_over(&mut env);
    env.run(90.0);
    assert_eq!(env.webhook_calls.len(), 0, "not even for a move");
    env.run(30.0);
    assert_eq!(to(&call(&mut env)), "standby");
}

#[test]
fn a_new_decision_does_not_wait_for_the_pause_of_an_earlier_one() {
    let mut env = started(&json!({}));
    for _ in 0..100 {
        env.run(1.0);
        for call in std::mem::take(&mut env.webhook_calls) {
            answer(&mut env, &call, Err(late()));
        }
    }
    // By now pauses last for a minute.
    fail_over(&mut env);
    assert_eq!(to(&call(&mut env)), "standby");
}

/// A receiver that has failed for long, and mail that has moved while the next call was on its way.
fn overtaken() -> (TestEnv, WebhookCall) {
    let mut env = started(&json!({}));
    for _ in 0..100 {
        env.run(1.0);
        for call in std::mem::take(&mut env.webhook_calls) {
            answer(&mut env, &call, Err(late()));
        }
    }
    // By now pauses last for a minute.
    while env.webhook_calls.is_empty() {
        env.run(1.0);
    }
    let hangs = call(&mut env);
    fail_over(&mut env);
    assert!(env.webhook_calls.is_empty(), "one at a time");
    (env, hangs)
}

#[test]
fn a_new_decision_does_not_wait_for_the_pause_after_a_call_that_it_has_overtaken() {
    let (mut env, hangs) = overtaken();
    answer(&mut env, &hangs, Err(late()));
    env.run(0.3);
    let first = call(&mut env);
    assert_eq!(to(&first), "standby");
    answer(&mut env, &first, Err(late()));
    env.run(1.5);
    assert_eq!(call(&mut env).id, first.id, "its own pauses begin with the shortest");
}

#[test]
fn a_new_decision_waits_as_long_as_the_receiver_has_asked_an_earlier_one_to() {
    let (mut env, hangs) = overtaken();
    answer(&mut env, &hangs, Err(WebhookError::Status { status: 503, retry_after: Some(Duration::from_mins(2)) }));
    env.run(110.0);
    assert_eq!(env.webhook_calls.len(), 0);
    env.run(15.0);
    assert_eq!(to(&call(&mut env)), "standby");
}

#[test]
fn a_secret_that_cannot_be_used_is_named_and_waited_for() {
    let mut env = TestEnv::with(&with_webhook(&json!({})));
    env.run(1.0);
    let missing = Input::Secret(
        SecretKey { purpose: SecretPurpose::Webhook, object: ObjectKey::new("shop", "flags") },
        Err(ReadProblem::NotFound),
    );
    env.state.handle(env.now, missing);
    env.run(40.0);
    assert_eq!(env.webhook_calls.len(), 0);
    assert_eq!(env.condition("WebhooksApplied"), ("False".into(), "SecretNotFound".into()));
    assert!(
        status(&env)
            .failure
            .is_some_and(|failure| failure.message.contains("secretRef: Secret flags: it does not exist"))
    );
    give_secret(&mut env);
    env.run(1.0);
    let first = call(&mut env);
    answer(&mut env, &first, Ok(()));
    env.run(3.0);
    assert_eq!(env.condition("WebhooksApplied").0, "True");
}

#[test]
fn certificates_that_are_missing_are_not_called_a_secret() {
    let mut env = started(&json!({"caRef": {"configMap": "receiver-ca"}}));
    let ca =
        CaKey { object: ObjectKey::new("shop", "receiver-ca"), kind: CaKind::ConfigMap, data_key: "ca.crt".into() };
    env.state.handle(env.now, Input::Ca(ca, Err(ReadProblem::NotFound)));
    env.run(40.0);
    assert_eq!(env.webhook_calls.len(), 0);
    assert_eq!(env.condition("WebhooksApplied"), ("False".into(), "CANotFound".into()));
    let message = status(&env).failure.unwrap().message;
    assert!(message.starts_with("caRef: key ca.crt of ConfigMap receiver-ca: it does not exist"), "{message}");
}

#[test]
fn a_spec_that_asks_for_another_request_sends_it_and_one_without_the_webhook_forgets_it() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    answer(&mut env, &first, Ok(()));
    env.run(3.0);
    env.edit("MailRoute", "orders", |route| {
        route["spec"]["outputs"][2]["webhook"]["url"] = json!("https://other.example/");
    });
    env.run(3.0);
    let second = call(&mut env);
    assert_eq!((second.id.sequence, &*second.request.url), (first.id.sequence + 1, "https://other.example/"));
    env.edit("MailRoute", "orders", |route| {
        route["spec"]["outputs"].as_array_mut().unwrap().pop();
    });
    answer(&mut env, &second, Ok(()));
    env.run(3.0);
    assert!(env.store.route("orders").outputs.iter().all(|output| output.kind != "Webhook"));
    assert_eq!(env.condition("WebhooksApplied"), (String::new(), String::new()));
}

#[test]
fn numbers_grow_for_a_receiver_that_knew_a_route_of_this_name() {
    let mut env = started(&json!({}));
    env.run(2.0);
    let first = call(&mut env);
    answer(&mut env, &first, Ok(()));
    fail_over(&mut env);
    let last = call(&mut env);
    answer(&mut env, &last, Ok(()));
    // The route, and what goes with it.
    env.store.objects.retain(|(kind, _), _| matches!(*kind, "SendingBackend" | "FailoverPolicy"));
    env.run(1.0);
    let (kind, route) = with_webhook(&json!({})).pop().unwrap();
    env.store.create(kind, route);
    env.run(0.1);
    give_secret(&mut env);
    env.run(10.0);
    let anew = call(&mut env);
    assert!(anew.id.sequence > last.id.sequence, "{} after {}", anew.id, last.id);
}

#[test]
fn a_namespace_takes_no_more_calls_than_it_leaves_free() {
    let mut objects = with_webhook(&json!({}));
    let route = objects.pop().unwrap().1;
    for number in 0..100 {
        let mut route = route.clone();
        route["metadata"]["name"] = json!(format!("orders-{number}"));
        route["spec"]["outputs"] = json!([route["spec"]["outputs"][2]]);
        objects.push(("MailRoute", route));
    }
    let mut env = TestEnv::with(&objects);
    env.run(0.1);
    give_secret(&mut env);
    env.run(10.0);
    assert_eq!(env.webhook_calls.len(), super::calls::MAX_WEBHOOK_CALLS / 2);
    // Each that ends makes room for one that waits.
    let mut called = 0;
    while let Some(call) = env.webhook_calls.pop() {
        answer(&mut env, &call, Ok(()));
        called += 1;
    }
    assert_eq!(called, 100);
}
