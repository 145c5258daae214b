//! Drills from the request to the result, with restarts, beside other routes.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::testing::*;
use mail_failover_api::{DrillResultStatus, MailRouteStatus, RouteDrillsStatus};
use mail_failover_core::model::EvidenceClass;

/// The quickstart with receivers' policy left out, a drill budget that allows many, and a stay of five seconds.
fn rehearsing() -> Vec<(&'static str, Value)> {
    let mut objects = quickstart();
    objects[0].1["spec"]["drills"] = json!({"stay": "5s", "longest": "1m", "budget": {"drills": 5, "per": "1s"}});
    objects[0].1["spec"]["objectives"] = json!({"recoveryTime": "30s"});
    objects
}

/// Another route over the same backends, with a policy of its own name.
fn neighbour() -> (&'static str, Value) {
    let (kind, mut object) = route();
    object["metadata"]["name"] = json!("invoices");
    object["spec"]["outputs"] = json!([{"configMap": {"name": "invoices", "format": "Env"}}]);
    (kind, object)
}

fn ask(env: &mut TestEnv, route: &str, request: &Value) {
    let text = request.to_string();
    env.edit("MailRoute", route, |object| {
        object["metadata"]["annotations"]["mailfailover.io/request"] = json!(text);
    });
}

fn drills(env: &TestEnv) -> RouteDrillsStatus {
    env.store.route("orders").drills.unwrap_or_default()
}

fn result(env: &TestEnv) -> DrillResultStatus {
    drills(env).history.first().cloned().expect("a drill that is over")
}

fn begin(env: &mut TestEnv, mode: &str) {
    env.run(10.0);
    ask(env, "orders", &json!({"id": "d1", "action": "Drill", "mode": mode}));
}

#[test]
fn an_observed_drill_moves_the_outputs_and_leads_them_back_and_alarms_nobody() {
    let mut env = TestEnv::with(&rehearsing());
    begin(&mut env, "Observed");
    env.run(2.0);
    assert_eq!(drills(&env).running.unwrap().backend, "primary");
    assert_eq!(env.active(), "primary", "the policy counts three failures");
    env.run(2.0);
    assert_eq!((env.active().as_str(), env.store.leads_to("mail-ipv4")), ("standby", vec!["192.0.2.2".to_owned()]));
    assert_eq!(env.condition("FailedOver"), ("False".to_owned(), "Drill".to_owned()));
    assert_eq!((env.condition("Ready").0.as_str(), env.condition("Redundant").0.as_str()), ("True", "True"));
    env.run(10.0);
    assert_eq!((env.active().as_str(), env.store.leads_to("mail-ipv4")), ("primary", vec!["192.0.2.1".to_owned()]));
    let result = result(&env);
    assert_eq!((result.outcome.as_str(), result.reason.as_str()), ("Passed", "WithinObjective"), "{}", result.message);
    assert!(result.message.contains("30 s demanded") && result.restored_at.is_some(), "{result:?}");
    let status = env.store.route("orders");
    let reasons: Vec<_> = status.history.iter().map(|one| one.reason.as_str()).collect();
    assert_eq!(reasons, ["Drill", "Drill"]);
    assert_eq!(env.store.events(), ["DrillBegan", "RequestDone", "DrillPassed"]);
    assert_eq!(env.condition("RecoveryTimeMet").1, "NoFailover", "a drill is no failover");
    // And nothing is written any more.
    let writes = env.store.writes;
    env.run(600.0);
    assert_eq!(env.store.writes, writes, "{:?}", env.store.log);
}

#[test]
fn a_process_that_dies_at_any_write_of_a_drill_leaves_one_that_ends_and_restores() {
    let undisturbed = {
        let mut env = TestEnv::with(&rehearsing());
        begin(&mut env, "Observed");
        env.run(30.0);
        env.store.writes
    };
    for at in 5..undisturbed {
        for death in [Death::BeforeWrite, Death::AfterWrite] {
            let mut env = TestEnv::with(&rehearsing());
            env.store.dies_at = Some((at, death));
            begin(&mut env, "Observed");
            env.run(40.0);
            let status = env.store.route("orders");
            assert_eq!(
                (env.active().as_str(), env.store.leads_to("mail-ipv4")),
                ("primary", vec!["192.0.2.1".to_owned()])
            );
            let RouteDrillsStatus { running, history, .. } = status.drills.unwrap_or_default();
            assert_eq!((running, history.len()), (None, 1), "dies at {at} {death:?}: {:?}", env.store.log);
            let events = env.store.events();
            assert_eq!(events.iter().filter(|reason| reason.starts_with("Drill")).count(), 2, "{events:?}");
        }
    }
}

#[test]
fn a_real_failure_in_a_drill_leads_the_mail_by_its_own_rules() {
    let mut env = TestEnv::with(&rehearsing());
    begin(&mut env, "Observed");
    env.run(5.0);
    assert_eq!(env.active(), "standby");
    env.answer("standby", EvidenceClass::NoAnswer);
    env.run(4.0);
    assert_eq!(env.active(), "primary");
    env.run(2.0);
    let DrillResultStatus { outcome, reason, .. } = result(&env);
    assert_eq!((outcome.as_str(), reason.as_str()), ("Aborted", "Unhealthy"));
    assert!(env.store.events().contains(&"DrillAborted".to_owned()), "{:?}", env.store.events());
}

