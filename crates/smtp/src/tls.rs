//! TLS with a backend: trust anchors, the handshake, and the reason for which one fails.
//!
//! Certificates are verified for name, chain and validity, unless the user wrote `mode: Opportunistic`. A certificate
//! that the user's authority file holds itself needs no chain. The crypto provider is ring, named here and independent
//! of the process's default. Probes never resume a session: a resumed handshake shows no certificate. Who sends mail may
//! ([`TlsSetups::resuming`]).

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{PresentedChain, describe};
use super::message::bounded;
use super::wide_hello::{FAREWELL, HEADER, HelloAnswer, answer, content_length, suite_name, version_name, wide_hello};
use mail_failover_core::model::{EvidenceClass, NotAfter, Tls, TlsMode, TrustAnchors};

/// TLS client configuration for one set of trust anchors, shared by all targets that have the same.
#[derive(Debug)]
pub struct TlsSetup {
    config: ClientConfig,
    trust: Trust,
    /// Verifier of all handshakes, if they resume sessions: rustls resumes none that another one has verified.
    verifier: Option<Arc<HandshakeVerifier>>,
}

/// TLS sessions that a setup remembers.
const SESSIONS: usize = 32;

/// Error of trust anchors that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The private authority's text is no PEM.
    #[error("the private authority's PEM text is malformed: {0}")]
    Malformed(#[source] pem::Error),
    /// The private authority's PEM text contains nothing that can be trusted.
    #[error("the private authority's PEM text holds no usable certificate")]
    NoCertificate,
    /// rustls refused the trust anchors.
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
    /// rustls refused the configuration.
    #[error(transparent)]
    Configuration(#[from] rustls::Error),
}

/// Failure of a handshake, classified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFailure {
    /// `CertificateInvalid`, `TlsFailed` or `ConnectionLost`.
    pub class: EvidenceClass,
    /// Description for people, without the stage.
    pub what: String,
    /// Possibility that the server speaks TLS, and none that rustls speaks.
    pub mismatch: Mismatch,
}

/// Possibility that a handshake failed because the server speaks TLS, and none that rustls speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The failure has another reason.
    No,
    /// The connection ended, as some servers end it instead of an alert.
    Possible,
    /// The server found nothing in common, and does not say if it would with another client.
    Likely,
    /// The server wants another version, or has chosen what rustls does not speak.
    Certain,
    /// A certificate of the server is signed by an algorithm that rustls does not know.
    Signature,
}

/// The setups in use. Ten thousand backends with the same trust anchors share one.
///
/// Their number is bounded by the targets: a setup lives as long as a target uses it.
#[derive(Debug)]
pub struct TlsSetups {
    provider: Arc<CryptoProvider>,
    in_use: Mutex<HashMap<TrustKey, Weak<TlsSetup>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum TrustKey {
    Anyone,
    SignedBy(TrustAnchors),
}

impl Default for TlsSetups {
    fn default() -> Self {
        Self { provider: Arc::new(rustls::crypto::ring::default_provider()), in_use: Mutex::default() }
    }
}

impl TlsSetups {
    /// The setup for a backend's TLS, or `None` for `TlsMode::None`.
    ///
    /// # Errors
    /// The private authority's PEM text contains no usable certificate.
    pub fn setup(&self, tls: &Tls) -> Result<Option<Arc<TlsSetup>>, TlsSetupError> {
        let key = match tls.mode {
            TlsMode::None => return Ok(None),
            TlsMode::Opportunistic => TrustKey::Anyone,
            TlsMode::StartTls | TlsMode::Implicit => TrustKey::SignedBy(tls.trust.clone()),
        };
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(setup) = in_use.get(&key).and_then(Weak::upgrade) {
            return Ok(Some(setup));
        }
        let setup = Arc::new(self.build(&key, Resumption::disabled())?);
        in_use.retain(|_, setup| setup.strong_count() > 0);
        in_use.insert(key, Arc::downgrade(&setup));
        Ok(Some(setup))
    }

    /// A setup of its own for a backend's TLS, whose handshakes resume the sessions of earlier ones; `None` for
    /// `TlsMode::None`. A certificate is verified in the first handshake only, so it should not be used for ever.
    ///
    /// # Errors
    /// The private authority's PEM text contains no usable certificate.
    pub fn resuming(&self, tls: &Tls) -> Result<Option<Arc<TlsSetup>>, TlsSetupError> {
        let key = match tls.mode {
            TlsMode::None => return Ok(None),
            TlsMode::Opportunistic => TrustKey::Anyone,
            TlsMode::StartTls | TlsMode::Implicit => TrustKey::SignedBy(tls.trust.clone()),
        };
        let mut setup = self.build(&key, Resumption::in_memory_sessions(SESSIONS))?;
        let verifier = HandshakeVerifier::new(setup.trust.clone(), &self.provider);
        setup.config.dangerous().set_certificate_verifier(verifier.clone());
        setup.verifier = Some(verifier);
        Ok(Some(Arc::new(setup)))
    }

