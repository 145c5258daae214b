//! Metrics of notifications. Labels are closed sets, but for the policy.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use mail_failover_api::FailoverPolicyStatus;
use mail_failover_api::conditions::condition;
use mail_failover_core::model::ObjectKey;
use mail_failover_notifications::delivery::DropReason;
use mail_failover_runtime::telemetry::metrics::{register, registered};

/// Counters, gauges and histograms of notifications; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    duration: Histogram,
    repeated: Family<TypeLabels, Counter>,
    dropped: Family<ReasonLabels, Counter>,
    queue: Family<PolicyLabels, Gauge>,
    failing: Family<PolicyLabels, Gauge>,
    default_unusable: Gauge,
    /// Calls under way.
    pub calls_under_way: Gauge,
    /// Times that the bound on calls made a policy wait.
    pub limit_reached: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    r#type: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabels {
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    namespace: String,
    policy: String,
}

fn policy_labels(policy: &ObjectKey) -> PolicyLabels {
    PolicyLabels { namespace: policy.namespace.to_string(), policy: policy.name.to_string() }
}

impl Metrics {
    /// Metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("mail_failover_notification");
        Self {
            calls: register(
                registry,
                "calls",
                "Calls that tell somebody, by type of the receiver and result: accepted, status, timeout, unresolved, refused_destination, unreachable, tls, http, url, not_leader, smtp",
            ),
            duration: registered(
                registry,
                "call_duration_seconds",
                "Duration of calls, from the look-up of the name to the answer",
                Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            ),
            repeated: register(
                registry,
                "repeated_calls",
                "Calls with a message that may have arrived before, because its answer was lost or another process began the call",
            ),
            dropped: register(
                registry,
                "dropped_messages",
                "Messages given up before each receiver had taken them, by reason: queue_full, too_old, refused",
            ),
            queue: register(
                registry,
                "waiting_messages",
                "Messages of a policy that wait for a receiver, as the status has it; no series without receivers",
            ),
            failing: register(
                registry,
                "policy_failing",
                "1 while a receiver of a policy has not taken messages for 30 s; no series without receivers",
            ),
            default_unusable: register(
                registry,
                "default_policy_unusable",
                "1 while the policy that --default-notifications names does not exist or has no receivers",
            ),
            calls_under_way: register(registry, "calls_under_way", "Calls under way"),
            limit_reached: register(
                registry,
                "limit_reached",
                "How often a policy had to wait because the bound on calls, or its namespace's part of it, was reached",
            ),
        }
    }

    pub(super) fn called(&self, kind: &'static str, result: &'static str, took: Duration) {
        self.calls.get_or_create(&CallLabels { r#type: kind, result }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Shows if the policy that the installation names for all can be used. Returns true if that has changed.
    pub fn set_default_unusable(&self, is_unusable: bool) -> bool {
        self.default_unusable.set(is_unusable.into()) != i64::from(is_unusable)
    }

    /// Counts a call with a message that may have arrived before.
    pub fn repeated(&self, kind: &'static str) {
        self.repeated.get_or_create(&TypeLabels { r#type: kind }).inc();
    }

    /// Counts messages that were given up.
    pub fn dropped(&self, reasons: impl IntoIterator<Item = DropReason>) {
        for reason in reasons {
            self.dropped.get_or_create(&ReasonLabels { reason: reason.as_str() }).inc();
        }
    }

    /// Shows a policy as its status has it.
    pub fn show_policy(&self, policy: &ObjectKey, status: &FailoverPolicyStatus) {
        let labels = policy_labels(policy);
        let Some(notifications) = &status.notifications else { return self.forget_policy(policy) };
        let waiting = notifications.queue.iter().filter(|message| !message.waiting.is_empty()).count();
        self.queue.get_or_create(&labels).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let delivered = status.conditions.iter().find(|one| one.type_ == condition::NOTIFICATIONS_DELIVERED);
        let is_failing = delivered.is_some_and(|delivered| delivered.status == "False");
        self.failing.get_or_create(&labels).set(i64::from(is_failing));
    }

    /// Forgets a policy that is gone, or has no receivers any more.
    pub fn forget_policy(&self, policy: &ObjectKey) {
        let labels = policy_labels(policy);
        self.queue.remove(&labels);
        self.failing.remove(&labels);
    }
}
