//! Calls under way, in fair shares.
//!
//! They have places of their own, so that a receiver that is dead costs no write anything. No namespace has more of them
//! than it leaves free, and namespaces that wait take turns.

use std::collections::BTreeMap;

use super::lane_queue::LaneQueue;
use crate::controller::action::ResourceRef;

/// Calls under way, and the resources that wait for a place.
#[derive(Debug)]
pub(super) struct CallPlaces {
    queue: LaneQueue,
    bound: usize,
    /// The resource of each call, by its number.
    under_way: BTreeMap<u64, ResourceRef>,
    last_number: u64,
}

impl CallPlaces {
    /// Places for so many calls at a time, over all namespaces.
    pub(super) fn new(bound: usize) -> Self {
        Self { queue: LaneQueue::default(), bound, under_way: BTreeMap::new(), last_number: 0 }
    }

    /// Takes a place for a call of a resource. Returns the call's number; `None` if there is no place.
    pub(super) fn begin(&mut self, resource: &ResourceRef) -> Option<u64> {
        if !self.queue.has_room(self.bound, &resource.key.namespace) {
            return None;
        }
        self.queue.take(&resource.key.namespace);
        self.last_number += 1;
        self.under_way.insert(self.last_number, resource.clone());
        Some(self.last_number)
    }

    /// Frees the place of a call. Returns its resource, and the one that may have a place next.
    pub(super) fn end(&mut self, number: u64) -> Option<(ResourceRef, Option<ResourceRef>)> {
        let resource = self.under_way.remove(&number)?;
        self.queue.release(&resource.key.namespace);
        Some((resource, self.queue.pop(self.bound, |_| true)))
    }

    /// Forgets every call under way; their results will be ignored.
    pub(super) fn abandon(&mut self) {
        self.under_way.clear();
        self.queue.clear();
    }

    /// Lets a resource wait for a place.
    pub(super) fn wait(&mut self, resource: &ResourceRef) {
        self.queue.wait(resource);
    }

    /// Ends the wait of a resource. Its calls go on.
    pub(super) fn leave(&mut self, resource: &ResourceRef) {
        self.queue.leave(resource);
    }

    /// Number of the calls under way.
    pub(super) fn under_way(&self) -> i64 {
        i64::try_from(self.under_way.len()).unwrap_or(i64::MAX)
    }
}
