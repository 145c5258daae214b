//! A `CloudEvent` 1.0 in structured mode.

use serde_json::{Value, json};

use super::ToldMessage;
use crate::message::{MessageText, occasion};

/// Media type of a `CloudEvent` in structured mode.
pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

pub(super) fn cloud_event(told: &ToldMessage<'_>, text: &MessageText) -> Value {
    let (message, policy) = (told.message, told.policy);
    let (namespace, name) = (&policy.namespace, &policy.name);
    json!({
        "specversion": "1.0",
        "id": message.id,
        "source": format!("/apis/mailfailover.io/v1alpha1/namespaces/{namespace}/failoverpolicies/{name}"),
        "type": format!("io.mailfailover.notification.{}", occasion(message).as_str().to_lowercase()),
        "time": message.at.0.to_string(),
        "datacontenttype": "application/json",
        "data": {
            "occasion": message.occasion,
            "severity": text.severity.as_str(),
            "incident": message.incident,
            "about": message.about,
            "resolved": message.resolved,
            "title": text.title,
            "text": text.plain(),
            "from": message.from,
            "to": message.to,
            "why": message.why,
            "since": message.since.as_ref().map(|since| since.0.to_string()),
            "waitedSeconds": message.waited_seconds,
            "routes": message.routes,
            "routeCount": message.route_count,
            "advice": text.advice,
            "runbook": text.link,
        },
    })
}
