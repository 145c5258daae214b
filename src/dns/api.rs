//! Records led by the HTTP API of a DNS provider: the looks, and the change, over a connection that the guard has admitted.
//!
//! Most APIs know no condition, so that nothing but time fences a change: it is made under the leader's claim, which ends
//! it, and the mark in the zone tells the next look whose it was.

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use axum::http::uri::Authority;
use axum::http::{Request, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::metrics::Metrics;
use super::{DnsError, DnsRequest};
use crate::dial::{DialError, Dialer, connect};
use mail_failover_core::model::{DnsApi, Tls, TlsMode, TrustAnchors};
use mail_failover_dns::api::{ApiAnswer, ApiError, ApiRequest, ApiZone, DnsApiSecret, SeenRows};
use mail_failover_dns::plan::{Plan, plan};
use mail_failover_runtime::clock::unix_seconds;
use mail_failover_smtp::message::bounded;
use mail_failover_smtp::tls::TlsSetups;

/// Port of HTTPS.
const HTTPS: u16 = 443;
/// Port of HTTP without TLS.
const HTTP: u16 = 80;
/// Time limit of one connection, so that a second address has a chance within the attempt's.
const CONNECT: Duration = Duration::from_secs(3);
/// Size of the buffer for an answer's head, in bytes.
const HEAD: usize = 16 * 1024;
/// Longest answer, in bytes: a zone of some ten thousand records.
const LONGEST_ANSWER: usize = 8 * 1024 * 1024;

/// What a client of APIs shares with that of updates.
#[derive(Clone, Copy)]
pub(super) struct ApiClient<'a> {
    pub(super) dialer: &'a Dialer,
    pub(super) tls: &'a TlsSetups,
    pub(super) metrics: &'a Metrics,
}

impl ApiClient<'_> {
    /// Looks at the record sets and changes them if they are not as they should be. Returns true if they were changed.
    pub(super) async fn lead(
        &self,
        request: &DnsRequest,
        api: &DnsApi,
        secret: &DnsApiSecret,
        trust: &TrustAnchors,
    ) -> Result<bool, DnsError> {
        let DnsRequest { output, backend, owner, access: _ } = request;
        let sets = output.sets_of(backend).unwrap_or_default();
        let mut connection = ApiConnection { target: ApiTarget { client: *self, api, trust }, open: None };
        let now = u64::try_from(unix_seconds()).unwrap_or_default();
        let zone = ApiZone::new(&api.service, output, secret, now);
        let mut seen = SeenRows::default();
        for look in zone.looks(sets).map_err(|source| failed(api, source))? {
            let answer = connection.ask(&look).await?;
            if zone.see(&answer, &mut seen).map_err(|source| failed(api, source))? {
                break;
            }
        }
        let observed = seen.observed(sets).map_err(|source| failed(api, source))?;
        let planned = plan(output, backend, owner, &observed).map_err(|error| failed(api, error.into()))?;
        let update = match planned {
            Plan::InPlace => return Ok(false),
            Plan::Conflict(conflicts) => return Err(DnsError::Conflict(conflicts)),
            Plan::Write(update) => update,
        };
        for change in zone.changes(update.changes(), &seen).map_err(|source| failed(api, source))? {
            let answer = connection.ask(&change).await?;
            zone.changed(&answer).map_err(|source| failed(api, source))?;
        }
        self.metrics.updated();
        Ok(true)
    }
}

fn failed(api: &DnsApi, source: ApiError) -> DnsError {
    DnsError::Api { url: api.service.url().into(), source }
}

/// The API of a provider.
#[derive(Clone, Copy)]
struct ApiTarget<'a> {
    client: ApiClient<'a>,
    api: &'a DnsApi,
    trust: &'a TrustAnchors,
}

/// A connection, opened when it is needed. Servers may close it after any answer.
struct ApiConnection<'a> {
    target: ApiTarget<'a>,
    open: Option<OpenConnection>,
}

struct OpenConnection {
    sender: http1::SendRequest<Body>,
    /// The connection, which has to be driven: by whoever waits for an answer, so that nothing is sent once the claim is lost.
    driving: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
}

