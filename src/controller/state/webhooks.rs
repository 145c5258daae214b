//! Calls of webhooks under way, in fair shares.
//!
//! They have places of their own, so that a receiver that is dead costs no write anything. No namespace has more of them
//! than it leaves free, and namespaces that wait take turns.

use std::collections::BTreeMap;

use super::ControllerState;
use super::lane_queue::LaneQueue;
use crate::controller::action::ResourceRef;
use crate::controller::route::PlannedCall;
use crate::webhook::{WebhookCall, WebhookResult};
use mail_failover_core::model::Timestamp;

/// Bound on the calls under way, over all namespaces.
// ADR-0137: An awaited webhook is a part of applying, and no other output waits for one.
pub(super) const MAX_CALLS: usize = 64;

/// Calls under way, and the routes that wait for a place.
#[derive(Debug, Default)]
pub(super) struct WebhookCalls {
    queue: LaneQueue,
    /// The route of each call, by its number.
    under_way: BTreeMap<u64, ResourceRef>,
    last_number: u64,
}

impl WebhookCalls {
    /// Takes a place for a call of a route. Returns the call's number; `None` if there is no place.
    fn begin(&mut self, route: &ResourceRef) -> Option<u64> {
        if !self.queue.has_room(MAX_CALLS, &route.key.namespace) {
            return None;
        }
        self.queue.take(&route.key.namespace);
        self.last_number += 1;
        self.under_way.insert(self.last_number, route.clone());
        Some(self.last_number)
    }

    /// Frees the place of a call. Returns its route, and the one that may have a place next.
    fn end(&mut self, number: u64) -> Option<(ResourceRef, Option<ResourceRef>)> {
        let route = self.under_way.remove(&number)?;
        self.queue.release(&route.key.namespace);
        Some((route, self.queue.pop(MAX_CALLS, |_| true)))
    }

    /// Forgets every call under way; their results will be ignored.
    pub(super) fn abandon(&mut self) {
        self.under_way.clear();
        self.queue.clear();
    }

    /// Ends the wait of a route that is gone. Its calls go on.
    pub(super) fn forget(&mut self, route: &ResourceRef) {
        self.queue.leave(route);
    }
}

impl ControllerState {
    /// Begins calls of a route as far as there are places. The route waits for the rest, which is planned afresh then.
    pub(super) fn begin_webhook_calls(&mut self, resource: &ResourceRef, calls: Vec<PlannedCall>) {
        let Some(entry) = self.routes.get_mut(&resource.key) else { return };
        let mut waits = false;
        for call in calls {
            let Some(number) = self.webhook_calls.begin(resource) else {
                self.metrics.webhook_limit_reached.inc();
                self.webhook_calls.queue.wait(resource);
                waits = true;
                break;
            };
            entry.webhooks_mut().begun(number, &call);
            let PlannedCall { output, id, request, .. } = call;
            self.pending.webhook_calls.push(WebhookCall { number, route: resource.key.clone(), output, id, request });
        }
        if !waits {
            self.webhook_calls.queue.leave(resource);
        }
        self.show_webhook_calls();
    }

    /// Takes the end of a call into account.
    pub(super) fn handle_webhook_result(&mut self, now: Timestamp, result: &WebhookResult) {
        let WebhookResult { number, route: _, output, outcome } = result;
        let Some((route, next)) = self.webhook_calls.end(*number) else { return };
        self.queue.extend(next);
        let random = self.random.f64();
        if let Some(entry) = self.routes.get_mut(&route.key) {
            entry.webhooks_mut().ended(now, random, *number, output, outcome);
            self.queue.add(route);
        }
        self.show_webhook_calls();
    }

    fn show_webhook_calls(&self) {
        let under_way = i64::try_from(self.webhook_calls.under_way.len()).unwrap_or(i64::MAX);
        self.metrics.webhook_calls_under_way.set(under_way);
    }
}
