//! Tests of the controller's state, in virtual time.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::ResourceExt;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::testing::*;
use crate::controller::action::{Action, ActionError, ActionRequest, ActionResult, ResourceKind};
use crate::controller::input::Input;
use crate::leader::ClaimLost;
use crate::watch::Source;
use mail_failover_api::{Health, MailRoute, RouteState, SendingBackend};
use mail_failover_core::model::{ClockDrift, EvidenceClass};

#[test]
fn a_dead_primary_is_left_and_returned_to_when_it_has_soaked() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    assert_eq!((env.active(), env.store.leads_to("mail-ipv4")), ("primary".to_owned(), vec!["192.0.2.1".to_owned()]));
    assert_eq!(env.condition("Ready"), ("True".to_owned(), "Delivering".to_owned()));
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(4.0);
    let status = env.store.route("orders");
    assert_eq!((env.active(), env.store.leads_to("mail-ipv4")), ("standby".to_owned(), vec!["192.0.2.2".to_owned()]));
    assert_eq!(status.state, Some(RouteState::FailedOver));
    assert_eq!(status.healthy_backends.as_deref(), Some("1/2"));
    assert!(status.last_transition.unwrap().applied_at.is_some());
    assert_eq!(env.condition("Ready").0, "True");
    assert_eq!(env.condition("FailedOver"), ("True".to_owned(), "ConnectionRefused".to_owned()));
    assert_eq!(env.condition("Redundant").0, "False");
    let config_map: ConfigMap = env.store.get("ConfigMap", "mail").unwrap();
    assert_eq!(config_map.data.unwrap()["SMTP_HOST"], "192.0.2.2");
    env.answer("primary", EvidenceClass::Ok);
    env.run(15.0);
    assert_eq!(env.active(), "standby");
    assert_eq!(env.store.route("orders").waiting_for.unwrap().reason, "Soak");
    env.run(25.0);
    assert_eq!(env.active(), "primary");
    assert_eq!(env.store.events(), ["BackendUnhealthy", "FailedOver", "BackendRecovered", "FailedBack"]);
    assert_eq!(env.store.route("orders").pending_events, vec![]);
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let mut env = TestEnv::with(&quickstart());
    env.run(10.0);
    let writes = env.store.writes;
    env.run(600.0);
    assert_eq!(env.store.writes, writes, "{:?}", env.store.log);
}

/// However often the process dies at whichever write of a switch, the switch is made once, told once, and told after it
/// was made.
#[test]
fn a_death_at_any_write_neither_loses_nor_doubles_a_switch() {
    let undisturbed = |env: &mut TestEnv| {
        env.run(5.0);
        env.answer("primary", EvidenceClass::NoAnswer);
        env.run(20.0);
    };
    let mut env = TestEnv::with(&quickstart());
    undisturbed(&mut env);
    let writes = env.store.writes;
    assert!(writes >= 10, "{:?}", env.store.log);
    for at in 0..writes {
        for death in [Death::BeforeWrite, Death::AfterWrite] {
            let mut env = TestEnv::with(&quickstart());
            env.store.dies_at = Some((at, death));
            undisturbed(&mut env);
            let log = env.store.log.join("\n");
            assert_eq!(env.deaths, 1, "{death:?} at {at}\n{log}");
            let status = env.store.route("orders");
            assert_eq!((env.active(), status.history.len()), ("standby".to_owned(), 1), "{death:?} at {at}\n{log}");
            assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"], "{death:?} at {at}\n{log}");
            let switch = env.store.log.iter().rposition(|line| line == "write EndpointSlice mail-ipv4").unwrap();
            let told = env.store.log.iter().position(|line| line == "event FailedOver").unwrap();
            assert!(switch < told, "{death:?} at {at}\n{log}");
            let mut events = env.store.events();
            events.sort();
            assert_eq!(events, ["BackendUnhealthy", "FailedOver"], "{death:?} at {at}\n{log}");
            assert!(status.last_transition.unwrap().applied_at.is_some() && status.pending_events.is_empty());
        }
    }
}

