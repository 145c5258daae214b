//! Writes that no mail waits for, while backends flap without end.

use serde_json::json;

use super::testing::*;
use mail_failover_core::model::EvidenceClass;

/// A policy that turns a verdict at each answer.
fn nervous() -> (&'static str, serde_json::Value) {
    let (kind, mut object) = policy();
    object["spec"] = json!({"failure": {"consecutive": 1}, "recovery": {"consecutive": 1},
        "hold": {"cooldown": "0s", "minimumStay": "0s"}, "failback": {"after": "1s"}});
    (kind, object)
}

#[test]
fn a_backend_that_flaps_is_told_of_as_a_number_and_holds_up_no_mail() {
    let mut objects = vec![nervous(), backend("primary", "192.0.2.1"), backend("standby", "192.0.2.2")];
    objects.push(backend("flapping", "192.0.2.3"));
    let (kind, mut object) = route();
    object["spec"]["backends"] = json!([{"name": "primary"}, {"name": "standby"}, {"name": "flapping"}]);
    objects.push((kind, object));
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    assert_eq!(env.active(), "primary");
    // Ten minutes: 300 turns.
    for round in 0..300 {
        let class = if round % 2 == 0 { EvidenceClass::ConnectionRefused } else { EvidenceClass::Ok };
        env.answer("flapping", class);
        env.run_by(std::time::Duration::from_millis(500), 2.0);
    }
    let count = |env: &TestEnv, what: &str| env.store.log.iter().filter(|line| *line == what).count();
    let statuses = count(&env, "status SendingBackend flapping");
    assert!((60..=75).contains(&statuses), "{statuses} statuses in ten minutes");
    let told = count(&env, "event BackendUnhealthy") + count(&env, "event BackendRecovered");
    // Each turn is a status with its Event, and a status without it; later the status says the same each minute.
    assert!((8..=35).contains(&told), "{told} Events in ten minutes");
    let notes = env.store.objects.iter().filter(|((kind, _), _)| *kind == "Event").map(|(_, event)| &event["note"]);
    assert!(notes.filter(|note| note.to_string().contains(" times in 10 min")).count() >= 5);
    // Mail waits for none of it.
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(1.5);
    assert_eq!(env.active(), "standby");
    assert_eq!(env.store.leads_to("mail-ipv4"), ["192.0.2.2"]);
}

#[test]
fn what_was_put_off_is_told_at_last() {
    let mut objects = quickstart();
    objects[0] = nervous();
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    for round in 0..60 {
        let class = if round % 2 == 0 { EvidenceClass::ConnectionRefused } else { EvidenceClass::Ok };
        env.answer("standby", class);
        env.run_by(std::time::Duration::from_millis(500), 2.0);
    }
    env.answer("standby", EvidenceClass::ConnectionRefused);
    env.run_by(std::time::Duration::from_millis(500), 65.0);
    let standby = env.store.get::<mail_failover_api::SendingBackend>("SendingBackend", "standby").unwrap();
    assert_eq!(standby.status.unwrap().health, Some(mail_failover_api::Health::Unhealthy));
}
