//! What the world does, in virtual time.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::ResourceExt;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::testing::*;
use crate::controller::input::Input;
use crate::controller::step::{Done, Step, StepError, SubjectKind};
use crate::watch::Source;
use mail_failover_api::{MailRoute, RouteState};
use mail_failover_core::model::EvidenceClass;

#[test]
fn a_dead_primary_is_left_and_returned_to_when_it_has_soaked() {
    let mut stage = Stage::with(&quickstart());
    stage.run(5.0);
    assert_eq!(
        (stage.active(), stage.store.leads_to("mail-ipv4")),
        ("primary".to_owned(), vec!["192.0.2.1".to_owned()])
    );
    assert_eq!(stage.condition("Ready"), ("True".to_owned(), "Delivering".to_owned()));
    stage.answer("primary", EvidenceClass::ConnectionRefused);
    stage.run(4.0);
    let status = stage.store.route("orders");
    assert_eq!(
        (stage.active(), stage.store.leads_to("mail-ipv4")),
        ("standby".to_owned(), vec!["192.0.2.2".to_owned()])
    );
    assert_eq!(status.state, Some(RouteState::FailedOver));
    assert_eq!(status.healthy_backends.as_deref(), Some("1/2"));
    assert!(status.last_transition.unwrap().applied_at.is_some());
    assert_eq!(stage.condition("Ready").0, "True");
    assert_eq!(stage.condition("FailedOver"), ("True".to_owned(), "ConnectionRefused".to_owned()));
    assert_eq!(stage.condition("Redundant").0, "False");
    let config_map: ConfigMap = stage.store.get("ConfigMap", "mail").unwrap();
    assert_eq!(config_map.data.unwrap()["SMTP_HOST"], "192.0.2.2");
    stage.answer("primary", EvidenceClass::Ok);
    stage.run(15.0);
    assert_eq!(stage.active(), "standby");
    assert_eq!(stage.store.route("orders").waiting_for.unwrap().reason, "Soak");
    stage.run(25.0);
    assert_eq!(stage.active(), "primary");
    assert_eq!(stage.store.events(), ["BackendUnhealthy", "FailedOver", "BackendRecovered", "FailedBack"]);
    assert_eq!(stage.store.route("orders").pending_events, vec![]);
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    let mut stage = Stage::with(&quickstart());
    stage.run(10.0);
    let writes = stage.store.writes;
    stage.run(600.0);
    assert_eq!(stage.store.writes, writes, "{:?}", stage.store.log);
}

/// However often the process dies at whichever write of a switch, the switch is made once, told once, and told after it was made.
#[test]
fn a_death_at_any_write_neither_loses_nor_doubles_a_switch() {
    let undisturbed = |stage: &mut Stage| {
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(20.0);
    };
    let mut stage = Stage::with(&quickstart());
    undisturbed(&mut stage);
    let writes = stage.store.writes;
    assert!(writes >= 10, "{:?}", stage.store.log);
    for at in 0..writes {
        for death in [Death::BeforeWrite, Death::AfterWrite] {
            let mut stage = Stage::with(&quickstart());
            stage.store.dies_at = Some((at, death));
            undisturbed(&mut stage);
            let log = stage.store.log.join("\n");
            assert_eq!(stage.deaths, 1, "{death:?} at {at}\n{log}");
            let status = stage.store.route("orders");
            assert_eq!((stage.active(), status.history.len()), ("standby".to_owned(), 1), "{death:?} at {at}\n{log}");
            assert_eq!(stage.store.leads_to("mail-ipv4"), ["192.0.2.2"], "{death:?} at {at}\n{log}");
            let switch = stage.store.log.iter().rposition(|line| line == "write EndpointSlice mail-ipv4").unwrap();
            let told = stage.store.log.iter().position(|line| line == "event FailedOver").unwrap();
            assert!(switch < told, "{death:?} at {at}\n{log}");
            let mut events = stage.store.events();
            events.sort();
            assert_eq!(events, ["BackendUnhealthy", "FailedOver"], "{death:?} at {at}\n{log}");
            assert!(status.last_transition.unwrap().applied_at.is_some() && status.pending_events.is_empty());
        }
    }
}

#[test]
fn a_new_leader_goes_on_with_cooldown_and_soak_where_the_old_one_stopped() {
    let mut undisturbed = Stage::with(&quickstart());
    let mut restarted = Stage::with(&quickstart());
    for stage in [&mut undisturbed, &mut restarted] {
        stage.run(10.0);
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::Ok);
        stage.run(10.0);
    }
    for _ in 0..5 {
        restarted.restart();
        restarted.run(4.0);
    }
    undisturbed.run(20.0);
    for stage in [&mut undisturbed, &mut restarted] {
        stage.run(30.0);
        assert_eq!(stage.active(), "primary");
    }
    let decided_at = |stage: &Stage| stage.store.route("orders").last_transition.unwrap().decided_at;
    assert_eq!(decided_at(&undisturbed), decided_at(&restarted));
}

