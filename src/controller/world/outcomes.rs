//! What became of steps.

use kube::Resource;

use super::agenda::UnderWay;
use super::{World, Written};
use crate::controller::events::{self, Telling};
use crate::controller::input::Input;
use crate::controller::known::{Known, unreadable_rejection, unreadable_status};
use crate::controller::step::{Done, Step, StepError, StepResult, Subject, SubjectKind, WriteOutcome};
use crate::output::OutputKey;
use crate::watch::{Change, Unreadable};
use mail_failover_api::{Health, MailRouteStatus, SendingBackendStatus};
use mail_failover_core::model::Timestamp;

impl World {
    pub(super) fn take_done(&mut self, now: Timestamp, done: Done) {
        let Done { id, subject, result } = done;
        let Some(UnderWay { written, events, .. }) = self.agenda.finish(&subject, id) else { return };
        if result.is_err() {
            self.told.remove(&subject);
        }
        let error = match result {
            Ok(StepResult::Fresh(input)) => {
                self.take_fresh(now, &subject, *input);
                None
            }
            Ok(StepResult::StatusWritten { resource_version }) => {
                self.status_written(&subject, &resource_version, written);
                None
            }
            Ok(StepResult::OutputsWritten { outcomes, error }) => {
                self.outputs_written(now, &subject, &outcomes, error.as_ref());
                None
            }
            Ok(StepResult::JobObserved(job)) => {
                self.take_job(now, Change::Applied(job));
                None
            }
            Ok(StepResult::JobRefused { probe, message }) => {
                self.job_refused(now, &subject, &probe, &message);
                None
            }
            Ok(StepResult::EventsPublished) => {
                match subject.kind {
                    SubjectKind::Policy => {}
                    SubjectKind::Backend => {
                        if let Some(entry) = self.backends.get_mut(&subject.key) {
                            entry.events_published(events);
                        }
                    }
                    SubjectKind::Route => {
                        if let Some(entry) = self.routes.get_mut(&subject.key) {
                            entry.events_published(events);
                        }
                    }
                }
                None
            }
            Err(error) => Some(error),
        };
        let jitter = self.random.f64();
        if let Some(backoff) = self.backoff_mut(&subject) {
            match error {
                None => backoff.succeed(),
                // The watch will say so too; until then there is nothing to be done about it.
                Some(StepError::Gone | StepError::ClaimLost | StepError::Api(_)) => {
                    backoff.fail(now, error.map(|error| error.to_string()).unwrap_or_default(), jitter);
                }
            }
        }
        self.agenda.add(subject);
    }

    pub(super) fn take_fresh(&mut self, now: Timestamp, subject: &Subject, input: Input) {
        self.take(now, input);
        self.told.remove(subject);
        if let Some(entry) = self.routes.get_mut(&subject.key).filter(|_| subject.kind == SubjectKind::Route) {
            entry.is_confirmed = true;
        }
    }

    fn status_written(&mut self, subject: &Subject, resource_version: &str, written: Option<Written>) {
        match written {
            Some(Written::Policy(status)) => {
                if let Some(entry) = self.policies.get_mut(&subject.key) {
                    entry.status_written(resource_version, status);
                }
            }
            Some(Written::Backend { before, after }) => {
                log_backend(subject, before, &after);
                if let Some(entry) = self.backends.get_mut(&subject.key) {
                    entry.status_written(resource_version, *after);
                }
            }
            Some(Written::Route { before, after }) => {
                let before = before.as_ref().as_ref();
                self.metrics.route_written(&subject.key, before, &after);
                log_route(subject, before, &after);
                if let Some(entry) = self.routes.get_mut(&subject.key) {
                    let left = entry.active().map(str::to_owned);
                    entry.status_written(resource_version, *after);
                    if let Some(left) = left {
                        self.drop_unneeded_backend(&subject.key.sibling(left));
                    }
                }
            }
            // An object that cannot be read: its status is not ours to know.
            None => {}
        }
    }

