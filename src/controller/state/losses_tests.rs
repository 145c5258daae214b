//! Objects that are deleted, replaced or cannot be read, with and without a restart: what a process remembers decides
//! nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::testing::*;
use crate::controller::input::Input;
use crate::controller::status::is_delivering;
use crate::watch::{Access, Source};
use mail_failover_api::{RouteState, SendingBackend};
use mail_failover_core::model::{
    AddressOutcome, Destination, EvidenceClass, ObjectKey, Outcome, ProbeKey, ProbeReport, Resolution, Stage,
};

const SECOND: Duration = Duration::from_secs(1);

fn service(name: &str) -> (&'static str, Value) {
    ("Service", json!({"metadata": {"name": name}, "spec": {"ports": [{"name": "smtp", "port": 25}]}}))
}

fn slice(name: &str, service: &str, port: u16, addresses: &[&str]) -> (&'static str, Value) {
    let endpoints: Vec<_> =
        addresses.iter().map(|one| json!({"addresses": [one], "conditions": {"ready": true}})).collect();
    let metadata = json!({"name": name, "labels": {"kubernetes.io/service-name": service}});
    let ports = json!([{"name": "smtp", "port": port}]);
    ("EndpointSlice", json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}))
}

fn inside(name: &str, service: &str) -> (&'static str, Value) {
    let (kind, mut object) = backend(name, "");
    object["spec"]["smtp"] = Value::Null;
    object["spec"]["service"] = json!({"name": service, "port": 25});
    (kind, object)
}

/// A primary and a standby behind Services of the cluster.
fn in_cluster() -> Vec<(&'static str, Value)> {
    vec![
        service("mta-a"),
        slice("mta-a-x", "mta-a", 25, &["10.0.0.1"]),
        service("mta-b"),
        slice("mta-b-x", "mta-b", 25, &["10.0.0.2"]),
        policy(),
        inside("primary", "mta-a"),
        inside("standby", "mta-b"),
        route(),
    ]
}

fn smtp_host(env: &TestEnv) -> String {
    env.store.get::<ConfigMap>("ConfigMap", "mail").unwrap().data.unwrap().remove("SMTP_HOST").unwrap()
}

#[test]
fn a_dead_backend_is_left_though_its_object_or_policy_is_gone_and_the_process_is_new() {
    for (kind, name) in [("SendingBackend", "primary"), ("FailoverPolicy", "fast")] {
        for is_restarted in [false, true] {
            let mut env = TestEnv::with(&quickstart());
            env.run(5.0);
            env.delete(kind, name);
            env.run(2.0);
            if is_restarted {
                env.restart();
                env.run(2.0);
            }
            env.answer("primary", EvidenceClass::ConnectionRefused);
            env.run_by(SECOND, 120.0);
            assert_eq!(env.active(), "standby", "{kind} {name}, restarted: {is_restarted}");
            assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"], "{kind} {name}, restarted: {is_restarted}");
        }
    }
}

#[test]
fn without_its_policy_a_route_obeys_the_defaults_and_says_so() {
    for is_restarted in [false, true] {
        let mut env = TestEnv::with(&quickstart());
        env.run(5.0);
        env.delete("FailoverPolicy", "fast");
        env.run(1.0);
        if is_restarted {
            env.restart();
        }
        env.run(1.0);
        assert_eq!(env.condition("Ready"), ("False".to_owned(), "PolicyNotFound".to_owned()));
        let message = env.store.route("orders").message.unwrap();
        assert!(message.contains("the documented defaults are in force"), "{message}");
        env.answer("primary", EvidenceClass::NoAnswer);
        env.run(10.0);
        assert_eq!(env.active(), "standby", "restarted: {is_restarted}");
        // The policy has a soak of 30 s, the default is longer.
        env.answer("primary", EvidenceClass::Ok);
        env.run_by(SECOND, 120.0);
        assert_eq!(env.active(), "standby", "restarted: {is_restarted}");
        env.run_by(SECOND, 1200.0);
        assert_eq!(env.active(), "primary", "restarted: {is_restarted}");
    }
}

#[test]
fn a_policy_that_cannot_be_used_keeps_no_mail_on_a_dead_backend_and_returns_none_by_itself_after_a_restart() {
    for is_restarted in [false, true] {
        let mut env = TestEnv::with(&quickstart());
        env.run(5.0);
        env.edit("FailoverPolicy", "fast", |object| object["spec"]["failback"] = json!({"mode": "Psychic"}));
        env.run(1.0);
        if is_restarted {
            env.restart();
        }
        env.run(1.0);
        env.answer("primary", EvidenceClass::NoAnswer);
        env.run(10.0);
        assert_eq!(env.active(), "standby", "restarted: {is_restarted}");
        assert_eq!(env.condition("Ready"), ("False".to_owned(), "PolicyRejected".to_owned()));
        env.answer("primary", EvidenceClass::Ok);
        env.run_by(SECOND, 3600.0);
        assert_eq!(env.active(), if is_restarted { "standby" } else { "primary" });
    }
}

