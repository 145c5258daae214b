//! Resources to reconcile, their timers, and the actions under way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::PendingStatus;
use crate::controller::action::{Action, ActionRequest, ResourceKind, ResourceRef};
use crate::controller::timers::KeyedTimers;
use mail_failover_core::model::{ObjectKey, Timestamp};

/// Resources to reconcile. One that has an action under way stays in the queue until that has ended.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    due: BTreeSet<ResourceRef>,
    timers: KeyedTimers<ResourceRef>,
    under_way: BTreeMap<ResourceRef, UnderWay>,
    last_id: u64,
}

/// An action under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    id: u64,
    /// The status that it writes.
    pub(super) status: Option<PendingStatus>,
    /// Names of the Events that it publishes.
    pub(super) events: Vec<String>,
    is_job: bool,
}

impl WorkQueue {
    /// Reconciles a resource as soon as possible.
    pub(super) fn add(&mut self, resource: ResourceRef) {
        self.due.insert(resource);
    }

    /// Reconciles resources as soon as possible.
    pub(super) fn extend(&mut self, resources: impl IntoIterator<Item = ResourceRef>) {
        self.due.extend(resources);
    }

    /// Reconciles a resource at a time, unless an earlier one is set already.
    pub(super) fn set_timer(&mut self, resource: &ResourceRef, at: Timestamp) {
        self.timers.set(resource, at);
    }

    /// Takes the timer of a resource away.
    pub(super) fn clear_timer(&mut self, resource: &ResourceRef) {
        self.timers.clear(resource);
    }

    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.timers.next_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(resource) = self.timers.pop_ended(now) {
            self.due.insert(resource);
        }
    }

    /// Number of the resources to reconcile.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// Number of the actions under way.
    pub(super) fn actions_under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Number of the actions under way that create a Job.
    pub(super) fn jobs_under_way(&self) -> usize {
        self.under_way.values().filter(|action| action.is_job).count()
    }

    /// Takes the next resource of a kind that has no action under way, after `earlier` if given.
    pub(super) fn pop(&mut self, kind: ResourceKind, earlier: Option<ResourceRef>) -> Option<ResourceRef> {
        let first = ResourceRef { kind, key: ObjectKey::new("", "") };
        let from = earlier.map_or(Bound::Included(first), Bound::Excluded);
        let mut of_kind = self.due.range((from, Bound::Unbounded)).take_while(|resource| resource.kind == kind);
        let next = of_kind.find(|resource| !self.under_way.contains_key(*resource))?.clone();
        self.due.remove(&next);
        Some(next)
    }

    /// Puts an action under way.
    pub(super) fn begin(
        &mut self,
        resource: &ResourceRef,
        action: Action,
        status: Option<PendingStatus>,
    ) -> ActionRequest {
        let events = match &action {
            Action::PublishEvents(events) => events.iter().filter_map(|event| event.metadata.name.clone()).collect(),
            Action::Confirm | Action::WriteStatus { .. } | Action::WriteOutputs { .. } | Action::RunJob { .. } => {
                vec![]
            }
        };
        let is_job = matches!(action, Action::RunJob { .. });
        self.last_id += 1;
        self.under_way.insert(resource.clone(), UnderWay { id: self.last_id, status, events, is_job });
        ActionRequest { id: self.last_id, resource: resource.clone(), action }
    }

    /// Ends an action; `None` if it is not the one under way.
    // The result is then that of an action of an earlier term.
    pub(super) fn finish(&mut self, resource: &ResourceRef, id: u64) -> Option<UnderWay> {
        self.under_way.get(resource).filter(|under_way| under_way.id == id)?;
        self.under_way.remove(resource)
    }

    /// Forgets every action under way; their results will be ignored.
    pub(super) fn abandon_actions(&mut self) {
        self.under_way.clear();
    }
}