#[test]
fn a_new_leader_goes_on_with_cooldown_and_soak_where_the_old_one_stopped() {
    let mut undisturbed = TestEnv::with(&quickstart());
    let mut restarted = TestEnv::with(&quickstart());
    for env in [&mut undisturbed, &mut restarted] {
        env.run(10.0);
        env.answer("primary", EvidenceClass::NoAnswer);
        env.run(5.0);
        env.answer("primary", EvidenceClass::Ok);
        env.run(10.0);
    }
    for _ in 0..5 {
        restarted.restart();
        restarted.run(4.0);
    }
    undisturbed.run(20.0);
    for env in [&mut undisturbed, &mut restarted] {
        env.run(30.0);
        assert_eq!(env.active(), "primary");
    }
    let decided_at = |env: &TestEnv| env.store.route("orders").last_transition.unwrap().decided_at;
    assert_eq!(decided_at(&undisturbed), decided_at(&restarted));
}

#[test]
fn nothing_is_decided_before_everything_is_listed_and_probed() {
    let mut env = TestEnv::new();
    for (kind, object) in quickstart() {
        env.store.create(kind, object);
    }
    env.watch();
    for source in Source::ESSENTIAL.into_iter().skip(1) {
        env.state.handle(env.now, Input::Synced(source));
    }
    env.settle();
    assert_eq!((env.store.writes, env.targets.len()), (0, 0));
    env.state.handle(env.now, Input::Synced(Source::ESSENTIAL[0]));
    env.settle();
    assert_eq!(env.targets.len(), 2);
    assert!(env.store.log.iter().all(|line| line.contains("FailoverPolicy")), "{:?}", env.store.log);
    env.run(0.2);
    assert_eq!(env.active(), "primary");
}

#[test]
fn a_policy_or_backend_that_vanishes_or_turns_unreadable_leaves_the_last_good_decision() {
    for what in [("FailoverPolicy", "fast"), ("SendingBackend", "standby"), ("MailRoute", "orders")] {
        for is_deleted in [true, false] {
            if what.0 == "MailRoute" && is_deleted {
                continue;
            }
            let mut env = TestEnv::with(&quickstart());
            env.run(5.0);
            env.answer("primary", EvidenceClass::NoAnswer);
            env.run(5.0);
            let since = env.store.route("orders").since;
            if is_deleted {
                env.delete(what.0, what.1);
            } else {
                env.edit(what.0, what.1, |object| match what.0 {
                    "FailoverPolicy" => object["spec"]["failback"] = json!({"mode": "Psychic"}),
                    "MailRoute" => object["spec"]["strategy"] = json!("Telepathy"),
                    _ => object["spec"]["smtp"]["tls"] = json!({"mode": "Quantum"}),
                });
            }
            env.run(60.0);
            assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"], "{what:?} deleted: {is_deleted}");
            let raw = &env.store.objects[&("MailRoute", "orders".to_owned())];
            assert_eq!(
                raw["status"]["since"],
                serde_json::to_value(since.unwrap()).unwrap(),
                "{what:?} deleted: {is_deleted}"
            );
            if is_deleted {
                assert_eq!(env.condition("Ready").0, "False", "{what:?}");
            } else {
                let changed = &env.store.objects[&(what.0, what.1.to_owned())];
                let conditions = changed["status"]["conditions"].as_array().unwrap();
                assert!(
                    conditions.iter().any(|c| c["type"] == "Stalled" && c["status"] == "True"),
                    "{what:?} {changed}"
                );
                assert!(env.store.events().contains(&"ConfigurationRejected".to_owned()), "{what:?}");
            }
            let writes = env.store.writes;
            env.run(60.0);
            assert_eq!(env.store.writes, writes, "{what:?} deleted: {is_deleted}: {:?}", env.store.log);
        }
    }
}

