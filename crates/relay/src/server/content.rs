//! Content of the message under way: kept as it comes, with our `Received` line, and sent to a backend.

use std::time::Instant;

use mail_failover_core::model::Stage;

use super::{Application, lost, own_failure};
use crate::buffer::{BufferError, MessageBuffer};
use crate::core::trace::Trace;
use crate::core::transaction::{OperationFailure, OperationResult};

/// Content that is being received or carried.
pub(super) struct Content {
    pub(super) buffer: MessageBuffer,
    pub(super) trace: u64,
    pub(super) error: Option<BufferError>,
}

impl Application {
    /// Sends the content without its end.
    pub(super) async fn carry(&mut self, deadline: Instant) -> Result<OperationResult, OperationFailure> {
        let pause = self.relay.settings.bounds.stage;
        let (Some(carrier), Some(content)) = (&mut self.backend, &self.content) else { return Ok(lost()) };
        let connection = &mut carrier.checked_out.connection;
        let mut at = 0;
        while at < content.buffer.len() {
            let part = content.buffer.part(at).await.map_err(|error| own_failure(Stage::Mail, &error.to_string()))?;
            if part.is_empty() {
                return Err(own_failure(Stage::Mail, "the content is shorter than it was"));
            }
            at += part.len() as u64;
            if let Some(reply) = connection.content(&part, pause, deadline, &carrier.way.rulebook).await? {
                return Ok(OperationResult::Reply(reply));
            }
        }
        if let Some(reply) = connection.flush(pause, deadline, &carrier.way.rulebook).await? {
            return Ok(OperationResult::Reply(reply));
        }
        let early = connection.early_reply(&carrier.way.rulebook).await?;
        Ok(early.map_or(OperationResult::Sent, OperationResult::Reply))
    }

    pub(super) async fn begin_content(&mut self) {
        let now = self.relay.clock.now();
        let date = jiff::Timestamp::from_microsecond(now.as_micros()).unwrap_or_default();
        let date = jiff::fmt::rfc2822::to_string(&date.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default();
        let (client_name, is_extended) = self.session.client_name().unwrap_or(("unknown", false));
        let trace = Trace {
            client_name,
            client: self.peer,
            hostname: &self.relay.settings.hostname,
            is_extended,
            is_encrypted: self.session.is_encrypted(),
            is_authenticated: self.session.user().is_some(),
            is_utf8: self.session.uses_utf8(),
            id: &self.message,
            date: &date,
        };
        let trace = trace.line();
        self.content = Some(Content { buffer: self.relay.buffers.message(), trace: trace.len() as u64, error: None });
        self.store(trace.as_bytes()).await;
    }

    pub(super) async fn store(&mut self, part: &[u8]) {
        let Some(content) = self.content.as_mut().filter(|content| content.error.is_none()) else { return };
        if let Err(error) = content.buffer.append(part).await {
            self.relay.server_metrics.unbuffered(error.as_str());
            tracing::warn!(id = self.message, %error, "a message is refused with 452");
            // Its room is free again while the rest of it comes.
            content.buffer = self.relay.buffers.message();
            content.error = Some(error);
        }
    }
}
