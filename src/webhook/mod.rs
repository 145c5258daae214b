//! Calls of webhooks: one request over HTTPS to a receiver outside, and what came of it.
//!
//! Architecture invariants: this module never decides when to call, or what; it holds no queue. Each call is made under
//! the leader's claim, has one deadline over all of it, meets the guard on addresses after the name was resolved, and
//! follows no redirect. No text that leaves it holds a path, a header, a body or a part of an answer.

mod client;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::model::{ObjectKey, TrustAnchors, WebhookMethod};
use mail_failover_webhook::event::EventId;
use mail_failover_webhook::secret::WebhookSecret;

pub use client::{WebhookClient, WebhookError};
pub use metrics::Metrics;

/// One call of one webhook.
#[derive(Clone, Debug)]
pub struct WebhookCall {
    /// Number that the [`WebhookResult`] repeats.
    pub number: u64,
    /// The route.
    pub route: ObjectKey,
    /// Name of the output.
    pub output: Arc<str>,
    /// Id of the event.
    pub id: EventId,
    /// The request.
    pub request: WebhookRequest,
}

/// A request, but for what each attempt has of its own: the time and the signatures.
#[derive(Clone)]
pub struct WebhookRequest {
    /// Place of the receiver: `https://`, or `http://` for one that is told no secret.
    pub url: Arc<str>,
    /// Method of the request.
    pub method: WebhookMethod,
    /// Content type of the body.
    pub content_type: Arc<str>,
    /// Further headers, which may hold credentials.
    pub headers: Vec<(Arc<str>, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The keys that sign; `None` for a receiver that knows no such signatures.
    pub signer: Option<WebhookSecret>,
    /// Authorities that may have signed the receiver's certificate.
    pub trust: TrustAnchors,
    /// Time limit of the whole call.
    pub timeout: Duration,
}

impl std::fmt::Debug for WebhookRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookRequest(hidden)")
    }
}

/// The end of a call.
#[derive(Debug)]
pub struct WebhookResult {
    /// Number of the [`WebhookCall`].
    pub number: u64,
    /// The route.
    pub route: ObjectKey,
    /// Name of the output.
    pub output: Arc<str>,
    /// Outcome of the call.
    pub outcome: Result<(), WebhookError>,
}
