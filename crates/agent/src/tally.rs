//! Counters of the messages of each backend since the process began, and the report that the operator gets. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::core::{Delivery, Disposition, Opinion, Sighting, SwitchView, View, Word};
use super::reporter::ReportState;
use mail_failover_contract::document::RouteReference;
use mail_failover_contract::routing::Routing;
use mail_failover_core::model::{BackendDeliveries, FailingDeliveries, SwitchedMail};

/// Totals of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    sent: u64,
    deferred: u64,
    bounced: u64,
    possible_duplicates: u64,
}

/// Totals by backend. There are as many as routings have named, and those are bounded.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<Arc<str>, Totals>);

impl Tally {
    /// Counts an event of the log, if it is about a backend of this routing.
    pub fn count(&mut self, sighting: &Sighting, routing: &Routing) {
        let place = match sighting {
            Sighting::Delivery(delivery) => &delivery.place,
            Sighting::PossibleDuplicate(place) => place,
            Sighting::Suspended => return,
        };
        let Some(at) = place.position_in(routing) else { return };
        let totals = self.0.entry(routing.backends[at].name.clone()).or_default();
        match sighting {
            Sighting::Delivery(Delivery { disposition: Disposition::Sent, .. }) => totals.sent += 1,
            Sighting::Delivery(Delivery { disposition: Disposition::Deferred, .. }) => totals.deferred += 1,
            Sighting::Delivery(Delivery { disposition: Disposition::Bounced, .. }) => totals.bounced += 1,
            Sighting::PossibleDuplicate(_) => totals.possible_duplicates += 1,
            Sighting::Suspended => {}
        }
    }

    /// Forgets backends that are no longer in the routing.
    pub fn keep_those_of(&mut self, routing: &Routing) {
        self.0.retain(|name, _| routing.backends.iter().any(|backend| backend.name == *name));
    }

    /// Builds the report for the operator.
    pub fn report(&self, routing: &Routing, view: &View, words: &[Word]) -> ReportState {
        let (namespace, name) = routing.route.split_once('/').unwrap_or_default();
        let backends = view.backends.iter().map(|backend| {
            let Totals { sent, deferred, bounced, possible_duplicates } =
                self.0.get(&backend.name).copied().unwrap_or_default();
            let opinion = words.iter().find(|word| word.backend == backend.name).map(|word| &word.opinion);
            let deliveries = BackendDeliveries {
                word: opinion.map_or(mail_failover_core::model::Word::Silent, word),
                is_left: backend.left.is_some(),
                sent,
                deferred,
                bounced,
                possible_duplicates,
            };
            (backend.name.clone(), deliveries)
        });
        ReportState {
            route: RouteReference {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: routing.route_uid.to_string(),
            },
            operators: routing.operators.clone(),
            backends: backends.collect(),
            last_switch: view.last_switch.as_ref().map(|last| switched(last, view)),
        }
    }
}

fn word(opinion: &Opinion) -> mail_failover_core::model::Word {
    match opinion {
        Opinion::Failing { class, run } => mail_failover_core::model::Word::Failing(FailingDeliveries {
            class: *class,
            message: run.summary.clone(),
            first_failure_at: run.since,
            last_failure_at: run.until,
        }),
        Opinion::Working { .. } => mail_failover_core::model::Word::Passing,
    }
}

fn switched(last: &SwitchView, view: &View) -> SwitchedMail {
    let SwitchView { order, report, done_at: _, first_delivery_after, possible_duplicates_before, confirmed_by } = last;
    SwitchedMail {
        transition: order.transition(view.transition).or(*confirmed_by),
        queue_before: report.as_ref().and_then(|report| report.queued_before).unwrap_or_default(),
        queue_after: report.as_ref().and_then(|report| report.queued_after).unwrap_or_default(),
        first_delivery_at: first_delivery_after.map(|after| order.at + after),
        first_delivery_after: *first_delivery_after,
        possible_duplicates: view.possible_duplicates.saturating_sub(*possible_duplicates_before),
    }
}
