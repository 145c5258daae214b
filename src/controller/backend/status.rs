//! The status of a `SendingBackend`: conditions and Events for people.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{BackendEntry, Delayed};
use crate::controller::action::{Action, ResourceRef};
use crate::controller::cached::Cached;
use crate::controller::events::{self, EventReason};
use crate::controller::lane::Lane;
use crate::controller::reconcile::{PlannedAction, Publishing, Reconciled};
use crate::controller::status::{Conditions, condition_message, is_true, joined};
use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{self as api, BackendType, SendingBackend, SendingBackendStatus};
use mail_failover_core::engine::{DELIVERIES, Health, Judgement, Verdict};
use mail_failover_core::model::{EvidenceClass, NotAfter, Timestamp, TlsMode};
use mail_failover_resolve::request::REQUEST_ANNOTATION;
use mail_failover_resolve::text::{MAX_MESSAGE, truncated};
use mail_failover_resolve::time::micro_time;
use mail_failover_resolve::{self as resolve, Rejection};
use mail_failover_smtp::message::date;

/// Time before an expiry at which it is warned of.
// Certificates of 90 days are renewed 30 days before their end: half of that has then been missed.
const EXPIRY_WARNING: Duration = Duration::from_hours(14 * 24);

/// Most changes of health that wait to be told of, each in an Event of its own.
const MAX_PENDING_TURNS: usize = 2;

/// Everything beside its own entry that the reconcile of a backend depends on.
pub(in crate::controller) struct BackendContext<'a> {
    pub(in crate::controller) now: Timestamp,
    pub(in crate::controller) resource: &'a ResourceRef,
    pub(in crate::controller) instance: &'a str,
    pub(in crate::controller) publishing: Publishing,
}

impl BackendEntry {
    /// The next missing action, and the time at which its evidence changes by time alone.
    pub(in crate::controller) fn reconcile(&self, cx: &BackendContext<'_>) -> Reconciled<SendingBackendStatus> {
        let publication = self.publication(cx);
        let paused_until = cx.publishing.paused_until.filter(|_| publication.is_some());
        let warning_at =
            self.verified_expiry().map(|not_after| not_after.at - EXPIRY_WARNING).filter(|at| *at > cx.now);
        Reconciled::from(self.write_status(cx))
            .and_publish(publication.filter(|_| cx.publishing.may_begin()))
            .and_at(paused_until)
            .and_at(self.evidence.next_timeout(cx.now))
            .and_at(warning_at)
            .and_at(self.deferred_until(cx.now))
    }

    /// The time at which an Event is due that was deferred.
    fn deferred_until(&self, now: Timestamp) -> Option<Timestamp> {
        let status = self.object.as_ref()?.readable()?.status.as_ref()?;
        events::next_due(&status.pending_events, now)
    }

    /// First expiry among the certificates that probes have seen.
    fn first_expiry(&self) -> Option<&NotAfter> {
        self.certificates.values().map(|certificate| &certificate.not_after).min()
    }

    /// First expiry, if anybody verifies certificates.
    fn verified_expiry(&self) -> Option<&NotAfter> {
        let is_verified = match self.usable.as_deref()?.tls.mode {
            TlsMode::None | TlsMode::Opportunistic => false,
            TlsMode::StartTls | TlsMode::Implicit => true,
        };
        self.first_expiry().filter(|_| is_verified)
    }

    /// The Event that warns of an expiry, unless it was published.
    fn expiry_event(&self, cx: &BackendContext<'_>) -> Option<api::PendingEvent> {
        let not_after = self.verified_expiry()?;
        // What has expired makes the backend Unhealthy, which is told.
        if not_after.at <= cx.now || not_after.at - EXPIRY_WARNING > cx.now {
            return None;
        }
        let which = match &not_after.issuer {
            Some(issuer) => format!("the intermediate certificate {issuer} that this backend presents"),
            None => "the certificate of this backend".to_owned(),
        };
        let note =
            format!("{which} expires on {}; renew it, or no mail leaves this way from then on", date(not_after.at));
        // Named by the expiry, so that each is warned of once.
        let event = events::pending(cx.resource, EventReason::CertificateExpiring, not_after.at, None, &note);
        let is_new = self.expiry_warning.as_ref() != Some(&event.name);
        is_new.then(|| api::PendingEvent { at: micro_time(cx.now), ..event })
    }

    /// The backend, once its status can say anything of it.
    fn reportable(&self) -> Option<(&Cached<SendingBackend>, &SendingBackend)> {
        let cached = self.object.as_ref()?;
        if self.is_pending() || (self.problem.is_none() && self.is_awaited()) {
            return None;
        }
        Some((cached, cached.readable()?))
    }