#[test]
fn a_deleted_backend_is_left_after_a_minute_if_another_can_deliver_and_kept_otherwise() {
    for is_restarted in [false, true] {
        let mut env = TestEnv::with(&quickstart());
        env.run(5.0);
        env.delete("SendingBackend", "primary");
        env.run(1.0);
        if is_restarted {
            env.restart();
        }
        env.run_by(SECOND, 55.0);
        assert_eq!(env.active(), "primary", "restarted: {is_restarted}");
        env.run_by(SECOND, 10.0);
        assert_eq!(env.active(), "standby", "restarted: {is_restarted}");

        let mut env = TestEnv::with(&quickstart());
        env.answer("standby", EvidenceClass::NoAnswer);
        env.run(5.0);
        env.delete("SendingBackend", "primary");
        env.run(1.0);
        if is_restarted {
            env.restart();
        }
        env.run_by(SECOND, 300.0);
        assert_eq!(
            (env.active(), env.store.leads_to("mail-ipv4")),
            ("primary".to_owned(), vec!["192.0.2.1".to_owned()])
        );
    }
}

#[test]
fn a_backend_that_is_replaced_within_a_minute_keeps_its_mail() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.delete("SendingBackend", "primary");
    env.run_by(SECOND, 50.0);
    let (kind, object) = backend("primary", "192.0.2.1");
    env.store.create(kind, object);
    env.run_by(SECOND, 120.0);
    assert_eq!((env.active(), env.store.route("orders").history.len()), ("primary".to_owned(), 0));
}

fn delete_service(env: &mut TestEnv) {
    env.delete("Service", "mta-a");
    env.delete("EndpointSlice", "mta-a-x");
}

fn move_port_of_service(env: &mut TestEnv) {
    env.edit("Service", "mta-a", |object| object["spec"]["ports"][0]["port"] = json!(26));
}

fn make_service_an_alias(env: &mut TestEnv) {
    env.edit("Service", "mta-a", |object| object["spec"]["type"] = json!("ExternalName"));
}

#[test]
fn a_service_that_is_gone_has_no_endpoints_whatever_was_known_before() {
    let cases = [
        ("ServiceNotFound", delete_service as fn(&mut TestEnv)),
        ("ServicePortNotFound", move_port_of_service),
        ("ServiceIsExternalName", make_service_an_alias),
    ];
    for (reason, change) in cases {
        for is_restarted in [false, true] {
            let mut env = TestEnv::with(&in_cluster());
            env.run(5.0);
            assert_eq!(
                (env.active(), smtp_host(&env)),
                ("primary".to_owned(), "mta-a.shop.svc.cluster.local".to_owned())
            );
            change(&mut env);
            env.run(0.2);
            if is_restarted {
                env.restart();
            }
            env.run(10.0);
            assert_eq!(env.active(), "standby", "{reason}, restarted: {is_restarted}");
            assert_eq!(smtp_host(&env), "mta-b.shop.svc.cluster.local", "{reason}");
            let primary = &env.store.objects[&("SendingBackend", "primary".to_owned())]["status"];
            let conditions = primary["conditions"].as_array().unwrap();
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
            assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!(reason)));
            assert_eq!((&primary["health"], &primary["reason"]), (&json!("Unhealthy"), &json!("NoEndpoints")));
        }
    }
}

/// Tells the state that the objects of a source may not be read, or may be.
fn tell_access(env: &mut TestEnv, source: Source, is_forbidden: bool) {
    let access = Access { source, namespace: "shop".into(), is_forbidden };
    env.state.handle(env.now, Input::Access(access));
}

