//! The certificate that a replica shows to agents: made at its start, signed by nobody, its key in memory only.
//!
//! Agents do not trust it for its signature but for its fingerprint, which they read in their document, and that only the operator writes.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use mail_failover_contract::{SERVER_NAME, fingerprint};

/// A certificate with its key, ready to be served.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// SHA-256 of it, in lower-case hexadecimal digits.
    pub fingerprint: String,
    /// A server that shows it.
    pub server: Arc<rustls::ServerConfig>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The key or the certificate could not be made.
    #[error("a certificate for reports cannot be made: {0}")]
    Generate(#[from] rcgen::Error),
    /// It cannot be used for TLS.
    #[error("the certificate for reports cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

impl Certificate {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives out no random bytes, most likely.
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
