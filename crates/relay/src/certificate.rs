//! Certificate of the relay, from a folder as cert-manager and the kubelet fill it: `tls.crt` and `tls.key`.
//!
//! The files are looked at again and again. A new certificate serves the next handshake; while the files cannot be used,
//! the last good one stays.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

/// Pause between two looks at the files.
const LOOK: Duration = Duration::from_secs(5);
/// Most octets that are read of a file.
const MAX_FILE: u64 = 1024 * 1024;

/// Error of a certificate that cannot be used. No text of it holds a part of the key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Io {
        /// Path of the file.
        path: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{path} is no PEM of the right kind: {source}")]
    Pem {
        /// Path of the file.
        path: String,
        /// Error of the text.
        source: pem::Error,
    },
    /// Certificate and key do not fit, or are of a kind that is not served.
    #[error("tls.crt and tls.key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Files of the certificate, as they were read.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(folder: &Path) -> Result<Self, CertificateError> {
        Ok(Self { certificate: read(&folder.join("tls.crt"))?, key: read(&folder.join("tls.key"))? })
    }

    fn config(&self, folder: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
        let pem_error =
            |name: &str, source| CertificateError::Pem { path: folder.join(name).display().to_string(), source };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| pem_error("tls.crt", error))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| pem_error("tls.key", error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    use io::Read as _;
    let mut content = vec![];
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut content))
        .map_err(|source| CertificateError::Io { path: path.display().to_string(), source })?;
    Ok(content)
}

/// Follower of the files.
pub struct CertificateFollower {
    folder: PathBuf,
    files: Files,
    config: watch::Sender<Arc<ServerConfig>>,
}

impl CertificateFollower {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// [`CertificateError`]
    pub fn new(folder: PathBuf) -> Result<(Self, watch::Receiver<Arc<ServerConfig>>), CertificateError> {
        let files = Files::read(&folder)?;
        let (config, receiver) = watch::channel(files.config(&folder)?);
        Ok((Self { folder, files, config }, receiver))
    }

    /// Looks at the files until nobody wants the certificate any more.
    pub async fn follow(mut self) {
        let mut told = String::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.config.closed() => return,
            }
            let looked = tokio::task::spawn_blocking(move || {
                let renewed = self.look();
                (self, renewed)
            });
            let Ok((follower, renewed)) = looked.await else { return };
            self = follower;
            match renewed {
                Ok(true) => tracing::info!("the certificate is renewed"),
                Err(error) if error.to_string() != told => {
                    told = error.to_string();
                    tracing::warn!(%error, "the certificate cannot be renewed; the last good one stays");
                }
                Ok(false) | Err(_) => {}
            }
        }
    }

    /// Takes the files if they have changed. Returns true if they have. Blocks.
    fn look(&mut self) -> Result<bool, CertificateError> {
        let files = Files::read(&self.folder)?;
        if files == self.files {
            return Ok(false);
        }
        let config = files.config(&self.folder)?;
        self.config.send_replace(config);
        self.files = files;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn write(folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["relay.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(CertificateFollower::new(folder.path().to_owned()), Err(CertificateError::Io { .. })));
        write(folder.path());
        let (mut follower, receiver) = CertificateFollower::new(folder.path().to_owned()).unwrap();
        let first = receiver.borrow().clone();
        assert!(!follower.look().unwrap());
        write(folder.path());
        assert!(follower.look().unwrap() && !Arc::ptr_eq(&first, &receiver.borrow()));
        let second = receiver.borrow().clone();
        std::fs::write(folder.path().join("tls.key"), "-----BEGIN PRIVATE KEY-----\nsecret").unwrap();
        let error = follower.look().unwrap_err().to_string();
        assert!(error.contains("tls.key") && !error.contains("secret"), "{error}");
        assert!(Arc::ptr_eq(&second, &receiver.borrow()));
    }
}
