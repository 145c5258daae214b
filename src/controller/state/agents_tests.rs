//! Tests of the document for the agents of a route, in virtual time.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::testing::*;
use crate::controller::input::Input;
use mail_failover_contract::routing::{Routing, parse};
use mail_failover_core::model::{Agent, AgentReport, EvidenceClass, ObjectKey};

/// The quickstart with credentials and an output for agents.
fn with_agents() -> Vec<(&'static str, Value)> {
    let mut objects = quickstart();
    objects[1].1["spec"]["smtp"]["auth"] = json!({"secretRef": {"name": "primary-login"}, "allowPlaintext": true});
    objects[0].1["spec"]["failure"]["deliveries"] = json!({"consecutive": 4, "lasting": "2s"});
    objects[3].1["spec"]["outputs"].as_array_mut().unwrap().push(json!({"agent": {"configMap": "mail-agent"}}));
    objects
}

fn document(env: &TestEnv) -> String {
    let config_map: ConfigMap = env.store.get("ConfigMap", "mail-agent").unwrap();
    config_map.data.unwrap().remove("agent.json").unwrap()
}

/// Name, share and whether an agent may go there by itself.
fn told(env: &TestEnv) -> Vec<(Arc<str>, u8, bool)> {
    let backends = parse(&document(env)).unwrap().backends;
    backends.into_iter().map(|backend| (backend.name, backend.percent, backend.standby)).collect()
}

fn backends(expected: &[(&str, u8, bool)]) -> Vec<(Arc<str>, u8, bool)> {
    expected.iter().map(|(name, percent, is_standby)| (Arc::from(*name), *percent, *is_standby)).collect()
}

fn condition_message(env: &TestEnv, type_: &str) -> String {
    let conditions = env.store.route("orders").conditions;
    conditions.into_iter().find(|condition| condition.type_ == type_).map(|found| found.message).unwrap_or_default()
}

#[test]
fn agents_are_told_where_mail_goes_and_who_could_take_over() {
    let mut env = TestEnv::with(&with_agents());
    env.run(5.0);
    assert_eq!(told(&env), backends(&[("primary", 100, true), ("standby", 0, true)]));
    let Routing { route, transition, summary, deliveries, backends: first, .. } = parse(&document(&env)).unwrap();
    assert_eq!((&*route, transition, &*summary), ("shop/orders", 0, ""));
    assert_eq!((deliveries.consecutive, deliveries.lasting.as_secs(), deliveries.cooldown.as_secs()), (4, 2, 20));
    assert_eq!(first[0].secret, Some("primary-login".into()));

    // Who could take over changes without a decision.
    env.answer("standby", EvidenceClass::NoAnswer);
    env.run(5.0);
    assert_eq!(told(&env), backends(&[("primary", 100, true), ("standby", 0, false)]));
    assert_eq!(parse(&document(&env)).unwrap().transition, 0);
    env.answer("standby", EvidenceClass::Ok);
    env.run(5.0);
    assert_eq!(told(&env), backends(&[("primary", 100, true), ("standby", 0, true)]));

    env.answer("primary", EvidenceClass::AccountPaused);
    env.run(5.0);
    assert_eq!(told(&env), backends(&[("primary", 0, false), ("standby", 100, true)]));
    let Routing { transition, summary, .. } = parse(&document(&env)).unwrap();
    assert_eq!((transition, &*summary), (1, "Failover primary → standby: AccountPaused"));
    assert_eq!(env.condition("OutputsApplied").0, "True");

    let writes = env.store.writes;
    env.run(600.0);
    assert_eq!(env.store.writes, writes, "{:?}", &env.store.log[writes..]);
}

#[test]
fn an_agent_goes_nowhere_by_itself_while_a_person_holds_the_mail() {
    let request = |json: Value| json!({"mailfailover.io/request": json.to_string()});
    let forced = json!({"id": "3", "action": "Switch", "to": "primary", "force": true});
    for (held, is_standby) in [
        (json!({"id": "1", "action": "Pause"}), false),
        (forced, false),
        (json!({"id": "2", "action": "Switch", "to": "primary"}), true),
    ] {
        let mut env = TestEnv::with(&with_agents());
        env.run(5.0);
        env.edit("MailRoute", "orders", |object| object["metadata"]["annotations"] = request(held.clone()));
        env.run(5.0);
        assert_eq!(
            told(&env),
            backends(&[("primary", 100, is_standby), ("standby", 0, is_standby)]),
            "{held}: {:?}",
            env.store.route("orders").request
        );
    }
}

/// Names of the backends that messages may go to within an attempt at another one.
fn alternates(env: &TestEnv) -> Vec<String> {
    let backends = parse(&document(env)).unwrap().backends.into_iter();
    backends.filter(|backend| backend.alternate).map(|backend| backend.name.to_string()).collect()
}

