//! State that survives a restart: the last good document, and the memory of the core.
//!
//! Each record is a file of its own, replaced in one step. The first line of a file names the record and the hash of
//! its content. A damaged file counts as missing. Architecture invariant: nothing secret is saved.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mail_failover_contract::document::MAX_BYTES;

/// First words of every file. Another number means another meaning of the rest.
const MAGIC: &str = "mail-failover-agent-state 1";
/// Bytes that are read of a file: more than any record with its first line.
const MAX_FILE: u64 = MAX_BYTES as u64 + 4_096;

/// Record of the saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateRecord {
    /// The last good document.
    Document,
    /// Memory of the core.
    Memory,
}

impl StateRecord {
    /// All records that there are.
    pub const ALL: [Self; 2] = [Self::Document, Self::Memory];

    /// The name of its file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Memory => "memory",
        }
    }
}

/// Reason why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The operating system does not give it out.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The file is not as it was written.
    #[error("{0}")]
    Corrupt(&'static str),
}

/// Name of the file that is locked while a process keeps its state in a folder.
const LOCK: &str = "lock";

/// Error of a folder in which another process keeps its state.
#[derive(Debug, thiserror::Error)]
#[error("another process keeps its state in {}; give each agent and each relay a folder of its own with --state-directory", .0.display())]
pub struct FolderInUse(PathBuf);

/// Claim on a folder, until it is dropped.
#[derive(Debug)]
pub struct FolderLock {
    /// The lock ends with the open file, and so with the process, whatever ends it.
    _file: File,
}

/// A folder of records.
#[derive(Clone, Debug)]
pub struct StateStore {
    folder: PathBuf,
}

impl StateStore {
    /// Store of records in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Claims the folder, so that no second process overwrites what this one keeps. `None` where nothing can be written
    /// there: then nothing is kept either, and mail goes on.
    ///
    /// # Errors
    /// [`FolderInUse`], with the folder.
    pub fn lock(&self) -> Result<Option<FolderLock>, FolderInUse> {
        let file = fs::create_dir_all(&self.folder)
            .and_then(|()| OpenOptions::new().create(true).append(true).mode(0o600).open(self.folder.join(LOCK)));
        let error = match file.map(|file| (file.try_lock(), file)) {
            Ok((Ok(()), file)) => return Ok(Some(FolderLock { _file: file })),
            Ok((Err(TryLockError::WouldBlock), _)) => return Err(FolderInUse(self.folder.clone())),
            Ok((Err(TryLockError::Error(error)), _)) | Err(error) => error,
        };
        tracing::warn!(folder = %self.folder.display(), %error, "the folder of the state cannot be locked");
        Ok(None)
    }

    /// Returns the path of a record.
    pub fn path(&self, record: StateRecord) -> PathBuf {
        self.folder.join(record.as_str())
    }

    /// Loads the last saved content; `None` if there is none.
    ///
    /// # Errors
    /// [`RecordError`]: there is a file, and it cannot be used.
    pub fn load(&self, record: StateRecord) -> Result<Option<String>, RecordError> {
        let mut bytes = vec![];
        match File::open(self.path(record)).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)) {
            Ok(_) => unsealed(record, bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(RecordError::Unreadable(error)),
        }
    }

    /// Saves a record. Once this returns, the record survives a loss of power; until then the one before does.
    ///
    /// # Errors
    /// When the disk does not take it. The one before is untouched then.
    pub fn save(&self, record: StateRecord, content: &str) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        replace(&self.path(record), sealed(record, content).as_bytes(), 0o600)
    }
}

fn sealed(record: StateRecord, content: &str) -> String {
    format!("{MAGIC} {} {} {}\n{content}", record.as_str(), content.len(), sha256(content.as_bytes()))
}

fn unsealed(record: StateRecord, bytes: Vec<u8>) -> Result<String, RecordError> {
    let text = String::from_utf8(bytes).map_err(|_| RecordError::Corrupt("it is no text"))?;
    let (seal, content) = text.split_once('\n').ok_or(RecordError::Corrupt("it has no first line"))?;
    let seal = seal.strip_prefix(MAGIC).ok_or(RecordError::Corrupt("it is of another version or of something else"))?;
    let want = format!(" {} {} {}", record.as_str(), content.len(), sha256(content.as_bytes()));
    if seal == want { Ok(content.to_owned()) } else { Err(RecordError::Corrupt("its content is not what was written")) }
}

/// Returns the SHA-256 in lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Replaces a file in one step. Readers find all of the old or all of the new content, after a loss of power as well.
///
/// # Errors
/// When the disk does not take it. The old content is untouched then.
pub fn replace(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = write_new(&new, content, mode).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // On a full disk it would take the room that the next attempt needs.
        let _ = fs::remove_file(&new);
    }
    written?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn write_new(new: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(new)?;
    file.write_all(content)?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
