//! Tests of agents' reports about real mail, and of their effects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::json;

use super::testing::*;
use crate::controller::input::Input;
use crate::observers::PeerEvent;
use crate::reports::Caller;
use mail_failover_api::{Health, SendingBackend};
use mail_failover_contract::document::{Document, KEY, OperatorEndpoint, RouteReference};
use mail_failover_core::model::{
    Agent, AgentReport, BackendDeliveries, DeliveryVerdict, EvidenceClass, FailingDeliveries, KeptMail, ObjectKey,
    QueuedMail, SwitchedMail, ThrottledDeliveries,
};
use mail_failover_resolve::time::timestamp;

/// The quickstart with an output for agents.
pub(super) fn env() -> TestEnv {
    let mut objects = quickstart();
    for (kind, object) in &mut objects {
        if *kind == "MailRoute" {
            let agent = json!({"agent": {"configMap": "orders-agent", "serviceAccountName": "postfix"}});
            object["spec"]["outputs"].as_array_mut().unwrap().push(agent);
        }
    }
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    assert_eq!(env.active(), "primary");
    env
}

/// Deliveries have failed for two seconds.
pub(super) fn failing(env: &TestEnv, class: EvidenceClass) -> DeliveryVerdict {
    DeliveryVerdict::Failing(FailingDeliveries {
        class,
        message: "554 Sending paused".into(),
        first_failure_at: env.now - Duration::from_secs(2),
        last_failure_at: env.now,
        stage: None,
    })
}

fn report(env: &TestEnv, agent: &str, sequence: u64, primary: DeliveryVerdict) -> AgentReport {
    let deliveries = |verdict| BackendDeliveries {
        verdict,
        is_bypassed: false,
        sent: sequence,
        deferred: 0,
        bounced: 0,
        possible_duplicates: 0,
        diverted: 0,
    };
    AgentReport {
        agent: Agent { route: ObjectKey::new("shop", "orders"), name: agent.into() },
        route_uid: env.store.objects[&("MailRoute", "orders".to_owned())]["metadata"]["uid"].as_str().unwrap().into(),
        process: "p".into(),
        sequence,
        tells_accounts_apart: false,
        backends: [("primary".into(), deliveries(primary)), ("standby".into(), deliveries(DeliveryVerdict::Passing))]
            .into(),
        last_switch: None,
        kept: None,
        queue: None,
        drill: None,
    }
}

fn tell(env: &mut TestEnv, report: AgentReport) {
    env.state.handle(env.now, Input::AgentReport(Box::new(report)));
}

pub(super) fn say(env: &mut TestEnv, agent: &str, sequence: u64, primary: DeliveryVerdict) {
    tell(env, report(env, agent, sequence, primary));
}

pub(super) fn primary(env: &TestEnv) -> mail_failover_api::SendingBackendStatus {
    env.store.get::<SendingBackend>("SendingBackend", "primary").unwrap().status.unwrap()
}

pub(super) fn verdict(env: &TestEnv, probe: &str) -> Option<Health> {
    primary(env).probes.into_iter().find(|of| of.name == probe).map(|of| of.health)
}