#[test]
fn a_policy_that_only_the_operator_can_tell_is_wrong_stalls_and_its_routes_keep_the_last_good_one() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.answer("primary", EvidenceClass::NoAnswer);
    env.run(5.0);
    env.answer("primary", EvidenceClass::Ok);
    let window = json!({"schedule": "0 2 * * *", "timeZone": "Europe/Atlantis", "duration": "1h"});
    env.edit("FailoverPolicy", "fast", |object| object["spec"]["failback"]["windows"] = json!([window]));
    env.run(5.0);
    let policy = env.store.objects[&("FailoverPolicy", "fast".to_owned())].clone();
    let conditions = policy["status"]["conditions"].as_array().unwrap();
    let told: Vec<_> = conditions.iter().map(|c| (&c["type"], &c["status"], &c["reason"])).collect();
    assert_eq!(
        told,
        [
            (&json!("Ready"), &json!("False"), &json!("InvalidSpec")),
            (&json!("Stalled"), &json!("True"), &json!("InvalidSpec")),
        ]
    );
    let message = conditions[0]["message"].as_str().unwrap();
    assert!(message.starts_with("spec.failback.windows[0].timeZone: "), "{message}");
    assert_eq!(policy["status"]["observedGeneration"], policy["metadata"]["generation"]);
    assert_eq!(env.condition("Ready"), ("False".to_owned(), "PolicyRejected".to_owned()));
    assert_eq!(env.condition("Stalled"), (String::new(), String::new()), "the route itself is sound");
    // By the last good policy: back after the soak of 30 s, for it had no windows.
    env.run(40.0);
    assert_eq!(env.active(), "primary");

    env.edit("FailoverPolicy", "fast", |object| object["spec"]["failback"]["windows"][0]["timeZone"] = json!("UTC"));
    env.run(5.0);
    let policy = env.store.objects[&("FailoverPolicy", "fast".to_owned())].clone();
    let conditions = policy["status"]["conditions"].as_array().unwrap();
    assert!(conditions.len() == 1 && conditions[0]["status"] == "True", "{policy}");
    assert_eq!(env.condition("Ready").0, "True");
}

#[test]
fn a_deleted_backend_that_carries_the_mail_is_still_left_when_it_dies() {
    for is_echo_first in [false, true] {
        let mut env = TestEnv::with(&quickstart());
        env.is_echo_first = is_echo_first;
        env.run(5.0);
        env.delete("SendingBackend", "primary");
        env.run(5.0);
        assert_eq!((env.active(), env.condition("Ready").1), ("primary".to_owned(), "BackendNotFound".to_owned()));
        env.answer("primary", EvidenceClass::NoAnswer);
        env.run(5.0);
        assert_eq!(env.active(), "standby");
        env.run(5.0);
        assert_eq!(env.targets.len(), 1, "the deleted backend is probed no more (echo first: {is_echo_first})");
    }
}

#[test]
fn a_transition_is_counted_once_whether_or_not_the_echo_of_its_write_overtakes_the_answer() {
    for is_echo_first in [false, true] {
        let mut registry = Registry::default();
        let mut env = TestEnv::new();
        env.state = state_with(&mut registry);
        env.is_echo_first = is_echo_first;
        for (kind, object) in &quickstart() {
            env.store.create(kind, object.clone());
        }
        env.sync();
        env.run(5.0);
        env.answer("primary", EvidenceClass::NoAnswer);
        env.run(5.0);
        assert_eq!(env.active(), "standby");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for (metric, labels) in [
            ("mail_failover_route_transitions_total", "kind=\"Failover\",reason=\"NoAnswer\"} 1"),
            ("mail_failover_route_actuation_duration_seconds_count", " 1"),
        ] {
            let line = text.lines().find(|line| line.starts_with(metric)).unwrap_or_default();
            assert!(line.ends_with(labels), "{metric}: {line:?} (echo first: {is_echo_first})");
        }
    }
}

#[test]
fn an_output_that_somebody_else_has_is_left_alone_and_said_so() {
    let mut objects = quickstart();
    objects.insert(
        0,
        (
            "Service",
            json!({"metadata": {"name": "mail"}, "spec": {"ports": [{"port": 25}], "selector": {"app": "mine"}}}),
        ),
    );
    let mut env = TestEnv::with(&objects);
    env.run(10.0);
    let service: Service = env.store.get("Service", "mail").unwrap();
    assert_eq!(service.spec.unwrap().selector.unwrap()["app"], "mine");
    assert_eq!(env.condition("OutputsApplied"), ("False".to_owned(), "OutputConflict".to_owned()));
    assert_eq!(env.condition("Ready").0, "False");
    assert_eq!(env.store.events(), ["OutputRefused"]);
    assert!(env.store.get::<ConfigMap>("ConfigMap", "mail").is_some(), "the other output is written all the same");
    env.delete("Service", "mail");
    env.run(40.0);
    assert_eq!(env.condition("Ready").0, "True");
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.1"]);
}

