use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::dns::DnsAccess;
use mail_failover_core::model::{
    DnsBackendRecords, DnsData, DnsOutput, DnsProvider, DnsRecordSet, DnsRecordType, DnsService, ObjectKey,
};
use mail_failover_dns::api::SECRET_TYPE;
use mail_failover_dns::mark::Owner;
use mail_failover_runtime::dial_guard::{CallPorts, DialGuard};

/// The private key of RFC 7515, appendix A.2, which signs nothing but examples.
const EXAMPLE_KEY: &str = include_str!("../../crates/dns/testdata/rfc7515-a2.pem");

/// A server on a loopback address that answers as Google does, with a zone without records.
struct Provider {
    address: SocketAddr,
    authority: String,
    state: Shared,
}

type Shared = Arc<Mutex<ProviderState>>;

#[derive(Default)]
struct ProviderState {
    /// Method and path of each request.
    asked: Vec<String>,
    /// Number of the tokens that were given.
    tokens: usize,
    /// True if tokens from before are not accepted.
    is_withdrawn: bool,
    changes: Vec<serde_json::Value>,
}

async fn answer(State(state): State<Shared>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut state = state.lock().unwrap();
    state.asked.push(format!("{method} {}", uri.path()));
    if uri.path() == "/token" {
        state.tokens += 1;
        state.is_withdrawn = false;
        let token = json!({"access_token": format!("token-{}", state.tokens), "expires_in": 3599});
        return token.to_string().into_response();
    }
    let expected = format!("Bearer token-{}", state.tokens);
    if state.is_withdrawn || headers.get("authorization").is_none_or(|value| *value != *expected) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if method == Method::POST {
        state.changes.push(serde_json::from_slice(&body).unwrap());
        return r#"{"status": "pending"}"#.into_response();
    }
    r#"{"rrsets": []}"#.into_response()
}

impl Provider {
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
        let (tls, state) = (TlsAcceptor::from(Arc::new(config)), Shared::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(state.clone());
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
        Self { address, authority: issuer.pem(), state }
    }

    fn request(&self) -> (DnsRequest, DnsApi, DnsApiSecret, TrustAnchors) {
        let url = format!("https://{}", self.address);
        let file = json!({
            "type": "service_account", "client_email": "dns@mail.iam.gserviceaccount.com", "private_key_id": "k1",
            "private_key": EXAMPLE_KEY, "token_uri": format!("{url}/token"),
        });
        let data = [("service-account.json".to_owned(), file.to_string().into_bytes())].into();
        let secret = DnsApiSecret::parse(Some(SECRET_TYPE), &data).unwrap();
        let service = DnsService::Google { project: "mail".into(), zone: "shop".into(), url: Some(url.into()) };
        let api = DnsApi { service, secret: "google".into(), ca: None };
        let mx = DnsData::Mx(10, "mx.a.example".into());
        let set = DnsRecordSet { name: "bounce.shop.example".into(), record_type: DnsRecordType::Mx, data: vec![mx] };
        let output = DnsOutput {
            zone: "shop.example".into(),
            name: "bounce.shop.example".into(),
            backends: vec![DnsBackendRecords { backend: "a".into(), sets: vec![set] }],
            ttl: 60,
            provider: DnsProvider::Api(api.clone()),
            authorities: vec![],
            timeout: Duration::from_secs(5),
            is_awaited: false,
        };
        let trust = TrustAnchors::Pem(self.authority.as_bytes().into());
        let request = DnsRequest {
            output: Arc::new(output),
            backend: "a".into(),
            owner: Owner { operator: "eu".into(), route: ObjectKey::new("shop", "orders") },
            access: DnsAccess::Api(api.clone().into(), secret.clone().into(), trust.clone()),
        };
        (request, api, secret, trust)
    }

