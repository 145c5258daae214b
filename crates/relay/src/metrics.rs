//! Metrics of the relay. Labels are closed sets, or names of the route's backends, of which there are at most 100.

use std::time::Duration;

use mail_failover_contract::routing::Routing;
use mail_failover_dataplane::core::CoreView;
use mail_failover_runtime::telemetry::metrics::register;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::core::session::Rejection;
use crate::core::transaction::{Evidence, Fate};

/// Prefix of the names of all metrics of the relay.
pub const PREFIX: &str = "mail_failover_relay";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBackend {
    backend: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    backend: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStage {
    backend: String,
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAnswer {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

/// Metrics of backends and of the connections to them. Clones share them.
#[derive(Clone, Debug)]
pub struct BackendMetrics {
    results: Family<OfResult, Counter>,
    replays: Family<OfBackend, Counter>,
    ambiguous: Family<OfBackend, Counter>,
    seconds: Family<OfStage, Histogram>,
    connects: Family<OfResult, Counter>,
    handshakes: Family<OfResult, Counter>,
    loops: Family<OfBackend, Counter>,
    stalls: Family<OfBackend, Counter>,
    reuses: Family<OfBackend, Counter>,
    closed: Family<OfBackend, Counter>,
    waits: Family<OfBackend, Counter>,
    yielded: Counter,
    paced: Family<OfBackend, Counter>,
    out_of_turn: Family<OfBackend, Counter>,
    full: Family<OfBackend, Counter>,
    open: Family<OfBackend, Gauge>,
    idle: Family<OfBackend, Gauge>,
    decided: Family<OfBackend, Gauge>,
    carried: Family<OfBackend, Gauge>,
    breaker_open: Family<OfBackend, Gauge>,
    lost_evidence: Counter,
}

impl BackendMetrics {
    /// Registers the metrics in this registry, which has the prefix of the program.
    pub fn new(registry: &mut Registry) -> Self {
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register(
            "backend_seconds",
            "Time that backends take, by stage: connect (with TLS and login), command, content, end (the final answer)",
            seconds.clone(),
        );
        Self {
            seconds,
            results: register(
                registry,
                "backend_messages",
                "Messages and recipients by backend and result: accepted, passed_on, deferred or refused",
            ),
            replays: register(
                registry,
                "replays",
                "Messages that were begun anew at this backend because another one failed before its final answer",
            ),
            ambiguous: register(
                registry,
                "ambiguous_messages",
                "Messages that the backend may have accepted without saying so",
            ),
            connects: register(
                registry,
                "backend_connects",
                "Connections to backends by result: connected, failed, or refused by the guard on addresses",
            ),
            handshakes: register(
                registry,
                "backend_tls_handshakes",
                "TLS handshakes with backends by result: full or resumed",
            ),
            loops: register(
                registry,
                "backend_loops",
                "Connections to a backend that led to a relay of this route, and were given up",
            ),
            stalls: register(
                registry,
                "backend_stalls",
                "Times that a backend's breaker was told of final answers that do not come, before their messages failed",
            ),
            reuses: register(registry, "backend_reuses", "Messages over a connection that was used before"),
            closed: register(registry, "backend_idle_closed", "Idle connections that the server had closed"),
            waits: register(registry, "backend_waits", "Messages that waited for a connection because all were in use"),
            full: register(registry, "backend_full", "Messages that got no connection in time because all were in use"),
            yielded: register(
                registry,
                "backend_yields",
                "Connections that a silent application's message gave to one that waited; it goes on over another one",
            ),
            paced: register(
                registry,
                "backend_paced",
                "Messages that waited for their turn because of a limit of messages a second",
            ),
            out_of_turn: register(
                registry,
                "backend_out_of_turn",
                "Messages that did not try the backend because their turn was too far away",
            ),
            open: register(registry, "backend_connections", "Connections to backends"),
            idle: register(registry, "backend_idle_connections", "Connections to backends without a message"),
            decided: register(
                registry,
                "backend_decided_percent",
                "Share of the mail that the operator has decided for a backend, in percent",
            ),
            carried: register(registry, "backend_carried_percent", "Share of the messages that try the backend first"),
            breaker_open: register(registry, "breaker_open", "1 while messages try the backend last"),
            lost_evidence: register(
                registry,
                "evidence_lost",
                "Results that no breaker has learnt of, because the queue was full",
            ),
        }
    }

    pub(crate) fn connected(&self, backend: &str, took: Duration, is_resumed: Option<bool>) {
        if let Some(is_resumed) = is_resumed {
            let result = if is_resumed { "resumed" } else { "full" };
            self.handshakes.get_or_create(&OfResult { backend: backend.to_owned(), result }).inc();
        }
        self.connects.get_or_create(&OfResult { backend: backend.to_owned(), result: "connected" }).inc();
        self.took(backend, "connect", took);
    }

    /// `is_refused` if it was the guard on addresses that let none be connected to.
    pub(crate) fn connect_failed(&self, backend: &str, is_refused: bool) {
        let result = if is_refused { "refused" } else { "failed" };
        self.connects.get_or_create(&OfResult { backend: backend.to_owned(), result }).inc();
    }

    pub(crate) fn led_back(&self, backend: &str) {
        self.loops.get_or_create(&of(backend)).inc();
    }

    pub(crate) fn stalled(&self, backend: &str) {
        self.stalls.get_or_create(&of(backend)).inc();
    }

    pub(crate) fn reused(&self, backend: &str) {
        self.reuses.get_or_create(&of(backend)).inc();
    }

    pub(crate) fn closed_by_server(&self, backend: &str) {
        self.closed.get_or_create(&of(backend)).inc();
    }

    pub(crate) fn waited(&self, backend: &str) {
        self.waits.get_or_create(&of(backend)).inc();
    }

    pub(crate) fn yielded(&self) {
        self.yielded.inc();
    }

    pub(crate) fn paced(&self, backend: &str) {
        self.paced.get_or_create(&of(backend)).inc();
    }

    pub(crate) fn out_of_turn(&self, backend: &str) {
        self.out_of_turn.get_or_create(&of(backend)).inc();
    }

    pub(crate) fn full(&self, backend: &str) {
        self.full.get_or_create(&of(backend)).inc();
    }

    pub(crate) fn connections(&self, backend: &str, open: usize, idle: usize) {
        self.open.get_or_create(&of(backend)).set(i64::try_from(open).unwrap_or(i64::MAX));
        self.idle.get_or_create(&of(backend)).set(i64::try_from(idle).unwrap_or(i64::MAX));
    }

    pub(crate) fn took(&self, backend: &str, stage: &'static str, took: Duration) {
        self.seconds.get_or_create(&OfStage { backend: backend.to_owned(), stage }).observe(took.as_secs_f64());
    }

    pub(crate) fn replayed(&self, backend: &str) {
        self.replays.get_or_create(&of(backend)).inc();
    }

    pub(crate) fn evidence(&self, backend: &str, evidence: &Evidence) {
        let result = match evidence.fate {
            Fate::Accepted => "accepted",
            Fate::PassedOn => "passed_on",
            Fate::Deferred => "deferred",
            Fate::Refused => "refused",
        };
        self.results.get_or_create(&OfResult { backend: backend.to_owned(), result }).inc();
        if evidence.is_ambiguous {
            self.ambiguous.get_or_create(&of(backend)).inc();
        }
    }

    pub(crate) fn lost(&self) {
        self.lost_evidence.inc();
    }

    /// Shows the state of the backends, and none of those that are gone.
    pub(crate) fn view(&self, view: &CoreView, routing: &Routing) {
        self.decided.clear();
        self.carried.clear();
        self.breaker_open.clear();
        for backend in view.backends.iter().filter(|_| !routing.is_withdrawn) {
            let label = of(&backend.name);
            self.decided.get_or_create(&label).set(backend.decided.into());
            self.carried.get_or_create(&label).set(backend.carries.into());
            self.breaker_open.get_or_create(&label).set(backend.breaker.is_some().into());
        }
    }
}

fn of(backend: &str) -> OfBackend {
    OfBackend { backend: backend.to_owned() }
}

/// A histogram from 1 ms to 33 s.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// Metrics of the side of the applications. Clones share them.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    /// Connections of applications.
    pub connections: Gauge,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were closed for a new one.
    pub gave_way: Counter,
    /// Connections that got no place.
    pub turned_away: Counter,
    /// Connections that were closed because the application was silent or slow.
    pub timed_out: Counter,
    /// Files of users that nobody can log in with.
    pub unusable_users: Gauge,
    /// Octets of messages in memory.
    pub buffered_memory: Gauge,
    /// Octets of messages in files.
    pub buffered_disk: Gauge,
    answers: Family<OfAnswer, Counter>,
    aborted: Counter,
    rejections: Family<OfReason, Counter>,
    unbuffered: Family<OfReason, Counter>,
    seconds: Histogram,
}

impl ServerMetrics {
    /// Registers the metrics in this registry, which has the prefix of the program.
    pub fn new(registry: &mut Registry) -> Self {
        let seconds = histogram();
        registry.register("transaction_seconds", "From MAIL to the final answer", seconds.clone());
        Self {
            seconds,
            connections: register(registry, "connections", "Connections of applications"),
            accepted: register(registry, "connections_accepted", "Connections of applications that got a place"),
            gave_way: register(registry, "connections_gave_way", "Idle connections that were closed for a new one"),
            turned_away: register(registry, "connections_turned_away", "Connections without a place for them"),
            timed_out: register(registry, "connections_timed_out", "Connections of applications that were silent"),
            unusable_users: register(
                registry,
                "unusable_users",
                "Files of --users-directory that hold no password; these users cannot log in",
            ),
            buffered_memory: register(registry, "buffered_memory_bytes", "Messages under way in memory"),
            buffered_disk: register(registry, "buffered_disk_bytes", "Messages under way in files"),
            answers: register(registry, "transactions", "Transactions by the code of the last answer"),
            aborted: register(registry, "transactions_aborted", "Transactions that applications gave up"),
            rejections: register(registry, "rejections", "What was refused before any backend, by reason"),
            unbuffered: register(
                registry,
                "unbuffered_messages",
                "Messages that got a 452 because a bound on memory or files was reached, by the bound",
            ),
        }
    }

    pub(crate) fn ended(&self, code: Option<u16>, took: Duration) {
        match code {
            Some(code) => {
                self.answers.get_or_create(&OfAnswer { code }).inc();
                self.seconds.observe(took.as_secs_f64());
            }
            None => drop(self.aborted.inc()),
        }
    }

    pub(crate) fn rejected(&self, rejection: Rejection) {
        self.rejections.get_or_create(&OfReason { reason: rejection.as_str() }).inc();
    }

    pub(crate) fn unbuffered(&self, bound: &'static str) {
        self.unbuffered.get_or_create(&OfReason { reason: bound }).inc();
    }
}