/// A route without what it refers to, made at the time of the env.
fn made_now(missing: &str) -> (TestEnv, (&'static str, serde_json::Value)) {
    let (mut others, mut rest): (Vec<_>, Vec<_>) =
        quickstart().into_iter().partition(|(_, object)| object["metadata"]["name"] != json!(missing));
    for (_, object) in others.iter_mut().filter(|(kind, _)| *kind == "MailRoute") {
        object["metadata"]["creationTimestamp"] = json!("1970-01-01T00:16:40Z");
    }
    (TestEnv::with(&others), rest.remove(0))
}

#[test]
fn a_new_route_waits_a_moment_for_what_it_refers_to() {
    for missing in ["fast", "standby"] {
        let (mut env, (kind, object)) = made_now(missing);
        env.run(2.5);
        assert!(env.store.events().is_empty(), "{missing}: {:?}", env.store.events());
        env.store.create(kind, object);
        env.run(3.0);
        assert_eq!(env.active(), "primary");
        assert!(env.store.events().is_empty(), "{missing}: {:?}", env.store.events());
    }
}

#[test]
fn a_new_route_is_told_of_references_that_lead_nowhere_and_an_old_one_at_once() {
    for missing in ["fast", "standby"] {
        let (mut env, _) = made_now(missing);
        env.run(3.5);
        assert_eq!(env.store.events(), ["ConfigurationRejected"], "{missing}");
        assert_eq!(env.condition("Ready").0, "False");
    }
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.delete("FailoverPolicy", "fast");
    env.run(0.5);
    assert_eq!(env.condition("Ready").0, "False");
}

#[test]
fn of_two_routes_that_claim_one_target_the_older_keeps_it() {
    let mut objects = quickstart();
    let (kind, mut newer) = route();
    newer["metadata"]["name"] = json!("aaa-newer");
    newer["metadata"]["creationTimestamp"] = json!("2026-11-02T00:00:00Z");
    objects[3].1["metadata"]["creationTimestamp"] = json!("2026-11-01T00:00:00Z");
    objects.push((kind, newer));
    let mut env = TestEnv::with(&objects);
    env.run(10.0);
    assert_eq!(env.condition("Ready").0, "True");
    let newer = env.store.route("aaa-newer");
    let applied = newer.conditions.iter().find(|condition| condition.type_ == "OutputsApplied").unwrap();
    assert_eq!((applied.status.as_str(), applied.reason.as_str()), ("False", "OutputClaimed"));
    assert!(applied.message.contains("MailRoute orders"), "{}", applied.message);
    let owner = env.store.get::<Service>("Service", "mail").unwrap();
    let orders: MailRoute = env.store.get("MailRoute", "orders").unwrap();
    assert_eq!(owner.owner_references()[0].uid, orders.metadata.uid.unwrap());
    env.delete("MailRoute", "orders");
    for id in [("Service", "mail"), ("EndpointSlice", "mail-ipv4"), ("ConfigMap", "mail")] {
        env.delete(id.0, id.1);
    }
    env.run(10.0);
    assert_eq!(
        env.store.leads_to("mail-ipv4"),
        ["192.0.2.1"],
        "the garbage collector has passed, and the newer takes over"
    );
}

#[test]
fn drift_is_repaired_without_a_fight_that_hammers_the_api_server() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.edit("ConfigMap", "mail", |object| object["data"]["SMTP_HOST"] = json!("198.51.100.66"));
    env.run(1.0);
    let repaired: ConfigMap = env.store.get("ConfigMap", "mail").unwrap();
    assert_eq!(repaired.data.unwrap()["SMTP_HOST"], "192.0.2.1");
    let before = env.store.log.len();
    for _ in 0..600 {
        env.edit("ConfigMap", "mail", |object| object["data"]["SMTP_HOST"] = json!("198.51.100.66"));
        env.run(0.1);
    }
    let writes = env.store.log[before..].iter().filter(|line| line.starts_with("write ConfigMap")).count();
    assert!((55..=80).contains(&writes), "{writes} writes in a minute");
}

