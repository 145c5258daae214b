//! The format of each receiver: the request or the mail that tells a message.
//!
//! Texts of others (names, replies of servers) stand where the receiver takes them as they are, or escaped as its
//! documentation says, and within its bounds.

mod alertmanager;
mod chats;
mod incidents;
mod mail;
mod webhook;

use std::fmt;

use mail_failover_api::QueuedNotification;
use mail_failover_core::model::{ObjectKey, Receiver, ReceiverKind, Timestamp};
use mail_failover_webhook::secret::WebhookSecret;
use serde_json::Value;

pub use alertmanager::{OngoingAlert, ongoing_alerts};
pub use mail::mail;

use super::message::MessageText;
use super::secret::{NotificationSecret, NotificationSecretError};

/// Content type of all bodies but that of a webhook.
const JSON: &str = "application/json";

/// A request that tells a message. Debug shows nothing of it.
#[derive(Clone)]
pub struct NotificationRequest {
    /// Place of the receiver, which may be a secret.
    pub url: String,
    /// Content type of the body.
    pub content_type: &'static str,
    /// Further headers, which may hold credentials.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The keys that sign; `None` if the receiver asks for no signature.
    pub signer: Option<WebhookSecret>,
}

impl fmt::Debug for NotificationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotificationRequest(hidden)")
    }
}

impl NotificationRequest {
    fn json(url: String, body: &Value) -> Self {
        Self { url, content_type: JSON, headers: vec![], body: body.to_string().into_bytes(), signer: None }
    }
}

/// A message with everything that its formats need.
#[derive(Clone, Copy, Debug)]
pub struct ToldMessage<'a> {
    /// The message.
    pub message: &'a QueuedNotification,
    /// The policy whose receivers are told.
    pub policy: &'a ObjectKey,
    /// Address of the user's page on what to do.
    pub runbook_url: Option<&'a str>,
    /// Time of the attempt.
    pub now: Timestamp,
}

impl ToldMessage<'_> {
    /// The text for people.
    pub fn text(&self) -> MessageText {
        MessageText::of(self.message, self.policy, self.runbook_url)
    }

    /// Id of what the message begins or ends; that of the message if it does neither.
    fn incident(&self) -> &str {
        self.message.incident.as_deref().unwrap_or(&self.message.id)
    }
}

/// The request that tells a receiver a message; `None` for mail, which is none.
///
/// # Errors
/// The Secret does not have what the receiver needs.
pub fn request(
    receiver: &Receiver,
    secret: Option<&NotificationSecret>,
    told: &ToldMessage<'_>,
) -> Result<Option<NotificationRequest>, NotificationSecretError> {
    let Receiver { kind, .. } = receiver;
    if let Some(secret) = secret {
        secret.check(kind)?;
    }
    let text = told.text();
    Ok(Some(match kind {
        ReceiverKind::Webhook { url } => NotificationRequest {
            url: url.to_string(),
            content_type: webhook::CONTENT_TYPE,
            headers: vec![],
            body: webhook::cloud_event(told, &text).to_string().into_bytes(),
            signer: secret.and_then(NotificationSecret::signer).cloned(),
        },
        ReceiverKind::Slack => NotificationRequest::json(chat_url(secret)?, &chats::slack(&text)),
        ReceiverKind::Teams => NotificationRequest::json(chat_url(secret)?, &chats::teams(&text)),
        ReceiverKind::Discord => NotificationRequest::json(chat_url(secret)?, &chats::discord(&text)),
        ReceiverKind::GoogleChat => NotificationRequest::json(chat_url(secret)?, &chats::google_chat(told, &text)),
        ReceiverKind::Telegram { url, chat } => {
            let token = secret.and_then(NotificationSecret::bot_token);
            let token = token.ok_or(NotificationSecretError::Missing("bot-token"))?;
            NotificationRequest::json(format!("{url}/bot{token}/sendMessage"), &chats::telegram(chat, &text))
        }
        ReceiverKind::PagerDuty { url } => {
            let key = secret.and_then(NotificationSecret::routing_key);
            let key = key.ok_or(NotificationSecretError::Missing("routing-key"))?;
            NotificationRequest::json(format!("{url}/v2/enqueue"), &incidents::pager_duty(key, told, &text))
        }
        ReceiverKind::Opsgenie { url } => {
            let key = secret.and_then(NotificationSecret::api_key);
            let key = key.ok_or(NotificationSecretError::Missing("api-key"))?;
            let (path, body) = incidents::opsgenie(told, &text);
            let mut request = NotificationRequest::json(format!("{url}{path}"), &body);
            request.headers.push(("Authorization", format!("GenieKey {key}")));
            request
        }
        ReceiverKind::Alertmanager { url } => alertmanager_request(url, secret, &alertmanager::alerts(told, &text)),
        ReceiverKind::Mail { .. } => return Ok(None),
    }))
}

/// The request that tells an Alertmanager again what lasts.
pub fn ongoing_request(url: &str, secret: Option<&NotificationSecret>, alerts: &Value) -> NotificationRequest {
    alertmanager_request(url, secret, alerts)
}

fn alertmanager_request(url: &str, secret: Option<&NotificationSecret>, alerts: &Value) -> NotificationRequest {
    let mut request = NotificationRequest::json(format!("{url}/api/v2/alerts"), alerts);
    if let Some(token) = secret.and_then(NotificationSecret::token) {
        request.headers.push(("Authorization", format!("Bearer {token}")));
    }
    request
}

fn chat_url(secret: Option<&NotificationSecret>) -> Result<String, NotificationSecretError> {
    let url = secret.and_then(NotificationSecret::url).ok_or(NotificationSecretError::Missing("url"))?;
    Ok(url.to_owned())
}

/// At most so many characters, with an ellipsis at the end of what is cut.
fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(max.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests;
