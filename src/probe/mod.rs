//! The prober: looks at every address of every backend, again and again, and reports what it sees.
//!
//! ```text
//! Prober::set ─▶ schedule ─▶ round ─▶ resolve ─▶ dialogue (per address) ─▶ classify ─▶ ProbeReport
//! ```
//!
//! Architecture invariants: this module never decides (thresholds, verdicts and switches are the engine's), never talks to
//! Kubernetes, and never sends mail: a dialogue ends before DATA. It sends credentials for depths from `Auth` on only, over TLS or where
//! the user has allowed plain text, and nothing that it says holds a part of them. A failure on our own side (no route, no socket, a
//! silent DNS resolver) is reported as `Inconclusive`, a login that is missing as `ProbeBlocked`, never as the backend's.
//!
//! Bounds, each with a metric that shows when it bites:
//!
//! | bound | what happens beyond it | metric |
//! |---|---|---|
//! | [`Settings::concurrency`] dialogues under way | a dialogue waits; its timeout has not begun | `permit_waits` |
//! | ten rounds of one probe under way | the round is skipped | `skipped_rounds` |
//! | [`MAX_ADDRESSES`] addresses in a round | later rounds try the others in turn | `skipped_addresses` |
//! | look-ups under way | last known addresses serve | `lookups{result="skipped"}` |
//! | the queue of reports | the round waits | `report_waits` |

pub mod classify;
mod connect;
mod dialogue;
mod login;
mod message;
mod metrics;
pub mod reply;
mod resolve;
mod round;
mod schedule;
mod tls;

#[cfg(test)]
mod testing;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

pub use message::printable;
pub use metrics::Metrics;
pub use resolve::StartError;
pub use round::MAX_ADDRESSES;
pub use schedule::Prober;

use prometheus_client::registry::Registry;
use round::Rounds;
use schedule::Runner;

use crate::clock::Clock;
use crate::model::{Depth, Destination, Envelope, ProbeKey, ProbeLogin, ProbeReport, Tls};

/// What is to be probed, and how. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which probe of which backend.
    pub key: ProbeKey,
    /// Changes with any other field; reports carry it.
    pub revision: u64,
    /// Where the backend is.
    pub destination: Destination,
    /// How TLS is spoken with it.
    pub tls: Tls,
    /// From start to start of rounds.
    pub interval: Duration,
    /// For a whole dialogue with one address.
    pub timeout: Duration,
    /// How far a dialogue goes.
    pub depth: Depth,
    /// The addresses that it names.
    pub envelope: Envelope,
    /// What it logs in with, where it goes so far.
    pub login: ProbeLogin,
}

/// One round at a target, outside any schedule; returns when its connections are closed as well.
///
/// # Errors
/// When DNS is not configured, or the name for EHLO cannot be sent.
pub async fn once(settings: &Settings, clock: Clock, target: Target) -> Result<ProbeReport, StartError> {
    let rounds = Rounds::new(settings, clock, Metrics::new(&mut Registry::default()))?;
    let prepared = rounds.prepare(target);
    let report = rounds.run(&prepared, 1, &Mutex::default()).await;
    rounds.goodbyes().await;
    Ok(report)
}

/// The prober's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Dialogues under way, over all targets. Each holds a socket; a hanging backend holds one for its timeout.
    pub concurrency: usize,
    /// DNS servers; empty: those of `/etc/resolv.conf`, with its search list and options. `/etc/hosts` comes first either way.
    pub dns_servers: Vec<SocketAddr>,
    /// What we call ourselves in EHLO; a domain or an address literal (RFC 5321 §4.1.1.1).
    pub ehlo_name: String,
}

impl Default for Settings {
    /// 8192 dialogues: 10,000 backends every 10 s that all hang for the default timeout of 5 s hold 5,000 sockets. Until they have
    /// drifted apart, in the first minutes, some of them wait. The process needs as many file descriptors, and 2,000 for DNS.
    fn default() -> Self {
        Self { concurrency: 8192, dns_servers: vec![], ehlo_name: "localhost.localdomain".to_owned() }
    }
}
