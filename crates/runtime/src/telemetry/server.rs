//! HTTP server of `/livez`, `/readyz`, `/metrics` and further routes of the process.
//!
//! It serves one request per connection, so that one deadline bounds all a client can do: ask slowly, read slowly, or
//! hold a connection and do nothing. Probes of the kubelet open a connection each time anyway.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use axum::Router;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::{Heartbeat, Readiness};
use crate::http::Listener;

/// Number of connections that are served at a time.
const CONNECTIONS: usize = 64;

/// State that the server reports.
#[derive(Clone, Debug)]
pub struct TelemetryState {
    /// Pulse of the main loop.
    pub heartbeat: Heartbeat,
    /// Conditions that the start waits for.
    pub readiness: Readiness,
}

/// Server that listens already and serves nothing yet.
pub struct TelemetryServer(Listener);

impl fmt::Debug for TelemetryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.0.local_addr().ok()).finish()
    }
}

impl TelemetryServer {
    /// Listens on this address, and registers metrics of the connections.
    pub async fn bind(address: SocketAddr, registry: &mut Registry) -> io::Result<Self> {
        let listener = Listener::bind("telemetry", address, CONNECTIONS).await?;
        let connections = registry.sub_registry_with_prefix("mail_failover_http_connections");
        connections.register(
            "delayed",
            "Connections to the telemetry server that had to wait because too many were open",
            listener.delayed.clone(),
        );
        connections.register(
            "cut",
            "Connections to the telemetry server that were closed at their deadline",
            listener.cut.clone(),
        );
        Ok(Self(listener))
    }

    /// Returns the address that the server listens on, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves this state and the `further` routes until `shutdown`, then waits for the connections under way.
    pub async fn serve(self, registry: Registry, state: TelemetryState, further: Router, shutdown: CancellationToken) {
        self.0.serve(app(Arc::new(registry), state).merge(further), shutdown).await;
    }
}

fn app(registry: Arc<Registry>, state: TelemetryState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(state)
        .route("/metrics", get(move || async move { metrics(&registry) }))
}

async fn livez(extract::State(state): extract::State<TelemetryState>) -> Response {
    if state.heartbeat.is_alive() {
        return "ok\n".into_response();
    }
    let age = state.heartbeat.age().as_secs();
    (StatusCode::SERVICE_UNAVAILABLE, format!("the main loop has not come round for {age} s\n")).into_response()
}

async fn readyz(extract::State(state): extract::State<TelemetryState>) -> Response {
    let missing = state.readiness.missing();
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    let lines = missing.iter().fold(String::new(), |mut lines, (what, why)| {
        let _ = writeln!(lines, "{what}: {why}");
        lines
    });
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be encoded: {error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::http::CONNECTION_DEADLINE;

    struct Running {
        address: SocketAddr,
        state: TelemetryState,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start() -> Running {
        let mut registry = crate::telemetry::registry();
        let server = TelemetryServer::bind(([127, 0, 0, 1], 0).into(), &mut registry).await.expect("a free port");
        let address = server.local_addr().expect("an address");
        let state =
            TelemetryState { heartbeat: Heartbeat::new(Duration::from_mins(1)), readiness: Readiness::default() };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.serve(registry, state.clone(), Router::new(), shutdown.clone()));
        Running { address, state, shutdown, task }
    }

    async fn request(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the server closes the connection after its answer");
        answer
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
    }

    #[tokio::test]
    async fn metrics_are_in_the_openmetrics_format() {
        let server = start().await;
        let answer = request(server.address, "/metrics").await;
        assert!(
            answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
            "{answer}"
        );
        assert!(answer.ends_with("# EOF\n"), "{answer}");
        assert!(request(server.address, "/nothing").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_dead_loop_is_told_as_such() {
        let server = start().await;
        assert!(request(server.address, "/livez").await.starts_with("HTTP/1.1 200"));
        let dead = TelemetryState { heartbeat: Heartbeat::new(Duration::ZERO), ..server.state };
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(livez(extract::State(dead)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn silent_clients_are_cut_and_keep_nobody_out_for_longer() {
        let server = start().await;
        let mut silent = vec![];
        for _ in 0..CONNECTIONS {
            silent.push(TcpStream::connect(server.address).await.expect("it listens"));
        }
        let begun = std::time::Instant::now();
        let answer = request(server.address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(begun.elapsed() < CONNECTION_DEADLINE + Duration::from_secs(2), "it took {:?}", begun.elapsed());
        assert!(!answer.contains("mail_failover_http_connections_delayed_total 0"), "the bound bit:\n{answer}");
        assert!(!answer.contains("mail_failover_http_connections_cut_total 0"), "the deadline bit:\n{answer}");
    }

    #[tokio::test]
    async fn it_ends_when_told_to() {
        let server = start().await;
        server.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), server.task).await.expect("in time").expect("without a panic");
        TcpStream::connect(server.address).await.expect_err("nobody listens");
    }
}