#[test]
fn a_backend_behind_a_service_follows_its_ready_endpoints() {
    let service = json!({"metadata": {"name": "relay"}, "spec": {"ports": [{"name": "smtp", "port": 25}]}});
    let slice = |ready: bool| {
        json!({"metadata": {"name": "relay-1", "labels": {"kubernetes.io/service-name": "relay"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["203.0.113.7"], "conditions": {"ready": ready}}], "ports": [{"name": "smtp", "port": 2525}]})
    };
    let (kind, mut primary) = backend("primary", "192.0.2.1");
    primary["spec"]["smtp"] = Value::Null;
    primary["spec"]["service"] = json!({"name": "relay", "port": "smtp"});
    let objects = [policy(), (kind, primary), backend("standby", "192.0.2.2"), route(), ("Service", service)];
    let mut env = TestEnv::with(&objects);
    env.answer("primary", EvidenceClass::NoEndpoints);
    env.run(5.0);
    assert_eq!(env.active(), "standby");
    env.store.create("EndpointSlice", slice(true));
    env.answer("primary", EvidenceClass::Ok);
    env.run(60.0);
    assert_eq!((env.active(), env.store.leads_to("mail-ipv4")), ("primary".to_owned(), vec!["203.0.113.7".to_owned()]));
}

#[test]
fn what_an_earlier_term_left_under_way_is_not_taken_for_an_answer_in_a_later_one() {
    let mut env = TestEnv::with(&quickstart());
    let first = env.state.poll(env.now);
    env.set_probes(first.probes);
    env.probe();
    let second = env.state.poll(env.now);
    env.set_probes(second.probes);
    env.state.handle(env.now, Input::Leading(false));
    env.state.handle(env.now, Input::Leading(true));
    assert!(second.actions.iter().any(|request| request.resource.kind == ResourceKind::Route));
    for request in first.actions.into_iter().chain(second.actions) {
        let is_route = request.resource.kind == ResourceKind::Route;
        assert_eq!(matches!(request.action, Action::Confirm), is_route, "a route is read afresh before it is written");
        let result = ActionResult {
            outcome: Err(ActionError::NotLeader(ClaimLost)),
            id: request.id,
            resource: request.resource,
        };
        env.state.handle(env.now, Input::Result(Box::new(result)));
    }
    env.run(5.0);
    assert_eq!(env.active(), "primary");
}

#[test]
fn a_standby_that_takes_over_rewrites_nothing_that_is_still_true() {
    let (mut leader, mut standby) = (TestEnv::with(&quickstart()), TestEnv::with(&quickstart()));
    standby.state.handle(standby.now, Input::Leading(false));
    // It probes on its own and sees everything a little later.
    standby.now = standby.now + Duration::from_millis(37);
    for env in [&mut leader, &mut standby] {
        env.run(5.0);
        env.answer("primary", EvidenceClass::NoAnswer);
        env.run(10.0);
    }
    assert_eq!(standby.store.writes, 0, "a standby writes nothing");
    standby.store = leader.store;
    let writes = standby.store.writes;
    standby.run(1.0);
    standby.state.handle(standby.now, Input::Leading(true));
    standby.run(10.0);
    assert_eq!(standby.store.writes, writes, "{:?}", &standby.store.log[writes..]);
}

/// First actions of the leader.
fn begun(env: &mut TestEnv) -> Vec<ActionRequest> {
    env.state.handle(env.now, Input::Leading(true));
    let effects = env.state.poll(env.now);
    env.set_probes(effects.probes);
    effects.actions
}

fn carry_out(env: &mut TestEnv, requests: Vec<ActionRequest>) {
    for request in requests {
        let result = env.store.carry_out(request).unwrap();
        env.state.handle(env.now, Input::Result(Box::new(result)));
    }
}