#[test]
fn a_route_switches_on_what_mail_met_at_once_and_returns_a_cooldown_and_a_soak_later() {
    let mut env = env();
    assert_eq!(verdict(&env, "deliveries"), None);
    let word = failing(&env, EvidenceClass::AccountPaused);
    let (failed_at, began_at) = (env.now, env.now - Duration::from_secs(2));
    say(&mut env, "a", 1, word);
    // Without a tick of time: no probe has been round.
    env.settle();
    assert_eq!(env.active(), "standby");
    let last = env.store.route("orders").last_transition.unwrap();
    assert_eq!((last.reason.as_str(), timestamp(&last.first_evidence_at.unwrap())), ("AccountPaused", began_at));
    assert_eq!((verdict(&env, "deliveries"), verdict(&env, "smtp")), (Some(Health::Unhealthy), Some(Health::Healthy)));
    assert_eq!(primary(&env).health, Some(Health::Unhealthy));
    assert_eq!(primary(&env).message.as_deref(), Some("deliveries: 554 Sending paused"));
    // The agent has nothing more to send there. The policy's cooldown of 20 s is shorter than what a word counts at
    // least: 30 s.
    say(&mut env, "a", 2, DeliveryVerdict::Silent);
    env.run(29.0);
    assert_eq!(verdict(&env, "deliveries"), Some(Health::Unhealthy));
    env.run(2.0);
    assert_eq!(verdict(&env, "deliveries"), Some(Health::Healthy));
    assert_eq!(env.active(), "standby", "it has been healthy for a moment only");
    // A soak of 30 s.
    env.run(30.0);
    assert_eq!(env.active(), "primary");
    let back = timestamp(&env.store.route("orders").last_transition.unwrap().decided_at);
    assert!(back.since(failed_at) >= Duration::from_mins(1), "{:?}", back.since(failed_at));
    let writes = env.store.writes;
    env.run(120.0);
    assert_eq!(env.store.writes, writes, "quiet when nothing happens: {:?}", &env.store.log[writes..]);
}

#[test]
fn words_of_a_minority_of_recipients_of_an_old_route_or_of_strangers_move_nothing() {
    for what in ["minority", "recipient", "other uid", "overtaken", "not listed"] {
        let mut env = env();
        let paused = failing(&env, EvidenceClass::AccountPaused);
        match what {
            "minority" => {
                say(&mut env, "b", 1, DeliveryVerdict::Passing);
                say(&mut env, "c", 1, DeliveryVerdict::Passing);
                say(&mut env, "a", 1, paused);
            }
            "recipient" => {
                let word = failing(&env, EvidenceClass::RecipientLevel);
                say(&mut env, "a", 1, word);
            }
            "other uid" => {
                let report = AgentReport { route_uid: "other".to_owned(), ..report(&env, "a", 1, paused) };
                tell(&mut env, report);
            }
            "overtaken" => {
                say(&mut env, "a", 7, DeliveryVerdict::Passing);
                say(&mut env, "a", 6, paused);
            }
            _ => {
                let mut report = report(&env, "a", 1, paused);
                let primary = report.backends.remove("primary").unwrap();
                report.backends.insert("stranger".into(), primary);
                tell(&mut env, report);
            }
        }
        env.run(5.0);
        assert_eq!((env.active().as_str(), verdict(&env, "deliveries")), ("primary", None), "{what}");
    }
}

#[test]
fn a_restarted_agent_is_heard_though_it_counts_from_the_beginning() {
    let mut env = env();
    say(&mut env, "a", 7, DeliveryVerdict::Passing);
    let word = failing(&env, EvidenceClass::AccountPaused);
    let anew = AgentReport { process: "q".into(), ..report(&env, "a", 1, word) };
    tell(&mut env, anew);
    env.settle();
    assert_eq!(env.active(), "standby");
}

#[test]
fn agents_make_no_backend_healthy_that_probes_see_fail() {
    let mut env = env();
    env.answer("primary", EvidenceClass::ConnectionRefused);
    for sequence in 1..20 {
        say(&mut env, "a", sequence, DeliveryVerdict::Passing);
        env.run(1.0);
    }
    assert_eq!((env.active().as_str(), primary(&env).health), ("standby", Some(Health::Unhealthy)));
}

#[test]
fn heartbeats_write_nothing() {
    let mut env = env();
    for (sequence, word) in
        (1..8).zip([DeliveryVerdict::Passing, failing(&env, EvidenceClass::NoAnswer)].into_iter().cycle())
    {
        let mut heartbeat = word;
        if let DeliveryVerdict::Failing(failing) = &mut heartbeat {
            failing.last_failure_at = env.now;
        }
        // Two others pass.
        say(&mut env, "b", sequence, DeliveryVerdict::Passing);
        say(&mut env, "c", sequence, DeliveryVerdict::Passing);
        say(&mut env, "a", sequence, heartbeat);
        let writes = env.store.writes;
        env.run(10.0);
        assert_eq!(env.store.writes, writes, "{:?}", &env.store.log[writes..]);
    }
}

