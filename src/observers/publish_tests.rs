//! The publisher against a small API server in memory, in virtual time.

use std::sync::{Arc, Mutex};

use axum::http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tower::{BoxError, service_fn};

use super::super::report::tests::{key, verdicts};
use super::super::{BackendChange, Namespaces, Verdicts};
use super::*;
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::engine::Health;

/// Behaviour of the API server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Refusing,
    Silent,
}

struct Running {
    local_report: LocalReport,
    mood: Arc<Mutex<Mood>>,
    /// Time, method and report of each request.
    requests: Arc<Mutex<Vec<(Instant, Method, Value)>>>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(mood: Mood) -> Self {
        let (mood, requests) = (Arc::new(Mutex::new(mood)), Arc::new(Mutex::new(vec![])));
        let (of_server, log) = (mood.clone(), requests.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (mood, log) = (*of_server.lock().expect("not poisoned"), log.clone());
            async move {
                let (head, body) = request.into_parts();
                assert!(head.uri.path().ends_with("/namespaces/ops/leases/mail-observer-a"), "{}", head.uri);
                let body = body.collect_bytes().await?;
                let lease: Value = serde_json::from_slice(&body).unwrap_or_default();
                log.lock().expect("not poisoned").push((Instant::now(), head.method, lease.clone()));
                match mood {
                    Mood::Silent => std::future::pending().await,
                    Mood::Well => Ok::<_, BoxError>(Response::new(axum::body::Body::from(
                        json!({"metadata": {"name": "mail-observer-a"}}).to_string(),
                    ))),
                    Mood::Refusing => {
                        let body = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403});
                        let response = Response::builder().status(StatusCode::FORBIDDEN);
                        Ok(response.body(axum::body::Body::from(body.to_string()))?)
                    }
                }
            }
        });
        let settings = Settings {
            namespace: "ops".to_owned(),
            lease_name: "mail".to_owned(),
            identity: "a".to_owned(),
            lease_duration: Duration::from_secs(15),
            reports: Some(OperatorEndpoint {
                address: "192.0.2.1:8443".to_owned(),
                certificate_sha256: "0a".repeat(32),
            }),
        };
        let (local_report, shutdown) = (LocalReport::default(), CancellationToken::new());
        let task = tokio::spawn(run(
            Client::new(service, "default"),
            settings,
            local_report.clone(),
            Clock::system(),
            Metrics::new(&mut Registry::default()),
            shutdown.clone(),
        ));
        Self { local_report, mood, requests, shutdown, task }
    }

    /// Takes the requests since the last call: time after the call's begin, method and report of each.
    fn since(&self, begun: Instant) -> Vec<(Duration, Method, String)> {
        let requests = std::mem::take(&mut *self.requests.lock().expect("not poisoned"));
        let report = |lease: &Value| lease["metadata"]["annotations"][REPORT_ANNOTATION].as_str().map(str::to_owned);
        let told =
            |(at, method, lease): (Instant, Method, Value)| (at - begun, method, report(&lease).unwrap_or_default());
        requests.into_iter().map(told).collect()
    }

    fn note(&self, name: &str, verdicts: Option<Verdicts>) {
        self.local_report.note([BackendChange { backend: key(name), verdicts }], Some(Namespaces::new()), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_says_at_once_that_it_is_here_and_then_three_times_in_a_lease_duration() {
    let begun = Instant::now();
    let running = Running::start(Mood::Well);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let lease = running.requests.lock().expect("not poisoned")[0].2.clone();
    assert_eq!(lease["metadata"]["labels"], json!({OBSERVER_LABEL: "true", LEASE_LABEL: "mail"}));
    assert_eq!((&lease["spec"]["holderIdentity"], &lease["spec"]["leaseDurationSeconds"]), (&json!("a"), &json!(15)));
    let endpoint = json!({"address": "192.0.2.1:8443", "certificateSha256": "0a".repeat(32)}).to_string();
    assert_eq!(lease["metadata"]["annotations"][ENDPOINT_ANNOTATION], json!(endpoint));
    let requests = running.since(begun);
    assert_eq!(requests[0].2, r#"{"complete":false}"#);
    assert!(requests[0].0 < Duration::from_millis(1), "{requests:?}");
    tokio::time::sleep(Duration::from_mins(1)).await;
    let renewals = running.since(begun).len();
    assert!((10..=14).contains(&renewals), "{renewals} renewals in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_change_goes_out_at_once_and_those_that_follow_together_after_a_pause() {
    let running = Running::start(Mood::Well);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    running.since(begun);
    running.note("ses", Some(verdicts("3/3", Health::Unhealthy)));
    tokio::time::sleep(Duration::from_millis(10)).await;
    for name in ["b", "c", "d"] {
        running.note(name, Some(Verdicts::new()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let requests = running.since(begun);
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[0].0 < Duration::from_millis(5) && requests[0].2.contains("shop/ses"), "{requests:?}");
    assert!(requests[1].0 >= PAUSE && requests[1].0 < PAUSE * 2 && requests[1].2.contains("shop/d"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn the_larger_a_report_the_longer_the_pause_after_it() {
    let running = Running::start(Mood::Well);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let many = |count| {
        (0..count).map(|n| BackendChange {
            backend: key(&format!("b{n}")),
            verdicts: Some(verdicts("3/3", Health::Unhealthy)),
        })
    };
    let begun = Instant::now();
    running.since(begun);
    running.local_report.note(many(500), Some(Namespaces::new()), None);
    tokio::time::sleep(Duration::from_millis(10)).await;
    running.note("ses", Some(Verdicts::new()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let requests = running.since(begun);
    assert_eq!(requests.len(), 2, "{:?}", requests.len());
    let bytes = requests[0].2.len();
    assert!(bytes > 2 * BYTES_PER_PAUSE, "{bytes}");
    assert!(requests[1].0 >= 3 * PAUSE && requests[1].0 < 10 * PAUSE, "{:?} after {bytes} bytes", requests[1].0);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_or_not_answered_is_tried_again_with_a_growing_pause_and_as_of_then() {
    for mood in [Mood::Refusing, Mood::Silent] {
        let begun = Instant::now();
        let running = Running::start(mood);
        tokio::time::sleep(Duration::from_mins(1)).await;
        let count = running.since(begun).len();
        // Half a minute of pauses of two seconds at most; when nothing is answered five seconds each before the pause.
        let expected = if mood == Mood::Refusing { 30..70 } else { 8..13 };
        assert!(expected.contains(&count), "{count}");
        running.note("ses", Some(verdicts("3/3", Health::Unhealthy)));
        *running.mood.lock().expect("not poisoned") = Mood::Well;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let requests = running.since(begun);
        assert!(requests.last().is_some_and(|request| request.2.contains("shop/ses")), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_the_lease_is_deleted_and_nothing_is_written_after_that() {
    for (mood, most) in [(Mood::Well, Duration::from_millis(1)), (Mood::Silent, DEADLINE + WITHDRAW_DEADLINE)] {
        let running = Running::start(mood);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let begun = Instant::now();
        running.note("ses", Some(Verdicts::new()));
        running.shutdown.cancel();
        let (requests, task) = (running.requests.clone(), running.task);
        task.await.expect("it does not panic");
        assert!(begun.elapsed() <= most, "{:?}", begun.elapsed());
        let requests = requests.lock().expect("not poisoned");
        assert_eq!(requests.last().expect("there are some").1, Method::DELETE);
    }
}
