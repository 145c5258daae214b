//! The webhooks of one route: the event that each receiver is to accept, the next call, and what was said of it.
//!
//! A receiver is led to the latest decision: an event that a newer one has overtaken is not sent any more. One call of a
//! receiver is under way at a time, so that events arrive in order. No event is sent before `status` names it as wanted,
//! so that a process that begins afterwards goes on under the same id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{RouteContext, RouteEntry};
use crate::webhook::{WebhookError, WebhookRequest};
use mail_failover_api::conditions::reason;
use mail_failover_api::{MailRouteStatus, OutputFailure, OutputShare, OutputStatus};
use mail_failover_core::engine::Memory;
use mail_failover_core::model::{Route, Timestamp, TrustAnchors, Uid, WebhookOutput};
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::{micro_time, timestamp};
use mail_failover_resolve::{ReadProblem, Rejection, webhook_ca_key, webhook_destination};
use mail_failover_runtime::backoff::Backoff;
use mail_failover_webhook::event::{self, CLOUD_EVENT_TYPE, EventId, WebhookEvent};
use mail_failover_webhook::template::{render_body, render_header};

/// The `kind` of a webhook in `status.outputs`.
pub(in crate::controller) const KIND: &str = "Webhook";
/// Time that calls of a receiver fail before people are told.
// A deployment of the receiver takes less.
const FAILING_AFTER: Duration = Duration::from_secs(30);
/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Webhooks of a route, by name.
#[derive(Debug, Default)]
pub(in crate::controller) struct Webhooks {
    progress: BTreeMap<Arc<str>, Progress>,
    /// Calls to begin now.
    planned: Vec<PlannedCall>,
}

/// Progress of one webhook.
#[derive(Debug)]
struct Progress {
    wanted: Option<EventId>,
    applied: Option<AppliedEvent>,
    under_way: Option<SentEvent>,
    failure: Option<CallFailure>,
    backoff: Backoff,
}

/// An event that the receiver has accepted.
#[derive(Clone, Debug, PartialEq)]
struct AppliedEvent {
    id: EventId,
    at: Timestamp,
    active: Vec<OutputShare>,
}

/// An event that is on its way.
#[derive(Debug)]
struct SentEvent {
    number: u64,
    id: EventId,
    active: Vec<OutputShare>,
}

#[derive(Debug)]
struct CallFailure {
    since: Timestamp,
    message: String,
    reason: &'static str,
    /// End of the pause after it; `None` while it waits for an object.
    retry_at: Option<Timestamp>,
    /// Time until which the receiver has asked for patience.
    not_before: Option<Timestamp>,
}

/// A call to begin.
#[derive(Debug)]
pub(in crate::controller) struct PlannedCall {
    pub(in crate::controller) output: Arc<str>,
    pub(in crate::controller) id: EventId,
    pub(in crate::controller) request: WebhookRequest,
    active: Vec<OutputShare>,
}

/// State of all webhooks of a route.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum WebhooksState {
    /// Every receiver has accepted where the route leads, or there is nothing to tell yet.
    Applied,
    /// Names of webhooks whose receivers have not.
    Pending(Vec<String>),
    /// Webhooks that have failed for a while.
    Failing(Vec<Rejection>),
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            wanted: None,
            applied: None,
            under_way: None,
            failure: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
        }
    }
}

impl Progress {
    /// The progress that a status remembers.
    fn restored(status: &OutputStatus) -> Self {
        let id = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<EventId>().ok());
        let applied = id(&status.applied).zip(status.applied_at.as_ref());
        let failure = status.failure.as_ref().map(|failure| {
            let not_before = failure.not_before.as_ref().map(timestamp);
            CallFailure {
                since: timestamp(&failure.since),
                message: failure.message.clone(),
                reason: reason::WEBHOOK_FAILING,
                retry_at: not_before,
                not_before,
            }
        });
        Self {
            wanted: id(&status.wanted),
            applied: applied.map(|(id, at)| AppliedEvent { id, at: timestamp(at), active: status.active.clone() }),
            failure,
            ..Self::default()
        }
    }

    fn is_applied(&self) -> bool {
        self.wanted.as_ref() == self.applied.as_ref().map(|applied| &applied.id) || self.wanted.is_none()
    }

    fn fail(&mut self, now: Timestamp, reason: &'static str, message: &str, retry_at: Option<Timestamp>) {
        let since = self.failure.as_ref().map_or(now, |failure| failure.since);
        let message = truncated(message, MAX_MESSAGE);
        self.failure = Some(CallFailure { since, message, reason, retry_at, not_before: None });
    }

    /// Returns true if people are to be told of the failure.
    fn is_told(&self, now: Timestamp) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.since + FAILING_AFTER <= now) && !self.is_applied()
    }

    fn status(&self, output: &WebhookOutput) -> OutputStatus {
        let applied = self.applied.as_ref();
        OutputStatus {
            kind: KIND.to_owned(),
            name: output.name.to_string(),
            active: applied.map(|applied| applied.active.clone()).unwrap_or_default(),
            destination: Some(truncated(webhook_destination(&output.url), 300)),
            wanted: self.wanted.as_ref().map(ToString::to_string),
            applied: applied.map(|applied| applied.id.to_string()),
            applied_at: applied.map(|applied| micro_time(applied.at)),
            failure: self.failure.as_ref().filter(|_| !self.is_applied()).map(|failure| OutputFailure {
                since: micro_time(failure.since),
                message: failure.message.clone(),
                not_before: failure.not_before.map(micro_time),
            }),
        }
    }
}

