//! Certificates of private authorities, as files that Postfix can read.
//!
//! smtp(8) opens a policy's `tafile` when it asks for the policy. On Debian it has changed its root to the queue
//! directory by then. So the files lie in the queue directory, and Postfix is given the path relative to it: that path
//! is right with and without a chroot. A file is named after the hash of its content and never changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{FOLDER, write};
use super::store::sha256;
use mail_failover_contract::routing::{Backend, Tls};

/// The folder in [`FOLDER`].
const SUBFOLDER: &str = "ca";

/// The private authorities of these backends, as PEM texts.
pub fn of<'a>(backends: impl Iterator<Item = &'a Backend>) -> BTreeSet<Arc<str>> {
    backends.filter_map(authority).cloned().collect()
}

/// Writes the missing files, removes those that are no longer needed, and returns the path or the error of each, by PEM
/// text.
pub fn provide(
    queue_directory: &Path,
    authorities: &BTreeSet<Arc<str>>,
) -> BTreeMap<Arc<str>, Result<PathBuf, String>> {
    let provide = |pem: &Arc<str>| {
        let relative = Path::new(FOLDER).join(SUBFOLDER).join(format!("{}.pem", sha256(pem.as_bytes())));
        let file = queue_directory.join(&relative);
        match write(&file, pem) {
            Ok(()) => (pem.clone(), Ok(relative)),
            Err(error) => (pem.clone(), Err(format!("{} cannot be written: {error}", file.display()))),
        }
    };
    let provided = authorities.iter().map(provide).collect();
    remove_others(queue_directory, &provided);
    provided
}

/// Removes the files of all other authorities.
fn remove_others(queue_directory: &Path, kept: &BTreeMap<Arc<str>, Result<PathBuf, String>>) {
    let kept: BTreeSet<_> = kept.values().flatten().map(|relative| queue_directory.join(relative)).collect();
    let Ok(entries) = fs::read_dir(queue_directory.join(FOLDER).join(SUBFOLDER)) else { return };
    for file in entries.flatten().map(|entry| entry.path()).filter(|file| !kept.contains(file)) {
        if let Err(error) = fs::remove_file(&file) {
            tracing::debug!(file = %file.display(), %error, "an authority that nobody needs stays");
        }
    }
}

fn authority(backend: &Backend) -> Option<&Arc<str>> {
    match &backend.tls {
        Tls::StartTls(verification) | Tls::Implicit(verification) => verification.ca.as_ref(),
        Tls::None | Tls::Opportunistic => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Folder;
    use mail_failover_contract::routing::{NextHop, Verification};

    fn backend(ca: &str) -> Backend {
        let next_hop = NextHop { host: "a".into(), port: 25 };
        let tls = Tls::StartTls(Verification { server_name: "a".into(), ca: Some(ca.into()) });
        Backend { name: "a".into(), percent: 100, standby: true, next_hop, tls, secret: None, sender_domains: vec![] }
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
        let error = provided["ONE"].as_ref().unwrap_err();
        assert!(error.contains("nowhere/mail-failover/ca/") && error.contains("cannot be written"), "{error}");
    }
}
