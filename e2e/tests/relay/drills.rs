//! Drills that a relay carries out: what it refuses, for how long, and what it does when the standby fails for real.

use std::path::Path;
use std::time::{Duration, Instant};

use mail_failover_e2e::mail::server::Fault;
use serde_json::{Value, json};

use super::client::send;
use super::fixture::{Relay, SHORT, backend, document, server};

/// A document with a drill that refuses the backend `first`.
fn drilled(backends: &[Value], id: &str, seconds: u32) -> String {
    let mut text: Value = serde_json::from_str(&document(1, backends)).expect("JSON");
    text["drill"] = json!({"id": id, "backends": ["first"], "forSeconds": seconds});
    text.to_string()
}

async fn until_metric(relay: &Relay, name: &str, value: f64) {
    let until = Instant::now() + Duration::from_secs(40);
    while (relay.metric(name).await - value).abs() > 0.5 {
        assert!(Instant::now() < until, "{name} becomes {value}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const REFUSING: &str = "mail_failover_relay_drill_refusing{backend=\"first\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drill_refuses_a_backend_that_works_and_ends_by_itself() {
    let (first, second) = (server("first").await, server("second").await);
    let backends = [backend(&first, 100), backend(&second, 0)];
    let relay = Relay::start(&backends, &SHORT).await;
    for number in 0..3 {
        assert!(send(relay.address(), &format!("before{number}")).await.starts_with("250"));
    }
    assert_eq!((first.received_count(), second.received_count()), (3, 0));
    relay.follow(&drilled(&backends, "d1", 8));
    until_metric(&relay, REFUSING, 1.0).await;
    let (begun, connections) = (Instant::now(), first.counters().connections);
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        assert!(send(relay.address(), &format!("during{sent}")).await.starts_with("250"));
        sent += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((first.received_count(), second.received_count()), (3, sent));
    assert_eq!(first.counters().connections, connections, "nothing connects to it");
    // Nobody takes the drill away: it has an end of its own.
    until_metric(&relay, REFUSING, 0.0).await;
    assert!(send(relay.address(), "after").await.starts_with("250"));
    assert_eq!((first.received_count(), second.received_count()), (4, sent));
    for (name, value) in [
        ("mail_failover_relay_drill_turns_total{state=\"Refusing\"}", 1.0),
        ("mail_failover_relay_drill_turns_total{state=\"Over\"}", 1.0),
        ("mail_failover_relay_drill_let_through_messages_total", 0.0),
        ("mail_failover_relay_breaker_open{backend=\"first\"}", 0.0),
        ("mail_failover_relay_replays_total{backend=\"second\"}", 0.0),
    ] {
        until_metric(&relay, name, value).await;
    }
    // The id never begins again.
    relay.follow(&drilled(&backends, "d1", 9));
    relay.follow(&drilled(&[backend(&first, 99), backend(&second, 1)], "d1", 9));
    until_metric(&relay, "mail_failover_relay_backend_decided_percent{backend=\"second\"}", 1.0).await;
    assert!(relay.metric(REFUSING).await < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_fails_for_real_lifts_the_drill_and_no_message_is_lost() {
    let (first, second) = (server("first").await, server("second").await);
    let backends = [backend(&first, 100), backend(&second, 0)];
    let relay = Relay::start(&backends, &SHORT).await;
    relay.follow(&drilled(&backends, "d1", 600));
    until_metric(&relay, REFUSING, 1.0).await;
    assert!(send(relay.address(), "m0").await.starts_with("250"));
    second.set_fault(Fault::Refuse).await.expect("the fault");
    second.cut_sessions();
    for number in 1..6 {
        // The application is told nothing of all this.
        assert!(send(relay.address(), &format!("m{number}")).await.starts_with("250"));
    }
    assert_eq!((first.received_count(), second.received_count()), (5, 1));
    until_metric(&relay, "mail_failover_relay_drill_turns_total{state=\"Lifted\"}", 1.0).await;
    until_metric(&relay, REFUSING, 0.0).await;
    // For good.
    second.repair().await.expect("repaired");
    assert!(send(relay.address(), "m6").await.starts_with("250"));
    assert_eq!(first.received_count(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_starts_anew_without_a_source_goes_on_with_the_drill() {
    let (first, second) = (server("first").await, server("second").await);
    let backends = [backend(&first, 100), backend(&second, 0)];
    let relay = Relay::start(&backends, &SHORT).await;
    relay.follow(&drilled(&backends, "d1", 600));
    until_metric(&relay, REFUSING, 1.0).await;
    relay.stop();
    let state = relay.folder.path().join("state");
    let kept = tempfile::tempdir().expect("a folder");
    // What is saved in the background is saved when the relay has ended.
    let wait = Instant::now();
    while !saved(&state).contains("\"drills\"") {
        assert!(wait.elapsed() < Duration::from_secs(20), "the drill is saved");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    copy(&state, &kept.path().join("state"));
    relay.ended().await;
    let fill = |folder: &std::path::PathBuf| {
        std::fs::remove_file(folder.join("agent.json")).expect("removed");
        copy(&kept.path().join("state"), &folder.join("state"));
    };
    let again = Relay::with(fill, &backends, &SHORT).await;
    until_metric(&again, REFUSING, 1.0).await;
    assert!(send(again.address(), "m1").await.starts_with("250"));
    assert_eq!((first.received_count(), second.received_count()), (0, 1));
}

/// The files of a folder, one after the other.
fn saved(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("files").flatten() {
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}
