//! Tests of a Service's endpoints through an API server that comes and goes. It has two canned
//! answers here; the suites do the same against a real one.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use kube::{Client, Config};
use mail_failover_e2e::mail::endpoints::ServiceEndpoints;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::V4;

const WITHIN: Duration = Duration::from_secs(10);
const PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

/// A stand-in for the API server: its slices by name, its availability, and its watches.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    slices: HashMap<String, Value>,
    away: bool,
    version: u64,
    watchers: Vec<mpsc::UnboundedSender<Value>>,
}

impl Api {
    fn with<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn apply(&self, name: &str, addresses: &[&str]) {
        self.with(|known| {
            known.version += 1;
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": "shop", "resourceVersion": known.version.to_string()},
                "addressType": "IPv4",
                "endpoints": addresses.iter().map(|address| json!({"addresses": [address]})).collect::<Vec<_>>(),
                "ports": [{"name": "smtp", "port": 25}],
            });
            known.slices.insert(name.to_owned(), slice.clone());
            known.watchers.retain(|watcher| watcher.send(json!({"type": "MODIFIED", "object": slice})).is_ok());
        });
    }

    /// Ends every watch and refuses every request.
    fn leave(&self) {
        self.with(|known| {
            known.away = true;
            known.watchers.clear();
        });
    }

    fn come_back(&self) {
        self.with(|known| known.away = false);
    }
}

async fn answer(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    assert!(query.contains("labelSelector=kubernetes.io%2Fservice-name%3Dmail"), "{query}");
    api.with(|known| {
        if known.away {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        if !query.contains("watch=true") {
            let list = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSliceList",
                "metadata": {"resourceVersion": known.version.to_string()},
                "items": known.slices.values().collect::<Vec<_>>(),
            });
            return list.to_string().into_response();
        }
        let (watcher, events) = mpsc::unbounded_channel::<Value>();
        // Changes since the list. All slices are sent, since changes are not recorded here.
        for slice in known.slices.values() {
            let _ = watcher.send(json!({"type": "MODIFIED", "object": slice}));
        }
        known.watchers.push(watcher);
        let lines = stream::unfold(events, async |mut events| {
            let event = events.recv().await?;
            Some((Ok::<_, Infallible>(format!("{event}\n")), events))
        });
        Body::from_stream(lines).into_response()
    })
}

async fn wait_for(endpoints: &ServiceEndpoints, wanted: &[&str]) {
    let wanted: Vec<SocketAddr> = wanted.iter().map(|address| address.parse().expect("an address")).collect();
    endpoints.wait_for(WITHIN, |known| *known == wanted).await.expect("the endpoints");
}

#[tokio::test]
async fn endpoints_are_followed_and_the_last_known_survive_an_outage_of_the_api_server() {
    let api = Api::default();
    api.apply("one", &["192.0.2.1"]);
    let listener = tokio::net::TcpListener::bind(V4).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().route(PATH, get(answer)).with_state(api.clone());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let uri: Uri = format!("http://{address}").parse().expect("a URI");
    let mut config = Config::new(uri);
    config.default_retry = false;
    let client = Client::try_from(config).expect("a client");

    let endpoints = ServiceEndpoints::follow(client, "shop", "mail", "smtp");
    wait_for(&endpoints, &["192.0.2.1:25"]).await;
    api.apply("two", &["192.0.2.2"]);
    wait_for(&endpoints, &["192.0.2.1:25", "192.0.2.2:25"]).await;

    api.leave();
    let mut receiver = endpoints.receiver();
    receiver.mark_unchanged();
    let failing = async {
        while endpoints.errors() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, failing).await.expect("two failures");
    assert!(!receiver.has_changed().expect("a follower"), "{:?}", *receiver.borrow());
    api.apply("one", &["192.0.2.3"]);
    api.come_back();
    timeout(WITHIN, receiver.changed()).await.expect("news").expect("a follower");
    assert_eq!(receiver.borrow().len(), 2, "it never was without what was known last");
    wait_for(&endpoints, &["192.0.2.2:25", "192.0.2.3:25"]).await;

    let error = endpoints.wait_for(Duration::from_millis(10), Vec::is_empty).await.expect_err("not empty");
    assert!(error.to_string().contains("Service shop/mail"), "{error}");
    server.abort();
}
