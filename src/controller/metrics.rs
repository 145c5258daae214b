//! Metrics of the controller.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use mail_failover_runtime::telemetry::metrics::{register, registered};

use super::action::ResourceKind;
use super::lane::Lane;
use super::mail_metrics::MailMetrics;
use super::route::{KeptTotal, ended_drill};
use super::status::is_delivering;
use crate::watch::{Source, Unreadable};
use mail_failover_api::conditions::condition;
use mail_failover_api::{
    FailoverPolicyStatus, Health, MailRouteStatus, RouteState, SendingBackendStatus, TransitionKind,
};
use mail_failover_core::model::{BackendDeliveries, ClockDrift, EvidenceClass, ObjectKey};

/// Counters, gauges and histograms of the controller; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Resources in the work queue.
    pub(super) waiting_resources: Gauge,
    lane_waiting: Family<LaneLabels, Gauge>,
    lane_under_way: Family<LaneLabels, Gauge>,
    lane_limit_reached: Family<LaneLabels, Counter>,
    put_off: Family<LaneLabels, Counter>,
    /// Inputs that wait to be handled; at the bound their producers wait.
    pub(super) input_queue: Gauge,
    /// Observers, this replica included, that are not believed.
    pub(super) suspects: Gauge,
    /// Agents whose verdict counts.
    pub(super) agents: Gauge,
    /// 1 while everything fails at once for every observer.
    pub(super) storm: Gauge,
    /// 1 while the evidence of this replica counts.
    pub(super) has_vote: Gauge,
    clock_drift: Gauge<f64, AtomicU64>,
    actions: Family<ActionLabels, Counter>,
    action_errors: Family<ErrorLabels, Counter>,
    action_duration: Family<ActionNameLabels, Histogram, fn() -> Histogram>,
    unreadable: Family<SourceLabels, Counter>,
    route_state: Family<RouteStateLabels, Gauge>,
    route_delivering: Family<RouteLabels, Gauge>,
    webhooks_failing: Family<RouteLabels, Gauge>,
    dns_failing: Family<RouteLabels, Gauge>,
    /// Attempts to lead zones under way.
    pub(super) dns_calls_under_way: Gauge,
    /// Times that the bound on attempts to lead zones made a route wait.
    pub(super) dns_limit_reached: Counter,
    /// Calls of webhooks under way.
    pub(super) webhook_calls_under_way: Gauge,
    /// Times that the bound on calls of webhooks made a route wait.
    pub(super) webhook_limit_reached: Counter,
    /// Metrics of notifications.
    pub notifications: crate::notification::Metrics,
    backend_throttled: Family<BackendLabels, Gauge>,
    transitions: Family<TransitionLabels, Counter>,
    mail: MailMetrics,
    deliveries: Family<DeliveryLabels, Counter>,
    kept_messages: Family<RouteLabels, Gauge>,
    oldest_kept: Family<RouteLabels, Gauge>,
    queued_messages: Family<RouteLabels, Gauge>,
    oldest_queued: Family<RouteLabels, Gauge>,
    /// Jobs of probes that are not over.
    pub(super) jobs_under_way: Gauge,
    /// Times that the bound on Jobs under way made one wait.
    pub(super) job_limit_reached: Counter,
    jobs: Family<JobLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    namespace: String,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    namespace: String,
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    kind: &'static str,
    action: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    kind: &'static str,
    action: &'static str,
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionNameLabels {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteStateLabels {
    namespace: String,
    route: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    namespace: String,
    route: String,
    backend: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransitionLabels {
    namespace: String,
    route: String,
    kind: &'static str,
    reason: String,
}

const STATES: [RouteState; 7] = [
    RouteState::Preferred,
    RouteState::FailedOver,
    RouteState::FailingBack,
    RouteState::Holding,
    RouteState::Paused,
    RouteState::NoneHealthy,
    RouteState::Unknown,
];

fn durations() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl Metrics {
    /// Metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let notifications = crate::notification::Metrics::new(registry);
        let mail = MailMetrics::new(registry);
        let registry = registry.sub_registry_with_prefix("mail_failover");
        let has_vote: Gauge = register(
            registry,
            "observer_has_vote",
            "1 while the evidence of this replica counts; 0 after it had no processor for seconds, or while a watch is silent",
        );
        has_vote.set(1);
        Self {
            has_vote,
            notifications,
            waiting_resources: register(registry, "controller_waiting_objects", "Objects that wait to be reconciled"),
            lane_waiting: register(
                registry,
                "controller_lane_waiting_objects",
                "Objects that wait for a place, by lane: outputs, decision, retry, route_status, backend_status, events, jobs",
            ),
            lane_under_way: register(registry, "controller_lane_actions_under_way", "Actions under way, by lane"),
            lane_limit_reached: register(
                registry,
                "controller_lane_limit_reached",
                "Objects that had to wait because the bound of a lane, or of their namespace in it, was reached",
            ),
            put_off: register(
                registry,
                "controller_lane_put_off",
                "Writes that were put off because their object had written too often, by lane (route_status, backend_status, events)",
            ),
            input_queue: register(registry, "controller_input_queue", "Inputs that wait to be taken into account"),
            suspects: register(
                registry,
                "suspect_observers",
                "Observers, this replica included, that are not believed: they see everything fail and others do not",
            ),
            agents: register(
                registry,
                "agents",
                "Agents beside MTAs that have reported to this replica within the last 30 s",
            ),
            storm: register(registry, "storm", "1 while everything fails at once for every observer"),
            clock_drift: register(
                registry,
                "clock_drift_seconds",
                "Lead of the wall clock, by which windows and days of a warm-up go, over the clock of this process, which never jumps",
            ),
            actions: register(
                registry,
                "controller_actions",
                "Actions carried out, by kind of object, action and result",
            ),
            action_errors: register(
                registry,
                "controller_action_errors",
                "Actions that failed, by kind of object, action and category: not_leader, gone, timeout, unreachable, server, throttled, forbidden, not_found, conflict, invalid, malformed",
            ),
            action_duration: registered(
                registry,
                "controller_action_duration_seconds",
                "Duration of actions, by action",
                Family::new_with_constructor(durations as fn() -> Histogram),
            ),
            unreadable: register(
                registry,
                "controller_unreadable_objects",
                "Objects met that this version cannot read, by kind",
            ),
            route_state: register(registry, "route_state", "1 for the state that a route is in, else 0"),
            route_delivering: register(
                registry,
                "route_delivering",
                "1 if the mail of a route can leave, 0 if it goes to a backend that cannot deliver or none can",
            ),
            webhooks_failing: register(
                registry,
                "route_webhooks_failing",
                "1 while the receiver of a webhook has not accepted where the route leads, and has failed for 30 s; no series without webhooks",
            ),
            dns_failing: register(
                registry,
                "route_dns_failing",
                "1 while not every authority answers with the DNS records of the active backend, and attempts have failed for 30 s; no series without DNS outputs",
            ),
            dns_calls_under_way: register(registry, "dns_calls_under_way", "Attempts to lead zones under way"),
            dns_limit_reached: register(
                registry,
                "dns_limit_reached",
                "How often a route had to wait because the bound on attempts to lead zones, or its namespace's part of it, was reached",
            ),
            webhook_calls_under_way: register(registry, "webhook_calls_under_way", "Calls of webhooks under way"),
            webhook_limit_reached: register(
                registry,
                "webhook_limit_reached",
                "How often a route had to wait because the bound on calls of webhooks, or its namespace's part of it, was reached",
            ),
            backend_throttled: register(
                registry,
                "backend_throttled",
                "1 while a backend has done nothing but ask for less for minutes; no series otherwise",
            ),
            transitions: register(
                registry,
                "route_transitions",
                "Transitions by route, kind and reason, as far as this process decided them",
            ),
            mail,
            deliveries: register(
                registry,
                "agent_deliveries",
                "Deliveries by route, backend and result (sent, deferred, bounced, possible_duplicate, and those among sent that were diverted to a backend without a share), as agents report them; every replica counts all",
            ),
            kept_messages: register(
                registry,
                "route_kept_messages",
                "Messages by route that wait beside agents because a backend refuses them by 5xx; every replica counts all",
            ),
            oldest_kept: register(
                registry,
                "route_oldest_kept_message_age_seconds",
                "Age of the oldest message of a route that waits because a backend refuses it, when its agent last reported; 0 without one",
            ),
            queued_messages: register(
                registry,
                "route_queued_messages",
                "Messages by route in the queues beside its agents; every replica counts all",
            ),
            oldest_queued: register(
                registry,
                "route_oldest_queued_message_age_seconds",
                "Age of the oldest message of a route in the queues beside its agents, when one last reported; 0 without one",
            ),
            jobs_under_way: register(
                registry,
                "probe_jobs_under_way",
                "Jobs of probes that are not over; every replica counts all",
            ),
            job_limit_reached: register(
                registry,
                "probe_job_limit_reached",
                "How often the bound on probe Jobs under way (--max-probe-jobs) made one wait",
            ),
            jobs: register(
                registry,
                "probe_jobs",
                "Jobs of probes by what came of them: reported, without_result, or refused (quota, admission), as far as this process knows",
            ),
        }
    }

    /// Shows the drift of the wall clock.
    #[expect(clippy::cast_precision_loss, reason = "a drift of years is told to the microsecond")]
    pub(super) fn clock_drift(&self, drift: ClockDrift) {
        self.clock_drift.set(drift.as_micros() as f64 / 1e6);
    }

    /// Takes note of the numbers of resources that wait in a lane, and of the actions under way there.
    pub(super) fn set_load(&self, lane: Lane, (waiting, under_way): (usize, usize)) {
        let labels = LaneLabels { lane: lane.as_str() };
        self.lane_waiting.get_or_create(&labels).set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.lane_under_way.get_or_create(&labels).set(i64::try_from(under_way).unwrap_or(i64::MAX));
    }

    pub(super) fn limit_reached(&self, lane: Lane) {
        self.lane_limit_reached.get_or_create(&LaneLabels { lane: lane.as_str() }).inc();
    }

    pub(super) fn put_off(&self, lane: Lane) {
        self.put_off.get_or_create(&LaneLabels { lane: lane.as_str() }).inc();
    }

    pub(super) fn action_done(&self, kind: ResourceKind, name: &'static str, result: &'static str, took: Duration) {
        self.actions.get_or_create(&ActionLabels { kind: kind.as_str(), action: name, result }).inc();
        self.action_duration.get_or_create(&ActionNameLabels { action: name }).observe(took.as_secs_f64());
    }

    pub(super) fn action_failed(&self, kind: ResourceKind, name: &'static str, category: &'static str) {
        self.action_errors.get_or_create(&ErrorLabels { kind: kind.as_str(), action: name, category }).inc();
    }

    pub(super) fn job_ended(&self, has_reported: bool) {
        let result = if has_reported { "reported" } else { "without_result" };
        self.jobs.get_or_create(&JobLabels { result }).inc();
    }

    pub(super) fn job_refused(&self) {
        self.jobs.get_or_create(&JobLabels { result: "refused" }).inc();
    }

    pub(super) fn unreadable(&self, source: Source, unreadable: &Unreadable) {
        self.unreadable.get_or_create(&SourceLabels { kind: source.as_str() }).inc();
        tracing::warn!(kind = source.as_str(), key = %unreadable.identity.key, error = %unreadable.error, "an object cannot be read");
    }

    /// Takes over what a route's status says of it now.
    // Every replica shows it, whoever wrote it: after a change of leaders none shows what is no longer so.
    pub(super) fn show_route(&self, key: &ObjectKey, status: &MailRouteStatus) {
        self.mail.show_route(key, status);
        for state in STATES {
            let is_in = status.state == Some(state);
            self.route_state.get_or_create(&state_labels(key, state)).set(i64::from(is_in));
        }
        match status.conditions.iter().find(|one| one.type_ == condition::DNS_APPLIED) {
            Some(dns) => {
                self.dns_failing.get_or_create(&route_labels(key)).set(i64::from(dns.status == "False"));
            }
            None => {
                self.dns_failing.remove(&route_labels(key));
            }
        }
        let webhooks = status.conditions.iter().find(|one| one.type_ == condition::WEBHOOKS_APPLIED);
        match webhooks {
            Some(webhooks) => {
                let is_failing = webhooks.status == "False";
                self.webhooks_failing.get_or_create(&route_labels(key)).set(i64::from(is_failing));
            }
            None => {
                self.webhooks_failing.remove(&route_labels(key));
            }
        }
        if let Some(is_delivering) = is_delivering(status) {
            self.route_delivering.get_or_create(&route_labels(key)).set(i64::from(is_delivering));
        }
    }

    /// Takes over what a backend's status says of it now.
    pub(super) fn show_backend(&self, key: &ObjectKey, status: &SendingBackendStatus, is_suspended: bool) {
        self.mail.show_backend(key, status, is_suspended);
        let is_throttled = status.health == Some(Health::Degraded)
            && status.reason.as_deref() == Some(EvidenceClass::Throttled.as_str());
        if is_throttled {
            self.backend_throttled.get_or_create(&backend_labels(key)).set(1);
        } else {
            self.backend_throttled.remove(&backend_labels(key));
        }
    }

    /// Removes the series of a backend that is gone.
    pub(super) fn forget_backend(&self, key: &ObjectKey) {
        self.backend_throttled.remove(&backend_labels(key));
        self.mail.forget_backend(key);
    }

    /// Takes over what a policy's status says of it now.
    pub(super) fn show_policy(&self, key: &ObjectKey, status: &FailoverPolicyStatus) {
        self.mail.show_policy(key, status);
    }

    /// Removes the series of a policy that is gone.
    pub(super) fn forget_policy(&self, key: &ObjectKey) {
        self.mail.forget_policy(key);
    }

    /// Counts the differences between a route's status that was written and the one before.
    pub(super) fn route_written(&self, key: &ObjectKey, before: Option<&MailRouteStatus>, status: &MailRouteStatus) {
        self.show_route(key, status);
        if let Some(result) = ended_drill(before, status) {
            self.mail.drill_written(key, result);
        }
        let Some(last) = &status.last_transition else { return };
        let earlier = before.and_then(|before| before.last_transition.as_ref()).filter(|earlier| earlier.id == last.id);
        if earlier.is_none() {
            let kind = match last.kind {
                TransitionKind::Failover => "Failover",
                TransitionKind::Failback => "Failback",
            };
            let labels = TransitionLabels {
                namespace: key.namespace.to_string(),
                route: key.name.to_string(),
                kind,
                reason: last.reason.clone(),
            };
            self.transitions.get_or_create(&labels).inc();
        }
        self.mail.transition_written(key, earlier, last);
    }

    /// Counts deliveries that an agent reports. Reports have totals since the agent's process began; `earlier` is the
    /// one before.
    pub(super) fn deliveries(
        &self,
        route: &ObjectKey,
        backend: &str,
        earlier: Option<&BackendDeliveries>,
        reported: &BackendDeliveries,
    ) {
        let before = earlier.map_or([0; RESULTS.len()], counts);
        for ((result, before), now) in RESULTS.into_iter().zip(before).zip(counts(reported)) {
            if let Some(new) = now.checked_sub(before).filter(|new| *new > 0) {
                self.deliveries.get_or_create(&delivery_labels(route, backend, result)).inc_by(new);
            }
        }
    }

    /// Shows the mail of a route that waits beside its agents.
    pub(super) fn kept(&self, route: &ObjectKey, KeptTotal { messages, oldest }: KeptTotal) {
        let labels = route_labels(route);
        self.kept_messages.get_or_create(&labels).set(i64::try_from(messages).unwrap_or(i64::MAX));
        self.oldest_kept.get_or_create(&labels).set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
    }

    /// Shows the mail in the queues beside the agents of a route.
    pub(super) fn queued(&self, route: &ObjectKey, messages: u64, oldest: Duration) {
        let labels = route_labels(route);
        self.queued_messages.get_or_create(&labels).set(i64::try_from(messages).unwrap_or(i64::MAX));
        self.oldest_queued.get_or_create(&labels).set(i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX));
    }

    /// Removes the series of a route that is gone.
    pub(super) fn forget_route(&self, key: &ObjectKey, backends: impl Iterator<Item = Arc<str>>) {
        for backend in backends {
            for result in RESULTS {
                self.deliveries.remove(&delivery_labels(key, &backend, result));
            }
        }
        for state in STATES {
            self.route_state.remove(&state_labels(key, state));
        }
        self.kept_messages.remove(&route_labels(key));
        self.oldest_kept.remove(&route_labels(key));
        self.queued_messages.remove(&route_labels(key));
        self.oldest_queued.remove(&route_labels(key));
        self.route_delivering.remove(&route_labels(key));
        self.dns_failing.remove(&route_labels(key));
        self.webhooks_failing.remove(&route_labels(key));
        self.mail.forget_route(key);
    }
}

