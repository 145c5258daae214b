//! Kubernetes Events: decided with the status they report, published after it.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::step::Subject;
use mail_failover_api::{self as api, PendingEvent};
use mail_failover_core::model::Timestamp;
use mail_failover_resolve::text::truncated;
use mail_failover_resolve::time::micro_time;

/// The controller that Events name as their reporter.
const REPORTING_CONTROLLER: &str = "mailfailover.io/operator";
/// The API server's bound on an Event's note, in bytes.
const MAX_NOTE: usize = 1024;
/// So many Events may be pending at once; beyond, the oldest give way.
const MAX_PENDING: usize = 16;

/// What people are told: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    FailedOver,
    FailedBack,
    NoneHealthy,
    Recovered,
    RequestDone,
    RequestRefused,
    ConfigurationRejected,
    OutputRefused,
    BackendUnhealthy,
    BackendRecovered,
}

impl Telling {
    fn reason(self) -> &'static str {
        match self {
            Self::FailedOver => "FailedOver",
            Self::FailedBack => "FailedBack",
            Self::NoneHealthy => "NoneHealthy",
            Self::Recovered => "Recovered",
            Self::RequestDone => "RequestDone",
            Self::RequestRefused => "RequestRefused",
            Self::ConfigurationRejected => "ConfigurationRejected",
            Self::OutputRefused => "OutputRefused",
            Self::BackendUnhealthy => "BackendUnhealthy",
            Self::BackendRecovered => "BackendRecovered",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::FailedOver | Self::FailedBack => "Switch",
            Self::NoneHealthy | Self::Recovered | Self::BackendUnhealthy | Self::BackendRecovered => "Judge",
            Self::RequestDone | Self::RequestRefused => "Request",
            Self::ConfigurationRejected => "Validate",
            Self::OutputRefused => "Write",
        }
    }

    fn is_warning(self) -> bool {
        match self {
            Self::FailedOver
            | Self::NoneHealthy
            | Self::RequestRefused
            | Self::ConfigurationRejected
            | Self::OutputRefused
            | Self::BackendUnhealthy => true,
            Self::FailedBack | Self::Recovered | Self::RequestDone | Self::BackendRecovered => false,
        }
    }
}

/// An Event to be written into the status that it reports. Its name follows from the object, the moment and the reason, so that the
/// same decision, taken again after a crash, has the same name.
pub(super) fn pending(
    subject: &Subject,
    telling: Telling,
    at: Timestamp,
    backend: Option<&str>,
    note: &str,
) -> PendingEvent {
    let name: String = subject.key.name.chars().take(180).collect();
    PendingEvent {
        name: format!("{}.{:x}.{}", name.trim_end_matches(['.', '-']), at.as_micros(), telling.reason().to_lowercase()),
        r#type: if telling.is_warning() { "Warning" } else { "Normal" }.to_owned(),
        reason: telling.reason().to_owned(),
        action: telling.action().to_owned(),
        note: truncated(note, MAX_NOTE),
        backend: backend.map(str::to_owned),
        at: micro_time(at),
    }
}

/// Adds Events to those pending, within the bound.
pub(super) fn push(pending: &mut Vec<PendingEvent>, event: PendingEvent) {
    if pending.iter().all(|known| known.name != event.name) {
        pending.push(event);
    }
    let excess = pending.len().saturating_sub(MAX_PENDING);
    pending.drain(..excess);
}

/// The Event as it is published.
pub(super) fn event(subject: &Subject, uid: &str, instance: &str, pending: &PendingEvent) -> Event {
    let namespace = subject.key.namespace.to_string();
    let reference = |kind: &str, name: &str, uid: Option<&str>| ObjectReference {
        api_version: Some(format!("{}/{}", api::GROUP, api::VERSION)),
        kind: Some(kind.to_owned()),
        namespace: Some(namespace.clone()),
        name: Some(name.to_owned()),
        uid: uid.map(str::to_owned),
        ..ObjectReference::default()
    };
    Event {
        metadata: ObjectMeta {
            name: Some(pending.name.clone()),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(pending.at.clone()),
        type_: Some(pending.r#type.clone()),
        reason: Some(pending.reason.clone()),
        action: Some(pending.action.clone()),
        note: Some(pending.note.clone()),
        regarding: Some(reference(subject.kind.as_str(), &subject.key.name, Some(uid))),
        related: pending.backend.as_deref().map(|backend| reference("SendingBackend", backend, None)),
        reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
        reporting_instance: Some(truncated(instance, 128)),
        ..Event::default()
    }
}
