//! Folder of the agent in Postfix's queue directory, with the files that Postfix's processes open, chrooted or not.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::shield;
use super::store::replace;

/// Path of the folder, relative to Postfix's queue directory. Postfix's working directory is the queue directory, with
/// and without a chroot, so every process of Postfix reaches the folder by this path.
pub const FOLDER: &str = "mail-failover";

/// Path of the shield's static table, relative to Postfix's queue directory.
pub const SHIELD: &str = "mail-failover/shield.regexp";

/// Writes the static table of the shield, if it is not up to date. The table stays when the agent ends: it protects
/// mail while no agent runs.
///
/// # Errors
/// When the file cannot be written.
pub fn provide_shield(queue_directory: &Path) -> Result<(), String> {
    let file = queue_directory.join(SHIELD);
    write(&file, &shield::regexp_table()).map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

/// Writes a file that everybody may read, in a folder below the queue directory and in one step. Does nothing if the
/// file has this content already.
pub(super) fn write(file: &Path, content: &str) -> io::Result<()> {
    if fs::read(file).is_ok_and(|there| there == content.as_bytes()) {
        return Ok(());
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    for folder in folder.parent().into_iter().chain([folder]) {
        match fs::create_dir(folder) {
            // Whatever the umask is: Postfix's user must come through.
            Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    replace(file, content.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

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
        assert!(error.contains("no/where/mail-failover/shield.regexp cannot be written"), "{error}");
    }
}
