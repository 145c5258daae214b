//! Responder: it joins the view of one moment with the logins.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::maps::{Map, MapAnswer, MapSettings, SocketmapView, answer};
use super::metrics::SocketmapMetrics;
use super::reply::MapReply;
use crate::sessions::BegunSessions;
use crate::shield::ReplyLines;
use mail_failover_dataplane::credentials::{Credentials, in_a_password_map};

/// Answers requests from the latest view. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Responder {
    view: watch::Receiver<Arc<SocketmapView>>,
    fixed: Arc<MapSettings>,
    credentials: Credentials,
    metrics: SocketmapMetrics,
    sessions: BegunSessions,
}

impl Responder {
    /// Creates a responder that answers from the view at the time of the request.
    pub fn new(
        view: watch::Receiver<Arc<SocketmapView>>,
        fixed: MapSettings,
        credentials: Credentials,
        metrics: SocketmapMetrics,
        sessions: BegunSessions,
    ) -> Self {
        Self { view, fixed: Arc::new(fixed), credentials, metrics, sessions }
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
        if map == Some(Map::TlsPolicy) {
            self.note_session(&view, request, asked);
        }
        self.metrics.answered(map, &reply, asked.elapsed());
        reply
    }

    /// Notes that Postfix begins a session: it asks for the TLS policy before it connects (`smtp_connect.c`).
    fn note_session(&self, view: &SocketmapView, request: &[u8], now: Instant) {
        let key = std::str::from_utf8(request).ok().and_then(|request| request.split_once(' '));
        if let Some(name) = key.and_then(|(_, next_hop)| view.name_at(next_hop)) {
            self.sessions.begin(name, now);
        }
    }

    pub(super) fn metrics(&self) -> &SocketmapMetrics {
        &self.metrics
    }
}
