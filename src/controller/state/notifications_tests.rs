//! Notifications: who is told of what, under which id, once, in one message, over restarts.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::testing::*;
use crate::controller::input::Input;
use crate::controller::secrets::{SecretContent, SecretKey, SecretPurpose};
use crate::notification::{CallContent, NotificationCall, NotificationResult};
use mail_failover_api::{FailoverPolicyStatus, NotificationsStatus};
use mail_failover_core::model::{EvidenceClass, ObjectKey};
use mail_failover_notifications::delivery::{DeliveryOutcome, FailedDelivery};
use mail_failover_notifications::secret::{NotificationSecret, SECRET_TYPE};
use mail_failover_resolve::ReadProblem;

fn chat() -> Value {
    json!({"name": "chat", "type": "Slack", "secretRef": {"name": "receiver"}})
}

fn pager() -> Value {
    json!({"name": "pager", "type": "PagerDuty", "secretRef": {"name": "receiver"}})
}

fn alertmanager() -> Value {
    json!({"name": "am", "type": "Alertmanager", "url": "http://am.example:9093"})
}

fn with_receivers(receivers: &[Value]) -> Vec<(&'static str, Value)> {
    let mut objects = quickstart();
    objects[0].1["spec"]["notifications"] = json!({"receivers": receivers});
    objects
}

fn give_secret(env: &mut TestEnv) {
    let data = [("url", "https://chat.example/t0ken"), ("routing-key", "r0uting")];
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    let secret = NotificationSecret::parse(Some(SECRET_TYPE), data.collect()).unwrap();
    env.state.handle(
        env.now,
        Input::Secret(
            SecretKey { purpose: SecretPurpose::Notification, object: ObjectKey::new("shop", "receiver") },
            Ok(SecretContent::Notification(secret)),
        ),
    );
}

fn started(receivers: &[Value]) -> TestEnv {
    let mut env = TestEnv::with(&with_receivers(receivers));
    env.run(0.1);
    give_secret(&mut env);
    env.run(5.0);
    env
}

fn answer(env: &mut TestEnv, call: &NotificationCall, outcome: DeliveryOutcome) {
    let (number, policy, receiver) = (call.number, call.policy.clone(), call.receiver.clone());
    let result = NotificationResult { number, policy, receiver, outcome };
    env.state.handle(env.now, Input::Notification(Box::new(result)));
    env.settle();
}

fn lost() -> DeliveryOutcome {
    let message = "no answer within 10.0 s".to_owned();
    DeliveryOutcome::Failed(FailedDelivery { message, is_doubtful: true, ..FailedDelivery::default() })
}

fn body(call: &NotificationCall) -> Value {
    let CallContent::Request(request) = &call.content else { panic!("{call:?}") };
    serde_json::from_slice(&request.body).unwrap()
}

/// The title of a message to the chat.
fn title(call: &NotificationCall) -> String {
    body(call)["blocks"][0]["text"]["text"].as_str().unwrap().to_owned()
}

/// Runs for a time in which every call is accepted at once; returns the calls.
fn accepted(env: &mut TestEnv, seconds: u32) -> Vec<NotificationCall> {
    let mut calls = vec![];
    for _ in 0..seconds * 10 {
        env.run(0.1);
        for call in std::mem::take(&mut env.notification_calls) {
            answer(env, &call, DeliveryOutcome::Accepted);
            calls.push(call);
        }
    }
    calls
}

fn titles(calls: &[NotificationCall]) -> Vec<String> {
    calls.iter().filter(|call| &*call.receiver == "chat").map(title).collect()
}

fn policy_status(env: &TestEnv) -> FailoverPolicyStatus {
    let object = &env.store.objects[&("FailoverPolicy", "fast".to_owned())];
    serde_json::from_value(object["status"].clone()).unwrap()
}

fn notifications(env: &TestEnv) -> NotificationsStatus {
    notifications_of(env, "fast")
}

fn notifications_of(env: &TestEnv, policy: &str) -> NotificationsStatus {
    let object = &env.store.objects[&("FailoverPolicy", policy.to_owned())];
    serde_json::from_value(object["status"]["notifications"].clone()).unwrap()
}

fn fail_over(env: &mut TestEnv) {
    env.answer("primary", EvidenceClass::ConnectionRefused);
}

