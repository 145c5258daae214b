//! Series of the mail itself, as statuses say it: health, shares, redundancy, conditions, holds, and the times of
//! transitions.
//!
//! Every replica shows what a status says now, whoever wrote it. Transitions are counted by the process that wrote them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use mail_failover_runtime::telemetry::metrics::{register, registered};

use super::action::ResourceKind;
use super::route::DRILL;
use mail_failover_api::conditions::condition;
use mail_failover_api::{
    DrillResultStatus, FailoverPolicyStatus, Health, MailRouteStatus, RouteDrillsStatus, RouteObjectivesStatus,
    SendingBackendStatus, TransitionKind, TransitionStatus,
};
use mail_failover_core::model::ObjectKey;
use mail_failover_resolve::time::timestamp;

/// Gauges and histograms of the mail; clones share them.
#[derive(Clone, Debug)]
pub(super) struct MailMetrics {
    backend_health: Family<HealthLabels, Gauge>,
    certificate_not_after: Family<BackendLabels, Gauge<f64, AtomicU64>>,
    share: Family<ShareLabels, Gauge<f64, AtomicU64>>,
    unplaced: Family<RouteLabels, Gauge<f64, AtomicU64>>,
    redundant: Family<RouteLabels, Gauge>,
    hold: Family<HoldLabels, Gauge>,
    condition: Family<ConditionLabels, Gauge>,
    objective: Family<ObjectiveLabels, Gauge>,
    objective_target: Family<TargetLabels, Gauge<f64, AtomicU64>>,
    error_budget: Family<TargetLabels, Gauge<f64, AtomicU64>>,
    drill_running: Family<DrillLabels, Gauge>,
    drill_passed: Family<RouteLabels, Gauge<f64, AtomicU64>>,
    drill_overdue: Family<RouteLabels, Gauge<f64, AtomicU64>>,
    drill_outcome: Family<OutcomeLabels, Gauge>,
    drills: Family<DrillResultLabels, Counter>,
    detection: Family<RouteLabels, Histogram, fn() -> Histogram>,
    actuation: Family<RouteLabels, Histogram, fn() -> Histogram>,
    first_delivery: Family<RouteLabels, Histogram, fn() -> Histogram>,
    shown: Arc<Mutex<Shown>>,
}

