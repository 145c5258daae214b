//! Calls of webhooks and attempts to lead zones under way: where they begin, and what follows from their end.

use super::ControllerState;
use crate::controller::action::ResourceRef;
use crate::controller::route::{PlannedCall, PlannedDnsCall};
use crate::dns::{DnsCall, DnsResult};
use crate::webhook::{WebhookCall, WebhookResult};
use mail_failover_core::model::Timestamp;

/// Bound on the calls of webhooks under way, over all namespaces.
// ADR-0137: An awaited webhook is a part of applying, and no other output waits for one.
pub(super) const MAX_WEBHOOK_CALLS: usize = 64;
/// Bound on the attempts to lead zones under way, over all namespaces.
pub(super) const MAX_DNS_CALLS: usize = 64;

impl ControllerState {
    /// Begins calls of a route as far as there are places. The route waits for the rest, which is planned afresh then.
    pub(super) fn begin_webhook_calls(&mut self, resource: &ResourceRef, planned: Vec<PlannedCall>) {
        let Some(entry) = self.routes.get_mut(&resource.key) else { return };
        let calls = &mut self.pending.webhook_calls;
        self.webhook_calls.begin_all(resource, planned, |number, planned| {
            entry.webhooks_mut().begun(number, &planned);
            let id = planned.id().clone();
            let PlannedCall { output, request, .. } = planned;
            calls.push(WebhookCall { number, route: resource.key.clone(), output, id, request });
        });
    }

    /// Begins attempts of a route as far as there are places. The route waits for the rest, which is planned afresh then.
    pub(super) fn begin_dns_calls(&mut self, resource: &ResourceRef, planned: Vec<PlannedDnsCall>) {
        let Some(entry) = self.routes.get_mut(&resource.key) else { return };
        let calls = &mut self.pending.dns_calls;
        self.dns_calls.begin_all(resource, planned, |number, planned| {
            entry.dns_mut().begun(number, &planned);
            calls.push(DnsCall { number, route: resource.key.clone(), request: planned.request });
        });
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
    }

    /// Takes the end of an attempt into account.
    pub(super) fn handle_dns_result(&mut self, now: Timestamp, result: &DnsResult) {
        let DnsResult { number, route: _, output, outcome } = result;
        let Some((route, next)) = self.dns_calls.end(*number) else { return };
        self.queue.extend(next);
        let random = self.random.f64();
        if let Some(entry) = self.routes.get_mut(&route.key) {
            entry.dns_mut().ended(now, random, *number, output, outcome);
            self.queue.add(route);
        }
    }
}