#[test]
fn a_failover_and_its_end_are_told_once_each_and_then_nothing_is_written() {
    let mut env = started(&[chat(), pager()]);
    assert!(env.notification_calls.is_empty(), "a first choice is no news: {:?}", env.notification_calls);
    fail_over(&mut env);
    let calls = accepted(&mut env, 20);
    assert_eq!(titles(&calls), ["Failover: mail of route shop/orders leaves primary for standby"]);
    let trigger = body(calls.iter().find(|call| &*call.receiver == "pager").unwrap());
    assert_eq!((calls.len(), &trigger["event_action"]), (2, &json!("trigger")));
    let route = env.store.route("orders");
    assert!(route.pending_notifications.is_empty(), "{:?}", route.pending_notifications);
    assert_eq!((route.ongoing.len(), route.ongoing[0].backend.as_deref()), (1, Some("primary")));
    env.answer("primary", EvidenceClass::Ok);
    let calls = accepted(&mut env, 60);
    assert_eq!(titles(&calls), ["Failback: mail of route shop/orders returns to primary"]);
    let resolve = body(calls.iter().find(|call| &*call.receiver == "pager").unwrap());
    assert_eq!((&resolve["event_action"], &resolve["dedup_key"]), (&json!("resolve"), &trigger["dedup_key"]));
    assert!(notifications(&env).queue.is_empty() && env.store.route("orders").ongoing.is_empty());
    let writes = env.store.writes;
    env.run(120.0);
    assert_eq!((env.notification_calls.len(), env.store.writes), (0, writes), "{:?}", env.store.log);
    assert!(!serde_json::to_string(&policy_status(&env)).unwrap().contains("t0ken"));
}

#[test]
fn routes_that_a_provider_takes_with_it_are_one_message() {
    let mut objects = with_receivers(&[chat()]);
    let route = objects.pop().unwrap().1;
    for number in 0..100 {
        let mut route = route.clone();
        route["metadata"]["name"] = json!(format!("orders-{number:03}"));
        route["spec"]["outputs"] = json!([{"configMap": {"name": format!("mail-{number:03}"), "format": "Env"}}]);
        objects.push(("MailRoute", route));
    }
    let mut env = TestEnv::with(&objects);
    env.run(0.1);
    give_secret(&mut env);
    env.run(10.0);
    fail_over(&mut env);
    let calls = accepted(&mut env, 30);
    assert_eq!(titles(&calls), ["Failover: mail of 100 routes leaves primary for standby"]);
    assert!(notifications(&env).queue.is_empty());
}

