//! Resources to reconcile, their timers, the lanes that their actions wait in, and the actions under way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::PendingStatus;
use super::lane_queue::{LaneQueue, Urgency};
use super::pace::Pace;
use crate::controller::action::{Action, ActionRequest, ResourceKind, ResourceRef};
use crate::controller::lane::{Lane, Slot};
use crate::controller::retry::Retry;
use crate::controller::timers::KeyedTimers;
use mail_failover_core::model::{ObjectKey, Timestamp};

/// Resources to reconcile. What a reconcile finds to do begins at once if there is room in its lane, and waits there
/// otherwise, to be worked out afresh when its turn comes.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    due: BTreeSet<ResourceRef>,
    timers: KeyedTimers<ResourceRef>,
    lanes: BTreeMap<Lane, LaneQueue>,
    under_way: BTreeMap<(ResourceRef, Slot), UnderWay>,
    /// Pauses after failures; none of a slot whose latest action succeeded.
    retries: BTreeMap<(ResourceRef, Slot), Retry>,
    pace: Pace,
    last_id: u64,
}

/// An action under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    id: u64,
    lane: Lane,
    /// The status that it writes.
    pub(super) status: Option<PendingStatus>,
    /// Names of the Events that it publishes.
    pub(super) events: Vec<String>,
    /// True if the resource is to be reconciled as soon as the action has ended.
    is_due_after: bool,
}

impl WorkQueue {
    /// Reconciles a resource as soon as no write of it is under way.
    pub(super) fn add(&mut self, resource: ResourceRef) {
        match self.under_way.get_mut(&(resource.clone(), Slot::Write)) {
            Some(under_way) => under_way.is_due_after = true,
            None => {
                self.due.insert(resource);
            }
        }
    }

    /// Reconciles resources as soon as possible.
    pub(super) fn extend(&mut self, resources: impl IntoIterator<Item = ResourceRef>) {
        for resource in resources {
            self.add(resource);
        }
    }

    /// Reconciles a resource at a time, unless an earlier one is set already.
    pub(super) fn set_timer(&mut self, resource: &ResourceRef, at: Timestamp) {
        self.timers.set(resource, at);
    }

