//! The client of webhooks: hyper over a TLS stream to an address that the guard has admitted.
// A client that connects by itself, and pools, would resolve the name again behind the guard's back.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use axum::http::{Request, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::metrics::Metrics;
use super::{WebhookCall, WebhookRequest, WebhookResult};
use crate::dial::{DialError, Dialer, connect};
use crate::leader::{ClaimLost, Leadership};
use crate::probe::StartError;
use mail_failover_core::model::{Timestamp, Tls, TlsMode};
use mail_failover_runtime::clock::unix_seconds;
use mail_failover_runtime::dial_guard::DialGuard;
use mail_failover_smtp::message::bounded;
use mail_failover_smtp::tls::{TlsSetupError, TlsSetups};
use mail_failover_webhook::answer::{is_accepted, refusal, retry_after};
use mail_failover_webhook::signature::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, signatures};

/// Port of HTTPS.
const HTTPS: u16 = 443;
/// Port of HTTP without TLS.
const HTTP: u16 = 80;
/// Time limit of one connection, so that a second address has a chance within the call's.
const CONNECT: Duration = Duration::from_secs(3);
/// Size of the buffer for an answer's head.
const HEAD: usize = 16 * 1024;

/// Failure of a call. No text of it holds a path, a header, a body or a part of an answer.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// This replica is not the leader any more.
    #[error(transparent)]
    NotLeader(#[from] ClaimLost),
    /// The URL or a header cannot be used.
    #[error("url or headers cannot be used: {0}")]
    Request(#[from] axum::http::Error),
    /// The URL names no host.
    #[error("url names no host")]
    NoHost,
    /// No connection could be made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The certificates of `caRef` cannot be used.
    #[error("caRef: {0}")]
    Trust(#[from] TlsSetupError),
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// The connection ended, or did not speak HTTP.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The connection ended before the answer.
    #[error("the connection ended before the answer")]
    Ended,
    /// The receiver answered, and not with success.
    #[error("answered {status}: {}", refusal(*.status))]
    Status {
        /// The status of the answer.
        status: u16,
        /// Pause that the receiver asks for.
        retry_after: Option<Duration>,
    },
    /// The receiver did not answer in time.
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    Timeout(Duration),
}

impl WebhookError {
    /// The label of this error in metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotLeader(_) => "not_leader",
            Self::Request(_) | Self::NoHost => "url",
            Self::Dial(DialError::Unresolved(..)) => "unresolved",
            Self::Dial(DialError::Refused(_)) => "refused_destination",
            Self::Dial(DialError::Connect { .. }) => "unreachable",
            Self::Trust(_) | Self::Tls(_) => "tls",
            Self::Http(_) | Self::Ended => "http",
            Self::Status { .. } => "status",
            Self::Timeout(_) => "timeout",
        }
    }

    /// Pause that the receiver asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Status { retry_after, .. } = self { *retry_after } else { None }
    }
}

/// Makes calls under the leader's claim. Cheap to clone.
#[derive(Clone)]
pub struct WebhookClient(Arc<Shared>);

struct Shared {
    dialer: Dialer,
    tls: TlsSetups,
    leadership: Leadership,
    metrics: Metrics,
}

impl std::fmt::Debug for WebhookClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookClient")
    }
}

impl WebhookClient {
    /// A client that asks these DNS servers, those of `/etc/resolv.conf` if there are none.
    ///
    /// # Errors
    /// DNS is not configured.
    pub fn new(
        dns_servers: &[SocketAddr],
        guard: DialGuard,
        leadership: Leadership,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let dialer = Dialer::new(dns_servers, guard)?;
        Ok(Self(Arc::new(Shared { dialer, tls: TlsSetups::default(), leadership, metrics })))
    }