#[test]
fn an_incident_of_many_routes_ends_with_the_last_of_them() {
    let mut objects = with_receivers(&[chat(), pager()]);
    let mut other = objects[3].1.clone();
    other["metadata"]["name"] = json!("news");
    other["spec"]["outputs"] = json!([{"configMap": {"name": "news", "format": "Env"}}]);
    objects.push(("MailRoute", other));
    let mut env = TestEnv::with(&objects);
    env.run(0.1);
    give_secret(&mut env);
    env.run(5.0);
    fail_over(&mut env);
    let calls = accepted(&mut env, 20);
    assert_eq!((calls.len(), body(&calls[1])["event_action"].clone()), (2, json!("trigger")));
    // One of them stays on the standby.
    env.edit("MailRoute", "news", |route| {
        let request = r#"{"id":"1","action":"Switch","to":"standby"}"#;
        route["metadata"]["annotations"] = json!({"mailfailover.io/request": request});
    });
    env.answer("primary", EvidenceClass::Ok);
    let calls = accepted(&mut env, 60);
    assert_eq!(titles(&calls), ["Failback: mail of route shop/orders returns to primary"]);
    assert_eq!(calls.len(), 1, "the incident goes on");
    env.edit("MailRoute", "news", |route| {
        let request = r#"{"id":"2","action":"Failback"}"#;
        route["metadata"]["annotations"] = json!({"mailfailover.io/request": request});
    });
    let calls = accepted(&mut env, 30);
    assert_eq!(titles(&calls), ["Failback: mail of route shop/news returns to primary"]);
    assert_eq!(body(&calls[1])["event_action"], json!("resolve"));
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_id_and_failures_are_told() {
    let mut env = started(&[pager()]);
    fail_over(&mut env);
    let (mut keys, mut calls) = (BTreeSet::new(), 0);
    for _ in 0..600 {
        env.run(0.1);
        for call in std::mem::take(&mut env.notification_calls) {
            calls += 1;
            keys.insert((call.id.clone(), body(&call)["dedup_key"].to_string()));
            answer(&mut env, &call, lost());
        }
    }
    assert!(keys.len() == 1 && calls > 3, "{keys:?} {calls}");
    let delivered =
        policy_status(&env).conditions.into_iter().find(|one| one.type_ == "NotificationsDelivered").unwrap();
    assert_eq!((delivered.status.as_str(), delivered.reason.as_str()), ("False", "NotificationFailing"));
    assert!(delivered.message.contains("pager: no answer within 10.0 s"), "{}", delivered.message);
    env.run(400.0);
    for call in std::mem::take(&mut env.notification_calls) {
        answer(&mut env, &call, DeliveryOutcome::Accepted);
    }
    env.run(10.0);
    let delivered =
        policy_status(&env).conditions.into_iter().find(|one| one.type_ == "NotificationsDelivered").unwrap();
    assert_eq!(delivered.status, "True");
}

#[test]
fn a_process_that_dies_at_any_moment_tells_each_thing_under_one_id_and_loses_none() {
    for death in [Death::BeforeWrite, Death::AfterWrite] {
        for dies_at in 0..30 {
            let mut objects = with_receivers(&[chat()]);
            objects[0].1["spec"]["hold"] = json!({"cooldown": "5s", "minimumStay": "1s"});
            objects[0].1["spec"]["failback"] = json!({"after": "5s"});
            let mut env = TestEnv::with(&objects);
            env.run(0.1);
            give_secret(&mut env);
            env.run(5.0);
            env.store.dies_at = Some((env.store.writes + dies_at, death));
            fail_over(&mut env);
            let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for step in 0..400 {
                if step == 100 {
                    env.answer("primary", EvidenceClass::Ok);
                }
                let deaths = env.deaths;
                env.run(0.1);
                if env.deaths > deaths {
                    give_secret(&mut env);
                }
                // What a dead process had begun arrives all the same; nobody hears its answer.
                for call in std::mem::take(&mut env.notification_calls) {
                    told.entry(call.id.clone()).or_default().push(title(&call));
                    let deaths = env.deaths;
                    answer(&mut env, &call, DeliveryOutcome::Accepted);
                    if env.deaths > deaths {
                        give_secret(&mut env);
                    }
                }
            }
            let titles: BTreeSet<_> = told.values().flatten().cloned().collect();
            let context = (&env.store.log, env.store.route("orders"), notifications(&env));
            assert_eq!((told.len(), titles.len()), (2, 2), "{death:?} at {dies_at}: {told:?} {context:#?}");
            assert!(told.values().all(|times| times.len() <= 2), "{death:?} at {dies_at}: {told:?}");
            assert!(notifications(&env).queue.is_empty(), "{death:?} at {dies_at}");
            assert!(env.store.route("orders").pending_notifications.is_empty(), "{death:?} at {dies_at}");
        }
    }
}

#[test]
fn nothing_is_sent_before_it_stands_in_the_policys_status() {
    let mut env = started(&[chat()]);
    fail_over(&mut env);
    for _ in 0..300 {
        env.run(0.1);
        for call in &env.notification_calls {
            let queue = notifications(&env).queue;
            assert!(queue.iter().any(|message| message.id == call.id && message.waiting == ["chat"]), "{queue:?}");
        }
    }
    assert_eq!(env.notification_calls.len(), 1);
}

#[test]
fn when_nothing_can_deliver_that_is_told_and_its_end_too() {
    let mut env = started(&[chat()]);
    fail_over(&mut env);
    accepted(&mut env, 20);
    env.answer("standby", EvidenceClass::NoAnswer);
    let calls = accepted(&mut env, 30);
    assert_eq!(titles(&calls), ["No backend can deliver mail of route shop/orders"]);
    env.answer("standby", EvidenceClass::Ok);
    let calls = accepted(&mut env, 60);
    assert_eq!(titles(&calls), ["Recovery: mail of route shop/orders can leave again"]);
}

#[test]
fn a_lost_standby_is_told_after_a_minute_and_not_at_all_if_it_is_back_by_then() {
    let mut env = started(&[chat()]);
    env.answer("standby", EvidenceClass::NoAnswer);
    assert!(titles(&accepted(&mut env, 50)).is_empty());
    env.answer("standby", EvidenceClass::Ok);
    assert!(titles(&accepted(&mut env, 120)).is_empty());
    env.answer("standby", EvidenceClass::NoAnswer);
    assert_eq!(titles(&accepted(&mut env, 80)), ["No other backend could take over mail of route shop/orders"]);
    env.answer("standby", EvidenceClass::Ok);
    assert_eq!(titles(&accepted(&mut env, 20)), ["Recovery: route shop/orders has a standby again"]);
}

#[test]
fn an_approval_that_is_wanted_and_an_operator_that_is_kept_from_its_work_are_told() {
    let mut objects = with_receivers(&[chat()]);
    objects[0].1["spec"]["failback"]["mode"] = json!("Manual");
    let mut env = TestEnv::with(&objects);
    env.run(0.1);
    give_secret(&mut env);
    env.run(5.0);
    fail_over(&mut env);
    accepted(&mut env, 20);
    env.answer("primary", EvidenceClass::Ok);
    let calls = accepted(&mut env, 60);
    assert_eq!(titles(&calls), ["The return of mail of route shop/orders waits for your approval"]);
    env.edit("MailRoute", "orders", |route| {
        route["spec"]["backends"].as_array_mut().unwrap().push(json!({"name": "nobody"}));
    });
    let calls = accepted(&mut env, 90);
    assert_eq!(titles(&calls), ["The operator cannot do its work for route shop/orders"]);
    let why = body(&calls[0]).to_string();
    assert!(why.contains("SendingBackend nobody does not exist"), "{why}");
}

#[test]
fn a_receiver_hears_of_the_occasions_that_it_asks_for() {
    let mut critical = chat();
    critical["minimum"] = json!("Critical");
    let mut chosen = pager();
    chosen["occasions"] = json!(["NoneHealthy"]);
    let mut alerts = alertmanager();
    alerts["minimum"] = json!("Critical");
    let mut env = started(&[critical, chosen, alerts]);
    fail_over(&mut env);
    assert!(accepted(&mut env, 150).is_empty(), "a failover is less than Critical, and not NoneHealthy");
    assert!(notifications(&env).queue.is_empty() && env.store.route("orders").pending_notifications.is_empty());
    env.answer("standby", EvidenceClass::NoAnswer);
    assert_eq!(accepted(&mut env, 30).len(), 3);
    let again = accepted(&mut env, 120);
    assert_eq!(again.len(), 2, "an Alertmanager is told again each minute");
    for call in &again {
        assert_eq!((&*call.receiver, body(call).as_array().unwrap().len()), ("am", 1));
        assert_eq!(body(call)[0]["labels"]["alertname"], "MailRouteNoneHealthy");
    }
}

#[test]
fn a_policy_without_receivers_uses_those_of_the_installation() {
    let mut objects = quickstart();
    let receivers = json!({"receivers": [chat()]});
    let default = json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "FailoverPolicy",
        "metadata": {"name": "everybody", "namespace": "ops"}, "spec": {"notifications": receivers}});
    objects.push(("FailoverPolicy", default));
    let mut env = TestEnv::new();
    env.default_notifications = Some(ObjectKey::new("ops", "everybody"));
    env.state = env.new_state();
    for (kind, object) in objects {
        env.store.create(kind, object);
    }
    env.sync();
    env.run(0.1);
    let missing = Input::Secret(
        SecretKey { purpose: SecretPurpose::Notification, object: ObjectKey::new("ops", "receiver") },
        Err(ReadProblem::NotFound),
    );
    env.state.handle(env.now, missing);
    env.run(5.0);
    fail_over(&mut env);
    env.run(20.0);
    let failure = notifications_of(&env, "everybody").receivers[0].failure.clone().unwrap();
    assert!(failure.message.contains("secretRef (chat): Secret receiver: it does not exist"), "{}", failure.message);
    let data = [("url".to_owned(), b"https://chat.example/".to_vec())].into();
    let secret = NotificationSecret::parse(Some(SECRET_TYPE), data).unwrap();
    env.state.handle(
        env.now,
        Input::Secret(
            SecretKey { purpose: SecretPurpose::Notification, object: ObjectKey::new("ops", "receiver") },
            Ok(SecretContent::Notification(secret)),
        ),
    );
    let calls = accepted(&mut env, 40);
    assert_eq!(titles(&calls), ["Failover: mail of route shop/orders leaves primary for standby"]);
    assert_eq!(calls[0].policy, ObjectKey::new("ops", "everybody"));
    assert!(notifications_of(&env, "everybody").queue.is_empty());
}

