//! How reading CAs fares.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::schedule::Outcome;
use crate::controller::resolve::CaProblem;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Read {
    outcome: &'static str,
}

/// Metrics of reading CAs.
#[derive(Clone, Debug)]
pub struct Metrics {
    reads: Family<Read, Counter>,
    changes: Counter,
    used: Gauge,
    waits: Counter,
}

impl Metrics {
    /// Metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reads: Family::default(),
            changes: Counter::default(),
            used: Gauge::default(),
            waits: Counter::default(),
        };
        registry.register(
            "mail_failover_ca_reads",
            "Reads of CA certificates: ok, missing, malformed, or failed (the API server refused or did not answer; the last good answer stands)",
            metrics.reads.clone(),
        );
        registry.register(
            "mail_failover_ca_changes",
            "How often a read of CA certificates brought another answer than before",
            metrics.changes.clone(),
        );
        registry.register(
            "mail_failover_ca_input_waits",
            "How often a CA's answer had to wait because the controller's queue was full",
            metrics.waits.clone(),
        );
        registry.register("mail_failover_ca_used", "CAs that backends refer to", metrics.used.clone());
        metrics
    }

    pub(super) fn read(&self, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Answer(Ok(_)) => "ok",
            Outcome::Answer(Err(CaProblem::NotFound)) => "missing",
            Outcome::Answer(Err(CaProblem::Malformed(_))) => "malformed",
            Outcome::Answer(Err(CaProblem::Pending | CaProblem::Unreadable(_))) | Outcome::Failed { .. } => "failed",
        };
        self.reads.get_or_create(&Read { outcome }).inc();
    }

    pub(super) fn changed(&self) {
        self.changes.inc();
    }

    pub(super) fn waited(&self) {
        self.waits.inc();
    }

    pub(super) fn used(&self, count: usize) {
        self.used.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
