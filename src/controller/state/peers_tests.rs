//! Tests of the reports between replicas.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::json;

use super::testing::*;
use super::{ControllerState, Settings};
use crate::controller::input::{Input, Unfit};
use crate::controller::metrics::Metrics;
use crate::observers::{BackendVerdicts, PeerEvent, Verdicts};
use crate::watch::Source;
use mail_failover_api::{self as api, SendingBackend};
use mail_failover_core::engine::{Health, ObserverVerdict};
use mail_failover_core::model::{EvidenceClass, ObjectKey, ResourceVersion, Thresholds, Timestamp};
use mail_failover_resolve::time::timestamp;
use mail_failover_runtime::dial_guard::DialGuard;

/// The thresholds of the policy of the quickstart.
fn thresholds() -> Thresholds {
    Thresholds { failure: 3, lasting: None, recovery: 3, ..Thresholds::default() }
}

fn verdicts(of: Thresholds, health: Health) -> Verdicts {
    let class = if health == Health::Unhealthy { EvidenceClass::NoAnswer } else { EvidenceClass::Ok };
    let since = Timestamp::from_micros(1_000_000_000);
    let verdict = ObserverVerdict {
        health,
        since,
        class,
        first_failure_at: None,
        confirms: [].into(),
        runs: [].into(),
        message: Arc::default(),
    };
    Verdicts::from([(of.to_string().into(), verdict)])
}

fn report(env: &mut TestEnv, observer: &str, said: &[(&str, Verdicts)]) {
    hear_up_to(env, observer, said, None);
}

/// Hears a report of an observer that knows the backends up to this version.
fn hear_up_to(env: &mut TestEnv, observer: &str, said: &[(&str, Verdicts)], version: Option<u64>) {
    let known_up_to = version.map(|version| ResourceVersion::parse(Some(&version.to_string())).unwrap());
    let key = |name: &str| ObjectKey::new("shop", name);
    let reported: BackendVerdicts = said.iter().map(|(name, verdicts)| (key(name), verdicts.clone())).collect();
    let event = PeerEvent::Report {
        observer: observer.into(),
        identity: format!("{observer}_1").into(),
        reported: Arc::new(reported),
        known_up_to,
        silent: Arc::default(),
    };
    env.state.handle(env.now, Input::Observer(event));
}

/// Hears a report without a failure that says nothing of this namespace.
fn hear_nothing_of(env: &mut TestEnv, observer: &str, namespace: &str) {
    let event = PeerEvent::Report {
        observer: observer.into(),
        identity: format!("{observer}_1").into(),
        reported: Arc::default(),
        known_up_to: None,
        silent: Arc::new([Arc::from(namespace)].into()),
    };
    env.state.handle(env.now, Input::Observer(event));
}

fn lose(env: &mut TestEnv, observer: &str) {
    env.state.handle(env.now, Input::Observer(PeerEvent::Lost { observer: observer.into() }));
}

fn failing() -> Verdicts {
    verdicts(thresholds(), Health::Unhealthy)
}

/// The same, by an observer that has seen the standby answer since.
fn failing_and_confirmed() -> Verdicts {
    let mut verdicts = failing();
    for verdict in verdicts.values_mut() {
        verdict.first_failure_at = Some(verdict.since);
        verdict.confirms = ["standby".into()].into();
    }
    verdicts
}

/// The report to the other replicas.
fn told(env: &TestEnv) -> String {
    let text = env.board.report().0;
    match text.split_once(r#","knownUpTo":""#) {
        Some((before, after)) => format!("{before}{}", after.split_once('"').unwrap().1),
        None => text,
    }
}