    fn build(&self, key: &TrustKey, resumption: Resumption) -> Result<TlsSetup, TlsSetupError> {
        let trust = match key {
            TrustKey::Anyone => Trust::Anyone,
            TrustKey::SignedBy(trust) => {
                let (roots, trusted) = root_store(trust)?;
                let subjects = roots.roots.iter().map(|anchor| anchor.subject.to_vec()).collect();
                let by_chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone());
                Trust::Anchored(Arc::new(Anchors { by_chain: by_chain.build()?, trusted, subjects }))
            }
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(HandshakeVerifier::new(trust.clone(), &self.provider))
            .with_no_client_auth();
        config.resumption = resumption;
        Ok(TlsSetup { config, trust, verifier: None })
    }
}

/// The authorities, and the certificates of the user's own ones.
fn root_store(anchors: &TrustAnchors) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsSetupError> {
    match anchors {
        TrustAnchors::WellKnown => Ok((webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(), vec![])),
        TrustAnchors::Pem(pem) => {
            let certificates: Vec<CertificateDer<'static>> =
                CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(TlsSetupError::Malformed)?;
            let mut roots = RootCertStore::empty();
            let (usable, _) = roots.add_parsable_certificates(certificates.iter().cloned());
            if usable == 0 {
                return Err(TlsSetupError::NoCertificate);
            }
            Ok((roots, certificates))
        }
    }
}

impl TlsSetup {
    /// Performs the handshake. The second value is the first expiry among the served certificates,
    /// also of a refused one.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        server_name: &str,
    ) -> (Result<Box<TlsStream<TcpStream>>, TlsFailure>, Option<NotAfter>) {
        let name = match (ServerName::try_from(server_name.trim_end_matches('.')), stream.peer_addr()) {
            (Ok(name), _) => name.to_owned(),
            // The name is not verified. Of an address, none is sent (RFC 6066 §3).
            (Err(_), Ok(peer)) if !self.trust.is_verified() => ServerName::IpAddress(peer.ip().into()),
            (Err(_), Ok(_) | Err(_)) => return (Err(TlsFailure::impossible_name(server_name)), None),
        };
        // A copy of a few pointers, with this handshake's own place for the served certificate's expiry.
        let mut config = self.config.clone();
        let verifier = if let Some(verifier) = &self.verifier {
            verifier.clone()
        } else {
            let verifier = HandshakeVerifier::new(self.trust.clone(), config.crypto_provider());
            config.dangerous().set_certificate_verifier(verifier.clone());
            verifier
        };
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let seen = std::mem::take(&mut *verifier.seen.lock().unwrap_or_else(PoisonError::into_inner));
        (stream.map(Box::new).map_err(|error| TlsFailure::of(&error, seen.refusal)), seen.not_after)
    }

    /// Asks what the server speaks, with a hello that offers everything, within `bound`. `None` if
    /// it does not answer in TLS.
    pub async fn ask_what_is_spoken(
        &self,
        mut stream: TcpStream,
        server_name: &str,
        bound: Duration,
    ) -> Option<HelloAnswer> {
        let is_dns_name = matches!(ServerName::try_from(server_name), Ok(ServerName::DnsName(_)));
        let asked = async {
            stream.write_all(&wide_hello(is_dns_name.then_some(server_name))).await.ok()?;
            let mut header = [0; HEADER];
            stream.read_exact(&mut header).await.ok()?;
            let mut content = vec![0; content_length(header)?];
            stream.read_exact(&mut content).await.ok()?;
            // The server may be gone.
            let _ = stream.write_all(&FAREWELL).await;
            answer(header[0], &content)
        };
        tokio::time::timeout(bound, asked).await.ok().flatten()
    }

    /// Explanation for people of what the server chose, if that is nothing that probes speak.
    pub fn explain_choice(&self, chosen: HelloAnswer) -> Option<String> {
        let HelloAnswer::Chosen { version, suite } = chosen else { return None };
        if chosen.is_spoken(&self.config.crypto_provider().cipher_suites) {
            return None;
        }
        let version_name = version_name(version);
        Some(if version < 0x0303 {
            format!("the server speaks only {version_name}, which probes do not speak")
        } else {
            format!("the server speaks only {version_name} with {}, which probes do not speak", suite_name(suite))
        })
    }
}

