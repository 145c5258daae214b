//! Certificates of private authorities, as files that Postfix can read.
//!
//! smtp(8) opens a policy's `tafile` when it asks for the policy. On Debian it has changed its root to the queue
//! directory by then. So the files lie in the queue directory, and Postfix is given the path relative to it: that path
//! is right with and without a chroot. A file is named after the hash of its content and never changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail_failover_contract::routing::{RouteBackend, TlsPolicy};
use tokio::task::JoinError;

use super::folder::{FOLDER, WriteError, write};
use mail_failover_dataplane::store::sha256;

/// The folder in [`FOLDER`].
const SUBFOLDER: &str = "ca";

/// The private authorities of these backends, as PEM texts.
pub fn of<'a>(backends: impl Iterator<Item = &'a RouteBackend>) -> BTreeSet<Arc<str>> {
    backends.filter_map(authority).cloned().collect()
}

/// Error of an authority that Postfix cannot read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The file cannot be written.
    #[error(transparent)]
    Write(Arc<WriteError>),
    /// The writing task has panicked.
    #[error(transparent)]
    Task(Arc<JoinError>),
    /// The file could not be written in time.
    #[error("the disk does not answer")]
    Deadline,
}

/// Path of each authority's file relative to the queue directory, or the error of writing it, by PEM text.
pub type AuthorityFiles = BTreeMap<Arc<str>, Result<PathBuf, AuthorityError>>;

/// Writes the missing files and removes those that are no longer needed.
pub fn provide(queue_directory: &Path, authorities: &BTreeSet<Arc<str>>) -> AuthorityFiles {
    let mut provided = AuthorityFiles::new();
    for pem in authorities {
        let relative = Path::new(FOLDER).join(SUBFOLDER).join(format!("{}.pem", sha256(pem.as_bytes())));
        let written = write(&queue_directory.join(&relative), pem);
        let file = written.map(|()| relative).map_err(|error| AuthorityError::Write(Arc::new(error)));
        provided.insert(pem.clone(), file);
    }
    remove_others(queue_directory, &provided);
    provided
}

/// Removes the files of all other authorities.
fn remove_others(queue_directory: &Path, kept: &AuthorityFiles) {
    let kept: BTreeSet<_> = kept.values().flatten().map(|relative| queue_directory.join(relative)).collect();
    let Ok(entries) = fs::read_dir(queue_directory.join(FOLDER).join(SUBFOLDER)) else { return };
    for file in entries.flatten().map(|entry| entry.path()).filter(|file| !kept.contains(file)) {
        if let Err(error) = fs::remove_file(&file) {
            tracing::debug!(file = %file.display(), %error, "an authority that nobody needs stays");
        }
    }
}

fn authority(backend: &RouteBackend) -> Option<&Arc<str>> {
    match &backend.tls {
        TlsPolicy::StartTls(verification) | TlsPolicy::Implicit(verification) => verification.ca.as_ref(),
        TlsPolicy::None | TlsPolicy::Opportunistic => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use mail_failover_contract::routing::{NextHop, Verification};
    use mail_failover_dataplane::testing::Folder;

    fn backend(ca: &str) -> RouteBackend {
        let next_hop = NextHop { host: "a".into(), port: 25 };
        let tls = TlsPolicy::StartTls(Verification { server_name: "a".into(), ca: Some(ca.into()) });
        RouteBackend {
            name: "a".into(),
            percent: 100,
            standby: true,
            alternate: true,
            trial: false,
            interval: None,
            messages_per_day: None,
            connections: None,
            messages_per_connection: None,
            next_hop,
            tls,
            secret: None,
            sender_domains: vec![],
            rulebook: Arc::default(),
        }
    }

    #[test]
    fn each_authority_has_a_file_that_everybody_may_read() {
        let folder = Folder::new();
        let backends = [backend("ONE"), backend("TWO"), backend("ONE")];
        let provided = provide(folder.path(), &of(backends.iter()));
        assert_eq!(provided.len(), 2);
        for (pem, file) in &provided {
            let relative = file.as_ref().unwrap();
            assert!(relative.starts_with("mail-failover/ca"), "{}", relative.display());
            let file = folder.path().join(relative);
            assert_eq!(fs::read_to_string(&file).unwrap(), **pem);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
            assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o755);
        }
        provide(folder.path(), &of(backends[..1].iter()));
        assert_eq!(fs::read_dir(folder.path().join("mail-failover/ca")).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_written_again() {
        let folder = Folder::new();
        let file = folder.path().join(provide(folder.path(), &of([backend("ONE")].iter()))["ONE"].as_ref().unwrap());
        fs::write(&file, "garbage").unwrap();
        provide(folder.path(), &of([backend("ONE")].iter()));
        assert_eq!(fs::read_to_string(&file).unwrap(), "ONE");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let folder = Folder::new();
        let provided = provide(&folder.path().join("nowhere"), &of([backend("ONE")].iter()));
        let error = provided["ONE"].as_ref().unwrap_err().to_string();
        assert!(error.contains("nowhere/mail-failover/ca/") && error.contains("cannot be written"), "{error}");
    }
}
