//! Reading CAs from a scripted API server, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use axum::http::{Request, Response, StatusCode};
use kube::client::Body;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, service_fn};

use super::*;
use crate::controller::read::{CONCURRENT, Metrics, Reader, spawn};

const SECOND: Duration = Duration::from_secs(1);

/// The objects by path; any other path is answered with 404.
type Objects = Arc<Mutex<BTreeMap<String, (StatusCode, Value)>>>;

struct Running {
    reader: Reader<Ca>,
    inputs: mpsc::Receiver<Input>,
    objects: Objects,
    registry: Registry,
    /// The number of reads in progress, and its maximum.
    busy: Arc<Mutex<(usize, usize)>>,
}

fn start() -> Running {
    let objects = Objects::default();
    let served = objects.clone();
    let busy = Arc::new(Mutex::new((0, 0)));
    let counted = busy.clone();
    let service = service_fn(move |request: Request<Body>| {
        let counted = counted.clone();
        let found = served.lock().expect("not poisoned").get(request.uri().path().trim_end_matches('?')).cloned();
        let not_found = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
        let (status, body) = found.unwrap_or((StatusCode::NOT_FOUND, not_found));
        async move {
            {
                let mut counted = counted.lock().expect("not poisoned");
                counted.0 += 1;
                counted.1 = counted.1.max(counted.0);
            }
            tokio::time::sleep(SECOND / 10).await;
            counted.lock().expect("not poisoned").0 -= 1;
            Ok::<_, BoxError>(Response::builder().status(status).body(Body::from(body.to_string().into_bytes()))?)
        }
    });
    let (sender, inputs) = mpsc::channel(1);
    let mut registry = Registry::default();
    let client = Client::new(service, "default");
    let (reader, _task) = spawn(client, sender, Metrics::new::<Ca>(&mut registry), CancellationToken::new());
    Running { reader, inputs, objects, registry, busy }
}

impl Running {
    fn set(&self, path: &str, object: Value) {
        self.objects.lock().expect("not poisoned").insert(path.to_owned(), (StatusCode::OK, object));
    }

    async fn next(&mut self) -> (CaKey, Result<Arc<[u8]>, ReadProblem>) {
        let input = tokio::time::timeout(60 * SECOND, self.inputs.recv()).await;
        let input = input.expect("in time").expect("the task lives");
        let Input::Ca(key, answer) = input else { panic!("{input:?} is not expected") };
        (key, answer)
    }

    async fn assert_quiet(&mut self, duration: Duration) {
        let input = tokio::time::timeout(duration, self.inputs.recv()).await;
        assert!(input.is_err(), "{input:?}");
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("metrics are encodable");
        text
    }
}

fn key(kind: CaKind, name: &str) -> CaKey {
    CaKey { object: ObjectKey::new("mail", name), kind, data_key: "ca.crt".into() }
}

fn certificate() -> String {
    rcgen::generate_simple_self_signed(["ca.test".to_owned()]).expect("a certificate").cert.pem()
}

#[tokio::test(start_paused = true)]
async fn a_ca_is_read_at_once_and_told_again_only_when_it_changes() {
    let mut running = start();
    let (first, second) = (certificate(), certificate());
    let path = "/api/v1/namespaces/mail/configmaps/roots";
    running.set(path, json!({"metadata": {"name": "roots"}, "data": {"ca.crt": first}}));
    let key = key(CaKind::ConfigMap, "roots");
    running.reader.use_(key.clone());
    running.reader.use_(key.clone());
    assert_eq!(running.next().await, (key.clone(), Ok(first.as_bytes().into())));
    running.assert_quiet(300 * SECOND).await;
    running.set(path, json!({"metadata": {"name": "roots"}, "data": {"ca.crt": second}}));
    assert_eq!(running.next().await, (key.clone(), Ok(second.as_bytes().into())));
    running.reader.drop_(&key);
    running.set(path, json!({"metadata": {"name": "roots"}, "data": {"ca.crt": first}}));
    running.assert_quiet(300 * SECOND).await;
    running.reader.use_(key.clone());
    assert_eq!(running.next().await, (key, Ok(first.as_bytes().into())));
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_is_found_within_seconds_of_its_creation() {
    let mut running = start();
    let key = key(CaKind::Secret, "roots");
    running.reader.use_(key.clone());
    assert_eq!(running.next().await, (key.clone(), Err(ReadProblem::NotFound)));
    let path = "/api/v1/namespaces/mail/secrets/roots";
    running.set(path, json!({"metadata": {"name": "roots"}, "data": {"other": "eA=="}}));
    running.assert_quiet(20 * SECOND).await;
    // "hunter2"
    running.set(path, json!({"metadata": {"name": "roots"}, "data": {"ca.crt": "aHVudGVyMg=="}}));
    let malformed = ReadProblem::Malformed("there is no BEGIN CERTIFICATE line in it".into());
    assert_eq!(running.next().await, (key.clone(), Err(malformed)));
    let begun = Instant::now();
    let text = certificate();
    let data = k8s_openapi::ByteString(text.clone().into_bytes());
    running.set(path, json!({"metadata": {"name": "roots"}, "data": {"ca.crt": data}}));
    assert_eq!(running.next().await, (key, Ok(text.as_bytes().into())));
    // Five seconds with a fifth of jitter, the read's tenth, and what a timer is rounded up.
    assert!(begun.elapsed() <= 6 * SECOND + SECOND / 5, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_the_last_good_answer_and_is_counted() {
    let mut running = start();
    let text = certificate();
    let path = "/api/v1/namespaces/mail/configmaps/roots";
    let object = json!({"metadata": {"name": "roots"}, "binaryData": {"ca.crt": k8s_openapi::ByteString(text.clone().into_bytes())}});
    running.set(path, object.clone());
    let key = key(CaKind::ConfigMap, "roots");
    running.reader.use_(key.clone());
    assert_eq!(running.next().await, (key, Ok(text.as_bytes().into())));
    let failure = json!({"kind": "Status", "status": "Failure", "reason": "InternalError", "code": 500});
    running.objects.lock().expect("not poisoned").insert(path.to_owned(), (StatusCode::INTERNAL_SERVER_ERROR, failure));
    running.assert_quiet(120 * SECOND).await;
    running.set(path, object);
    running.assert_quiet(120 * SECOND).await;
    let metrics = running.metrics();
    assert!(metrics.contains(r#"mail_failover_ca_reads_total{outcome="failed"}"#), "{metrics}");
    assert!(metrics.contains("mail_failover_ca_changes_total 1\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn many_are_read_although_only_few_at_a_time() {
    let mut running = start();
    for number in 0..100 {
        running.reader.use_(key(CaKind::Secret, &format!("ca-{number}")));
    }
    let mut answered = BTreeSet::new();
    for _ in 0..100 {
        answered.insert(running.next().await.0);
    }
    assert_eq!(answered.len(), 100);
    assert_eq!(running.busy.lock().expect("not poisoned").1, CONCURRENT);
}
