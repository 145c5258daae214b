//! How the watches fare.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Source;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Failed {
    kind: &'static str,
    problem: &'static str,
}

/// Metrics of the watches, by kind.
#[derive(Clone, Debug)]
pub struct Metrics {
    errors: Family<Failed, Counter>,
    lists: Family<Kind, Counter>,
    objects: Family<Kind, Gauge>,
    synced: Family<Kind, Gauge>,
    waits: Family<Kind, Counter>,
}

impl Metrics {
    /// Metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            errors: Family::default(),
            lists: Family::default(),
            objects: Family::default(),
            synced: Family::default(),
            waits: Family::default(),
        };
        registry.register(
            "mail_failover_watch_errors",
            "Failures of a watch: list, start, stream (it broke off), gone (its place in history is compacted away)",
            metrics.errors.clone(),
        );
        registry.register(
            "mail_failover_watch_lists",
            "How often a list of all objects of the kind was begun; after the first complete one: a watch could not be resumed",
            metrics.lists.clone(),
        );
        registry.register("mail_failover_watch_objects", "Objects known", metrics.objects.clone());
        registry.register(
            "mail_failover_watch_synced",
            "1 when all objects of the kind have been listed once, in every namespace that is watched",
            metrics.synced.clone(),
        );
        registry.register(
            "mail_failover_watch_input_waits",
            "How often a watch had to wait because the controller's queue was full",
            metrics.waits.clone(),
        );
        metrics
    }

    pub(super) fn failed(&self, source: Source, problem: &'static str) {
        self.errors.get_or_create(&Failed { kind: source.as_str(), problem }).inc();
    }

    pub(super) fn listing(&self, source: Source) {
        self.lists.get_or_create(&kind(source)).inc();
    }

    /// One watch of the kind knew so many and now knows so many; others of the kind count, too.
    pub(super) fn objects(&self, source: Source, before: usize, now: usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.objects.get_or_create(&kind(source)).inc_by(count(now) - count(before));
    }

    pub(super) fn synced(&self, source: Source, synced: bool) {
        self.synced.get_or_create(&kind(source)).set(i64::from(synced));
    }

    pub(super) fn waited(&self, source: Source) {
        self.waits.get_or_create(&kind(source)).inc();
    }
}

fn kind(source: Source) -> Kind {
    Kind { kind: source.as_str() }
}
