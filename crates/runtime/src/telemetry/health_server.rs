//! HTTP server of `/livez` and `/readyz`, for the kubelet.
//!
//! It has a listener, places and deadlines of its own: what others do to the other ports must not look like a process
//! that stands still. An answer is a line, so that no slow reader holds a place for longer than its deadline.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use std::{fmt, io};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{Heartbeat, Readiness};
use crate::http::{ConnectionBounds, Listener};

/// Bounds of the connections. The kubelet is a neighbour and asks at once.
const BOUNDS: ConnectionBounds =
    ConnectionBounds { connections: 64, head: Duration::from_secs(1), whole: Duration::from_secs(2) };

/// State that the server reports.
#[derive(Clone, Debug)]
pub struct HealthState {
    /// Pulse of the main loop.
    pub heartbeat: Heartbeat,
    /// Conditions that the start waits for.
    pub readiness: Readiness,
}

/// Server that listens already and serves nothing yet.
pub struct HealthServer(Listener);

impl fmt::Debug for HealthServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HealthServer").field(&self.0.local_addr().ok()).finish()
    }
}

impl HealthServer {
    /// Listens on this address, and registers metrics of the connections.
    pub async fn bind(address: SocketAddr, registry: &mut Registry) -> io::Result<Self> {
        let registry = registry.sub_registry_with_prefix("mail_failover_health_connections");
        Ok(Self(Listener::bind("health", address, BOUNDS, registry).await?))
    }

    /// Returns the address that the server listens on, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves this state until `shutdown`, then waits for the connections under way.
    pub async fn serve(self, state: HealthState, shutdown: CancellationToken) {
        let app = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(state);
        self.0.serve(app, shutdown).await;
    }
}

async fn livez(State(state): State<HealthState>) -> Response {
    if state.heartbeat.is_alive() {
        return "ok\n".into_response();
    }
    let age = state.heartbeat.age().as_secs();
    (StatusCode::SERVICE_UNAVAILABLE, format!("the main loop has not come round for {age} s\n")).into_response()
}

async fn readyz(State(state): State<HealthState>) -> Response {
    let missing = state.readiness.missing();
    if missing.is_empty() {
        let remarks = state.readiness.remarks();
        let lines = remarks.iter().fold("ok\n".to_owned(), |mut lines, (what, why)| {
            let _ = writeln!(lines, "{what}: {why}");
            lines
        });
        return lines.into_response();
    }
    let lines = missing.iter().fold(String::new(), |mut lines, (what, why)| {
        let _ = writeln!(lines, "{what}: {why}");
        lines
    });
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::telemetry::testing::{occupy, request};

    struct Running {
        address: SocketAddr,
        state: HealthState,
        registry: Registry,
    }

    async fn start() -> Running {
        let mut registry = Registry::default();
        let server = HealthServer::bind(([127, 0, 0, 1], 0).into(), &mut registry).await.expect("a free port");
        let address = server.local_addr().expect("an address");
        let state = HealthState { heartbeat: Heartbeat::new(Duration::from_mins(1)), readiness: Readiness::default() };
        tokio::spawn(server.serve(state.clone(), CancellationToken::new()));
        Running { address, state, registry }
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing_one_per_line() {
        let server = start().await;
        server.state.readiness.expect("Service");
        server.state.readiness.expect("MailRoute");
        server.state.readiness.hindered("MailRoute", "the server could not find the requested resource (404 NotFound)");
        let answer = request(server.address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let body = "MailRoute: the server could not find the requested resource (404 NotFound)\nService: waiting for the first answer\n";
        assert!(answer.ends_with(body), "{answer}");
        server.state.readiness.met("Service");
        server.state.readiness.met("MailRoute");
        assert!(request(server.address, "/readyz").await.starts_with("HTTP/1.1 200"));
        server.state.readiness.remark("metrics", Some("cannot listen on 127.0.0.1:8026".to_owned()));
        let answer = request(server.address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("ok\nmetrics: cannot listen on 127.0.0.1:8026\n"), "{answer}");
        server.state.readiness.remark("metrics", None);
        assert!(request(server.address, "/readyz").await.ends_with("\r\n\r\nok\n"));
        assert!(request(server.address, "/metrics").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_dead_loop_is_told_as_such() {
        let server = start().await;
        assert!(request(server.address, "/livez").await.starts_with("HTTP/1.1 200"));
        let dead = HealthState { heartbeat: Heartbeat::new(Duration::ZERO), ..server.state };
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(livez(State(dead)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    /// The bound is ten times what an idle machine needs; the kubelet gives up after a second at the earliest.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_thousand_idle_clients_do_not_delay_the_kubelet() {
        const ASKED: usize = 100;
        let server = start().await;
        let _silent = occupy(server.address, 1000).await;
        let mut took = vec![];
        for _ in 0..ASKED {
            // Those that were cut come again.
            let _more = occupy(server.address, 10).await;
            let begun = Instant::now();
            let answer = request(server.address, "/livez").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            took.push(begun.elapsed());
        }
        took.sort();
        let (median, slowest) = (took[ASKED / 2], took[ASKED - 1]);
        assert!(
            slowest < Duration::from_millis(500),
            "the slowest of {ASKED} answers took {slowest:?}, half {median:?}"
        );
        let mut metrics = String::new();
        prometheus_client::encoding::text::encode(&mut metrics, &server.registry).expect("encodable");
        assert!(!metrics.contains("mail_failover_health_connections_gave_way_total 0\n"), "{metrics}");
    }
}
