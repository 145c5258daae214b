//! Alerts of Alertmanager's API v2.

use std::collections::BTreeSet;
use std::time::Duration;

use mail_failover_core::model::{ObjectKey, Occasion, Receiver, Timestamp};
use serde_json::{Value, json};

use super::ToldMessage;
use crate::group::{self, MAX_ROUTES, MAX_TO};
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
    /// The first of the routes that it is about, as `namespace/name`.
    routes: Vec<String>,
    /// Reasons for people, of these routes.
    reasons: Vec<String>,
    /// Number of all routes that it is about.
    route_count: usize,
    /// The backends that mail goes to since.
    to: BTreeSet<String>,
}

impl OngoingAlert {
    /// An alert of no route yet.
    pub fn new(about: Occasion, backend: Option<String>, since: Timestamp) -> Self {
        Self { about, backend, since, routes: vec![], reasons: vec![], route_count: 0, to: BTreeSet::new() }
    }

    /// Adds a route: since when it lasts there, the reason, and the backends that its mail goes to since.
    pub fn add(&mut self, route: &ObjectKey, since: Timestamp, why: String, to: impl IntoIterator<Item = String>) {
        self.since = self.since.min(since);
        self.route_count += 1;
        self.to.extend(to);
        if self.routes.len() < MAX_ROUTES {
            self.routes.push(route.to_string());
            self.reasons.push(why);
        }
    }

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
            // Of the others no message says that mail has left a backend.
            from: one.backend.clone().filter(|_| one.about == Occasion::Failover),
            to: one.to.iter().take(MAX_TO).cloned().collect(),
            why: group::joined(one.reasons.iter().map(String::as_str)),
            waited_seconds: None,
            routes: one.routes.clone(),
            route_count: i32::try_from(one.route_count).ok(),
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