#[test]
fn a_backend_whose_service_or_endpoints_may_not_be_read_is_unknown_and_the_slices_stay() {
    for source in [Source::Services, Source::EndpointSlices] {
        let mut env = TestEnv::with(&in_cluster());
        env.run(5.0);
        assert_eq!(env.store.leads_to("mail-ipv4"), ["10.0.0.1"]);
        // The right is gone, and the process is new: it has never seen them.
        env.hidden = Some(source.as_str());
        env.state = env.new_state();
        env.seen.clear();
        env.targets.clear();
        tell_access(&mut env, source, true);
        env.sync();
        env.run_by(SECOND, 300.0);
        assert_eq!((env.active(), env.store.route("orders").history.len()), ("primary".to_owned(), 0), "{source:?}");
        assert_ne!(env.store.route("orders").state, Some(RouteState::NoneHealthy), "{source:?}");
        assert_eq!(env.store.leads_to("mail-ipv4"), ["10.0.0.1"], "{source:?}");
        assert_eq!(smtp_host(&env), "mta-a.shop.svc.cluster.local");
        assert!(env.targets.is_empty(), "what has no known endpoint is not probed");
        let primary = &env.store.objects[&("SendingBackend", "primary".to_owned())]["status"];
        let conditions = primary["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("ServiceUnreadable")), "{source:?}");
        assert_eq!(primary["health"], json!("Unknown"), "{source:?}");
        // The right is back.
        env.hidden = None;
        env.watch();
        tell_access(&mut env, source, false);
        env.run(10.0);
        let primary = &env.store.objects[&("SendingBackend", "primary".to_owned())]["status"];
        assert_eq!((env.active(), &primary["health"]), ("primary".to_owned(), &json!("Healthy")), "{source:?}");
        delete_service(&mut env);
        env.run(10.0);
        assert_eq!(env.active(), "standby", "what is seen to be gone has no endpoints");
    }
}

#[test]
fn a_service_without_endpoints_that_nobody_replaces_leaves_what_names_it_as_it_is() {
    let mut env = TestEnv::with(&in_cluster());
    env.answer("standby", EvidenceClass::NoAnswer);
    env.run(5.0);
    env.delete("Service", "mta-a");
    env.delete("EndpointSlice", "mta-a-x");
    env.run(10.0);
    assert_eq!((env.active(), smtp_host(&env)), ("primary".to_owned(), "mta-a.shop.svc.cluster.local".to_owned()));
    assert_eq!(env.store.leads_to("mail-ipv4"), Vec::<String>::new(), "nobody knows whose the addresses are now");
    assert_eq!(env.condition("Ready"), ("False".to_owned(), "NoneHealthy".to_owned()));
    let (kind, object) = service("mta-a");
    env.store.create(kind, object);
    let (kind, object) = slice("mta-a-x", "mta-a", 25, &["10.0.0.9"]);
    env.store.create(kind, object);
    env.run(10.0);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["10.0.0.9"]);
    assert_eq!(env.condition("Ready").0, "True");
}

#[test]
fn endpoints_of_different_ports_keep_their_ports_in_the_outputs() {
    let mut objects = in_cluster();
    objects.insert(0, slice("mta-a-y", "mta-a", 2525, &["10.0.0.77"]));
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    for (name, address, port) in [("mail-ipv4", "10.0.0.1", 25), ("mail-ipv4-p2525", "10.0.0.77", 2525)] {
        assert_eq!(env.store.leads_to(name), [address]);
        assert_eq!(env.store.objects[&("EndpointSlice", name.to_owned())]["ports"][0]["port"], port);
    }
    // The rollout is over.
    env.delete("EndpointSlice", "mta-a-x");
    env.run(1.0);
    assert_eq!(env.store.leads_to("mail-ipv4"), ["10.0.0.77"]);
    assert_eq!(env.store.leads_to("mail-ipv4-p2525"), Vec::<String>::new());
}

#[test]
fn clients_are_told_the_port_of_a_headless_services_endpoints() {
    let mut objects = in_cluster();
    objects[0].1["spec"] = json!({"clusterIP": "None", "ports": [{"name": "smtp", "port": 25, "targetPort": 2525}]});
    objects[1] = slice("mta-a-x", "mta-a", 2525, &["10.0.0.1"]);
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    let config_map: ConfigMap = env.store.get("ConfigMap", "mail").unwrap();
    assert_eq!(config_map.data.unwrap()["SMTP_PORT"], "2525");
}

/// A round at every address of the primary's Service at its beginning, over now.
fn report(env: &TestEnv, began_with: &[&str], sequence: u64, class: EvidenceClass) -> ProbeReport {
    let key = ProbeKey { backend: ObjectKey::new("shop", "primary"), probe: "smtp".into() };
    let outcome = Outcome {
        class,
        stage: Stage::Connect,
        message: String::new(),
        certificate_not_after: None,
        elapsed: Duration::from_secs(5),
    };
    let addresses =
        began_with.iter().map(|address| AddressOutcome { address: address.parse().unwrap(), outcome: outcome.clone() });
    ProbeReport {
        revision: env.targets[&key].0.revision,
        key,
        sequence,
        started_at: env.now - Duration::from_secs(5),
        finished_at: env.now,
        resolution: Resolution::NotNeeded,
        addresses: addresses.collect(),
        outcome,
        delay: None,
        is_extra: false,
    }
}

/// Ends a round of the primary, whose name has another address with each second. Then a second passes.
fn rotate(env: &mut TestEnv, second: u64) {
    end_round_at(env, "primary", &format!("192.0.2.{}:25", 10 + second % 12));
}

