//! Responder: it joins the view of one moment with the logins.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::maps::{MapAnswer, MapSettings, SocketmapView, answer};
use super::metrics::SocketmapMetrics;
use super::reply::MapReply;
use crate::credentials::{Credentials, in_a_password_map};
use crate::shield::ReplyLines;

/// Answers requests from the latest view. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Responder {
    view: watch::Receiver<Arc<SocketmapView>>,
    fixed: Arc<MapSettings>,
    credentials: Credentials,
    metrics: SocketmapMetrics,
}

impl Responder {
    /// Creates a responder that answers from the view at the time of the request.
    pub fn new(
        view: watch::Receiver<Arc<SocketmapView>>,
        fixed: MapSettings,
        credentials: Credentials,
        metrics: SocketmapMetrics,
    ) -> Self {
        Self { view, fixed: Arc::new(fixed), credentials, metrics }
    }

    /// The answer to a request, which came by the connection of these lines.
    pub async fn respond(&self, lines: &mut ReplyLines, request: &[u8]) -> MapReply {
        let asked = Instant::now();
        let view = self.view.borrow().clone();
        let (map, answer) = answer(&view, &self.fixed, lines, request);
        let reply = match answer {
            MapAnswer::Reply(reply) => reply,
            MapAnswer::Login(secret) => match self.credentials.login(&secret).await {
                Ok(login) => MapReply::Found(in_a_password_map(&login)),
                Err(missing) => MapReply::Temporary(format!("mail-failover agent: {missing}")),
            },
        };
        self.metrics.answered(map, &reply, asked.elapsed());
        reply
    }

    pub(super) fn metrics(&self) -> &SocketmapMetrics {
        &self.metrics
    }
}
