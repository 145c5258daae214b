//! Files that name the domains which Postfix delivers by its own rules: read at the start, and again when they change.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::domains::{DomainSet, DomainTable, LocalDomains};

/// Limit of such a file: some hundred thousand domains.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Pause between two looks at the files.
const PAUSE: Duration = Duration::from_secs(2);
/// Number of further reads after a change.
// A second change within the file system's clock tick leaves no other trace.
const READS_AFTER_CHANGE: u32 = 2;

/// Error of a file that names domains.
#[derive(Debug, thiserror::Error)]
pub enum DomainFileError {
    /// The operating system does not give it out.
    #[error("the domains in {} cannot be read: {source}; name a text file that this user may read", file.display())]
    Unreadable {
        /// Path of the file.
        file: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// There is more in it than can be a list of domains.
    #[error("{} is longer than {MAX_BYTES} bytes, too long for a list of domains", .0.display())]
    TooLong(PathBuf),
}

/// Reads a text file within its limit.
///
/// # Errors
/// [`DomainFileError`], with the path.
pub fn read(file: &Path) -> Result<String, DomainFileError> {
    let mut bytes = vec![];
    File::open(file)
        .and_then(|opened| opened.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|source| DomainFileError::Unreadable { file: file.to_owned(), source })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(DomainFileError::TooLong(file.to_owned()));
    }
    // A comment may be in any encoding.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads the domains of each file.
///
/// # Errors
/// [`DomainFileError`] of the first that cannot be read.
pub fn load(tables: &[DomainTable]) -> Result<Vec<DomainSet>, DomainFileError> {
    tables.iter().map(|table| Ok(table.domains(&read(&table.file)?))).collect()
}

/// Reads the files again when they change, until the process ends. A file that cannot be read, or has no domain in it
/// any more, leaves its last good domains in force.
pub async fn follow(tables: Vec<DomainTable>, domains: LocalDomains) {
    let mut followed: Vec<FollowedTable> = tables.into_iter().map(FollowedTable::new).collect();
    let mut pause = interval(PAUSE);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        let domains = domains.clone();
        // A file system that hangs keeps this task waiting, and nobody else.
        let looks = tokio::task::spawn_blocking(move || {
            for (at, table) in followed.iter_mut().enumerate() {
                table.look(at, &domains);
            }
            followed
        });
        let Ok(looked) = looks.await else { return };
        followed = looked;
    }
}

/// Attributes that tell one state of a file from another without reading it.
type Fingerprint = (u64, u64, u64, (i64, i64), (i64, i64));

#[derive(Debug)]
struct FollowedTable {
    table: DomainTable,
    seen: Option<Fingerprint>,
    reads_left: u32,
    is_in_trouble: bool,
}

impl FollowedTable {
    fn new(table: DomainTable) -> Self {
        Self { table, seen: None, reads_left: 0, is_in_trouble: false }
    }

    /// Looks at the file and takes what is new. Blocks.
    fn look(&mut self, at: usize, domains: &LocalDomains) {
        let file = &self.table.file;
        let fingerprint = fs::metadata(file).ok().map(|metadata| {
            let (changed, modified) =
                ((metadata.ctime(), metadata.ctime_nsec()), (metadata.mtime(), metadata.mtime_nsec()));
            (metadata.dev(), metadata.ino(), metadata.len(), modified, changed)
        });
        if fingerprint.is_none() || fingerprint != self.seen {
            self.seen = fingerprint;
            self.reads_left = READS_AFTER_CHANGE;
        } else if self.reads_left == 0 {
            return;
        } else {
            self.reads_left -= 1;
        }
        let trouble = match read(file).map(|text| self.table.domains(&text)) {
            // A file that is being written anew is empty for a moment, and all hosted mail would leave.
            Ok(set) if set.is_empty() => Some("no domain is in it".to_owned()),
            Ok(set) => {
                let count = set.len();
                if domains.replace(at, set) {
                    tracing::info!(file = %file.display(), count, "the domains that Postfix delivers itself are read anew");
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if let (Some(why), false) = (&trouble, self.is_in_trouble) {
            tracing::warn!(file = %file.display(), why, "the domains that were read before stay in force");
        }
        self.is_in_trouble = trouble.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_failover_dataplane::testing::Folder;

    #[test]
    fn a_file_is_read_again_when_it_changes_and_its_last_good_domains_stay() {
        let folder = Folder::new();
        let file = folder.path().join("domains");
        let table = DomainTable { file: file.clone(), with_subdomains: false };
        let error = load(std::slice::from_ref(&table)).unwrap_err().to_string();
        assert!(error.contains("domains cannot be read: "), "{error}");

        fs::write(&file, "one.example OK\n").unwrap();
        let domains = LocalDomains::default().with_files(load(std::slice::from_ref(&table)).unwrap());
        let mut followed = FollowedTable::new(table);
        let local = |domain: &str| domains.contain(domain);
        assert!(local("one.example"));
        fs::write(&file, "two.example OK\n").unwrap();
        followed.look(0, &domains);
        assert!(local("two.example") && !local("one.example"));
        fs::write(&file, "").unwrap();
        followed.look(0, &domains);
        assert!(local("two.example") && followed.is_in_trouble, "it is being written, or was emptied by mistake");
        fs::remove_file(&file).unwrap();
        followed.look(0, &domains);
        assert!(local("two.example") && followed.is_in_trouble);
        fs::write(&file, "three.example OK\n").unwrap();
        followed.look(0, &domains);
        assert!(local("three.example") && !followed.is_in_trouble);
    }

    #[test]
    fn too_long_a_file_is_refused_and_not_kept_in_memory() {
        let folder = Folder::new();
        let file = folder.path().join("domains");
        File::create(&file).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(read(&file), Err(DomainFileError::TooLong(_))));
    }
}
