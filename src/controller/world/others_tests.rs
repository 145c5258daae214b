//! What a replica tells the others and makes of what they tell.

use std::sync::Arc;

use prometheus_client::registry::Registry;
use serde_json::json;

use super::testing::*;
use super::{Settings, World};
use crate::controller::input::Input;
use crate::controller::metrics::Metrics;
use crate::observers::{BackendVerdicts, PeerEvent, Verdicts};
use crate::watch::Source;
use mail_failover_core::engine::{Health, ObserverVerdict};
use mail_failover_core::model::{EvidenceClass, ObjectKey, Thresholds, Timestamp};

/// The thresholds of the policy of the quickstart.
fn thresholds() -> Thresholds {
    Thresholds { failure: 3, recovery: 3, ..Thresholds::default() }
}

fn verdicts(of: Thresholds, health: Health) -> Verdicts {
    let class = if health == Health::Unhealthy { EvidenceClass::NoAnswer } else { EvidenceClass::Ok };
    let sighting =
        ObserverVerdict { health, since: Timestamp::from_micros(1_000_000_000), class, first_failure_at: None };
    Verdicts::from([(of.to_string().into(), sighting)])
}

fn hear(stage: &mut Stage, observer: &str, said: &[(&str, Verdicts)]) {
    let key = |name: &str| ObjectKey::new("shop", name);
    let sightings: BackendVerdicts = said.iter().map(|(name, verdicts)| (key(name), verdicts.clone())).collect();
    let hearing = PeerEvent::Heard { observer: observer.into(), sightings: Arc::new(sightings) };
    stage.world.take(stage.now, Input::Observer(hearing));
}

fn lose(stage: &mut Stage, observer: &str) {
    stage.world.take(stage.now, Input::Observer(PeerEvent::Lost { observer: observer.into() }));
}

fn failing() -> Verdicts {
    verdicts(thresholds(), Health::Unhealthy)
}

/// What the others are told.
fn told(stage: &Stage) -> String {
    stage.board.report().0
}

#[test]
fn a_backend_that_only_this_replica_sees_fail_is_not_left_until_another_does_too_or_is_lost() {
    for (what, turns) in [("the other agrees", true), ("the other is lost", false)] {
        let mut stage = Stage::with(&quickstart());
        hear(&mut stage, "other", &[]);
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::ConnectionRefused);
        stage.run(60.0);
        assert_eq!(stage.active(), "primary", "{what}");
        if turns {
            hear(&mut stage, "other", &[("primary", failing())]);
        } else {
            lose(&mut stage, "other");
        }
        stage.run(1.0);
        assert_eq!(stage.active(), "standby", "{what}");
        assert_eq!(stage.store.route("orders").last_transition.unwrap().reason, "ConnectionRefused", "{what}");
    }
}

#[test]
fn of_three_two_are_enough_and_one_is_not() {
    let mut stage = Stage::with(&quickstart());
    hear(&mut stage, "b", &[]);
    hear(&mut stage, "c", &[]);
    stage.run(5.0);
    hear(&mut stage, "b", &[("primary", failing())]);
    stage.run(60.0);
    assert_eq!(stage.active(), "primary");
    hear(&mut stage, "c", &[("primary", failing())]);
    stage.run(1.0);
    assert_eq!(stage.active(), "standby", "though this replica sees it answer");
}

#[test]
fn who_does_not_judge_by_a_routes_thresholds_or_knows_nothing_has_no_say() {
    let others = Thresholds { failure: 99, ..thresholds() };
    for (what, said) in [
        ("other thresholds", vec![("primary", verdicts(others, Health::Unhealthy))]),
        ("no verdict", vec![("primary", Verdicts::new())]),
        ("unknown", vec![("primary", verdicts(thresholds(), Health::Unknown))]),
    ] {
        let mut stage = Stage::with(&quickstart());
        hear(&mut stage, "other", &said);
        stage.run(5.0);
        stage.answer("primary", EvidenceClass::ConnectionRefused);
        stage.run(4.0);
        assert_eq!(stage.active(), "standby", "{what}");
    }
}

#[test]
fn backends_and_thresholds_that_appear_later_are_judged_by_what_was_heard_before() {
    let mut stage = Stage::with(&quickstart());
    hear(&mut stage, "other", &[]);
    stage.run(5.0);
    stage.store.create("SendingBackend", backend("third", "192.0.2.3").1);
    stage.edit("FailoverPolicy", "fast", |policy| policy["spec"]["failure"]["consecutive"] = json!(2));
    stage.edit("MailRoute", "orders", |route| {
        route["spec"]["backends"] = json!([{"name": "third"}, {"name": "standby"}]);
    });
    stage.run(60.0);
    assert_eq!(stage.active(), "third");
    stage.answer("third", EvidenceClass::ConnectionRefused);
    stage.run(60.0);
    assert_eq!(stage.active(), "third", "the other replica does not name it: it sees it healthy");
}