#[test]
fn a_backend_is_not_healthy_by_the_silence_of_a_replica_that_does_not_know_it() {
    let mut env = TestEnv::with(&quickstart());
    let before = env.store.version;
    hear_up_to(&mut env, "other", &[], Some(before));
    env.run(5.0);
    // The primary logs in with a Secret that cannot be read: this replica never has a verdict of its own.
    env.answer("new", EvidenceClass::ProbeBlocked);
    let (kind, mut object) = backend("new", "192.0.2.9");
    object["spec"]["smtp"]["host"] = json!("192.0.2.9");
    env.store.create(kind, object);
    let created_at = env.now;
    for _ in 0..20 {
        env.run(0.1);
        let health = env.store.get::<SendingBackend>(kind, "new").unwrap().status.and_then(|status| status.health);
        assert_ne!(health, Some(api::Health::Healthy), "nobody has looked at it");
    }
    // The other replica has looked at it in the meantime.
    let version = env.store.version;
    hear_up_to(&mut env, "other", &[], Some(version));
    env.run(1.0);
    let status = env.store.get::<SendingBackend>(kind, "new").unwrap().status.unwrap();
    assert_eq!(status.health, Some(api::Health::Healthy), "{status:?}");
    let since = timestamp(&status.since.unwrap());
    assert!(since >= created_at, "healthy since before it existed: {since:?} {created_at:?}");
}

#[test]
fn an_observer_abstains_where_its_report_has_no_room_and_votes_everywhere_else() {
    let mut env = TestEnv::with(&quickstart());
    hear_nothing_of(&mut env, "other", "evil");
    env.run(5.0);
    env.answer("primary", EvidenceClass::NoAnswer);
    env.run(30.0);
    assert_eq!(env.active(), "primary", "the other one sees it work");
    hear_nothing_of(&mut env, "other", "shop");
    env.run(10.0);
    assert_eq!(env.active(), "standby", "there is no other vote any more");
    hear_nothing_of(&mut env, "other", "evil");
    env.run(1.0);
    let backend = env.store.get::<SendingBackend>("SendingBackend", "primary").unwrap();
    assert_ne!(backend.status.unwrap().health, Some(api::Health::Healthy), "its vote is as new as its word");
}

#[test]
fn a_backend_that_only_this_replica_sees_fail_is_not_left_until_another_does_too_or_is_lost() {
    for (what, turns) in [("the other agrees", true), ("the other is lost", false)] {
        let mut env = TestEnv::with(&quickstart());
        report(&mut env, "other", &[]);
        env.run(5.0);
        env.answer("primary", EvidenceClass::ConnectionRefused);
        env.run(60.0);
        assert_eq!(env.active(), "primary", "{what}");
        if turns {
            report(&mut env, "other", &[("primary", failing())]);
        } else {
            lose(&mut env, "other");
        }
        env.run(1.0);
        assert_eq!(env.active(), "standby", "{what}");
        assert_eq!(env.store.route("orders").last_transition.unwrap().reason, "ConnectionRefused", "{what}");
    }
}

#[test]
fn of_three_two_are_enough_and_one_is_not() {
    let mut env = TestEnv::with(&quickstart());
    report(&mut env, "b", &[]);
    report(&mut env, "c", &[]);
    env.run(5.0);
    report(&mut env, "b", &[("primary", failing())]);
    env.run(60.0);
    assert_eq!(env.active(), "primary");
    report(&mut env, "c", &[("primary", failing())]);
    env.run(1.0);
    assert_eq!(env.active(), "standby", "though this replica sees it answer");
}

#[test]
fn who_does_not_judge_by_a_routes_thresholds_or_knows_nothing_has_no_say() {
    let others = Thresholds { failure: 99, ..thresholds() };
    for (what, said) in [
        ("other thresholds", vec![("primary", verdicts(others, Health::Unhealthy))]),
        ("no verdict", vec![("primary", Verdicts::new())]),
        ("unknown", vec![("primary", verdicts(thresholds(), Health::Unknown))]),
    ] {
        let mut env = TestEnv::with(&quickstart());
        report(&mut env, "other", &said);
        env.run(5.0);
        env.answer("primary", EvidenceClass::ConnectionRefused);
        env.run(4.0);
        assert_eq!(env.active(), "standby", "{what}");
    }
}

