//! Metrics of Postfix's requests, and of the bounds of the server.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::maps::Map;
use super::netstring::Malformed;
use super::reply::Reply;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    map: &'static str,
    answer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Problem {
    problem: &'static str,
}

/// Metrics of the socketmap server.
#[derive(Clone, Debug)]
pub struct Metrics {
    answers: Family<Answered, Counter>,
    durations: Histogram,
    pub(super) connections: Gauge,
    pub(super) turned_away: Counter,
    malformed: Family<Problem, Counter>,
    pub(super) cut: Counter,
}

impl Metrics {
    /// Registers the metrics in this registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            answers: Family::default(),
            durations: Histogram::new(exponential_buckets(0.000_001, 4.0, 10)),
            connections: Gauge::default(),
            turned_away: Counter::default(),
            malformed: Family::default(),
            cut: Counter::default(),
        };
        registry.register(
            "mail_failover_agent_socketmap_answers",
            "Answers to Postfix; map is unknown when there is no such map",
            metrics.answers.clone(),
        );
        registry.register(
            "mail_failover_agent_socketmap_answer_duration_seconds",
            "From a complete request to its answer, without its way through the socket",
            metrics.durations.clone(),
        );
        registry.register(
            "mail_failover_agent_socketmap_connections",
            "Connections that are open",
            metrics.connections.clone(),
        );
        registry.register(
            "mail_failover_agent_socketmap_connections_turned_away",
            "Connections that were closed at once because too many were open",
            metrics.turned_away.clone(),
        );
        registry.register(
            "mail_failover_agent_socketmap_connections_malformed",
            "Connections that were closed because what came was no request: length (none), too_long, end (no comma)",
            metrics.malformed.clone(),
        );
        registry.register(
            "mail_failover_agent_socketmap_connections_cut",
            "Connections that were closed because the other end was too slow to finish a request or to take an answer",
            metrics.cut.clone(),
        );
        metrics
    }

    pub(super) fn answered(&self, map: Option<Map>, reply: &Reply, after: Duration) {
        let map = map.map_or("unknown", Map::as_str);
        self.answers.get_or_create(&Answered { map, answer: reply.as_str() }).inc();
        self.durations.observe(after.as_secs_f64());
    }

    pub(super) fn malformed(&self, malformed: Malformed) {
        self.malformed.get_or_create(&Problem { problem: malformed.as_str() }).inc();
    }
}
