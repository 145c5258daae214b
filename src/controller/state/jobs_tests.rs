//! Probes that run as Jobs: when they are made, what they say, and what is said when they cannot be.

use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::testing::*;
use super::{ControllerState, Settings};
use crate::controller::input::Input;
use crate::controller::metrics::Metrics;
use crate::observers::PeerEvent;
use crate::probe_job::JobSettings;
use crate::probe_job::report;
use crate::watch::Source;
use mail_failover_api::{Health, SendingBackend, SendingBackendStatus};
use mail_failover_core::model::{EvidenceClass, Outcome, Timestamp};
use mail_failover_runtime::dial_guard::DialGuard;

/// A backend that a Job looks at as well, with a login that is none of the operator's business.
fn with_jobs() -> Vec<(&'static str, Value)> {
    let mut objects = quickstart();
    objects[1].1["spec"] = json!({
        "smtp": {"host": "192.0.2.1", "port": 587, "tls": {"mode": "StartTLS"}, "auth": {"secretRef": {"name": "relay"}}},
        "probes": [
            {"name": "smtp", "interval": "1s", "timeout": "500ms", "smtp": {}},
            {"name": "zone-b", "interval": "30s", "timeout": "5s", "smtp": {"depth": "Auth"}, "job": {}}]});
    objects
}

fn state(limit: usize, leads: bool) -> ControllerState {
    let jobs = (limit > 0).then(|| JobSettings { image: "mail-failover:1".to_owned(), ehlo_name: None, limit });
    let settings = Settings {
        dns_owner: "test".into(),
        instance: "test".to_owned(),
        installation: "ops/operator".into(),
        cluster_domain: "cluster.local".to_owned(),
        lease_duration: Duration::from_secs(15),
        guard: DialGuard::default(),
        reports: None,
        jobs,
        default_notifications: None,
    };
    let mut state = ControllerState::new(settings, Metrics::new(&mut Registry::default()));
    state.handle(Timestamp::default(), Input::Leading(leads));
    state.handle(Timestamp::default(), Input::Observer(PeerEvent::Listed));
    for source in Source::OF_JOBS.into_iter().filter(|_| limit > 0) {
        state.handle(Timestamp::default(), Input::Synced(source));
    }
    state
}