#[test]
fn backends_and_thresholds_that_appear_later_are_judged_by_what_was_heard_before() {
    let mut env = TestEnv::with(&quickstart());
    report(&mut env, "other", &[]);
    env.run(5.0);
    env.store.create("SendingBackend", backend("third", "192.0.2.3").1);
    env.edit("FailoverPolicy", "fast", |policy| policy["spec"]["failure"]["consecutive"] = json!(2));
    env.edit("MailRoute", "orders", |route| {
        route["spec"]["backends"] = json!([{"name": "third"}, {"name": "standby"}]);
    });
    env.run(60.0);
    assert_eq!(env.active(), "third");
    env.answer("third", EvidenceClass::ConnectionRefused);
    env.run(60.0);
    assert_eq!(env.active(), "third", "the other replica does not name it: it sees it healthy");
}

#[test]
fn who_sees_everything_fail_that_another_sees_work_has_no_say() {
    let all = [("primary", failing()), ("standby", failing())];
    let mut env = TestEnv::with(&quickstart());
    report(&mut env, "b", &[]);
    report(&mut env, "c", &all);
    env.run(5.0);
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(60.0);
    assert_eq!(env.active(), "primary", "only this replica's evidence counts against that of b");
    report(&mut env, "c", &all[..1]);
    env.run(1.0);
    assert_eq!(env.active(), "standby", "it sees something work again");
}

#[test]
fn when_everything_fails_for_everyone_nothing_moves_until_something_works() {
    let all = [("primary", failing()), ("standby", failing())];
    let mut env = TestEnv::with(&quickstart());
    report(&mut env, "other", &[]);
    env.run(5.0);
    for backend in ["primary", "standby"] {
        env.answer(backend, EvidenceClass::NoAnswer);
    }
    env.run(5.0);
    let status = env.store.route("orders");
    assert_eq!(
        (env.active(), status.waiting_for),
        ("primary".to_owned(), None),
        "the other sees both work: we are suspect"
    );
    report(&mut env, "other", &all);
    env.run(60.0);
    let hold = env.store.route("orders").waiting_for.unwrap();
    assert_eq!((env.active(), hold.reason.as_str()), ("primary".to_owned(), "StormBrake"));
    report(&mut env, "other", &all[..1]);
    env.answer("standby", EvidenceClass::Ok);
    env.run(30.0);
    assert_eq!(env.active(), "standby", "{:?}", env.store.route("orders"));
}

#[test]
fn a_leader_without_a_network_of_its_own_obeys_the_others() {
    for others in [&["other"][..], &["other", "third"]] {
        let mut env = TestEnv::with(&quickstart());
        for observer in others {
            report(&mut env, observer, &[]);
        }
        env.run(5.0);
        for backend in ["primary", "standby"] {
            env.answer(backend, EvidenceClass::NoAnswer);
        }
        env.run(60.0);
        assert_eq!(env.active(), "primary", "it is suspect");
        for observer in others {
            report(&mut env, observer, &[("primary", failing())]);
        }
        env.run(60.0);
        assert_eq!(env.active(), "primary", "nobody has seen the standby answer since");
        for observer in others {
            report(&mut env, observer, &[("primary", failing_and_confirmed())]);
        }
        env.run(1.0);
        assert_eq!(env.active(), "standby", "{others:?}");
    }
}