#[test]
fn a_new_leader_goes_by_what_the_old_one_was_told() {
    let mut env = env();
    let word = failing(&env, EvidenceClass::AccountPaused);
    say(&mut env, "a", 1, word);
    env.run(5.0);
    let before = primary(&env);
    env.restart();
    env.run(5.0);
    assert_eq!(primary(&env), before, "it writes nothing anew");
    assert_eq!(env.active(), "standby");
    env.run(26.0);
    assert_eq!(verdict(&env, "deliveries"), Some(Health::Healthy));
}

#[test]
fn the_first_message_on_the_new_way_is_written_down_once() {
    let mut env = env();
    let word = failing(&env, EvidenceClass::AccountPaused);
    say(&mut env, "a", 1, word);
    env.run(1.0);
    let id = env.store.route("orders").last_transition.unwrap().id;
    let switched = |env: &TestEnv, agent, sequence, transition, at| AgentReport {
        last_switch: Some(SwitchedMail {
            transition: Some(transition),
            queue_before: 120,
            queue_after: 3,
            first_delivery_at: at,
            first_delivery_after: Some(Duration::from_millis(210)),
            possible_duplicates: 0,
        }),
        ..report(env, agent, sequence, DeliveryVerdict::Silent)
    };
    let first_delivery_at = |env: &TestEnv| {
        let status = env.store.route("orders");
        assert_eq!(status.last_transition.as_ref(), status.history.first());
        status.last_transition.unwrap().first_delivery_at.map(|at| timestamp(&at))
    };
    let out = env.now;
    for (sequence, transition, at, wanted) in
        [(2, id, None, None), (3, id + 1, Some(out), None), (4, id, Some(out), Some(out))]
    {
        let report = switched(&env, "a", sequence, transition, at);
        tell(&mut env, report);
        env.run(1.0);
        assert_eq!(first_delivery_at(&env), wanted, "{sequence}");
    }
    let writes = env.store.writes;
    let later = switched(&env, "b", 1, id, Some(out + Duration::from_millis(5)));
    tell(&mut env, later);
    env.run(1.0);
    assert_eq!((first_delivery_at(&env), env.store.writes), (Some(out), writes), "the first report wins");
    env.restart();
    env.run(1.0);
    assert_eq!(first_delivery_at(&env), Some(out));
}

#[test]
fn who_may_report_follows_the_route() {
    let mut env = env();
    let caller = |name: &str| Caller { username: format!("system:serviceaccount:shop:{name}").into(), pod: None };
    let admits = |env: &TestEnv, name: &str| {
        let uid = env.store.objects.get(&("MailRoute", "orders".to_owned()));
        let uid = uid.map_or("gone", |route| route["metadata"]["uid"].as_str().unwrap());
        let reference = RouteReference { namespace: "shop".into(), name: "orders".into(), uid: uid.into() };
        env.directory.admit(&caller(name), &reference).is_ok()
    };
    assert!(admits(&env, "postfix") && !admits(&env, "default"));
    env.edit("MailRoute", "orders", |route| {
        route["spec"]["outputs"][2]["agent"].as_object_mut().unwrap().remove("serviceAccountName");
    });
    env.run(1.0);
    assert!(!admits(&env, "postfix") && admits(&env, "default"));
    env.delete("MailRoute", "orders");
    env.run(1.0);
    assert!(!admits(&env, "default"));
}

#[test]
fn documents_name_every_replica_that_takes_reports() {
    let mut env = env();
    let endpoint =
        |last: u8| OperatorEndpoint { address: format!("192.0.2.{last}:8443"), certificate_sha256: "0a".repeat(32) };
    let told = |env: &TestEnv| -> Vec<String> {
        let config_map: k8s_openapi::api::core::v1::ConfigMap = env.store.get("ConfigMap", "orders-agent").unwrap();
        let document: Document = serde_json::from_str(&config_map.data.unwrap()[KEY]).unwrap();
        document.operators.into_iter().map(|endpoint| endpoint.address).collect()
    };
    let report = |env: &mut TestEnv, observer: &str, endpoint| {
        let event = PeerEvent::TakesReports { observer: observer.into(), endpoint };
        env.state.handle(env.now, Input::Observer(event));
        env.run(1.0);
    };
    assert!(told(&env).is_empty());
    report(&mut env, "b", Some(endpoint(9)));
    report(&mut env, "c", Some(endpoint(2)));
    assert_eq!(told(&env), ["192.0.2.2:8443", "192.0.2.9:8443"]);
    let writes = env.store.writes;
    report(&mut env, "c", Some(endpoint(2)));
    env.run(60.0);
    assert_eq!(env.store.writes, writes);
    report(&mut env, "b", None);
    assert_eq!(told(&env), ["192.0.2.2:8443"]);
}