/// Explanation for people of a handshake with nothing in common.
pub(super) const NOTHING_IN_COMMON: &str =
    "the server speaks no TLS that probes speak (1.2 or 1.3, ECDHE, AES-GCM or ChaCha20)";

impl TlsFailure {
    fn new(class: EvidenceClass, what: impl Into<String>) -> Self {
        Self { class, what: bounded(&what.into(), 200), mismatch: Mismatch::No }
    }

    fn impossible_name(name: &str) -> Self {
        let what = format!("no certificate can be for {name}, which is no DNS name or address");
        Self::new(EvidenceClass::CertificateInvalid, what)
    }

    /// Classifies an error of tokio-rustls. `refusal` is the reason for which a certificate was refused.
    #[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream")]
    pub fn of(error: &io::Error, refusal: Option<String>) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(inner) = inner else { return Self::of_connection(error) };
        let failed = EvidenceClass::TlsFailed;
        match inner {
            rustls::Error::InvalidCertificate(error) => {
                let mismatch = if is_signature_unknown(error) { Mismatch::Signature } else { Mismatch::No };
                let what = refusal.unwrap_or_else(|| describe(error));
                Self { mismatch, ..Self::new(EvidenceClass::CertificateInvalid, what) }
            }
            rustls::Error::NoCertificatesPresented => {
                Self::new(EvidenceClass::CertificateInvalid, "the server presented no certificate")
            }
            rustls::Error::InvalidMessage(_) => Self::new(failed, "the server does not answer in TLS"),
            rustls::Error::PeerIncompatible(_) => {
                Self { mismatch: Mismatch::Certain, ..Self::new(failed, NOTHING_IN_COMMON) }
            }
            rustls::Error::AlertReceived(alert) => {
                let what = format!("the server refused the handshake: {}", alert_name(*alert));
                Self { mismatch: mismatch_of(*alert), ..Self::new(failed, what) }
            }
            rustls::Error::PeerMisbehaved(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::PeerSentOversizedRecord => Self::new(failed, "the server breaks the rules of TLS"),
            rustls::Error::DecryptError => Self::new(failed, "the server's TLS cannot be decrypted"),
            _ => Self::new(failed, "the handshake failed"),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream")]
    fn of_connection(error: &io::Error) -> Self {
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => "connection closed during the handshake",
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                "connection reset during the handshake"
            }
            _ => return Self::new(EvidenceClass::TlsFailed, error.to_string()),
        };
        Self { mismatch: Mismatch::Possible, ..Self::new(EvidenceClass::ConnectionLost, what) }
    }
}

/// Returns true if a certificate was refused only because rustls does not know how it is signed.
fn is_signature_unknown(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
    )
}

#[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream")]
fn mismatch_of(alert: AlertDescription) -> Mismatch {
    match alert {
        AlertDescription::ProtocolVersion => Mismatch::Certain,
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Mismatch::Likely,
        _ => Mismatch::No,
    }
}

/// Name of an alert in words: `handshake failure (alert 40)`.
fn alert_name(alert: AlertDescription) -> String {
    let number = u8::from(alert);
    if let AlertDescription::Unknown(_) = alert {
        return format!("alert {number}");
    }
    let mut words = String::new();
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() && !words.ends_with(|last: char| last.is_ascii_uppercase())
        {
            words.push(' ');
        }
        words.push(letter);
    }
    format!("{} (alert {number})", words.to_ascii_lowercase())
}

/// Certificates that are accepted.
#[derive(Clone, Debug)]
enum Trust {
    /// Every certificate, as `mode: Opportunistic` wants it: encryption without authentication (RFC 7435).
    Anyone,
    /// Those that the trust anchors vouch for.
    Anchored(Arc<Anchors>),
}

/// Trust anchors of a backend.
///
/// A certificate is trusted because the user's authority file holds it, and any other one by its chain. A self-signed
/// certificate as `openssl req -x509` makes it says that it is an authority's. By RFC 5280 a server cannot use such a
/// one, and every client but rustls accepts it from a server if it is trusted itself.
// ADR-0078: A certificate that is itself configured is trusted.
#[derive(Debug)]
struct Anchors {
    by_chain: Arc<WebPkiServerVerifier>,
    /// Certificates in the user's file.
    trusted: Vec<CertificateDer<'static>>,
    /// Subjects of the authorities, without the header of the encoding.
    subjects: Vec<Vec<u8>>,
}

