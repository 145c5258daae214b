//! Runner of rounds and of idle sessions: what the schedule needs of a network.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ProbeTarget;
use super::idle::{IdleTerms, SessionOver};
use super::resolve::KnownAddresses;
use mail_failover_core::model::ProbeReport;

/// Terms of one round.
#[derive(Clone, Debug)]
pub struct RoundTerms {
    /// Number of the round, from 1.
    pub sequence: u64,
    /// Reason for which it ends before its log-in.
    pub postponed_login: Option<Arc<str>>,
    /// Namespaces that want it; at least one.
    pub namespaces: Arc<[Arc<str>]>,
    /// True if a route uses one of the backends that want it.
    pub is_used: bool,
    /// Time from its start to the start of the next at the interval.
    pub interval: Duration,
    /// True if it comes beside those at the interval, and goes no deeper than nobody counts.
    pub is_look: bool,
}

/// Runner of rounds. A trait, so that the schedule is tested without a network.
pub trait Runner: Send + Sync + 'static {
    /// A target with everything that stays the same from round to round.
    type Prepared: Send + Sync + 'static;
    /// Prepares a target. Never blocks.
    fn prepare(&self, target: ProbeTarget) -> Self::Prepared;
    /// The target of a prepared one.
    fn target(prepared: &Self::Prepared) -> &ProbeTarget;
    /// Runs one round, and reports it. A round that is dropped ends at once.
    fn run(
        &self,
        prepared: &Self::Prepared,
        terms: RoundTerms,
        known: &Mutex<KnownAddresses>,
    ) -> impl Future<Output = ProbeReport> + Send;
    /// Opens a session with one address and keeps it idle, until the server ends it or `close` is cancelled.
    fn idle_session(
        &self,
        prepared: &Self::Prepared,
        terms: &IdleTerms,
        address: SocketAddr,
        close: &CancellationToken,
    ) -> impl Future<Output = SessionOver> + Send;
}
