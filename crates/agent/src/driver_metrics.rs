//! Metrics of the agent, except those of its socketmap.

use std::time::Duration;

use mail_failover_contract::routing::Refusal;
use mail_failover_runtime::telemetry::metrics::{register, registered};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::metrics::PREFIX;
use crate::status::SourceState;
use mail_failover_dataplane::core::{CoreView, SwitchOrder};
use mail_failover_dataplane::source::DocumentSource;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSource {
    source: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refused {
    source: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfBackend {
    backend: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfCause {
    cause: &'static str,
}

/// Metrics of the agent, except those of its socketmap.
#[derive(Clone, Debug)]
pub struct DriverMetrics {
    accepted: Family<OfSource, Counter>,
    refused: Family<Refused, Counter>,
    following: Family<OfSource, Gauge>,
    transition: Gauge,
    decided: Family<OfBackend, Gauge>,
    carried: Family<OfBackend, Gauge>,
    switches: Family<OfCause, Counter>,
    first_delivery: Histogram,
    log_doubted: Gauge,
}

impl DriverMetrics {
    /// Registers the metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let agent = registry.sub_registry_with_prefix(PREFIX);
        Self {
            accepted: register(agent, "documents_accepted", "Documents that came into force"),
            refused: register(
                agent,
                "documents_refused",
                "Documents that were not used, once for each content in a row",
            ),
            following: register(agent, "source_following", "1 when the source is followed and has a document"),
            transition: register(agent, "transition", "Number of the transition whose decision is in force"),
            decided: register(
                agent,
                "backend_decided_percent",
                "Share of the mail that the operator has decided for a backend, in percent",
            ),
            carried: register(agent, "backend_carried_percent", "Share of the messages that try the backend first"),
            switches: register(agent, "switch_orders", "Switches that were ordered, by cause"),
            first_delivery: registered(
                agent,
                "first_delivery_seconds",
                "From a switch until the first message was out on a way that was new",
                // 10 ms to 82 s.
                Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            ),
            log_doubted: register(
                agent,
                "log_not_understood",
                "1 while the MTA's log is read and nothing in it is understood; the status says why",
            ),
        }
    }

    pub(crate) fn accepted(&self, source: &DocumentSource) {
        self.accepted.get_or_create(&OfSource { source: source.as_str() }).inc();
    }

    pub(crate) fn refused(&self, source: &DocumentSource, refusal: &Refusal) {
        let reason = match refusal {
            Refusal::Empty => "empty",
            Refusal::TooLarge(_) => "too_large",
            Refusal::Json(_) | Refusal::Unreadable(_) => "unreadable",
            Refusal::Version(_) => "version",
            Refusal::Field { .. } => "field",
            Refusal::Older { .. } => "older",
        };
        self.refused.get_or_create(&Refused { source: source.as_str(), reason }).inc();
    }

    pub(crate) fn source(&self, source: &DocumentSource, state: SourceState) {
        let following = i64::from(state == SourceState::Following);
        self.following.get_or_create(&OfSource { source: source.as_str() }).set(following);
    }

    pub(crate) fn ordered(&self, order: &SwitchOrder) {
        self.switches.get_or_create(&OfCause { cause: order.cause.as_str() }).inc();
    }

    pub(crate) fn first_delivery(&self, after: Duration) {
        self.first_delivery.observe(after.as_secs_f64());
    }

    pub(crate) fn log_doubted(&self, is_doubted: bool) {
        self.log_doubted.set(i64::from(is_doubted));
    }

    pub(crate) fn view(&self, view: &CoreView) {
        self.transition.set(view.transition);
        // Backends that were removed must not be shown any more.
        self.decided.clear();
        self.carried.clear();
        for backend in &view.backends {
            let label = OfBackend { backend: backend.name.to_string() };
            self.decided.get_or_create(&label).set(backend.decided.into());
            self.carried.get_or_create(&label).set(backend.carries.into());
        }
    }
}