#[test]
fn nothing_is_decided_before_everything_is_listed_and_probed() {
    let mut stage = Stage::new();
    for (kind, object) in quickstart() {
        stage.store.create(kind, object);
    }
    stage.watch();
    for source in Source::ESSENTIAL.into_iter().skip(1) {
        stage.world.take(stage.now, Input::Synced(source));
    }
    stage.settle();
    assert_eq!((stage.store.writes, stage.targets.len()), (0, 0));
    stage.world.take(stage.now, Input::Synced(Source::ESSENTIAL[0]));
    stage.settle();
    assert_eq!(stage.targets.len(), 2);
    assert!(stage.store.log.iter().all(|line| line.contains("FailoverPolicy")), "{:?}", stage.store.log);
    stage.run(0.2);
    assert_eq!(stage.active(), "primary");
}

#[test]
fn a_policy_or_backend_that_vanishes_or_turns_unreadable_leaves_the_last_good_decision() {
    for what in [("FailoverPolicy", "fast"), ("SendingBackend", "standby"), ("MailRoute", "orders")] {
        for is_deleted in [true, false] {
            if what.0 == "MailRoute" && is_deleted {
                continue;
            }
            let mut stage = Stage::with(&quickstart());
            stage.run(5.0);
            stage.answer("primary", EvidenceClass::NoAnswer);
            stage.run(5.0);
            let since = stage.store.route("orders").since;
            if is_deleted {
                stage.delete(what.0, what.1);
            } else {
                stage.edit(what.0, what.1, |object| match what.0 {
                    "FailoverPolicy" => object["spec"]["failback"] = json!({"mode": "Psychic"}),
                    "MailRoute" => object["spec"]["strategy"] = json!("Telepathy"),
                    _ => object["spec"]["smtp"]["tls"] = json!({"mode": "Quantum"}),
                });
            }
            stage.run(60.0);
            assert_eq!(stage.store.leads_to("mail-ipv4"), ["192.0.2.2"], "{what:?} deleted: {is_deleted}");
            let raw = &stage.store.objects[&("MailRoute", "orders".to_owned())];
            assert_eq!(
                raw["status"]["since"],
                serde_json::to_value(since.unwrap()).unwrap(),
                "{what:?} deleted: {is_deleted}"
            );
            if is_deleted {
                assert_eq!(stage.condition("Ready").0, "False", "{what:?}");
            } else {
                let changed = &stage.store.objects[&(what.0, what.1.to_owned())];
                let conditions = changed["status"]["conditions"].as_array().unwrap();
                assert!(
                    conditions.iter().any(|c| c["type"] == "Stalled" && c["status"] == "True"),
                    "{what:?} {changed}"
                );
                assert!(stage.store.events().contains(&"ConfigurationRejected".to_owned()), "{what:?}");
            }
            let writes = stage.store.writes;
            stage.run(60.0);
            assert_eq!(stage.store.writes, writes, "{what:?} deleted: {is_deleted}: {:?}", stage.store.log);
        }
    }
}

#[test]
fn a_policy_that_only_the_operator_can_tell_is_wrong_stalls_and_its_routes_keep_the_last_good_one() {
    let mut stage = Stage::with(&quickstart());
    stage.run(5.0);
    stage.answer("primary", EvidenceClass::NoAnswer);
    stage.run(5.0);
    stage.answer("primary", EvidenceClass::Ok);
    let window = json!({"schedule": "0 2 * * *", "timeZone": "Europe/Atlantis", "duration": "1h"});
    stage.edit("FailoverPolicy", "fast", |object| object["spec"]["failback"]["windows"] = json!([window]));
    stage.run(5.0);
    let policy = stage.store.objects[&("FailoverPolicy", "fast".to_owned())].clone();
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
    assert_eq!(stage.condition("Ready"), ("False".to_owned(), "PolicyRejected".to_owned()));
    assert_eq!(stage.condition("Stalled"), (String::new(), String::new()), "the route itself is sound");
    // By the last good policy: back after the soak of 30 s, for it had no windows.
    stage.run(40.0);
    assert_eq!(stage.active(), "primary");

    stage.edit("FailoverPolicy", "fast", |object| object["spec"]["failback"]["windows"][0]["timeZone"] = json!("UTC"));
    stage.run(5.0);
    let policy = stage.store.objects[&("FailoverPolicy", "fast".to_owned())].clone();
    let conditions = policy["status"]["conditions"].as_array().unwrap();
    assert!(conditions.len() == 1 && conditions[0]["status"] == "True", "{policy}");
    assert_eq!(stage.condition("Ready").0, "True");
}

