//! Results of actions, taken over into the state.

use super::work_queue::UnderWay;
use super::{ControllerState, PendingStatus};
use crate::controller::action::{
    Action, ActionError, ActionOutcome, ActionResult, ResourceKind, ResourceRef, WriteOutcome,
};
use crate::controller::cached::UnreadableContent;
use crate::controller::events::{self, EventReason};
use crate::controller::input::Input;
use crate::controller::lane::{Lane, Slot};
use crate::controller::route::rivals;
use crate::output::OutputKey;
use crate::watch::Change;
use mail_failover_api::{Health, MailRouteStatus, SendingBackendStatus};
use mail_failover_core::model::{ObjectIdentity, ResourceVersion, Timestamp, Uid};

/// Version of an unreadable object that was reported, and the stage that the report has reached.
// The generation of the spec counts, not the resourceVersion: our own write of the status must not look like a change.
#[derive(Debug)]
pub(super) struct ReportedUnreadable {
    uid: Uid,
    generation: i64,
    is_published: bool,
}

impl ControllerState {
    pub(super) fn handle_result(&mut self, now: Timestamp, result: ActionResult) {
        let ActionResult { id, resource, outcome } = result;
        let Some((slot, under_way)) = self.queue.finish(&resource, id) else { return };
        let outcome = match outcome {
            Err(ActionError::OutputsIncomplete { written, cause }) => {
                self.outputs_written(now, &resource, &written, Some(&cause));
                // The pause is that of the outputs alone: the status is to say that they fail.
                if cause.is_permanent() { Err(*cause) } else { Ok(()) }
            }
            Err(error) => Err(error),
            Ok(outcome) => {
                self.handle_outcome(now, &resource, outcome, under_way);
                Ok(())
            }
        };
        let random = self.random.f64();
        let is_permanent = match outcome {
            Ok(()) => {
                self.queue.succeed(&resource, slot);
                false
            }
            Err(error) => {
                if slot == Slot::Write {
                    self.reported.remove(&resource);
                }
                self.queue.fail(now, &resource, slot, random, error.to_string());
                error.is_permanent()
            }
        };
        if !is_permanent {
            self.queue.add(resource);
        }
    }

    fn handle_outcome(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        outcome: ActionOutcome,
        UnderWay { status, events, .. }: UnderWay,
    ) {
        match outcome {
            ActionOutcome::Fresh(event) => self.handle_fresh(now, resource, (*event).into()),
            ActionOutcome::StatusWritten { resource_version } => {
                self.status_written(resource, &resource_version, status);
            }
            ActionOutcome::OutputsWritten(written) => self.outputs_written(now, resource, &written, None),
            ActionOutcome::JobObserved(job) => self.handle_job(now, Change::Applied(job)),
            ActionOutcome::JobRefused { probe, message } => self.job_refused(now, resource, &probe, &message),
            ActionOutcome::EventsPublished => self.events_published(resource, events),
        }
    }

    /// Takes over a resource that was read afresh.
    pub(super) fn handle_fresh(&mut self, now: Timestamp, resource: &ResourceRef, input: Input) {
        self.handle(now, input);
        self.reported.remove(resource);
        match resource.kind {
            ResourceKind::Route => {
                if let Some(entry) = self.routes.get_mut(&resource.key) {
                    entry.confirmed();
                    self.note_notifications(&resource.key);
                }
            }
            ResourceKind::Policy => {
                if let Some(entry) = self.policies.get_mut(&resource.key) {
                    entry.is_confirmed = true;
                }
            }
            ResourceKind::Backend => {}
        }
    }

    fn events_published(&mut self, resource: &ResourceRef, names: Vec<String>) {
        if let Some(reported) = self.reported.get_mut(resource) {
            reported.is_published = true;
        }
        match resource.kind {
            ResourceKind::Policy => {}
            ResourceKind::Backend => {
                if let Some(entry) = self.backends.get_mut(&resource.key) {
                    entry.events_published(names);
                }
            }
            ResourceKind::Route => {
                if let Some(entry) = self.routes.get_mut(&resource.key) {
                    entry.events_published(names);
                }
            }
        }
    }

    fn status_written(&mut self, resource: &ResourceRef, version: &ResourceVersion, status: Option<PendingStatus>) {
        match status {
            Some(PendingStatus::Policy(status)) => {
                self.metrics.notifications.show_policy(&resource.key, &status);
                self.metrics.show_policy(&resource.key, &status);
                if let Some(entry) = self.policies.get_mut(&resource.key) {
                    entry.status_written(version, *status);
                }
                self.requeue_routes_told_by(&resource.key);
            }
            Some(PendingStatus::Backend { before, after }) => {
                let object = self.backends.get(&resource.key).and_then(|entry| entry.object.as_ref()?.readable());
                let is_suspended = object.is_some_and(|object| object.spec.suspended.unwrap_or(false));
                self.metrics.show_backend(&resource.key, &after, is_suspended);
                log_backend(resource, before, &after);
                if let Some(entry) = self.backends.get_mut(&resource.key) {
                    entry.status_written(version, *after);
                }
            }
            Some(PendingStatus::Route { before, after }) => {
                let before = before.as_ref().as_ref();
                self.metrics.route_written(&resource.key, before, &after);
                log_route(resource, before, &after);
                if let Some(entry) = self.routes.get_mut(&resource.key) {
                    let left = entry.active();
                    entry.status_written(version, *after);
                    let has_moved = entry.active() != left;
                    for left in left {
                        self.drop_unneeded_backend(&resource.key.sibling(left));
                    }
                    if has_moved {
                        self.divide_anew(&resource.key);
                    }
                }
                self.note_notifications(&resource.key);
            }
            // The status of an object that cannot be read is not cached.
            None => {}
        }
    }

