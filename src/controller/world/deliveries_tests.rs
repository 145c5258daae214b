//! What agents tell of real mail, and what becomes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::testing::*;
use crate::controller::input::Input;
use crate::observers::PeerEvent;
use crate::reports::Caller;
use mail_failover_api::{Health, SendingBackend};
use mail_failover_contract::document::{Document, KEY, OperatorEndpoint, RouteReference};
use mail_failover_core::model::{
    Agent, AgentReport, BackendDeliveries, DeliveryVerdict, EvidenceClass, FailingDeliveries, ObjectKey, SwitchedMail,
};
use mail_failover_resolve::time::timestamp;

/// The quickstart with an output for agents.
fn stage() -> Stage {
    let mut objects = quickstart();
    for (kind, object) in &mut objects {
        if *kind == "MailRoute" {
            let agent = json!({"agent": {"configMap": "orders-agent", "serviceAccountName": "postfix"}});
            object["spec"]["outputs"].as_array_mut().unwrap().push(agent);
        }
    }
    let mut stage = Stage::with(&objects);
    stage.run(5.0);
    assert_eq!(stage.active(), "primary");
    stage
}

/// Deliveries have failed for two seconds.
fn failing(stage: &Stage, class: EvidenceClass) -> DeliveryVerdict {
    DeliveryVerdict::Failing(FailingDeliveries {
        class,
        message: "554 Sending paused".into(),
        first_failure_at: stage.now - Duration::from_secs(2),
        last_failure_at: stage.now,
    })
}

fn report(stage: &Stage, agent: &str, sequence: u64, primary: DeliveryVerdict) -> AgentReport {
    let deliveries = |word| BackendDeliveries {
        word,
        is_left: false,
        sent: sequence,
        deferred: 0,
        bounced: 0,
        possible_duplicates: 0,
    };
    AgentReport {
        agent: Agent { route: ObjectKey::new("shop", "orders"), name: agent.into() },
        route_uid: stage.store.objects[&("MailRoute", "orders".to_owned())]["metadata"]["uid"].as_str().unwrap().into(),
        process: "p".into(),
        sequence,
        backends: [("primary".into(), deliveries(primary)), ("standby".into(), deliveries(DeliveryVerdict::Passing))]
            .into(),
        last_switch: None,
    }
}

fn tell(stage: &mut Stage, report: AgentReport) {
    stage.world.take(stage.now, Input::AgentReport(Box::new(report)));
}

fn say(stage: &mut Stage, agent: &str, sequence: u64, primary: DeliveryVerdict) {
    tell(stage, report(stage, agent, sequence, primary));
}

fn primary(stage: &Stage) -> mail_failover_api::SendingBackendStatus {
    stage.store.get::<SendingBackend>("SendingBackend", "primary").unwrap().status.unwrap()
}

fn verdict(stage: &Stage, probe: &str) -> Option<Health> {
    primary(stage).probes.into_iter().find(|of| of.name == probe).map(|of| of.health)
}

#[test]
fn a_route_switches_on_what_mail_met_at_once_and_returns_a_cooldown_and_a_soak_later() {
    let mut stage = stage();
    assert_eq!(verdict(&stage, "deliveries"), None);
    let word = failing(&stage, EvidenceClass::AccountPaused);
    let (failed_at, began_at) = (stage.now, stage.now - Duration::from_secs(2));
    say(&mut stage, "a", 1, word);
    // Without a tick of time: no probe has been round.
    stage.settle();
    assert_eq!(stage.active(), "standby");
    let last = stage.store.route("orders").last_transition.unwrap();
    assert_eq!((last.reason.as_str(), timestamp(&last.first_evidence_at.unwrap())), ("AccountPaused", began_at));
    assert_eq!(
        (verdict(&stage, "deliveries"), verdict(&stage, "smtp")),
        (Some(Health::Unhealthy), Some(Health::Healthy))
    );
    assert_eq!(primary(&stage).health, Some(Health::Unhealthy));
    assert_eq!(primary(&stage).message.as_deref(), Some("deliveries: 554 Sending paused"));
    // The agent has nothing more to send there. The policy's cooldown of 20 s is shorter than what a word counts at least: 30 s.
    say(&mut stage, "a", 2, DeliveryVerdict::Silent);
    stage.run(29.0);
    assert_eq!(verdict(&stage, "deliveries"), Some(Health::Unhealthy));
    stage.run(2.0);
    assert_eq!(verdict(&stage, "deliveries"), Some(Health::Healthy));
    assert_eq!(stage.active(), "standby", "it has been healthy for a moment only");
    // A soak of 30 s.
    stage.run(30.0);
    assert_eq!(stage.active(), "primary");
    let back = timestamp(&stage.store.route("orders").last_transition.unwrap().decided_at);
    assert!(back.since(failed_at) >= Duration::from_mins(1), "{:?}", back.since(failed_at));
    let writes = stage.store.writes;
    stage.run(120.0);
    assert_eq!(stage.store.writes, writes, "quiet when nothing happens: {:?}", &stage.store.log[writes..]);
}

