//! The addresses that kube-proxy would lead a connection to a Service to: the ready endpoints of
//! its `EndpointSlices`.
//!
//! The last known endpoints stay while the API server is away, as kube-proxy's rules stay. This
//! never writes to the API server, and leaves out what no test needs: topology, session affinity,
//! and terminating endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt, pin_mut};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{Error, Result};

/// The well-known label that names a slice's Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// The upper limit of the pause between retries. kube-proxy's is longer, but a test of recovery
/// should measure the operator's.
const LAST_RETRY: Duration = Duration::from_secs(1);

/// A background task that follows one port of one Service. It stops when dropped.
pub struct ServiceEndpoints {
    service: String,
    endpoints: watch::Receiver<Vec<SocketAddr>>,
    errors: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl ServiceEndpoints {
    /// Starts following, with no endpoint at first. Create the client with `Config::default_retry`
    /// off: otherwise it retries 503 by itself for minutes, and the return of the API server is
    /// noticed late. `port` is the port's name in the Service, empty if it has none.
    pub fn follow(client: Client, namespace: &str, service: &str, port: &str) -> Self {
        let slices: Api<EndpointSlice> = Api::namespaced(client, namespace);
        let config = watcher::Config::default().labels(&format!("{SERVICE_NAME_LABEL}={service}"));
        let (publish, endpoints) = watch::channel(vec![]);
        let errors = Arc::new(AtomicU64::new(0));
        let task = follow(watcher(slices, config).backoff(Retry::default()), port.to_owned(), publish, errors.clone());
        Self {
            service: format!("{namespace}/{service}"),
            endpoints,
            errors,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    /// The ready endpoints, now and as they change.
    pub fn receiver(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.endpoints.clone()
    }

    /// The number of watches that have failed so far.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Waits until the endpoints satisfy a condition.
    pub async fn wait_for(
        &self,
        within: Duration,
        wanted: impl FnMut(&Vec<SocketAddr>) -> bool,
    ) -> Result<Vec<SocketAddr>> {
        let mut endpoints = self.receiver();
        match timeout(within, endpoints.wait_for(wanted)).await {
            Ok(Ok(endpoints)) => Ok(endpoints.clone()),
            Ok(Err(_)) | Err(_) => Err(Error::Timeout {
                what: format!("the endpoints wanted of Service {}", self.service),
                within,
                seen: format!("{:?}, {} watch errors", *self.endpoints.borrow(), self.errors()),
            }),
        }
    }
}

async fn follow(
    events: impl Stream<Item = watcher::Result<watcher::Event<EndpointSlice>>>,
    port: String,
    publish: watch::Sender<Vec<SocketAddr>>,
    errors: Arc<AtomicU64>,
) {
    pin_mut!(events);
    let mut slices = Slices::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => slices.apply(event),
            Err(error) => {
                errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "watching EndpointSlices");
            }
        }
        let ready = ready(slices.known.values(), &port);
        publish.send_if_modified(|known| {
            let changed = *known != ready;
            *known = ready;
            changed
        });
    }
}

/// The known slices, by name.
#[derive(Default)]
struct Slices {
    known: BTreeMap<String, EndpointSlice>,
    relisted: BTreeMap<String, EndpointSlice>,
}

impl Slices {
    fn apply(&mut self, event: watcher::Event<EndpointSlice>) {
        match event {
            watcher::Event::Init => self.relisted.clear(),
            watcher::Event::InitApply(slice) => drop(self.relisted.insert(name_of(&slice), slice)),
            // Only now is it known which slices are gone. Until then the last known ones stay.
            watcher::Event::InitDone => self.known = std::mem::take(&mut self.relisted),
            watcher::Event::Apply(slice) => drop(self.known.insert(name_of(&slice), slice)),
            watcher::Event::Delete(slice) => drop(self.known.remove(&name_of(&slice))),
        }
    }
}

fn name_of(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

/// Each ready endpoint once, in order.
fn ready<'a>(slices: impl Iterator<Item = &'a EndpointSlice>, port: &str) -> Vec<SocketAddr> {
    let mut ready = BTreeSet::new();
    for slice in slices {
        let mut ports = slice.ports.iter().flatten();
        let found = ports.find(|candidate| candidate.name.as_deref().unwrap_or_default() == port);
        let Some(number) = found.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in &slice.endpoints {
            // Unknown means ready (API reference of EndpointConditions).
            if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
                continue;
            }
            // Consumers use the first address only (API reference of Endpoint).
            let address = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok());
            ready.extend(address.map(|address| SocketAddr::new(address, number)));
        }
    }
    ready.into_iter().collect()
}

