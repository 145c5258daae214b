//! Logins of applications, from a mounted Secret: each file is a user, and its content the password.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use mail_failover_core::model::{Login, LoginError};
use ring::digest::{SHA256, digest};

/// Most users.
const MAX_USERS: usize = 1000;

/// Users and the digests of their passwords. Nothing that can be printed holds a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts(BTreeMap<String, [u8; 32]>);

/// Error of users that cannot be read. Its text quotes nothing of a file.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The folder or a file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Io {
        /// Path of the file.
        path: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A file holds no password.
    #[error("{path}: {source}")]
    Content {
        /// Path of the file.
        path: String,
        /// Error of the content.
        source: LoginError,
    },
    /// There is no user, or there are too many.
    #[error("{path} has {count} users; 1 to {MAX_USERS} are allowed: a file for each, which holds the password")]
    Number {
        /// Path of the folder.
        path: String,
        /// Number of the users.
        count: usize,
    },
}

impl Accounts {
    /// Reads the users in a folder, as a Secret is mounted. Blocks.
    ///
    /// # Errors
    /// [`AccountsError`]
    pub fn read(folder: &Path) -> Result<Self, AccountsError> {
        let io_error = |path: &Path, source| AccountsError::Io { path: path.display().to_string(), source };
        let mut users = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(|error| io_error(folder, error))? {
            let entry = entry.map_err(|error| io_error(folder, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // `..data` and the like are the kubelet's.
            if name.starts_with('.') || !entry.path().is_file() {
                continue;
            }
            let content = fs::read(entry.path()).map_err(|error| io_error(&entry.path(), error))?;
            let password = Login::part(content)
                .map_err(|source| AccountsError::Content { path: entry.path().display().to_string(), source })?;
            users.insert(name, hash(&password));
        }
        if users.is_empty() || users.len() > MAX_USERS {
            return Err(AccountsError::Number { path: folder.display().to_string(), count: users.len() });
        }
        Ok(Self(users))
    }

    /// True if the user has this password. Takes as long for any password, and for users that do not exist.
    pub fn knows(&self, login: &Login) -> bool {
        let given = hash(login.password());
        let nobody = [0; 32];
        let (wanted, exists) = match self.0.get(login.username()) {
            Some(wanted) => (wanted, true),
            None => (&nobody, false),
        };
        let differences = wanted.iter().zip(given).fold(0, |found, (one, other)| found | (one ^ other));
        exists && differences == 0
    }
}

fn hash(password: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(digest(&SHA256, password.as_bytes()).as_ref()) {
        *to = *from;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_a_user() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("shop"), "hunter2\n").unwrap();
        fs::write(folder.path().join("..data"), "x").unwrap();
        let accounts = Accounts::read(folder.path()).unwrap();
        assert!(accounts.knows(&Login::new("shop", "hunter2")));
        for (user, password) in [("shop", "hunter"), ("shop", ""), ("nobody", "hunter2"), ("..data", "x")] {
            assert!(!accounts.knows(&Login::new(user, password)), "{user}");
        }
        assert!(!format!("{accounts:?}").contains("hunter2"));
        fs::remove_file(folder.path().join("shop")).unwrap();
        let error = Accounts::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("0 users"), "{error}");
    }
}
