//! Logins of applications, from a mounted Secret: each file is a user, and its content the password.

use std::collections::{BTreeMap, BTreeSet};
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

/// Users as they were read, and those that cannot log in.
#[derive(Debug, Default)]
pub struct ReadAccounts {
    /// Users that can log in.
    pub accounts: Accounts,
    /// Errors of the others, by the order of their names.
    pub unusable: Vec<UserError>,
}

/// Error of users that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read: {source}")]
pub struct AccountsError {
    /// Path of the folder.
    pub path: String,
    /// Error of the operating system.
    pub source: io::Error,
}

/// Error of one user, who cannot log in. Its text quotes nothing of the file.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Io {
        /// Path of the file.
        path: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file holds no password.
    #[error("{path}: {source}")]
    Content {
        /// Path of the file.
        path: String,
        /// Error of the content.
        source: LoginError,
    },
    /// There are too many users.
    #[error("{path}: it is beyond the {MAX_USERS} users that are allowed; remove others")]
    TooMany {
        /// Path of the file.
        path: String,
    },
}

impl Accounts {
    /// Reads the users in a folder, as a Secret is mounted. A file that is gone is a user who cannot log in any more; one
    /// that cannot be used concerns its own user alone. Blocks.
    ///
    /// # Errors
    /// When nobody knows which files there are.
    pub fn read(folder: &Path) -> Result<ReadAccounts, AccountsError> {
        let names = names(folder).map_err(|source| AccountsError { path: folder.display().to_string(), source })?;
        let mut read = ReadAccounts::default();
        for name in names {
            let path = folder.join(&name);
            match password(&path) {
                Ok(Some(_)) if read.accounts.0.len() >= MAX_USERS => {
                    read.unusable.push(UserError::TooMany { path: path.display().to_string() });
                }
                Ok(Some(password)) => drop(read.accounts.0.insert(name, hash(&password))),
                // Gone meanwhile, or a folder.
                Ok(None) => {}
                Err(error) => read.unusable.push(error),
            }
        }
        Ok(read)
    }

    /// True if nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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

/// Names of what is in the folder, in their order.
fn names(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // `..data` and the like are the kubelet's.
        if !name.starts_with('.') {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The password in a file. `None` if there is no such file.
fn password(path: &Path) -> Result<Option<String>, UserError> {
    let io_error = |source| UserError::Io { path: path.display().to_string(), source };
    let content = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => fs::read(path),
        Ok(_) => return Ok(None),
        Err(error) => Err(error),
    };
    match content {
        Ok(content) => Login::part(content)
            .map(Some)
            .map_err(|source| UserError::Content { path: path.display().to_string(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(error)),
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
        let accounts = Accounts::read(folder.path()).unwrap().accounts;
        assert!(accounts.knows(&Login::new("shop", "hunter2")));
        for (user, password) in [("shop", "hunter"), ("shop", ""), ("nobody", "hunter2"), ("..data", "x")] {
            assert!(!accounts.knows(&Login::new(user, password)), "{user}");
        }
        assert!(!format!("{accounts:?}").contains("hunter2"));
    }

    #[test]
    fn a_user_whose_file_is_gone_or_of_no_use_cannot_log_in_and_all_others_can() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        for name in ["a", "b", "c"] {
            fs::write(file(name), name).unwrap();
        }
        let users = || {
            let read = Accounts::read(folder.path()).unwrap();
            let known = ["a", "b", "c"].into_iter().filter(|name| read.accounts.knows(&Login::new(*name, *name)));
            let unusable = read.unusable.iter().map(UserError::to_string).collect::<Vec<_>>().join("; ");
            (known.collect::<String>(), unusable)
        };
        assert_eq!(users(), ("abc".to_owned(), String::new()));
        // An empty one does not freeze what was known of it or of others.
        fs::write(file("b"), "").unwrap();
        fs::remove_file(file("c")).unwrap();
        let (known, unusable) = users();
        assert!(known == "a" && unusable.contains("/b: it is empty"), "{known}: {unusable}");
        fs::write(file("c"), "c").unwrap();
        assert_eq!(users().0, "ac");
        // The last one, too.
        for name in ["a", "b", "c"] {
            fs::remove_file(file(name)).unwrap();
        }
        assert_eq!(users(), (String::new(), String::new()));
        // Of a folder that is not there nobody knows what is in it.
        let error = Accounts::read(&file("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere cannot be read"), "{error}");
    }

    #[test]
    fn of_too_many_users_the_first_can_log_in() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MAX_USERS + 2 {
            fs::write(folder.path().join(format!("u{number:05}")), "hunter2").unwrap();
        }
        let read = Accounts::read(folder.path()).unwrap();
        assert!(read.accounts.knows(&Login::new("u00999", "hunter2")));
        assert!(!read.accounts.knows(&Login::new("u01000", "hunter2")));
        assert!(matches!(&read.unusable[..], [UserError::TooMany { .. }, UserError::TooMany { .. }]));
    }
}
