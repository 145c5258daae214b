//! Metrics of the agent, except those of its socketmap.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::core::{SwitchOrder, View};
use crate::source::Source;
use crate::status::SourceState;
use crate::store::Record;
use mail_failover_contract::routing::Refusal;

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
struct Saved {
    record: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRecord {
    record: &'static str,
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
pub struct Metrics {
    accepted: Family<OfSource, Counter>,
    refused: Family<Refused, Counter>,
    following: Family<OfSource, Gauge>,
    transition: Gauge,
    decided: Family<OfBackend, Gauge>,
    carried: Family<OfBackend, Gauge>,
    left: Family<OfBackend, Gauge>,
    moves_left: Gauge,
    switches: Family<OfCause, Counter>,
    first_delivery: Histogram,
    saves: Family<Saved, Counter>,
    damaged: Family<OfRecord, Counter>,
}

impl Metrics {
    /// Registers the metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            accepted: Family::default(),
            refused: Family::default(),
            following: Family::default(),
            transition: Gauge::default(),
            decided: Family::default(),
            carried: Family::default(),
            left: Family::default(),
            moves_left: Gauge::default(),
            switches: Family::default(),
            // 10 ms to 82 s.
            first_delivery: Histogram::new(exponential_buckets(0.01, 2.0, 14)),
            saves: Family::default(),
            damaged: Family::default(),
        };
        registry.register(
            "mail_failover_agent_documents_accepted",
            "Documents that came into force",
            metrics.accepted.clone(),
        );
        registry.register(
            "mail_failover_agent_documents_refused",
            "Documents that were not used, once for each content in a row",
            metrics.refused.clone(),
        );
        registry.register(
            "mail_failover_agent_source_following",
            "1 when the source is followed and has a document",
            metrics.following.clone(),
        );
        registry.register("mail_failover_agent_transition", "The decision in force", metrics.transition.clone());
        registry.register(
            "mail_failover_agent_backend_decided_percent",
            "The operator's share",
            metrics.decided.clone(),
        );
        registry.register(
            "mail_failover_agent_backend_carried_percent",
            "What the backend carries",
            metrics.carried.clone(),
        );
        registry.register(
            "mail_failover_agent_backend_left",
            "1 when the agent has left it by itself",
            metrics.left.clone(),
        );
        registry.register(
            "mail_failover_agent_moves_left",
            "How often the agent may still move by itself at present",
            metrics.moves_left.clone(),
        );
        registry.register(
            "mail_failover_agent_switch_orders",
            "Switches that were ordered, by cause",
            metrics.switches.clone(),
        );
        registry.register(
            "mail_failover_agent_first_delivery_seconds",
            "From a switch until the first message was out on a way that was new",
            metrics.first_delivery.clone(),
        );
        registry.register(
            "mail_failover_agent_state_saves",
            "Attempts to save what is kept for the next start",
            metrics.saves.clone(),
        );
        registry.register(
            "mail_failover_agent_state_damaged",
            "Records that could not be used at the start",
            metrics.damaged.clone(),
        );
        metrics
    }

    pub(crate) fn accepted(&self, source: &Source) {
        self.accepted.get_or_create(&OfSource { source: source.as_str() }).inc();
    }

    pub(crate) fn refused(&self, source: &Source, refusal: &Refusal) {
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

    pub(crate) fn source(&self, source: &Source, state: SourceState) {
        let following = i64::from(state == SourceState::Following);
        self.following.get_or_create(&OfSource { source: source.as_str() }).set(following);
    }

    pub(crate) fn ordered(&self, order: &SwitchOrder) {
        self.switches.get_or_create(&OfCause { cause: order.cause.as_str() }).inc();
    }

    pub(crate) fn first_delivery(&self, after: Duration) {
        self.first_delivery.observe(after.as_secs_f64());
    }

    pub(crate) fn saved(&self, record: Record, saved: bool) {
        let result = if saved { "saved" } else { "failed" };
        self.saves.get_or_create(&Saved { record: record.as_str(), result }).inc();
    }

    pub(crate) fn damaged(&self, record: Record) {
        self.damaged.get_or_create(&OfRecord { record: record.as_str() }).inc();
    }

    pub(crate) fn view(&self, view: &View) {
        self.transition.set(view.transition);
        self.moves_left.set(view.moves_left.into());
        // Backends that were removed are not told of any more.
        self.decided.clear();
        self.carried.clear();
        self.left.clear();
        for backend in &view.backends {
            let label = OfBackend { backend: backend.name.to_string() };
            self.decided.get_or_create(&label).set(backend.decided.into());
            self.carried.get_or_create(&label).set(backend.carries.into());
            self.left.get_or_create(&label).set(i64::from(backend.left.is_some()));
        }
    }
}
