//! Metrics of requests to the API server.

use std::collections::BTreeMap;
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

/// Times at which the API server last sent anything on a watch, by resource. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct WatchContacts(Arc<Mutex<BTreeMap<String, Instant>>>);

impl WatchContacts {
    /// Returns the resource among these whose watches have been silent for longest, and for how long. A resource that
    /// was never heard of is left out.
    pub fn stalest(&self, resources: &[&str], now: Instant) -> Option<(String, Duration)> {
        let contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = contacts.iter().filter(|(resource, _)| resources.contains(&resource.as_str()));
        let (resource, at) = known.min_by_key(|(_, at)| **at)?;
        Some((resource.clone(), now.saturating_duration_since(*at)))
    }

    fn note(&self, resource: &str, at: Instant) {
        let mut contacts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match contacts.get_mut(resource) {
            Some(known) => *known = at,
            None => _ = contacts.insert(resource.to_owned(), at),
        }
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
                "When the API server last sent anything on a watch of this resource; older than two minutes: the watch is stalled",
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

    pub(super) fn watch_contact(&self, request: &ApiRequestLabels, unix_seconds: i64) {
        self.latest.note(&request.resource, Instant::now());
        self.contacts.get_or_create(&ApiResourceLabels { resource: request.resource.clone() }).set(unix_seconds);
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
        contacts.note("jobs", begun);
        contacts.note("services", begun + second);
        contacts.note("endpointslices", begun + 2 * second);
        let resources = ["services", "endpointslices", "mailroutes"];
        assert_eq!(contacts.stalest(&resources, begun + 5 * second), Some(("services".to_owned(), 4 * second)));
        contacts.note("services", begun + 4 * second);
        assert_eq!(contacts.stalest(&resources, begun + 5 * second), Some(("endpointslices".to_owned(), 3 * second)));
    }
}
