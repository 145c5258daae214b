//! One lane of the work queue: the resources that wait for a place, and the places taken.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::controller::action::ResourceRef;
use mail_failover_core::model::Timestamp;

/// Urgency of a resource among those of its namespace; the smaller, the sooner its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Start of the time for which its mail has been in danger.
    Since(Timestamp),
    /// A route uses it.
    Used,
    /// No mail is known to wait for it.
    Usual,
}

/// Order in which resources of one namespace are served: by urgency, then by ticket.
type Rank = (Urgency, u64);

/// Resources that wait for a place in a lane, and the number of places that each namespace has taken.
///
/// Namespaces take turns. Within a namespace the most urgent goes first, and of equals who came first.
#[derive(Debug, Default)]
pub(super) struct LaneQueue {
    /// Resources that wait, by namespace and rank.
    waiting: BTreeMap<Arc<str>, BTreeMap<Rank, ResourceRef>>,
    ranks: BTreeMap<ResourceRef, Rank>,
    last_ticket: u64,
    /// The namespace that had the latest turn.
    last_turn: Option<Arc<str>>,
    /// Actions under way, by namespace; none is 0.
    taken: BTreeMap<Arc<str>, usize>,
}

impl LaneQueue {
    /// Puts a resource at the end of its namespace's queue. Returns false if it waits already, and then keeps its
    /// place.
    pub(super) fn wait(&mut self, resource: &ResourceRef) -> bool {
        self.wait_by(resource, Urgency::Usual)
    }

    /// Puts a resource behind those of its namespace that are as urgent. Returns false if it waits already. It keeps its
    /// ticket then, whatever its urgency is by now.
    pub(super) fn wait_by(&mut self, resource: &ResourceRef, urgency: Urgency) -> bool {
        let known = self.ranks.get(resource).copied();
        let ticket = known.map_or(self.last_ticket + 1, |(_, ticket)| ticket);
        let rank = (urgency, ticket);
        if known != Some(rank) {
            self.leave(resource);
            self.last_ticket = self.last_ticket.max(ticket);
            self.ranks.insert(resource.clone(), rank);
            self.waiting.entry(resource.key.namespace.clone()).or_default().insert(rank, resource.clone());
        }
        known.is_none()
    }

    /// Takes a resource out of the queue.
    pub(super) fn leave(&mut self, resource: &ResourceRef) {
        let Some(rank) = self.ranks.remove(resource) else { return };
        if let Some(of_namespace) = self.waiting.get_mut(&resource.key.namespace) {
            of_namespace.remove(&rank);
            if of_namespace.is_empty() {
                self.waiting.remove(&resource.key.namespace);
            }
        }
    }

    /// Takes out the next resource that may have a place, of the next namespace in turn.
    pub(super) fn pop(&mut self, bound: usize, may_begin: impl Fn(&ResourceRef) -> bool) -> Option<ResourceRef> {
        let next = self.in_turn().find_map(|namespace| {
            let of_namespace = self.waiting.get(namespace).filter(|_| self.has_room(bound, namespace))?;
            of_namespace.values().find(|resource| may_begin(resource)).cloned()
        })?;
        self.last_turn = Some(next.key.namespace.clone());
        self.leave(&next);
        Some(next)
    }

    /// The namespaces that wait, beginning after the one that had the latest turn.
    fn in_turn(&self) -> impl Iterator<Item = &Arc<str>> {
        let after = self.last_turn.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let until = self.last_turn.clone().map(Bound::Included);
        let rest = until.into_iter().flat_map(|until| self.waiting.range((Bound::Unbounded, until)));
        self.waiting.range((after, Bound::Unbounded)).chain(rest).map(|(namespace, _)| namespace)
    }

    /// Returns true if a namespace may take one more place: while it has fewer than are free.
    // So one namespace gets half of the places, two get a third each, and the next one always finds
    // some free: what hangs in a few namespaces holds up nobody else (the dynamic threshold of
    // Choudhury and Hahne, with the factor 1).
    pub(super) fn has_room(&self, bound: usize, namespace: &str) -> bool {
        let of_namespace = self.taken.get(namespace).copied().unwrap_or_default();
        of_namespace < bound.saturating_sub(self.under_way())
    }

    /// Replaces the numbers of places that each namespace has taken.
    pub(super) fn set_taken(&mut self, taken: BTreeMap<Arc<str>, usize>) {
        self.taken = taken;
        self.taken.retain(|_, count| *count > 0);
    }

