//! Folder of the agent in Postfix's queue directory, with the files that Postfix's processes open, chrooted or not.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::postfix_config::SHIELD;
use super::shield;
use mail_failover_dataplane::store::replace;

/// Path of the folder, relative to Postfix's queue directory. Postfix's working directory is the queue directory, with
/// and without a chroot, so every process of Postfix reaches the folder by this path.
pub const FOLDER: &str = "mail-failover";

/// Error of a file in the folder that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written: {source}", file.display())]
pub struct WriteError {
    /// Path of the file.
    pub file: PathBuf,
    /// Error of the operating system.
    pub source: io::Error,
}

/// Writes the static table of the shield, if it is not up to date. The table stays when the agent ends: it protects
/// mail while no agent runs.
///
/// # Errors
/// When the file cannot be written.
pub fn provide_shield(queue_directory: &Path) -> Result<(), WriteError> {
    write(&queue_directory.join(SHIELD), &shield::regexp_table())
}

/// Writes a file that everybody may read, in a folder below the queue directory and in one step. Does nothing if the
/// file has this content already.
pub(super) fn write(file: &Path, content: &str) -> Result<(), WriteError> {
    if fs::read(file).is_ok_and(|there| there == content.as_bytes()) {
        return Ok(());
    }
    make_folders(file)
        .and_then(|()| replace(file, content.as_bytes(), 0o644))
        .map_err(|source| WriteError { file: file.to_owned(), source })
}

fn make_folders(file: &Path) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    for folder in folder.parent().into_iter().chain([folder]) {
        match fs::create_dir(folder) {
            // Whatever the umask is: Postfix's user must come through.
            Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_failover_dataplane::testing::Folder;

    #[test]
    fn the_shield_is_there_for_everybody_and_an_older_one_is_replaced() {
        let folder = Folder::new();
        let file = folder.path().join(SHIELD);
        for _ in 0..2 {
            provide_shield(folder.path()).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), shield::regexp_table());
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
            fs::write(&file, "/old/ 4").unwrap();
        }
        let error = provide_shield(&folder.path().join("no/where")).unwrap_err();
        assert!(error.to_string().contains("no/where/mail-failover/shield.regexp cannot be written"), "{error}");
    }
}
