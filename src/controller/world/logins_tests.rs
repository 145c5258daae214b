//! Probes that log in: what is asked for them, what is said without it, and who makes how many.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::ReadChange;
use super::testing::*;
use crate::controller::input::Input;
use crate::observers::PeerEvent;
use mail_failover_api::{Health, SendingBackend, SendingBackendStatus};
use mail_failover_core::model::{EvidenceClass, Login, ObjectKey, ProbeLogin};
use mail_failover_resolve::ReadProblem;

const PASSWORD: &str = "correct-horse-battery";

/// A backend whose probe logs in, beside one that need not.
fn with_login() -> Vec<(&'static str, Value)> {
    let mut objects = quickstart();
    objects[1].1["spec"] = json!({
        "smtp": {"host": "192.0.2.1", "port": 587, "tls": {"mode": "StartTLS"}, "auth": {"secretRef": {"name": "relay"}}},
        "probes": [
            {"name": "smtp", "interval": "1s", "timeout": "500ms", "smtp": {}},
            {"name": "login", "interval": "30s", "timeout": "5s", "smtp": {"depth": "Auth"}}]});
    objects
}

fn secret() -> ObjectKey {
    ObjectKey::new("shop", "relay")
}

fn read(stage: &mut Stage, answer: Result<Login, ReadProblem>) {
    stage.world.take(stage.now, Input::Login(secret(), answer));
}

fn primary(stage: &Stage) -> SendingBackendStatus {
    stage.store.get::<SendingBackend>("SendingBackend", "primary").unwrap().status.unwrap_or_default()
}

/// Status and reason of its condition, and the message.
fn condition(stage: &Stage, type_: &str) -> (String, String, String) {
    let found = primary(stage).conditions.into_iter().find(|condition| condition.type_ == type_).unwrap();
    (found.status, found.reason, found.message)
}

fn login_of(stage: &Stage) -> ProbeLogin {
    let target = stage.targets.iter().find(|(key, _)| &*key.probe == "login");
    target.map(|(_, (target, ..))| target.login.clone()).unwrap()
}

fn interval_of(stage: &Stage, probe: &str) -> Duration {
    stage.targets.iter().find(|(key, _)| &*key.probe == probe).map(|(_, (target, ..))| target.interval).unwrap()
}

#[test]
fn a_login_is_asked_for_by_name_where_a_probe_logs_in_and_waited_for() {
    let mut stage = Stage::with(&with_login());
    stage.run(5.0);
    assert_eq!(stage.logins, [ReadChange::Use(secret())]);
    assert!(stage.targets.keys().all(|key| &*key.backend.name != "primary"), "not before it is known");
    let login = Login::new("shop", PASSWORD);
    read(&mut stage, Ok(login.clone()));
    stage.run(40.0);
    assert_eq!(login_of(&stage), ProbeLogin::With(login));
    assert_eq!((stage.active(), primary(&stage).health), ("primary".to_owned(), Some(Health::Healthy)));
    // No probe goes so far any more.
    stage.edit("SendingBackend", "primary", |object| object["spec"]["probes"][1]["smtp"]["depth"] = json!("StartTLS"));
    stage.run(1.0);
    assert_eq!(stage.logins, [ReadChange::Use(secret()), ReadChange::Drop(secret())]);
    assert_eq!(login_of(&stage), ProbeLogin::None);
}

#[test]
fn without_a_login_the_probe_is_unknown_says_why_and_moves_nothing() {
    let problems = [
        (
            ReadProblem::NotFound,
            "SecretNotFound",
            "Secret relay does not exist in namespace shop; create it with the keys username and password",
        ),
        (ReadProblem::Malformed("it has no key password".to_owned()), "SecretMalformed", "it has no key password"),
        (ReadProblem::Unreadable("secrets is forbidden".to_owned()), "SecretUnreadable", "secrets is forbidden"),
    ];
    for (problem, reason, text) in problems {
        let mut stage = Stage::with(&with_login());
        read(&mut stage, Ok(Login::new("shop", PASSWORD)));
        stage.run(40.0);
        read(&mut stage, Err(problem));
        stage.run(40.0);
        let (status, condition_reason, message) = condition(&stage, "Ready");
        assert_eq!((status.as_str(), condition_reason.as_str()), ("False", reason));
        assert!(message.starts_with("spec.smtp.auth.secretRef: ") && message.contains(text), "{message}");
        let status = primary(&stage);
        assert_eq!((status.health, status.reason.as_deref()), (Some(Health::Unknown), Some("ProbeBlocked")));
        let probe = |name: &str| status.probes.iter().find(|probe| probe.name == name).unwrap().clone();
        assert_eq!((probe("smtp").health, probe("login").health), (Health::Healthy, Health::Unknown));
        assert_eq!(probe("login").reason, "ProbeBlocked");
        assert_eq!(condition(&stage, "Healthy").0, "Unknown");
        assert_eq!(
            (stage.active(), stage.store.events()),
            ("primary".to_owned(), vec!["ConfigurationRejected".to_owned()])
        );
        let writes = stage.store.writes;
        stage.run(300.0);
        assert_eq!(stage.store.writes, writes, "{:?}", stage.store.log);
        // A rotated one is used without a restart, and what fails otherwise still counts.
        let rotated = Login::new("shop", "another");
        read(&mut stage, Ok(rotated.clone()));
        stage.run(40.0);
        assert_eq!(login_of(&stage), ProbeLogin::With(rotated));
        assert_eq!((primary(&stage).health, condition(&stage, "Ready").0.as_str()), (Some(Health::Healthy), "True"));
        read(&mut stage, Err(ReadProblem::NotFound));
        stage.run(40.0);
        stage.answer("primary", EvidenceClass::ConnectionRefused);
        stage.run(10.0);
        assert_eq!(stage.active(), "standby");
    }
}

