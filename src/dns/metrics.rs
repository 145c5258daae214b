//! Metrics of the attempts to lead zones. Labels are closed sets.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use mail_failover_runtime::dial_guard::DialRule;
use mail_failover_runtime::telemetry::metrics::{register, registered};

/// Counters and histograms of attempts; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Family<ResultLabels, Counter>,
    updates: Counter,
    duration: Histogram,
    refused_destinations: Family<RuleLabels, Counter>,
    token_requests: Counter,
    tokens: Gauge,
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
        let registry = registry.sub_registry_with_prefix("mail_failover_dns");
        Self {
            attempts: register(
                registry,
                "attempts",
                "Attempts to lead a zone by result: in_place, changed, late (an authority does not show it yet), conflict, overtaken, refused, tsig, answer, timeout, unresolved, refused_destination, unreachable, ended, request, throttled (the API of a provider), no_definition, forbidden and api_server (external-dns' object), not_leader",
            ),
            updates: register(registry, "updates", "Updates that a server has accepted"),
            duration: registered(
                registry,
                "change_duration_seconds",
                "Duration of attempts that changed a zone, from the look-up of the server until every authority showed it",
                Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            ),
            refused_destinations: register(
                registry,
                "refused_destinations",
                "Addresses of DNS servers that were not connected to, by the rule that refuses them (loopback, link_local, metadata, …)",
            ),
            token_requests: register(
                registry,
                "token_requests",
                "Requests for a token of the API of a provider (Google, Azure)",
            ),
            tokens: register(
                registry,
                "tokens",
                "Tokens of the APIs of providers that are kept until shortly before their end; at most 1024",
            ),
        }
    }

    pub(super) fn attempted(&self, result: &'static str) {
        self.attempts.get_or_create(&ResultLabels { result }).inc();
    }

    pub(super) fn updated(&self) {
        self.updates.inc();
    }

    pub(super) fn changed(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn token_requested(&self) {
        self.token_requests.inc();
    }

    pub(super) fn tokens(&self, kept: usize) {
        self.tokens.set(i64::try_from(kept).unwrap_or(i64::MAX));
    }

    pub(super) fn refused_destination(&self, rule: DialRule) {
        self.refused_destinations.get_or_create(&RuleLabels { rule: rule.as_str() }).inc();
    }
}
