//! Probes that log in: what is asked for them, what is said without it, and who makes how many.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::ReadChange;
use super::testing::*;
use crate::controller::input::Input;
use crate::observers::PeerEvent;
use mail_failover_api::{Health, SendingBackend, SendingBackendStatus};
use mail_failover_core::model::{EvidenceClass, Login, NotAfter, ObjectKey, ProbeLogin};
use mail_failover_resolve::{LoginKey, ReadProblem};

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

fn secret() -> LoginKey {
    LoginKey::beside(&ObjectKey::new("shop", "primary"), &"relay".into())
}

fn read(env: &mut TestEnv, answer: Result<Login, ReadProblem>) {
    env.state.handle(env.now, Input::Login(secret(), answer));
}

fn primary(env: &TestEnv) -> SendingBackendStatus {
    env.store.get::<SendingBackend>("SendingBackend", "primary").unwrap().status.unwrap_or_default()
}

/// Status and reason of its condition, and the message.
fn condition(env: &TestEnv, type_: &str) -> (String, String, String) {
    let found = primary(env).conditions.into_iter().find(|condition| condition.type_ == type_).unwrap();
    (found.status, found.reason, found.message)
}

fn login_of(env: &TestEnv) -> ProbeLogin {
    let target = env.targets.iter().find(|(key, _)| &*key.probe == "login");
    target.map(|(_, (target, ..))| target.login.clone()).unwrap()
}

fn interval_of(env: &TestEnv, probe: &str) -> Duration {
    env.targets.iter().find(|(key, _)| &*key.probe == probe).map(|(_, (target, ..))| target.interval).unwrap()
}

#[test]
fn a_login_is_asked_for_by_name_where_a_probe_logs_in_and_waited_for() {
    let mut env = TestEnv::with(&with_login());
    env.run(5.0);
    assert_eq!(env.logins, [ReadChange::Use(secret())]);
    assert!(env.targets.keys().all(|key| &*key.backend.name != "primary"), "not before it is known");
    let login = Login::new("shop", PASSWORD);
    read(&mut env, Ok(login.clone()));
    env.run(40.0);
    assert_eq!(login_of(&env), ProbeLogin::With(login));
    assert_eq!((env.active(), primary(&env).health), ("primary".to_owned(), Some(Health::Healthy)));
    // No probe goes so far any more.
    env.edit("SendingBackend", "primary", |object| object["spec"]["probes"][1]["smtp"]["depth"] = json!("StartTLS"));
    env.run(1.0);
    assert_eq!(env.logins, [ReadChange::Use(secret()), ReadChange::Drop(secret())]);
    assert_eq!(login_of(&env), ProbeLogin::None);
}

#[test]
fn without_a_login_the_probe_is_unknown_says_why_and_moves_nothing() {
    let problems = [
        (
            ReadProblem::NotFound,
            "SecretNotFound",
            "Secret relay does not exist in namespace shop; create it with the keys username and password",
        ),
        (ReadProblem::Malformed("it has no key password".into()), "SecretMalformed", "it has no key password"),
        (ReadProblem::Unreadable("secrets is forbidden".into()), "SecretUnreadable", "secrets is forbidden"),
    ];
    for (problem, reason, text) in problems {
        let mut env = TestEnv::with(&with_login());
        read(&mut env, Ok(Login::new("shop", PASSWORD)));
        env.run(40.0);
        read(&mut env, Err(problem));
        env.run(40.0);
        let (status, condition_reason, message) = condition(&env, "Ready");
        assert_eq!((status.as_str(), condition_reason.as_str()), ("False", reason));
        assert!(message.starts_with("spec.smtp.auth.secretRef: ") && message.contains(text), "{message}");
        let status = primary(&env);
        // The other probe has a verdict, and the blocked one abstains.
        assert_eq!((status.health, status.reason.as_deref()), (Some(Health::Healthy), Some("Ok")));
        let probe = |name: &str| status.probes.iter().find(|probe| probe.name == name).unwrap().clone();
        assert_eq!((probe("smtp").health, probe("login").health), (Health::Healthy, Health::Unknown));
        assert_eq!(probe("login").reason, "ProbeBlocked");
        assert_eq!(condition(&env, "Healthy").0, "True");
        assert_eq!(
            (env.active(), env.store.events()),
            ("primary".to_owned(), vec!["ConfigurationRejected".to_owned()])
        );
        let writes = env.store.writes;
        env.run(300.0);
        assert_eq!(env.store.writes, writes, "{:?}", env.store.log);
        // A rotated one is used without a restart, and what fails otherwise still counts.
        let rotated = Login::new("shop", "another");
        read(&mut env, Ok(rotated.clone()));
        env.run(40.0);
        assert_eq!(login_of(&env), ProbeLogin::With(rotated));
        assert_eq!((primary(&env).health, condition(&env, "Ready").0.as_str()), (Some(Health::Healthy), "True"));
        read(&mut env, Err(ReadProblem::NotFound));
        env.run(40.0);
        env.answer("primary", EvidenceClass::ConnectionRefused);
        env.run(10.0);
        assert_eq!(env.active(), "standby");
    }
}

