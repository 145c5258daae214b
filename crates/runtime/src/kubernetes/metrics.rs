//! Metrics of requests to the API server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::{register, registered};

/// One request, without its answer.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct ApiRequestLabels {
    pub client: &'static str,
    /// The HTTP method, or WATCH.
    pub method: &'static str,
    pub resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiAnswerLabels {
    client: &'static str,
    method: &'static str,
    resource: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiResourceLabels {
    resource: String,
}

/// Counters of requests, by what they were and how they were answered.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<ApiAnswerLabels, Counter>,
    durations: Family<ApiRequestLabels, Histogram, fn() -> Histogram>,
    deadlines: Family<ApiRequestLabels, Counter>,
    contacts: Family<ApiResourceLabels, Gauge>,
    latest: WatchContacts,
}

/// Resource that a watch is about, and the namespace if it is limited to one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchPlace {
    pub resource: String,
    pub namespace: Option<String>,
}

impl fmt::Display for WatchPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            None => f.write_str(&self.resource),
            Some(namespace) => write!(f, "{} in {namespace}", self.resource),
        }
    }
}

/// Times at which the API server last sent anything on a watch, by resource and namespace. Clones share them.
// One namespace that is heard must not hide the silence of another.
#[derive(Clone, Debug, Default)]
pub struct WatchContacts(Arc<Mutex<BTreeMap<WatchPlace, Instant>>>);

impl WatchContacts {
    /// Returns the watch of one of these resources that has been silent for longest, as `services` or
    /// `services in shop`, and for how long. A watch that was never heard of is left out.
    pub fn stalest(&self, resources: &[&str], now: Instant) -> Option<(String, Duration)> {
        let contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = contacts.iter().filter(|(place, _)| resources.contains(&place.resource.as_str()));
        let (place, at) = known.min_by_key(|(_, at)| **at)?;
        Some((place.to_string(), now.saturating_duration_since(*at)))
    }

    /// Notes a contact by the watch of a resource, in one namespace or in all.
    pub fn note(&self, resource: &str, namespace: Option<&str>, at: Instant) {
        self.note_at(&WatchPlace { resource: resource.to_owned(), namespace: namespace.map(str::to_owned) }, at);
    }

    /// Notes a contact. Returns the time for which the stalest watch of the same resource has been silent.
    fn note_at(&self, place: &WatchPlace, at: Instant) -> Duration {
        let mut contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match contacts.get_mut(place) {
            Some(known) => *known = at,
            None => _ = contacts.insert(place.clone(), at),
        }
        let of_resource = contacts.iter().filter(|(other, _)| other.resource == place.resource);
        let stalest = of_resource.map(|(_, at)| *at).min();
        stalest.map_or(Duration::ZERO, |stalest| at.saturating_duration_since(stalest))
    }
}

impl Metrics {
    /// Registers the metrics in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("mail_failover_api");
        Self {
            requests: register(
                registry,
                "requests",
                "Requests to the API server; code is the HTTP status or, without an answer, timeout, error, or cancelled by the caller",
            ),
            durations: registered(
                registry,
                "request_duration_seconds",
                "From sending a request to the head of its answer",
                Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15))),
            ),
            deadlines: register(
                registry,
                "deadlines",
                "Requests given up because they had no answer, or no complete one, in time",
            ),
            latest: WatchContacts::default(),
            contacts: register(
                registry,
                "watch_contact_timestamp_seconds",
                "When the API server last sent anything on a watch of this resource, by the watch that has been silent for longest; older than two minutes: that watch is stalled",
            ),
        }
    }

    pub(super) fn answered(&self, request: &ApiRequestLabels, code: String, after: Duration) {
        let ApiRequestLabels { client, method, resource } = request.clone();
        self.requests.get_or_create(&ApiAnswerLabels { client, method, resource, code }).inc();
        self.durations.get_or_create(request).observe(after.as_secs_f64());
    }

    pub(super) fn deadline_exceeded(&self, request: &ApiRequestLabels) {
        self.deadlines.get_or_create(request).inc();
    }

    /// Returns the times of the latest contacts by watches.
    pub fn watch_contacts(&self) -> WatchContacts {
        self.latest.clone()
    }

    pub(super) fn watch_contact(&self, place: &WatchPlace, unix_seconds: i64) {
        let silence = self.latest.note_at(place, Instant::now());
        let silence = i64::try_from(silence.as_secs()).unwrap_or(i64::MAX);
        let labels = ApiResourceLabels { resource: place.resource.clone() };
        self.contacts.get_or_create(&labels).set(unix_seconds.saturating_sub(silence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stalest_of_the_watches_that_matter_is_told() {
        let (contacts, begun) = (WatchContacts::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(contacts.stalest(&["services"], begun), None, "nothing was heard yet");
        contacts.note("jobs", None, begun);
        contacts.note("services", None, begun + second);
        contacts.note("endpointslices", None, begun + 2 * second);
        let resources = ["services", "endpointslices", "mailroutes"];
        assert_eq!(contacts.stalest(&resources, begun + 5 * second), Some(("services".to_owned(), 4 * second)));
        contacts.note("services", None, begun + 4 * second);
        assert_eq!(contacts.stalest(&resources, begun + 5 * second), Some(("endpointslices".to_owned(), 3 * second)));
    }

    #[test]
    fn a_namespace_that_is_heard_hides_no_other() {
        let (contacts, begun) = (WatchContacts::default(), Instant::now());
        let second = Duration::from_secs(1);
        contacts.note("services", Some("shop"), begun);
        contacts.note("services", Some("billing"), begun + 4 * second);
        let stalest = contacts.stalest(&["services"], begun + 5 * second);
        assert_eq!(stalest, Some(("services in shop".to_owned(), 5 * second)));
        let place = WatchPlace { resource: "services".to_owned(), namespace: Some("billing".to_owned()) };
        assert_eq!(contacts.note_at(&place, begun + 6 * second), 6 * second);
    }
}