    fn publication(&self, cx: &BackendContext<'_>) -> Option<Action> {
        let (cached, object) = self.reportable()?;
        let pending = &object.status.as_ref()?.pending_events;
        events::publication(cx.resource, cached.uid(), cx.instance, pending, &self.published, cx.now)
    }

    fn write_status(&self, cx: &BackendContext<'_>) -> Option<PlannedAction<SendingBackendStatus>> {
        let (cached, object) = self.reportable()?;
        let before = object.status.clone().unwrap_or_default();
        let status = self.status(cx, object, &before);
        cached.status_write(Lane::BackendStatus, &before, status)
    }

    fn status(
        &self,
        cx: &BackendContext<'_>,
        object: &SendingBackend,
        before: &SendingBackendStatus,
    ) -> SendingBackendStatus {
        let generation = object.metadata.generation.unwrap_or_default();
        let worst = self.usable.as_ref().and_then(|_| self.evidence.worst(cx.now));
        let verdict = worst.as_ref().map(|(verdict, _)| verdict);
        let name = Arc::from(DELIVERIES);
        let deliveries = self.evidence.deliveries().filter(|_| worst.is_some()).map(|judgement| (&name, judgement));
        let (r#type, host) = place(&object.spec);
        let (reason, message) = match (verdict, self.rejection()) {
            (Some(verdict), _) => (verdict.class.as_str(), self.words_about(verdict)),
            (None, Some(rejection)) => (rejection.reason, rejection.message.as_str()),
            (None, None) => (EvidenceClass::Inconclusive.as_str(), ""),
        };
        let suspended = object.spec.suspended.unwrap_or(false);
        let first_expiry = self.first_expiry();
        SendingBackendStatus {
            observed_generation: Some(generation),
            r#type,
            host,
            health: Some(api_health(verdict.map_or(Health::Unknown, |verdict| verdict.health))),
            since: verdict.map(|verdict| micro_time(verdict.since)).or_else(|| before.since.clone()),
            reason: Some(reason.to_owned()),
            message: Some(truncated(message, MAX_MESSAGE)).filter(|message| !message.is_empty()),
            certificate_not_after: first_expiry.map(|not_after| micro_time(not_after.at)),
            certificate_issuer: first_expiry.and_then(|not_after| not_after.issuer.as_deref()).map(str::to_owned),
            probes: worst
                .iter()
                .flat_map(|(_, probes)| probes.iter())
                .chain(deliveries)
                .map(|(name, judgement)| self.probe_status(name, judgement))
                .collect(),
            pending_events: self.pending_events(cx, before, verdict.filter(|_| !suspended)),
            conditions: self.conditions(&before.conditions, generation, verdict, cx.now),
        }
    }

    fn conditions(
        &self,
        existing: &[Condition],
        generation: i64,
        verdict: Option<&Verdict>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let rejections: Vec<_> = self.rejection().cloned().into_iter().collect();
        let mut conditions = Conditions::new(existing, generation, now);
        if let Some(rejection) = rejections.first() {
            conditions.set(condition::READY, Some(false), rejection.reason, &joined(&rejections));
        } else if let Some((probe, Delayed { delay, .. })) = self.delays.first_key_value() {
            let message = format!(
                "probe {probe} waited {:.0?} for its turn: {}; its evidence comes later than its interval asks for",
                delay.waited,
                delay.cause.explanation()
            );
            conditions.set(condition::READY, Some(false), reason::PROBES_DELAYED, &message);
        } else {
            let message = "accepted, and every probe has ended a round";
            conditions.set(condition::READY, Some(true), reason::OBSERVED, message);
        }
        let (is_healthy, class, message) = healthy_condition(verdict);
        let words =
            verdict.filter(|verdict| verdict.message.is_empty()).map_or("", |verdict| self.words_about(verdict));
        let message = if words.is_empty() { message } else { format!("{message}: {words}").into() };
        conditions.set(condition::HEALTHY, is_healthy, class.as_str(), &message);
        if rejections.iter().any(Rejection::is_of_spec) {
            conditions.set_stalled(&rejections);
        }
        conditions.build()
    }

    /// The verdict's own words; without any, the finding of a probe that keeps it from being known.
    fn words_about<'a>(&'a self, verdict: &'a Verdict) -> &'a str {
        let is_unknown = verdict.health == Health::Unknown && verdict.class == EvidenceClass::Inconclusive;
        let finding = self.refusals.values().next().filter(|_| is_unknown && verdict.message.is_empty());
        finding.map_or(&*verdict.message, |(_, message)| message.as_str())
    }

    fn probe_status(&self, name: &Arc<str>, judgement: &Judgement) -> api::ProbeStatus {
        let judged = api::ProbeStatus { condemned: self.condemned(name, judgement), ..probe_status(name, judgement) };
        match self.refusals.get(name) {
            Some((class, message)) if judged.reason == EvidenceClass::Inconclusive.as_str() => {
                api::ProbeStatus { reason: class.as_str().to_owned(), message: Some(message.clone()), ..judged }
            }
            Some(_) | None => judged,
        }
    }

    /// The failure that stands behind a verdict, where that itself does not tell: of real mail the stage, and of a probe
    /// that cannot be made what it had seen.
    // ADR-0119: Acquit at the depth of the accusation.
    fn condemned(&self, name: &Arc<str>, judgement: &Judgement) -> Option<api::CondemnedStatus> {
        let stage = if **name == *DELIVERIES {
            self.evidence.awaited_stage()?.as_str()
        } else {
            judgement.blocked().filter(|_| judgement.health == Health::Unhealthy)?;
            let probe = self.usable.as_ref()?.probes.iter().find(|probe| probe.name == *name)?;
            probe.depth.last_stage().as_str()
        };
        Some(api::CondemnedStatus {
            stage: stage.to_owned(),
            reason: judgement.class.as_str().to_owned(),
            since: micro_time(judgement.since),
        })
    }

    /// The Event that asks for a person, unless it was published: real mail condemns the backend, and no message tries
    /// it.
    fn person_event(&self, cx: &BackendContext<'_>) -> Option<api::PendingEvent> {
        let at = self.evidence.needs_person_at().filter(|at| *at <= cx.now)?;
        let (stage, judgement) = (self.evidence.awaited_stage()?, self.evidence.deliveries()?);
        let note = format!(
            "real mail has failed here at {} since {} ({}), and no message has tried it again for a day: if it works, trust it \
             with kubectl annotate mailroute ROUTE --overwrite '{REQUEST_ANNOTATION}={{\"id\":\"trust-{}\",\"action\":\"Failback\"}}'",
            stage.as_str(),
            judgement.since,
            judgement.class.as_str(),
            cx.resource.key.name
        );
        // Named by the accusation, so that each is told of once.
        let event = events::pending(cx.resource, EventReason::TrialWanted, judgement.since, None, &note);
        let is_new = self.person_wanted.as_ref() != Some(&event.name);
        is_new.then(|| api::PendingEvent { at: micro_time(at), ..event })
    }

    /// The Events still to be published: those pending before, and those of the difference to the status before.
    fn pending_events(
        &self,
        cx: &BackendContext<'_>,
        before: &SendingBackendStatus,
        verdict: Option<&Verdict>,
    ) -> Vec<api::PendingEvent> {
        let pending = before.pending_events.iter();
        let mut pending: Vec<_> = pending.filter(|event| !self.published.contains(&event.name)).cloned().collect();
        // What has not been told yet needs no all-clear.
        let is_taken_back = verdict.is_none_or(|verdict| verdict.health != Health::Unhealthy)
            && events::take_back(&mut pending, EventReason::BackendUnhealthy, cx.now);
        if let Some((reason, note)) = verdict.and_then(|verdict| turn(before, verdict)) {
            let has_never_worked = matches!(before.health, None | Some(api::Health::Unknown));
            let object = self.object.as_ref().and_then(Cached::readable);
            let object = object.filter(|_| has_never_worked && reason == EventReason::BackendUnhealthy);
            let at = object.map_or(cx.now, |object| events::first_alarm_at(&object.metadata, cx.now));
            if !(is_taken_back && reason == EventReason::BackendRecovered) {
                // Earlier turns that nobody was told of are a number in this one.
                if pending.iter().filter(|event| is_of_turn(event)).count() >= MAX_PENDING_TURNS {
                    pending.retain(|event| !is_of_turn(event));
                }
                let note = format!("{note}{}", self.turns.words(cx.now));
                events::push(&mut pending, events::pending(cx.resource, reason, at, None, &note));
            }
        }
        if let Some(event) = self.expiry_event(cx).filter(|event| !self.published.contains(&event.name)) {
            events::push(&mut pending, event);
        }
        if let Some(event) = self.person_event(cx).filter(|event| !self.published.contains(&event.name)) {
            events::push(&mut pending, event);
        }
        if let Some(rejection) = self.rejection() {
            let is_reported = !is_true(&before.conditions, condition::READY)
                && condition_message(&before.conditions, condition::READY) == rejection.message;
            if !is_reported {
                let reason = EventReason::ConfigurationRejected;
                events::push(&mut pending, events::pending(cx.resource, reason, cx.now, None, &rejection.message));
            }
        }
        pending
    }
}

/// Status, reason and message of the condition `Healthy`.
fn healthy_condition(verdict: Option<&Verdict>) -> (Option<bool>, EvidenceClass, Cow<'_, str>) {
    let Some(Verdict { health, class, message, .. }) = verdict else {
        return (None, EvidenceClass::Inconclusive, "not observed".into());
    };
    match (health, class) {
        (Health::Healthy, _) => (Some(true), EvidenceClass::Ok, "mail can leave this way".into()),
        (Health::Degraded, EvidenceClass::Throttled) => {
            (Some(true), *class, format!("hardly any mail can leave this way: {message}").into())
        }
        (Health::Degraded, class) => {
            (Some(true), *class, format!("mail can leave this way, slower than it should: {message}").into())
        }
        (Health::Unhealthy, class) => (Some(false), *class, (&**message).into()),
        (Health::Unknown, EvidenceClass::ProbeBlocked) => (None, *class, (&**message).into()),
        (Health::Unknown, class) => (None, *class, "not enough evidence yet".into()),
    }
}

/// Reason and note of the Event for a change of health.
fn turn(before: &SendingBackendStatus, verdict: &Verdict) -> Option<(EventReason, String)> {
    let was_unhealthy = before.health == Some(api::Health::Unhealthy);
    let was_throttled = before.health == Some(api::Health::Degraded)
        && before.reason.as_deref() == Some(EvidenceClass::Throttled.as_str());
    match verdict.health {
        _ if is_throttled_only(verdict) => {
            (!was_throttled).then(|| (EventReason::BackendThrottled, verdict.message.to_string()))
        }
        Health::Healthy | Health::Degraded if was_unhealthy || was_throttled => {
            Some((EventReason::BackendRecovered, "mail can leave this way again".to_owned()))
        }
        Health::Unhealthy if !was_unhealthy => {
            let note = format!("{}: {}", verdict.class.as_str(), verdict.message);
            Some((EventReason::BackendUnhealthy, note))
        }
        Health::Healthy | Health::Degraded | Health::Unhealthy | Health::Unknown => None,
    }
}

/// Returns true if the backend has done nothing but ask for less, for minutes.
fn is_throttled_only(verdict: &Verdict) -> bool {
    verdict.health == Health::Degraded && verdict.class == EvidenceClass::Throttled
}

/// Returns true for an Event about a change of health.
fn is_of_turn(event: &api::PendingEvent) -> bool {
    let reasons = [EventReason::BackendRecovered, EventReason::BackendUnhealthy, EventReason::BackendThrottled];
    reasons.iter().any(|reason| event.reason == reason.as_str())
}

/// Type and address, for people, as the spec has them.
fn place(spec: &api::SendingBackendSpec) -> (Option<BackendType>, Option<String>) {
    match (&spec.smtp, &spec.service) {
        (Some(smtp), _) if smtp.host.contains(':') => {
            (Some(BackendType::Smtp), Some(format!("[{}]:{}", smtp.host, smtp.port)))
        }
        (Some(smtp), _) => (Some(BackendType::Smtp), Some(format!("{}:{}", smtp.host, smtp.port))),
        (None, Some(service)) => {
            (Some(BackendType::Service), Some(format!("{}:{}", service.name, resolve::port_text(&service.port))))
        }
        (None, None) => (None, None),
    }
}

/// Returns true if a backend's status is about the place that its spec names now, by type, host and port.
pub(in crate::controller) fn is_status_of_present_place(object: &SendingBackend) -> bool {
    let Some(status) = &object.status else { return false };
    let is_of_present_spec = status.observed_generation == object.metadata.generation;
    is_of_present_spec || place(&object.spec) == (status.r#type, status.host.clone())
}

fn probe_status(name: &Arc<str>, judgement: &Judgement) -> api::ProbeStatus {
    if let Some(blocked) = judgement.blocked() {
        return api::ProbeStatus {
            name: name.to_string(),
            health: api::Health::Unknown,
            since: micro_time(blocked.since),
            reason: EvidenceClass::ProbeBlocked.as_str().to_owned(),
            message: Some(truncated(&blocked.message, MAX_MESSAGE)),
            condemned: None,
        };
    }
    api::ProbeStatus {
        name: name.to_string(),
        health: api_health(judgement.health),
        since: micro_time(judgement.since),
        reason: judgement.class.as_str().to_owned(),
        message: Some(truncated(&judgement.message, MAX_MESSAGE)).filter(|message| !message.is_empty()),
        condemned: None,
    }
}

pub(in crate::controller) fn api_health(health: Health) -> api::Health {
    match health {
        Health::Healthy => api::Health::Healthy,
        Health::Degraded => api::Health::Degraded,
        Health::Unhealthy => api::Health::Unhealthy,
        Health::Unknown => api::Health::Unknown,
    }
}
