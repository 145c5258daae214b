//! Metrics of the server that takes reports.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use mail_failover_runtime::telemetry::metrics::register;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Metrics of the server for reports; clones count together.
#[derive(Clone, Debug)]
pub struct ReportMetrics {
    reports: Family<OutcomeLabel, Counter>,
    reviews: Family<OutcomeLabel, Counter>,
    cached: Family<OutcomeLabel, Counter>,
    pub(super) cached_tokens: Gauge,
}

impl ReportMetrics {
    /// Metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("mail_failover");
        Self {
            reports: register(
                registry,
                "reports",
                "Reports of agents by what became of them: accepted, unauthorized, forbidden, unknown_route, malformed, too_large, too_many, busy (the controller's queue is full), unavailable (the API server reviews no token)",
            ),
            reviews: register(
                registry,
                "token_reviews",
                "TokenReviews by outcome: authenticated, refused, error, or timeout (waiting for one of eight places included)",
            ),
            cached: register(
                registry,
                "token_cache_lookups",
                "Tokens of reports by whether their review was remembered: hit or miss",
            ),
            cached_tokens: register(
                registry,
                "token_cache_entries",
                "Reviews of tokens that are remembered, by a hash of the token",
            ),
        }
    }

    pub(super) fn report(&self, outcome: &'static str) {
        self.reports.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn review(&self, outcome: &'static str) {
        self.reviews.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn cache(&self, outcome: &'static str) {
        self.cached.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