#[test]
fn a_deleted_backend_that_carries_the_mail_is_still_left_when_it_dies() {
    for is_echo_first in [false, true] {
        let mut stage = Stage::with(&quickstart());
        stage.is_echo_first = is_echo_first;
        stage.run(5.0);
        stage.delete("SendingBackend", "primary");
        stage.run(5.0);
        assert_eq!((stage.active(), stage.condition("Ready").1), ("primary".to_owned(), "BackendNotFound".to_owned()));
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(5.0);
        assert_eq!(stage.active(), "standby");
        stage.run(5.0);
        assert_eq!(stage.targets.len(), 1, "the deleted backend is probed no more (echo first: {is_echo_first})");
    }
}

#[test]
fn a_transition_is_counted_once_whether_or_not_the_echo_of_its_write_overtakes_the_answer() {
    for is_echo_first in [false, true] {
        let mut registry = Registry::default();
        let mut stage = Stage::new();
        stage.world = world_with(&mut registry);
        stage.is_echo_first = is_echo_first;
        for (kind, object) in &quickstart() {
            stage.store.create(kind, object.clone());
        }
        stage.sync();
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(5.0);
        assert_eq!(stage.active(), "standby");
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
    let mut stage = Stage::with(&objects);
    stage.run(10.0);
    let service: Service = stage.store.get("Service", "mail").unwrap();
    assert_eq!(service.spec.unwrap().selector.unwrap()["app"], "mine");
    assert_eq!(stage.condition("OutputsApplied"), ("False".to_owned(), "OutputConflict".to_owned()));
    assert_eq!(stage.condition("Ready").0, "False");
    assert_eq!(stage.store.events(), ["OutputRefused"]);
    assert!(stage.store.get::<ConfigMap>("ConfigMap", "mail").is_some(), "the other output is written all the same");
    stage.delete("Service", "mail");
    stage.run(40.0);
    assert_eq!(stage.condition("Ready").0, "True");
    assert_eq!(stage.store.leads_to("mail-ipv4"), ["192.0.2.1"]);
}

/// A route without what it refers to, made at the time of the stage.
fn made_now(missing: &str) -> (Stage, (&'static str, serde_json::Value)) {
    let (mut others, mut rest): (Vec<_>, Vec<_>) =
        quickstart().into_iter().partition(|(_, object)| object["metadata"]["name"] != json!(missing));
    for (_, object) in others.iter_mut().filter(|(kind, _)| *kind == "MailRoute") {
        object["metadata"]["creationTimestamp"] = json!("1970-01-01T00:16:40Z");
    }
    (Stage::with(&others), rest.remove(0))
}

#[test]
fn a_new_route_waits_a_moment_for_what_it_refers_to() {
    for missing in ["fast", "standby"] {
        let (mut stage, (kind, object)) = made_now(missing);
        stage.run(2.5);
        assert!(stage.store.events().is_empty(), "{missing}: {:?}", stage.store.events());
        stage.store.create(kind, object);
        stage.run(3.0);
        assert_eq!(stage.active(), "primary");
        assert!(stage.store.events().is_empty(), "{missing}: {:?}", stage.store.events());
    }
}

#[test]
fn a_new_route_is_told_of_references_that_lead_nowhere_and_an_old_one_at_once() {
    for missing in ["fast", "standby"] {
        let (mut stage, _) = made_now(missing);
        stage.run(3.5);
        assert_eq!(stage.store.events(), ["ConfigurationRejected"], "{missing}");
        assert_eq!(stage.condition("Ready").0, "False");
    }
    let mut stage = Stage::with(&quickstart());
    stage.run(5.0);
    stage.delete("FailoverPolicy", "fast");
    stage.run(0.5);
    assert_eq!(stage.condition("Ready").0, "False");
}

#[test]
fn of_two_routes_that_claim_one_target_the_older_keeps_it() {
    let mut objects = quickstart();
    let (kind, mut newer) = route();
    newer["metadata"]["name"] = json!("aaa-newer");
    newer["metadata"]["creationTimestamp"] = json!("2026-11-02T00:00:00Z");
    objects[3].1["metadata"]["creationTimestamp"] = json!("2026-11-01T00:00:00Z");
    objects.push((kind, newer));
    let mut stage = Stage::with(&objects);
    stage.run(10.0);
    assert_eq!(stage.condition("Ready").0, "True");
    let newer = stage.store.route("aaa-newer");
    let applied = newer.conditions.iter().find(|condition| condition.type_ == "OutputsApplied").unwrap();
    assert_eq!((applied.status.as_str(), applied.reason.as_str()), ("False", "OutputClaimed"));
    assert!(applied.message.contains("MailRoute orders"), "{}", applied.message);
    let owner = stage.store.get::<Service>("Service", "mail").unwrap();
    let orders: MailRoute = stage.store.get("MailRoute", "orders").unwrap();
    assert_eq!(owner.owner_references()[0].uid, orders.metadata.uid.unwrap());
    stage.delete("MailRoute", "orders");
    for id in [("Service", "mail"), ("EndpointSlice", "mail-ipv4"), ("ConfigMap", "mail")] {
        stage.delete(id.0, id.1);
    }
    stage.run(10.0);
    assert_eq!(
        stage.store.leads_to("mail-ipv4"),
        ["192.0.2.1"],
        "the garbage collector has passed, and the newer takes over"
    );
}

#[test]
fn drift_is_repaired_without_a_fight_that_hammers_the_api_server() {
    let mut stage = Stage::with(&quickstart());
    stage.run(5.0);
    stage.edit("ConfigMap", "mail", |object| object["data"]["SMTP_HOST"] = json!("198.51.100.66"));
    stage.run(1.0);
    let repaired: ConfigMap = stage.store.get("ConfigMap", "mail").unwrap();
    assert_eq!(repaired.data.unwrap()["SMTP_HOST"], "192.0.2.1");
    let before = stage.store.log.len();
    for _ in 0..600 {
        stage.edit("ConfigMap", "mail", |object| object["data"]["SMTP_HOST"] = json!("198.51.100.66"));
        stage.run(0.1);
    }
    let writes = stage.store.log[before..].iter().filter(|line| line.starts_with("write ConfigMap")).count();
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
    let mut stage = Stage::with(&objects);
    stage.answer("primary", EvidenceClass::NoEndpoints);
    stage.run(5.0);
    assert_eq!(stage.active(), "standby");
    stage.store.create("EndpointSlice", slice(true));
    stage.answer("primary", EvidenceClass::Ok);
    stage.run(60.0);
    assert_eq!(
        (stage.active(), stage.store.leads_to("mail-ipv4")),
        ("primary".to_owned(), vec!["203.0.113.7".to_owned()])
    );
}

#[test]
fn what_an_earlier_term_left_under_way_is_not_taken_for_an_answer_in_a_later_one() {
    let mut stage = Stage::with(&quickstart());
    let effects = stage.world.settle(stage.now);
    stage.set_probes(effects.probes);
    stage.world.take(stage.now, Input::Leading(false));
    stage.world.take(stage.now, Input::Leading(true));
    for task in effects.steps {
        let is_route = task.subject.kind == SubjectKind::Route;
        assert_eq!(matches!(task.step, Step::Confirm), is_route, "a route is read afresh before anything else");
        let done = Done { result: Err(StepError::ClaimLost), id: task.id, subject: task.subject };
        stage.world.take(stage.now, Input::Done(Box::new(done)));
    }
    stage.run(5.0);
    assert_eq!(stage.active(), "primary");
}

#[test]
fn a_standby_that_takes_over_rewrites_nothing_that_is_still_true() {
    let (mut leader, mut standby) = (Stage::with(&quickstart()), Stage::with(&quickstart()));
    standby.world.take(standby.now, Input::Leading(false));
    // It probes on its own and sees everything a little later.
    standby.now = standby.now + Duration::from_millis(37);
    for stage in [&mut leader, &mut standby] {
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::NoAnswer);
        stage.run(10.0);
    }
    assert_eq!(standby.store.writes, 0, "a standby writes nothing");
    standby.store = leader.store;
    let writes = standby.store.writes;
    standby.run(1.0);
    standby.world.take(standby.now, Input::Leading(true));
    standby.run(10.0);
    assert_eq!(standby.store.writes, writes, "{:?}", &standby.store.log[writes..]);
}

/// Somebody's finalizer holds a deleted route back: its mail still flows and still fails over, but what the garbage collector has taken away
/// is not made anew.
#[test]
fn a_half_deleted_route_still_fails_over_and_makes_nothing_anew() {
    let mut stage = Stage::with(&quickstart());
    stage.run(5.0);
    stage.edit("MailRoute", "orders", |object| {
        object["metadata"]["deletionTimestamp"] = json!("2026-11-24T12:00:00Z");
        object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    });
    stage.delete("ConfigMap", "mail");
    stage.answer("primary", EvidenceClass::NoAnswer);
    stage.run(10.0);
    assert_eq!(
        (stage.active(), stage.store.leads_to("mail-ipv4")),
        ("standby".to_owned(), vec!["192.0.2.2".to_owned()])
    );
    assert!(stage.store.get::<ConfigMap>("ConfigMap", "mail").is_none());
    stage.delete("MailRoute", "orders");
    let writes = stage.store.writes;
    stage.run(10.0);
    let after: Vec<_> = stage.store.log[writes..].iter().filter(|line| !line.starts_with("status")).collect();
    assert_eq!(after, Vec::<&String>::new(), "nothing is left to do for a route that is gone");
}