#[test]
fn a_default_policy_that_is_missing_or_tells_nobody_is_a_metric() {
    let mut registry = Registry::default();
    let mut env = TestEnv::new();
    env.state = state_of(&mut registry, Some(ObjectKey::new("ops", "everybody")));
    for (kind, object) in quickstart() {
        env.store.create(kind, object);
    }
    assert!(!is_default_unusable(&registry), "it is not known before everything is listed");
    env.sync();
    env.run(1.0);
    assert!(is_default_unusable(&registry));
    let policy = |spec: Value| {
        json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "FailoverPolicy",
        "metadata": {"name": "everybody", "namespace": "ops"}, "spec": spec})
    };
    env.store.create("FailoverPolicy", policy(json!({})));
    env.watch();
    assert!(is_default_unusable(&registry), "it has no receivers");
    env.edit("FailoverPolicy", "everybody", |policy| {
        policy["spec"] = json!({"notifications": {"receivers": [chat()]}});
        policy["metadata"]["generation"] = json!(2);
    });
    env.watch();
    env.run(1.0);
    assert!(!is_default_unusable(&registry));
}

fn is_default_unusable(registry: &Registry) -> bool {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text.lines().any(|line| line == "mail_failover_notification_default_policy_unusable 1")
}

#[test]
fn a_test_message_is_answered_in_the_status() {
    let mut env = started(&[chat(), pager()]);
    env.edit("FailoverPolicy", "fast", |policy| {
        policy["metadata"]["annotations"] = json!({"mailfailover.io/test-notification": "t-1"});
    });
    env.run(2.0);
    for call in std::mem::take(&mut env.notification_calls) {
        let outcome = if &*call.receiver == "chat" { DeliveryOutcome::Accepted } else { lost() };
        answer(&mut env, &call, outcome);
    }
    env.run(30.0);
    let test = notifications(&env).test.unwrap();
    let results: Vec<_> = test.results.iter().map(|one| (one.receiver.as_str(), one.accepted)).collect();
    assert_eq!((test.id.as_str(), results), ("t-1", vec![("chat", true), ("pager", false)]));
    assert!(env.notification_calls.is_empty(), "one attempt, and once for an id");
    env.restart();
    give_secret(&mut env);
    env.run(30.0);
    assert!(env.notification_calls.is_empty());
}

