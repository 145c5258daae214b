//! What replicas tell one another: each says which backends it does not see healthy, and hears what the others see, so that a switch
//! can be made to wait for a quorum.
//!
//! Each replica owns a `coordination.k8s.io/v1` Lease besides the leader's, named after itself (`name`), renewed while it lives and deleted
//! when it ends. The annotation [`REPORT_ANNOTATION`] holds its report (`report`): a backend that a complete report does not name is seen
//! healthy by that replica, under all thresholds. All replicas report and listen, because each may lead next.
//!
//! - Who is alive is judged as in `leader`: an observer counts until it was seen unchanged for its lease duration, on the listener's own
//!   monotonic clock (`liveness`). `renewTime` and the times in a report are for people and are never compared with a clock here.
//! - Who has not yet observed every backend once, sees more failures than a report may hold, or writes what cannot be read, does not count.
//! - A change is written at once, further ones a pause later (`publish`); a report is as large as [`report::MAX_BYTES`] at most.
//! - The Lease also says where its replica takes reports of agents ([`ENDPOINT_ANNOTATION`]); that holds as long as there is the Lease, so that a replica
//!   that is slow for a moment leaves no agent's document.
//! - The leader deletes Leases of observers that have not changed for many lease durations: a replica that crashed cannot delete its own.
//!
//! This module never decides: what counts how is the engine's. It never touches a Lease that is not of this installation's observers, and
//! never repeats what it heard from another replica: a report says what its writer saw with its own probes.

mod board;
mod endpoint;
mod listen;
mod liveness;
mod metrics;
mod name;
mod publish;
pub mod report;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::leader::Leadership;
pub use board::{Change, Noticeboard};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_runtime::clock::Clock;
pub use metrics::Metrics;
pub use report::{Sightings, Verdicts};

/// Marks the Lease of an observer.
pub const OBSERVER_LABEL: &str = "mailfailover.io/observer";
/// Names the leader's Lease of the installation that an observer belongs to.
pub const LEASE_LABEL: &str = "mailfailover.io/lease";
/// What an observer sees, as JSON.
pub const REPORT_ANNOTATION: &str = "mailfailover.io/sightings";
/// Where an observer takes reports of agents, as JSON: `address` and `certificateSha256`.
pub const ENDPOINT_ANNOTATION: &str = "mailfailover.io/reports";

/// Whose reports, where, and for how long they hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of the leader's Lease; those of the observers are there, too.
    pub namespace: String,
    /// The name of the leader's Lease.
    pub lease_name: String,
    /// Our name; no other process has the same.
    pub identity: String,
    /// An observer whose Lease was not changed for so long is taken for dead. It renews it three times as often.
    pub lease_duration: Duration,
    /// Where this replica takes reports of agents, if the others are to tell them.
    pub reports: Option<OperatorEndpoint>,
}

impl Settings {
    /// The name of our own Lease.
    fn own_name(&self) -> String {
        name::of_observer(&self.lease_name, &self.identity)
    }

    /// Selects the Leases of this installation's observers.
    fn selector(&self) -> String {
        format!("{OBSERVER_LABEL}=true,{LEASE_LABEL}={}", name::label_value(&self.lease_name))
    }
}

/// What is heard of the other observers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// Every observer that there is has been listed once. Said once; also when that was impossible for a lease duration, because an
    /// operator that nobody lets hear the others must still be able to act.
    Listed,
    /// An observer counts from now on, or sees something else than before.
    Heard {
        /// What the name of its Lease says of it: the pod, as a rule.
        observer: Arc<str>,
        /// Whatever it does not see healthy.
        sightings: Arc<Sightings>,
    },
    /// An observer's Lease says where that replica takes reports of agents, or says so no more; it need not count for that.
    TakesReports {
        /// What the name of its Lease says of it: the pod, as a rule.
        observer: Arc<str>,
        /// `None` when it takes none, or its Lease is gone.
        endpoint: Option<OperatorEndpoint>,
    },
    /// An observer does not count any more.
    Lost {
        /// What the name of its Lease says of it: the pod, as a rule.
        observer: Arc<str>,
    },
}

/// What an observer needs besides its settings.
#[derive(Debug)]
pub struct Connections {
    /// What this replica sees.
    pub board: Noticeboard,
    /// Where goes what is heard. When it is full the listener waits.
    pub hearings: Sender<Hearing>,
    /// Who may delete what dead observers left.
    pub leadership: Leadership,
    /// What time it is, for people.
    pub clock: Clock,
    /// Metrics.
    pub metrics: Metrics,
}

/// The two tasks. That one of them ends before it is told to, or panics, is a defect.
#[derive(Debug)]
pub struct Tasks {
    /// Tells what this replica sees, until `withdraw`; then deletes its Lease.
    pub publishing: JoinHandle<()>,
    /// Listens to the others, until `end`.
    pub listening: JoinHandle<()>,
}

/// Tells and listens. `withdraw` must be cancelled when this replica ceases to follow its own probes: what it told last would else hold
/// until its Lease runs out. The clients, one for watches and one for calls, must give each request a deadline and must not retry by themselves.
pub fn spawn(
    watches: Client,
    calls: Client,
    settings: Settings,
    connections: Connections,
    withdraw: CancellationToken,
    end: CancellationToken,
) -> Tasks {
    let Connections { board, hearings, leadership, clock, metrics } = connections;
    let publishing =
        tokio::spawn(publish::run(calls.clone(), settings.clone(), board, clock, metrics.clone(), withdraw));
    let listening = tokio::spawn(async move {
        tokio::select! {
            biased;
            () = end.cancelled() => {}
            () = listen::run(watches, calls, settings, leadership, hearings, metrics) => {}
        }
    });
    Tasks { publishing, listening }
}
