//! Metrics of the observers.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use mail_failover_runtime::telemetry::metrics::register;

use super::report::Extent;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerStatusLabels {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ObserverCallLabels {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WatchErrorLabels {
    problem: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SilenceLabels {
    cause: &'static str,
}

/// Status of another observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PeerStatus {
    Heard,
    Incomplete,
    Truncated,
    Malformed,
    Silent,
}

impl PeerStatus {
    pub(super) const ALL: [Self; 5] = [Self::Heard, Self::Incomplete, Self::Truncated, Self::Malformed, Self::Silent];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Heard => "heard",
            Self::Incomplete => "incomplete",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Silent => "silent",
        }
    }
}

/// Counters and gauges of the observers.
#[derive(Clone, Debug)]
pub struct Metrics {
    observers: Family<PeerStatusLabels, Gauge>,
    ignored: Counter,
    calls: Family<ObserverCallLabels, Counter>,
    watch_errors: Family<WatchErrorLabels, Counter>,
    waits: Counter,
    verdicts: Gauge,
    bytes: Gauge,
    truncated: Gauge,
    silent: Family<SilenceLabels, Gauge>,
}

impl Metrics {
    /// Registers the metrics in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("mail_failover");
        Self {
            observers: register(
                registry,
                "observers",
                "Other replicas by the state of their reports: only those in the state heard count for a quorum",
            ),
            ignored: register(
                registry,
                "observers_ignored",
                "Reports that were ignored because there are more observers than are kept",
            ),
            calls: register(
                registry,
                "observer_calls",
                "Writes of observers' Leases: report, withdraw (our own), sweep (those of the dead); ok, or the category of the failure: timeout, unreachable, server, throttled, forbidden, not_found, conflict, invalid",
            ),
            watch_errors: register(
                registry,
                "observer_watch_errors",
                "Failures of the watch of the other observers' Leases, by what failed",
            ),
            waits: register(
                registry,
                "observer_waits",
                "Peers' reports that had to wait because the controller's queue was full",
            ),
            verdicts: register(
                registry,
                "observer_report_verdicts",
                "Verdicts in our last report; only backends that are not healthy are in it",
            ),
            bytes: register(registry, "observer_report_bytes", "Size of our last report"),
            truncated: register(
                registry,
                "observer_report_truncated",
                "1 while our report has no room even for the names of namespaces, so that we count for no other replica",
            ),
            silent: register(
                registry,
                "observer_report_silent_namespaces",
                "Namespaces of which our last report says nothing, by cause (crowded: more failures than there is room for; awaited: not observed yet since the start)",
            ),
        }
    }

    pub(super) fn peers(&self, peers: impl Iterator<Item = PeerStatus>) {
        let mut counts = BTreeMap::from(PeerStatus::ALL.map(|status| (status, 0)));
        for status in peers {
            *counts.entry(status).or_default() += 1;
        }
        for (status, count) in counts {
            self.observers.get_or_create(&PeerStatusLabels { state: status.as_str() }).set(count);
        }
    }

    pub(super) fn ignored(&self) {
        self.ignored.inc();
    }

    pub(super) fn call(&self, call: &'static str, outcome: &'static str) {
        self.calls.get_or_create(&ObserverCallLabels { call, outcome }).inc();
    }

    pub(super) fn watch_failed(&self, problem: &'static str) {
        self.watch_errors.get_or_create(&WatchErrorLabels { problem }).inc();
    }

    pub(super) fn waited(&self) {
        self.waits.inc();
    }

    pub(super) fn reported(&self, extent: Extent, bytes: usize) {
        let (verdicts, truncated) = match extent {
            Extent::Incomplete => (0, false),
            Extent::Truncated => (0, true),
            Extent::Complete { verdicts, awaited, crowded } => {
                for (cause, namespaces) in [("awaited", awaited), ("crowded", crowded)] {
                    let count = i64::try_from(namespaces).unwrap_or(i64::MAX);
                    self.silent.get_or_create(&SilenceLabels { cause }).set(count);
                }
                (verdicts, false)
            }
        };
        self.verdicts.set(i64::try_from(verdicts).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.truncated.set(i64::from(truncated));
    }
}