    fn dialer(&self) -> Dialer {
        let guard = DialGuard { allow_destinations: vec!["127.0.0.0/8".parse().unwrap()], ..DialGuard::default() };
        let port = self.address.port().to_string().parse().unwrap();
        let guard = guard.for_webhooks(&CallPorts { allow_webhook_ports: vec![port], ..CallPorts::default() });
        Dialer::new(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 9))], guard).unwrap()
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_anew_after_it_was_withdrawn() {
    let provider = Provider::start().await;
    let (request, api, secret, trust) = provider.request();
    let access = ApiAccess { api: &api, secret: &secret, trust: &trust };
    let (dialer, tls, tokens) = (provider.dialer(), TlsSetups::default(), Tokens::default());
    let metrics = Metrics::new(&mut Registry::default());
    let client = ApiClient { dialer: &dialer, tls: &tls, tokens: &tokens, metrics: &metrics };
    assert!(client.lead(&request, access).await.unwrap());
    assert!(client.lead(&request, access).await.unwrap());
    {
        let state = provider.state.lock().unwrap();
        let zone = "/dns/v1/projects/mail/managedZones/shop";
        let [look, change] = [format!("GET {zone}/rrsets"), format!("POST {zone}/changes")];
        let once = [look.clone(), look.clone(), change.clone()];
        let expected = [vec!["POST /token".to_owned()], once.to_vec(), once.to_vec()].concat();
        assert_eq!(state.asked, expected);
        assert_eq!(state.changes[0]["additions"][0]["rrdatas"], json!(["10 mx.a.example."]));
        assert_eq!(state.changes[0]["deletions"], json!([]));
    }
    provider.state.lock().unwrap().is_withdrawn = true;
    let refused = client.lead(&request, access).await.unwrap_err();
    assert!(matches!(&refused, DnsError::Api { source: ApiError::Credentials(401), .. }), "{refused}");
    assert!(client.lead(&request, access).await.unwrap());
    assert_eq!(provider.state.lock().unwrap().tokens, 2);
}

#[tokio::test]
async fn the_place_that_gives_tokens_meets_the_guard_and_is_named() {
    let provider = Provider::start().await;
    let (request, api, secret, trust) = provider.request();
    let access = ApiAccess { api: &api, secret: &secret, trust: &trust };
    let guard = DialGuard::default().for_webhooks(&CallPorts::default());
    let dialer = Dialer::new(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 9))], guard).unwrap();
    let (tls, tokens) = (TlsSetups::default(), Tokens::default());
    let metrics = Metrics::new(&mut Registry::default());
    let client = ApiClient { dialer: &dialer, tls: &tls, tokens: &tokens, metrics: &metrics };
    let refused = client.lead(&request, access).await.unwrap_err();
    assert_eq!(refused.category(), "refused_destination");
    assert!(refused.to_string().starts_with(&format!("https://{}: ", provider.address)), "{refused}");
    assert!(provider.state.lock().unwrap().asked.is_empty());
}

#[test]
fn a_provider_asks_for_a_pause_in_seconds_or_until_a_date() {
    // RFC 9110 §5.6.7: 1994-11-06 08:49:37, and 90 s before.
    let now = Timestamp::from_micros((784_111_777 - 90) * 1_000_000);
    for (value, pause) in [("30", Some(30)), ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90)), ("soon", None)] {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
        assert_eq!(asked_pause(&headers, now), pause, "{value}");
    }
    assert_eq!(asked_pause(&HeaderMap::new(), now), None);
}

#[test]
fn tokens_are_kept_up_to_a_bound() {
    let (tokens, metrics) = (Tokens::default(), Metrics::new(&mut Registry::default()));
    let (service, output) = (
        DnsService::Azure {
            cloud: mail_failover_core::model::AzureCloud::Public,
            tenant: "t".into(),
            subscription: "s".into(),
            resource_group: "g".into(),
        },
        output_of_nobody(),
    );
    let given = |expires_in: u64| ApiAnswer {
        status: 200,
        retry_after: None,
        body: json!({"access_token": "t", "expires_in": expires_in}).to_string().into_bytes(),
    };
    let mut keys = vec![];
    for number in 0..1025_u64 {
        let data = [("client-id", number.to_string()), ("client-secret", "s".to_owned())];
        let data = data.map(|(key, value)| (key.to_owned(), value.into_bytes())).into();
        let secret = DnsApiSecret::parse(Some(SECRET_TYPE), &data).unwrap();
        let zone = ApiZone::new(&service, &output, &secret, 0);
        let key = zone.token_key().unwrap().unwrap();
        // Each lives longer than the one before.
        let token = zone.token_given(&given(3600 + number)).unwrap();
        tokens.keep(key.clone(), token, 0, &metrics);
        keys.push(key);
    }
    assert!(tokens.get(&keys[0], 0).is_none(), "the one that expires first has given way");
    assert!(tokens.get(&keys[1], 0).is_some() && tokens.get(&keys[1024], 0).is_some());
    assert!(tokens.get(&keys[1], 3600).is_none(), "expired");
    tokens.forget(&keys[1024], &metrics);
    assert!(tokens.get(&keys[1024], 0).is_none());
}

fn output_of_nobody() -> DnsOutput {
    DnsOutput {
        zone: "shop.example".into(),
        name: "shop.example".into(),
        backends: vec![],
        ttl: 60,
        provider: DnsProvider::Api(DnsApi { service: DnsService::DeSec, secret: "s".into(), ca: None }),
        authorities: vec![],
        timeout: Duration::from_secs(5),
        is_awaited: false,
    }
}
