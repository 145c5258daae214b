//! The result of a reconcile: at most one write and one publication of Events, worked out afresh
//! from what is persisted.

use super::action::Action;
use super::lane::Lane;
use mail_failover_core::model::Timestamp;

/// Result of a reconcile of a resource with a status of type `S`.
#[derive(Debug)]
pub(super) struct Reconciled<S> {
    /// The next missing action.
    pub(super) action: Option<PlannedAction<S>>,
    /// Events to publish beside it.
    pub(super) publication: Option<Action>,
    /// Time of the next reconcile if nothing happens before.
    pub(super) next_timeout: Option<Timestamp>,
}

/// An action, and the status that it leaves behind if it writes one.
#[derive(Debug)]
pub(super) struct PlannedAction<S> {
    pub(super) lane: Lane,
    pub(super) action: Action,
    pub(super) status: Option<Box<S>>,
}

/// The Events of a resource that are being published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publishing {
    pub(super) is_under_way: bool,
    /// True if the latest attempt failed.
    pub(super) has_failed: bool,
    /// End of the pause after that.
    pub(super) paused_until: Option<Timestamp>,
}

impl Publishing {
    /// Returns true if a publication may begin.
    pub(super) fn may_begin(self) -> bool {
        !self.is_under_way && self.paused_until.is_none()
    }
}

impl<S> Reconciled<S> {
    /// Nothing is to be done until something changes.
    pub(super) fn idle() -> Self {
        Self { action: None, publication: None, next_timeout: None }
    }

    /// Nothing is to be done before this time, unless something changes.
    pub(super) fn at(timeout: Timestamp) -> Self {
        Self { next_timeout: Some(timeout), ..Self::idle() }
    }

    /// Adds a time of the next reconcile.
    pub(super) fn and_at(mut self, timeout: Option<Timestamp>) -> Self {
        self.next_timeout = [self.next_timeout, timeout].into_iter().flatten().min();
        self
    }

    /// Adds the next missing action.
    pub(super) fn and_act(mut self, action: Option<PlannedAction<S>>) -> Self {
        self.action = action;
        self
    }

    /// Adds Events to publish.
    pub(super) fn and_publish(mut self, publication: Option<Action>) -> Self {
        self.publication = publication;
        self
    }
}

impl<S> From<Option<PlannedAction<S>>> for Reconciled<S> {
    fn from(action: Option<PlannedAction<S>>) -> Self {
        Self { action, ..Self::idle() }
    }
}

impl<S> From<PlannedAction<S>> for Reconciled<S> {
    fn from(action: PlannedAction<S>) -> Self {
        Some(action).into()
    }
}

impl<S> PlannedAction<S> {
    /// An action that writes no status.
    pub(super) fn new(lane: Lane, action: Action) -> Self {
        Self { lane, action, status: None }
    }
}