#[test]
fn a_new_leader_reads_no_route_for_which_it_has_nothing_to_write() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.state.handle(env.now, Input::Leading(false));
    env.run(1.0);
    let requests = begun(&mut env);
    assert!(requests.is_empty(), "{requests:?}");
    // It is read before the first write, and once.
    env.answer("primary", EvidenceClass::ConnectionRefused);
    let mut of_route = vec![];
    for _ in 0..50 {
        env.now = env.now + TICK;
        env.watch();
        env.probe();
        env.state.handle_timeout(env.now);
        let effects = env.state.poll(env.now);
        env.set_probes(effects.probes);
        let routes = effects.actions.iter().filter(|request| request.resource.kind == ResourceKind::Route);
        of_route.extend(routes.map(|request| request.action.as_str()));
        carry_out(&mut env, effects.actions);
    }
    assert_eq!(of_route[..3], ["Confirm", "WriteStatus", "WriteOutputs"]);
    assert_eq!(of_route.iter().filter(|action| **action == "Confirm").count(), 1, "{of_route:?}");
    assert_eq!((env.active(), env.store.leads_to("mail-ipv4")), ("standby".to_owned(), vec!["192.0.2.2".to_owned()]));
}

#[test]
fn a_new_leader_whose_watch_lags_writes_nothing_on_what_it_has_cached() {
    let (mut leader, mut successor) = (TestEnv::with(&quickstart()), TestEnv::with(&quickstart()));
    successor.state.handle(successor.now, Input::Leading(false));
    leader.run(5.0);
    successor.store.objects.clone_from(&leader.store.objects);
    successor.store.version = leader.store.version;
    successor.run(5.0);
    // Both see the failure. The leader moves the mail, which the successor's watch does not show.
    for env in [&mut leader, &mut successor] {
        env.answer("primary", EvidenceClass::ConnectionRefused);
        env.run(10.0);
    }
    assert_eq!((leader.active(), successor.active()), ("standby".to_owned(), "primary".to_owned()));
    successor.store.objects.clone_from(&leader.store.objects);
    successor.store.version = leader.store.version;
    let decided = leader.store.route("orders");
    let requests = begun(&mut successor);
    let of_route: Vec<_> = requests.iter().filter(|request| request.resource.kind == ResourceKind::Route).collect();
    assert!(matches!(of_route[..], [ActionRequest { action: Action::Confirm, .. }]), "{of_route:?}");
    carry_out(&mut successor, requests);
    successor.settle();
    let status = successor.store.route("orders");
    assert_eq!((status.history, status.active), (decided.history, decided.active), "the move is not decided again");
    assert_eq!(successor.store.leads_to("mail-ipv4"), ["192.0.2.2"]);
}

/// Somebody's finalizer holds a deleted route back: its mail still flows and still fails over, but what the garbage
/// collector has taken away is not made anew.
#[test]
fn a_half_deleted_route_still_fails_over_and_makes_nothing_anew() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.edit("MailRoute", "orders", |object| {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-24T12:00:00Z");
        object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    });
    env.delete("ConfigMap", "mail");
    env.answer("primary", EvidenceClass::NoAnswer);
    env.run(10.0);
    assert_eq!((env.active(), env.store.leads_to("mail-ipv4")), ("standby".to_owned(), vec!["192.0.2.2".to_owned()]));
    assert!(env.store.get::<ConfigMap>("ConfigMap", "mail").is_none());
    env.delete("MailRoute", "orders");
    let writes = env.store.writes;
    env.run(10.0);
    let after: Vec<_> = env.store.log[writes..].iter().filter(|line| !line.starts_with("status")).collect();
    assert_eq!(after, Vec::<&String>::new(), "nothing is left to do for a route that is gone");
}