#[test]
fn a_recipient_that_is_refused_from_the_start_shows_and_counts_neither_way() {
    let mut objects = quickstart();
    objects[1].1["spec"]["probes"][0]["smtp"] =
        json!({"depth": "RcptTo", "from": "a@shop.example", "to": "b@shop.example"});
    let mut env = TestEnv::with(&objects);
    env.answer("primary", EvidenceClass::RecipientLevel);
    env.run(70.0);
    let seen = primary(&env).probes[0].clone();
    assert_eq!((seen.health, seen.reason.as_str()), (Health::Unknown, "RecipientLevel"));
    assert_eq!(seen.message.as_deref(), Some("EHLO: RecipientLevel"));
    let writes = env.store.writes;
    env.run(100.0);
    assert_eq!(env.store.writes, writes, "{:?}", env.store.log);
    env.answer("primary", EvidenceClass::Ok);
    env.run(40.0);
    env.answer("primary", EvidenceClass::RecipientLevel);
    env.run(300.0);
    assert_eq!((primary(&env).health, env.active()), (Some(Health::Healthy), "primary".to_owned()));
}

#[test]
fn an_expiry_is_warned_of_once_and_the_intermediate_certificate_named() {
    const DAY: f64 = 24.0 * 3600.0;
    let events = |env: &TestEnv| env.store.events().iter().filter(|reason| *reason == "CertificateExpiring").count();
    let mut objects = quickstart();
    objects[1].1["spec"]["smtp"]["tls"] = json!({"mode": "StartTLS"});
    objects[1].1["spec"]["probes"] = json!([{"name": "smtp", "interval": "1h", "smtp": {}}]);
    objects[2].1["spec"]["probes"] = json!([{"name": "smtp", "interval": "1h", "smtp": {}}]);
    let mut env = TestEnv::with(&objects);
    let at = env.now + Duration::from_secs_f64(14.0 * DAY + 60.0);
    env.not_after = Some(NotAfter { at, issuer: Some("R3".into()) });
    env.run(50.0);
    let status = primary(&env);
    assert_eq!((status.certificate_issuer.as_deref(), events(&env)), (Some("R3"), 0));
    assert!(status.certificate_not_after.is_some());
    // By time alone, without another round. The standby's certificate is verified by nobody.
    env.run(30.0);
    assert_eq!(events(&env), 1, "{:?}", env.store.events());
    let writes = env.store.writes;
    env.run(600.0);
    assert_eq!((events(&env), env.store.writes), (1, writes), "{:?}", env.store.log);
    // Another one is another matter.
    env.not_after = Some(NotAfter { at: at + Duration::from_hours(1), issuer: None });
    env.run(4000.0);
    assert_eq!((events(&env), primary(&env).certificate_issuer), (2, None));
}

