//! Records led by the HTTP API of a DNS provider: the looks, and the change, over a connection that the guard has admitted.
//!
//! Most APIs know no condition, so that nothing but time fences a change: it is made under the leader's claim, which ends
//! it, and the mark in the zone tells the next look whose it was.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use axum::http::uri::Authority;
use axum::http::{Request, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use super::metrics::Metrics;
use super::tokens::Tokens;
use super::{DnsError, DnsRequest};
use crate::dial::{DialError, Dialer, connect};
use mail_failover_core::model::{DnsApi, Timestamp, Tls, TlsMode, TrustAnchors};
use mail_failover_dns::api::{
    AccessToken, ApiAnswer, ApiError, ApiRequest, ApiZone, DnsApiSecret, SeenRows, Sight, TokenKey,
};
use mail_failover_dns::plan::{Plan, plan};
use mail_failover_runtime::clock::unix_seconds;
use mail_failover_smtp::message::bounded;
use mail_failover_smtp::tls::TlsSetups;
use mail_failover_webhook::answer::retry_after;

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
/// Most requests of one look. Sixteen sets with their marks take a fraction of it.
const MOST_LOOKS: usize = 512;
/// Pause before the next question if a change is carried out; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What a client of APIs shares with that of updates.
#[derive(Clone, Copy)]
pub(super) struct ApiClient<'a> {
    pub(super) dialer: &'a Dialer,
    pub(super) tls: &'a TlsSetups,
    pub(super) tokens: &'a Tokens,
    pub(super) metrics: &'a Metrics,
}

/// A zone at the API of a provider, and what is needed to speak to it.
#[derive(Clone, Copy)]
pub(super) struct ApiAccess<'a> {
    pub(super) api: &'a DnsApi,
    pub(super) secret: &'a DnsApiSecret,
    pub(super) trust: &'a TrustAnchors,
}

impl<'a> ApiClient<'a> {
    /// Looks at the record sets and changes them if they are not as they should be. Returns true if they were changed.
    pub(super) async fn lead(&self, request: &DnsRequest, access: ApiAccess<'a>) -> Result<bool, DnsError> {
        let zone = zone(request, access);
        let mut connection = self.connection(access);
        let token = self.token(&zone, &mut connection).await?;
        let zone = token.as_ref().map_or(zone, |(_, token)| zone.with_token(token));
        let outcome = lead(request, &zone, &mut connection).await;
        self.forget_refused(token.as_ref(), &outcome);
        outcome
    }

    /// Has the provider serve the records that it has, if it does not do so by itself.
    pub(super) async fn publish(&self, request: &DnsRequest, access: ApiAccess<'a>) -> Result<(), DnsError> {
        let zone = zone(request, access);
        let mut connection = self.connection(access);
        if let Some(publication) = zone.publication().map_err(|source| connection.failed(source))? {
            change(&zone, &mut connection, &publication).await?;
        }
        Ok(())
    }