/// Pauses that double from [`FIRST_RETRY`] to [`LAST_RETRY`], plus or minus a fifth. They start
/// anew when the watch works again.
#[derive(Default)]
struct Retry {
    failures: u32,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = FIRST_RETRY.saturating_mul(1 << self.failures.min(8)).min(LAST_RETRY);
        self.failures += 1;
        Some(delay.mul_f64(0.8 + 0.4 * fastrand::f64()))
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn slice(name: &str, port: (&str, i32), endpoints: &[(&str, Option<bool>)]) -> EndpointSlice {
        let endpoints = endpoints.iter().map(|(address, ready)| Endpoint {
            addresses: vec![(*address).to_owned(), "192.0.2.99".to_owned()],
            conditions: Some(EndpointConditions { ready: *ready, ..EndpointConditions::default() }),
            ..Endpoint::default()
        });
        EndpointSlice {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            address_type: "IPv4".to_owned(),
            endpoints: endpoints.collect(),
            ports: Some(vec![
                EndpointPort { name: Some("other".to_owned()), port: Some(1), ..EndpointPort::default() },
                EndpointPort { name: Some(port.0.to_owned()), port: Some(port.1), ..EndpointPort::default() },
            ]),
        }
    }

    fn addresses(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|address| address.parse().expect("an address")).collect()
    }

    #[test]
    fn ready_endpoints_of_the_port_are_led_to() {
        let slices = [
            slice("a", ("smtp", 25), &[("192.0.2.2", Some(true)), ("192.0.2.3", Some(false)), ("192.0.2.4", None)]),
            slice("b", ("smtp", 2525), &[("2001:db8::1", Some(true)), ("not an address", None)]),
            slice("c", ("smtp", 25), &[("192.0.2.2", Some(true))]),
            slice("d", ("http", 80), &[("192.0.2.5", Some(true))]),
        ];
        let expected = addresses(&["192.0.2.2:25", "192.0.2.4:25", "[2001:db8::1]:2525"]);
        assert_eq!(ready(slices.iter(), "smtp"), expected);
        assert_eq!(ready(slices.iter(), ""), []);
    }

    #[test]
    fn the_last_known_endpoints_stay_until_a_new_list_is_complete() {
        let first = slice("first", ("smtp", 25), &[("192.0.2.1", Some(true))]);
        let second = slice("second", ("smtp", 25), &[("192.0.2.2", Some(true))]);
        let (one, two) = ("192.0.2.1:25", "192.0.2.2:25");
        let steps = [
            (watcher::Event::Init, vec![]),
            (watcher::Event::InitApply(first), vec![]),
            (watcher::Event::InitDone, vec![one]),
            (watcher::Event::Apply(second.clone()), vec![one, two]),
            // The API server was away, and is asked for everything again.
            (watcher::Event::Init, vec![one, two]),
            (watcher::Event::InitApply(second.clone()), vec![one, two]),
            (watcher::Event::InitDone, vec![two]),
            (watcher::Event::Delete(second), vec![]),
        ];
        let mut slices = Slices::default();
        for (event, expected) in steps {
            slices.apply(event);
            assert_eq!(ready(slices.known.values(), "smtp"), addresses(&expected));
        }
    }

    #[tokio::test]
    async fn errors_are_counted_and_change_nothing() {
        let listed = slice("a", ("smtp", 25), &[("192.0.2.1", Some(true))]);
        let events = [
            Ok(watcher::Event::Init),
            Ok(watcher::Event::InitApply(listed)),
            Ok(watcher::Event::InitDone),
            Err(watcher::Error::NoResourceVersion),
        ];
        let (publish, endpoints) = watch::channel(vec![]);
        let errors = Arc::new(AtomicU64::new(0));
        follow(futures::stream::iter(events), "smtp".to_owned(), publish, errors.clone()).await;
        assert_eq!(*endpoints.borrow(), addresses(&["192.0.2.1:25"]));
        assert_eq!(errors.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn retries_are_spread_bounded_and_start_anew() {
        let mut retry = Retry::default();
        let delays: Vec<_> = retry.by_ref().take(40).collect();
        assert!(delays[0] <= FIRST_RETRY.mul_f64(1.2), "{delays:?}");
        assert!(delays.iter().all(|delay| *delay <= LAST_RETRY.mul_f64(1.2)), "{delays:?}");
        assert!(delays[39] >= LAST_RETRY.mul_f64(0.8), "{delays:?}");
        retry.reset();
        assert!(retry.next() <= Some(FIRST_RETRY.mul_f64(1.2)));
    }
}