    fn outputs_written(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        written: &[(OutputKey, WriteOutcome)],
        error: Option<&ActionError>,
    ) {
        for (key, outcome) in written {
            match outcome {
                WriteOutcome::Observed(output) => self.note_output(output.clone()),
                WriteOutcome::Gone => self.forget_output(key),
                WriteOutcome::Refused { .. } => {}
            }
        }
        let random = self.random.f64();
        if let Some(entry) = self.routes.get_mut(&resource.key) {
            entry.outputs_written(written, now);
            match error {
                Some(error) => entry.output_retry().fail(now, random, error.to_string()),
                None => entry.output_retry().succeed(),
            }
        }
    }

    /// Identity and defect of a resource, if it cannot be read.
    pub(super) fn unreadable(&self, resource: &ResourceRef) -> Option<(ObjectIdentity, UnreadableContent)> {
        let (identity, unreadable) = match resource.kind {
            ResourceKind::Policy => {
                let cached = self.policies.get(&resource.key)?.object.as_ref()?;
                (cached.identity(), cached.unreadable()?)
            }
            ResourceKind::Backend => {
                let cached = self.backends.get(&resource.key)?.object.as_ref()?;
                (cached.identity(), cached.unreadable()?)
            }
            ResourceKind::Route => {
                let cached = self.routes.get(&resource.key)?.object.as_ref()?;
                (cached.identity(), cached.unreadable()?)
            }
        };
        Some((identity.clone(), unreadable.clone()))
    }

    /// Writes the defect into the status unless it says so already, and publishes an Event about what it has written.
    pub(super) fn report_unreadable(
        &mut self,
        now: Timestamp,
        resource: &ResourceRef,
        identity: &ObjectIdentity,
        unreadable: &UnreadableContent,
    ) {
        let uid = &identity.uid;
        let generation = unreadable.generation;
        let reported = self.reported.get(resource);
        let reported = reported.filter(|reported| reported.uid == *uid && reported.generation == generation);
        let Some(is_published) = reported.map(|reported| reported.is_published) else {
            let Some(write) = unreadable.status_write(identity, now) else { return };
            let lane = if resource.kind == ResourceKind::Route { Lane::RouteStatus } else { Lane::BackendStatus };
            if self.begin_or_wait(now, resource, lane, write, None) {
                let reported = ReportedUnreadable { uid: uid.clone(), generation, is_published: false };
                self.reported.insert(resource.clone(), reported);
            }
            return;
        };
        if is_published {
            return;
        }
        let publishing = self.publishing(now, resource);
        if let Some(until) = publishing.paused_until {
            self.queue.set_timer(resource, until);
        } else if publishing.may_begin() {
            let message = unreadable.rejection().message;
            let mut event = events::pending(resource, EventReason::ConfigurationRejected, now, None, &message);
            event.name = format!("{}.{uid}.{generation}.unreadable", resource.key.name);
            let event = events::event(resource, uid, &self.settings.instance, &event);
            self.begin_or_wait(now, resource, Lane::Events, Action::PublishEvents(vec![event]), None);
        }
    }
}

/// Logs the differences between two statuses of a route.
fn log_route(resource: &ResourceRef, before: Option<&MailRouteStatus>, status: &MailRouteStatus) {
    let earlier = before.and_then(|before| before.last_transition.as_ref());
    if let Some(last) = &status.last_transition {
        let (route, from, to, reason) = (&resource.key, &last.from, &last.to, &last.reason);
        match earlier.filter(|earlier| earlier.id == last.id) {
            None => tracing::info!(%route, from, to, reason, kind = ?last.kind, "a switch is decided"),
            Some(earlier) if earlier.applied_at.is_none() && last.applied_at.is_some() => {
                tracing::info!(%route, from, to, reason, "every output leads to the new backend");
            }
            Some(_) => {}
        }
    }
    let answered = before.and_then(|before| before.request.as_ref());
    if let Some(answer) = status.request.as_ref().filter(|answer| Some(*answer) != answered) {
        let (id, action, message) = (&answer.id, &answer.action, &answer.message);
        let reason = answer.reason.as_deref().unwrap_or_default();
        tracing::info!(route = %resource.key, id, action, outcome = ?answer.outcome, message, reason, "a request is answered");
    }
    let earlier = before.map(|before| rivals(&before.installations)).unwrap_or_default();
    let rivals = rivals(&status.installations);
    if !rivals.is_empty() && earlier.is_empty() {
        tracing::warn!(
            route = %resource.key,
            installations = rivals.join(", "),
            "several installations of the operator lead a route; leave its namespace to one of them"
        );
    } else if rivals.is_empty() && !earlier.is_empty() {
        tracing::info!(route = %resource.key, "one installation of the operator leads a route again");
    }
    if before.and_then(|before| before.state) != status.state {
        let detail = status.message.as_deref().unwrap_or_default();
        let state = status.state.map(|state| format!("{state:?}"));
        tracing::info!(route = %resource.key, state, detail, "the state of a route has changed");
    }
}

/// Logs a change of a backend's health.
fn log_backend(resource: &ResourceRef, before: Option<Health>, status: &SendingBackendStatus) {
    if before != status.health {
        let health = status.health.map(|health| format!("{health:?}"));
        let (reason, detail) =
            (status.reason.as_deref().unwrap_or_default(), status.message.as_deref().unwrap_or_default());
        tracing::info!(backend = %resource.key, health, reason, detail, "the health of a backend has changed");
    }
}
