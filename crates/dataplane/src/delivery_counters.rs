//! Counters of the messages of each backend since the process began, and the report that the operator gets. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail_failover_contract::document::RouteReference;
use mail_failover_contract::routing::Routing;
use mail_failover_core::model::{
    BackendDeliveries, DeliveryVerdict, FailingDeliveries, QueuedMail, SwitchedMail, ThrottledDeliveries,
};

use super::answers::Answers;
use super::core::{BackendVerdict, BackendView, CoreView, Delivery, Disposition, LogEvent, SwitchView, TrafficVerdict};
use super::reporter::ReportState;

/// Totals of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    sent: u64,
    deferred: u64,
    bounced: u64,
    possible_duplicates: u64,
    /// Messages that a backend without a share took.
    diverted: u64,
}

/// Totals by backend. There are as many as routings have named, and those are bounded.
#[derive(Clone, Debug, Default)]
pub struct DeliveryCounters(BTreeMap<Arc<str>, Totals>);

impl DeliveryCounters {
    /// Counts an event of the log, if it is about a backend of the routing in force.
    pub fn count(&mut self, event: &LogEvent, answers: &Answers) {
        let routing = &*answers.routing;
        let place = match event {
            LogEvent::Delivery(delivery) => &delivery.place,
            LogEvent::PossibleDuplicate(place) => place,
            LogEvent::Suspended | LogEvent::Gone(_) => return,
        };
        let Some(at) = place.position_in(routing) else { return };
        let totals = self.0.entry(routing.backends[at].name.clone()).or_default();
        match event {
            LogEvent::Delivery(Delivery { disposition: Disposition::Sent, .. }) => {
                totals.sent += 1;
                // What a drill leads elsewhere is counted by the drill.
                totals.diverted += u64::from(routing.backends[at].percent == 0 && answers.refused.is_none());
            }
            LogEvent::Delivery(Delivery { disposition: Disposition::Deferred, .. }) => totals.deferred += 1,
            LogEvent::Delivery(Delivery { disposition: Disposition::Bounced, .. }) => totals.bounced += 1,
            LogEvent::PossibleDuplicate(_) => totals.possible_duplicates += 1,
            // Another backend's record tells what became of the message.
            LogEvent::Delivery(Delivery { disposition: Disposition::PassedOn, .. })
            | LogEvent::Suspended
            | LogEvent::Gone(_) => {}
        }
    }

    /// Messages that backends without a share took since the process began.
    pub fn diverted(&self) -> u64 {
        self.0.values().map(|totals| totals.diverted).sum()
    }

    /// Forgets backends that are no longer in the routing.
    pub fn keep_those_of(&mut self, routing: &Routing) {
        self.0.retain(|name, _| routing.backends.iter().any(|backend| backend.name == *name));
    }

    /// Builds the report for the operator.
    pub fn report(
        &self,
        routing: &Routing,
        view: &CoreView,
        verdicts: &[BackendVerdict],
        queue: Option<QueuedMail>,
    ) -> ReportState {
        let (namespace, name) = routing.route.split_once('/').unwrap_or_default();
        let backends = view.backends.iter().map(|backend| (backend.name.clone(), self.deliveries(backend, verdicts)));
        ReportState {
            route: RouteReference {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: routing.route_uid.to_string(),
            },
            operators: routing.operators.clone(),
            backends: backends.collect(),
            last_switch: view.last_switch.as_ref().map(|last| switched(last, view)),
            kept: view.kept.as_ref().map(|kept| kept.mail.clone()),
            queue,
            drill: view.drill.as_ref().map(|drill| drill.mail.clone()),
        }
    }

    fn deliveries(&self, backend: &BackendView, verdicts: &[BackendVerdict]) -> BackendDeliveries {
        let Totals { sent, deferred, bounced, possible_duplicates, diverted } =
            self.0.get(&backend.name).copied().unwrap_or_default();
        let verdict = verdicts.iter().find(|verdict| verdict.backend == backend.name);
        BackendDeliveries {
            verdict: verdict.map_or(DeliveryVerdict::Silent, |verdict| reported(&verdict.verdict)),
            // A drill is no news of the backend.
            is_bypassed: backend.decided > 0 && backend.carries == 0 && !backend.is_refused,
            sent,
            deferred,
            bounced,
            possible_duplicates,
            diverted,
        }
    }
}

fn reported(verdict: &TrafficVerdict) -> DeliveryVerdict {
    match verdict {
        TrafficVerdict::Failing { class, run } => DeliveryVerdict::Failing(FailingDeliveries {
            class: *class,
            message: run.summary.clone(),
            first_failure_at: run.since,
            last_failure_at: run.until,
            stage: Some(run.stage),
        }),
        TrafficVerdict::Throttled(run) => DeliveryVerdict::Throttled(ThrottledDeliveries {
            message: run.summary.clone(),
            first_at: run.since,
            last_at: run.until,
        }),
        TrafficVerdict::Working { .. } => DeliveryVerdict::Passing,
    }
}

fn switched(last: &SwitchView, view: &CoreView) -> SwitchedMail {
    let SwitchView { order, report, done_at: _, first_delivery_after, possible_duplicates_before } = last;
    SwitchedMail {
        transition: order.transition(view.transition),
        queue_before: report.as_ref().and_then(|report| report.queued_before).unwrap_or_default(),
        queue_after: report.as_ref().and_then(|report| report.queued_after).unwrap_or_default(),
        first_delivery_at: first_delivery_after.map(|after| order.at + after),
        first_delivery_after: *first_delivery_after,
        possible_duplicates: view.possible_duplicates.saturating_sub(*possible_duplicates_before),
    }
}
