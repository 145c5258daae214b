//! Objectives over outages and restarts, and a status that was brought back into a new cluster.

use serde_json::{Value, json};

use super::testing::*;
use crate::controller::input::Input;
use mail_failover_api::{ObjectiveStatus, RouteObjectivesStatus, RouteState};
use mail_failover_core::model::EvidenceClass;

/// The quickstart with objectives: one percent of an hour is 36 s.
fn promised() -> Vec<(&'static str, Value)> {
    let mut objects = quickstart();
    objects[0].1["spec"]["objectives"] =
        json!({"recoveryTime": "30s", "deliveryTime": "30s", "availability": "99", "window": "1h"});
    objects
}

fn objectives(env: &TestEnv) -> RouteObjectivesStatus {
    env.store.route("orders").objectives.unwrap()
}

fn state(env: &TestEnv, objective: &str) -> String {
    let results = objectives(env).results;
    results.iter().find(|one| one.objective == objective).unwrap().state.clone()
}

fn undeliverable_seconds(env: &TestEnv) -> i64 {
    objectives(env).record.iter().map(|part| part.undeliverable_millis).sum::<i64>() / 1000
}

fn set_both(env: &mut TestEnv, class: EvidenceClass) {
    for backend in ["primary", "standby"] {
        env.answer(backend, class);
    }
}

#[test]
fn an_outage_spends_the_error_budget_and_a_failover_is_measured() {
    let mut env = TestEnv::with(&promised());
    env.run(10.0);
    assert_eq!((state(&env, "Availability"), state(&env, "RecoveryTime")), ("Met".to_owned(), "Unknown".to_owned()));
    env.answer("primary", EvidenceClass::NoAnswer);
    env.run(20.0);
    assert_eq!(state(&env, "RecoveryTime"), "Met", "{:?}", objectives(&env));
    assert_eq!(state(&env, "DeliveryTime"), "Unknown", "no agent reports");
    assert_eq!(env.condition("ObjectivesMet"), ("True".to_owned(), "WithinObjective".to_owned()));
    set_both(&mut env, EvidenceClass::NoAnswer);
    env.run(60.0);
    set_both(&mut env, EvidenceClass::Ok);
    env.run(60.0);
    assert_ne!(env.store.route("orders").state, Some(RouteState::NoneHealthy));
    let spent = undeliverable_seconds(&env);
    assert!((40..=70).contains(&spent), "{spent} s: {:?}", objectives(&env));
    assert_eq!(state(&env, "Availability"), "Missed");
    assert_eq!(env.condition("ObjectivesMet"), ("False".to_owned(), "ObjectiveMissed".to_owned()));
    let ObjectiveStatus { target, error_budget_percent, .. } =
        objectives(&env).results.into_iter().find(|one| one.objective == "Availability").unwrap();
    assert!(target == "99%" && error_budget_percent.unwrap() < 0, "{error_budget_percent:?}");
}

#[test]
fn a_restart_in_an_outage_loses_no_part_of_it() {
    let outage = |is_restarted: bool| {
        let mut env = TestEnv::with(&promised());
        env.run(10.0);
        set_both(&mut env, EvidenceClass::NoAnswer);
        env.run(40.0);
        if is_restarted {
            env.restart();
        }
        env.run(40.0);
        set_both(&mut env, EvidenceClass::Ok);
        env.run(60.0);
        undeliverable_seconds(&env)
    };
    let (undisturbed, restarted) = (outage(false), outage(true));
    assert!(undisturbed > 40 && (undisturbed - restarted).abs() <= 15, "{undisturbed} s, {restarted} s");
}

#[test]
fn a_replica_that_leads_again_goes_on_with_what_another_leader_has_counted() {
    let mut env = TestEnv::with(&promised());
    env.run(10.0);
    set_both(&mut env, EvidenceClass::NoAnswer);
    env.run(40.0);
    // In the middle of the outage another replica takes over. Mail can leave soon after.
    env.state.handle(env.now, Input::Leading(false));
    set_both(&mut env, EvidenceClass::Ok);
    let mut other = TestEnv::new();
    other.now = env.now;
    std::mem::swap(&mut env.store, &mut other.store);
    other.sync();
    for _ in 0..300 {
        other.run(1.0);
        std::mem::swap(&mut env.store, &mut other.store);
        env.run(1.0);
        std::mem::swap(&mut env.store, &mut other.store);
    }
    std::mem::swap(&mut env.store, &mut other.store);
    assert_eq!(env.active(), "primary");
    assert_ne!(env.store.route("orders").state, Some(RouteState::NoneHealthy));
    let before = undeliverable_seconds(&env);
    assert!(before >= 20, "the other leader goes on with the outage: {before} s");
    env.state.handle(env.now, Input::Leading(true));
    // Measurements are written with each transition.
    env.answer("primary", EvidenceClass::NoAnswer);
    env.run(20.0);
    assert_eq!(env.active(), "standby");
    let counted = undeliverable_seconds(&env) - before;
    assert!((0..=15).contains(&counted), "{counted} s: {:?}", objectives(&env));
}

#[test]
fn objectives_that_come_while_a_new_leader_has_nothing_to_write_are_measured() {
    let mut env = TestEnv::with(&quickstart());
    env.run(10.0);
    env.restart();
    env.run(10.0);
    assert_eq!(env.store.route("orders").objectives, None);
    let promises = promised()[0].1["spec"]["objectives"].clone();
    env.edit("FailoverPolicy", "fast", |policy| policy["spec"]["objectives"] = promises);
    env.run(10.0);
    assert!(env.store.route("orders").objectives.is_some());
}

#[test]
fn measurements_alone_are_written_once_an_hour_at_most_and_not_at_all_while_nothing_happens() {
    let mut env = TestEnv::with(&promised());
    env.run(10.0);
    let writes = env.store.writes;
    env.run(2.0 * 3600.0);
    assert_eq!(env.store.writes, writes, "{:?}", env.store.log);
}

/// Disaster recovery: objects and their status are brought into a new cluster, and then the operator looks.
#[test]
fn a_status_that_was_brought_into_a_new_cluster_moves_no_mail() {
    let mut old = TestEnv::with(&quickstart());
    old.edit("FailoverPolicy", "fast", |policy| policy["spec"]["failback"]["mode"] = json!("Manual"));
    old.run(10.0);
    old.answer("primary", EvidenceClass::NoAnswer);
    old.run(20.0);
    old.answer("primary", EvidenceClass::Ok);
    old.run(120.0);
    let before = old.store.route("orders");
    assert_eq!((old.active().as_str(), before.history.len()), ("standby", 1));

    let mut new = TestEnv::new();
    new.now = old.now;
    for (kind, mut object) in quickstart() {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut of_dump = old.store.objects[&(kind, name)].clone();
        object["spec"] = of_dump["spec"].take();
        object["status"] = of_dump["status"].take();
        new.store.create(kind, object);
    }
    new.sync();
    new.run(60.0);
    let after = new.store.route("orders");
    assert_eq!((new.active().as_str(), after.history.len()), ("standby", 1), "{:?}", new.store.log);
    assert_eq!(
        new.store.leads_to("mail-ipv4"),
        ["192.0.2.2"],
        "its Service is made anew, and leads to the same backend"
    );
    assert_eq!(after.waiting_for.unwrap().reason, "ManualFailback");
    assert!(
        !new.store.events().iter().any(|event| event == "FailedBack" || event == "FailedOver"),
        "{:?}",
        new.store.events()
    );
}