/// Labels of the series that are shown for each object, so that they are removed when they are no longer so.
#[derive(Debug, Default)]
struct Shown {
    health: BTreeMap<ObjectKey, HealthLabels>,
    shares: BTreeMap<ObjectKey, BTreeSet<String>>,
    holds: BTreeMap<ObjectKey, HoldLabels>,
    conditions: BTreeMap<(&'static str, ObjectKey), BTreeSet<(String, String)>>,
    objectives: BTreeMap<ObjectKey, BTreeSet<(String, String)>>,
    running_drills: BTreeMap<ObjectKey, DrillLabels>,
    drill_outcomes: BTreeMap<ObjectKey, OutcomeLabels>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrillLabels {
    namespace: String,
    route: String,
    mode: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    namespace: String,
    route: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrillResultLabels {
    namespace: String,
    route: String,
    mode: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectiveLabels {
    namespace: String,
    route: String,
    objective: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    namespace: String,
    route: String,
    objective: String,
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
struct HealthLabels {
    namespace: String,
    backend: String,
    health: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShareLabels {
    namespace: String,
    route: String,
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HoldLabels {
    namespace: String,
    route: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    kind: &'static str,
    namespace: String,
    name: String,
    r#type: String,
    status: String,
}

/// Conditions of backends and policies that have a series. The health of a backend has one of its own.
const TOLD: [&str; 2] = [condition::READY, condition::STALLED];

/// From a reload of a second to a failover that a hold put off for an hour.
fn times_of_transitions() -> Histogram {
    Histogram::new([0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0])
}

impl MailMetrics {
    /// Metrics in this registry.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("mail_failover");
        let histogram = times_of_transitions as fn() -> Histogram;
        Self {
            backend_health: register(
                registry,
                "backend_health",
                "1 for the health that a backend has now (Healthy, Degraded, Unhealthy, Unknown), with its reason; Suspended while it is out of service",
            ),
            certificate_not_after: register(
                registry,
                "backend_certificate_not_after_timestamp_seconds",
                "Unix time at which the first certificate expires that a backend presents; no series without TLS",
            ),
            share: register(
                registry,
                "route_backend_share_ratio",
                "Share of the mail of a route that a backend carries, 0 to 1",
            ),
            unplaced: register(
                registry,
                "route_unplaced_ratio",
                "Share of the mail of a route that exceeds what its backends take, 0 to 1",
            ),
            redundant: register(
                registry,
                "route_redundant",
                "1 if another healthy backend of a route could take over, 0 if none could; no series for a route with one backend",
            ),
            hold: register(
                registry,
                "route_hold",
                "1 while a route would move and waits, by the reason: a timer, a person, health, or the configuration; no series otherwise",
            ),
            condition: register(
                registry,
                "condition",
                "1 for the status (True, False, Unknown) that a condition of an object has now; of backends and policies the conditions Ready and Stalled",
            ),
            objective: register(
                registry,
                "route_objective",
                "1 for the state (Met, AtRisk, Missed, Unknown) that an objective of a route has, as its status was written last",
            ),
            objective_target: register(
                registry,
                "route_objective_target_ratio",
                "Share that an objective of a route demands (Availability, Success), 0 to 1",
            ),
            error_budget: register(
                registry,
                "route_error_budget_remaining_ratio",
                "Rest of the error budget of an objective (Availability, Success) over its window, 1 to 0, negative when it is overspent; as the status was written last",
            ),
            drill_running: register(
                registry,
                "route_drill_running",
                "1 while a drill of a route is under way, by its mode; no series otherwise",
            ),
            drill_passed: register(
                registry,
                "route_drill_passed_timestamp_seconds",
                "Unix time at which a drill of a route has passed last; no series before one has",
            ),
            drill_overdue: register(
                registry,
                "route_drill_overdue_timestamp_seconds",
                "Unix time from which on a drill of a route is overdue: two windows of its schedule without one that passed; no series without a schedule",
            ),
            drill_outcome: register(
                registry,
                "route_drill_outcome",
                "1 for the outcome (Passed, Failed) of the latest drill of a route that was neither skipped nor aborted; no series before one",
            ),
            drills: register(
                registry,
                "route_drills",
                "Drills that have ended, by mode and outcome, as far as this process has written their results",
            ),
            detection: registered(
                registry,
                "route_detection_duration_seconds",
                "Time from the first evidence of a failure until the failover was decided, as far as this process decided it",
                Family::new_with_constructor(histogram),
            ),
            actuation: registered(
                registry,
                "route_actuation_duration_seconds",
                "Time from the decision of a transition until every output was written, as far as this process wrote them",
                Family::new_with_constructor(histogram),
            ),
            first_delivery: registered(
                registry,
                "route_first_delivery_duration_seconds",
                "Time from the decision of a transition until the first message was out on the new way, as agents report it",
                Family::new_with_constructor(histogram),
            ),
            shown: Arc::default(),
        }
    }

    /// Shows what the status of a backend says.
    pub(super) fn show_backend(&self, key: &ObjectKey, status: &SendingBackendStatus, is_suspended: bool) {
        let (health, reason) = match status.health {
            // Nobody is alarmed about planned maintenance.
            _ if is_suspended => ("Suspended", "Suspended".to_owned()),
            Some(Health::Healthy) => ("Healthy", status.reason.clone().unwrap_or_default()),
            Some(Health::Degraded) => ("Degraded", status.reason.clone().unwrap_or_default()),
            Some(Health::Unhealthy) => ("Unhealthy", status.reason.clone().unwrap_or_default()),
            Some(Health::Unknown) | None => ("Unknown", status.reason.clone().unwrap_or_default()),
        };
        let BackendLabels { namespace, backend } = backend_labels(key);
        let labels = HealthLabels { namespace, backend, health, reason };
        self.backend_health.get_or_create(&labels).set(1);
        let earlier = self.shown().health.insert(key.clone(), labels.clone()).filter(|earlier| *earlier != labels);
        if let Some(earlier) = earlier {
            self.backend_health.remove(&earlier);
        }
        match &status.certificate_not_after {
            Some(at) => {
                self.certificate_not_after.get_or_create(&backend_labels(key)).set(unix_seconds(at));
            }
            None => {
                self.certificate_not_after.remove(&backend_labels(key));
            }
        }
        self.show_conditions(ResourceKind::Backend, key, &status.conditions, &TOLD);
    }

    /// Removes the series of a backend that is gone.
    pub(super) fn forget_backend(&self, key: &ObjectKey) {
        if let Some(labels) = self.shown().health.remove(key) {
            self.backend_health.remove(&labels);
        }
        self.certificate_not_after.remove(&backend_labels(key));
        self.show_conditions(ResourceKind::Backend, key, &[], &[]);
    }

    /// Shows what the status of a policy says.
    pub(super) fn show_policy(&self, key: &ObjectKey, status: &FailoverPolicyStatus) {
        self.show_conditions(ResourceKind::Policy, key, &status.conditions, &TOLD);
    }

    /// Removes the series of a policy that is gone.
    pub(super) fn forget_policy(&self, key: &ObjectKey) {
        self.show_conditions(ResourceKind::Policy, key, &[], &[]);
    }

    /// Shows what the status of a route says.
    pub(super) fn show_route(&self, key: &ObjectKey, status: &MailRouteStatus) {
        let labels = route_labels(key);
        let shares: BTreeSet<_> = status.active.iter().map(|active| active.backend.clone()).collect();
        for active in &status.active {
            let share = f64::from(active.percent) / 100.0;
            self.share.get_or_create(&share_labels(key, &active.backend)).set(share);
        }
        let before = self.shown().shares.insert(key.clone(), shares.clone()).unwrap_or_default();
        for gone in before.difference(&shares) {
            self.share.remove(&share_labels(key, gone));
        }
        let unplaced = f64::from(status.unplaced_percent.unwrap_or(0)) / 100.0;
        self.unplaced.get_or_create(&labels).set(unplaced);
        let redundant = status.conditions.iter().find(|one| one.type_ == condition::REDUNDANT);
        match redundant.filter(|_| status.backends.len() > 1) {
            Some(redundant) => {
                self.redundant.get_or_create(&labels).set(i64::from(redundant.status == "True"));
            }
            None => {
                self.redundant.remove(&labels);
            }
        }
        self.show_hold(key, status.waiting_for.as_ref().map(|hold| hold.reason.as_str()));
        self.show_objectives(key, status.objectives.as_ref());
        self.show_drills(key, status.drills.as_ref());
        let types: Vec<_> = status.conditions.iter().map(|one| one.type_.as_str()).collect();
        self.show_conditions(ResourceKind::Route, key, &status.conditions, &types);
    }

    /// Removes the series of a route that is gone.
    pub(super) fn forget_route(&self, key: &ObjectKey) {
        let labels = route_labels(key);
        for backend in self.shown().shares.remove(key).unwrap_or_default() {
            self.share.remove(&share_labels(key, &backend));
        }
        self.unplaced.remove(&labels);
        self.redundant.remove(&labels);
        self.show_hold(key, None);
        self.show_objectives(key, None);
        self.show_drills(key, None);
        self.show_conditions(ResourceKind::Route, key, &[], &[]);
        for times in [&self.detection, &self.actuation, &self.first_delivery] {
            times.remove(&labels);
        }
    }

    /// Counts the times of the latest transition that have become known since `earlier`, the same transition as it was
    /// written before.
    pub(super) fn transition_written(
        &self,
        key: &ObjectKey,
        earlier: Option<&TransitionStatus>,
        last: &TransitionStatus,
    ) {
        // A drill is measured in its result.
        if last.reason == DRILL {
            return;
        }
        let labels = route_labels(key);
        let is_failover = last.kind == TransitionKind::Failover;
        if let (None, Some(began_at)) = (earlier, last.first_evidence_at.as_ref().filter(|_| is_failover)) {
            self.detection.get_or_create(&labels).observe(seconds(began_at, &last.decided_at));
        }
        let Some(earlier) = earlier else { return };
        if let (Some(applied_at), None) = (&last.applied_at, &earlier.applied_at) {
            self.actuation.get_or_create(&labels).observe(seconds(&last.decided_at, applied_at));
        }
        if let (Some(out_at), None) = (&last.first_delivery_at, &earlier.first_delivery_at) {
            self.first_delivery.get_or_create(&labels).observe(seconds(&last.decided_at, out_at));
        }
    }

    fn show_hold(&self, key: &ObjectKey, reason: Option<&str>) {
        let RouteLabels { namespace, route } = route_labels(key);
        let labels = reason.map(|reason| HoldLabels { namespace, route, reason: reason.to_owned() });
        let mut shown = self.shown();
        let earlier = match &labels {
            Some(labels) => shown.holds.insert(key.clone(), labels.clone()),
            None => shown.holds.remove(key),
        };
        if let Some(earlier) = earlier.filter(|earlier| Some(earlier) != labels.as_ref()) {
            self.hold.remove(&earlier);
        }
        if let Some(labels) = labels {
            self.hold.get_or_create(&labels).set(1);
        }
    }

    fn show_objectives(&self, key: &ObjectKey, objectives: Option<&RouteObjectivesStatus>) {
        let results = objectives.iter().flat_map(|objectives| &objectives.results);
        let now: BTreeSet<_> = results.clone().map(|one| (one.objective.clone(), one.state.clone())).collect();
        let before = self.shown().objectives.insert(key.clone(), now.clone()).unwrap_or_default();
        for (objective, state) in before.difference(&now) {
            self.objective.remove(&objective_labels(key, objective, state));
            if !now.iter().any(|(still, _)| still == objective) {
                self.objective_target.remove(&target_labels(key, objective));
                self.error_budget.remove(&target_labels(key, objective));
            }
        }
        if now.is_empty() {
            self.shown().objectives.remove(key);
        }
        for one in results {
            self.objective.get_or_create(&objective_labels(key, &one.objective, &one.state)).set(1);
            let labels = target_labels(key, &one.objective);
            if let Some(percent) = one.target.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok()) {
                self.objective_target.get_or_create(&labels).set((percent * 1e4).round() / 1e6);
            }
            match one.error_budget_percent {
                Some(percent) => {
                    self.error_budget.get_or_create(&labels).set(f64::from(percent) / 100.0);
                }
                None => {
                    self.error_budget.remove(&labels);
                }
            }
        }
    }

    fn show_drills(&self, key: &ObjectKey, drills: Option<&RouteDrillsStatus>) {
        let RouteLabels { namespace, route } = route_labels(key);
        let running = drills.and_then(|drills| drills.running.as_ref());
        let running = running.map(|drill| DrillLabels {
            namespace: namespace.clone(),
            route: route.clone(),
            mode: drill.mode.clone(),
        });
        let mut results = drills.iter().flat_map(|drills| &drills.history);
        // One that was skipped or aborted has shown nothing: the failure before it is still the latest news.
        let latest = results.find(|result| matches!(result.outcome.as_str(), "Passed" | "Failed"));
        let outcome = latest.map(|result| OutcomeLabels { namespace, route, outcome: result.outcome.clone() });
        replace(&self.drill_running, &mut self.shown().running_drills, key, running);
        replace(&self.drill_outcome, &mut self.shown().drill_outcomes, key, outcome);
        for (series, at) in [
            (&self.drill_passed, drills.and_then(|drills| drills.passed_at.as_ref())),
            (&self.drill_overdue, drills.and_then(|drills| drills.overdue_at.as_ref())),
        ] {
            match at {
                Some(at) => {
                    series.get_or_create(&route_labels(key)).set(unix_seconds(at));
                }
                None => {
                    series.remove(&route_labels(key));
                }
            }
        }
    }

    /// Counts the drill whose result a status is the first to tell.
    pub(super) fn drill_written(&self, key: &ObjectKey, result: &DrillResultStatus) {
        let RouteLabels { namespace, route } = route_labels(key);
        let (mode, outcome) = (result.mode.clone(), result.outcome.clone());
        self.drills.get_or_create(&DrillResultLabels { namespace, route, mode, outcome }).inc();
    }

    fn show_conditions(&self, kind: ResourceKind, key: &ObjectKey, conditions: &[Condition], types: &[&str]) {
        let told = conditions.iter().filter(|one| types.contains(&one.type_.as_str()));
        let now: BTreeSet<_> = told.map(|one| (one.type_.clone(), one.status.clone())).collect();
        let place = (kind.as_str(), key.clone());
        let before = if now.is_empty() {
            self.shown().conditions.remove(&place)
        } else {
            self.shown().conditions.insert(place, now.clone())
        };
        for gone in before.unwrap_or_default().difference(&now) {
            self.condition.remove(&condition_labels(kind, key, gone));
        }
        for one in &now {
            self.condition.get_or_create(&condition_labels(kind, key, one)).set(1);
        }
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows 1 with these labels for an object, in place of those before.
fn replace<L: Clone + std::hash::Hash + Eq>(
    series: &Family<L, Gauge>,
    shown: &mut BTreeMap<ObjectKey, L>,
    key: &ObjectKey,
    labels: Option<L>,
) {
    let earlier = match &labels {
        Some(labels) => shown.insert(key.clone(), labels.clone()),
        None => shown.remove(key),
    };
    if let Some(earlier) = earlier.filter(|earlier| Some(earlier) != labels.as_ref()) {
        series.remove(&earlier);
    }
    if let Some(labels) = labels {
        series.get_or_create(&labels).set(1);
    }
}

fn route_labels(key: &ObjectKey) -> RouteLabels {
    RouteLabels { namespace: key.namespace.to_string(), route: key.name.to_string() }
}

fn backend_labels(key: &ObjectKey) -> BackendLabels {
    BackendLabels { namespace: key.namespace.to_string(), backend: key.name.to_string() }
}

fn share_labels(key: &ObjectKey, backend: &str) -> ShareLabels {
    let RouteLabels { namespace, route } = route_labels(key);
    ShareLabels { namespace, route, backend: backend.to_owned() }
}

fn objective_labels(key: &ObjectKey, objective: &str, state: &str) -> ObjectiveLabels {
    let TargetLabels { namespace, route, objective } = target_labels(key, objective);
    ObjectiveLabels { namespace, route, objective, state: state.to_owned() }
}

fn target_labels(key: &ObjectKey, objective: &str) -> TargetLabels {
    let RouteLabels { namespace, route } = route_labels(key);
    TargetLabels { namespace, route, objective: objective.to_owned() }
}

fn condition_labels(kind: ResourceKind, key: &ObjectKey, (type_, status): &(String, String)) -> ConditionLabels {
    ConditionLabels {
        kind: kind.as_str(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        r#type: type_.clone(),
        status: status.clone(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the microseconds of a date have the room")]
fn unix_seconds(at: &MicroTime) -> f64 {
    at.0.as_microsecond() as f64 / 1e6
}

fn seconds(from: &MicroTime, to: &MicroTime) -> f64 {
    let took: Duration = timestamp(to).since(timestamp(from));
    took.as_secs_f64()
}

#[cfg(test)]
#[path = "mail_metrics_tests.rs"]
mod tests;
