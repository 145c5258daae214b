use std::sync::{Arc, Mutex};

use axum::http::{Method, Request, Response, StatusCode};
use hyper::body::Body as _;
use kube::client::Body;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

use super::super::ClaimLost;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// API server that has one lease and can be made to hang or to fail.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    lease: Option<Value>,
    version: u64,
    hangs: bool,
    fails: bool,
    /// Accepts writes and does not say so.
    mute: bool,
    writes: usize,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let answer = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, mut body) = request.into_parts();
                let mut bytes = vec![];
                while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
                    bytes.extend(frame?.into_data().unwrap_or_default());
                }
                match server.answer(&parts.method, &bytes) {
                    Some((status, body)) => {
                        let body = Body::from(body.to_string().into_bytes());
                        Ok::<_, BoxError>(Response::builder().status(status).body(body)?)
                    }
                    None => std::future::pending().await,
                }
            }
        };
        Client::new(service_fn(answer), "mail")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics with the lock")
    }

    fn answer(&self, method: &Method, body: &[u8]) -> Option<(StatusCode, Value)> {
        let mut inner = self.lock();
        if inner.hangs {
            return None;
        }
        let status = |code: StatusCode, reason: &str| {
            (code, json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code.as_u16()}))
        };
        if inner.fails {
            return Some(status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
        }
        let have = inner.lease.clone();
        let id = |lease: &Value| (lease["metadata"]["uid"].clone(), lease["metadata"]["resourceVersion"].clone());
        let uid = match (method.as_str(), &have) {
            ("GET", Some(have)) => return Some((StatusCode::OK, have.clone())),
            ("GET" | "PUT", None) => return Some(status(StatusCode::NOT_FOUND, "NotFound")),
            ("POST", Some(_)) => return Some(status(StatusCode::CONFLICT, "AlreadyExists")),
            ("POST", None) => json!(format!("uid-{}", inner.version)),
            ("PUT", Some(have)) => {
                let want: Value = serde_json::from_slice(body).expect("JSON");
                if id(&want) != id(have) {
                    return Some(status(StatusCode::CONFLICT, "Conflict"));
                }
                have["metadata"]["uid"].clone()
            }
            (method, _) => panic!("{method} is not expected"),
        };
        let mut lease: Value = serde_json::from_slice(body).expect("JSON");
        inner.version += 1;
        inner.writes += 1;
        lease["metadata"]["uid"] = uid;
        lease["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        inner.lease = Some(lease.clone());
        if inner.mute { None } else { Some((StatusCode::OK, lease)) }
    }

    fn holder(&self) -> String {
        let lease = self.lock().lease.clone().expect("there is a lease");
        lease["spec"]["holderIdentity"].as_str().expect("a holder, possibly empty").to_owned()
    }
}

struct Replica {
    leadership: Leadership,
    release: CancellationToken,
    task: JoinHandle<()>,
    registry: Registry,
    successor: watch::Sender<Option<Arc<str>>>,
}

impl Replica {
    fn start(server: &Server, identity: &str) -> Self {
        let release = CancellationToken::new();
        let settings = Settings::new("mail", "operator", identity);
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let (successor, receiver) = watch::channel(None);
        let (leadership, task) = start(server.client(), settings, Clock::system(), metrics, receiver, release.clone())
            .expect("valid settings");
        Self { leadership, release, task, registry, successor }
    }

    fn leads(&self) -> bool {
        self.leadership.claim().is_some()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("metrics are encodable");
        text
    }

