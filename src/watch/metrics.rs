//! Metrics of the watches.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Source;
use mail_failover_runtime::telemetry::metrics::register;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabels {
    kind: &'static str,
    problem: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NamespaceLabels {
    kind: &'static str,
    namespace: String,
}

/// Metrics of the watches, by kind.
#[derive(Clone, Debug)]
pub struct WatchMetrics {
    errors: Family<FailureLabels, Counter>,
    lists: Family<KindLabel, Counter>,
    forbidden: Family<NamespaceLabels, Gauge>,
    objects: Family<KindLabel, Gauge>,
    synced: Family<KindLabel, Gauge>,
    waits: Family<KindLabel, Counter>,
}

impl WatchMetrics {
    /// Metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("mail_failover_watch");
        Self {
            errors: register(
                registry,
                "errors",
                "Failures of a watch: list, start, stream (it broke off), gone (its place in history is compacted away)",
            ),
            lists: register(
                registry,
                "lists",
                "How often a list of all objects of the kind was begun; after the first complete one: a watch could not be resumed",
            ),
            forbidden: register(
                registry,
                "forbidden",
                "1 while the API server forbids to watch the kind in this namespace, which was named to be watched",
            ),
            objects: register(registry, "objects", "Objects that are known, by kind"),
            synced: register(
                registry,
                "synced",
                "1 when all objects of the kind have been listed once, in every namespace that is watched and not forbidden",
            ),
            waits: register(
                registry,
                "input_waits",
                "How often a watch had to wait because the controller's queue was full",
            ),
        }
    }

    pub(super) fn failed(&self, source: Source, problem: &'static str) {
        self.errors.get_or_create(&FailureLabels { kind: source.as_str(), problem }).inc();
    }

    pub(super) fn listing(&self, source: Source) {
        self.lists.get_or_create(&kind(source)).inc();
    }

    /// Adds the difference that one watch of the kind sees; the gauge is the sum over all watches of the kind.
    pub(super) fn objects(&self, source: Source, before: usize, now: usize) {
        self.objects.get_or_create(&kind(source)).inc_by(whole(now) - whole(before));
    }

    pub(super) fn synced(&self, source: Source, synced: bool) {
        self.synced.get_or_create(&kind(source)).set(i64::from(synced));
    }

    pub(super) fn forbidden(&self, source: Source, namespace: &str, forbidden: bool) {
        let labels = NamespaceLabels { kind: source.as_str(), namespace: namespace.to_owned() };
        self.forbidden.get_or_create(&labels).set(i64::from(forbidden));
    }

    pub(super) fn waited(&self, source: Source) {
        self.waits.get_or_create(&kind(source)).inc();
    }
}

fn kind(source: Source) -> KindLabel {
    KindLabel { kind: source.as_str() }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