#[test]
fn of_two_replicas_both_must_have_been_told() {
    let mut env = env();
    let event = PeerEvent::Report {
        observer: "other".into(),
        identity: "other_1".into(),
        reported: BTreeMap::new().into(),
        known_up_to: None,
        silent: Arc::default(),
    };
    env.state.handle(env.now, Input::Observer(event));
    env.run(1.0);
    let word = failing(&env, EvidenceClass::AccountPaused);
    say(&mut env, "a", 1, word);
    env.run(1.0);
    assert_eq!(env.active(), "primary");
    let (told, _, _) = env.board.report();
    assert!(told.contains("shop/primary") && told.contains("AccountPaused"), "{told}");
}

/// A report of messages that have waited for some minutes.
fn waiting(env: &TestEnv, sequence: u64, minutes: Option<u64>) -> AgentReport {
    let kept = minutes.map(|minutes| KeptMail {
        messages: 3,
        oldest_at: env.now - Duration::from_mins(minutes),
        about: "Quota".into(),
        backend: "primary".into(),
    });
    AgentReport { kept, ..report(env, "a", sequence, DeliveryVerdict::Passing) }
}

/// Status and reason of the condition, if there is one.
fn mail_kept(env: &TestEnv) -> Option<(String, String)> {
    let conditions = env.store.route("orders").conditions;
    conditions.into_iter().find(|known| known.type_ == "MailKept").map(|known| (known.status, known.reason))
}

fn events_of_kept_mail(env: &TestEnv) -> usize {
    env.store.events().iter().filter(|reason| *reason == "MailKept").count()
}

#[test]
fn mail_that_waits_for_long_is_a_condition_and_one_event() {
    let mut env = env();
    let is_kept = Some(("True".to_owned(), "Quota".to_owned()));
    let is_over = Some(("False".to_owned(), "NothingKept".to_owned()));
    let steps = [
        (None, None, 0),
        // A switch may take so long.
        (Some(14), None, 0),
        (Some(15), is_kept.clone(), 1),
        (Some(16), is_kept.clone(), 1),
        (Some(300), is_kept.clone(), 1),
        (None, is_over, 1),
        (Some(20), is_kept, 2),
    ];
    for (sequence, (minutes, condition, events)) in (1..).zip(steps) {
        let writes = env.store.writes;
        let is_news = mail_kept(&env) != condition;
        let report = waiting(&env, sequence, minutes);
        tell(&mut env, report);
        env.run(1.0);
        assert_eq!((mail_kept(&env), events_of_kept_mail(&env)), (condition, events), "{minutes:?}");
        assert!(is_news || env.store.writes == writes, "{:?}", &env.store.log[writes..]);
    }
}

