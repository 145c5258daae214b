//! How taking reports fares.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Counters of the server for reports; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    reports: Family<Outcome, Counter>,
    reviews: Family<Outcome, Counter>,
    cached: Family<Outcome, Counter>,
    pub(super) cached_tokens: Gauge,
}

impl Metrics {
    /// Metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "mail_failover_reports",
            "Reports of agents by what became of them: accepted, unauthorized, forbidden, unknown_route, malformed, too_large, too_many, busy (the controller's queue is full), unavailable (the API server reviews no token)",
            metrics.reports.clone(),
        );
        registry.register(
            "mail_failover_token_reviews",
            "TokenReviews by outcome: authenticated, refused, error, or timeout (waiting for one of eight places included)",
            metrics.reviews.clone(),
        );
        registry.register(
            "mail_failover_token_cache_lookups",
            "Tokens of reports by whether their review was remembered: hit or miss",
            metrics.cached.clone(),
        );
        registry.register(
            "mail_failover_token_cache_entries",
            "Reviews of tokens that are remembered, by a hash of the token",
            metrics.cached_tokens.clone(),
        );
        metrics
    }

    pub(super) fn report(&self, outcome: &'static str) {
        self.reports.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn review(&self, outcome: &'static str) {
        self.reviews.get_or_create(&Outcome { outcome }).inc();
    }

    pub(super) fn cache(&self, outcome: &'static str) {
        self.cached.get_or_create(&Outcome { outcome }).inc();
    }
}
