//! The client of notifications: webhooks' client for HTTP, and SMTP for mail.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::mail::{MailError, Mailer};
use super::metrics::Metrics;
use super::{CallContent, NotificationCall, NotificationResult};
use crate::leader::Leadership;
use crate::probe::StartError;
use crate::webhook::{WebhookClient, WebhookError};
use mail_failover_notifications::delivery::{DeliveryOutcome, FailedDelivery};
use mail_failover_runtime::dial_guard::DialGuard;

/// Statuses that say that a receiver does not take this message as it is.
const REFUSALS: [u16; 4] = [400, 413, 415, 422];

/// Makes calls under the leader's claim. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NotificationClient {
    webhooks: WebhookClient,
    mailer: Arc<Mailer>,
    metrics: Metrics,
}

impl NotificationClient {
    /// A client that makes HTTP requests by that of webhooks, and asks these DNS servers for backends.
    ///
    /// # Errors
    /// DNS is not configured.
    pub fn new(
        webhooks: WebhookClient,
        dns_servers: &[SocketAddr],
        ehlo_name: Option<String>,
        guard: DialGuard,
        leadership: Leadership,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let mailer = Mailer::new(dns_servers, ehlo_name, guard, leadership)?;
        Ok(Self { webhooks, mailer: Arc::new(mailer), metrics })
    }

    /// Makes a call. Counts and logs its result.
    pub async fn carry_out(&self, call: NotificationCall) -> NotificationResult {
        let NotificationCall { number, policy, receiver, kind, id, content } = call;
        let began = Instant::now();
        let (result, outcome) = match &content {
            CallContent::Request(request) => match self.webhooks.send(&id, request).await {
                Ok(()) => ("accepted", DeliveryOutcome::Accepted),
                Err(error) => (error.category(), DeliveryOutcome::Failed(of_webhook(&error))),
            },
            // Boxed: large, and there may be many.
            CallContent::Mail(request) => match Box::pin(self.mailer.send(request)).await {
                Ok(()) => ("accepted", DeliveryOutcome::Accepted),
                Err(error) => (error.category(), DeliveryOutcome::Failed(of_mail(&error))),
            },
        };
        let took = began.elapsed();
        self.metrics.called(kind, result, took);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            DeliveryOutcome::Accepted => {
                tracing::info!(%policy, receiver = &*receiver, kind, id, millis, "a notification was accepted");
            }
            DeliveryOutcome::Failed(failed) => {
                let error = &failed.message;
                tracing::warn!(%policy, receiver = &*receiver, kind, id, millis, category = result, error, "a notification failed");
            }
        }
        NotificationResult { number, policy, receiver, outcome }
    }
}

fn of_webhook(error: &WebhookError) -> FailedDelivery {
    let is_refusal = matches!(error, WebhookError::Status { status, .. } if REFUSALS.contains(status));
    // An answer by status says that it was not taken over.
    let is_doubtful = matches!(error, WebhookError::Timeout(_) | WebhookError::Http(_) | WebhookError::Ended);
    FailedDelivery { message: error.to_string(), retry_after: error.retry_after(), is_refusal, is_doubtful }
}

fn of_mail(error: &MailError) -> FailedDelivery {
    FailedDelivery {
        message: error.to_string(),
        retry_after: None,
        is_refusal: error.is_refusal(),
        is_doubtful: error.is_doubtful(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_lost_answer_leaves_doubt_and_only_a_refusal_of_the_message_is_one() {
        for (error, is_refusal, is_doubtful) in [
            (WebhookError::Status { status: 400, retry_after: None }, true, false),
            (WebhookError::Status { status: 401, retry_after: None }, false, false),
            (WebhookError::Status { status: 429, retry_after: Some(Duration::from_secs(3)) }, false, false),
            (WebhookError::Timeout(Duration::from_secs(10)), false, true),
            (WebhookError::Ended, false, true),
            (WebhookError::NoHost, false, false),
        ] {
            let failed = of_webhook(&error);
            assert_eq!((failed.is_refusal, failed.is_doubtful), (is_refusal, is_doubtful), "{error}");
            assert_eq!(failed.retry_after, error.retry_after());
        }
    }
}