#[test]
fn mail_leaves_by_a_backend_that_can_deliver_and_waits_for_one() {
    let mail = json!({"name": "post", "type": "Mail",
        "mail": {"from": "ops@example.org", "to": ["a@example.org"], "backends": ["primary", "standby"]}});
    let mut env = started(&[mail]);
    fail_over(&mut env);
    env.run(20.0);
    let call = env.notification_calls.remove(0);
    let CallContent::Mail(request) = &call.content else { panic!("{call:?}") };
    assert_eq!(&*request.backend, "standby");
    let text = String::from_utf8(request.mail.clone()).unwrap();
    assert!(
        text.contains(
            "Subject: [mail failover, warning] Failover: mail of route shop/orders leaves primary for standby"
        )
    );
    answer(&mut env, &call, DeliveryOutcome::Accepted);
    env.answer("standby", EvidenceClass::NoAnswer);
    env.run(60.0);
    assert!(env.notification_calls.is_empty());
    let failure = notifications(&env).receivers[0].failure.clone().unwrap();
    assert!(failure.message.contains("none of primary, standby is Healthy"), "{}", failure.message);
    env.answer("standby", EvidenceClass::Ok);
    env.run(400.0);
    assert_eq!(env.notification_calls.len(), 1);
}

#[test]
fn an_alertmanager_is_told_again_while_a_failover_lasts() {
    let mut env = started(&[alertmanager()]);
    fail_over(&mut env);
    let calls = accepted(&mut env, 200);
    assert!((4..=6).contains(&calls.len()), "{}", calls.len());
    let labels: BTreeSet<_> = calls.iter().map(|call| body(call)[0]["labels"].to_string()).collect();
    assert_eq!(labels.len(), 1, "one alert: {labels:?}");
    let writes = env.store.writes;
    assert_eq!(accepted(&mut env, 180).len(), 3);
    assert_eq!(env.store.writes, writes, "without a write: {:?}", env.store.log);
    env.answer("primary", EvidenceClass::Ok);
    accepted(&mut env, 60);
    assert!(accepted(&mut env, 180).is_empty(), "it is over");
}