#[test]
fn a_refused_login_moves_the_mail_and_nothing_that_is_written_holds_it() {
    let mut env = TestEnv::with(&with_login());
    read(&mut env, Ok(Login::new("shop", PASSWORD)));
    env.run(40.0);
    env.answer("primary", EvidenceClass::AuthenticationRefused);
    env.run(10.0);
    assert_eq!(env.active(), "standby");
    assert_eq!(env.condition("FailedOver"), ("True".to_owned(), "AuthenticationRefused".to_owned()));
    for object in env.store.objects.values() {
        assert!(!object.to_string().contains(PASSWORD), "{object}");
    }
    assert!(!format!("{:?}", env.state).contains(PASSWORD));
}

#[test]
fn replicas_share_out_what_providers_count_and_nothing_else() {
    let mut env = TestEnv::with(&with_login());
    read(&mut env, Ok(Login::new("shop", PASSWORD)));
    env.run(5.0);
    let intervals = |env: &TestEnv| (interval_of(env, "smtp").as_secs(), interval_of(env, "login").as_secs());
    assert_eq!(intervals(&env), (1, 30));
    for (observer, together) in [("b", 60), ("c", 90)] {
        let heard = PeerEvent::Report {
            observer: observer.into(),
            identity: "other_1".into(),
            reported: Arc::default(),
            known_up_to: None,
            silent: Arc::default(),
        };
        env.state.handle(env.now, Input::Observer(heard));
        env.run(1.0);
        assert_eq!(intervals(&env), (1, together));
    }
    env.state.handle(env.now, Input::Observer(PeerEvent::Lost { observer: "b".into() }));
    env.run(1.0);
    assert_eq!(intervals(&env), (1, 60));
    // What stands in the cluster is the user's own.
    let service = json!({"service": {"name": "relay", "port": 25, "auth": {"secretRef": {"name": "relay"}, "allowPlaintext": true}},
        "probes": [{"name": "login", "interval": "200ms", "smtp": {"depth": "Auth"}}]});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "relay"}, "spec": {"ports": [{"port": 25}]}});
    env.store.create("Service", object);
    env.edit("SendingBackend", "primary", |object| object["spec"] = service.clone());
    env.run(1.0);
    assert_eq!(interval_of(&env, "login"), Duration::from_millis(200));
}

#[test]
fn a_rule_about_replies_that_cannot_work_is_named_and_the_rest_of_the_backend_goes_on() {
    let mut objects = quickstart();
    objects[1].1["spec"]["replies"] = json!([
        {"name": "broken", "about": "Quota", "words": ["(spent"]},
        {"name": "sound", "about": "Rate", "words": ["slow"]},
    ]);
    let mut env = TestEnv::with(&objects);
    env.run(40.0);
    let (status, reason, message) = condition(&env, "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "InvalidReplyRule"));
    assert!(message.starts_with("spec.replies[broken].words[0]: it is no regular expression"), "{message}");
    assert_eq!(condition(&env, "Stalled").0, "True");
    assert_eq!((env.active(), primary(&env).health), ("primary".to_owned(), Some(Health::Healthy)));
    let rules: Vec<_> = env
        .targets
        .values()
        .filter(|(target, ..)| &*target.key.backend.name == "primary")
        .flat_map(|(target, ..)| target.replies.rules.iter().map(|rule| rule.name.to_string()))
        .collect();
    assert_eq!(rules, ["sound"]);
    // A changed rule is a changed probe.
    env.edit("SendingBackend", "primary", |object| object["spec"]["replies"][0]["words"] = json!(["spent"]));
    env.run(40.0);
    assert_eq!(condition(&env, "Ready").0, "True");
    let rules = env.targets.values().filter(|(target, ..)| &*target.key.backend.name == "primary");
    assert_eq!(rules.map(|(target, ..)| target.replies.rules.len()).collect::<Vec<_>>(), [2]);
}
