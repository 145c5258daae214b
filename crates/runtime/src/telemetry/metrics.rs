//! Registration of metrics, in the expression that makes them.
//!
//! A module names its prefix once, by `Registry::sub_registry_with_prefix`, and each metric by one call.

use prometheus_client::registry::{Metric, Registry};

/// Makes a counter, a gauge, or a family of them, and registers it. The exposition format appends `_total` to the name
/// of a counter; a series of a family appears with its first use.
pub fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    registered(registry, name, help, M::default())
}

/// Registers a metric that has no default, such as a histogram, and returns it. Clones of a metric count together.
pub fn registered<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::EncodeLabelSet;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::histogram::Histogram;

    use super::*;

    #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
    struct ErrorLabels {
        cause: &'static str,
    }

    #[test]
    fn a_metric_is_registered_under_its_prefix_as_it_is_made() {
        let mut registry = Registry::default();
        let prefixed = registry.sub_registry_with_prefix("mail_failover_test");
        register::<Counter>(prefixed, "calls", "Calls made").inc();
        let errors: Family<ErrorLabels, Counter> = register(prefixed, "errors", "Calls that failed");
        errors.get_or_create(&ErrorLabels { cause: "late" }).inc();
        registered(prefixed, "wait_seconds", "Time waited", Histogram::new([1.0])).observe(0.5);
        let mut text = String::new();
        encode(&mut text, &registry).expect("encodable");
        for line in [
            "# HELP mail_failover_test_calls Calls made.",
            "mail_failover_test_calls_total 1",
            "mail_failover_test_errors_total{cause=\"late\"} 1",
            "mail_failover_test_wait_seconds_bucket{le=\"1.0\"} 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
