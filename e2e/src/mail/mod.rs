//! Mail as the tests, the demo and the benches need it: servers that fail on demand, clients that keep
//! sending, names that resolve to what a test says, and the account of the messages.
//!
//! * [`server`] plays providers: a real SMTP dialogue (RFC 5321) with faults at every stage.
//! * [`sender`] plays an application: a connection per message, time limits of its own, and a journal of
//!   every attempt.
//! * [`load`] plays many applications in front of a queueing mail server, and keeps the account of what it
//!   took.
//! * [`record`] keeps what either of them did in a file, for programs in containers of their own.
//! * [`endpoints`] tells the sender which endpoints kube-proxy would lead it to.
//! * [`certificates`] and [`dns`] prove and name the servers.
//! * [`statistics`] turns durations into figures for people.
//!
//! Architecture invariants: this module connects only to the addresses that it is given, looks up no name,
//! and writes nothing to disk but the requested records. It reports everything that it saw: whatever a
//! bound makes it forget is counted.

pub mod certificates;
pub mod dns;
pub mod endpoints;
pub mod load;
pub mod record;
pub mod sender;
pub mod server;
pub mod statistics;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An error of setting up the fixture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The attempted operation.
        what: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A certificate could not be created.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate could not be used.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The text is no valid name.
    #[error("not a name: {0}")]
    Name(String),
    /// An awaited event did not happen in time.
    #[error("{what} did not happen within {within:?}: {seen}")]
    Timeout {
        /// The awaited event.
        what: String,
        /// The time limit.
        within: Duration,
        /// The last observed state.
        seen: String,
    },
}

/// The result of setting up the fixture.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds the attempted operation to an error.
trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

/// Locks a mutex, poisoned or not: every critical section here leaves its data whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