/// Ends a round of a backend whose name stands for this address. Then a second passes.
fn end_round_at(env: &mut TestEnv, backend: &str, address: &str) {
    let key = ProbeKey { backend: ObjectKey::new("shop", backend), probe: "smtp".into() };
    let (target, due, sequence) = env.targets.get_mut(&key).unwrap();
    // The rounds are made here.
    *due = env.now + Duration::from_hours(1);
    *sequence += 1;
    let address = address.parse().unwrap();
    let outcome = Outcome {
        class: EvidenceClass::Ok,
        stage: Stage::Ehlo,
        message: String::new(),
        certificate_not_after: None,
        elapsed: Duration::from_millis(1),
    };
    let report = ProbeReport {
        revision: target.revision,
        key: key.clone(),
        sequence: *sequence,
        started_at: env.now,
        finished_at: env.now,
        addresses: vec![AddressOutcome { address, outcome: outcome.clone() }],
        resolution: Resolution::Addresses(vec![address]),
        delay: None,
        is_extra: false,
        outcome,
    };
    env.state.handle(env.now, Input::Report(Box::new(report)));
    env.run_by(SECOND, 1.0);
}

#[test]
fn answers_of_dns_that_rotate_cause_no_more_than_one_slice_write_a_minute() {
    let mut objects = quickstart();
    objects[1] = backend("primary", "mx.provider.example");
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    for second in 0..60 {
        rotate(&mut env, second);
    }
    assert_eq!(env.active(), "primary");
    let written = |env: &TestEnv| env.store.log.iter().filter(|line| line.contains("EndpointSlice mail-ipv4")).count();
    let before = written(&env);
    for second in 60..660 {
        rotate(&mut env, second);
    }
    let written = written(&env) - before;
    assert!((8..=11).contains(&written), "{written} writes in ten minutes");
}

#[test]
fn a_move_to_a_backend_whose_addresses_are_not_known_is_not_called_applied() {
    for is_restarted in [false, true] {
        let mut objects = quickstart();
        objects[2] = backend("standby", "mx.standby.example");
        let mut env = TestEnv::with(&objects);
        env.run(5.0);
        assert_eq!(env.condition("OutputsApplied").0, "True");
        env.answer("primary", EvidenceClass::ConnectionRefused);
        env.run(8.0);
        assert_eq!((env.active(), env.condition("OutputsApplied").0), ("standby".to_owned(), "True".to_owned()));
        if is_restarted {
            env.restart();
        }
        env.run(20.0);
        let unknown = ("False".to_owned(), "AddressesUnknown".to_owned());
        assert_eq!((env.condition("OutputsApplied"), env.condition("Ready")), (unknown.clone(), unknown));
        let status = env.store.route("orders");
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert!(
            ready.message.contains("leads to standby") && ready.message.contains("mx.standby.example"),
            "{ready:?}"
        );
        assert_eq!(is_delivering(&status), Some(false));
        assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.1"]);
        let writes = env.store.writes;
        env.run(30.0);
        assert_eq!(env.store.writes, writes, "{:?}", &env.store.log[writes..]);
        // The name service answers, and is silent again.
        end_round_at(&mut env, "standby", "192.0.2.2:25");
        env.run(5.0);
        assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"]);
        assert_eq!((env.condition("OutputsApplied").0, env.condition("Ready").0), ("True".into(), "True".into()));
        env.restart();
        env.run(30.0);
        assert_eq!((env.condition("OutputsApplied").0, env.condition("Ready").0), ("True".into(), "True".into()));
    }
}

#[test]
fn a_round_counts_for_the_addresses_that_are_still_there_and_silence_always() {
    let (silent, refused) = (EvidenceClass::NoAnswer, EvidenceClass::ConnectionRefused);
    for (began_with, class, is_left) in [
        // Each of them is gone by the end of the round.
        (["10.0.0.101:25", "10.0.0.102:25"], silent, true),
        (["10.0.0.101:25", "10.0.0.102:25"], refused, false),
        // One of them stays.
        (["10.0.0.1:25", "10.0.0.102:25"], refused, true),
        (["10.0.0.1:25", "10.0.0.102:25"], silent, true),
    ] {
        let mut env = TestEnv::with(&in_cluster());
        env.run(5.0);
        let target = env.targets.keys().find(|key| &*key.backend.name == "primary").unwrap().clone();
        for sequence in 100..104 {
            env.now = env.now + Duration::from_secs(5);
            env.edit("EndpointSlice", "mta-a-x", |object| {
                let passing = format!("10.0.1.{sequence}");
                object["endpoints"] = json!([{"addresses": ["10.0.0.1"]}, {"addresses": [passing]}]);
            });
            // The primary is not probed but by these rounds.
            env.targets.get_mut(&target).unwrap().1 = env.now + Duration::from_hours(1);
            env.run(0.1);
            env.targets.get_mut(&target).unwrap().1 = env.now + Duration::from_hours(1);
            let report = report(&env, &began_with, 1000 + sequence, class);
            if sequence > 100 {
                env.state.handle(env.now, Input::Report(Box::new(report)));
            }
            env.run(0.1);
        }
        env.run(2.0);
        assert_eq!(env.active() == "standby", is_left, "{began_with:?} {class:?}");
    }
}

