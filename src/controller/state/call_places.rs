//! Calls under way, in fair shares.
//!
//! They have places of their own, so that a receiver that is dead costs no write anything. No namespace has more of them
//! than it leaves free, and namespaces that wait take turns.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

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
    /// Number of the calls under way.
    load: Gauge,
    /// Times that a resource had to wait for a place.
    limit_reached: Counter,
}

impl CallPlaces {
    /// Places for so many calls at a time, over all namespaces, with the metrics that show how many there are and how
    /// often there was no place.
    pub(super) fn new(bound: usize, load: Gauge, limit_reached: Counter) -> Self {
        Self { queue: LaneQueue::default(), bound, under_way: BTreeMap::new(), last_number: 0, load, limit_reached }
    }

    /// Begins the calls of a resource as far as there are places. The resource waits for the others, which are dropped:
    /// they are planned afresh then.
    pub(super) fn begin_all<P>(&mut self, resource: &ResourceRef, planned: Vec<P>, mut begun: impl FnMut(u64, P)) {
        for planned in planned {
            let Some(number) = self.begin(resource) else { return self.wait(resource) };
            begun(number, planned);
        }
        self.leave(resource);
    }

    /// Takes a place for a call of a resource. Returns the call's number; `None` if there is no place.
    pub(super) fn begin(&mut self, resource: &ResourceRef) -> Option<u64> {
        if !self.queue.has_room(self.bound, &resource.key.namespace) {
            return None;
        }
        self.queue.take(&resource.key.namespace);
        self.last_number += 1;
        self.under_way.insert(self.last_number, resource.clone());
        self.show_load();
        Some(self.last_number)
    }

    /// Frees the place of a call. Returns its resource, and the one that may have a place next.
    pub(super) fn end(&mut self, number: u64) -> Option<(ResourceRef, Option<ResourceRef>)> {
        let resource = self.under_way.remove(&number)?;
        self.queue.release(&resource.key.namespace);
        self.show_load();
        Some((resource, self.queue.pop(self.bound, |_| true)))
    }

    /// Forgets every call under way; their results will be ignored.
    pub(super) fn abandon(&mut self) {
        self.under_way.clear();
        self.queue.clear();
        self.show_load();
    }

    /// Lets a resource wait for a place.
    pub(super) fn wait(&mut self, resource: &ResourceRef) {
        self.limit_reached.inc();
        self.queue.wait(resource);
    }

    /// Ends the wait of a resource. Its calls go on.
    pub(super) fn leave(&mut self, resource: &ResourceRef) {
        self.queue.leave(resource);
    }

    fn show_load(&self) {
        self.load.set(i64::try_from(self.under_way.len()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_failover_core::model::ObjectKey;

    fn route(namespace: &str, name: &str) -> ResourceRef {
        ResourceRef::route(&ObjectKey::new(namespace, name))
    }

    fn places(bound: usize) -> (CallPlaces, Gauge, Counter) {
        let (load, limit_reached) = (Gauge::default(), Counter::default());
        (CallPlaces::new(bound, load.clone(), limit_reached.clone()), load, limit_reached)
    }

    fn begin(places: &mut CallPlaces, resource: &ResourceRef, planned: &[&'static str]) -> Vec<(u64, &'static str)> {
        let mut begun = vec![];
        places.begin_all(resource, planned.to_vec(), |number, planned| begun.push((number, planned)));
        begun
    }

    #[test]
    fn a_resource_waits_for_what_has_no_place_and_is_named_when_one_is_free() {
        let (mut places, load, limit_reached) = places(2);
        let (first, second) = (route("a", "x"), route("b", "y"));
        assert_eq!(begin(&mut places, &first, &["1", "2"]), [(1, "1")], "no namespace has more than it leaves free");
        assert_eq!((load.get(), limit_reached.get()), (1, 1));
        assert_eq!(begin(&mut places, &second, &["3"]), [(2, "3")]);
        assert_eq!(places.end(9), None, "no such call");
        assert_eq!(places.end(1), Some((first.clone(), Some(first.clone()))));
        assert_eq!(load.get(), 1);
        assert_eq!(begin(&mut places, &first, &["2"]), [(3, "2")]);
        assert_eq!(places.end(2), Some((second, None)), "nobody waits any more");
    }

    #[test]
    fn a_new_term_forgets_the_calls_of_the_one_before_and_shows_that() {
        let (mut places, load, _) = places(4);
        let route = route("a", "x");
        assert_eq!(begin(&mut places, &route, &["1"]), [(1, "1")]);
        places.abandon();
        assert_eq!(load.get(), 0);
        assert_eq!(places.end(1), None, "its result comes too late");
        assert_eq!(begin(&mut places, &route, &["2"]), [(2, "2")], "numbers go on");
    }
}