    fn outputs_written(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        outcomes: &[(OutputKey, WriteOutcome)],
        error: Option<&StepError>,
    ) {
        for (key, outcome) in outcomes {
            match outcome {
                WriteOutcome::Observed(output) => self.note_output(output.clone()),
                WriteOutcome::Gone => self.forget_output(key),
                WriteOutcome::Refused { .. } => {}
            }
        }
        if let Some(entry) = self.routes.get_mut(&subject.key) {
            entry.outputs_written(outcomes, error.map(ToString::to_string), now, self.random.f64());
        }
    }

    pub(super) fn unreadable(&self, subject: &Subject) -> Option<Unreadable> {
        fn of<K: Resource>(known: Option<&Known<K>>) -> Option<Unreadable> {
            match known {
                Some(Known::Unreadable(unreadable)) => Some(unreadable.clone()),
                Some(Known::Readable(_)) | None => None,
            }
        }
        match subject.kind {
            SubjectKind::Policy => of(self.policies.get(&subject.key)?.object.as_ref()),
            SubjectKind::Backend => of(self.backends.get(&subject.key)?.object.as_ref()),
            SubjectKind::Route => of(self.routes.get(&subject.key)?.object.as_ref()),
        }
    }

    /// Writes the reason into the status, then publishes an Event about it; each once for every generation of the object.
    pub(super) fn tell_unreadable(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        unreadable: &Unreadable,
    ) -> Option<Step> {
        let what = |stage: &str| (unreadable.uid.clone(), unreadable.generation, stage.to_owned());
        match self.told.get(subject) {
            Some(told) if *told == what("published") => None,
            Some(told) if *told == what("written") => {
                self.told.insert(subject.clone(), what("published"));
                let rejection = unreadable_rejection(unreadable);
                let mut event = events::pending(subject, Telling::ConfigurationRejected, now, None, &rejection.message);
                event.name = format!("{}.{}.{}.unreadable", subject.key.name, unreadable.uid, unreadable.generation);
                Some(Step::PublishEvents(vec![events::event(
                    subject,
                    &unreadable.uid,
                    &self.settings.instance,
                    &event,
                )]))
            }
            Some(_) | None => {
                self.told.insert(subject.clone(), what("written"));
                Some(unreadable_status(unreadable, now))
            }
        }
    }
}

/// Says in the log what a route's new status says that the one before did not.
fn log_route(subject: &Subject, before: Option<&MailRouteStatus>, status: &MailRouteStatus) {
    let earlier = before.and_then(|before| before.last_transition.as_ref());
    if let Some(last) = &status.last_transition {
        let (route, from, to, reason) = (&subject.key, &last.from, &last.to, &last.reason);
        match earlier.filter(|earlier| earlier.id == last.id) {
            None => tracing::info!(%route, from, to, reason, kind = ?last.kind, "a switch is decided"),
            Some(earlier) if earlier.applied_at.is_none() && last.applied_at.is_some() => {
                tracing::info!(%route, from, to, reason, "every output leads to the new backend");
            }
            Some(_) => {}
        }
    }
    if before.and_then(|before| before.state) != status.state {
        let detail = status.message.as_deref().unwrap_or_default();
        let state = status.state.map(|state| format!("{state:?}"));
        tracing::info!(route = %subject.key, state, detail, "the state of a route has changed");
    }
}

/// Says in the log that a backend's health has changed.
fn log_backend(subject: &Subject, before: Option<Health>, status: &SendingBackendStatus) {
    if before != status.health {
        let health = status.health.map(|health| format!("{health:?}"));
        let (reason, detail) =
            (status.reason.as_deref().unwrap_or_default(), status.message.as_deref().unwrap_or_default());
        tracing::info!(backend = %subject.key, health, reason, detail, "the health of a backend has changed");
    }
}
