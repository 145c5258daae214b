//! HTTPS server that takes reports, with bounded connections, bodies, reviews and rates. Every refusal says its reason
//! in a sentence.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::directory::NotPermitted;
use super::rate::Rate;
use super::token::{Denial, Reviewer};
use super::{Directory, ReportMetrics, ServerCertificate, received};
use mail_failover_contract::report;
use mail_failover_core::model::{Agent, AgentReport};
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::http::{ConnectionBounds, Listener};

/// Bounds of the connections. An agent gives up after five seconds.
const BOUNDS: ConnectionBounds =
    ConnectionBounds { connections: 256, head: Duration::from_secs(3), whole: Duration::from_secs(10) };

/// Server that listens already and serves nothing yet.
pub struct ReportServer {
    listener: Listener,
    metrics: ReportMetrics,
}

/// Connections of the server to the rest of the operator.
pub struct ReportConnections {
    /// Client for the creation of `TokenReviews`.
    pub client: Client,
    /// Directory of the agents that may report.
    pub directory: Directory,
    /// Queue to the controller. When it is full the agent is told to come again.
    pub reports: mpsc::Sender<AgentReport>,
    /// Clock that turns ages into timestamps.
    pub clock: Clock,
}

impl fmt::Debug for ReportConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl fmt::Debug for ReportServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.listener.local_addr().ok()).finish_non_exhaustive()
    }
}

struct ReportContext {
    reviewer: Reviewer,
    rate: Mutex<Rate>,
    directory: Directory,
    reports: mpsc::Sender<AgentReport>,
    clock: Clock,
    metrics: ReportMetrics,
}

impl ReportServer {
    /// Listens on this address with this certificate.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(
        address: SocketAddr,
        certificate: &ServerCertificate,
        registry: &mut Registry,
    ) -> io::Result<Self> {
        let connections = registry.sub_registry_with_prefix("mail_failover_report_connections");
        let listener = Listener::bind("reports", address, BOUNDS, connections).await?;
        let listener = listener.with_tls(certificate.server.clone());
        Ok(Self { listener, metrics: ReportMetrics::new(registry) })
    }

    /// Returns the address that the server listens on, with the real port where 0 was asked for.
    ///
    /// # Errors
    /// When the operating system does not know it any more.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then waits for the connections under way.
    pub async fn serve(self, connections: ReportConnections, shutdown: CancellationToken) {
        let Self { listener, metrics } = self;
        let ReportConnections { client, directory, reports, clock } = connections;
        let reviewer = Reviewer::new(client, clock, metrics.clone());
        let shared = ReportContext { reviewer, rate: Mutex::default(), directory, reports, clock, metrics };
        let app = Router::new().route(report::PATH, post(take)).with_state(Arc::new(shared));
        listener.serve(app, shutdown).await;
    }
}

/// Reasons why a report is not taken.
enum ReportRefusal {
    Unauthorized,
    Unavailable,
    TooLarge,
    Malformed(report::InvalidReport),
    Rejected(NotPermitted),
    TooMany,
    Busy,
}

impl ReportRefusal {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Unavailable => "unavailable",
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::Rejected(NotPermitted::Foreign { .. }) => "forbidden",
            Self::Rejected(NotPermitted::Unknown { .. }) => "unknown_route",
            Self::TooMany => "too_many",
            Self::Busy => "busy",
        }
    }
}

impl IntoResponse for ReportRefusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, Denial::Refused.to_string()),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Denial::Unavailable.to_string()),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, format!("a report may have {} bytes", report::MAX_BYTES)),
            Self::Malformed(refusal) => (StatusCode::BAD_REQUEST, refusal.to_string()),
            Self::Rejected(rejection @ NotPermitted::Foreign { .. }) => (StatusCode::FORBIDDEN, rejection.to_string()),
            Self::Rejected(rejection @ NotPermitted::Unknown { .. }) => (StatusCode::NOT_FOUND, rejection.to_string()),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "this agent reports too often".to_owned()),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many reports are waiting".to_owned()),
        };
        let mut response = (status, format!("{text}\n")).into_response();
        match status {
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

async fn take(State(shared): State<Arc<ReportContext>>, headers: HeaderMap, body: Body) -> Response {
    match shared.take(&headers, body).await {
        Ok(()) => {
            shared.metrics.report("accepted");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(refusal) => {
            shared.metrics.report(refusal.outcome());
            refusal.into_response()
        }
    }
}

impl ReportContext {
    async fn take(&self, headers: &HeaderMap, body: Body) -> Result<(), ReportRefusal> {
        // The ages in a report count from when it came, however long the API server takes to review its token.
        let came_at = self.clock.now();
        let token = bearer(headers).ok_or(ReportRefusal::Unauthorized)?;
        let caller = self.reviewer.review(token).await.map_err(|denial| match denial {
            Denial::Refused => ReportRefusal::Unauthorized,
            Denial::Unavailable => ReportRefusal::Unavailable,
        })?;
        // Nobody who is unknown is read any further.
        let body = to_bytes(body, report::MAX_BYTES).await.map_err(|_too_large| ReportRefusal::TooLarge)?;
        let report = report::DeliveryReport::parse(&body).map_err(ReportRefusal::Malformed)?;
        let route = self.directory.admit(&caller, &report.route).map_err(|rejection| {
            tracing::debug!(%rejection, "a report is refused");
            ReportRefusal::Rejected(rejection)
        })?;
        // One pod has one voice, whatever it calls itself.
        let agent = Agent { route, name: caller.pod.unwrap_or_else(|| report.agent.as_str().into()) };
        if !self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(&agent, Instant::now()) {
            return Err(ReportRefusal::TooMany);
        }
        self.reports.try_send(received(agent, report, came_at)).map_err(|_full| ReportRefusal::Busy)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