    /// Makes a call. Counts and logs its result.
    pub async fn carry_out(&self, call: WebhookCall) -> WebhookResult {
        let WebhookCall { number, route, output, id, request } = call;
        let began = Instant::now();
        // Boxed: large, and there may be many.
        let outcome = Box::pin(self.0.call_under_claim(&id.to_string(), &request)).await;
        let took = began.elapsed();
        let result = outcome.as_ref().err().map_or("accepted", WebhookError::category);
        self.0.metrics.called(result, took);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match &outcome {
            Ok(()) => tracing::info!(%route, output = &*output, %id, millis, "a webhook was accepted"),
            Err(error) => {
                tracing::warn!(%route, output = &*output, %id, millis, category = result, %error, "a webhook failed");
            }
        }
        WebhookResult { number, route, output, outcome }
    }

    /// Makes a request of another kind. It is neither counted nor logged here.
    ///
    /// # Errors
    /// The receiver has not taken it over, or nobody knows.
    pub async fn send(&self, id: &str, request: &WebhookRequest) -> Result<(), WebhookError> {
        // Boxed: large, and there may be many.
        Box::pin(self.0.call_under_claim(id, request)).await
    }
}

impl Shared {
    async fn call_under_claim(&self, id: &str, request: &WebhookRequest) -> Result<(), WebhookError> {
        let claim = self.leadership.claim().ok_or(ClaimLost)?;
        let limit = request.timeout;
        claim.guard(timeout(limit, self.call(id, request))).await?.unwrap_or(Err(WebhookError::Timeout(limit)))
    }

    async fn call(&self, id: &str, request: &WebhookRequest) -> Result<(), WebhookError> {
        let uri: Uri = request.url.parse().map_err(axum::http::Error::from)?;
        let host = uri.host().ok_or(WebhookError::NoHost)?.trim_matches(['[', ']']);
        let is_plain = uri.scheme_str() == Some("http");
        let port = uri.port_u16().unwrap_or(if is_plain { HTTP } else { HTTPS });
        let addresses = self.admitted(host, port).await?;
        let mode = if is_plain { TlsMode::None } else { TlsMode::Implicit };
        let tls = Tls { mode, server_name: host.into(), trust: request.trust.clone() };
        let setup = self.tls.setup(&tls)?;
        let stream = connect(host, &addresses, CONNECT).await?;
        let Some(setup) = setup else { return exchange(stream, signed(id, &uri, request)?).await };
        let (handshake, _) = setup.handshake(stream, host).await;
        let stream = handshake.map_err(|failure| WebhookError::Tls(bounded(&failure.what, 200)))?;
        exchange(*stream, signed(id, &uri, request)?).await
    }

    /// The addresses of a host that may be connected to.
    async fn admitted(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, WebhookError> {
        let judged = self.dialer.judge(host, port).await?;
        for refusal in &judged.refused {
            self.metrics.refused_destination(refusal.rule());
        }
        Ok(judged.usable()?)
    }
}

/// The request of an attempt, with its time and signatures.
fn signed(id: &str, uri: &Uri, request: &WebhookRequest) -> Result<Request<Body>, WebhookError> {
    let now = unix_seconds();
    let authority = uri.authority().ok_or(WebhookError::NoHost)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut built = Request::builder()
        .method(request.method.as_str())
        .uri(if path.is_empty() { "/" } else { path })
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("mail-failover-operator/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, &*request.content_type);
    if let Some(signer) = &request.signer {
        built = built
            .header(ID_HEADER, id)
            .header(TIMESTAMP_HEADER, now)
            .header(SIGNATURE_HEADER, signatures(signer, id, now, &request.body));
    }
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(axum::http::Error::from)?;
        let mut value = HeaderValue::from_str(value).map_err(axum::http::Error::from)?;
        value.set_sensitive(true);
        built = built.header(name, value);
    }
    Ok(built.body(Body::from(request.body.clone()))?)
}

/// Sends a request and reads the head of the answer. The body is not read: nobody may learn by us what others' services
/// say.
async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, request: Request<Body>) -> Result<(), WebhookError> {
    let (mut sender, driving) = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        if is_accepted(status) {
            return Ok(());
        }
        let now = Timestamp::from_micros(unix_seconds().saturating_mul(1_000_000));
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
        Err(WebhookError::Status { status, retry_after: asked })
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        // The connection has to be driven. When it ends, the answer says how.
        _never = async { drop(driving.await); pending::<()>().await } => Err(WebhookError::Ended),
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
