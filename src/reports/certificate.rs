//! Certificate that a replica shows to agents: self-signed, made at the start, with its key in memory only.
//!
//! Agents trust its fingerprint, not a signature. They read the fingerprint in their document, which only the operator
//! writes.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use mail_failover_contract::{SERVER_NAME, fingerprint};

/// Certificate with its key, ready to be served.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    /// SHA-256 of the certificate, in lower-case hexadecimal digits.
    pub fingerprint: String,
    /// TLS configuration of a server that shows the certificate.
    pub server: Arc<rustls::ServerConfig>,
}

/// Errors of making the certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The key or the certificate could not be made.
    #[error("a certificate for reports cannot be made: {0}")]
    Generate(#[from] rcgen::Error),
    /// TLS refuses the certificate or its key.
    #[error("the certificate for reports cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

impl ServerCertificate {
    /// Generates a key and a certificate for it.
    ///
    /// # Errors
    /// When the system gives out no random bytes, most likely.
    // ADR-0049: Pin a certificate per process by its hash.
    pub fn generate() -> Result<Self, CertificateError> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()])?.self_signed(&key)?;
        let certificate: CertificateDer<'static> = certificate.der().clone();
        let fingerprint = fingerprint(&certificate);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())?;
        Ok(Self { fingerprint, server: Arc::new(server) })
    }
}
