//! Calls that tell people: one request over HTTP, or one mail through a backend, and what came of it.
//!
//! Architecture invariants: this module never decides when to tell whom what; it holds no queue. Each call is made under
//! the leader's claim, has one deadline over all of it, and meets the guard on addresses after the name was resolved. No
//! text that leaves it holds a path, a header, a body or a part of an answer other than a mail server's reply.

mod client;
mod mail;
mod metrics;

use std::sync::Arc;

use mail_failover_core::model::{Destination, Login, ObjectKey, Tls};
use mail_failover_notifications::delivery::DeliveryOutcome;

use crate::webhook::WebhookRequest;

pub use client::NotificationClient;
pub use metrics::Metrics;

/// One call of one receiver.
#[derive(Clone, Debug)]
pub struct NotificationCall {
    /// Number that the [`NotificationResult`] repeats.
    pub number: u64,
    /// The policy.
    pub policy: ObjectKey,
    /// Name of the receiver.
    pub receiver: Arc<str>,
    /// Type of the receiver, as a spec names it.
    pub kind: &'static str,
    /// Id of the message, for logs.
    pub id: String,
    /// The content.
    pub content: CallContent,
}

/// Content of a call.
#[derive(Clone, Debug)]
pub enum CallContent {
    /// A request over HTTP.
    Request(WebhookRequest),
    /// A mail.
    Mail(Box<MailRequest>),
}

/// A mail and its way.
#[derive(Clone)]
pub struct MailRequest {
    /// Name of the backend.
    pub backend: Arc<str>,
    /// Address at which the backend takes mail.
    pub destination: Destination,
    /// Use of TLS with it.
    pub tls: Tls,
    /// Login, if it asks for one.
    pub login: Option<Login>,
    /// Address of the sender.
    pub from: Arc<str>,
    /// Addresses of the recipients.
    pub to: Vec<Arc<str>>,
    /// The mail (RFC 5322), without the final dot.
    pub mail: Vec<u8>,
}

impl std::fmt::Debug for MailRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MailRequest(hidden)")
    }
}

/// The end of a call.
#[derive(Debug)]
pub struct NotificationResult {
    /// Number of the [`NotificationCall`].
    pub number: u64,
    /// The policy.
    pub policy: ObjectKey,
    /// Name of the receiver.
    pub receiver: Arc<str>,
    /// Outcome of the call.
    pub outcome: DeliveryOutcome,
}
