//! Metrics that are registered where they are made.
//!
//! A module names its prefix once, by `Registry::sub_registry_with_prefix`, and then makes each metric by one call.

use std::fmt::Debug;
use std::hash::Hash;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Counters that differ by their labels.
pub type Counters<L> = Family<L, Counter>;
/// Gauges that differ by their labels.
pub type Gauges<L> = Family<L, Gauge>;
/// Histograms that have the same buckets and differ by their labels.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// A struct that derives [`EncodeLabelSet`] and what a map's key needs.
pub trait Labels: EncodeLabelSet + Clone + Debug + Eq + Hash + Send + Sync + 'static {}

impl<L: EncodeLabelSet + Clone + Debug + Eq + Hash + Send + Sync + 'static> Labels for L {}

/// Makes a counter; the exposition format appends `_total` to its name.
pub fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    registered(registry, name, help, Counter::default())
}

/// Makes a family of counters; a series appears with its first use.
pub fn counters<L: Labels>(registry: &mut Registry, name: &str, help: &str) -> Counters<L> {
    registered(registry, name, help, Family::default())
}

/// Makes a gauge of whole numbers.
pub fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    registered(registry, name, help, Gauge::default())
}

/// Makes a family of gauges; a series appears with its first use.
pub fn gauges<L: Labels>(registry: &mut Registry, name: &str, help: &str) -> Gauges<L> {
    registered(registry, name, help, Family::default())
}

/// Makes a histogram with these upper bounds of its buckets.
pub fn histogram(registry: &mut Registry, name: &str, help: &str, buckets: impl IntoIterator<Item = f64>) -> Histogram {
    registered(registry, name, help, Histogram::new(buckets))
}

/// Makes a family of histograms, each by `new`; a series appears with its first use.
pub fn histograms<L: Labels>(registry: &mut Registry, name: &str, help: &str, new: fn() -> Histogram) -> Histograms<L> {
    registered(registry, name, help, Family::new_with_constructor(new))
}

/// Registers a metric that exists already; clones count together.
pub fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
    struct Kind {
        kind: &'static str,
    }

    #[test]
    fn a_metric_is_registered_under_its_prefix_as_it_is_made() {
        let mut registry = Registry::default();
        let prefixed = registry.sub_registry_with_prefix("mail_failover_test");
        counter(prefixed, "calls", "Calls made").inc();
        gauge(prefixed, "queue", "Calls that wait").set(2);
        counters(prefixed, "errors", "Calls that failed").get_or_create(&Kind { kind: "late" }).inc();
        gauges(prefixed, "peers", "Peers known").get_or_create(&Kind { kind: "near" }).set(3);
        histogram(prefixed, "wait_seconds", "Time waited", [1.0]).observe(0.5);
        histograms(prefixed, "call_seconds", "Time a call took", || Histogram::new([1.0]))
            .get_or_create(&Kind { kind: "read" })
            .observe(2.0);
        let mut text = String::new();
        encode(&mut text, &registry).expect("encodable");
        for line in [
            "# HELP mail_failover_test_calls Calls made.",
            "mail_failover_test_calls_total 1",
            "mail_failover_test_queue 2",
            "mail_failover_test_errors_total{kind=\"late\"} 1",
            "mail_failover_test_peers{kind=\"near\"} 3",
            "mail_failover_test_wait_seconds_bucket{le=\"1.0\"} 1",
            "mail_failover_test_call_seconds_bucket{le=\"1.0\",kind=\"read\"} 0",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