#[test]
fn a_suspect_replica_names_a_believed_one_to_lead_and_no_other() {
    let all = [("primary", failing()), ("standby", failing())];
    let mut env = TestEnv::with(&quickstart());
    report(&mut env, "a-suspect", &all);
    report(&mut env, "b-fine", &[]);
    env.run(5.0);
    assert_eq!(env.successor, None, "this one is fit itself");
    for backend in ["primary", "standby"] {
        env.answer(backend, EvidenceClass::NoAnswer);
    }
    env.run(5.0);
    assert_eq!(env.successor.as_deref(), Some("b-fine_1"), "by its name in the election");
    let lost = PeerEvent::Lost { observer: "b-fine".into() };
    env.state.handle(env.now, Input::Observer(lost));
    env.run(1.0);
    assert_eq!(env.successor, None, "nobody has a fresh report that contradicts it");
    report(&mut env, "b-fine", &[]);
    env.answer("standby", EvidenceClass::Ok);
    env.run(5.0);
    assert_eq!(env.successor, None, "it reaches something again");
}

#[test]
fn a_replica_that_lags_has_no_vote_and_says_so() {
    let mut env = TestEnv::with(&quickstart());
    report(&mut env, "b", &[]);
    report(&mut env, "c", &[]);
    env.run(5.0);
    assert!(told(&env).contains(r#""complete":true"#));
    let unfit = Unfit::Late(Duration::from_secs(20));
    env.state.handle(env.now, Input::Unfit(Some(unfit)));
    let told_as = |env: &TestEnv| (env.state.metrics.suspects.get(), env.state.metrics.has_vote.get());
    assert_eq!(told_as(&env), (0, 0), "it lags, and its network is not suspect");
    env.answer("primary", EvidenceClass::NoAnswer);
    report(&mut env, "b", &[("primary", failing_and_confirmed())]);
    env.run(10.0);
    assert!(told(&env).contains(r#""complete":false"#), "the others do not count on it");
    assert_eq!(env.active(), "primary", "one of the two that have a vote sees it fail");
    assert_eq!(env.successor, None, "its network leads to the backends");
    env.state.handle(env.now, Input::Unfit(None));
    env.run(5.0);
    assert_eq!(env.active(), "standby", "two of three");
    assert!(told(&env).contains(r#""complete":true"#));
}

#[test]
fn a_replica_that_is_alone_votes_though_it_lags() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.state.handle(env.now, Input::Unfit(Some(Unfit::Late(Duration::from_secs(20)))));
    env.answer("primary", EvidenceClass::NoAnswer);
    env.run(10.0);
    assert_eq!(env.active(), "standby");
}

#[test]
fn an_answer_of_a_standby_that_a_replica_sees_late_is_told_late() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.answer("standby", EvidenceClass::Inconclusive);
    env.answer("primary", EvidenceClass::NoAnswer);
    env.run(10.0);
    let report = told(&env);
    assert!(report.contains("shop/primary") && !report.contains("confirms"), "{report}");
    env.answer("standby", EvidenceClass::Ok);
    env.run(3.0);
    assert!(told(&env).contains(r#""confirms":["standby"]"#), "{}", told(&env));
    env.answer("standby", EvidenceClass::NoAnswer);
    env.run(2.0);
    assert!(!told(&env).contains("confirms"), "doubt is told as well: {}", told(&env));
}

#[test]
fn a_report_confirms_a_standby_of_each_route() {
    let mut objects = quickstart();
    for number in 0..40 {
        objects.push(backend(&format!("s{number:02}"), &format!("192.0.2.{}", 100 + number)));
        let (kind, mut own) = route();
        own["metadata"]["name"] = json!(format!("r{number:02}"));
        own["spec"]["backends"] = json!([{"name": "primary"}, {"name": format!("s{number:02}")}]);
        own["spec"]["outputs"] = json!([{"configMap": {"name": format!("r{number:02}"), "format": "Env"}}]);
        objects.push((kind, own));
    }
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    env.answer("primary", EvidenceClass::NoAnswer);
    env.run(10.0);
    let report = told(&env);
    assert!((0..40).all(|number| report.contains(&format!(r#""s{number:02}""#))), "{report}");
}

#[test]
fn a_standby_replica_tells_what_it_sees_and_only_that() {
    let mut env = TestEnv::new();
    let settings = Settings {
        instance: "standby".to_owned(),
        installation: "ops/operator".into(),
        cluster_domain: "cluster.local".to_owned(),
        lease_duration: Duration::from_secs(15),
        guard: DialGuard::default(),
        reports: None,
        jobs: None,
        dns_owner: "test".into(),
        default_notifications: None,
    };
    env.state = ControllerState::new(settings, Metrics::new(&mut Registry::default()));
    for (kind, object) in quickstart() {
        env.store.create(kind, object);
    }
    env.watch();
    env.settle();
    assert_eq!(told(&env), r#"{"complete":false}"#);
    for source in Source::ESSENTIAL {
        env.state.handle(env.now, Input::Synced(source));
    }
    env.settle();
    assert_eq!(told(&env), r#"{"complete":false,"silent":["shop"]}"#, "nothing was probed yet");
    env.run(5.0);
    assert_eq!(told(&env), r#"{"complete":true}"#);
    // What others see is not repeated.
    report(&mut env, "other", &[("standby", failing())]);
    env.answer("primary", EvidenceClass::ConnectionRefused);
    env.run(5.0);
    let report = told(&env);
    assert!(report.contains(r#""shop/primary":{"3/3":{"health":"Unhealthy""#), "{report}");
    assert!(!report.contains("shop/standby"), "{report}");
    // It has seen the standby answer since, which confirms it to a leader that cannot see that.
    assert!(report.contains(r#""confirms":["standby"]"#), "{report}");
    assert_eq!(env.store.writes, 0);
    let before = env.board.report().2;
    env.run(60.0);
    assert_eq!(env.board.report().2, before, "nothing is told twice");
    env.answer("primary", EvidenceClass::Ok);
    env.run(5.0);
    assert_eq!(told(&env), r#"{"complete":true}"#);
    // The prober says nothing of it any more, and nothing else happens.
    env.targets.retain(|key, _| &*key.backend.name != "primary");
    env.run(60.0);
    let report = told(&env);
    assert!(report.contains(r#""shop/primary":{"3/3":{"health":"Unknown""#) && report.contains("Stale"), "{report}");
}

#[test]
fn of_a_spec_that_cannot_be_read_nothing_is_told_but_that_and_of_what_is_gone_nothing() {
    let mut env = TestEnv::with(&quickstart());
    env.run(5.0);
    env.edit("SendingBackend", "primary", |backend| backend["spec"]["smtp"]["port"] = json!("x"));
    env.run(1.0);
    assert_eq!(told(&env), r#"{"complete":true,"backends":{"shop/primary":{}}}"#);
    env.edit("SendingBackend", "primary", |backend| backend["spec"]["smtp"]["port"] = json!(25));
    env.run(1.0);
    assert_eq!(told(&env), r#"{"complete":true}"#);
    env.delete("SendingBackend", "primary");
    env.delete("MailRoute", "orders");
    env.run(1.0);
    assert_eq!(told(&env), r#"{"complete":true}"#, "what is gone is not told of");
}

#[test]
fn nothing_is_decided_before_the_others_were_listened_to() {
    let mut env = TestEnv::new();
    let settings = Settings {
        instance: "test".to_owned(),
        installation: "ops/operator".into(),
        cluster_domain: "cluster.local".to_owned(),
        lease_duration: Duration::from_secs(15),
        guard: DialGuard::default(),
        reports: None,
        jobs: None,
        dns_owner: "test".into(),
        default_notifications: None,
    };
    env.state = ControllerState::new(settings, Metrics::new(&mut Registry::default()));
    env.state.handle(env.now, Input::Leading(true));
    for (kind, object) in quickstart() {
        env.store.create(kind, object);
    }
    env.sync();
    env.run(5.0);
    assert_eq!(env.store.writes, 0);
    env.state.handle(env.now, Input::Observer(PeerEvent::Listed));
    env.run(1.0);
    assert_eq!(env.active(), "primary");
}
