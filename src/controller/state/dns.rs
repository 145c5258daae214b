//! Attempts to lead zones under way.

use super::ControllerState;
use crate::controller::action::ResourceRef;
use crate::controller::route::PlannedDnsCall;
use crate::dns::{DnsCall, DnsResult};
use mail_failover_core::model::Timestamp;

/// Bound on the attempts under way, over all namespaces.
pub(super) const MAX_CALLS: usize = 64;

impl ControllerState {
    /// Begins attempts of a route as far as there are places. The route waits for the rest, which is planned afresh then.
    pub(super) fn begin_dns_calls(&mut self, resource: &ResourceRef, calls: Vec<PlannedDnsCall>) {
        let Some(entry) = self.routes.get_mut(&resource.key) else { return };
        let mut waits = false;
        for call in calls {
            let Some(number) = self.dns_calls.begin(resource) else {
                self.metrics.dns_limit_reached.inc();
                self.dns_calls.wait(resource);
                waits = true;
                break;
            };
            entry.dns_mut().begun(number, &call);
            self.pending.dns_calls.push(DnsCall { number, route: resource.key.clone(), request: call.request });
        }
        if !waits {
            self.dns_calls.leave(resource);
        }
        self.metrics.dns_calls_under_way.set(self.dns_calls.under_way());
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
        self.metrics.dns_calls_under_way.set(self.dns_calls.under_way());
    }
}