#[test]
fn endpoints_that_change_are_no_new_revision_and_reach_the_prober() {
    let mut env = TestEnv::with(&in_cluster());
    env.run(5.0);
    let revision = |env: &TestEnv| env.targets.values().map(|(target, ..)| target.revision).collect::<Vec<_>>();
    let before = revision(&env);
    env.edit("EndpointSlice", "mta-a-x", |object| object["endpoints"] = json!([{"addresses": ["10.0.0.7"]}]));
    env.run(0.1);
    assert_eq!(revision(&env), before);
    let destinations = env.targets.values().filter_map(|(target, ..)| match &target.destination {
        Destination::Service(service) => Some(service.endpoints.clone()),
        Destination::Host(_) => None,
    });
    assert!(destinations.flatten().any(|address| address.to_string() == "10.0.0.7:25"));
}

#[test]
fn a_service_of_ours_that_was_made_an_alias_is_put_right() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.edit("Service", "mail", |object| {
        object["spec"]["type"] = json!("ExternalName");
        object["spec"]["externalName"] = json!("elsewhere.example");
    });
    env.run(2.0);
    assert_eq!(env.store.objects[&("Service", "mail".to_owned())]["spec"]["type"], "ClusterIP");
    let writes = env.store.writes;
    env.run(10.0);
    assert_eq!(env.store.writes, writes, "{:?}", &env.store.log[writes..]);
}

/// The policy's status, and the number of Events that say what cannot be used.
fn told(env: &TestEnv) -> (Value, usize) {
    let policy = &env.store.objects[&("FailoverPolicy", "fast".to_owned())];
    let events = env.store.events();
    (policy["status"].clone(), events.iter().filter(|reason| *reason == "ConfigurationRejected").count())
}

#[test]
fn an_unreadable_object_is_told_once_over_any_number_of_restarts() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.edit("FailoverPolicy", "fast", |object| {
        object["spec"]["failback"] = json!({"after": {"of": "a newer version"}});
    });
    env.run(5.0);
    let before = told(&env);
    assert_eq!(before.0["conditions"][0]["status"], "False");
    let writes = env.store.writes;
    for _ in 0..3 {
        env.run(20.0);
        env.restart();
        env.run(2.0);
    }
    assert_eq!(told(&env), before);
    assert_eq!(env.store.writes, writes, "{:?}", &env.store.log[writes..]);
    // Another defect is told, with the time of the first one: it is False still.
    env.edit("FailoverPolicy", "fast", |object| object["spec"]["failback"] = json!({"after": 7}));
    env.run(5.0);
    let after = told(&env);
    let since = |status: &Value| status["conditions"][0]["lastTransitionTime"].clone();
    assert_eq!(since(&after.0), since(&before.0));
    assert_ne!(after.0["conditions"][0]["message"], before.0["conditions"][0]["message"]);
}

#[test]
fn a_new_host_does_not_inherit_the_old_ones_verdict_over_a_restart() {
    for (of_old, of_new) in [(EvidenceClass::Ok, EvidenceClass::NoAnswer), (EvidenceClass::NoAnswer, EvidenceClass::Ok)]
    {
        for is_restarted in [false, true] {
            let mut env = TestEnv::with(&quickstart());
            env.run(5.0);
            env.answer("standby", of_old);
            env.run(10.0);
            env.edit("SendingBackend", "standby", |object| object["spec"]["smtp"]["host"] = json!("192.0.2.99"));
            env.answer("standby", of_new);
            if is_restarted {
                env.restart();
            }
            env.run(1.5);
            let standby = &env.store.objects[&("SendingBackend", "standby".to_owned())]["status"];
            let expected = if of_new == EvidenceClass::Ok { "Healthy" } else { "Unknown" };
            assert_eq!(standby["health"], expected, "{of_old:?} {of_new:?} restarted: {is_restarted}");
        }
    }
}

