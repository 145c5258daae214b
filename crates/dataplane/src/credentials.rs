//! Logins from mounted Secrets: `FOLDER/SECRET/username` and `FOLDER/SECRET/password`, or the keys that the backend names.
//!
//! Each query looks at the files, so that a rotated login is used by the next session. While the files cannot be read,
//! the last good login stays in use, in memory. Architecture invariants: a login is written nowhere, and nothing that
//! can be printed holds one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail_failover_core::model::{Login, LoginError, LoginReference};
use mail_failover_runtime::telemetry::metrics::register;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Bytes that are read of a file: one more than a part of a login may have.
const MAX_READ: u64 = Login::MAX_BYTES as u64 + 1;
/// Pause between two looks at the logins that may be asked for, so that a missing one is known before mail needs it.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// Limit for a look at the files. They lie in memory (a mounted Secret) or on a local disk.
const LOOK_DEADLINE: Duration = Duration::from_millis(250);
/// Limit of concurrent looks. A disk that hangs holds one of them.
const LOOKS: usize = 4;

/// Formats a login for `smtp_sasl_password_maps`.
pub fn in_a_password_map(login: &Login) -> String {
    format!("{}:{}", login.username(), login.password())
}

/// Error of a login that cannot be read. Its text names the file, and quotes nothing from it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// One of the two files cannot be used.
    #[error("{}: {source}", file.display())]
    File {
        /// Path of the file.
        file: PathBuf,
        /// Error of the file.
        source: CredentialFileError,
    },
    /// The user name holds a colon.
    #[error("{}: it holds a colon, which separates user name and password for Postfix", .0.display())]
    Colon(PathBuf),
    /// The files could not be read in time.
    #[error("{} did not answer in time", .0.display())]
    Deadline(PathBuf),
    /// The files have not been looked at.
    #[error("nobody has looked yet")]
    NotRead,
}

/// Error of one file of a login.
#[derive(Debug, thiserror::Error)]
pub enum CredentialFileError {
    /// There is no such file.
    #[error("there is no such file; mount the Secret there")]
    Missing,
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(io::Error),
    /// The content is no user name or password.
    #[error(transparent)]
    Content(LoginError),
}

/// Error of a login that was never readable.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the login in Secret {secret} cannot be read: {source}")]
pub struct LoginMissing {
    /// Secret with the login.
    pub secret: LoginReference,
    /// Error of the latest look at the files.
    pub source: Arc<CredentialError>,
}

/// State of one login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginState {
    /// The login is the one in the files.
    Loaded,
    /// The files cannot be read, and the last good one is in use.
    LastGood {
        /// Error of the latest look at the files.
        trouble: String,
    },
    /// The login was never readable.
    Missing {
        /// Error of the latest look at the files.
        trouble: String,
    },
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSecret {
    secret: String,
}

/// The logins in one folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    folder: Arc<Path>,
    cached: Arc<Mutex<BTreeMap<LoginReference, CachedLogin>>>,
    looks: Arc<Semaphore>,
    usable: Family<OfSecret, Gauge>,
    current: Family<OfSecret, Gauge>,
    unanswered: Counter,
}

/// The last good login, and the error of the latest look.
#[derive(Clone, Debug, Default)]
struct CachedLogin {
    login: Option<Arc<Login>>,
    error: Option<Arc<CredentialError>>,
}

impl CachedLogin {
    fn trouble(&self) -> Arc<CredentialError> {
        self.error.clone().unwrap_or_else(|| Arc::new(CredentialError::NotRead))
    }
}

impl Credentials {
    /// Logins in this folder, and metrics about them in this registry, which has the prefix of the program.
    pub fn new(folder: PathBuf, registry: &mut Registry) -> Self {
        Self {
            folder: folder.into(),
            cached: Arc::default(),
            looks: Arc::new(Semaphore::new(LOOKS)),
            usable: register(
                registry,
                "credentials_usable",
                "1 when there is a login of this Secret, be it the last good one",
            ),
            current: register(
                registry,
                "credentials_current",
                "1 when the files of this Secret could be read when they were looked at last",
            ),
            unanswered: register(
                registry,
                "credentials_deadlines",
                "Looks at the files of a Secret that were given up because they took too long; the last good login was used",
            ),
        }
    }

    /// Returns the login in this Secret: as the files have it now, or the last good one.
    ///
    /// # Errors
    /// When it was never readable.
    pub async fn login(&self, secret: &LoginReference) -> Result<Arc<Login>, LoginMissing> {
        if timeout(LOOK_DEADLINE, self.look(secret)).await.is_err() {
            self.unanswered.inc();
            self.note(secret, Err(CredentialError::Deadline(self.folder.join(&*secret.secret))));
        }
        let cached = self.lock().get(secret).cloned().unwrap_or_default();
        let trouble = cached.trouble();
        cached.login.ok_or_else(|| LoginMissing { secret: secret.clone(), source: trouble })
    }

    /// Returns the login as the latest look has found it; `None` if that has failed. Nothing is looked at.
    pub fn known(&self, secret: &LoginReference) -> Option<Arc<Login>> {
        self.lock().get(secret).filter(|cached| cached.error.is_none())?.login.clone()
    }