#[test]
fn messages_may_go_to_what_is_healthy_and_within_its_limits_unless_the_route_or_a_person_says_no() {
    for (object, pointer, value, expected) in [
        (3, "/spec/senderDomains", json!(["shop.example"]), &["primary", "standby"][..]),
        (3, "/spec/messages", json!({"alternates": false}), &[]),
        (2, "/spec/limits", json!({"messagesPerDay": 100_000}), &["primary", "standby"]),
        (2, "/spec/limits", json!({"messagesPerDay": 99_999}), &["primary"]),
    ] {
        let mut objects = with_agents();
        objects[3].1["spec"]["traffic"] = json!({"messagesPerDay": 100_000});
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        objects[object].1.pointer_mut(parent).unwrap()[key] = value.clone();
        let mut env = TestEnv::with(&objects);
        env.run(5.0);
        assert_eq!(alternates(&env), expected, "{pointer} {value}");
    }
    let mut env = TestEnv::with(&with_agents());
    env.run(5.0);
    assert_eq!(alternates(&env), ["primary", "standby"]);
    let pause = json!({"mailfailover.io/request": json!({"id": "1", "action": "Pause"}).to_string()});
    let mut paused = TestEnv::with(&with_agents());
    paused.run(5.0);
    paused.edit("MailRoute", "orders", |object| object["metadata"]["annotations"] = pause);
    paused.run(5.0);
    assert_eq!(alternates(&paused), Vec::<String>::new());
    env.answer("standby", EvidenceClass::NoAnswer);
    env.run(5.0);
    assert_eq!(alternates(&env), ["primary"]);
}

#[test]
fn suspended_and_excluded_backends_are_no_standby() {
    for (place, value) in [("suspended", json!(true)), ("senderDomains", json!([{"domain": "other.example"}]))] {
        let mut objects = with_agents();
        objects[2].1["spec"][place] = value;
        objects[3].1["spec"]["senderDomains"] = json!(["shop.example"]);
        let mut env = TestEnv::with(&objects);
        env.run(5.0);
        assert_eq!(told(&env), backends(&[("primary", 100, true), ("standby", 0, false)]), "{place}");
    }
}

#[test]
fn backends_that_agents_cannot_tell_apart_are_said_so_and_mail_follows_the_decision_all_the_same() {
    let mut objects = with_agents();
    objects[2].1["spec"]["smtp"]["host"] = json!("192.0.2.1");
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    assert_eq!(told(&env), backends(&[("primary", 100, true)]));
    assert_eq!(env.condition("OutputsApplied"), ("False".to_owned(), "NextHopShared".to_owned()));
    let message = condition_message(&env, "OutputsApplied");
    assert!(message.starts_with("spec.backends[].name: primary and standby are both [192.0.2.1]:25"), "{message}");
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.1"], "the other outputs go on");
    env.answer("primary", EvidenceClass::AccountPaused);
    env.run(5.0);
    assert_eq!(told(&env), backends(&[("standby", 100, true)]));
    env.edit("SendingBackend", "standby", |object| object["spec"]["smtp"]["host"] = json!("192.0.2.2"));
    env.run(5.0);
    assert_eq!(told(&env), backends(&[("primary", 0, false), ("standby", 100, true)]));
    assert_eq!(env.condition("OutputsApplied").0, "True");
}

#[test]
fn the_config_map_of_agents_is_owned_as_every_other_output() {
    let mut objects = with_agents();
    let foreign = json!({"metadata": {"name": "mail-agent"}, "data": {"agent.json": "{}"}});
    objects.insert(0, ("ConfigMap", foreign));
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    assert_eq!(document(&env), "{}");
    assert_eq!(env.condition("OutputsApplied"), ("False".to_owned(), "OutputConflict".to_owned()));
    let message = condition_message(&env, "OutputsApplied");
    assert!(message.starts_with("spec.outputs[].agent.configMap: "), "{message}");
    env.delete("ConfigMap", "mail-agent");
    env.run(40.0);
    assert_eq!(told(&env), backends(&[("primary", 100, true), ("standby", 0, true)]));
    env.edit("MailRoute", "orders", |object| {
        object["spec"]["outputs"].as_array_mut().unwrap().pop();
    });
    env.run(5.0);
    assert!(env.store.get::<ConfigMap>("ConfigMap", "mail-agent").is_none());
}

