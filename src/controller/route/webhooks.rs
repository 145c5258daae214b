//! The webhooks of one route: the event that each receiver is to accept, and the next call.
//!
//! A receiver is led to the latest decision: an event that a newer one has overtaken is not sent any more. One call of a
//! receiver is under way at a time, so that events arrive in order. No event is sent before `status` names it as wanted,
//! so that a process that begins afterwards goes on under the same id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::progress::{DesiredState, Progress, ProgressState, remembered};
use super::{RouteContext, RouteEntry};
use crate::webhook::{WebhookError, WebhookRequest};
use mail_failover_api::conditions::reason;
use mail_failover_api::{MailRouteStatus, OutputShare, OutputStatus};
use mail_failover_core::engine::Memory;
use mail_failover_core::model::{Route, Timestamp, Uid, WebhookOutput};
use mail_failover_resolve::text::truncated;
use mail_failover_resolve::{Rejection, webhook_ca_key, webhook_destination};
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
    progress: BTreeMap<Arc<str>, Progress<DesiredEvent>>,
    /// Calls to begin now.
    planned: Vec<PlannedCall>,
}

/// An event that a receiver is to accept.
#[derive(Clone, Debug, PartialEq)]
struct DesiredEvent {
    id: EventId,
    active: Vec<OutputShare>,
}

/// A call to begin.
#[derive(Debug)]
pub(in crate::controller) struct PlannedCall {
    pub(in crate::controller) output: Arc<str>,
    pub(in crate::controller) request: WebhookRequest,
    event: DesiredEvent,
}

impl DesiredState for DesiredEvent {
    fn name(&self) -> String {
        self.id.to_string()
    }

    fn active(&self) -> Vec<OutputShare> {
        self.active.clone()
    }
}

impl PlannedCall {
    /// Id of the event.
    pub(in crate::controller) fn id(&self) -> &EventId {
        &self.event.id
    }
}

/// The latest event of a receiver: wanted, or else accepted.
fn latest(progress: &Progress<DesiredEvent>, before: Option<&OutputStatus>) -> Option<EventId> {
    let wanted = progress.wanted().map(|wanted| wanted.id.clone());
    let wanted = wanted.or_else(|| before?.wanted.as_deref()?.parse().ok());
    wanted.or_else(|| progress.reached()?.parse().ok())
}

impl Webhooks {
    /// Notes what each receiver is to accept after a decision, and forgets webhooks that left the spec.
    pub(super) fn want(&mut self, uid: &Uid, route: &Route, memory: &Memory, before: Option<&MailRouteStatus>) {
        self.progress.retain(|name, _| route.webhooks.iter().any(|output| output.name == *name));
        for output in &route.webhooks {
            let before = remembered(before, KIND, &output.name);
            let progress = self.progress.entry(output.name.clone()).or_insert_with(|| {
                let fresh = Progress::new(FIRST_PAUSE, LONGEST_PAUSE);
                match before {
                    Some(before) => fresh.restored(before, reason::WEBHOOK_FAILING),
                    None => fresh,
                }
            });
            let digest = event::digest(uid, output, memory);
            let id = EventId::following(latest(progress, before).as_ref(), &digest, event::decided_at(memory));
            if progress.wanted().is_none_or(|wanted| wanted.id != id) {
                progress.want(DesiredEvent { id, active: shares(memory) });
                progress.reset_backoff();
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
            let Some(progress) = self.progress.get_mut(&output.name).filter(|progress| !progress.is_applied()) else {
                continue;
            };
            let told_at = progress.failure().and_then(|failure| failure.calls.lasts_at(FAILING_AFTER, cx.now));
            let paused_until = progress.paused_until(cx.now);
            next_timeout = next_timeout.into_iter().chain(told_at).chain(paused_until).min();
            if progress.is_under_way() || paused_until.is_some() {
                continue;
            }
            let Some(wanted) = progress.wanted().cloned() else { continue };
            let in_status = remembered(Some(before), KIND, &output.name);
            if in_status.is_none_or(|one| one.wanted != Some(wanted.name())) {
                continue;
            }
            match request(cx, output, &wanted.id, memory) {
                Ok(Some(request)) => {
                    self.planned.push(PlannedCall { output: output.name.clone(), request, event: wanted });
                }
                Ok(None) => {}
                Err(Rejection { reason, message }) => {
                    progress.fail(cx.now, reason, &message);
                }
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
            progress.begun(number, call.event.clone());
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
        let Some(event) = progress.ended(number) else { return };
        match outcome {
            Ok(()) => {
                progress.reach(now, &event);
                progress.succeed();
            }
            Err(error) => {
                let not_before = error.retry_after().map(|pause| now + pause);
                // The event that has overtaken this one waits for nothing but what the receiver asks for.
                let is_latest = progress.wanted().is_some_and(|wanted| wanted.id == event.id);
                let retry_at = if is_latest { progress.next_attempt(now, random) } else { now };
                progress.fail(now, reason::WEBHOOK_FAILING, &error.to_string()).pause(retry_at, not_before);
            }
        }
    }

    /// The entries of `status.outputs`.
    pub(super) fn statuses(&self, route: &Route) -> Vec<OutputStatus> {
        let mut statuses = vec![];
        for output in &route.webhooks {
            let Some(progress) = self.progress.get(&output.name) else { continue };
            let destination = truncated(webhook_destination(&output.url), 300);
            let status = progress.status(KIND, &output.name, destination);
            let failure = status.failure.filter(|_| !progress.is_applied());
            statuses.push(OutputStatus { failure, ..status });
        }
        statuses
    }

    /// The state of all webhooks, or of those that are awaited only.
    pub(super) fn state(&self, route: &Route, now: Timestamp, is_awaited_only: bool) -> ProgressState {
        let (mut pending, mut failing) = (vec![], vec![]);
        for output in route.webhooks.iter().filter(|output| output.is_awaited || !is_awaited_only) {
            let Some(progress) = self.progress.get(&output.name).filter(|progress| !progress.is_applied()) else {
                continue;
            };
            match progress.failure().filter(|failure| failure.calls.has_lasted(FAILING_AFTER, now)) {
                Some(failure) => {
                    let field = format!("spec.outputs[].webhook ({})", output.name);
                    let destination = webhook_destination(&output.url);
                    let why = &failure.calls.message;
                    let message = format!("{destination} has not accepted where the mail goes: {why}");
                    failing.push(Rejection::new(failure.reason, &field, &message));
                }
                None => pending.push(output.name.to_string()),
            }
        }
        ProgressState::of(pending, failing)
    }
}

/// The shares of a decision, for a status.
fn shares(memory: &Memory) -> Vec<OutputShare> {
    let mut shares = vec![];
    for share in &memory.shares {
        shares.push(OutputShare { backend: share.backend.to_string(), percent: i32::from(share.percent) });
    }
    shares
}

/// The request of an event; `None` while an object that it needs has not been read yet.
fn request(
    cx: &RouteContext<'_>,
    output: &WebhookOutput,
    id: &EventId,
    memory: &Memory,
) -> Result<Option<WebhookRequest>, Rejection> {
    let Some(secret) = cx.secret(&output.secret, "secretRef")? else { return Ok(None) };
    let Some(trust) = cx.trust(webhook_ca_key(&cx.resource.key, output), "caRef")? else { return Ok(None) };
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