    /// Looks at the files of these Secrets, so that their logins are known before mail needs them. Forgets all others.
    pub async fn keep(&self, secrets: impl IntoIterator<Item = LoginReference>) {
        let secrets: Vec<_> = secrets.into_iter().collect();
        let gone: Vec<_> = self.lock().keys().filter(|secret| !secrets.contains(secret)).cloned().collect();
        for secret in gone {
            self.lock().remove(&secret);
            let label = OfSecret { secret: secret.to_string() };
            self.usable.remove(&label);
            self.current.remove(&label);
        }
        for secret in secrets {
            // The result is kept, and read by `state`.
            drop(self.login(&secret).await);
        }
    }

    /// Looks at the logins that these `views` ask for, now and then and when the view changes, until nobody changes it
    /// any more.
    pub async fn look_after<V>(
        self,
        mut views: watch::Receiver<V>,
        secrets: impl Fn(&V) -> Vec<LoginReference> + Send,
    ) {
        loop {
            let asked_for = secrets(&views.borrow_and_update());
            self.keep(asked_for).await;
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_PAUSE) => {}
            }
        }
    }

    /// Returns the state of this login as of the last look.
    pub fn state(&self, secret: &LoginReference) -> LoginState {
        let cached = self.lock().get(secret).cloned().unwrap_or_default();
        match (&cached.login, &cached.error) {
            (Some(_), None) => LoginState::Loaded,
            (Some(_), Some(error)) => LoginState::LastGood { trouble: error.to_string() },
            (None, _) => LoginState::Missing { trouble: cached.trouble().to_string() },
        }
    }

    async fn look(&self, secret: &LoginReference) {
        let Ok(permit) = self.looks.clone().acquire_owned().await else { return };
        let (folder, name) = (self.folder.clone(), secret.clone());
        let read = tokio::task::spawn_blocking(move || {
            let read = read(&folder, &name);
            drop(permit);
            read
        });
        if let Ok(read) = read.await {
            self.note(secret, read);
        }
    }

    fn note(&self, secret: &LoginReference, read: Result<Login, CredentialError>) {
        let mut all = self.lock();
        let cached = all.entry(secret.clone()).or_default();
        let error_before = cached.error.take();
        match read {
            Ok(login) => {
                if error_before.is_some() {
                    tracing::info!(%secret, "the login can be read again");
                }
                if cached.login.as_deref().is_some_and(|before| *before != login) {
                    tracing::info!(%secret, "the login has been rotated");
                }
                cached.login = Some(Arc::new(login));
            }
            Err(error) => {
                let trouble = error.to_string();
                if error_before.is_none_or(|before| before.to_string() != trouble) {
                    let last_good = cached.login.is_some();
                    tracing::warn!(%secret, trouble, last_good_in_use = last_good, "the login cannot be read");
                }
                cached.error = Some(Arc::new(error));
            }
        }
        let label = OfSecret { secret: secret.to_string() };
        self.usable.get_or_create(&label).set(i64::from(cached.login.is_some()));
        self.current.get_or_create(&label).set(i64::from(cached.error.is_none()));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LoginReference, CachedLogin>> {
        // Entries are replaced as a whole, so a panic leaves none half changed.
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a login. Errors name the file, and quote nothing from it.
fn read(folder: &Path, secret: &LoginReference) -> Result<Login, CredentialError> {
    let mounted = folder.join(&*secret.secret);
    // The kubelet replaces a mounted Secret by pointing this link to another folder. Both files must come from the same
    // folder.
    let data = mounted.join("..data");
    let first = std::fs::read_link(&data).map(|target| mounted.join(target));
    match first {
        Err(_) => read_in(&mounted, &mounted, secret),
        Ok(target) => read_in(&target, &mounted, secret).or_else(|error| match std::fs::read_link(&data) {
            // It was replaced, and the old folder removed, in between.
            Ok(now) if mounted.join(&now) != target => read_in(&mounted.join(now), &mounted, secret),
            Ok(_) | Err(_) => Err(error),
        }),
    }
}

/// Reads in one folder, and names the files by another.
fn read_in(folder: &Path, shown: &Path, secret: &LoginReference) -> Result<Login, CredentialError> {
    let LoginReference { secret: _, username_key, password_key } = secret;
    let login = Login::new(read_file(folder, shown, username_key)?, read_file(folder, shown, password_key)?);
    if login.username().contains(':') {
        return Err(CredentialError::Colon(shown.join(&**username_key)));
    }
    Ok(login)
}

fn read_file(folder: &Path, shown: &Path, name: &str) -> Result<String, CredentialError> {
    read_part(&folder.join(name)).map_err(|source| CredentialError::File { file: shown.join(name), source })
}

/// Reads a part of a login from its file.
fn read_part(file: &Path) -> Result<String, CredentialFileError> {
    let mut bytes = vec![];
    match File::open(file).and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes)) {
        Ok(_) => Login::part(bytes).map_err(CredentialFileError::Content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CredentialFileError::Missing),
        Err(error) => Err(CredentialFileError::Unreadable(error)),
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