#[test]
fn mail_that_is_only_throttled_makes_a_backend_degraded_which_is_left_and_told_of() {
    let mut registry = Registry::default();
    let mut env = env();
    env.state = state_with(&mut registry);
    env.seen.clear();
    env.targets.clear();
    env.sync();
    env.run(60.0);
    let throttled = |env: &TestEnv| {
        DeliveryVerdict::Throttled(ThrottledDeliveries {
            message: "454 Maximum sending rate exceeded".into(),
            first_at: env.now - Duration::from_mins(5),
            last_at: env.now,
        })
    };
    let gauge = |registry: &Registry| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        let line = text.lines().find(|line| line.starts_with("mail_failover_backend_throttled{")).map(str::to_owned);
        line.unwrap_or_default()
    };
    let verdict = throttled(&env);
    say(&mut env, "a", 1, verdict);
    env.settle();
    let status = primary(&env);
    assert_eq!((status.health, status.reason.as_deref()), (Some(Health::Degraded), Some("Throttled")));
    let words = "deliveries: nothing but throttling for 300s: 454 Maximum sending rate exceeded";
    assert_eq!(status.message.as_deref(), Some(words));
    assert_eq!(
        (env.active(), env.store.route("orders").last_transition.unwrap().reason),
        ("standby".to_owned(), "Throttled".to_owned())
    );
    assert_eq!(env.store.events(), ["BackendThrottled", "FailedOver"]);
    assert_eq!(gauge(&registry), r#"mail_failover_backend_throttled{namespace="shop",backend="primary"} 1"#);
    // Its mail has moved away. It is healthy when the last word has lapsed.
    say(&mut env, "a", 2, DeliveryVerdict::Silent);
    env.run(31.0);
    assert_eq!((primary(&env).health, gauge(&registry)), (Some(Health::Healthy), String::new()));
    env.run(40.0);
    assert_eq!(env.active(), "primary");
    assert_eq!(env.store.events(), ["BackendThrottled", "FailedOver", "BackendRecovered", "FailedBack"]);
}

#[test]
fn mail_that_has_waited_for_minutes_while_none_left_makes_a_route_not_ready() {
    let mut env = env();
    let ready = |env: &TestEnv| (env.condition("Ready").0, env.condition("Ready").1);
    let mut sequence = 0;
    // Minutes that the oldest message has waited, whether a message has left, and the reason of Ready.
    for (minutes, has_left, reason) in [
        (0, true, "Delivering"),
        (2, false, "Delivering"),
        (4, false, "Delivering"),
        (6, false, "MailWaits"),
        (7, false, "MailWaits"),
        (7, true, "Delivering"),
        // An old message of one recipient is no standstill.
        (9, true, "Delivering"),
        (60, true, "Delivering"),
    ] {
        env.run(120.0);
        sequence += 1;
        let mut report = report(&env, "a", sequence, DeliveryVerdict::Passing);
        for deliveries in report.backends.values_mut() {
            deliveries.sent = if has_left { sequence } else { 1 };
        }
        report.queue = Some(QueuedMail { messages: 7, oldest_at: Some(env.now - Duration::from_mins(minutes)) });
        tell(&mut env, report);
        env.run(1.0);
        assert_eq!(ready(&env).1, reason, "{minutes} {has_left}: {:?}", env.condition("Ready"));
        assert_eq!(ready(&env).0 == "True", reason == "Delivering");
    }
}

#[test]
fn a_route_whose_messages_try_its_backend_last_says_so_and_since_when() {
    let mut objects = quickstart();
    for (kind, object) in &mut objects {
        if *kind == "MailRoute" {
            object["spec"]["outputs"] =
                json!([{"agent": {"configMap": "orders-agent", "serviceAccountName": "postfix"}}]);
        }
    }
    let mut env = TestEnv::with(&objects);
    env.run(5.0);
    let mut since = None;
    for (sequence, is_bypassed, summary) in
        [(1, false, "primary"), (2, true, "primary (diverted)"), (3, true, "primary (diverted)"), (4, false, "primary")]
    {
        let mut report = report(&env, "a", sequence, DeliveryVerdict::Passing);
        report.backends.get_mut("primary").unwrap().is_bypassed = is_bypassed;
        tell(&mut env, report);
        env.run(1.0);
        let status = env.store.route("orders");
        assert_eq!(status.active_summary.as_deref(), Some(summary));
        let diverted = status.diverted.first().map(|diverted| (diverted.backend.clone(), diverted.since.clone()));
        assert_eq!(diverted.is_some(), is_bypassed);
        if is_bypassed {
            let first = since.get_or_insert_with(|| diverted.clone());
            assert_eq!(*first, diverted, "the time stays");
        }
        assert_eq!(status.message.unwrap().contains("messages try primary last"), is_bypassed);
    }
}
