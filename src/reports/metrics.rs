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

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Metrics of the server for reports; clones count together.
#[derive(Clone, Debug)]
pub struct ReportMetrics {
    reports: Family<OutcomeLabel, Counter>,
    reviews: Family<OutcomeLabel, Counter>,
    refused_by_claims: Family<ReasonLabel, Counter>,
    cached: Family<OutcomeLabel, Counter>,
    pub(super) cached_tokens: Gauge,
    pub(super) known_callers: Gauge,
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
                "TokenReviews by outcome: authenticated, refused, error, timeout (waiting for a place included), or limited (not asked for, because too many others were)",
            ),
            refused_by_claims: register(
                registry,
                "tokens_refused_by_claims",
                "Tokens that were refused without a TokenReview, by reason: malformed (no JSON Web Token of a service account), audience (for somebody else), expired",
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
            known_callers: register(
                registry,
                "token_known_callers",
                "Pods and tokens with a good review in the last ten minutes, whose next review is in a share of its own",
            ),
        }
    }

    pub(super) fn report(&self, outcome: &'static str) {
        self.reports.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn review(&self, outcome: &'static str) {
        self.reviews.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn refused_by_claims(&self, reason: &'static str) {
        self.refused_by_claims.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(super) fn cache(&self, outcome: &'static str) {
        self.cached.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