/// The status of the neighbour without what a drill of another route must not change.
fn of_neighbour(env: &TestEnv) -> MailRouteStatus {
    env.store.route("invoices")
}

#[test]
fn a_drill_is_no_evidence_for_a_backend_or_another_route() {
    let mut with = rehearsing();
    with.push(neighbour());
    let mut env = TestEnv::with(&with);
    let mut twin = TestEnv::with(&with);
    begin(&mut env, "Blocked");
    twin.run(10.0);
    for _ in 0..30 {
        env.run(1.0);
        twin.run(1.0);
        assert_eq!(of_neighbour(&env), of_neighbour(&twin));
        for name in ["primary", "standby"] {
            let health =
                |env: &TestEnv| env.store.objects[&("SendingBackend", name.to_owned())]["status"]["health"].clone();
            assert_eq!(health(&env), health(&twin));
        }
    }
    assert_eq!(result(&env).outcome, "Passed", "{:?}", result(&env));
}

#[test]
fn two_routes_of_one_failure_domain_take_turns() {
    let mut objects = rehearsing();
    objects.push(neighbour());
    objects[0].1["spec"]["drills"]["schedule"] = json!("*/30 * * * *");
    objects[0].1["spec"]["drills"]["within"] = json!("20m");
    objects[0].1["spec"]["drills"]["mode"] = json!("Observed");
    let mut env = TestEnv::with(&objects);
    let (mut both, mut seen) = (0, [0, 0]);
    for _ in 0..240 {
        env.run(1.0);
        let running =
            ["orders", "invoices"].map(|name| env.store.route(name).drills.is_some_and(|one| one.running.is_some()));
        both += usize::from(running == [true, true]);
        for (count, runs) in seen.iter_mut().zip(running) {
            *count += usize::from(runs);
        }
    }
    assert!(both == 0 && seen[0] > 0 && seen[1] > 0, "{both} {seen:?}");
    for name in ["orders", "invoices"] {
        let drills = env.store.route(name).drills.unwrap();
        assert!(drills.history.iter().all(|one| one.outcome == "Passed"), "{name}: {drills:?}");
        assert!(drills.next.is_some() && drills.overdue_at.is_some() && drills.passed_at.is_some(), "{drills:?}");
    }
}

#[test]
fn a_blocked_drill_stands_in_the_agents_document_until_it_is_over() {
    let mut objects = rehearsing();
    objects[3].1["spec"]["outputs"] = json!([{"agent": {"configMap": "agents"}}]);
    let mut env = TestEnv::with(&objects);
    let document = |env: &TestEnv| -> Value {
        let object = &env.store.objects[&("ConfigMap", "agents".to_owned())];
        let text = object["data"].as_object().unwrap().values().next().unwrap();
        serde_json::from_str(text.as_str().unwrap()).unwrap()
    };
    begin(&mut env, "Blocked");
    env.run(1.0);
    let drill = document(&env)["drill"].clone();
    assert_eq!((&drill["backends"], &drill["forSeconds"]), (&json!(["primary"]), &json!(60)));
    env.run(4.0);
    assert_eq!((env.active().as_str(), &document(&env)["drill"]), ("standby", &drill), "one id for all of it");
    env.run(15.0);
    assert_eq!((env.active().as_str(), &document(&env)["drill"]), ("primary", &Value::Null));
}

#[test]
fn a_drill_in_shadow_passes_when_every_probe_of_the_standby_has_answered() {
    for (class, outcome) in [(EvidenceClass::Ok, "Passed"), (EvidenceClass::Permanent, "Failed")] {
        let mut env = TestEnv::with(&rehearsing());
        begin(&mut env, "Shadow");
        env.run(0.2);
        env.answer("standby", class);
        env.run(5.0);
        assert_eq!((result(&env).outcome.as_str(), env.active().as_str()), (outcome, "primary"));
        assert_eq!(env.store.route("orders").history, vec![]);
    }
}

#[test]
fn the_series_of_drills_follow_the_status() {
    let mut registry = Registry::default();
    let mut env = TestEnv::new();
    env.state = state_with(&mut registry);
    for (kind, object) in rehearsing() {
        env.store.create(kind, object);
    }
    env.sync();
    begin(&mut env, "Observed");
    env.run(3.0);
    let text = |registry: &Registry| {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    };
    let running = r#"mail_failover_route_drill_running{namespace="shop",route="orders",mode="Observed"} 1"#;
    assert!(text(&registry).contains(running), "{}", text(&registry));
    env.run(20.0);
    let after = text(&registry);
    assert!(!after.contains("mail_failover_route_drill_running{"), "{after}");
    for line in [
        r#"mail_failover_route_drill_outcome{namespace="shop",route="orders",outcome="Passed"} 1"#,
        r#"mail_failover_route_drill_passed_timestamp_seconds{namespace="shop",route="orders"} "#,
        r#"mail_failover_route_drills_total{namespace="shop",route="orders",mode="Observed",outcome="Passed"} 1"#,
    ] {
        assert!(after.contains(line), "{line}: {after}");
    }
    assert!(!after.contains("mail_failover_route_detection_duration_seconds_count{namespace"), "{after}");
}
