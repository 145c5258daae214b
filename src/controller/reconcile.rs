//! The result of a reconcile: at most one action, worked out afresh from what is persisted.

use super::action::Action;
use mail_failover_core::model::Timestamp;

/// Result of a reconcile of a resource with a status of type `S`.
#[derive(Debug)]
pub(super) struct Reconciled<S> {
    /// The next missing action.
    pub(super) action: Option<PlannedAction<S>>,
    /// Time of the next reconcile if nothing happens before.
    pub(super) next_timeout: Option<Timestamp>,
}

/// An action, and the status that it leaves behind if it writes one.
#[derive(Debug)]
pub(super) struct PlannedAction<S> {
    pub(super) action: Action,
    pub(super) status: Option<Box<S>>,
}

impl<S> Reconciled<S> {
    /// Nothing is to be done until something changes.
    pub(super) fn idle() -> Self {
        Self { action: None, next_timeout: None }
    }

    /// Nothing is to be done before this time, unless something changes.
    pub(super) fn at(timeout: Timestamp) -> Self {
        Self { action: None, next_timeout: Some(timeout) }
    }

    /// Adds a time of the next reconcile.
    pub(super) fn and_at(mut self, timeout: Option<Timestamp>) -> Self {
        self.next_timeout = [self.next_timeout, timeout].into_iter().flatten().min();
        self
    }
}

impl<S> From<Option<PlannedAction<S>>> for Reconciled<S> {
    fn from(action: Option<PlannedAction<S>>) -> Self {
        Self { action, next_timeout: None }
    }
}

impl<S> From<PlannedAction<S>> for Reconciled<S> {
    fn from(action: PlannedAction<S>) -> Self {
        Some(action).into()
    }
}

impl<S> PlannedAction<S> {
    /// An action that writes no status.
    pub(super) fn new(action: Action) -> Self {
        Self { action, status: None }
    }
}
