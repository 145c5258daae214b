//! Kubernetes Events: decided with the status that they report, published after it.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::action::{Action, ResourceKind, ResourceRef};
use mail_failover_api::conditions::{condition, reason};
use mail_failover_api::{self as api, PendingEvent};
use mail_failover_core::model::{ObjectKey, Timestamp, Uid};
use mail_failover_resolve::text::truncated;
use mail_failover_resolve::time::{micro_time, timestamp};

/// The controller that Events name as their reporter.
const REPORTING_CONTROLLER: &str = "mailfailover.io/operator";
/// The API server's bound on an Event's note, in bytes.
const MAX_NOTE: usize = 1024;
/// The API server's bound on `reportingInstance`, in bytes.
const MAX_INSTANCE: usize = 128;
/// Bound on the Events pending at once; beyond it the oldest are dropped.
const MAX_PENDING: usize = 16;

/// Time after its creation in which nobody is alarmed that an object does not work yet.
// Pods start, DNS records spread, a relay's volume is mounted: with a first installation everything fails for a moment.
const STARTING: Duration = Duration::from_mins(1);

/// Returns the time at which an alarm is due that an object has never worked: now, or when the object is no longer new.
pub(super) fn first_alarm_at(metadata: &ObjectMeta, now: Timestamp) -> Timestamp {
    let created = metadata.creation_timestamp.as_ref().map(|at| Timestamp::from_micros(at.0.as_microsecond()));
    // A creation in the future is that of an API server with another clock, which says nothing.
    created.filter(|created| *created <= now).map_or(now, |created| (created + STARTING).max(now))
}

/// Returns true if an Event is not to be published yet.
fn is_deferred(event: &PendingEvent, now: Timestamp) -> bool {
    timestamp(&event.at) > now
}

/// Returns the time at which the next deferred Event is due.
pub(super) fn next_due(pending: &[PendingEvent], now: Timestamp) -> Option<Timestamp> {
    pending.iter().map(|event| timestamp(&event.at)).filter(|at| *at > now).min()
}

/// Takes back a deferred Event of this reason. Returns true if there was one.
pub(super) fn take_back(pending: &mut Vec<PendingEvent>, reason: EventReason, now: Timestamp) -> bool {
    let before = pending.len();
    pending.retain(|event| event.reason != reason.as_str() || !is_deferred(event, now));
    pending.len() < before
}

/// Reasons of Events: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventReason {
    FailedOver,
    FailedBack,
    NoneHealthy,
    HeldOnDeadBackend,
    ApprovalWanted,
    StandbyLost,
    Recovered,
    RequestDone,
    RequestRefused,
    ConfigurationRejected,
    OutputRefused,
    BackendUnhealthy,
    BackendThrottled,
    BackendRecovered,
    CertificateExpiring,
    MailKept,
    TrialWanted,
    WebhookFailing,
    DnsFailing,
    DrillBegan,
    DrillPassed,
    DrillFailed,
    DrillAborted,
    DrillSkipped,
    InstallationConflict,
}

impl EventReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FailedOver => "FailedOver",
            Self::FailedBack => "FailedBack",
            Self::NoneHealthy => "NoneHealthy",
            Self::HeldOnDeadBackend => reason::HELD_ON_DEAD_BACKEND,
            Self::ApprovalWanted => "ApprovalWanted",
            Self::StandbyLost => "StandbyLost",
            Self::Recovered => "Recovered",
            Self::RequestDone => "RequestDone",
            Self::RequestRefused => "RequestRefused",
            Self::ConfigurationRejected => "ConfigurationRejected",
            Self::OutputRefused => "OutputRefused",
            Self::BackendUnhealthy => "BackendUnhealthy",
            Self::BackendThrottled => "BackendThrottled",
            Self::BackendRecovered => "BackendRecovered",
            Self::CertificateExpiring => "CertificateExpiring",
            Self::MailKept => "MailKept",
            Self::TrialWanted => "TrialWanted",
            Self::WebhookFailing => reason::WEBHOOK_FAILING,
            Self::DnsFailing => reason::DNS_FAILING,
            Self::DrillBegan => "DrillBegan",
            Self::DrillPassed => "DrillPassed",
            Self::DrillFailed => "DrillFailed",
            Self::DrillAborted => "DrillAborted",
            Self::DrillSkipped => "DrillSkipped",
            Self::InstallationConflict => condition::INSTALLATION_CONFLICT,
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::FailedOver | Self::FailedBack => "Switch",
            Self::NoneHealthy
            | Self::HeldOnDeadBackend
            | Self::ApprovalWanted
            | Self::StandbyLost
            | Self::Recovered
            | Self::BackendUnhealthy
            | Self::BackendThrottled
            | Self::BackendRecovered
            | Self::CertificateExpiring
            | Self::MailKept
            | Self::TrialWanted => "Judge",
            Self::RequestDone | Self::RequestRefused => "Request",
            Self::ConfigurationRejected | Self::InstallationConflict => "Validate",
            Self::OutputRefused | Self::DnsFailing => "Write",
            Self::WebhookFailing => "Call",
            Self::DrillBegan | Self::DrillPassed | Self::DrillFailed | Self::DrillAborted | Self::DrillSkipped => {
                "Drill"
            }
        }
    }

    fn is_warning(self) -> bool {
        match self {
            Self::FailedOver
            | Self::NoneHealthy
            | Self::HeldOnDeadBackend
            | Self::StandbyLost
            | Self::RequestRefused
            | Self::ConfigurationRejected
            | Self::OutputRefused
            | Self::BackendUnhealthy
            | Self::BackendThrottled
            | Self::CertificateExpiring
            | Self::MailKept
            | Self::TrialWanted
            | Self::WebhookFailing
            | Self::DnsFailing
            | Self::DrillFailed
            | Self::DrillAborted
            | Self::InstallationConflict => true,
            Self::FailedBack
            | Self::ApprovalWanted
            | Self::Recovered
            | Self::RequestDone
            | Self::BackendRecovered
            | Self::DrillBegan
            | Self::DrillPassed
            | Self::DrillSkipped => false,
        }
    }
}