#[test]
fn words_of_a_minority_of_recipients_of_an_old_route_or_of_strangers_move_nothing() {
    for what in ["minority", "recipient", "other uid", "overtaken", "not listed"] {
        let mut stage = stage();
        let paused = failing(&stage, EvidenceClass::AccountPaused);
        match what {
            "minority" => {
                say(&mut stage, "b", 1, DeliveryVerdict::Passing);
                say(&mut stage, "c", 1, DeliveryVerdict::Passing);
                say(&mut stage, "a", 1, paused);
            }
            "recipient" => {
                let word = failing(&stage, EvidenceClass::RecipientLevel);
                say(&mut stage, "a", 1, word);
            }
            "other uid" => {
                let report = AgentReport { route_uid: "other".to_owned(), ..report(&stage, "a", 1, paused) };
                tell(&mut stage, report);
            }
            "overtaken" => {
                say(&mut stage, "a", 7, DeliveryVerdict::Passing);
                say(&mut stage, "a", 6, paused);
            }
            _ => {
                let mut report = report(&stage, "a", 1, paused);
                let primary = report.backends.remove("primary").unwrap();
                report.backends.insert("stranger".into(), primary);
                tell(&mut stage, report);
            }
        }
        stage.run(5.0);
        assert_eq!((stage.active().as_str(), verdict(&stage, "deliveries")), ("primary", None), "{what}");
    }
}

#[test]
fn a_restarted_agent_is_heard_though_it_counts_from_the_beginning() {
    let mut stage = stage();
    say(&mut stage, "a", 7, DeliveryVerdict::Passing);
    let word = failing(&stage, EvidenceClass::AccountPaused);
    let anew = AgentReport { process: "q".into(), ..report(&stage, "a", 1, word) };
    tell(&mut stage, anew);
    stage.settle();
    assert_eq!(stage.active(), "standby");
}

#[test]
fn agents_make_no_backend_healthy_that_probes_see_fail() {
    let mut stage = stage();
    stage.answer("primary", EvidenceClass::ConnectionRefused);
    for sequence in 1..20 {
        say(&mut stage, "a", sequence, DeliveryVerdict::Passing);
        stage.run(1.0);
    }
    assert_eq!((stage.active().as_str(), primary(&stage).health), ("standby", Some(Health::Unhealthy)));
}

#[test]
fn heartbeats_write_nothing() {
    let mut stage = stage();
    for (sequence, word) in
        (1..8).zip([DeliveryVerdict::Passing, failing(&stage, EvidenceClass::NoAnswer)].into_iter().cycle())
    {
        let mut heartbeat = word;
        if let DeliveryVerdict::Failing(failing) = &mut heartbeat {
            failing.last_failure_at = stage.now;
        }
        // Two others pass.
        say(&mut stage, "b", sequence, DeliveryVerdict::Passing);
        say(&mut stage, "c", sequence, DeliveryVerdict::Passing);
        say(&mut stage, "a", sequence, heartbeat);
        let writes = stage.store.writes;
        stage.run(10.0);
        assert_eq!(stage.store.writes, writes, "{:?}", &stage.store.log[writes..]);
    }
}

#[test]
fn a_new_leader_goes_by_what_the_old_one_was_told() {
    let mut stage = stage();
    let word = failing(&stage, EvidenceClass::AccountPaused);
    say(&mut stage, "a", 1, word);
    stage.run(5.0);
    let before = primary(&stage);
    stage.restart();
    stage.run(5.0);
    assert_eq!(primary(&stage), before, "it writes nothing anew");
    assert_eq!(stage.active(), "standby");
    stage.run(26.0);
    assert_eq!(verdict(&stage, "deliveries"), Some(Health::Healthy));
}