    /// The time until it leads.
    async fn until_it_leads(&self) -> Duration {
        let begun = Instant::now();
        let mut term = self.leadership.subscribe();
        timeout(60 * SECOND, term.wait_for(Option::is_some)).await.expect("within a minute").expect("the task lives");
        begun.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_replica_leads_at_once_and_goes_on() {
    let server = Server::default();
    let replica = Replica::start(&server, "a");
    assert!(replica.until_it_leads().await < SECOND);
    let claim = replica.leadership.claim().expect("it leads");
    for _ in 0..100 {
        tokio::time::sleep(SECOND).await;
        assert!(claim.check().is_ok_and(|left| left > 7 * SECOND), "{:?}", claim.check());
    }
    let lease = server.lock().lease.clone().expect("there is a lease");
    assert_eq!(lease["spec"]["holderIdentity"], "a");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    let metrics = replica.metrics();
    assert!(metrics.contains("mail_failover_leader 1\n"), "{metrics}");
    assert!(metrics.contains("mail_failover_leader_transitions_total{to=\"leader\"} 1\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn what_others_have_put_on_the_lease_stays() {
    let server = Server::default();
    let replica = Replica::start(&server, "a");
    replica.until_it_leads().await;
    {
        let mut inner = server.lock();
        inner.version += 1;
        let version = inner.version.to_string();
        let lease = inner.lease.as_mut().expect("there is a lease");
        lease["metadata"]["labels"] = json!({"team": "mail"});
        lease["metadata"]["resourceVersion"] = json!(version);
    }
    let claim = replica.leadership.claim().expect("it leads");
    tokio::time::sleep(20 * SECOND).await;
    claim.check().expect("a label costs no claim");
    let lease = server.lock().lease.clone().expect("there is a lease");
    assert_eq!(lease["metadata"]["labels"]["team"], "mail");
}

#[tokio::test(start_paused = true)]
async fn a_vacated_lease_changes_hands_at_the_next_look() {
    let server = Server::default();
    let first = Replica::start(&server, "a");
    first.until_it_leads().await;
    let second = Replica::start(&server, "b");
    tokio::time::sleep(30 * SECOND).await;
    assert!(first.leads() && !second.leads());
    let claim = first.leadership.claim().expect("it leads");
    first.release.cancel();
    first.task.await.expect("it ends without a panic");
    assert_eq!(claim.check(), Err(ClaimLost));
    assert_eq!(server.holder(), "");
    assert!(second.until_it_leads().await < 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_holder_gives_the_lease_to_a_fitter_replica_which_leads_within_seconds() {
    let server = Server::default();
    let first = Replica::start(&server, "a");
    first.until_it_leads().await;
    let (second, third) = (Replica::start(&server, "b"), Replica::start(&server, "c"));
    tokio::time::sleep(30 * SECOND).await;
    let claim = first.leadership.claim().expect("it leads");
    first.successor.send_replace(Some("c".into()));
    assert!(third.until_it_leads().await < 10 * SECOND);
    assert_eq!(claim.check(), Err(ClaimLost));
    assert!(!first.leads() && !second.leads());
    // Who is suspect all the time gives away what it has just got no sooner than a lease duration later.
    third.successor.send_replace(Some("a".into()));
    assert!(first.until_it_leads().await > 14 * SECOND);
    let metrics = first.metrics();
    assert!(metrics.contains("mail_failover_lease_calls_total{call=\"give\",outcome=\"ok\"} 1\n"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_is_succeeded_after_the_lease_duration() {
    let server = Server::default();
    let first = Replica::start(&server, "a");
    first.until_it_leads().await;
    first.task.abort();
    let second = Replica::start(&server, "b");
    let after = second.until_it_leads().await;
    assert!(after >= 15 * SECOND && after < 18 * SECOND, "{after:?}");
    assert_eq!(server.lock().lease.as_ref().expect("there is a lease")["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_loses_its_claim_at_the_deadline_and_leads_again_later() {
    for hangs in [true, false] {
        let server = Server::default();
        let replica = Replica::start(&server, "a");
        replica.until_it_leads().await;
        tokio::time::sleep(SECOND).await;
        let claim = replica.leadership.claim().expect("it leads");
        let left = claim.check().expect("it leads");
        {
            let mut inner = server.lock();
            (inner.hangs, inner.fails) = (hangs, !hangs);
        }
        let mut term = replica.leadership.subscribe();
        let begun = Instant::now();
        term.wait_for(Option::is_none).await.expect("the task lives");
        let lost_after = begun.elapsed();
        assert!(lost_after >= left && lost_after < left + SECOND / 10, "{lost_after:?} instead of {left:?}");
        {
            let mut inner = server.lock();
            (inner.hangs, inner.fails) = (false, false);
        }
        assert!(replica.until_it_leads().await < 8 * SECOND);
        assert_eq!(claim.check(), Err(ClaimLost));
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_replaced_behind_its_back_knows_at_its_next_renewal() {
    let server = Server::default();
    let replica = Replica::start(&server, "a");
    replica.until_it_leads().await;
    {
        let mut inner = server.lock();
        inner.version += 1;
        let version = inner.version.to_string();
        let lease = inner.lease.as_mut().expect("there is a lease");
        lease["spec"]["holderIdentity"] = json!("b");
        lease["metadata"]["resourceVersion"] = json!(version);
    }
    tokio::time::sleep(3 * SECOND).await;
    assert!(!replica.leads());
    assert_eq!(server.holder(), "b");
    let metrics = replica.metrics();
    assert!(metrics.contains(r#"mail_failover_lease_calls_total{call="renew",outcome="conflict"} 1"#), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_created_again_and_costs_no_claim() {
    let server = Server::default();
    let replica = Replica::start(&server, "a");
    replica.until_it_leads().await;
    let claim = replica.leadership.claim().expect("it leads");
    server.lock().lease = None;
    tokio::time::sleep(3 * SECOND).await;
    claim.check().expect("it still leads");
    assert_eq!(server.holder(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_take_over_that_was_accepted_but_not_answered_is_found_to_be_its_own() {
    let server = Server::default();
    server.lock().mute = true;
    let replica = Replica::start(&server, "a");
    tokio::time::sleep(SECOND).await;
    assert_eq!((server.holder().as_str(), replica.leads()), ("a", false));
    server.lock().mute = false;
    assert!(replica.until_it_leads().await < 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_leaves_writes_nothing() {
    let server = Server::default();
    let first = Replica::start(&server, "a");
    first.until_it_leads().await;
    let second = Replica::start(&server, "b");
    tokio::time::sleep(5 * SECOND).await;
    second.release.cancel();
    second.task.await.expect("it ends without a panic");
    assert_eq!(server.holder(), "a");
}

#[tokio::test(start_paused = true)]
async fn releasing_ends_in_time_though_the_api_server_hangs() {
    let server = Server::default();
    let replica = Replica::start(&server, "a");
    replica.until_it_leads().await;
    server.lock().hangs = true;
    let begun = Instant::now();
    replica.release.cancel();
    replica.task.await.expect("it ends without a panic");
    assert!(begun.elapsed() <= 5 * SECOND, "{:?}", begun.elapsed());
}
