//! Metrics of the objects that are read by name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{ReadOutcome, Readable};
use mail_failover_resolve::ReadProblem;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReadLabels {
    outcome: &'static str,
}

/// Metrics of reading one kind of thing.
#[derive(Clone, Debug)]
pub struct Metrics {
    reads: Family<ReadLabels, Counter>,
    changes: Counter,
    used: Gauge,
    waits: Counter,
}

impl Metrics {
    /// Metrics in this registry.
    pub fn new<R: Readable>(registry: &mut Registry) -> Self {
        let name = |rest: &str| format!("mail_failover_{}_{rest}", R::NAME);
        let metrics = Self {
            reads: Family::default(),
            changes: Counter::default(),
            used: Gauge::default(),
            waits: Counter::default(),
        };
        registry.register(
            name("reads"),
            "Reads by name: ok, missing, malformed, or failed (the API server refused or did not answer; the last good answer stands)",
            metrics.reads.clone(),
        );
        registry.register(
            name("changes"),
            "How often a read brought another answer than before",
            metrics.changes.clone(),
        );
        registry.register(
            name("input_waits"),
            "How often an answer had to wait because the controller's queue was full",
            metrics.waits.clone(),
        );
        registry.register(name("used"), "Those that backends refer to", metrics.used.clone());
        metrics
    }

    pub(super) fn read<V>(&self, outcome: &ReadOutcome<V>) {
        let outcome = match outcome {
            ReadOutcome::Answer(Ok(_)) => "ok",
            ReadOutcome::Answer(Err(ReadProblem::NotFound)) => "missing",
            ReadOutcome::Answer(Err(ReadProblem::Malformed(_))) => "malformed",
            ReadOutcome::Answer(Err(ReadProblem::Pending | ReadProblem::Unreadable(_)))
            | ReadOutcome::Failed { .. } => "failed",
        };
        self.reads.get_or_create(&ReadLabels { outcome }).inc();
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