#[test]
fn a_deleted_member_of_a_shared_route_leaves_and_is_known_until_then() {
    for is_restarted in [false, true] {
        let mut objects = quickstart();
        objects[3].1["spec"]["strategy"] = json!("ActiveActive");
        let mut env = TestEnv::with(&objects);
        env.run(5.0);
        env.delete("SendingBackend", "standby");
        env.run(5.0);
        let slices = |env: &TestEnv| [env.store.leads_to("mail-ipv4"), env.store.leads_to("mail-ipv4-1")].concat();
        assert_eq!(slices(&env), ["192.0.2.1", "192.0.2.2"], "what status says is what the slices do");
        if is_restarted {
            env.restart();
        }
        env.run_by(SECOND, 70.0);
        let status = env.store.route("orders");
        let active: Vec<_> = status.active.iter().map(|active| (active.backend.as_str(), active.percent)).collect();
        assert_eq!((active, slices(&env)), (vec![("primary", 100)], vec!["192.0.2.1".to_owned()]));
    }
}

#[test]
fn a_service_output_leads_to_equal_numbers_of_endpoints_and_status_says_what_it_does() {
    let mut objects = in_cluster();
    let eight: Vec<_> = (11..=18).map(|last| format!("10.0.0.{last}")).collect();
    objects[1] = slice("mta-a-x", "mta-a", 25, &eight.iter().map(String::as_str).collect::<Vec<_>>());
    for (weights, endpoints, percents) in [([1, 1], 1, [50, 50]), ([7, 3], 2, [67, 33])] {
        objects[7].1["spec"]["strategy"] = json!("ActiveActive");
        objects[7].1["spec"]["backends"] =
            json!([{"name": "primary", "weight": weights[0]}, {"name": "standby", "weight": weights[1]}]);
        let mut env = TestEnv::with(&objects);
        env.run(5.0);
        assert_eq!((env.store.leads_to("mail-ipv4").len(), env.store.leads_to("mail-ipv4-1").len()), (endpoints, 1));
        let status = env.store.route("orders");
        let of_service = status.outputs.iter().find(|output| output.kind == "Service").unwrap();
        let said: Vec<_> = of_service.active.iter().map(|share| share.percent).collect();
        assert_eq!(said, percents);
        let of_config_map = status.outputs.iter().find(|output| output.kind == "ConfigMap").unwrap();
        assert_eq!((of_config_map.active[0].backend.as_str(), of_config_map.active[0].percent), ("primary", 100));
        let wanted = [weights[0] * 100 / (weights[0] + weights[1]), weights[1] * 100 / (weights[0] + weights[1])];
        assert_eq!(status.active_summary.unwrap(), format!("primary {}%, standby {}%", wanted[0], wanted[1]));
    }
}

#[test]
fn mail_leaves_what_was_last_seen_dead_after_a_restart_too() {
    for is_restarted in [false, true] {
        let mut env = TestEnv::with(&quickstart());
        env.run(5.0);
        env.answer("primary", EvidenceClass::NoAnswer);
        env.answer("standby", EvidenceClass::NoAnswer);
        env.run(20.0);
        assert_eq!(
            (env.active(), env.store.route("orders").state),
            ("primary".to_owned(), Some(RouteState::NoneHealthy))
        );
        env.answer("primary", EvidenceClass::ProbeBlocked);
        env.run(5.0);
        let status: SendingBackend = env.store.get("SendingBackend", "primary").unwrap();
        let probe = status.status.unwrap().probes.remove(0);
        assert_eq!((probe.reason.as_str(), probe.condemned.unwrap().reason.as_str()), ("ProbeBlocked", "NoAnswer"));
        if is_restarted {
            env.restart();
        }
        env.run(5.0);
        assert_eq!(env.condition("Ready").0, "False", "restarted: {is_restarted}");
        env.answer("standby", EvidenceClass::Ok);
        env.run(70.0);
        assert_eq!((env.active(), env.condition("Ready").0), ("standby".to_owned(), "True".to_owned()));
        env.run(600.0);
        assert_eq!(env.active(), "standby", "restarted: {is_restarted}");
    }
}

