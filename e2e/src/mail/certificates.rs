//! A certificate authority for tests, and certificates that are good, expired, not valid yet, or
//! for another name.
//!
//! It uses no real authority's key, and writes nothing to disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::Result;

const DAY: Duration = Duration::from_hours(24);

/// The time during which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// From yesterday on, for 90 days.
    Valid,
    /// Expired since yesterday.
    Expired,
    /// From tomorrow on.
    NotYetValid,
    /// From the first time until the second.
    Between(SystemTime, SystemTime),
}

impl Validity {
    fn range(self) -> (SystemTime, SystemTime) {
        let now = SystemTime::now();
        match self {
            Self::Valid => (now - DAY, now + 90 * DAY),
            Self::Expired => (now - 90 * DAY, now - DAY),
            Self::NotYetValid => (now + DAY, now + 90 * DAY),
            Self::Between(from, until) => (from, until),
        }
    }
}

/// A certificate authority that signs for the tests' servers.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Creates an authority that nobody trusts yet.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "mail-failover test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// The authority's certificate, as it goes into the `ca.crt` of a `ConfigMap`.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a server certificate for these DNS names and IP addresses.
    pub fn issue(&self, names: &[&str], validity: Validity) -> Result<Identity> {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        let (from, until) = validity.range();
        params.not_before = from.into();
        params.not_after = until.into();
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("nameless"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Identity { chain: vec![certificate.into()], key: Arc::new(key) })
    }

    /// Issues a server certificate for these DNS names. The certificate and its key as PEM, for programs that read them
    /// from files.
    pub fn issue_pem(&self, names: &[&str]) -> Result<(String, String)> {
        let Identity { chain, key } = self.issue(names, Validity::Valid)?;
        let certificate = chain.iter().map(|certificate| pem_of("CERTIFICATE", certificate)).collect();
        Ok((certificate, pem_of("PRIVATE KEY", key.secret_der())))
    }

    /// A client's TLS configuration that trusts this authority only. It resumes no session, so that
    /// each handshake verifies a certificate.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// A PEM block (RFC 7468).
fn pem_of(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A server's certificate and its key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// The certificate and its key in PEM, for servers in other languages.
    pub fn pem(&self) -> String {
        let certificates = self.chain.iter().map(|certificate| pem_of("CERTIFICATE", certificate));
        certificates.chain([pem_of("PRIVATE KEY", self.key.secret_der())]).collect()
    }

    /// A server's TLS configuration with sessions of its own, so that a client that knew another
    /// identity of the same server has to verify this one.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        Ok(Arc::new(config))
    }
}
