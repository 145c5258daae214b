use k8s_openapi::api::events::v1::Event;
use serde_json::Value;

use mail_failover_api::GROUP;
use mail_failover_core::model::{ObjectKey, Timestamp};
use mail_failover_resolve::time::timestamp;

/// Event of the operator about one of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReportedEvent {
    pub(super) at: Timestamp,
    pub(super) kind: String,
    pub(super) key: ObjectKey,
    pub(super) reason: String,
    pub(super) note: String,
    pub(super) is_warning: bool,
}

impl ReportedEvent {
    /// Takes an Event of `events.k8s.io/v1`; `None` if it is about none of our kinds.
    pub(super) fn of(event: Event) -> Option<Self> {
        let regarding = event.regarding?;
        regarding.api_version.as_deref().filter(|version| version.starts_with(GROUP))?;
        Some(Self {
            at: timestamp(&event.event_time?),
            kind: regarding.kind?,
            key: ObjectKey::new(regarding.namespace?, regarding.name?),
            reason: event.reason.unwrap_or_default(),
            note: event.note.unwrap_or_default(),
            is_warning: event.type_.as_deref() == Some("Warning"),
        })
    }

    /// Takes an Event of a dump, of either group: `kubectl get events -o yaml` prints those of the core group.
    pub(super) fn of_dump(event: &Value) -> Option<Self> {
        let field = |names: [&str; 2]| {
            let mut found = names.iter().filter_map(|name| event.get(name));
            found.find_map(|value| value.as_str().filter(|text| !text.is_empty()))
        };
        let regarding = event.get("regarding").or_else(|| event.get("involvedObject"))?;
        let of_object = |name: &str| regarding.get(name).and_then(Value::as_str);
        of_object("apiVersion").filter(|version| version.starts_with(GROUP))?;
        let at: jiff::Timestamp = field(["eventTime", "lastTimestamp"])?.parse().ok()?;
        Some(Self {
            at: Timestamp::from_micros(at.as_microsecond()),
            kind: of_object("kind")?.to_owned(),
            key: ObjectKey::new(of_object("namespace")?, of_object("name")?),
            reason: field(["reason", "reason"]).unwrap_or_default().to_owned(),
            note: field(["note", "message"]).unwrap_or_default().to_owned(),
            is_warning: field(["type", "type"]) == Some("Warning"),
        })
    }
}