#[test]
fn mail_that_is_held_on_a_dead_backend_is_never_ready() {
    let pause = json!({"id": "1", "action": "Pause"}).to_string();
    for (what, hold, defect) in [
        ("budget", "SwitchBudget", None),
        ("pause", "Paused", None),
        ("suspended", "Paused", None),
        // What is told first must not hide that mail stands still.
        ("misspelt", "Paused", Some("BackendNotFound")),
        ("no policy", "Paused", Some("PolicyNotFound")),
    ] {
        let mut objects = quickstart();
        objects[0].1["spec"]["hold"] =
            json!({"cooldown": "10m", "minimumStay": "2s", "budget": {"switches": 1, "per": "1h"}});
        let mut env = TestEnv::with(&objects);
        env.run(5.0);
        let is_paused = hold == "Paused";
        if is_paused {
            env.edit("MailRoute", "orders", |object| {
                object["metadata"]["annotations"] = json!({"mailfailover.io/request": pause});
            });
            env.run(1.0);
            if what == "suspended" {
                env.edit("SendingBackend", "primary", |object| object["spec"]["suspended"] = json!(true));
                env.run(1.0);
            }
            if what == "misspelt" {
                let backends = json!([{"name": "primary"}, {"name": "standby"}, {"name": "standbye"}]);
                env.edit("MailRoute", "orders", |object| object["spec"]["backends"] = backends);
                env.run(1.0);
            }
            if what == "no policy" {
                env.delete("FailoverPolicy", "fast");
                env.run(1.0);
            }
            if let Some(defect) = defect {
                assert_eq!(env.condition("Ready"), ("False".to_owned(), defect.to_owned()), "{what}");
            }
            env.answer("primary", EvidenceClass::ConnectionRefused);
        } else {
            env.answer("primary", EvidenceClass::ConnectionRefused);
            env.run(10.0);
            env.answer("primary", EvidenceClass::Ok);
            env.run(10.0);
            env.answer("standby", EvidenceClass::ConnectionRefused);
        }
        env.run(10.0);
        let status = env.store.route("orders");
        let (dead, alive) = if is_paused { ("primary", "standby") } else { ("standby", "primary") };
        assert_eq!(env.active(), dead);
        assert_eq!(env.condition("Ready"), ("False".to_owned(), "HeldOnDeadBackend".to_owned()), "{what}");
        assert_eq!(status.state, Some(RouteState::Holding), "{what}");
        let message = status.message.unwrap();
        let remedy = if is_paused { "\"action\":\"Resume\"".to_owned() } else { format!("\"to\":\"{alive}\"") };
        assert!(message.contains(hold) && message.contains(&remedy) && message.contains("kubectl"), "{message}");
        let events = env.store.events();
        assert_eq!(events.iter().filter(|reason| *reason == "HeldOnDeadBackend").count(), 1, "{what}");
        let rejected = events.iter().filter(|reason| *reason == "ConfigurationRejected").count();
        assert_eq!(rejected, usize::from(defect.is_some()), "{what}");
        assert_eq!(message.contains("does not exist in namespace shop"), defect.is_some(), "{message}");
        let writes = env.store.writes;
        env.run(30.0);
        assert_eq!(env.store.writes, writes, "{what}: {:?}", &env.store.log[writes..]);
        let request = if is_paused {
            json!({"id": "2", "action": "Resume"})
        } else {
            json!({"id": "2", "action": "Switch", "to": alive})
        };
        env.edit("MailRoute", "orders", |object| {
            object["metadata"]["annotations"] = json!({"mailfailover.io/request": request.to_string()});
        });
        env.run(5.0);
        assert_eq!(env.active(), if is_paused { "standby" } else { alive });
        let (ready, reason) = env.condition("Ready");
        assert_eq!(ready == "True", defect.is_none(), "{what}: {reason}");
        assert!(defect.is_none_or(|defect| reason == defect), "{what}: {reason}");
    }
}

/// A route by one backend, with a Service of this name as output.
fn other_route(name: &str, backend: &str, output: &str) -> (&'static str, Value) {
    let (kind, mut object) = route();
    object["metadata"]["name"] = json!(name);
    object["spec"]["backends"] = json!([{"name": backend}]);
    object["spec"]["outputs"] = json!([{"service": {"name": output, "ports": [{"name": "smtp", "port": 25}]}}]);
    (kind, object)
}

#[test]
fn a_routes_own_service_is_no_standby_of_it() {
    let direct = vec![inside("standby", "mail")];
    let by_name = vec![backend("standby", "mail.shop.svc.cluster.local.")];
    let through = vec![inside("standby", "hop"), inside("back", "mail"), other_route("hop", "back", "hop")];
    for (what, others) in
        [("its own Service", direct), ("by its DNS name", by_name), ("through another route", through)]
    {
        let mut objects = vec![policy(), backend("primary", "192.0.2.1"), route()];
        objects.extend(others);
        let mut env = TestEnv::with(&objects);
        env.run(10.0);
        assert_eq!(env.active(), "primary", "{what}");
        assert_eq!(env.condition("Redundant"), ("False".to_owned(), "NoStandby".to_owned()), "{what}");
        assert_eq!(env.condition("Ready"), ("False".to_owned(), "MailLoop".to_owned()), "{what}");
    }
    // By the address that the API server gives to it.
    for host in ["10.96.0.9", "::ffff:10.96.0.9"] {
        let mut env = TestEnv::with(&[policy(), backend("primary", "192.0.2.1"), backend("standby", host), route()]);
        env.run(5.0);
        env.edit("Service", "mail", |object| {
            object["spec"]["clusterIP"] = json!("10.96.0.9");
            object["spec"]["clusterIPs"] = json!(["10.96.0.9"]);
        });
        env.run(10.0);
        assert_eq!(env.condition("Redundant"), ("False".to_owned(), "NoStandby".to_owned()), "{host}");
        assert_eq!(env.condition("Ready"), ("False".to_owned(), "MailLoop".to_owned()), "{host}");
    }
}

