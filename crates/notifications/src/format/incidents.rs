//! Receivers that know that something begins and ends: `PagerDuty` and Opsgenie.

use mail_failover_core::model::Severity;
use serde_json::{Map, Value, json};

use super::{ToldMessage, cut};
use crate::message::{MessageText, occasion};

/// An event of `PagerDuty`'s Events API v2. The key of what it begins or ends is `dedup_key`.
pub(super) fn pager_duty(routing_key: &str, told: &ToldMessage<'_>, text: &MessageText) -> Value {
    let message = told.message;
    if message.resolved {
        return json!({"routing_key": routing_key, "event_action": "resolve", "dedup_key": told.incident()});
    }
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": told.incident(),
        "client": "mail-failover-operator",
        "payload": {
            "summary": cut(&text.title, 1024),
            "source": told.policy.to_string(),
            "severity": text.severity.as_str(),
            "timestamp": message.at.0.to_string(),
            "component": message.from.as_deref().unwrap_or("mail"),
            "group": told.policy.namespace,
            "class": occasion(message).as_str(),
            "custom_details": details(text),
        },
    });
    if let Some(link) = &text.link {
        event["links"] = json!([{"href": link, "text": "Runbook"}]);
    }
    event
}

/// Path and body of a call of Opsgenie's Alert API. The key of what it begins or ends is the alert's alias.
pub(super) fn opsgenie(told: &ToldMessage<'_>, text: &MessageText) -> (String, Value) {
    let message = told.message;
    let alias = told.incident();
    if message.resolved {
        let body = json!({"source": "mail-failover-operator", "note": cut(&text.title, 25_000)});
        // The alias is one of ours: letters, digits and `-`.
        return (format!("/v2/alerts/{alias}/close?identifierType=alias"), body);
    }
    let priority = match text.severity {
        Severity::Critical => "P1",
        Severity::Warning => "P3",
        Severity::Info => "P5",
    };
    let body = json!({
        "message": cut(&text.title, 130),
        "alias": alias,
        "description": cut(&text.plain(), 15_000),
        "entity": cut(message.from.as_deref().unwrap_or("mail"), 512),
        "source": "mail-failover-operator",
        "tags": ["mail-failover", occasion(message).as_str()],
        "details": details(text),
        "priority": priority,
    });
    ("/v2/alerts".to_owned(), body)
}

fn details(text: &MessageText) -> Value {
    let facts = text.facts.iter().map(|(label, fact)| ((*label).to_owned(), json!(fact)));
    let advice = ("What to do".to_owned(), json!(text.advice));
    Value::Object(facts.chain([advice]).collect::<Map<_, _>>())
}