    pub(super) fn take(&mut self, namespace: &Arc<str>) {
        *self.taken.entry(namespace.clone()).or_default() += 1;
    }

    pub(super) fn release(&mut self, namespace: &str) {
        if let Some(taken) = self.taken.get_mut(namespace) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(namespace);
            }
        }
    }

    /// Number of the places taken.
    pub(super) fn under_way(&self) -> usize {
        self.taken.values().sum()
    }

    /// Number of the resources that wait.
    pub(super) fn waiting(&self) -> usize {
        self.ranks.len()
    }

    /// Forgets all that wait or have a place.
    pub(super) fn clear(&mut self) {
        *self = Self { last_turn: self.last_turn.take(), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_failover_core::model::ObjectKey;

    fn route(namespace: &str, name: &str) -> ResourceRef {
        ResourceRef::route(&ObjectKey::new(namespace, name))
    }

    fn popped(queue: &mut LaneQueue, bound: usize) -> Vec<String> {
        let mut popped = vec![];
        while let Some(next) = queue.pop(bound, |_| true) {
            queue.take(&next.key.namespace);
            popped.push(next.key.to_string());
        }
        popped
    }

    #[test]
    fn namespaces_take_turns_and_within_one_who_came_first_goes_first() {
        let mut queue = LaneQueue::default();
        for (namespace, name) in [("a", "3"), ("a", "1"), ("a", "2"), ("b", "1"), ("c", "1")] {
            assert!(queue.wait(&route(namespace, name)));
        }
        assert!(!queue.wait(&route("a", "3")), "it keeps its place");
        assert_eq!(popped(&mut queue, 100), ["a/3", "b/1", "c/1", "a/1", "a/2"]);
        assert_eq!((queue.waiting(), queue.under_way()), (0, 5));
        // Who had a turn goes to the end.
        for (namespace, name) in [("a", "3"), ("b", "1"), ("a", "1")] {
            queue.release(namespace);
            queue.wait(&route(namespace, name));
        }
        assert_eq!(popped(&mut queue, 100), ["b/1", "a/3", "a/1"]);
    }

    #[test]
    fn within_a_namespace_the_oldest_danger_goes_first_and_turns_stay_turns() {
        let since = |second: i64| Urgency::Since(Timestamp::from_micros(second * 1_000_000));
        let mut queue = LaneQueue::default();
        for (name, urgency) in [("1", Urgency::Usual), ("2", since(9)), ("3", since(5)), ("4", Urgency::Used)] {
            assert!(queue.wait_by(&route("a", name), urgency));
        }
        assert!(queue.wait(&route("b", "1")));
        assert_eq!(popped(&mut queue, 100), ["a/3", "b/1", "a/2", "a/4", "a/1"]);
        // Danger that comes up while it waits.
        for name in ["1", "2"] {
            queue.wait(&route("c", name));
        }
        assert!(!queue.wait_by(&route("c", "2"), since(1)), "it waits already");
        assert_eq!(popped(&mut queue, 100), ["c/2", "c/1"]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_namespace_takes_no_more_places_than_it_leaves_free() {
        let mut queue = LaneQueue::default();
        for namespace in ["a", "b", "c"] {
            for name in 0..100 {
                queue.wait(&route(namespace, &name.to_string()));
            }
        }
        let only_a = |resource: &ResourceRef| &*resource.key.namespace == "a";
        while let Some(next) = queue.pop(64, only_a) {
            queue.take(&next.key.namespace);
        }
        assert_eq!(queue.under_way(), 32);
        // Whatever of it hangs, others find room at once.
        assert!(queue.has_room(64, "b"));
        assert_eq!(popped(&mut queue, 64).first().map(String::as_str), Some("b/0"));
        assert!(queue.has_room(64, "d") && queue.under_way() < 64, "a fourth one, too: {}", queue.under_way());
    }

    #[test]
    fn who_may_not_begin_yet_keeps_nobody_waiting() {
        let mut queue = LaneQueue::default();
        for name in ["1", "2"] {
            queue.wait(&route("a", name));
        }
        assert_eq!(queue.pop(8, |resource| &*resource.key.name != "1"), Some(route("a", "2")));
        assert_eq!(queue.pop(8, |_| true), Some(route("a", "1")));
        queue.wait(&route("a", "3"));
        queue.leave(&route("a", "3"));
        assert_eq!(queue.pop(8, |_| true), None);
    }
}
