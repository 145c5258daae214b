//! Metrics of the election.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use mail_failover_runtime::telemetry::metrics::{register, registered};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeaderTransitionLabels {
    to: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeaseCallLabels {
    call: &'static str,
    outcome: &'static str,
}

/// Counters and gauges of the election.
#[derive(Clone, Debug)]
pub struct Metrics {
    leader: Gauge,
    transitions: Family<LeaderTransitionLabels, Counter>,
    calls: Family<LeaseCallLabels, Counter>,
    renewal: Histogram,
}

impl Metrics {
    /// Registers the metrics in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("mail_failover");
        Self {
            leader: register(registry, "leader", "1 while this replica leads"),
            transitions: register(
                registry,
                "leader_transitions",
                "How often this replica became the leader, or a candidate again",
            ),
            calls: register(
                registry,
                "lease_calls",
                "Reads and writes of the lease, by call (read, take, renew, give, vacate) and outcome: ok, conflict (somebody else had written), timeout, unreachable, server, throttled, forbidden, not_found, invalid or malformed",
            ),
            renewal: registered(
                registry,
                "lease_renewal_duration_seconds",
                "How long a renewal of the lease took; it must stay far below the renew deadline",
                Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            ),
        }
    }

    pub(super) fn leading(&self, leading: bool) {
        self.leader.set(i64::from(leading));
        self.transitions
            .get_or_create(&LeaderTransitionLabels { to: if leading { "leader" } else { "candidate" } })
            .inc();
    }

    pub(super) fn call(&self, call: &'static str, outcome: &'static str) {
        self.calls.get_or_create(&LeaseCallLabels { call, outcome }).inc();
    }

    pub(super) fn renewed(&self, after: Duration) {
        self.renewal.observe(after.as_secs_f64());
    }
}
