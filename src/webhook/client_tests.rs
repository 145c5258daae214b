use std::net::Ipv4Addr;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri as RequestUri};
use axum::response::{IntoResponse, Response};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use mail_failover_core::model::{ObjectKey, TrustAnchors, WebhookMethod};
use mail_failover_runtime::dial_guard::CallPorts;
use mail_failover_webhook::event::EventId;
use mail_failover_webhook::secret::{SECRET_TYPE, WebhookSecret, signing_secret_text};

const LEADS: Duration = Duration::from_mins(10);

type Seen = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// A receiver on a loopback address that answers by the path: `/500`, `/302`, `/hang`, `/429`.
struct Receiver {
    address: SocketAddr,
    authority: String,
    seen: Seen,
}

async fn answer(State(seen): State<Seen>, uri: RequestUri, headers: HeaderMap, body: Bytes) -> Response {
    seen.lock().unwrap().push((uri.to_string(), headers, body));
    match uri.path() {
        "/hang" => std::future::pending().await,
        "/302" => (StatusCode::FOUND, [("location", "/ok")]).into_response(),
        "/429" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")]).into_response(),
        "/500" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

impl Receiver {
    async fn start() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.into()], key)
            .unwrap();
        let (tls, seen) = (TlsAcceptor::from(Arc::new(config)), Seen::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(seen.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, app) = (tls.clone(), app.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = TowerToHyperService::new(app);
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        Self { address, authority: issuer.pem(), seen }
    }

    fn call(&self, path: &str) -> WebhookCall {
        let data = [("signing-secret".to_owned(), signing_secret_text(&[7; 24]).into_bytes())].into();
        let secret = WebhookSecret::parse(Some(SECRET_TYPE), data).unwrap();
        let request = WebhookRequest {
            url: format!("https://{}{path}", self.address).into(),
            method: WebhookMethod::Put,
            content_type: "application/json".into(),
            headers: vec![("Authorization".into(), "Bearer s3cret".to_owned())],
            body: b"{}".to_vec(),
            signer: Some(secret),
            trust: TrustAnchors::Pem(self.authority.as_bytes().into()),
            timeout: Duration::from_secs(20),
        };
        let id = EventId { sequence: 1, digest: "a".repeat(24).into() };
        WebhookCall { number: 1, route: ObjectKey::new("shop", "orders"), output: "flags".into(), id, request }
    }

    /// A client that leads for so long, and what keeps it so.
    fn client(guard: DialGuard, leads: Duration) -> (WebhookClient, impl Sized + use<>) {
        let (leadership, publisher) = Leadership::for_test(leads);
        let metrics = Metrics::new(&mut Registry::default());
        let servers = [SocketAddr::from((Ipv4Addr::LOCALHOST, 9))];
        (WebhookClient::new(&servers, guard, leadership, metrics).unwrap(), publisher)
    }

    fn guard(&self) -> DialGuard {
        let guard = DialGuard { allow_destinations: vec!["127.0.0.0/8".parse().unwrap()], ..DialGuard::default() };
        let port = self.address.port().to_string().parse().unwrap();
        guard.for_webhooks(&CallPorts { allow_webhook_ports: vec![port], ..CallPorts::default() })
    }

    async fn outcome(&self, call: WebhookCall) -> Result<(), WebhookError> {
        let (client, _publisher) = Self::client(self.guard(), LEADS);
        client.carry_out(call).await.outcome
    }
}

#[tokio::test]
async fn a_call_is_one_signed_request_over_verified_tls() {
    let receiver = Receiver::start().await;
    let call = receiver.call("/hook?x=1");
    let secret = call.request.signer.clone().unwrap();
    receiver.outcome(call).await.unwrap();
    let seen = receiver.seen.lock().unwrap();
    let [(uri, headers, body)] = &seen[..] else { panic!("{seen:?}") };
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!((uri.as_str(), &body[..]), ("/hook?x=1", &b"{}"[..]));
    assert_eq!((header("authorization"), header("content-type")), ("Bearer s3cret", "application/json"));
    let time: i64 = header("webhook-timestamp").parse().unwrap();
    assert!((unix_seconds() - time).abs() < 60);
    assert_eq!(header("webhook-signature"), signatures(&secret, header("webhook-id"), time, body));
}

#[tokio::test]
async fn what_is_no_success_is_told_by_status_and_nothing_is_followed() {
    let receiver = Receiver::start().await;
    for (path, status, pause) in [("/302", 302, None), ("/429", 429, Some(7)), ("/500", 500, None)] {
        let error = receiver.outcome(receiver.call(path)).await.unwrap_err();
        let expected = pause.map(Duration::from_secs);
        assert!(
            matches!(&error, WebhookError::Status { status: told, retry_after } if (*told, *retry_after) == (status, expected)),
            "{error}"
        );
        assert!(!error.to_string().contains("s3cret") && error.category() == "status");
    }
    assert_eq!(receiver.seen.lock().unwrap().len(), 3);
    let mut hanging = receiver.call("/hang");
    hanging.request.timeout = Duration::from_millis(700);
    assert!(matches!(receiver.outcome(hanging).await, Err(WebhookError::Timeout(_))));
}

#[tokio::test]
async fn nobody_is_called_where_the_guard_or_the_certificate_says_no() {
    let receiver = Receiver::start().await;
    let (client, _publisher) = Receiver::client(DialGuard::default(), LEADS);
    let refused = client.carry_out(receiver.call("/")).await.outcome;
    assert!(matches!(refused, Err(WebhookError::Dial(DialError::Refused(_)))), "{refused:?}");
    let port = DialGuard { allow_ports: vec![], ..receiver.guard() };
    let (client, _publisher) = Receiver::client(port, LEADS);
    let refused = client.carry_out(receiver.call("/")).await.outcome.unwrap_err().to_string();
    assert!(refused.contains("--allow-webhook-ports"), "{refused}");
    let mut unknown = receiver.call("/");
    unknown.request.trust = TrustAnchors::WellKnown;
    assert_eq!(receiver.outcome(unknown).await.unwrap_err().category(), "tls");
    assert_eq!(receiver.seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_replica_that_does_not_lead_calls_nobody() {
    let receiver = Receiver::start().await;
    let (client, _publisher) = Receiver::client(receiver.guard(), Duration::ZERO);
    assert!(matches!(client.carry_out(receiver.call("/")).await.outcome, Err(WebhookError::NotLeader(_))));
    assert_eq!(receiver.seen.lock().unwrap().len(), 0);
}