#[test]
fn a_recipient_that_is_refused_from_the_start_shows_and_counts_neither_way() {
    let mut objects = quickstart();
    objects[1].1["spec"]["probes"][0]["smtp"] =
        json!({"depth": "RcptTo", "from": "a@shop.example", "to": "b@shop.example"});
    let mut stage = Stage::with(&objects);
    stage.answer("primary", EvidenceClass::RecipientLevel);
    stage.run(70.0);
    let seen = primary(&stage).probes[0].clone();
    assert_eq!((seen.health, seen.reason.as_str()), (Health::Unknown, "RecipientLevel"));
    assert_eq!(seen.message.as_deref(), Some("EHLO: RecipientLevel"));
    let writes = stage.store.writes;
    stage.run(100.0);
    assert_eq!(stage.store.writes, writes, "{:?}", stage.store.log);
    stage.answer("primary", EvidenceClass::Ok);
    stage.run(40.0);
    stage.answer("primary", EvidenceClass::RecipientLevel);
    stage.run(300.0);
    assert_eq!((primary(&stage).health, stage.active()), (Some(Health::Healthy), "primary".to_owned()));
}

#[test]
fn a_refused_login_moves_the_mail_and_nothing_that_is_written_holds_it() {
    let mut stage = Stage::with(&with_login());
    read(&mut stage, Ok(Login::new("shop", PASSWORD)));
    stage.run(40.0);
    stage.answer("primary", EvidenceClass::AuthenticationRefused);
    stage.run(10.0);
    assert_eq!(stage.active(), "standby");
    assert_eq!(stage.condition("FailedOver"), ("True".to_owned(), "AuthenticationRefused".to_owned()));
    for object in stage.store.objects.values() {
        assert!(!object.to_string().contains(PASSWORD), "{object}");
    }
    assert!(!format!("{:?}", stage.world).contains(PASSWORD));
}

#[test]
fn replicas_share_out_what_providers_count_and_nothing_else() {
    let mut stage = Stage::with(&with_login());
    read(&mut stage, Ok(Login::new("shop", PASSWORD)));
    stage.run(5.0);
    let intervals = |stage: &Stage| (interval_of(stage, "smtp").as_secs(), interval_of(stage, "login").as_secs());
    assert_eq!(intervals(&stage), (1, 30));
    for (observer, together) in [("b", 60), ("c", 90)] {
        let heard = PeerEvent::Heard { observer: observer.into(), sightings: Arc::default() };
        stage.world.take(stage.now, Input::Observer(heard));
        stage.run(1.0);
        assert_eq!(intervals(&stage), (1, together));
    }
    stage.world.take(stage.now, Input::Observer(PeerEvent::Lost { observer: "b".into() }));
    stage.run(1.0);
    assert_eq!(intervals(&stage), (1, 60));
    // What stands in the cluster is the user's own.
    let service = json!({"service": {"name": "relay", "port": 25, "auth": {"secretRef": {"name": "relay"}, "allowPlaintext": true}},
        "probes": [{"name": "login", "interval": "200ms", "smtp": {"depth": "Auth"}}]});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "relay"}, "spec": {"ports": [{"port": 25}]}});
    stage.store.create("Service", object);
    stage.edit("SendingBackend", "primary", |object| object["spec"] = service.clone());
    stage.run(1.0);
    assert_eq!(interval_of(&stage, "login"), Duration::from_millis(200));
}
