//! Probes that wait for their turn: what people are told, and whose probes come first. Looks beside the interval.

use std::time::Duration;

use super::testing::*;
use mail_failover_api::SendingBackend;
use mail_failover_core::model::{DelayCause, EvidenceClass, ProbeDelay};

/// Status, reason and message of the condition `Ready` of a backend.
fn ready(env: &TestEnv, backend: &str) -> (String, String, String) {
    let status = env.store.get::<SendingBackend>("SendingBackend", backend).unwrap().status.unwrap_or_default();
    let condition = status.conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
    (condition.status, condition.reason, condition.message)
}

#[test]
fn a_backend_whose_probes_wait_for_their_turn_says_so_until_they_are_in_time_again() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    assert_eq!(ready(&env, "primary").1, "Observed");
    env.delay = Some(ProbeDelay { cause: DelayCause::Dialogues, waited: Duration::from_secs(12) });
    env.run(2.0);
    let (status, reason, message) = ready(&env, "primary");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ProbesDelayed"));
    assert!(message.starts_with("probe smtp waited 12s for its turn: as many dialogues are under way"), "{message}");
    // Other waits are no other news.
    let writes = env.store.log.len();
    env.delay = Some(ProbeDelay { cause: DelayCause::Dialogues, waited: Duration::from_secs(30) });
    env.run(10.0);
    assert_eq!(env.store.log.len(), writes, "{:?}", &env.store.log[writes..]);
    env.delay = None;
    env.run(3.0);
    assert_eq!(ready(&env, "primary").1, "ProbesDelayed", "not yet");
    env.run(5.0);
    assert_eq!(ready(&env, "primary").1, "Observed");
}

#[test]
fn the_prober_knows_which_backends_routes_use() {
    let mut objects = quickstart();
    objects.push(backend("unused", "192.0.2.9"));
    let mut env = TestEnv::with(&objects);
    env.run(2.0);
    let used = |env: &TestEnv| -> Vec<(String, bool)> {
        env.targets.values().map(|(target, ..)| (target.key.backend.name.to_string(), target.is_used)).collect()
    };
    assert_eq!(used(&env), [("primary".into(), true), ("standby".into(), true), ("unused".into(), false)]);
    env.edit("MailRoute", "orders", |route| {
        route["spec"]["backends"] = serde_json::json!([{"name": "primary"}, {"name": "unused"}]);
    });
    env.run(1.0);
    assert_eq!(used(&env), [("primary".into(), true), ("standby".into(), false), ("unused".into(), true)]);
}

#[test]
fn a_standby_is_looked_at_once_its_predecessor_begins_to_fail() {
    let mut objects = quickstart();
    objects[2].1["spec"]["probes"][0]["interval"] = serde_json::json!("60s");
    let mut env = TestEnv::with(&objects);
    env.run(20.0);
    assert_eq!(env.active(), "primary");
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(5.0);
    // Without the look the standby's word would be from before the failure.
    assert_eq!(env.active(), "standby");
}