#[test]
fn who_sees_everything_fail_that_another_sees_work_has_no_say() {
    let all = [("primary", failing()), ("standby", failing())];
    let mut stage = Stage::with(&quickstart());
    hear(&mut stage, "b", &[]);
    hear(&mut stage, "c", &all);
    stage.run(5.0);
    stage.answer("primary", EvidenceClass::ConnectionRefused);
    stage.run(60.0);
    assert_eq!(stage.active(), "primary", "only this replica's evidence counts against that of b");
    hear(&mut stage, "c", &all[..1]);
    stage.run(1.0);
    assert_eq!(stage.active(), "standby", "it sees something work again");
}

#[test]
fn when_everything_fails_for_everyone_nothing_moves_until_something_works() {
    let all = [("primary", failing()), ("standby", failing())];
    let mut stage = Stage::with(&quickstart());
    hear(&mut stage, "other", &[]);
    stage.run(5.0);
    for backend in ["primary", "standby"] {
        stage.answer(backend, EvidenceClass::NoAnswer);
    }
    stage.run(5.0);
    let status = stage.store.route("orders");
    assert_eq!(
        (stage.active(), status.waiting_for),
        ("primary".to_owned(), None),
        "the other sees both work: we are suspect"
    );
    hear(&mut stage, "other", &all);
    stage.run(60.0);
    let hold = stage.store.route("orders").waiting_for.unwrap();
    assert_eq!((stage.active(), hold.reason.as_str()), ("primary".to_owned(), "StormBrake"));
    hear(&mut stage, "other", &all[..1]);
    stage.answer("standby", EvidenceClass::Ok);
    stage.run(30.0);
    assert_eq!(stage.active(), "standby", "{:?}", stage.store.route("orders"));
}

#[test]
fn a_standby_replica_tells_what_it_sees_and_only_that() {
    let mut stage = Stage::new();
    let settings = Settings {
        instance: "standby".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        reports: None,
        jobs: None,
    };
    stage.world = World::new(settings, Metrics::new(&mut Registry::default()));
    for (kind, object) in quickstart() {
        stage.store.create(kind, object);
    }
    stage.watch();
    stage.settle();
    assert_eq!(told(&stage), r#"{"complete":false}"#);
    for source in Source::ESSENTIAL {
        stage.world.take(stage.now, Input::Synced(source));
    }
    stage.settle();
    assert_eq!(told(&stage), r#"{"complete":false}"#, "nothing was probed yet");
    stage.run(5.0);
    assert_eq!(told(&stage), r#"{"complete":true}"#);
    // What others see is not repeated.
    hear(&mut stage, "other", &[("standby", failing())]);
    stage.answer("primary", EvidenceClass::ConnectionRefused);
    stage.run(5.0);
    let report = told(&stage);
    assert!(report.contains(r#""shop/primary":{"3/3":{"health":"Unhealthy""#), "{report}");
    assert!(!report.contains("standby"), "{report}");
    assert_eq!(stage.store.writes, 0);
    let before = stage.board.report().2;
    stage.run(60.0);
    assert_eq!(stage.board.report().2, before, "nothing is told twice");
    stage.answer("primary", EvidenceClass::Ok);
    stage.run(5.0);
    assert_eq!(told(&stage), r#"{"complete":true}"#);
    // The prober says nothing of it any more, and nothing else happens.
    stage.targets.retain(|key, _| &*key.backend.name != "primary");
    stage.run(60.0);
    let report = told(&stage);
    assert!(report.contains(r#""shop/primary":{"3/3":{"health":"Unknown""#) && report.contains("Stale"), "{report}");
}

#[test]
fn of_a_spec_that_cannot_be_read_nothing_is_told_but_that_and_of_what_is_gone_nothing() {
    let mut stage = Stage::with(&quickstart());
    stage.run(5.0);
    stage.edit("SendingBackend", "primary", |backend| backend["spec"]["smtp"]["port"] = json!("x"));
    stage.run(1.0);
    assert_eq!(told(&stage), r#"{"complete":true,"backends":{"shop/primary":{}}}"#);
    stage.edit("SendingBackend", "primary", |backend| backend["spec"]["smtp"]["port"] = json!(25));
    stage.run(1.0);
    assert_eq!(told(&stage), r#"{"complete":true}"#);
    stage.delete("SendingBackend", "primary");
    stage.delete("MailRoute", "orders");
    stage.run(1.0);
    assert_eq!(told(&stage), r#"{"complete":true}"#, "what is gone is not told of");
}

#[test]
fn nothing_is_decided_before_the_others_were_listened_to() {
    let mut stage = Stage::new();
    let settings =
        Settings { instance: "test".to_owned(), cluster_domain: "cluster.local".to_owned(), reports: None, jobs: None };
    stage.world = World::new(settings, Metrics::new(&mut Registry::default()));
    stage.world.take(stage.now, Input::Leading(true));
    for (kind, object) in quickstart() {
        stage.store.create(kind, object);
    }
    stage.sync();
    stage.run(5.0);
    assert_eq!(stage.store.writes, 0);
    stage.world.take(stage.now, Input::Observer(PeerEvent::Listed));
    stage.run(1.0);
    assert_eq!(stage.active(), "primary");
}
