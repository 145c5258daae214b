//! TLS with a backend: trust anchors, the description of a refused certificate, and the expiry of the served one.
//!
//! Certificates are verified for name, chain and validity, unless the user wrote `mode: Opportunistic`. The crypto
//! provider is ring, named here and independent of the process's default. Sessions are never resumed: a resumed
//! handshake shows no certificate.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::message::{bounded, date};
use mail_failover_core::model::{EvidenceClass, Timestamp, Tls, TlsMode, TrustAnchors};

/// TLS client configuration for one set of trust anchors, shared by all targets that have the same.
#[derive(Debug)]
pub struct TlsSetup {
    config: ClientConfig,
    verifier: Arc<dyn ServerCertVerifier>,
    verifies: bool,
}

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
        let setup = Arc::new(self.build(&key)?);
        in_use.retain(|_, setup| setup.strong_count() > 0);
        in_use.insert(key, Arc::downgrade(&setup));
        Ok(Some(setup))
    }

    fn build(&self, key: &TrustKey) -> Result<TlsSetup, TlsSetupError> {
        let verifier: Arc<dyn ServerCertVerifier> = match key {
            TrustKey::Anyone => Arc::new(AcceptAnyone { provider: self.provider.clone() }),
            TrustKey::SignedBy(anchors) => {
                let roots = Arc::new(root_store(anchors)?);
                WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone()).build()?
            }
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        // rustls would not resume with another verifier anyhow, and each handshake has its own; this also keeps no
        // tickets.
        config.resumption = Resumption::disabled();
        Ok(TlsSetup { config, verifier, verifies: *key != TrustKey::Anyone })
    }
}

fn root_store(anchors: &TrustAnchors) -> Result<RootCertStore, TlsSetupError> {
    match anchors {
        TrustAnchors::WellKnown => Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()),
        TrustAnchors::Pem(pem) => {
            let certificates: Vec<CertificateDer<'static>> =
                CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(TlsSetupError::Malformed)?;
            let mut roots = RootCertStore::empty();
            let (usable, _) = roots.add_parsable_certificates(certificates);
            if usable == 0 {
                return Err(TlsSetupError::NoCertificate);
            }
            Ok(roots)
        }
    }
}

impl TlsSetup {
    /// Performs the handshake. The second value is the expiry of the served certificate, also of a refused one.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        server_name: &str,
    ) -> (Result<Box<TlsStream<TcpStream>>, TlsFailure>, Option<Timestamp>) {
        let name = match (ServerName::try_from(server_name.trim_end_matches('.')), stream.peer_addr()) {
            (Ok(name), _) => name.to_owned(),
            // The name is not verified. Of an address, none is sent (RFC 6066 §3).
            (Err(_), Ok(peer)) if !self.verifies => ServerName::IpAddress(peer.ip().into()),
            (Err(_), Ok(_) | Err(_)) => return (Err(TlsFailure::impossible_name(server_name)), None),
        };
        let served = Arc::new(Served { verifier: self.verifier.clone(), not_after: Mutex::default() });
        // A copy of a few pointers, with this handshake's own place for the served certificate's expiry.
        let mut config = self.config.clone();
        config.dangerous().set_certificate_verifier(served.clone());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let not_after = *served.not_after.lock().unwrap_or_else(PoisonError::into_inner);
        (stream.map(Box::new).map_err(|error| TlsFailure::of(&error)), not_after)
    }
}

impl TlsFailure {
    fn impossible_name(name: &str) -> Self {
        let what = format!("no certificate can be for {name}, which is no DNS name or address");
        Self { class: EvidenceClass::CertificateInvalid, what: bounded(&what, 200) }
    }

    /// Classifies an error of tokio-rustls.
    #[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream")]
    pub fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let (class, what) = match inner {
            Some(rustls::Error::InvalidCertificate(error)) => (EvidenceClass::CertificateInvalid, certificate(error)),
            Some(rustls::Error::NoCertificatesPresented) => {
                (EvidenceClass::CertificateInvalid, "the server presented no certificate".to_owned())
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                (EvidenceClass::TlsFailed, "the server does not answer in TLS".to_owned())
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                (EvidenceClass::TlsFailed, format!("the server refused the handshake: {alert:?}"))
            }
            Some(error) => (EvidenceClass::TlsFailed, error.to_string()),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    (EvidenceClass::ConnectionLost, "connection closed during the handshake".to_owned())
                }
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                    (EvidenceClass::ConnectionLost, "connection reset during the handshake".to_owned())
                }
                _ => (EvidenceClass::TlsFailed, error.to_string()),
            },
        };
        Self { class, what }
    }
}

/// Description of a refused certificate, for people.
#[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream")]
fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "certificate expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => format!("certificate expired on {}", day(*not_after)),
        CertificateError::NotValidYet => "certificate is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate is not valid before {}", day(*not_before))
        }
        CertificateError::UnknownIssuer => "certificate is not signed by a trusted authority".to_owned(),
        CertificateError::NotValidForName => "certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| presented_name(name)).collect();
            let presented = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
            format!("certificate is not for {} but for {}", expected.to_str(), bounded(&presented, 120))
        }
        CertificateError::Revoked => "certificate was revoked".to_owned(),
        CertificateError::BadEncoding => "certificate cannot be parsed".to_owned(),
        CertificateError::BadSignature => "certificate carries a wrong signature".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate is not meant for servers".to_owned()
        }
        // Among what is left is a CA's certificate served as a server's.
        _ => bounded(&format!("certificate refused: {error}"), 200),
    }
}

/// The name within webpki's debug format: `DnsName("mx.example.com")`.
fn presented_name(shown: &str) -> &str {
    shown.split('"').nth(1).unwrap_or(shown)
}

fn day(at: UnixTime) -> String {
    date(timestamp(i64::try_from(at.as_secs()).unwrap_or(i64::MAX)))
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds.saturating_mul(1_000_000))
}

/// Expiry of a certificate.
fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(timestamp(certificate.validity().not_after.timestamp()))
}

/// Verifier that records the served certificate's expiry and delegates to another one.
#[derive(Debug)]
struct Served {
    verifier: Arc<dyn ServerCertVerifier>,
    not_after: Mutex<Option<Timestamp>>,
}

impl ServerCertVerifier for Served {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.not_after.lock().unwrap_or_else(PoisonError::into_inner) = not_after(end_entity);
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Verifier for `mode: Opportunistic`, which accepts every certificate: encryption without authentication (RFC 7435).
#[derive(Debug)]
struct AcceptAnyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
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
