//! HTTP server of `/metrics` and further routes of the process.
//!
//! Liveness and readiness have a listener of their own (`health_server`), so that whoever occupies this one cannot have
//! the kubelet end the process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use super::exposition::{ExpositionFormat, classic};
use crate::http::{ConnectionBounds, Listener};

/// Bounds of the connections.
const BOUNDS: ConnectionBounds =
    ConnectionBounds { connections: 64, head: Duration::from_secs(5), whole: Duration::from_secs(10) };

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
        let registry = registry.sub_registry_with_prefix("mail_failover_http_connections");
        Ok(Self(Listener::bind("telemetry", address, BOUNDS, registry).await?))
    }

    /// Returns the address that the server listens on, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves these metrics and the `further` routes until `shutdown`, then waits for the connections under way.
    pub async fn serve(self, registry: Registry, further: Router, shutdown: CancellationToken) {
        let registry = Arc::new(registry);
        let app =
            Router::new().route("/metrics", get(move |headers: HeaderMap| async move { metrics(&registry, &headers) }));
        self.0.serve(app.merge(further), shutdown).await;
    }
}

fn metrics(registry: &Registry, headers: &HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = ExpositionFormat::of_accept(accept);
    let mut text = String::new();
    if let Err(error) = encode(&mut text, registry) {
        let message = format!("metrics cannot be encoded: {error}\n");
        return (StatusCode::INTERNAL_SERVER_ERROR, message).into_response();
    }
    let text = match format {
        ExpositionFormat::OpenMetrics => text,
        ExpositionFormat::Classic => classic(&text),
    };
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::telemetry::testing::{occupy, request, request_as};

    struct Running {
        address: SocketAddr,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start() -> Running {
        let mut registry = crate::telemetry::registry();
        let server = TelemetryServer::bind(([127, 0, 0, 1], 0).into(), &mut registry).await.expect("a free port");
        let address = server.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.serve(registry, Router::new(), shutdown.clone()));
        Running { address, shutdown, task }
    }

    #[tokio::test]
    async fn metrics_are_in_the_format_that_the_client_asks_for() {
        let server = start().await;
        for (accept, format, is_ended) in [
            ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8", true),
            ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8", false),
        ] {
            let answer = request_as(server.address, "/metrics", accept).await;
            assert!(answer.contains(&format!("content-type: {format}\r\n")), "{answer}");
            assert_eq!(answer.ends_with("# EOF\n"), is_ended, "{answer}");
            assert!(answer.contains("mail_failover_build_info{"), "{answer}");
        }
        for path in ["/nothing", "/livez", "/readyz"] {
            assert!(request(server.address, path).await.starts_with("HTTP/1.1 404"), "{path}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn silent_clients_keep_nobody_out() {
        let server = start().await;
        let _silent = occupy(server.address, 1000).await;
        let begun = std::time::Instant::now();
        let answer = request(server.address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // They are not waited for: each would be cut after five seconds.
        assert!(begun.elapsed() < BOUNDS.head / 2, "it took {:?}", begun.elapsed());
        // All but those that hold the places, and one for this request.
        let gave_way = format!("mail_failover_http_connections_gave_way_total {}\n", 1000 - BOUNDS.connections + 1);
        assert!(answer.contains(&gave_way), "{answer}");
        assert!(answer.contains("mail_failover_http_connections_delayed_total 0\n"), "{answer}");
    }

    #[tokio::test]
    async fn silent_clients_are_cut_at_their_deadline() {
        let server = start().await;
        let silent = occupy(server.address, 1).await;
        let begun = std::time::Instant::now();
        silent[0].readable().await.expect("the server ends it");
        assert!(begun.elapsed() > BOUNDS.head / 2, "it took {:?}", begun.elapsed());
        let answer = request(server.address, "/metrics").await;
        assert!(answer.contains("mail_failover_http_connections_cut_total 1\n"), "the deadline bit:\n{answer}");
    }

    #[tokio::test]
    async fn it_ends_when_told_to() {
        let server = start().await;
        server.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), server.task).await.expect("in time").expect("without a panic");
        TcpStream::connect(server.address).await.expect_err("nobody listens");
    }
}
