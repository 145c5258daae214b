//! Way of single messages whose backend does not take them, in words. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail_failover_api as api;
use mail_failover_core::engine::{Candidate, Decision, Share};
use mail_failover_core::model::{Backend, Route, TlsMode};
use mail_failover_resolve::time::timestamp;

/// Returns what becomes of a message that its backend does not take, and the backends that messages try last, where
/// agents stand beside the MTA. Empty without one.
pub(super) fn ways(
    route: &Route,
    decision: &Decision,
    candidates: &[Candidate],
    backends: &BTreeMap<Arc<str>, Backend>,
    diverted: &[api::DivertedStatus],
) -> Vec<String> {
    if route.agents.is_empty() {
        return vec![];
    }
    if !route.alternates {
        return vec!["a message waits for its backend: spec.messages.alternates is false".to_owned()];
    }
    let mut ways = vec![];
    for Share { backend: carrier, .. } in &decision.memory.shares {
        let Some(first) = backends.get(carrier) else { continue };
        let (mut next, mut apart) = (vec![], vec![]);
        for candidate in candidates.iter().filter(|candidate| candidate.name != *carrier) {
            let Some(backend) = backends.get(&candidate.name) else { continue };
            if decision.is_alternate(candidate, route) {
                let is_apart = is_implicit(first) != is_implicit(backend);
                if is_apart { apart.push(&*candidate.name) } else { next.push(&*candidate.name) }
            }
        }
        ways.push(match next.as_slice() {
            [] => format!(
                "a message that {carrier} does not take waits: no other backend may carry it within the same attempt"
            ),
            next => format!(
                "a message that {carrier} does not take goes to {} within the same attempt",
                next.join(", then ")
            ),
        });
        if !apart.is_empty() {
            ways.push(format!(
                "not from {carrier} to {}: one of them speaks TLS from the first byte, which Postfix sets for a whole list of next hops",
                apart.join(", ")
            ));
        }
    }
    for api::DivertedStatus { backend, since } in diverted {
        ways.push(format!(
            "messages try {backend} last since {}: its breaker is open at every agent of the route",
            timestamp(since)
        ));
    }
    ways
}

fn is_implicit(backend: &Backend) -> bool {
    backend.tls.mode == TlsMode::Implicit
}
