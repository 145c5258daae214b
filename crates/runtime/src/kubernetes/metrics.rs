//! Metrics of requests to the API server.

use std::time::Duration;

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

    pub(super) fn watch_contact(&self, request: &ApiRequestLabels, unix_seconds: i64) {
        self.contacts.get_or_create(&ApiResourceLabels { resource: request.resource.clone() }).set(unix_seconds);
    }
}