    fn connection(&self, ApiAccess { api, trust, secret: _ }: ApiAccess<'a>) -> ApiConnection<'a> {
        ApiConnection { target: ApiTarget { client: *self, api, trust }, open: None }
    }

    /// The token for the credentials, if the provider gives one.
    async fn token(
        &self,
        zone: &ApiZone<'_>,
        connection: &mut ApiConnection<'_>,
    ) -> Result<Option<(TokenKey, AccessToken)>, DnsError> {
        let Some(key) = zone.token_key().map_err(|source| connection.failed(source))? else { return Ok(None) };
        let now = now();
        if let Some(token) = self.tokens.get(&key, now) {
            return Ok(Some((key, token)));
        }
        let request = zone.token_request().and_then(|request| request.ok_or(ApiError::NoToken));
        let request = request.map_err(|source| connection.failed(source))?;
        self.metrics.token_requested();
        let answer = connection.ask(&request).await?;
        let url = request.origin.as_deref().unwrap_or(connection.target.api.service.url());
        let token = zone.token_given(&answer).map_err(|source| DnsError::Api { url: url.into(), source })?;
        self.tokens.keep(key.clone(), token.clone(), now, self.metrics);
        Ok(Some((key, token)))
    }

    /// Forgets a token that was withdrawn before its end.
    fn forget_refused<T>(&self, token: Option<&(TokenKey, AccessToken)>, outcome: &Result<T, DnsError>) {
        if let (Some((key, _)), Err(DnsError::Api { source: ApiError::Credentials(401), .. })) = (token, outcome) {
            self.tokens.forget(key, self.metrics);
        }
    }
}

fn zone<'a>(request: &'a DnsRequest, access: ApiAccess<'a>) -> ApiZone<'a> {
    ApiZone::new(&access.api.service, &request.output, access.secret, now())
}

fn now() -> u64 {
    u64::try_from(unix_seconds()).unwrap_or_default()
}

async fn lead(request: &DnsRequest, zone: &ApiZone<'_>, connection: &mut ApiConnection<'_>) -> Result<bool, DnsError> {
    let DnsRequest { output, backend, owner, access: _ } = request;
    let sets = output.sets_of(backend).unwrap_or_default();
    let mut seen = SeenRows::default();
    let mut looks: VecDeque<_> = zone.looks(sets).map_err(|source| connection.failed(source))?.into();
    let mut made = 0;
    while let Some(look) = looks.pop_front() {
        made += 1;
        let answer = connection.ask(&look).await?;
        match zone.see(&answer, &mut seen).map_err(|source| connection.failed(source))? {
            Sight::Part => {}
            Sight::Whole => break,
            Sight::More(places) if made + looks.len() + places.len() <= MOST_LOOKS => looks.extend(places),
            Sight::More(_) => return Err(connection.failed(ApiError::Malformed("it has too many records"))),
        }
    }
    let observed = seen.observed(sets).map_err(|source| connection.failed(source))?;
    let planned = plan(output, backend, owner, &observed).map_err(|error| connection.failed(error.into()))?;
    let update = match planned {
        Plan::InPlace => return Ok(false),
        Plan::Conflict(conflicts) => return Err(DnsError::Conflict(conflicts)),
        Plan::Write(update) => update,
    };
    for one in zone.changes(update.changes(), &seen).map_err(|source| connection.failed(source))? {
        change(zone, connection, &one).await?;
    }
    connection.target.client.metrics.updated();
    Ok(true)
}

/// Makes a change, and waits until it is carried out.
// The attempt's deadline ends that.
async fn change(zone: &ApiZone<'_>, connection: &mut ApiConnection<'_>, request: &ApiRequest) -> Result<(), DnsError> {
    let mut answer = connection.ask(request).await?;
    let mut pause = FIRST_PAUSE;
    while let Some(again) = zone.changed(&answer).map_err(|source| connection.failed(source))? {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        answer = connection.ask(&again).await?;
    }
    Ok(())
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
        let place =
            Place { target: self.target, url: request.origin.as_deref().unwrap_or(self.target.api.service.url()) };
        let uri: Uri = place.url.parse().map_err(|_| place.ended("it is no URL"))?;
        let built = built(&uri, request).map_err(|_| place.ended("the request cannot be written"))?;
        let is_api = request.origin.is_none();
        let mut open = match self.open.take_if(|_| is_api) {
            Some(open) if !open.sender.is_closed() => open,
            Some(_) | None => place.opened(&uri).await?,
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
        let answer = answer.map_err(|error| place.ended(&error.to_string()))?;
        if is_api && !is_over {
            self.open = Some(open);
        }
        Ok(answer)
    }

    fn failed(&self, source: ApiError) -> DnsError {
        DnsError::Api { url: self.target.api.service.url().into(), source }
    }
}

/// The API of a provider, or the place where it gives tokens.
#[derive(Clone, Copy)]
struct Place<'a> {
    target: ApiTarget<'a>,
    url: &'a str,
}

impl Place<'_> {
    async fn opened(&self, uri: &Uri) -> Result<OpenConnection, DnsError> {
        let ApiTarget { client, api: _, trust } = self.target;
        let host = uri.host().ok_or_else(|| self.ended("it names no host"))?.trim_matches(['[', ']']);
        let is_plain = uri.scheme_str() == Some("http");
        let port = uri.port_u16().unwrap_or(if is_plain { HTTP } else { HTTPS });
        let judged = client.dialer.judge(host, port).await.map_err(|e| self.unreachable(e))?;
        for refusal in &judged.refused {
            client.metrics.refused_destination(refusal.rule());
        }
        let addresses = judged.usable().map_err(|error| self.unreachable(error))?;
        let mode = if is_plain { TlsMode::None } else { TlsMode::Implicit };
        let tls = Tls { mode, server_name: host.into(), trust: trust.clone() };
        let setup = client.tls.setup(&tls).map_err(|error| self.ended(&format!("caRef: {error}")))?;
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
        DnsError::ApiUnreachable { url: self.url.into(), source: Box::new(source) }
    }

    fn ended(&self, what: &str) -> DnsError {
        DnsError::ApiConnection { url: self.url.into(), what: what.to_owned() }
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
    let now = Timestamp::from_micros(unix_seconds().saturating_mul(1_000_000));
    let retry_after = asked_pause(response.headers(), now);
    let status = response.status().as_u16();
    let body = to_bytes(Body::new(response.into_body()), LONGEST_ANSWER).await;
    let body = body.map_err(|_| ExchangeError::Body)?;
    Ok(ApiAnswer { status, retry_after, body: body.to_vec() })
}

/// Pause that a provider asks for, in seconds.
fn asked_pause(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let pause = retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, now)?;
    Some(pause.as_secs())
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
