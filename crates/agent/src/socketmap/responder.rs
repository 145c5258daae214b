//! Responder: it joins the view of one moment with the logins.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::maps::{Map, MapAnswer, MapSettings, SocketmapView, answer};
use super::metrics::SocketmapMetrics;
use super::reply::MapReply;
use crate::sessions::BegunSessions;
use crate::shield::ReplyLines;
use mail_failover_dataplane::answers::BackendUse;
use mail_failover_dataplane::credentials::{Credentials, in_a_password_map};
use mail_failover_dataplane::pacing::{LONGEST_WAIT, LONGEST_WAIT_OF_SPILL_OVER, Paces};

/// Answers requests from the latest view. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Responder {
    view: watch::Receiver<Arc<SocketmapView>>,
    fixed: Arc<MapSettings>,
    credentials: Credentials,
    metrics: SocketmapMetrics,
    sessions: BegunSessions,
    paces: Paces,
}

impl Responder {
    /// Creates a responder that answers from the view at the time of the request.
    pub fn new(
        view: watch::Receiver<Arc<SocketmapView>>,
        fixed: MapSettings,
        credentials: Credentials,
        metrics: SocketmapMetrics,
        sessions: BegunSessions,
        paces: Paces,
    ) -> Self {
        Self { view, fixed: Arc::new(fixed), credentials, metrics, sessions, paces }
    }

    /// The answer to a request, which came by the connection of these lines.
    pub async fn respond(&self, lines: &mut ReplyLines, request: &[u8]) -> MapReply {
        let asked = Instant::now();
        let view = self.view.borrow().clone();
        let (map, answer) = answer(&view, &self.fixed, &self.paces.spent(asked), lines, request);
        let reply = match answer {
            MapAnswer::Reply(reply) => reply,
            MapAnswer::Login(secret) => match self.credentials.login(&secret).await {
                Ok(login) => MapReply::Found(in_a_password_map(&login)),
                Err(missing) => MapReply::Temporary(format!("mail-failover agent: {missing}")),
            },
        };
        // Without a session's wait for its turn.
        self.metrics.answered(map, &reply, asked.elapsed());
        if matches!((map, &reply), (Some(Map::Transport | Map::SenderTransport), MapReply::Found(_))) {
            self.sessions.told_way();
        }
        if map == Some(Map::TlsPolicy) { self.begin_session(&view, request, reply).await } else { reply }
    }

    /// Waits for the turn of a session and notes that Postfix begins it: it asks for the TLS policy before it connects
    /// (`smtp_connect.c`). Returns the answer to that question.
    // ADR-0126: The pace of a backend is kept where a session begins.
    async fn begin_session(&self, view: &SocketmapView, request: &[u8], reply: MapReply) -> MapReply {
        let key = std::str::from_utf8(request).ok().and_then(|request| request.split_once(' '));
        let Some(backend) = key.and_then(|(_, next_hop)| view.backend_at(next_hop)) else { return reply };
        let name = &backend.name;
        let used = view.answers.as_ref().map_or(BackendUse::First, |answers| answers.use_of(name));
        let longest = match used {
            BackendUse::First => LONGEST_WAIT,
            BackendUse::SpillOver => LONGEST_WAIT_OF_SPILL_OVER,
            BackendUse::Spent => {
                self.metrics.held_back(name);
                return MapReply::Temporary(format!("mail-failover agent: {name} has its messages of this day"));
            }
        };
        if let Some(interval) = backend.interval {
            let Some(wait) = self.paces.take(name, interval, longest, Instant::now()) else {
                self.metrics.held_back(name);
                return MapReply::Temporary(format!("mail-failover agent: {name} takes no more messages a second"));
            };
            self.metrics.paced(name, wait);
            if !wait.is_zero() && !self.paces.wait(wait).await {
                return MapReply::Temporary("mail-failover agent: it ends".to_owned());
            }
        }
        self.sessions.begin(name, Instant::now());
        if let Some(answers) = &view.answers {
            answers.session_begins(name);
        }
        reply
    }

    pub(super) fn metrics(&self) -> &SocketmapMetrics {
        &self.metrics
    }
}