/// One change of the world that a history consists of.
#[derive(Clone, Copy, Debug)]
enum Change {
    Fails(&'static str),
    Works(&'static str),
    Deletes(&'static str, &'static str),
    /// The port that the backend names is taken from its Service.
    LosesPort(&'static str),
    /// The Service of a backend has these endpoints from now on.
    HasEndpoints(&'static str, &'static [&'static str]),
    Returns(usize),
    Passes(u32),
}

impl Change {
    fn random(random: &mut fastrand::Rng) -> Self {
        let backend = ["primary", "standby"][random.usize(..2)];
        let service = ["mta-a", "mta-b"][random.usize(..2)];
        let endpoints = [&[][..], &["10.0.0.1"], &["10.0.0.7", "10.0.0.8"]][random.usize(..3)];
        match random.u8(..10) {
            8 => Self::LosesPort(service),
            9 => Self::HasEndpoints(service, endpoints),
            0 | 1 => Self::Fails(backend),
            2 | 3 => Self::Works(backend),
            4 => Self::Deletes("SendingBackend", backend),
            5 => [Self::Deletes("FailoverPolicy", "fast"), Self::Deletes("Service", "mta-a")][random.usize(..2)],
            6 => Self::Returns(random.usize(..in_cluster().len())),
            _ => Self::Passes(random.u32(1..100)),
        }
    }

    fn happen(self, env: &mut TestEnv) {
        match self {
            Self::Fails(backend) => env.answer(backend, EvidenceClass::ConnectionRefused),
            Self::Works(backend) => env.answer(backend, EvidenceClass::Ok),
            Self::Deletes(kind, name) => env.delete(kind, name),
            Self::LosesPort(service) if env.store.objects.contains_key(&("Service", service.to_owned())) => {
                env.edit("Service", service, |object| object["spec"]["ports"][0]["port"] = json!(26));
            }
            Self::HasEndpoints(service, addresses) => {
                let name = format!("{service}-x");
                env.delete("EndpointSlice", &name);
                let (kind, object) = slice(&name, service, 25, addresses);
                env.store.create(kind, object);
            }
            Self::LosesPort(_) => {}
            Self::Returns(index) => {
                let (kind, object) = in_cluster().swap_remove(index);
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                if !env.store.objects.contains_key(&(kind, name)) {
                    env.store.create(kind, object);
                }
            }
            Self::Passes(seconds) => env.run_by(SECOND, f64::from(seconds)),
        }
        env.run_by(SECOND, 5.0);
    }
}

/// Where the mail goes two hours after a history, with a restart before one of its changes, or after the last.
fn end_of(history: &[Change], restarts_before: Option<usize>) -> (String, Vec<String>, String) {
    let mut env = TestEnv::with(&in_cluster());
    env.run(3.0);
    for (index, change) in history.iter().enumerate() {
        if restarts_before == Some(index) {
            env.restart();
        }
        change.happen(&mut env);
    }
    if restarts_before == Some(history.len()) {
        env.restart();
    }
    env.run_by(Duration::from_secs(10), 2.0 * 3600.0);
    let status = env.store.route("orders");
    let is_healthy = |name: &str| {
        status.backends.iter().any(|one| one.name == name && one.health == mail_failover_api::Health::Healthy)
    };
    let others = ["primary", "standby"].into_iter().filter(|name| *name != env.active());
    // The one that every sequence must end with: a dead way out is left for a healthy standby.
    assert!(
        is_healthy(&env.active()) || !others.clone().any(is_healthy),
        "mail stays with {} after {history:?}, restarted before {restarts_before:?}: {:?}",
        env.active(),
        status.backends
    );
    (env.active(), env.store.leads_to("mail-ipv4"), env.condition("Ready").1)
}

#[test]
fn a_restart_at_any_point_of_any_history_changes_nothing_of_its_end() {
    // Side by side: it is the longest test of this crate.
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || check_history(seed));
        }
    });
}

fn check_history(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let history: Vec<_> = (0..6).map(|_| Change::random(&mut random)).collect();
    let undisturbed = end_of(&history, None);
    for index in 0..=history.len() {
        let restarted = end_of(&history, Some(index));
        assert_eq!(restarted, undisturbed, "seed {seed}, restarted before change {index} of {history:?}");
    }
}