    /// Forgets all that a resource waits for. Its actions under way go on.
    pub(super) fn forget(&mut self, resource: &ResourceRef) {
        self.due.remove(resource);
        self.timers.clear(resource);
        for slot in Slot::ALL {
            self.leave(resource, slot);
            self.retries.remove(&(resource.clone(), slot));
        }
        self.pace.forget(resource);
    }

    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        let closed = self.lanes.iter().filter(|(_, queue)| queue.waiting() > 0);
        let opening = closed.filter_map(|(lane, _)| self.pace.opens_at(*lane));
        self.timers.next_timeout().into_iter().chain(opening).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(resource) = self.timers.pop_ended(now) {
            self.add(resource);
        }
    }

    /// Number of the resources to reconcile.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// The routes to reconcile.
    pub(super) fn due_routes(&self) -> impl Iterator<Item = &ResourceRef> {
        self.due.iter().filter(|resource| resource.kind == ResourceKind::Route)
    }

    /// Takes out a resource to reconcile. Returns false if it is not to be reconciled any more.
    pub(super) fn take_due(&mut self, resource: &ResourceRef) -> bool {
        self.due.remove(resource)
    }

    /// Takes out a resource to reconcile that comes after `earlier`: routes first, each kind in the order of its keys.
    // Routes first: a status of a backend can wait, mail cannot.
    pub(super) fn pop_due(&mut self, earlier: Option<&ResourceRef>) -> Option<ResourceRef> {
        let kinds = [ResourceKind::Route, ResourceKind::Backend, ResourceKind::Policy];
        let began = earlier.and_then(|earlier| kinds.iter().position(|kind| *kind == earlier.kind)).unwrap_or_default();
        let next = kinds[began..].iter().find_map(|kind| {
            let first = ResourceRef { kind: *kind, key: ObjectKey::new("", "") };
            let earlier = earlier.filter(|earlier| earlier.kind == *kind).cloned();
            let from = earlier.map_or(Bound::Included(first), Bound::Excluded);
            self.due.range((from, Bound::Unbounded)).next().filter(|next| next.kind == *kind).cloned()
        })?;
        self.due.remove(&next);
        Some(next)
    }

    /// Takes out the next resource that waits in a lane and may have a place now.
    pub(super) fn pop_waiting(&mut self, now: Timestamp, lane: Lane) -> Option<ResourceRef> {
        if !self.pace.is_open(now, lane) {
            return None;
        }
        let under_way = &self.under_way;
        let may_begin = |resource: &ResourceRef| !under_way.contains_key(&(resource.clone(), Slot::Write));
        let next = self.lanes.get_mut(&lane)?.pop(lane.bound(), may_begin)?;
        // It is reconciled now, and need not be once more.
        self.due.remove(&next);
        Some(next)
    }

    /// Returns true if an action of a resource may begin in a lane.
    pub(super) fn has_room(&mut self, now: Timestamp, resource: &ResourceRef, lane: Lane) -> bool {
        self.pace.is_open(now, lane)
            && self.lanes.get(&lane).is_none_or(|queue| queue.has_room(lane.bound(), &resource.key.namespace))
    }

    /// The time at which a resource may write again in a lane, with true if that is new; `None` if it may now.
    pub(super) fn put_off_until(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        lane: Lane,
    ) -> Option<(Timestamp, bool)> {
        self.pace.paused_until(now, resource, lane)
    }

    /// Lets a resource wait in a lane, and in no other for the same slot. Returns false if it waits there already.
    pub(super) fn wait(&mut self, resource: &ResourceRef, lane: Lane, urgency: Urgency) -> bool {
        for (other, queue) in &mut self.lanes {
            if *other != lane && other.slot() == lane.slot() {
                queue.leave(resource);
            }
        }
        self.lanes.entry(lane).or_default().wait_by(resource, urgency)
    }

    /// Ends the wait of a resource for a place.
    pub(super) fn leave(&mut self, resource: &ResourceRef, slot: Slot) {
        for (_, queue) in self.lanes.iter_mut().filter(|(lane, _)| lane.slot() == slot) {
            queue.leave(resource);
        }
    }

    /// Numbers of the resources that wait in a lane, and of the actions under way there.
    pub(super) fn load(&self, lane: Lane) -> (usize, usize) {
        self.lanes.get(&lane).map_or((0, 0), |queue| (queue.waiting(), queue.under_way()))
    }

    /// The resources with an action under way in a lane.
    pub(super) fn resources_under_way(&self, lane: Lane) -> impl Iterator<Item = &ResourceRef> {
        self.under_way.iter().filter(move |(_, under_way)| under_way.lane == lane).map(|((resource, _), _)| resource)
    }

    /// Returns true if an action of a resource is under way.
    pub(super) fn is_under_way(&self, resource: &ResourceRef, slot: Slot) -> bool {
        self.under_way.contains_key(&(resource.clone(), slot))
    }

    /// Puts an action under way.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        lane: Lane,
        action: Action,
        status: Option<PendingStatus>,
    ) -> ActionRequest {
        let events = match &action {
            Action::PublishEvents(events) => events.iter().filter_map(|event| event.metadata.name.clone()).collect(),
            Action::Confirm | Action::WriteStatus { .. } | Action::WriteOutputs { .. } | Action::RunJob { .. } => {
                vec![]
            }
        };
        self.leave(resource, lane.slot());
        self.pace.take(now, resource, lane);
        self.lanes.entry(lane).or_default().take(&resource.key.namespace);
        self.last_id += 1;
        let under_way = UnderWay { id: self.last_id, lane, status, events, is_due_after: false };
        self.under_way.insert((resource.clone(), lane.slot()), under_way);
        ActionRequest { id: self.last_id, resource: resource.clone(), action }
    }

    /// Ends an action; `None` if it is not under way.
    // The result is then that of an action of an earlier term.
    pub(super) fn finish(&mut self, resource: &ResourceRef, id: u64) -> Option<(Slot, UnderWay)> {
        let mut keys = Slot::ALL.into_iter().map(|slot| (resource.clone(), slot));
        let key = keys.find(|key| self.under_way.get(key).is_some_and(|under_way| under_way.id == id))?;
        let under_way = self.under_way.remove(&key)?;
        if let Some(queue) = self.lanes.get_mut(&under_way.lane) {
            queue.release(&resource.key.namespace);
        }
        if under_way.is_due_after {
            self.due.insert(resource.clone());
        }
        Some((key.1, under_way))
    }

    /// Notes that an action has succeeded.
    pub(super) fn succeed(&mut self, resource: &ResourceRef, slot: Slot) {
        self.retries.remove(&(resource.clone(), slot));
    }

    /// Notes that an action has failed. `random` is a number from 0 to 1.
    pub(super) fn fail(&mut self, now: Timestamp, resource: &ResourceRef, slot: Slot, random: f64, error: String) {
        self.retries.entry((resource.clone(), slot)).or_default().fail(now, random, error);
    }

    /// Returns true if the latest action of a slot failed.
    pub(super) fn has_failed(&self, resource: &ResourceRef, slot: Slot) -> bool {
        self.retries.contains_key(&(resource.clone(), slot))
    }

    /// End of the pause after a failure; `None` if there is none.
    pub(super) fn paused_until(&self, now: Timestamp, resource: &ResourceRef, slot: Slot) -> Option<Timestamp> {
        self.retries.get(&(resource.clone(), slot))?.until(now)
    }

    /// Forgets every action under way, and what waits for a place; their results will be ignored.
    pub(super) fn abandon_actions(&mut self) {
        for ((resource, _), under_way) in std::mem::take(&mut self.under_way) {
            if under_way.is_due_after {
                self.due.insert(resource);
            }
        }
        self.lanes.values_mut().for_each(LaneQueue::clear);
    }
}