/// Ends of deliveries, in the order of [`counts`].
const RESULTS: [&str; 5] = ["sent", "deferred", "bounced", "possible_duplicate", "diverted"];

fn counts(deliveries: &BackendDeliveries) -> [u64; RESULTS.len()] {
    let BackendDeliveries { verdict: _, is_bypassed: _, sent, deferred, bounced, possible_duplicates, diverted } =
        deliveries;
    [*sent, *deferred, *bounced, *possible_duplicates, *diverted]
}

fn delivery_labels(route: &ObjectKey, backend: &str, result: &'static str) -> DeliveryLabels {
    let (namespace, route) = (route.namespace.to_string(), route.name.to_string());
    DeliveryLabels { namespace, route, backend: backend.to_owned(), result }
}

fn backend_labels(key: &ObjectKey) -> BackendLabels {
    BackendLabels { namespace: key.namespace.to_string(), backend: key.name.to_string() }
}

fn route_labels(key: &ObjectKey) -> RouteLabels {
    RouteLabels { namespace: key.namespace.to_string(), route: key.name.to_string() }
}

fn state_labels(key: &ObjectKey, state: RouteState) -> RouteStateLabels {
    let state = match state {
        RouteState::Preferred => "Preferred",
        RouteState::FailedOver => "FailedOver",
        RouteState::FailingBack => "FailingBack",
        RouteState::Holding => "Holding",
        RouteState::Paused => "Paused",
        RouteState::NoneHealthy => "NoneHealthy",
        RouteState::Unknown => "Unknown",
    };
    RouteStateLabels { namespace: key.namespace.to_string(), route: key.name.to_string(), state }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