#[test]
fn no_output_leads_anywhere_while_no_backend_may_carry_the_mail() {
    let mut env = TestEnv::with(&quickstart());
    let locate = |env: &mut TestEnv, jurisdiction: &str| {
        for backend in ["primary", "standby"] {
            env.edit("SendingBackend", backend, |backend| {
                backend["spec"]["location"] = json!({ "jurisdiction": jurisdiction });
            });
        }
    };
    let value = |env: &TestEnv, config_map: &str, key: &str| {
        let config_map: ConfigMap = env.store.get("ConfigMap", config_map).unwrap();
        config_map.data.unwrap().remove(key).unwrap()
    };
    locate(&mut env, "EU");
    env.edit("MailRoute", "orders", |route| {
        route["spec"]["residency"] = json!({ "jurisdictions": ["EU"] });
        let outputs = route["spec"]["outputs"].as_array_mut().unwrap();
        outputs.push(json!({ "agent": { "configMap": "mail-agent", "serviceAccountName": "postfix" } }));
        outputs.push(json!({ "configMap": { "name": "mail-postfix", "format": "Postfix" } }));
    });
    env.run(5.0);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.1"]);
    assert!(!value(&env, "mail-agent", "agent.json").contains("withdrawn"));
    locate(&mut env, "US");
    env.run(5.0);
    let status = env.store.route("orders");
    assert_eq!(status.waiting_for.map(|hold| hold.reason), Some("Withdrawn".to_owned()));
    assert_eq!(env.store.leads_to("mail-ipv4"), Vec::<String>::new());
    assert!(env.store.get::<Service>("Service", "mail").is_some(), "clients keep the name and its address");
    let routing = mail_failover_contract::routing::parse(&value(&env, "mail-agent", "agent.json")).unwrap();
    assert!(routing.is_withdrawn && routing.backends.len() == 1, "{routing:?}");
    assert_eq!(value(&env, "mail", "SMTP_HOST"), "255.255.255.255");
    assert!(value(&env, "mail-postfix", "transport").starts_with("* retry:4.7.1 "));
    let applied = status.conditions.iter().find(|condition| condition.type_ == "OutputsApplied").unwrap();
    assert_eq!((applied.status.as_str(), applied.message.as_str()), ("True", "no output leads to any backend"));
    assert_eq!(env.condition("Ready").0, "False");
    assert_eq!(status.outputs.len(), 4, "{:?}", status.outputs);
    assert!(status.outputs.iter().all(|output| output.active.is_empty()), "{:?}", status.outputs);
    let writes = env.store.writes;
    env.restart();
    env.run(60.0);
    assert_eq!(env.store.writes, writes, "it is at rest, over a restart, too: {:?}", &env.store.log[writes..]);
    locate(&mut env, "EU");
    env.run(70.0);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.1"]);
    assert!(!value(&env, "mail-agent", "agent.json").contains("withdrawn"));
    assert_eq!(value(&env, "mail", "SENDING_BACKEND"), "primary");
}

/// The objects of the quickstart, made just now.
fn just_made() -> TestEnv {
    let mut env = TestEnv::new();
    for (kind, mut object) in quickstart() {
        object["metadata"]["creationTimestamp"] = json!(env.now.to_string());
        env.store.create(kind, object);
    }
    env.sync();
    env
}

#[test]
fn nobody_is_alarmed_while_everything_starts_for_the_first_time() {
    let mut env = just_made();
    for backend in ["primary", "standby"] {
        env.answer(backend, EvidenceClass::ConnectionRefused);
    }
    env.run(20.0);
    assert_eq!(env.condition("Ready"), ("False".to_owned(), "NoneHealthy".to_owned()), "the status tells the truth");
    env.restart();
    env.run(10.0);
    for backend in ["primary", "standby"] {
        env.answer(backend, EvidenceClass::Ok);
    }
    env.run(60.0);
    assert_eq!(env.condition("Ready").0, "True");
    assert_eq!(env.store.events(), Vec::<String>::new(), "no alarm, and no all-clear");
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(5.0);
    assert_eq!(env.store.events(), ["BackendUnhealthy", "FailedOver"], "what has worked alarms at once");
}

#[test]
fn what_has_not_started_after_a_minute_alarms_once() {
    let mut env = just_made();
    for backend in ["primary", "standby"] {
        env.answer(backend, EvidenceClass::ConnectionRefused);
    }
    env.run(55.0);
    assert_eq!(env.store.events(), Vec::<String>::new());
    env.run(10.0);
    assert_eq!(env.store.events(), ["BackendUnhealthy", "BackendUnhealthy", "NoneHealthy"]);
    env.run(300.0);
    env.restart();
    env.run(300.0);
    assert_eq!(env.store.events().len(), 3, "{:?}", env.store.events());
    assert_eq!(env.store.route("orders").pending_events, vec![]);
}

