//! The keys and certificates of a control plane, made anew for each and valid for a day.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

const LIFETIME: Duration = Duration::from_hours(24);

/// A certificate authority that signs for one control plane.
pub(super) struct ClusterAuthority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl ClusterAuthority {
    /// Creates an authority, and writes its certificate to `ca.crt` in `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = params(Vec::new(), "mail-failover-e2e")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?;
        let authority = Self { folder: folder.to_owned(), issuer: Issuer::new(params, key) };
        write(&authority.certificate(), &certificate.pem())?;
        Ok(authority)
    }

    /// The file with the authority's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Issues a server's certificate for these names and addresses.
    pub fn server(&self, name: &str, subjects: &[&str]) -> Result<CertificateFiles> {
        let mut params = params(subjects.iter().map(ToString::to_string).collect(), name)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(name, &params)
    }

    /// Issues a client's certificate: the API server takes the common name for the user and each
    /// organization for a group.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<CertificateFiles> {
        let mut params = params(Vec::new(), user)?;
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&user.replace([':', '/'], "-"), &params)
    }

    fn sign(&self, file_name: &str, params: &CertificateParams) -> Result<CertificateFiles> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let identity = CertificateFiles {
            certificate: self.folder.join(format!("{file_name}.crt")),
            key: self.folder.join(format!("{file_name}.key")),
        };
        write(&identity.certificate, &certificate.pem())?;
        write(&identity.key, &key.serialize_pem())?;
        Ok(identity)
    }
}

/// Files of the keys that sign and verify the tokens of service accounts.
#[derive(Clone, Debug)]
pub(super) struct TokenKeys {
    pub private: PathBuf,
    pub public: PathBuf,
}

impl TokenKeys {
    /// Creates a pair of keys.
    pub fn new(folder: &Path) -> Result<Self> {
        let keys = Self { private: folder.join("service-accounts.key"), public: folder.join("service-accounts.pub") };
        let pair = KeyPair::generate()?;
        write(&keys.private, &pair.serialize_pem())?;
        write(&keys.public, &pair.public_key_pem())?;
        Ok(keys)
    }
}

fn params(subjects: Vec<String>, common_name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(subjects)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::now();
    // Valid from an earlier time on, since clocks jump.
    params.not_before = (now - Duration::from_hours(1)).into();
    params.not_after = (now + LIFETIME).into();
    Ok(params)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