impl Trust {
    fn is_verified(&self) -> bool {
        matches!(self, Self::Anchored(_))
    }

    fn subjects(&self) -> &[Vec<u8>] {
        match self {
            Self::Anyone => &[],
            Self::Anchored(anchors) => &anchors.subjects,
        }
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Self::Anchored(anchors) = self else { return Ok(()) };
        match anchors.by_chain.verify_server_cert(end_entity, intermediates, name, ocsp_response, now) {
            Ok(_) => Ok(()),
            Err(error) if is_about_the_chain(&error) && anchors.trusted.contains(end_entity) => {
                verify_trusted(end_entity, name, now)
            }
            Err(error) => Err(error),
        }
    }
}

/// Verifies a certificate that is trusted itself: its validity, its purpose and its name. The server proves by the
/// handshake's signature that it has the key.
fn verify_trusted(certificate: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
    let at = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if at < not_before.timestamp() {
        let not_before = unix(not_before.timestamp());
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if at > not_after.timestamp() {
        return Err(CertificateError::ExpiredContext { time: now, not_after: unix(not_after.timestamp()) }.into());
    }
    let usage = parsed.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
}

fn unix(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Returns true if a certificate was refused for its place in the chain only.
#[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream")]
fn is_about_the_chain(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

/// Observations about the certificates of one handshake.
#[derive(Debug, Default)]
struct Seen {
    /// First expiry among them.
    not_after: Option<NotAfter>,
    /// Reason for which they were refused, for people.
    refusal: Option<String>,
}

/// Verifier of one handshake, which records what it sees of the served certificates.
#[derive(Debug)]
struct HandshakeVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Seen>,
}

impl HandshakeVerifier {
    fn new(trust: Trust, provider: &CryptoProvider) -> Arc<Self> {
        let algorithms = provider.signature_verification_algorithms;
        Arc::new(Self { trust, algorithms, seen: Mutex::default() })
    }
}

impl ServerCertVerifier for HandshakeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = self.trust.verify(end_entity, intermediates, server_name, ocsp_response, now);
        if let Some(chain) = PresentedChain::parse(end_entity, intermediates) {
            let refusal = match &result {
                Err(rustls::Error::InvalidCertificate(error)) => Some(chain.describe(error)),
                Ok(()) | Err(_) => None,
            };
            let not_after = Some(chain.not_after(self.trust.subjects()));
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen { not_after, refusal };
        }
        result.map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.trust.is_verified() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if !self.trust.is_verified() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(mode: TlsMode, trust: TrustAnchors) -> Tls {
        Tls { mode, server_name: "mx.example.com".into(), trust }
    }

    fn pem() -> Arc<[u8]> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["ca.example.com".to_owned()]).unwrap().self_signed(&key);
        certificate.unwrap().pem().into_bytes().into()
    }

    #[test]
    fn setups_are_shared_by_content_and_live_as_long_as_they_are_used() {
        let setups = TlsSetups::default();
        let pem = pem();
        let copy: Arc<[u8]> = pem.to_vec().into();
        let one = setups.setup(&tls(TlsMode::StartTls, TrustAnchors::Pem(pem))).unwrap().unwrap();
        let same = setups.setup(&tls(TlsMode::Implicit, TrustAnchors::Pem(copy))).unwrap().unwrap();
        let other = setups.setup(&tls(TlsMode::StartTls, TrustAnchors::WellKnown)).unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        assert_eq!(setups.in_use.lock().unwrap().len(), 2);
        drop((one, same, other));
        let _anyone = setups.setup(&tls(TlsMode::Opportunistic, TrustAnchors::WellKnown)).unwrap().unwrap();
        assert_eq!(setups.in_use.lock().unwrap().len(), 1);
        assert!(setups.setup(&tls(TlsMode::None, TrustAnchors::WellKnown)).unwrap().is_none());
    }

    #[test]
    fn unusable_authorities_are_said_to_be_so() {
        let setups = TlsSetups::default();
        let nonsense = b"-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n".as_slice();
        for (text, says) in [
            (b"".as_slice(), "no usable certificate"),
            (b"no PEM".as_slice(), "no usable certificate"),
            (nonsense, "no usable certificate"),
            (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".as_slice(), "malformed"),
        ] {
            let error = setups.setup(&tls(TlsMode::StartTls, TrustAnchors::Pem(text.into()))).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
