//! The watches against a scripted API server, in virtual time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Request, Response, StatusCode};
use futures::stream;
use kube::client::Body;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::{BoxError, service_fn};

use super::*;

/// The answer of the API server to one request.
enum Answer {
    List(Vec<Value>),
    /// These events; then the connection is closed (`true`) or stays open.
    Watch(Vec<Value>, bool),
    Error(StatusCode, &'static str),
    /// No answer at all.
    Silence,
}

/// The time and the path of each request.
type Requests = Arc<Mutex<Vec<(Instant, String)>>>;

/// Answers requests in this order; each must be a list or a watch as scripted. What comes after the script is never
/// answered.
fn scripted(script: Vec<Answer>) -> (Client, Requests) {
    let script = Arc::new(Mutex::new(VecDeque::from(script)));
    let requests = Arc::new(Mutex::new(vec![]));
    let log = requests.clone();
    let service = service_fn(move |request: Request<Body>| {
        let answer = script.lock().expect("not poisoned").pop_front();
        let uri = request.uri().to_string();
        log.lock().expect("not poisoned").push((Instant::now(), uri.clone()));
        async move {
            let watches = uri.contains("watch=true");
            let (status, body) =
                match answer {
                    Some(Answer::List(items)) => {
                        assert!(!watches, "a list was expected: {uri}");
                        let list = json!({"kind": "List", "metadata": {"resourceVersion": "100"}, "items": items});
                        (StatusCode::OK, axum::body::Body::from(list.to_string()))
                    }
                    Some(Answer::Watch(events, closes)) => {
                        assert!(watches, "a watch was expected: {uri}");
                        let lines = events.into_iter().map(|event| Ok::<_, BoxError>(format!("{event}\n")));
                        let rest = stream::poll_fn(move |_| {
                            if closes { std::task::Poll::Ready(None) } else { std::task::Poll::Pending }
                        });
                        (StatusCode::OK, axum::body::Body::from_stream(stream::iter(lines).chain(rest)))
                    }
                    Some(Answer::Error(status, reason)) => {
                        let body =
                            json!({"kind": "Status", "status": "Failure", "reason": reason, "code": status.as_u16()});
                        (status, axum::body::Body::from(body.to_string()))
                    }
                    Some(Answer::Silence) | None => std::future::pending().await,
                };
            Ok::<_, BoxError>(Response::builder().status(status).body(body)?)
        }
    });
    (Client::new(service, "default"), requests)
}

/// An input of the watch of `ConfigMaps` in one word: `name`, `name?` when it is unreadable, `-name` when it is gone,
/// or `synced`.
pub(super) fn word(input: &WatchEvent) -> String {
    if let WatchEvent::Synced(Source::ConfigMaps) = input {
        return "synced".to_owned();
    }
    let WatchEvent::ConfigMap(change) = input else { panic!("{input:?} is not expected") };
    match change {
        Change::Applied(applied) => applied.identity.key.name.to_string(),
        Change::Unreadable(unreadable) => format!("{}?", unreadable.identity.key.name),
        Change::Deleted(key) => format!("-{}", key.name),
    }
}

struct Running {
    inputs: mpsc::Receiver<WatchEvent>,
    readiness: Readiness,
    requests: Requests,
    registry: Registry,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(script: Vec<Answer>) -> Self {
        let (client, requests) = scripted(script);
        let (sender, inputs) = mpsc::channel(1);
        let mut registry = Registry::default();
        let context = Context {
            events: sender,
            readiness: Readiness::default(),
            watches_jobs: false,
            metrics: WatchMetrics::new(&mut registry),
            shutdown: CancellationToken::new(),
        };
        let (readiness, shutdown) = (context.readiness.clone(), context.shutdown.clone());
        readiness.expect(Source::ConfigMaps.as_str());
        let (part, unlisted) = (WatchScope::Cluster.parts().remove(0), Unlisted::new(1));
        let task = tokio::spawn(watch::<ConfigMap>(client, part, unlisted, context));
        Self { inputs, readiness, requests, registry, shutdown, task }
    }

    /// The next inputs, one word each.
    async fn told(&mut self, count: usize) -> String {
        let mut words = vec![];
        for _ in 0..count {
            let input = tokio::time::timeout(Duration::from_mins(5), self.inputs.recv()).await;
            words.push(word(&input.expect("in time").expect("the watch lives")));
        }
        words.join(" ")
    }

