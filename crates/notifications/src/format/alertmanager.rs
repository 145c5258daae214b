//! Alerts of Alertmanager's API v2.

use std::time::Duration;

use mail_failover_core::model::{ObjectKey, Occasion, Receiver, Timestamp};
use serde_json::{Value, json};

use super::ToldMessage;
use crate::message::{MessageText, about, occasion};

/// Time after which an alert ends that is not told again.
// Four times the pause between two tellings, as Prometheus does.
const LASTS: Duration = Duration::from_mins(4);

/// Something that lasts, for the routes of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OngoingAlert {
    /// The occasion on which it began.
    pub about: Occasion,
    /// The backend that it is about.
    pub backend: Option<String>,
    /// Its beginning.
    pub since: Timestamp,
    /// Routes that it is about, as `namespace/name`.
    pub routes: Vec<String>,
}

impl OngoingAlert {
    /// Returns true if a receiver asks to be told of it.
    pub fn is_wanted_by(&self, receiver: &Receiver) -> bool {
        receiver.wants(self.about, Some(self.about))
    }
}

/// The alert of a message.
pub(super) fn alerts(told: &ToldMessage<'_>, text: &MessageText) -> Value {
    let message = told.message;
    let subject = about(message).unwrap_or(occasion(message));
    let since = message.since.as_ref().unwrap_or(&message.at);
    let ends_at = if message.resolved { told.now } else { told.now + LASTS };
    let mut alert = json!({
        "labels": labels(told.policy, subject, message.backend.as_deref()),
        "annotations": {"summary": text.title, "description": text.plain()},
        "endsAt": time(ends_at),
    });
    if let Some(link) = &text.link {
        alert["annotations"]["runbook_url"] = json!(link);
    }
    // The end of an alert does not say when it began.
    if !message.resolved {
        alert["startsAt"] = json!(since.0.to_string());
    }
    json!([alert])
}

/// Alerts of all that lasts, to be told again.
pub fn ongoing_alerts<'a>(
    policy: &ObjectKey,
    ongoing: impl IntoIterator<Item = &'a OngoingAlert>,
    runbook_url: Option<&str>,
    now: Timestamp,
) -> Value {
    let mut alerts = vec![];
    for one in ongoing {
        let message = mail_failover_api::QueuedNotification {
            id: String::new(),
            incident: None,
            occasion: one.about.as_str().to_owned(),
            about: Some(one.about.as_str().to_owned()),
            backend: one.backend.clone(),
            resolved: false,
            at: mail_failover_resolve::time::micro_time(one.since),
            since: None,
            from: one.backend.clone(),
            to: vec![],
            why: String::new(),
            waited_seconds: None,
            routes: one.routes.clone(),
            route_count: i32::try_from(one.routes.len()).ok(),
            members: vec![],
            waiting: vec![],
        };
        let told = ToldMessage { message: &message, policy, runbook_url, now };
        if let Value::Array(all) = self::alerts(&told, &told.text()) {
            alerts.extend(all);
        }
    }
    Value::Array(alerts)
}

/// Labels, which are the same from beginning to end: by them Alertmanager knows an alert.
fn labels(policy: &ObjectKey, subject: Occasion, backend: Option<&str>) -> Value {
    let mut labels = json!({
        "alertname": format!("MailRoute{}", subject.as_str()),
        "severity": subject.severity().as_str(),
        "namespace": policy.namespace,
        "policy": policy.name,
    });
    if let Some(backend) = backend {
        labels["backend"] = json!(backend);
    }
    labels
}

fn time(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::MAX).to_string()
}