/// An Event to be written into the status that it reports.
/// The name follows from the object, the moment and the reason.
// The same decision, taken again after a crash, then has the same name.
pub(super) fn pending(
    resource: &ResourceRef,
    reason: EventReason,
    at: Timestamp,
    backend: Option<&str>,
    note: &str,
) -> PendingEvent {
    let name: String = resource.key.name.chars().take(180).collect();
    PendingEvent {
        name: format!("{}.{:x}.{}", name.trim_end_matches(['.', '-']), at.as_micros(), reason.as_str().to_lowercase()),
        r#type: if reason.is_warning() { "Warning" } else { "Normal" }.to_owned(),
        reason: reason.as_str().to_owned(),
        action: reason.action().to_owned(),
        note: truncated(note, MAX_NOTE),
        backend: backend.map(str::to_owned),
        at: micro_time(at),
    }
}

/// Adds an Event to those pending, within the bound.
pub(super) fn push(pending: &mut Vec<PendingEvent>, event: PendingEvent) {
    if pending.iter().all(|known| known.name != event.name) {
        pending.push(event);
    }
    let excess = pending.len().saturating_sub(MAX_PENDING);
    pending.drain(..excess);
}

/// The publication of those pending Events that are not published yet; `None` if there are none.
pub(super) fn publication(
    resource: &ResourceRef,
    uid: &Uid,
    instance: &str,
    pending: &[PendingEvent],
    published: &BTreeSet<String>,
    now: Timestamp,
) -> Option<Action> {
    let due = pending.iter().filter(|pending| !is_deferred(pending, now));
    let outstanding = due.filter(|pending| !published.contains(&pending.name));
    let events: Vec<_> = outstanding.map(|pending| event(resource, uid, instance, pending)).collect();
    (!events.is_empty()).then_some(Action::PublishEvents(events))
}

/// The Event as it is published.
pub(super) fn event(resource: &ResourceRef, uid: &Uid, instance: &str, pending: &PendingEvent) -> Event {
    let backend = pending.backend.as_deref().map(|backend| resource.key.sibling(backend));
    Event {
        metadata: ObjectMeta {
            name: Some(pending.name.clone()),
            namespace: Some(resource.key.namespace.to_string()),
            ..ObjectMeta::default()
        },
        event_time: Some(pending.at.clone()),
        type_: Some(pending.r#type.clone()),
        reason: Some(pending.reason.clone()),
        action: Some(pending.action.clone()),
        note: Some(pending.note.clone()),
        regarding: Some(reference(resource.kind, &resource.key, Some(uid))),
        related: backend.map(|backend| reference(ResourceKind::Backend, &backend, None)),
        reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
        reporting_instance: Some(truncated(instance, MAX_INSTANCE)),
        ..Event::default()
    }
}

fn reference(kind: ResourceKind, key: &ObjectKey, uid: Option<&Uid>) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{}/{}", api::GROUP, api::VERSION)),
        kind: Some(kind.as_str().to_owned()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: uid.map(ToString::to_string),
        ..ObjectReference::default()
    }
}