    async fn assert_quiet(&mut self) {
        let input = tokio::time::timeout(Duration::from_secs(20), self.inputs.recv()).await;
        assert!(input.is_err(), "{input:?}");
    }

    fn requested_at(&self) -> Vec<Duration> {
        let requests = self.requests.lock().expect("not poisoned");
        requests.iter().map(|(at, _)| at.duration_since(requests[0].0)).collect()
    }

    fn assert_metric(&self, line: &str) {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("metrics are encodable");
        assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
    }
}

fn object(name: &str, version: u32) -> Value {
    let version = version.to_string();
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "mail", "name": name, "uid": name, "resourceVersion": version}})
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn gone() -> Value {
    json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}})
}

#[tokio::test(start_paused = true)]
async fn a_new_list_reports_what_has_vanished_meanwhile() {
    let mut watch = Running::start(vec![
        Answer::List(vec![object("a", 1), object("b", 2)]),
        Answer::Watch(vec![event("ADDED", &object("c", 101)), gone()], true),
        Answer::List(vec![object("b", 2), object("d", 103)]),
        Answer::Watch(vec![event("DELETED", &object("d", 104))], false),
    ]);
    assert_eq!(watch.told(3).await, "a b synced");
    assert!(watch.readiness.missing().is_empty());
    assert_eq!(watch.told(1).await, "c");
    let mut rest: Vec<_> = watch.told(4).await.split(' ').map(str::to_owned).collect();
    rest[1..3].sort();
    assert_eq!(rest, ["d", "-a", "-c", "-d"]);
    watch.assert_quiet().await;
    watch.assert_metric(r#"mail_failover_watch_lists_total{kind="ConfigMap"} 2"#);
    watch.assert_metric(r#"mail_failover_watch_errors_total{kind="ConfigMap",problem="gone"} 1"#);
    watch.assert_metric(r#"mail_failover_watch_objects{kind="ConfigMap"} 1"#);
    watch.assert_metric(r#"mail_failover_watch_synced{kind="ConfigMap"} 1"#);
    let requests = watch.requests.lock().expect("not poisoned");
    let selector = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dmail-failover-operator";
    assert!(requests.iter().all(|(_, uri)| uri.contains(selector)), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_because_its_version_is_gone_lists_anew() {
    let mut watch = Running::start(vec![
        Answer::List(vec![object("a", 1)]),
        Answer::Error(StatusCode::GONE, "Expired"),
        Answer::List(vec![object("b", 103)]),
        Answer::Watch(vec![], false),
    ]);
    assert_eq!(watch.told(4).await, "a synced b -a");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_stalls_nothing() {
    let mut malformed = object("bad", 2);
    malformed["data"] = json!(7);
    let mut watch = Running::start(vec![
        Answer::List(vec![object("a", 1), malformed.clone(), object("c", 3)]),
        Answer::Watch(vec![event("MODIFIED", &malformed), event("ADDED", &object("d", 101))], false),
    ]);
    assert_eq!(watch.told(4).await, "a bad? c synced");
    assert_eq!(watch.told(1).await, "d");
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_and_waited_out_with_a_growing_pause() {
    let forbidden = || Answer::Error(StatusCode::FORBIDDEN, "Forbidden");
    let mut script: Vec<_> = (0..9).map(|_| forbidden()).collect();
    script.extend([Answer::List(vec![object("a", 1)]), Answer::Watch(vec![], false)]);
    let mut watch = Running::start(script);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let missing = watch.readiness.missing();
    assert_eq!(missing.len(), 1);
    let (what, why) = &missing[0];
    assert!(*what == "ConfigMap" && why.contains("403") && why.contains("grant list and watch"), "{what}: {why}");
    assert_eq!(watch.told(2).await, "a synced");
    watch.assert_metric(r#"mail_failover_watch_errors_total{kind="ConfigMap",problem="list"} 9"#);
    let at = watch.requested_at();
    let pauses: Vec<_> = at.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).take(9).collect();
    assert!(pauses[0] <= FIRST_BACKOFF, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= LONGEST_BACKOFF), "{pauses:?}");
    assert!(pauses[7..].iter().all(|pause| *pause >= LONGEST_BACKOFF / 2), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_resumed_within_a_minute_without_a_new_list() {
    let mut watch = Running::start(vec![
        Answer::List(vec![object("a", 1)]),
        Answer::Watch(vec![], false),
        Answer::Watch(vec![event("ADDED", &object("b", 101))], false),
        Answer::Silence,
    ]);
    assert_eq!(watch.told(3).await, "a synced b");
    let at = watch.requested_at();
    assert!(at[2].saturating_sub(at[1]) <= Duration::from_mins(1), "{at:?}");
    watch.assert_metric(r#"mail_failover_watch_lists_total{kind="ConfigMap"} 1"#);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_the_watch_wait_and_is_counted() {
    let mut watch = Running::start(vec![
        Answer::List(vec![object("a", 1), object("b", 2), object("c", 3)]),
        Answer::Watch(vec![], false),
    ]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    watch.assert_metric(r#"mail_failover_watch_input_waits_total{kind="ConfigMap"} 1"#);
    assert_eq!(watch.told(4).await, "a b c synced");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_told_to_though_nobody_receives() {
    let mut watch = Running::start(vec![Answer::List((0..50).map(|n| object(&format!("o{n}"), n)).collect())]);
    assert_eq!(watch.told(1).await, "o0");
    watch.shutdown.cancel();
    watch.task.await.expect("it ends without a panic");
}

/// Lists hold one object, named after the namespace; in `shut` they are refused until `opens`. Watches stay silent.
fn by_namespace(opens: Arc<std::sync::atomic::AtomicBool>) -> (Client, Requests) {
    let requests = Requests::default();
    let log = requests.clone();
    let service = service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        log.lock().expect("not poisoned").push((Instant::now(), uri.clone()));
        let is_shut = uri.contains("/namespaces/shut/") && !opens.load(Ordering::Acquire);
        async move {
            if uri.contains("watch=true") {
                std::future::pending::<()>().await;
            }
            let (status, body) = if is_shut {
                (
                    StatusCode::FORBIDDEN,
                    json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403}),
                )
            } else {
                let namespace = uri.split('/').skip_while(|part| *part != "namespaces").nth(1).unwrap_or("everywhere");
                let items = [json!({"metadata": {"namespace": namespace, "name": namespace, "uid": namespace,
                    "resourceVersion": "1"}, "spec": {"backends": [{"name": "a"}]}})];
                (StatusCode::OK, json!({"kind": "List", "metadata": {"resourceVersion": "100"}, "items": items}))
            };
            Ok::<_, BoxError>(Response::builder().status(status).body(axum::body::Body::from(body.to_string()))?)
        }
    });
    (Client::new(service, "default"), requests)
}

#[tokio::test(start_paused = true)]
async fn of_several_namespaces_none_holds_another_up_and_a_kind_is_known_when_all_are() {
    let opens = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (client, requests) = by_namespace(opens.clone());
    let (sender, mut inputs) = mpsc::channel(64);
    let mut registry = Registry::default();
    let readiness = Readiness::default();
    let context = Context {
        events: sender,
        readiness: readiness.clone(),
        watches_jobs: false,
        metrics: WatchMetrics::new(&mut registry),
        shutdown: CancellationToken::new(),
    };
    let scope = WatchScope::of(["shop", "shut"].map(|name| name.parse().expect("a namespace")));
    let _tasks = spawn(&client, &scope, &context);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut told = vec![];
    while let Ok(input) = inputs.try_recv() {
        told.push(input);
    }
    assert!(
        told.len() == Source::ESSENTIAL.len() && told.iter().all(|input| !matches!(input, WatchEvent::Synced(_))),
        "{told:?}"
    );
    let missing: Vec<_> = readiness.missing().into_iter().map(|(what, _)| what).collect();
    let shut = |kind: &str| format!("{kind} in shut");
    assert_eq!(
        missing,
        ["ConfigMap", "EndpointSlice", "FailoverPolicy", "MailRoute", "SendingBackend", "Service"].map(shut)
    );
    let metric = |line: &str| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("metrics are encodable");
        text.lines().any(|have| have == line)
    };
    assert!(metric(r#"mail_failover_watch_synced{kind="ConfigMap"} 0"#));
    assert!(metric(r#"mail_failover_watch_objects{kind="ConfigMap"} 1"#));

    opens.store(true, Ordering::Release);
    tokio::time::sleep(LONGEST_BACKOFF * 2).await;
    let mut synced = vec![];
    while let Ok(input) = inputs.try_recv() {
        if let WatchEvent::Synced(source) = input {
            synced.push(source);
        }
    }
    synced.sort_unstable();
    assert_eq!(synced, Source::ESSENTIAL);
    assert!(readiness.missing().is_empty());
    assert!(metric(r#"mail_failover_watch_synced{kind="ConfigMap"} 1"#));
    assert!(metric(r#"mail_failover_watch_objects{kind="ConfigMap"} 2"#));
    let requests = requests.lock().expect("not poisoned");
    let elsewhere: Vec<_> = requests.iter().filter(|(_, uri)| !uri.contains("/namespaces/sh")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

fn metric_lines(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).expect("metrics are encodable");
    text
}

#[tokio::test(start_paused = true)]
async fn what_a_namespace_forbids_is_told_before_its_kind_is_known_and_stops_no_other() {
    let opens = Arc::new(AtomicBool::new(false));
    let (client, _requests) = by_namespace(opens.clone());
    let (sender, mut inputs) = mpsc::channel(64);
    let mut registry = Registry::default();
    let readiness = Readiness::default();
    let context = Context {
        events: sender,
        readiness: readiness.clone(),
        watches_jobs: false,
        metrics: WatchMetrics::new(&mut registry),
        shutdown: CancellationToken::new(),
    };
    let scope = WatchScope::of(["shop", "shut"].map(|name| name.parse().expect("a namespace")));
    let _tasks = spawn(&client, &scope, &context);
    tokio::time::sleep(FORBIDDEN_GRACE + LONGEST_BACKOFF + Duration::from_secs(1)).await;
    assert!(readiness.missing().is_empty(), "{:?}", readiness.missing());
    let (mut shut, mut synced) = (vec![], vec![]);
    while let Ok(input) = inputs.try_recv() {
        if let WatchEvent::Synced(source) = input {
            synced.push(source);
        } else if let WatchEvent::Access(Access { source, namespace, is_forbidden }) = input {
            assert_eq!((&*namespace, is_forbidden, synced.contains(&source)), ("shut", true, false), "{source:?}");
            shut.push(source);
        }
    }
    shut.sort_unstable();
    synced.sort_unstable();
    assert_eq!((shut.as_slice(), synced.as_slice()), (&Source::ESSENTIAL[..], &Source::ESSENTIAL[..]));
    let forbidden = r#"mail_failover_watch_forbidden{kind="MailRoute",namespace="shut"}"#;
    assert!(metric_lines(&registry).contains(&format!("{forbidden} 1\n")));
    assert!(metric_lines(&registry).contains("mail_failover_watch_synced{kind=\"MailRoute\"} 1\n"));

    // Its objects are taken when it opens, then it is told that they are seen, and nothing is counted twice.
    opens.store(true, Ordering::Release);
    tokio::time::sleep(LONGEST_BACKOFF * 2).await;
    let (mut objects, mut opened) = (0, vec![]);
    while let Ok(input) = inputs.try_recv() {
        assert!(!matches!(input, WatchEvent::Synced(_)), "{input:?}");
        if let WatchEvent::Access(Access { source, namespace, is_forbidden }) = input {
            assert_eq!((&*namespace, is_forbidden), ("shut", false), "{source:?}");
            opened.push(source);
        } else {
            objects += 1;
        }
    }
    opened.sort_unstable();
    assert_eq!((objects, opened.as_slice()), (Source::ESSENTIAL.len(), &Source::ESSENTIAL[..]));
    assert!(metric_lines(&registry).contains(&format!("{forbidden} 0\n")));
}

#[tokio::test(start_paused = true)]
async fn an_operator_without_any_right_is_never_ready() {
    let (client, _requests) = by_namespace(Arc::new(AtomicBool::new(false)));
    let (sender, mut inputs) = mpsc::channel(64);
    let readiness = Readiness::default();
    let context = Context {
        events: sender,
        readiness: readiness.clone(),
        watches_jobs: false,
        metrics: WatchMetrics::new(&mut Registry::default()),
        shutdown: CancellationToken::new(),
    };
    let _tasks = spawn(&client, &WatchScope::of(["shut".parse().expect("a namespace")]), &context);
    tokio::time::sleep(FORBIDDEN_GRACE * 6).await;
    assert_eq!(readiness.missing().len(), Source::ESSENTIAL.len());
    assert!(inputs.try_recv().is_err());
}