#[test]
fn what_an_alertmanager_is_told_again_has_the_count_the_reason_and_the_way() {
    let mut objects = with_receivers(&[alertmanager()]);
    let route = objects.pop().unwrap().1;
    for number in 0..30 {
        let mut route = route.clone();
        route["metadata"]["name"] = json!(format!("orders-{number:03}"));
        route["spec"]["outputs"] = json!([{"configMap": {"name": format!("mail-{number:03}"), "format": "Env"}}]);
        objects.push(("MailRoute", route));
    }
    let mut env = TestEnv::with(&objects);
    env.run(10.0);
    fail_over(&mut env);
    let calls = accepted(&mut env, 150);
    assert!((3..=5).contains(&calls.len()), "{}", calls.len());
    for call in &calls {
        let alerts = body(call);
        assert_eq!(alerts[0]["annotations"]["summary"], "Failover: mail of 30 routes leaves primary for standby");
        let description = alerts[0]["annotations"]["description"].as_str().unwrap();
        assert!(description.contains("Why: primary → standby: ConnectionRefused"), "{description}");
    }
}

#[test]
fn a_defect_of_the_receivers_leaves_the_policy_in_force() {
    let mut env = started(&[chat()]);
    // As an old schema would let it pass.
    env.edit("FailoverPolicy", "fast", |policy| {
        policy["spec"]["notifications"]["receivers"][0] = json!({"name": "chat", "type": "Slack"});
    });
    env.run(2.0);
    let ready = policy_status(&env).conditions.into_iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "InvalidSpec"));
    assert_eq!(env.condition("Ready").0, "True", "mail is not concerned");
    fail_over(&mut env);
    assert_eq!(titles(&accepted(&mut env, 20)).len(), 1, "the last good receivers stay");
}

#[test]
fn without_receivers_nothing_is_kept_in_the_status_of_routes() {
    let mut env = started(&[chat()]);
    fail_over(&mut env);
    env.run(20.0);
    env.edit("FailoverPolicy", "fast", |policy| {
        policy["spec"].as_object_mut().unwrap().remove("notifications");
    });
    env.run(10.0);
    let route = env.store.route("orders");
    assert!(route.pending_notifications.is_empty() && route.ongoing.is_empty());
    assert_eq!(policy_status(&env).notifications, None);
}

#[test]
fn a_namespace_takes_no_more_calls_than_it_leaves_free() {
    let mut objects = with_receivers(&[chat()]);
    let (route, policy) = (objects.pop().unwrap().1, objects[0].1.clone());
    for number in 0..60 {
        let (mut route, mut policy) = (route.clone(), policy.clone());
        policy["metadata"]["name"] = json!(format!("fast-{number}"));
        route["metadata"]["name"] = json!(format!("orders-{number}"));
        route["spec"]["policyRef"]["name"] = json!(format!("fast-{number}"));
        route["spec"]["outputs"] = json!([{"configMap": {"name": format!("mail-{number}"), "format": "Env"}}]);
        objects.extend([("FailoverPolicy", policy), ("MailRoute", route)]);
    }
    let mut env = TestEnv::with(&objects);
    env.run(0.1);
    give_secret(&mut env);
    env.run(10.0);
    fail_over(&mut env);
    env.run(30.0);
    assert_eq!(env.notification_calls.len(), super::notifications::MAX_CALLS / 2);
    assert_eq!(accepted(&mut env, 20).len(), 60, "each that ends makes room for one that waits");
}