impl Webhooks {
    /// Notes what each receiver is to accept after a decision, and forgets webhooks that left the spec.
    pub(super) fn want(&mut self, uid: &Uid, route: &Route, memory: &Memory, before: Option<&MailRouteStatus>) {
        self.progress.retain(|name, _| route.webhooks.iter().any(|output| output.name == *name));
        for output in &route.webhooks {
            let progress = self.progress.entry(output.name.clone()).or_insert_with(|| {
                let outputs = before.into_iter().flat_map(|before| &before.outputs);
                let mut remembered = outputs.filter(|one| one.kind == KIND && *one.name == *output.name);
                remembered.next().map(Progress::restored).unwrap_or_default()
            });
            let latest = progress.wanted.as_ref().or(progress.applied.as_ref().map(|applied| &applied.id));
            let wanted = EventId::following(latest, &event::digest(uid, output, memory));
            if progress.wanted.as_ref() != Some(&wanted) {
                progress.wanted = Some(wanted);
                // A new decision waits for no pause, but where the receiver has asked for it.
                if let Some(failure) = &mut progress.failure {
                    failure.retry_at = failure.not_before;
                }
            }
        }
    }

    /// Plans the calls to begin now. Returns the time at which more may be possible, or is to be told.
    pub(super) fn plan(
        &mut self,
        cx: &RouteContext<'_>,
        route: &Route,
        memory: &Memory,
        before: &MailRouteStatus,
    ) -> Option<Timestamp> {
        self.planned.clear();
        let mut next_timeout: Option<Timestamp> = None;
        for output in &route.webhooks {
            let Some(progress) = self.progress.get_mut(&output.name) else { continue };
            if let Some(failure) = progress.failure.as_ref().filter(|_| !progress.is_applied()) {
                let told_at = Some(failure.since + FAILING_AFTER).filter(|at| *at > cx.now);
                let retry_at = failure.retry_at.filter(|at| *at > cx.now);
                next_timeout = next_timeout.into_iter().chain(told_at).chain(retry_at).min();
                if retry_at.is_some() {
                    continue;
                }
            }
            let Some(wanted) = progress.wanted.clone().filter(|_| !progress.is_applied()) else { continue };
            let is_persisted = before
                .outputs
                .iter()
                .any(|one| one.kind == KIND && *one.name == *output.name && one.wanted == Some(wanted.to_string()));
            if progress.under_way.is_some() || !is_persisted {
                continue;
            }
            match request(cx, output, &wanted, memory) {
                Ok(Some(request)) => {
                    let active = memory.shares.iter().map(|share| OutputShare {
                        backend: share.backend.to_string(),
                        percent: i32::from(share.percent),
                    });
                    let active = active.collect();
                    self.planned.push(PlannedCall { output: output.name.clone(), id: wanted, request, active });
                }
                Ok(None) => {}
                Err(Rejection { reason, message }) => progress.fail(cx.now, reason, &message, None),
            }
        }
        next_timeout
    }

    /// Takes the calls to begin now.
    pub(in crate::controller) fn take_planned(&mut self) -> Vec<PlannedCall> {
        std::mem::take(&mut self.planned)
    }

    /// Notes that a call has begun.
    pub(in crate::controller) fn begun(&mut self, number: u64, call: &PlannedCall) {
        if let Some(progress) = self.progress.get_mut(&call.output) {
            progress.under_way = Some(SentEvent { number, id: call.id.clone(), active: call.active.clone() });
        }
    }

    /// Notes the end of a call. `random` is a number from 0 to 1.
    pub(in crate::controller) fn ended(
        &mut self,
        now: Timestamp,
        random: f64,
        number: u64,
        output: &str,
        outcome: &Result<(), WebhookError>,
    ) {
        let Some(progress) = self.progress.get_mut(output) else { return };
        let Some(sent) = progress.under_way.take_if(|sent| sent.number == number) else { return };
        match outcome {
            Ok(()) => {
                progress.applied = Some(AppliedEvent { id: sent.id, at: now, active: sent.active });
                progress.failure = None;
                progress.backoff.reset();
            }
            Err(error) => {
                let not_before = error.retry_after().map(|pause| now + pause);
                let retry_at = now + progress.backoff.after_failure_with(random);
                let retry_at = not_before.map_or(retry_at, |not_before| not_before.max(retry_at));
                progress.fail(now, reason::WEBHOOK_FAILING, &error.to_string(), Some(retry_at));
                if let Some(failure) = &mut progress.failure {
                    failure.not_before = not_before;
                }
            }
        }
    }

