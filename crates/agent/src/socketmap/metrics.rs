//! Metrics of Postfix's requests, and of the bounds of the server.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mail_failover_runtime::telemetry::metrics::{register, registered};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::maps::Map;
use super::netstring::Malformed;
use super::reply::MapReply;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    map: &'static str,
    answer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ProblemLabel {
    problem: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BackendLabel {
    backend: String,
}

/// Metrics of the socketmap server.
#[derive(Clone, Debug)]
pub struct SocketmapMetrics {
    answers: Family<AnswerLabels, Counter>,
    durations: Histogram,
    pub(super) connections: Gauge,
    pub(super) turned_away: Counter,
    malformed: Family<ProblemLabel, Counter>,
    pub(super) cut: Counter,
    turns: Family<BackendLabel, Counter<f64, AtomicU64>>,
    held_back: Family<BackendLabel, Counter>,
}

impl SocketmapMetrics {
    /// Registers the metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let socketmap = registry.sub_registry_with_prefix("mail_failover_agent_socketmap");
        Self {
            answers: register(socketmap, "answers", "Answers to Postfix; map is unknown when there is no such map"),
            durations: registered(
                socketmap,
                "answer_duration_seconds",
                "From a complete request to its answer, without its way through the socket",
                Histogram::new(exponential_buckets(0.000_001, 4.0, 10)),
            ),
            connections: register(socketmap, "connections", "Connections that are open"),
            turned_away: register(
                socketmap,
                "connections_turned_away",
                "Connections that were closed at once because too many were open",
            ),
            malformed: register(
                socketmap,
                "connections_malformed",
                "Connections that were closed because what came was no request: length (none), too_long, end (no comma)",
            ),
            cut: register(
                socketmap,
                "connections_cut",
                "Connections that were closed because the other end was too slow to finish a request or to take an answer",
            ),
            turns: register(
                socketmap,
                "session_turn_wait_seconds",
                "Time for which sessions with a backend have waited for their turn, by its limit of messages a second",
            ),
            held_back: register(
                socketmap,
                "sessions_held_back",
                "Sessions with a backend that were not begun because its messages of the second or of the day are spent",
            ),
        }
    }

    pub(super) fn answered(&self, map: Option<Map>, reply: &MapReply, after: Duration) {
        let map = map.map_or("unknown", Map::as_str);
        self.answers.get_or_create(&AnswerLabels { map, answer: reply.as_str() }).inc();
        self.durations.observe(after.as_secs_f64());
    }

    /// Adds the time that a session waits for its turn.
    pub(super) fn paced(&self, backend: &str, wait: Duration) {
        self.turns.get_or_create(&BackendLabel { backend: backend.to_owned() }).inc_by(wait.as_secs_f64());
    }

    /// Counts a session that is not begun.
    pub(super) fn held_back(&self, backend: &str) {
        self.held_back.get_or_create(&BackendLabel { backend: backend.to_owned() }).inc();
    }

    pub(super) fn malformed(&self, malformed: Malformed) {
        self.malformed.get_or_create(&ProblemLabel { problem: malformed.as_str() }).inc();
    }
}
