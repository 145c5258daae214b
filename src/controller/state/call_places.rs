//! Places for calls out of the cluster, in fair shares.
//!
//! They are beside the lanes of writes, so that a receiver or a server that is dead costs no write anything. No namespace
//! has more of them than it leaves free, and namespaces that wait take turns.

use std::collections::BTreeMap;

use super::lane_queue::LaneQueue;
use crate::controller::action::ResourceRef;

/// Bound on the calls of one kind that are under way, over all namespaces.
// ADR-0137: An awaited webhook is a part of applying, and no other output waits for one.
pub(super) const MAX_CALLS: usize = 64;

/// Calls under way, and the routes that wait for a place.
#[derive(Debug, Default)]
pub(super) struct CallPlaces {
    queue: LaneQueue,
    /// The route of each call, by its number.
    under_way: BTreeMap<u64, ResourceRef>,
    last_number: u64,
}

impl CallPlaces {
    /// Takes a place for a call of a route. Returns the call's number; `None` if there is no place, and the route waits.
    pub(super) fn begin(&mut self, route: &ResourceRef) -> Option<u64> {
        if !self.queue.has_room(MAX_CALLS, &route.key.namespace) {
            self.queue.wait(route);
            return None;
        }
        self.queue.take(&route.key.namespace);
        self.last_number += 1;
        self.under_way.insert(self.last_number, route.clone());
        Some(self.last_number)
    }

    /// Frees the place of a call. Returns its route, and the one that may have a place next.
    pub(super) fn end(&mut self, number: u64) -> Option<(ResourceRef, Option<ResourceRef>)> {
        let route = self.under_way.remove(&number)?;
        self.queue.release(&route.key.namespace);
        Some((route, self.queue.pop(MAX_CALLS, |_| true)))
    }

    /// Forgets every call under way; their results will be ignored.
    pub(super) fn abandon(&mut self) {
        self.under_way.clear();
        self.queue.clear();
    }

    /// Ends the wait of a route. Its calls go on.
    pub(super) fn leave(&mut self, route: &ResourceRef) {
        self.queue.leave(route);
    }

    /// Number of the calls under way.
    pub(super) fn under_way(&self) -> i64 {
        i64::try_from(self.under_way.len()).unwrap_or(i64::MAX)
    }
}