fn env(objects: &[(&'static str, Value)], limit: usize) -> TestEnv {
    let mut env = TestEnv::new();
    env.state = state(limit, true);
    for (kind, object) in objects {
        env.store.create(kind, object.clone());
    }
    env.sync();
    env
}

fn primary(env: &TestEnv) -> SendingBackendStatus {
    env.store.get::<SendingBackend>("SendingBackend", "primary").unwrap().status.unwrap_or_default()
}

/// Health, reason and message of a probe.
fn probe(env: &TestEnv, name: &str) -> (Health, String, String) {
    let probe = primary(env).probes.into_iter().find(|probe| probe.name == name).unwrap();
    (probe.health, probe.reason, probe.message.unwrap_or_default())
}

/// The only Job that is not over.
fn running(env: &TestEnv) -> Option<(String, Value)> {
    let jobs = env.store.objects.iter().filter(|((kind, _), _)| *kind == "Job");
    let mut open = jobs.filter(|(_, job)| job["status"]["conditions"].is_null());
    let found = open.next().map(|((_, name), job)| (name.clone(), job.clone()));
    assert!(open.next().is_none(), "one at a time");
    found
}

/// Finishes a Job as the kubelet and the Job controller do after the pod has left this line, or
/// none.
fn finish(env: &mut TestEnv, line: Option<&str>, condition: &str) {
    let (name, mut job) = running(env).expect("a Job");
    let time = env.store.time.clone();
    let terminated =
        json!({"exitCode": 0, "reason": "Completed", "finishedAt": time, "message": line.unwrap_or_default()});
    let pod = json!({
        "metadata": {"name": format!("{name}-x"), "namespace": "shop", "uid": format!("pod-{}", env.store.version),
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": true}]},
        "status": {"containerStatuses": [{"name": "probe", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": terminated}}]}});
    env.store.put("Pod", &format!("{name}-x"), pod);
    job["status"] =
        json!({"conditions": [{"type": condition, "status": "True", "reason": "Reason", "message": "why it ended"}]});
    env.store.put("Job", &name, job);
}

fn line(class: EvidenceClass) -> String {
    report::line(&Outcome {
        class,
        stage: mail_failover_core::model::Stage::Auth,
        message: format!("AUTH: {}", class.as_str()),
        certificate_not_after: None,
        elapsed: Duration::from_millis(40),
    })
}

#[test]
fn jobs_run_one_after_another_and_what_they_say_stands_beside_the_other_probes() {
    let mut env = env(&with_jobs(), 5);
    env.run(2.0);
    assert!(env.targets.keys().all(|key| &*key.probe != "zone-b"), "not made in process");
    assert_eq!(env.logins, [], "its login is not read");
    assert_eq!(env.store.created_jobs, 1);
    // A first choice waits for it no longer than a minute.
    env.run(50.0);
    assert_eq!(env.store.created_jobs, 1, "not while it is under way");
    assert_eq!(env.active(), "", "too little is known of the preferred backend yet");
    finish(&mut env, Some(&line(EvidenceClass::Ok)), "Complete");
    env.run(5.0);
    assert_eq!((probe(&env, "zone-b").0, env.active()), (Health::Healthy, "primary".to_owned()));
    // The vantage point alone sees it fail.
    for round in 0..3 {
        env.run(32.0);
        assert_eq!(env.store.created_jobs, 2 + round, "in its place, when it is due");
        finish(&mut env, Some(&line(EvidenceClass::AuthenticationRefused)), "Complete");
    }
    env.run(2.0);
    assert_eq!(env.active(), "standby");
    assert_eq!(env.condition("FailedOver"), ("True".to_owned(), "AuthenticationRefused".to_owned()));
    assert_eq!((probe(&env, "smtp").0, probe(&env, "zone-b").0), (Health::Healthy, Health::Unhealthy));
}

#[test]
fn what_keeps_a_job_from_a_result_makes_its_probe_unknown_and_is_told() {
    // Without the flag.
    let mut without = env(&with_jobs(), 0);
    without.run(3.0);
    let (health, reason, message) = probe(&without, "zone-b");
    assert_eq!((health, reason.as_str()), (Health::Unknown, "ProbeBlocked"));
    assert!(message.contains("start it with --probe-image"), "{message}");
    let writes = without.store.writes;
    without.run(300.0);
    assert_eq!(without.store.writes, writes, "{:?}", without.store.log);
    // Quota and admission.
    let mut refused = env(&with_jobs(), 5);
    refused.store.refuses_jobs = Some("jobs is forbidden: exceeded quota: few".to_owned());
    refused.run(70.0);
    let (health, reason, message) = probe(&refused, "zone-b");
    assert_eq!((health, reason.as_str()), (Health::Unknown, "ProbeBlocked"));
    assert_eq!(message, "the Job is refused: jobs is forbidden: exceeded quota: few");
    assert_eq!(refused.store.events(), Vec::<String>::new(), "no backend is said to fail");
    refused.store.refuses_jobs = None;
    refused.run(32.0);
    assert_eq!(refused.store.created_jobs, 1);
    // It ends without a word, and with one that is none.
    for (left, told) in [
        (None, "ended without a result: Reason: why it ended; its pod: Completed"),
        (Some("panic"), "of no known form"),
    ] {
        finish(&mut refused, left, "Failed");
        refused.run(2.0);
        let (health, _, message) = probe(&refused, "zone-b");
        assert!(health == Health::Unknown && message.contains(told), "{message}");
        refused.run(32.0);
    }
    finish(&mut refused, Some(&line(EvidenceClass::Ok)), "Complete");
    refused.run(2.0);
    assert_eq!(probe(&refused, "zone-b").0, Health::Healthy);
}

/// So many backends with a Job each in a namespace.
fn crowd(namespace: &str, count: usize) -> Vec<(&'static str, Value)> {
    let mut objects = vec![];
    for number in 0..count {
        let (kind, mut object) = with_jobs()[1].clone();
        object["metadata"] = json!({"name": format!("{namespace}-{number}"), "namespace": namespace});
        objects.push((kind, object));
    }
    objects
}

/// Number of the Jobs in a namespace that are not over.
fn open_jobs(env: &TestEnv, namespace: &str) -> usize {
    let jobs = env.store.objects.iter().filter(|((kind, _), _)| *kind == "Job").map(|(_, job)| job);
    jobs.filter(|job| job["metadata"]["namespace"] == namespace && job["status"]["conditions"].is_null()).count()
}

#[test]
fn only_so_many_are_under_way_over_the_cluster() {
    let mut env = env(&crowd("shop", 6), 4);
    env.run(10.0);
    assert_eq!(env.store.created_jobs, 2, "a namespace takes no more than it leaves free");
    let name = env.store.objects.keys().find(|(kind, _)| *kind == "Job").unwrap().1.clone();
    let mut job = env.store.objects[&("Job", name.clone())].clone();
    job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
    env.store.put("Job", &name, job);
    env.run(3.0);
    assert_eq!(env.store.created_jobs, 3, "another has room");
}

#[test]
fn a_namespace_with_many_jobs_leaves_places_for_others_and_who_waits_is_told() {
    let mut env = env(&crowd("evil", 30), 20);
    env.run(5.0);
    assert_eq!(open_jobs(&env, "evil"), 8, "a quarter of the places is kept for backends that a route uses");
    for (kind, object) in crowd("house", 1).into_iter().chain(crowd("shop", 30)) {
        env.store.create(kind, object);
    }
    env.run(1.0);
    assert_eq!(open_jobs(&env, "house"), 1, "at once");
    assert!(open_jobs(&env, "shop") >= 3, "{}", open_jobs(&env, "shop"));
    assert!(open_jobs(&env, "evil") + open_jobs(&env, "shop") < 20);
    env.run(35.0);
    let waiting = env.store.get::<SendingBackend>("SendingBackend", "evil-29").unwrap().status.unwrap_or_default();
    let probe = waiting.probes.iter().find(|probe| probe.name == "zone-b").unwrap();
    let message = probe.message.clone().unwrap_or_default();
    assert_eq!((probe.health, probe.reason.as_str()), (Health::Unknown, "ProbeBlocked"));
    assert!(message.contains("all places for probe Jobs are taken (20 in all, --max-probe-jobs)"), "{message}");
}

/// Number of the Jobs in all other namespaces than `shop` that are not over.
fn open_elsewhere(env: &TestEnv) -> usize {
    let jobs = env.store.objects.iter().filter(|((kind, _), _)| *kind == "Job").map(|(_, job)| job);
    jobs.filter(|job| job["metadata"]["namespace"] != "shop" && job["status"]["conditions"].is_null()).count()
}

#[test]
fn a_backend_that_a_route_uses_finds_a_place_though_a_tenant_with_many_namespaces_holds_all_others() {
    let objects: Vec<_> = (0..12).flat_map(|number| crowd(&format!("evil-{number}"), 30)).collect();
    let mut env = env(&objects, 20);
    env.run(5.0);
    // Whoever comes later finds what they have left.
    for (kind, object) in (0..4).flat_map(|number| crowd(&format!("late-{number}"), 1)) {
        env.store.create(kind, object);
    }
    env.run(2.0);
    assert_eq!(open_elsewhere(&env), 15, "a quarter of the places is kept");
    for (kind, object) in with_jobs() {
        env.store.create(kind, object);
    }
    env.run(2.0);
    assert_eq!((open_jobs(&env, "shop"), open_elsewhere(&env)), (1, 15));
}

#[test]
fn a_backend_that_a_route_uses_finds_a_place_though_its_own_namespace_holds_all_that_it_may() {
    let mut env = env(&crowd("shop", 30), 4);
    env.run(2.0);
    assert_eq!(open_jobs(&env, "shop"), 2);
    for (kind, object) in with_jobs() {
        env.store.create(kind, object);
    }
    env.run(2.0);
    assert_eq!(open_jobs(&env, "shop"), 3);
    let jobs = env.store.objects.iter().filter(|((kind, _), _)| *kind == "Job").map(|(_, job)| job);
    let mut of_primary =
        jobs.filter(|job| job["metadata"]["annotations"]["mailfailover.io/sending-backend"] == "primary");
    assert!(of_primary.next().is_some());
}

/// Seconds until the next Job is made.
fn seconds_to_next_job(env: &mut TestEnv) -> f64 {
    let (began, made) = (env.now, env.store.created_jobs);
    while env.store.created_jobs == made {
        env.run(0.5);
        assert!(env.now.since(began) < Duration::from_hours(1), "none for an hour");
    }
    env.now.since(began).as_secs_f64()
}

#[test]
fn log_ins_that_are_too_many_become_half_as_many_each_time() {
    let mut env = env(&with_jobs(), 5);
    env.run(2.0);
    for pause in [60.0, 120.0, 240.0] {
        finish(&mut env, Some(&line(EvidenceClass::Throttled)), "Complete");
        let took = seconds_to_next_job(&mut env);
        assert!((pause - 1.0..pause + 2.0).contains(&took), "{took} s instead of {pause} s");
    }
    // One that is refused for another reason does not end it, and one that is accepted does.
    finish(&mut env, Some(&line(EvidenceClass::AuthenticationRefused)), "Complete");
    let took = seconds_to_next_job(&mut env);
    assert!((239.0..242.0).contains(&took), "{took} s");
    finish(&mut env, Some(&line(EvidenceClass::Ok)), "Complete");
    let took = seconds_to_next_job(&mut env);
    assert!(took < 33.0, "{took} s");
    // What another host has said of log-ins says nothing of this one.
    finish(&mut env, Some(&line(EvidenceClass::Throttled)), "Complete");
    env.run(1.0);
    env.edit("SendingBackend", "primary", |object| object["spec"]["smtp"]["host"] = json!("192.0.2.9"));
    let took = seconds_to_next_job(&mut env);
    assert!(took < 33.0, "{took} s");
}

#[test]
fn jobs_that_only_look_like_ours_take_no_place() {
    let mut env = env(&[], 4);
    for (number, owner) in [
        json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "uid": "made-up"}),
        json!({"apiVersion": "evil.example/v1", "kind": "SendingBackend", "uid": "uid-1"}),
    ]
    .into_iter()
    .cycle()
    .take(10)
    .enumerate()
    {
        let mut owner = owner;
        (owner["name"], owner["controller"]) = (json!("shop-0"), json!(true));
        let job = json!({"metadata": {"name": format!("forged-{number}"), "namespace": "evil", "creationTimestamp": "2026-11-29T00:00:00Z",
                "labels": {"mailfailover.io/probe": "zone-b"}, "annotations": {"mailfailover.io/sending-backend": "shop-0"},
                "ownerReferences": [owner]},
            "spec": {"template": {"spec": {"containers": [{"name": "probe", "args": ["probe"]}]}}}});
        env.store.create("Job", job);
    }
    for (kind, object) in crowd("shop", 3) {
        env.store.create(kind, object);
    }
    env.run(2.0);
    assert_eq!(open_jobs(&env, "shop"), 2);
}

#[test]
fn a_successor_and_a_follower_know_what_jobs_said_and_make_none_too_soon() {
    let mut env = env(&with_jobs(), 5);
    env.run(2.0);
    finish(&mut env, Some(&line(EvidenceClass::Ok)), "Complete");
    env.run(5.0);
    let status = primary(&env);
    // Another leader begins with what is stored.
    let successor = state(5, true);
    env.state = successor;
    env.seen.clear();
    env.targets.clear();
    env.sync();
    env.run(10.0);
    assert_eq!(env.store.created_jobs, 1, "due when it would have been");
    assert_eq!(primary(&env), status);
    // One that does not lead creates nothing, and hears all the same.
    let mut follower = state(5, false);
    std::mem::swap(&mut env.state, &mut follower);
    env.seen.clear();
    env.sync();
    env.run(100.0);
    assert_eq!(env.store.created_jobs, 1);
}

#[test]
fn what_was_said_of_an_earlier_spec_does_not_count() {
    let mut env = env(&with_jobs(), 5);
    env.run(2.0);
    env.edit("SendingBackend", "primary", |object| object["spec"]["smtp"]["host"] = json!("192.0.2.9"));
    env.run(2.0);
    finish(&mut env, Some(&line(EvidenceClass::AuthenticationRefused)), "Complete");
    env.run(5.0);
    assert_eq!(probe(&env, "zone-b").1, "Inconclusive");
    env.run(30.0);
    assert_eq!(env.store.created_jobs, 2, "the next one is of the new spec");
    assert!(running(&env).unwrap().1.to_string().contains("--host=192.0.2.9"));
}
