//! Logins from mounted Secrets: `FOLDER/SECRET/username` and `FOLDER/SECRET/password`.
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

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use mail_failover_core::model::Login;

/// Bytes that are read of a file: one more than a part of a login may have.
const MAX_READ: u64 = Login::MAX_BYTES as u64 + 1;
/// Limit for a look at the files. They lie in memory (a mounted Secret) or on a local disk.
const LOOK_DEADLINE: Duration = Duration::from_millis(250);
/// Limit of concurrent looks. A disk that hangs holds one of them.
const LOOKS: usize = 4;

/// Formats a login for `smtp_sasl_password_maps`.
pub fn in_a_password_map(login: &Login) -> String {
    format!("{}:{}", login.username(), login.password())
}

/// Error of a login that was never readable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the login in Secret {secret} cannot be read: {trouble}")]
pub struct Missing {
    /// Name of the Secret.
    pub secret: Arc<str>,
    /// Error, with the file that it is about.
    pub trouble: String,
}

/// State of one login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
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
    known: Arc<Mutex<BTreeMap<Arc<str>, Known>>>,
    looks: Arc<Semaphore>,
    usable: Family<OfSecret, Gauge>,
    current: Family<OfSecret, Gauge>,
    unanswered: Counter,
}

#[derive(Clone, Debug, Default)]
struct Known {
    login: Option<Arc<Login>>,
    trouble: Option<String>,
}

impl Credentials {
    /// Logins in this folder, and metrics about them in this registry.
    pub fn new(folder: PathBuf, registry: &mut Registry) -> Self {
        let credentials = Self {
            folder: folder.into(),
            known: Arc::default(),
            looks: Arc::new(Semaphore::new(LOOKS)),
            usable: Family::default(),
            current: Family::default(),
            unanswered: Counter::default(),
        };
        registry.register(
            "mail_failover_agent_credentials_usable",
            "1 when there is a login of this Secret, be it the last good one",
            credentials.usable.clone(),
        );
        registry.register(
            "mail_failover_agent_credentials_current",
            "1 when the files of this Secret could be read when they were looked at last",
            credentials.current.clone(),
        );
        registry.register(
            "mail_failover_agent_credentials_deadlines",
            "Looks at the files of a Secret that were given up because they took too long; the last good login was used",
            credentials.unanswered.clone(),
        );
        credentials
    }

    /// Returns the login in this Secret: as the files have it now, or the last good one.
    ///
    /// # Errors
    /// When it was never readable.
    pub async fn login(&self, secret: &Arc<str>) -> Result<Arc<Login>, Missing> {
        if timeout(LOOK_DEADLINE, self.look(secret)).await.is_err() {
            self.unanswered.inc();
            self.note(secret, Err(format!("{} did not answer in time", self.folder.join(&**secret).display())));
        }
        let known = self.lock().get(secret).cloned().unwrap_or_default();
        let missing =
            |trouble: Option<String>| Missing { secret: secret.clone(), trouble: trouble.unwrap_or_default() };
        known.login.ok_or_else(|| missing(known.trouble))
    }

    /// Looks at the files of these Secrets, so that their logins are known before mail needs them. Forgets all others.
    pub async fn keep(&self, secrets: impl IntoIterator<Item = Arc<str>>) {
        let secrets: Vec<_> = secrets.into_iter().collect();
        let gone: Vec<_> = self.lock().keys().filter(|secret| !secrets.contains(secret)).cloned().collect();
        for secret in gone {
            self.lock().remove(&secret);
            let label = OfSecret { secret: secret.to_string() };
            self.usable.remove(&label);
            self.current.remove(&label);
        }
        for secret in secrets {
            // The result is kept, and read by `standing`.
            drop(self.login(&secret).await);
        }
    }

    /// Returns the state of this login as of the last look.
    pub fn standing(&self, secret: &str) -> Standing {
        match self.lock().get(secret).cloned().unwrap_or_default() {
            Known { login: Some(_), trouble: None } => Standing::Loaded,
            Known { login: Some(_), trouble: Some(trouble) } => Standing::LastGood { trouble },
            Known { login: None, trouble } => {
                Standing::Missing { trouble: trouble.unwrap_or_else(|| "nobody has looked yet".to_owned()) }
            }
        }
    }

    async fn look(&self, secret: &Arc<str>) {
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

    fn note(&self, secret: &Arc<str>, read: Result<Login, String>) {
        let mut all = self.lock();
        let known = all.entry(secret.clone()).or_default();
        let trouble_before = known.trouble.take();
        match read {
            Ok(login) => {
                if trouble_before.is_some() {
                    tracing::info!(%secret, "the login can be read again");
                }
                if known.login.as_deref().is_some_and(|before| *before != login) {
                    tracing::info!(%secret, "the login has been rotated");
                }
                known.login = Some(Arc::new(login));
            }
            Err(trouble) => {
                if trouble_before.as_ref() != Some(&trouble) {
                    let last_good = known.login.is_some();
                    tracing::warn!(%secret, trouble, last_good_in_use = last_good, "the login cannot be read");
                }
                known.trouble = Some(trouble);
            }
        }
        let label = OfSecret { secret: secret.to_string() };
        self.usable.get_or_create(&label).set(i64::from(known.login.is_some()));
        self.current.get_or_create(&label).set(i64::from(known.trouble.is_none()));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Known>> {
        // Entries are replaced as a whole, so a panic leaves none half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a login. Errors name the file, and quote nothing from it.
fn read(folder: &Path, secret: &str) -> Result<Login, String> {
    let mounted = folder.join(secret);
    // The kubelet replaces a mounted Secret by pointing this link to another folder. Both files must come from the same folder.
    let data = mounted.join("..data");
    let first = std::fs::read_link(&data).map(|target| mounted.join(target));
    match first {
        Err(_) => read_in(&mounted, &mounted),
        Ok(target) => read_in(&target, &mounted).or_else(|trouble| match std::fs::read_link(&data) {
            // It was replaced, and the old folder removed, in between.
            Ok(now) if mounted.join(&now) != target => read_in(&mounted.join(now), &mounted),
            Ok(_) | Err(_) => Err(trouble),
        }),
    }
}

/// Reads in one folder, and names the files by another.
fn read_in(folder: &Path, shown: &Path) -> Result<Login, String> {
    let read = |name: &str| {
        read_line(&folder.join(name)).map_err(|trouble| format!("{}: {trouble}", shown.join(name).display()))
    };
    let login = Login::new(read("username")?, read("password")?);
    if login.username().contains(':') {
        let file = shown.join("username");
        return Err(format!(
            "{}: it holds a colon, which separates user name and password for Postfix",
            file.display()
        ));
    }
    Ok(login)
}

/// Reads a part of a login from its file.
fn read_line(file: &Path) -> Result<String, String> {
    let mut bytes = vec![];
    let read = File::open(file).and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes));
    read.map_err(|error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        if is_missing { "there is no such file; mount the Secret there".to_owned() } else { error.to_string() }
    })?;
    Login::part(bytes)
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