/// Fails everything within seconds. Such changes must not look like another controller that undoes
/// writes.
#[test]
fn much_news_is_told_at_once() {
    let mut objects = with_agents();
    let names: Vec<_> = (0..40).map(|number| format!("b{number}")).collect();
    objects[0].1["spec"]["failure"]["consecutive"] = json!(1);
    for (number, name) in names.iter().enumerate() {
        let (kind, mut object) = backend(name, &format!("198.51.100.{number}"));
        object["spec"]["probes"][0]["interval"] = json!("100ms");
        objects[3].1["spec"]["backends"].as_array_mut().unwrap().push(json!({"name": name}));
        objects.push((kind, object));
    }
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    for name in &names {
        env.answer(name, EvidenceClass::NoAnswer);
        env.run(0.1);
        let standbys = told(&env).into_iter().filter(|(told, ..)| **told == **name);
        assert_eq!(standbys.collect::<Vec<_>>(), backends(&[(name, 0, false)]));
        assert_eq!(env.condition("OutputsApplied").0, "True");
    }
}

/// The rate of the standby in the document, in messages a minute.
fn rate_of_standby(env: &TestEnv) -> u64 {
    let document: Value = serde_json::from_str(&document(env)).unwrap();
    let rate = &document["backends"][1]["rate"];
    rate["messages"].as_u64().unwrap() * 60_000 / rate["perMilliseconds"].as_u64().unwrap()
}

/// An agent of the route reports that all is well.
fn hear(env: &mut TestEnv, agent: &str, sequence: u64) {
    hear_sender(env, agent, sequence, false);
}

/// A relay or an agent of the route reports that all is well.
fn hear_sender(env: &mut TestEnv, agent: &str, sequence: u64, tells_accounts_apart: bool) {
    let report = AgentReport {
        agent: Agent { route: ObjectKey::new("shop", "orders"), name: agent.into() },
        route_uid: env.store.objects[&("MailRoute", "orders".to_owned())]["metadata"]["uid"].as_str().unwrap().into(),
        process: "p".into(),
        sequence,
        tells_accounts_apart,
        backends: [].into(),
        last_switch: None,
        kept: None,
        queue: None,
        drill: None,
    };
    env.state.handle(env.now, Input::AgentReport(Box::new(report)));
    env.run(1.0);
}

#[test]
fn who_tells_accounts_apart_is_no_reason_to_say_that_they_share_a_next_hop() {
    let mut objects = with_agents();
    objects[2].1["spec"]["smtp"]["host"] = json!("192.0.2.1");
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    let shared = ("False".to_owned(), "NextHopShared".to_owned());
    assert_eq!(env.condition("OutputsApplied"), shared, "nobody is heard: it may be an MTA");
    for sequence in 1..=2 {
        hear_sender(&mut env, "relay-0", sequence, true);
    }
    env.run(5.0);
    assert_eq!(env.condition("OutputsApplied").0, "True");
    // A process that has just started has heard nobody.
    env.restart();
    env.run(5.0);
    assert_eq!(env.condition("OutputsApplied").0, "True");
    hear_sender(&mut env, "relay-0", 3, true);
    hear(&mut env, "postfix-0", 1);
    env.run(5.0);
    assert_eq!(env.condition("OutputsApplied"), shared);
    // Until the Postfix is forgotten.
    for sequence in 4..=80 {
        env.run(9.0);
        hear_sender(&mut env, "relay-0", sequence, true);
    }
    env.run(5.0);
    assert_eq!(env.condition("OutputsApplied").0, "True");
}

#[test]
fn a_limit_is_divided_among_the_agents_of_all_routes_and_a_restart_keeps_the_division() {
    let mut objects = with_agents();
    objects[2].1["spec"]["limits"] = json!({"messagesPerSecond": 14});
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    assert_eq!(rate_of_standby(&env), 840, "one agent at least");
    for sequence in 1..=8 {
        for agent in ["a", "b"] {
            hear(&mut env, agent, sequence);
        }
        env.run(8.0);
    }
    assert_eq!(rate_of_standby(&env), 420);

    // A process that has heard one agent only does not take it for the only one.
    env.restart();
    env.run(5.0);
    assert_eq!(rate_of_standby(&env), 420);
    hear(&mut env, "a", 9);
    assert_eq!(rate_of_standby(&env), 420);
    for sequence in 10..=17 {
        env.run(9.0);
        hear(&mut env, "a", sequence);
    }
    assert_eq!(rate_of_standby(&env), 840, "the other one is gone");

    // Another route that leads there has most of it.
    let mut other = env.store.objects[&("MailRoute", "orders".to_owned())].clone();
    other["metadata"] = json!({"name": "news", "namespace": "shop"});
    other["status"] = json!(null);
    other["spec"]["backends"] = json!([{"name": "standby"}, {"name": "primary"}]);
    other["spec"]["outputs"] = json!([{"agent": {"configMap": "news-agent"}}]);
    env.store.create("MailRoute", other);
    env.run(5.0);
    assert_eq!(rate_of_standby(&env), 84);
}
