//! Mail as the tests, the demo and the bench need it: servers that fail on demand, a client that keeps sending, names that
//! resolve to what a test says, and the arithmetic of what came of it.
//!
//! * [`server`] plays providers: a real SMTP dialogue (RFC 5321) with faults at every stage.
//! * [`sender`] plays an application: a connection per message, its own patience, and a journal of every attempt.
//! * [`load`] plays many applications in front of a queueing mail server, and keeps the account of what it took.
//! * [`record`] is what either of them leaves on a file, for when it runs in a container of its own.
//! * [`endpoints`] tells the sender where kube-proxy would lead it.
//! * [`certificates`] and [`dns`] are what servers are reached with.
//! * [`statistics`] turns durations into the figures people read.
//!
//! Architecture invariant: nothing in here talks to anything but the addresses it is given, looks up a name, or keeps anything on
//! disk but the records that it is asked for; and nothing lies about what it saw: whatever a bound makes it forget is counted.

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

/// What can go wrong while setting the fixture.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Its answer.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate could not be used.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A name that is none.
    #[error("not a name: {0}")]
    Name(String),
    /// Something awaited did not happen in time.
    #[error("{what} did not happen within {within:?}: {seen}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// For how long.
        within: Duration,
        /// What was there instead.
        seen: String,
    },
}

/// The result of setting the fixture.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was tried.
trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

/// Every critical section here leaves its data whole, so that a panic elsewhere poisons nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
