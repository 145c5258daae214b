//! Clients of the API server.
//!
//! Three of them, each with a connection pool and a queue of its own, so that a burst of one kind of request delays no
//! other:
//!
//! | client | for | its label in metrics |
//! |---|---|---|
//! | [`Purpose::Watch`] | lists and watches | `watch` |
//! | [`Purpose::Call`] | everything that is read by name or written | `call` |
//! | [`Purpose::Lease`] | the leader's lease, so that no queue of writes can cost the leadership | `lease` |
//!
//! Every request has a deadline, and it is kept here and nowhere else (in `deadline`): [`CALL_DEADLINE`] for a whole
//! call with its body, [`WATCH_OPEN_DEADLINE`] until a watch is answered. A watch that falls silent after that is
//! noticed by kube's `watcher`, which gives up 5 s after the time it asked the server to end the watch at
//! (`crate::watch` asks for less than a minute). A caller that has less time than this (the lease, a write under a
//! claim) wraps its call in a shorter timeout of its own.
//!
//! Nothing is retried here: kube's client would by default repeat what was answered 429, 503 or 504 for minutes,
//! unseen. Every caller has a [`Backoff`](crate::backoff::Backoff) and a counter instead.

mod config;
mod deadline;
mod error;
mod guard;
mod identity;
mod metrics;
mod watching;

use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use kube::client::ClientBuilder;
use kube::{Client, Config};

pub use config::{ConfigError, config};
pub use deadline::DeadlineExceeded;
pub use error::{CallError, category, describe, status_code};
pub use guard::{Guarded, Invalid};
pub use identity::{identity, object_key};
pub use metrics::{Metrics, WatchContacts};
pub use watching::{FIRST_BACKOFF, LONGEST_BACKOFF, PAGE, RECOVERED_AFTER, WATCH_SECONDS, WatchProblem};

/// Limit for a TCP connection with its TLS handshake.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Limit for a call from its sending to the last byte of its answer; a page of objects fits.
pub const CALL_DEADLINE: Duration = Duration::from_secs(15);
/// Limit for the API server's answer that a watch has begun.
pub const WATCH_OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// Purpose of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Lists and watches of objects.
    Watch,
    /// Reads by name, and writes.
    Call,
    /// Calls for the leader's lease.
    Lease,
}

impl Purpose {
    /// Returns the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::Call => "call",
            Self::Lease => "lease",
        }
    }
}

/// Error of a program that cannot have a client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no way to reach an API server.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The API server's address or our credentials cannot be used.
    #[error("the API server cannot be used as configured: {}", describe(.0))]
    Client(#[source] Box<kube::Error>),
}

/// Creates the only client of a program, from a kubeconfig or the surroundings of the process.
///
/// # Errors
/// When there is no way to reach an API server.
pub async fn connect(kubeconfig: Option<&Path>, purpose: Purpose, metrics: &Metrics) -> Result<Client, ConnectError> {
    let config = config(kubeconfig).await?;
    client(config, purpose, metrics).map_err(|error| ConnectError::Client(Box::new(error)))
}

/// Creates a client for one purpose.
///
/// # Errors
/// [`kube::Error`] if the credentials or certificates of the configuration cannot be used; [`describe`] puts it into
/// words.
pub fn client(mut config: Config, purpose: Purpose, metrics: &Metrics) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(CONNECT_DEADLINE);
    // One read timeout for all connections would cut quiet watches, or be too long for calls.
    config.read_timeout = None;
    config.write_timeout = Some(CALL_DEADLINE);
    config.default_retry = false;
    let agent = HeaderValue::from_static(concat!("mail-failover-operator/", env!("CARGO_PKG_VERSION")));
    config.headers.push((header::USER_AGENT, agent));
    let layer = deadline::DeadlineLayer::new(purpose, metrics.clone());
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}