#[test]
fn the_first_message_on_the_new_way_is_written_down_once() {
    let mut stage = stage();
    let word = failing(&stage, EvidenceClass::AccountPaused);
    say(&mut stage, "a", 1, word);
    stage.run(1.0);
    let id = stage.store.route("orders").last_transition.unwrap().id;
    let switched = |stage: &Stage, agent, sequence, transition, at| AgentReport {
        last_switch: Some(SwitchedMail {
            transition: Some(transition),
            queue_before: 120,
            queue_after: 3,
            first_delivery_at: at,
            first_delivery_after: Some(Duration::from_millis(210)),
            possible_duplicates: 0,
        }),
        ..report(stage, agent, sequence, DeliveryVerdict::Silent)
    };
    let first_delivery_at = |stage: &Stage| {
        let status = stage.store.route("orders");
        assert_eq!(status.last_transition.as_ref(), status.history.first());
        status.last_transition.unwrap().first_delivery_at.map(|at| timestamp(&at))
    };
    let out = stage.now;
    for (sequence, transition, at, wanted) in
        [(2, id, None, None), (3, id + 1, Some(out), None), (4, id, Some(out), Some(out))]
    {
        let report = switched(&stage, "a", sequence, transition, at);
        tell(&mut stage, report);
        stage.run(1.0);
        assert_eq!(first_delivery_at(&stage), wanted, "{sequence}");
    }
    let writes = stage.store.writes;
    let later = switched(&stage, "b", 1, id, Some(out + Duration::from_millis(5)));
    tell(&mut stage, later);
    stage.run(1.0);
    assert_eq!((first_delivery_at(&stage), stage.store.writes), (Some(out), writes), "the first report wins");
    stage.restart();
    stage.run(1.0);
    assert_eq!(first_delivery_at(&stage), Some(out));
}

#[test]
fn who_may_report_follows_the_route() {
    let mut stage = stage();
    let caller = |name: &str| Caller { username: format!("system:serviceaccount:shop:{name}").into(), pod: None };
    let admits = |stage: &Stage, name: &str| {
        let uid = stage.store.objects.get(&("MailRoute", "orders".to_owned()));
        let uid = uid.map_or("gone", |route| route["metadata"]["uid"].as_str().unwrap());
        let reference = RouteReference { namespace: "shop".into(), name: "orders".into(), uid: uid.into() };
        stage.directory.admit(&caller(name), &reference).is_ok()
    };
    assert!(admits(&stage, "postfix") && !admits(&stage, "default"));
    stage.edit("MailRoute", "orders", |route| {
        route["spec"]["outputs"][2]["agent"].as_object_mut().unwrap().remove("serviceAccountName");
    });
    stage.run(1.0);
    assert!(!admits(&stage, "postfix") && admits(&stage, "default"));
    stage.delete("MailRoute", "orders");
    stage.run(1.0);
    assert!(!admits(&stage, "default"));
}

#[test]
fn documents_name_every_replica_that_takes_reports() {
    let mut stage = stage();
    let endpoint =
        |last: u8| OperatorEndpoint { address: format!("192.0.2.{last}:8443"), certificate_sha256: "0a".repeat(32) };
    let told = |stage: &Stage| -> Vec<String> {
        let config_map: k8s_openapi::api::core::v1::ConfigMap = stage.store.get("ConfigMap", "orders-agent").unwrap();
        let document: Document = serde_json::from_str(&config_map.data.unwrap()[KEY]).unwrap();
        document.operators.into_iter().map(|endpoint| endpoint.address).collect()
    };
    let hear = |stage: &mut Stage, observer: &str, endpoint| {
        let hearing = PeerEvent::TakesReports { observer: observer.into(), endpoint };
        stage.world.take(stage.now, Input::Observer(hearing));
        stage.run(1.0);
    };
    assert!(told(&stage).is_empty());
    hear(&mut stage, "b", Some(endpoint(9)));
    hear(&mut stage, "c", Some(endpoint(2)));
    assert_eq!(told(&stage), ["192.0.2.2:8443", "192.0.2.9:8443"]);
    let writes = stage.store.writes;
    hear(&mut stage, "c", Some(endpoint(2)));
    stage.run(60.0);
    assert_eq!(stage.store.writes, writes);
    hear(&mut stage, "b", None);
    assert_eq!(told(&stage), ["192.0.2.2:8443"]);
}

#[test]
fn of_two_replicas_both_must_have_been_told() {
    let mut stage = stage();
    let hearing = PeerEvent::Heard { observer: "other".into(), sightings: BTreeMap::new().into() };
    stage.world.take(stage.now, Input::Observer(hearing));
    stage.run(1.0);
    let word = failing(&stage, EvidenceClass::AccountPaused);
    say(&mut stage, "a", 1, word);
    stage.run(1.0);
    assert_eq!(stage.active(), "primary");
    let (told, _, _) = stage.board.report();
    assert!(told.contains("shop/primary") && told.contains("AccountPaused"), "{told}");
}