#[test]
fn a_young_backend_that_has_worked_alarms_at_once() {
    let mut env = just_made();
    env.run(10.0);
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(5.0);
    assert_eq!(env.store.events(), ["BackendUnhealthy", "FailedOver"]);
}

#[test]
fn a_backend_of_which_nothing_can_be_found_out_says_why() {
    let mut env = TestEnv::with(&quickstart());
    env.answer("primary", EvidenceClass::Inconclusive);
    env.run(10.0);
    let status = env.store.get::<SendingBackend>("SendingBackend", "primary").unwrap().status.unwrap();
    assert_eq!((status.health, status.reason.as_deref()), (Some(Health::Unknown), Some("Inconclusive")));
    let said = status.message.unwrap_or_default();
    assert!(!said.is_empty(), "silent DNS was never named");
    assert_eq!(status.probes[0].message.as_deref(), Some(said.as_str()));
    let healthy = status.conditions.iter().find(|condition| condition.type_ == "Healthy").unwrap();
    assert_eq!(healthy.message, format!("not enough evidence yet: {said}"));
    env.answer("primary", EvidenceClass::Ok);
    env.run(5.0);
    let status = env.store.get::<SendingBackend>("SendingBackend", "primary").unwrap().status.unwrap();
    assert_eq!((status.health, status.message.as_deref()), (Some(Health::Healthy), Some("EHLO: Ok")));
}

#[test]
fn a_return_waits_for_its_window_by_the_wall_clock_though_that_was_set_meanwhile() {
    let mut objects = quickstart();
    objects[0].1["spec"]["failback"]["windows"] =
        json!([{"schedule": "0 2 * * *", "timeZone": "UTC", "duration": "1h"}]);
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(10.0);
    env.answer("primary", EvidenceClass::Ok);
    env.run_by(Duration::from_secs(1), 60.0);
    let until = |env: &TestEnv| env.store.route("orders").waiting_for.unwrap().until.unwrap().0.to_string();
    // It is 00:17 by the clock of the process.
    assert_eq!((env.active(), until(&env)), ("standby".to_owned(), "1970-01-01T02:00:00Z".to_owned()));
    let drift = |hours: i64| ClockDrift::from_micros(hours * 3_600_000_000);
    env.state.handle(env.now, Input::Drift(drift(1)));
    env.run(1.0);
    assert_eq!((env.active(), until(&env)), ("standby".to_owned(), "1970-01-01T01:00:00Z".to_owned()));
    let writes = env.store.writes;
    env.state.handle(env.now, Input::Drift(ClockDrift::from_micros(drift(1).as_micros() + 900_000)));
    env.run(1.0);
    assert_eq!(env.store.writes, writes, "a clock that is slewed is no news");
    env.state.handle(env.now, Input::Drift(drift(2)));
    env.run(1.0);
    assert_eq!(env.active(), "primary", "it is 02:18");
}

#[test]
fn somebody_is_told_once_that_an_approval_is_wanted_with_the_command() {
    let mut objects = quickstart();
    objects[0].1["spec"]["failback"]["mode"] = json!("Manual");
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(10.0);
    env.answer("primary", EvidenceClass::Ok);
    env.run(60.0);
    assert_eq!(env.store.events(), ["BackendUnhealthy", "FailedOver", "BackendRecovered", "ApprovalWanted"]);
    let mut events = env.store.objects.iter().filter(|((kind, _), _)| *kind == "Event");
    let wanted = events.find(|(_, event)| event["reason"] == "ApprovalWanted").unwrap().1;
    assert!(wanted["note"].as_str().unwrap().contains(r#""action":"ApproveFailback""#), "{wanted}");
    env.run(600.0);
    assert_eq!(env.store.events().len(), 4);
}

#[test]
fn a_misspelt_standby_keeps_no_output_of_a_healthy_primary_from_being_made() {
    let mut objects = quickstart();
    objects[3].1["spec"]["backends"][1]["name"] = json!("stnadby");
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    assert_eq!((env.active(), env.store.leads_to("mail-ipv4")), ("primary".to_owned(), vec!["192.0.2.1".to_owned()]));
    assert_eq!(env.condition("OutputsApplied").0, "True");
    assert_eq!(env.condition("Ready"), ("False".to_owned(), "BackendNotFound".to_owned()));
}