    /// The entries of `status.outputs`.
    pub(super) fn statuses(&self, route: &Route) -> Vec<OutputStatus> {
        let mut statuses = vec![];
        for output in &route.webhooks {
            if let Some(progress) = self.progress.get(&output.name) {
                statuses.push(progress.status(output));
            }
        }
        statuses
    }

    /// The state of all webhooks, or of those that are awaited only.
    pub(super) fn state(&self, route: &Route, now: Timestamp, is_awaited_only: bool) -> WebhooksState {
        let (mut pending, mut failing) = (vec![], vec![]);
        for output in route.webhooks.iter().filter(|output| output.is_awaited || !is_awaited_only) {
            let Some(progress) = self.progress.get(&output.name).filter(|progress| !progress.is_applied()) else {
                continue;
            };
            match progress.failure.as_ref().filter(|_| progress.is_told(now)) {
                Some(failure) => {
                    let field = format!("spec.outputs[].webhook ({})", output.name);
                    let destination = webhook_destination(&output.url);
                    let message = format!("{destination} has not accepted where the mail goes: {}", failure.message);
                    failing.push(Rejection::new(failure.reason, &field, &message));
                }
                None => pending.push(output.name.to_string()),
            }
        }
        match (failing.is_empty(), pending.is_empty()) {
            (false, _) => WebhooksState::Failing(failing),
            (true, false) => WebhooksState::Pending(pending),
            (true, true) => WebhooksState::Applied,
        }
    }
}

/// The request of an event; `None` while an object that it needs has not been read yet.
fn request(
    cx: &RouteContext<'_>,
    output: &WebhookOutput,
    id: &EventId,
    memory: &Memory,
) -> Result<Option<WebhookRequest>, Rejection> {
    let key = cx.resource.key.sibling(output.secret.clone());
    let secret = match cx.dependencies.secret(&key) {
        Ok(secret) => secret,
        Err(ReadProblem::Pending) => return Ok(None),
        Err(problem) => return Err(unreadable("secretRef", &format!("Secret {}", output.secret), &problem)),
    };
    let trust = match webhook_ca_key(&cx.resource.key, output) {
        None => TrustAnchors::WellKnown,
        Some(ca) => match cx.dependencies.webhook_ca(&ca) {
            Ok(pem) => TrustAnchors::Pem(pem),
            Err(ReadProblem::Pending) => return Ok(None),
            Err(problem) => {
                let object = format!("key {} of {} {}", ca.data_key, ca.kind.as_str(), ca.object.name);
                return Err(unreadable("caRef", &object, &problem));
            }
        },
    };
    let event = WebhookEvent::of(id, &cx.resource.key, &output.name, memory);
    let content_type = output.content_type.clone().unwrap_or_else(|| CLOUD_EVENT_TYPE.into());
    let body = match &output.body {
        None => event.cloud_event(),
        Some(template) => render_body(template, &content_type, &event)
            .map_err(|error| Rejection { reason: reason::WEBHOOK_FAILING, message: format!("body: {error}") })?,
    };
    let mut headers = vec![];
    for (name, template) in &output.headers {
        let value = render_header(template, &event, &secret).map_err(|error| Rejection {
            reason: reason::WEBHOOK_FAILING,
            message: format!("header {name}: {error}"),
        })?;
        headers.push((name.clone(), value));
    }
    let (url, method, timeout) = (output.url.clone(), output.method, output.timeout);
    let signer = Some(secret);
    Ok(Some(WebhookRequest { url, method, content_type, headers, body, signer, trust, timeout }))
}

fn unreadable(field: &str, object: &str, problem: &ReadProblem) -> Rejection {
    let reason = match problem {
        ReadProblem::Pending | ReadProblem::NotFound => reason::SECRET_NOT_FOUND,
        ReadProblem::Malformed(_) => reason::SECRET_MALFORMED,
        ReadProblem::Unreadable(_) => reason::SECRET_UNREADABLE,
    };
    Rejection { reason, message: format!("{field}: {object}: {problem}") }
}

impl RouteEntry {
    /// Forgets what this process remembers of webhooks: another leader may have gone on.
    pub(in crate::controller) fn forget_webhooks(&mut self) {
        self.webhooks = Webhooks::default();
    }

    /// The webhooks, for the calls that begin and end.
    pub(in crate::controller) fn webhooks_mut(&mut self) -> &mut Webhooks {
        &mut self.webhooks
    }
}