/// A stream of any kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl ApiConnection<'_> {
    /// Makes a request and reads its answer.
    async fn ask(&mut self, request: &ApiRequest) -> Result<ApiAnswer, DnsError> {
        let target = self.target;
        let uri: Uri = target.api.service.url().parse().map_err(|_| target.ended("it is no URL"))?;
        let built = built(&uri, request).map_err(|_| target.ended("the request cannot be written"))?;
        let mut open = match self.open.take() {
            Some(open) if !open.sender.is_closed() => open,
            Some(_) | None => target.opened(&uri).await?,
        };
        let OpenConnection { sender, driving } = &mut open;
        let mut is_over = false;
        let answer = tokio::select! {
            biased;
            answer = answered(sender, built) => answer,
            // When it ends, the answer is there all the same, or says how it ended.
            _never = async { drop(driving.await); is_over = true; pending::<()>().await } => {
                Err(ExchangeError::Ended)
            }
        };
        let answer = answer.map_err(|error| target.ended(&error.to_string()))?;
        self.open = (!is_over).then_some(open);
        Ok(answer)
    }
}

impl ApiTarget<'_> {
    async fn opened(&self, uri: &Uri) -> Result<OpenConnection, DnsError> {
        let host = uri.host().ok_or_else(|| self.ended("it names no host"))?.trim_matches(['[', ']']);
        let is_plain = uri.scheme_str() == Some("http");
        let port = uri.port_u16().unwrap_or(if is_plain { HTTP } else { HTTPS });
        let judged = self.client.dialer.judge(host, port).await.map_err(|e| self.unreachable(e))?;
        for refusal in &judged.refused {
            self.client.metrics.refused_destination(refusal.rule());
        }
        let addresses = judged.usable().map_err(|error| self.unreachable(error))?;
        let mode = if is_plain { TlsMode::None } else { TlsMode::Implicit };
        let tls = Tls { mode, server_name: host.into(), trust: self.trust.clone() };
        let setup = self.client.tls.setup(&tls).map_err(|error| self.ended(&format!("caRef: {error}")))?;
        let stream = connect(host, &addresses, CONNECT).await.map_err(|error| self.unreachable(error))?;
        let stream: Box<dyn Stream> = match setup {
            None => Box::new(stream),
            Some(setup) => {
                let (handshake, _) = setup.handshake(stream, host).await;
                handshake.map_err(|failure| self.ended(&format!("TLS: {}", bounded(&failure.what, 200))))?
            }
        };
        let opened = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await;
        let (sender, driving) = opened.map_err(|error| self.ended(&format!("HTTP: {error}")))?;
        Ok(OpenConnection { sender, driving: Box::pin(driving) })
    }

    fn unreachable(&self, source: DialError) -> DnsError {
        DnsError::ApiUnreachable { url: self.api.service.url().into(), source: Box::new(source) }
    }

    fn ended(&self, what: &str) -> DnsError {
        DnsError::ApiConnection { url: self.api.service.url().into(), what: what.to_owned() }
    }
}

fn built(uri: &Uri, request: &ApiRequest) -> Result<Request<Body>, axum::http::Error> {
    let authority = uri.authority().map_or("", Authority::as_str);
    let mut built = Request::builder()
        .method(request.method)
        .uri(&request.target)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("mail-failover-operator/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &request.headers {
        let mut value = HeaderValue::from_str(value)?;
        value.set_sensitive(true);
        built = built.header(HeaderName::from_bytes(name.as_bytes())?, value);
    }
    built.body(Body::from(request.body.clone()))
}

/// Failure of a request on a connection that stands.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    /// The connection ended, or did not speak HTTP.
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The connection ended.
    #[error("the connection ended before the answer")]
    Ended,
    /// The body cannot be read.
    #[error("the answer ended early, or is longer than {LONGEST_ANSWER} bytes")]
    Body,
}

async fn answered(sender: &mut http1::SendRequest<Body>, request: Request<Body>) -> Result<ApiAnswer, ExchangeError> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let status = response.status().as_u16();
    let body = to_bytes(Body::new(response.into_body()), LONGEST_ANSWER).await;
    let body = body.map_err(|_| ExchangeError::Body)?;
    Ok(ApiAnswer { status, retry_after, body: body.to_vec() })
}
