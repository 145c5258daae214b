//! Metrics of webhooks' calls. Labels are closed sets.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use mail_failover_runtime::dial_guard::DialRule;
use mail_failover_runtime::telemetry::metrics::{register, registered};

/// Counters and histograms of calls; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<ResultLabels, Counter>,
    duration: Histogram,
    refused_destinations: Family<RuleLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: &'static str,
}

impl Metrics {
    /// Metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("mail_failover_webhook");
        Self {
            calls: register(
                registry,
                "calls",
                "Calls of webhooks by result: accepted (2xx), status, timeout, unresolved, refused_destination, unreachable, tls, http, url, not_leader",
            ),
            duration: registered(
                registry,
                "call_duration_seconds",
                "Duration of calls, from the look-up of the name to the answer",
                Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            ),
            refused_destinations: register(
                registry,
                "refused_destinations",
                "Addresses that no webhook was called at, by the rule that refuses them (loopback, link_local, metadata, …)",
            ),
        }
    }

    pub(super) fn called(&self, result: &'static str, took: Duration) {
        self.calls.get_or_create(&ResultLabels { result }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn refused_destination(&self, rule: DialRule) {
        self.refused_destinations.get_or_create(&RuleLabels { rule: rule.as_str() }).inc();
    }
}
