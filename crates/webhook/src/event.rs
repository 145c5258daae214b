//! The event that tells a receiver where the mail of a route goes: a `CloudEvent` 1.0, and its id.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use mail_failover_core::engine::Memory;
use mail_failover_core::model::{ObjectKey, Timestamp, Uid, WebhookOutput};
use ring::digest::{Context, SHA256};
use serde::Serialize;
use serde_json::json;

/// Media type of a `CloudEvent` in structured mode.
pub const CLOUD_EVENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// Prefix of every id.
const ID_PREFIX: &str = "mf";
/// Bytes of a digest that an id holds.
const DIGEST_BYTES: usize = 12;

/// Kinds of transitions for a dry run of templates, each with the type of its event.
pub(crate) const SAMPLE_KINDS: [(&str, &str); 3] = [
    ("Failover", "io.mailfailover.route.failover"),
    ("Failback", "io.mailfailover.route.failback"),
    ("Initial", "io.mailfailover.route.initial"),
];

/// Id of an event: a number that grows with each event of an output, and a digest of what the event says.
///
/// It follows from what is persisted, so that the same event has the same id after a restart. An event that says again
/// what an earlier one said has another number: between the two the receiver was told something else.
// ADR-0135: A webhook is led to the latest decision, under an id that says what and after what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventId {
    /// Number of the event: the Unix time of the decision in milliseconds, or one more than that of the event before.
    pub sequence: u64,
    /// Digest of what the event says, in hexadecimal digits.
    pub digest: Arc<str>,
}

impl EventId {
    /// The id of an event with this digest about a decision of this time, after the latest event that the receiver was
    /// told or was to be told.
    // The time makes numbers grow for a receiver that knew a route or an output of this name before.
    #[must_use]
    pub fn following(latest: Option<&Self>, digest: &Arc<str>, decided_at: Timestamp) -> Self {
        let begin = u64::try_from(decided_at.as_micros() / 1000).unwrap_or_default().max(1);
        match latest {
            Some(latest) if latest.digest == *digest => latest.clone(),
            Some(latest) => Self { sequence: latest.sequence.saturating_add(1).max(begin), digest: digest.clone() },
            None => Self { sequence: begin, digest: digest.clone() },
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No dot: the signature separates its parts by dots.
        write!(f, "{ID_PREFIX}-{}-{}", self.sequence, self.digest)
    }
}

/// Error of a text that is no id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of an event is {ID_PREFIX}-NUMBER-DIGEST")]
pub struct InvalidEventId;

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        let (prefix, sequence, digest) = (parts.next(), parts.next(), parts.next());
        let (Some(ID_PREFIX), Some(sequence), Some(digest), None) = (prefix, sequence, digest, parts.next()) else {
            return Err(InvalidEventId);
        };
        let is_hexadecimal = digest.len() == 2 * DIGEST_BYTES && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sequence = sequence.parse().map_err(|_| InvalidEventId)?;
        if is_hexadecimal { Ok(Self { sequence, digest: digest.into() }) } else { Err(InvalidEventId) }
    }
}

/// Time of the decision that there is to tell of: of the latest transition, or else of the first choice.
pub fn decided_at(memory: &Memory) -> Timestamp {
    memory.last_transition().map_or(memory.since, |last| last.decided_at)
}

/// The digest of what an output of a route has to tell now. It covers the request, the Secret aside, and the decision.
pub fn digest(uid: &Uid, output: &WebhookOutput, memory: &Memory) -> Arc<str> {
    let WebhookOutput { name, url, method, secret: _, ca: _, headers, content_type, body, timeout: _, is_awaited: _ } =
        output;
    let mut context = Context::new(&SHA256);
    for part in [uid.as_str(), name, url, method.as_str()] {
        add(&mut context, part);
    }
    for (name, value) in headers {
        add(&mut context, name);
        add(&mut context, value);
    }
    for part in [content_type, body] {
        add(&mut context, if part.is_some() { "1" } else { "0" });
        add(&mut context, part.as_deref().unwrap_or_default());
    }
    if let Some(last) = memory.last_transition() {
        add(&mut context, &format!("{} {}", last.id, last.decided_at.as_micros()));
    }
    for share in &memory.shares {
        add(&mut context, &share.backend);
        add(&mut context, &share.percent.to_string());
    }
    let digest = context.finish();
    let mut text = String::with_capacity(2 * DIGEST_BYTES);
    for byte in &digest.as_ref()[..DIGEST_BYTES] {
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// Adds a part with its length, so that no two lists of parts run together.
fn add(context: &mut Context, part: &str) {
    context.update(&(part.len() as u64).to_be_bytes());
    context.update(part.as_bytes());
}

/// Event that tells a receiver where the mail goes. Templates use its fields by the names that they have in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEvent {
    /// The id, as in the header `webhook-id`.
    pub id: String,
    /// Number of the event, as in the id.
    pub sequence: u64,
    /// `io.mailfailover.route.failover`, `….failback`, or `….initial` before the first transition.
    #[serde(rename = "type")]
    pub type_: &'static str,
    /// Time of the decision, in RFC 3339.
    pub time: String,
    /// Namespace of the route.
    pub namespace: String,
    /// Name of the route.
    pub route: String,
    /// Name of the output.
    pub output: String,
    /// The latest transition.
    pub transition: EventTransition,
    /// Backend with the largest share; `None` if nobody may carry the mail.
    pub backend: Option<String>,
    /// Backends that carry the mail, with their shares.
    pub active: Vec<EventShare>,
}

/// A transition as a receiver is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTransition {
    /// Number of the transition, as in `status.history`; 0 before the first.
    pub id: i64,
    /// Failover or Failback; Initial before the first.
    pub kind: &'static str,
    /// The backend that was left.
    pub from: Option<String>,
    /// The backend that carries the mail since.
    pub to: Option<String>,
    /// Reason, as in `status.history`.
    pub reason: String,
    /// Time of the decision, in RFC 3339.
    pub decided_at: String,
}

