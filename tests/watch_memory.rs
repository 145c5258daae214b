//! What the annotations and the content of others cost: next to nothing. Alone in its program: the allocator counts for all of it.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use futures::stream;
use kube::Client;
use mail_failover_operator::watch::{self, Change, Source, WatchEvent, WatchMetrics, WatchScope};
use mail_failover_runtime::telemetry::Readiness;
use peak_alloc::PeakAlloc;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, service_fn};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const OBJECTS: usize = 1000;
const ANNOTATION: usize = 250_000;
/// What the project promises; what each page takes while it is read is part of it.
const MOST_BYTES: usize = 30_000_000;
/// An object without them, its key and its version have less.
const MOST_BYTES_EACH: usize = 4_000;

/// A policy as whoever may write policies can make it.
fn policy(number: usize) -> String {
    let noise = "x".repeat(ANNOTATION);
    format!(
        r#"{{"apiVersion":"mailfailover.io/v1alpha1","kind":"FailoverPolicy","spec":{{}},"metadata":{{"namespace":"evil",
        "name":"p{number}","uid":"u{number}","resourceVersion":"{number}","generation":1,"annotations":{{"noise":"{noise}"}},
        "managedFields":[{{"manager":"kubectl","fieldsV1":{{"f:metadata":{{"f:annotations":{{"f:noise":{{}}}}}}}}}}]}}}}"#
    )
}

/// A `ConfigMap` with our label, as whoever may write `ConfigMaps` can make it.
fn config_map(number: usize) -> String {
    let noise = "x".repeat(ANNOTATION / 2);
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","data":{{"agent.json":"{noise}","noise":"{noise}"}},"metadata":{{"namespace":"evil",
        "name":"c{number}","uid":"u{number}","resourceVersion":"{number}","labels":{{"app.kubernetes.io/managed-by":"mail-failover-operator"}},
        "ownerReferences":[{{"apiVersion":"mailfailover.io/v1alpha1","kind":"MailRoute","name":"none","uid":"none","controller":true}}]}}}}"#
    )
}

fn parameter(request: &Request<kube::client::Body>, name: &str) -> Option<usize> {
    let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name)?.1.parse().ok()
}

/// A kind whose objects are listed.
#[derive(Clone, Copy)]
struct Listed {
    plural: &'static str,
    source: Source,
    object: fn(usize) -> String,
}

/// Lists the objects of a kind in pages, one object after another; there is nothing else, and no watch brings anything.
async fn answer(listed: Listed, request: Request<kube::client::Body>) -> Result<Response<Body>, BoxError> {
    if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
        return std::future::pending().await;
    }
    let from = parameter(&request, "continue").unwrap_or(0);
    let is_listed = request.uri().path().ends_with(listed.plural);
    let limit = parameter(&request, "limit").expect("every list is paged");
    let to = if is_listed { OBJECTS.min(from + limit) } else { from };
    let next = if is_listed && to < OBJECTS { to.to_string() } else { String::new() };
    let head = format!(r#"{{"kind":"List","metadata":{{"resourceVersion":"7","continue":"{next}"}},"items":["#);
    let parts =
        (from..to).map(move |number| format!("{}{}", if number == from { "" } else { "," }, (listed.object)(number)));
    let text = std::iter::once(head).chain(parts).chain(std::iter::once("]}".to_owned()));
    Ok(Response::new(Body::from_stream(stream::iter(text.map(Ok::<_, Infallible>)))))
}

/// Watches until the objects of a kind are listed, and keeps them.
async fn list(listed: Listed) {
    let client =
        Client::new(service_fn(move |request: Request<kube::client::Body>| answer(listed, request)), "default");
    let (events, mut received) = mpsc::channel(4096);
    let shutdown = CancellationToken::new();
    let context = watch::Context {
        events,
        readiness: Readiness::default(),
        watches_jobs: false,
        metrics: WatchMetrics::new(&mut Registry::default()),
        shutdown: shutdown.clone(),
    };
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let tasks = watch::spawn(&client, &WatchScope::Cluster, &context);
    let mut kept = vec![];
    loop {
        let event = tokio::time::timeout(Duration::from_mins(2), received.recv()).await.expect("in time");
        let event = event.expect("the watches live");
        if matches!(&event, WatchEvent::Synced(source) if *source == listed.source) {
            break;
        }
        if matches!(event, WatchEvent::Policy(Change::Applied(_)) | WatchEvent::ConfigMap(Change::Applied(_))) {
            kept.push(event);
        }
    }
    let (peak, after) = (ALLOCATOR.peak_usage() - before, ALLOCATOR.current_usage() - before);
    let plural = listed.plural;
    println!("{OBJECTS} {plural} with {ANNOTATION} bytes: {peak} bytes at most, {after} in the end");
    assert_eq!(kept.len(), OBJECTS);
    assert!(peak > 2 * ANNOTATION, "{plural}: {peak} is too little to be true");
    assert!(peak < MOST_BYTES, "{plural}: {peak} bytes at most");
    assert!(after < OBJECTS * MOST_BYTES_EACH, "{plural}: {after} bytes in the end");
    shutdown.cancel();
    tasks.join_all().await;
}

#[tokio::test]
async fn a_thousand_objects_with_large_annotations_or_content_cost_little_memory_while_they_are_listed_and_after() {
    list(Listed { plural: "/failoverpolicies", source: Source::Policies, object: policy }).await;
    list(Listed { plural: "/configmaps", source: Source::ConfigMaps, object: config_map }).await;
}
