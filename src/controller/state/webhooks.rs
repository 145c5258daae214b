//! Calls of webhooks under way.

use super::ControllerState;
use crate::controller::action::ResourceRef;
use crate::controller::route::PlannedCall;
use crate::webhook::{WebhookCall, WebhookResult};
use mail_failover_core::model::Timestamp;

/// Bound on the calls under way, over all namespaces.
// ADR-0137: An awaited webhook is a part of applying, and no other output waits for one.
pub(super) const MAX_CALLS: usize = 64;

impl ControllerState {
    /// Begins calls of a route as far as there are places. The route waits for the rest, which is planned afresh then.
    pub(super) fn begin_webhook_calls(&mut self, resource: &ResourceRef, calls: Vec<PlannedCall>) {
        let Some(entry) = self.routes.get_mut(&resource.key) else { return };
        let mut waits = false;
        for call in calls {
            let Some(number) = self.webhook_calls.begin(resource) else {
                self.metrics.webhook_limit_reached.inc();
                self.webhook_calls.wait(resource);
                waits = true;
                break;
            };
            entry.webhooks_mut().begun(number, &call);
            let PlannedCall { output, id, request, .. } = call;
            self.pending.webhook_calls.push(WebhookCall { number, route: resource.key.clone(), output, id, request });
        }
        if !waits {
            self.webhook_calls.leave(resource);
        }
        self.metrics.webhook_calls_under_way.set(self.webhook_calls.under_way());
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
        self.metrics.webhook_calls_under_way.set(self.webhook_calls.under_way());
    }
}