/// A backend with its share of the mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventShare {
    /// Name of the `SendingBackend`.
    pub backend: String,
    /// Share in percent.
    pub percent: u8,
}

impl WebhookEvent {
    /// The event about a decision.
    pub fn of(id: &EventId, route: &ObjectKey, output: &str, memory: &Memory) -> Self {
        // The first of equals.
        let largest = memory.shares.iter().rev().max_by_key(|share| share.percent);
        let backend = largest.map(|share| share.backend.to_string());
        let (type_, transition) = match memory.last_transition() {
            Some(last) => (
                match last.kind {
                    mail_failover_core::engine::TransitionKind::Failover => "io.mailfailover.route.failover",
                    mail_failover_core::engine::TransitionKind::Failback => "io.mailfailover.route.failback",
                },
                EventTransition {
                    id: last.id,
                    kind: last.kind.as_str(),
                    from: Some(last.from.to_string()),
                    to: Some(last.to.to_string()),
                    reason: last.reason.as_str().to_owned(),
                    decided_at: rfc3339(last.decided_at),
                },
            ),
            None => (
                "io.mailfailover.route.initial",
                EventTransition {
                    id: 0,
                    kind: "Initial",
                    from: None,
                    to: backend.clone(),
                    reason: "Initial".to_owned(),
                    decided_at: rfc3339(memory.since),
                },
            ),
        };
        Self {
            id: id.to_string(),
            sequence: id.sequence,
            type_,
            time: transition.decided_at.clone(),
            namespace: route.namespace.to_string(),
            route: route.name.to_string(),
            output: output.to_owned(),
            transition,
            backend,
            active: memory
                .shares
                .iter()
                .map(|share| EventShare { backend: share.backend.to_string(), percent: share.percent })
                .collect(),
        }
    }

    /// The event as a `CloudEvent` 1.0 in structured mode, with the extension `sequence`.
    pub fn cloud_event(&self) -> Vec<u8> {
        let Self { id, sequence, type_, time, namespace, route, output, transition, backend, active } = self;
        let event = json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("/apis/mailfailover.io/v1alpha1/namespaces/{namespace}/mailroutes/{route}"),
            "type": type_,
            "time": time,
            "sequence": format!("{sequence:020}"),
            "datacontenttype": "application/json",
            "data": {
                "namespace": namespace,
                "route": route,
                "output": output,
                "transition": transition,
                "backend": backend,
                "active": active,
            },
        });
        event.to_string().into_bytes()
    }

    /// An event for a dry run of templates.
    pub(crate) fn sample() -> Self {
        let time = "2026-01-01T00:00:00Z";
        Self {
            id: format!("{ID_PREFIX}-1-{}", "0".repeat(2 * DIGEST_BYTES)),
            sequence: 1,
            type_: "io.mailfailover.route.failover",
            time: time.to_owned(),
            namespace: "shop".to_owned(),
            route: "orders".to_owned(),
            output: "webhook".to_owned(),
            transition: EventTransition {
                id: 1,
                kind: "Failover",
                from: Some("first".to_owned()),
                to: Some("second".to_owned()),
                reason: "NoAnswer".to_owned(),
                decided_at: time.to_owned(),
            },
            backend: Some("second".to_owned()),
            active: vec![EventShare { backend: "second".to_owned(), percent: 100 }],
        }
    }

    /// An event for a dry run that leads to this backend by a transition of one of [`SAMPLE_KINDS`].
    pub(crate) fn sample_to(backend: &str, (kind, type_): (&'static str, &'static str)) -> Self {
        let mut event = Self::sample();
        event.type_ = type_;
        event.transition.kind = kind;
        event.transition.to = Some(backend.to_owned());
        event.backend = Some(backend.to_owned());
        event.active = vec![EventShare { backend: backend.to_owned(), percent: 100 }];
        event
    }
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
