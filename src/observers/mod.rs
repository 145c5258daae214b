//! Reports between replicas: each publishes the backends that it does not see healthy, and follows the reports of the
//! others, so that a switch can be made to wait for a quorum.
//!
//! Each replica owns a `coordination.k8s.io/v1` Lease besides the leader's, named after itself (`name`), renewed while
//! it lives and deleted when it ends. The annotation [`REPORT_ANNOTATION`] holds its report (`report`): a backend that
//! a complete report does not name, and that the replica knew by then, is seen healthy by it, under all thresholds. All
//! replicas report and listen, because each may lead next.
//!
//! - Liveness is judged as in `leader`: an observer counts until it was seen unchanged for its lease duration, on the
//!   listener's own monotonic clock (`liveness`). `renewTime` and the times in a report are for people and are never
//!   compared with a clock here.
//! - An observer does not count in a namespace before it has observed every backend there once, or while its report has
//!   no room for the failures there; nor anywhere while its report cannot be read.
//! - A change is written at once, further ones a pause later (`publish`); a report has at most [`report::MAX_BYTES`].
//! - The Lease also holds the endpoint at which its replica takes agents' reports ([`ENDPOINT_ANNOTATION`]); valid
//!   while the Lease exists, so a briefly slow replica is not dropped from the agents' `ConfigMaps`.
//! - The leader deletes observers' Leases that have not changed for many lease durations: a replica that crashed cannot
//!   delete its own.
//!
//! This module never decides: the engine weighs the reports. It never touches a Lease that is not of this
//! installation's observers, and never repeats another replica's report: a report holds verdicts from its writer's own
//! probes.

mod endpoint;
mod listen;
mod liveness;
mod local_report;
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
pub use local_report::{BackendChange, LocalReport};
use mail_failover_contract::document::OperatorEndpoint;
use mail_failover_core::model::ResourceVersion;
use mail_failover_runtime::clock::Clock;
pub use metrics::Metrics;
pub use report::{BackendVerdicts, Namespaces, Verdicts};

/// Marks the Lease of an observer.
pub const OBSERVER_LABEL: &str = "mailfailover.io/observer";
/// Names the leader's Lease of the installation that an observer belongs to.
pub const LEASE_LABEL: &str = "mailfailover.io/lease";
/// Annotation with an observer's verdicts, as JSON.
// ADR-0024: Replicas report to one another through Leases.
pub const REPORT_ANNOTATION: &str = "mailfailover.io/sightings";
/// Annotation with the endpoint at which an observer takes agents' reports, as JSON: `address` and
/// `certificateSha256`.
pub const ENDPOINT_ANNOTATION: &str = "mailfailover.io/reports";

/// Settings of our own Lease and of the others'.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the leader's Lease, and of the observers'.
    pub namespace: String,
    /// The name of the leader's Lease.
    pub lease_name: String,
    /// Our name; no other process has the same.
    pub identity: String,
    /// Time without a change after which an observer's Lease no longer counts. It is renewed three times as often.
    pub lease_duration: Duration,
    /// Endpoint at which this replica takes agents' reports, if the others are to tell agents of it.
    pub reports: Option<OperatorEndpoint>,
}

impl Settings {
    /// Returns the name of our own Lease.
    fn own_name(&self) -> String {
        name::of_observer(&self.lease_name, &self.identity)
    }

    /// Returns the label selector of this installation's observers.
    fn selector(&self) -> String {
        format!("{OBSERVER_LABEL}=true,{LEASE_LABEL}={}", name::label_value(&self.lease_name))
    }
}

/// Change of what the other observers report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// Every observer has been listed once. Sent once.
    // Also sent when listing was impossible for a lease duration: an operator that may not read the others' Leases must
    // still be able to act.
    Listed,
    /// An observer counts from now on, or its verdicts have changed.
    Report {
        /// Name from its Lease: as a rule that of the pod.
        observer: Arc<str>,
        /// Its name in the election.
        identity: Arc<str>,
        /// Every backend that it does not see healthy.
        reported: Arc<BackendVerdicts>,
        /// Highest `resourceVersion` of the backends that it knows: its silence about a later one says nothing. `None`
        /// from a version that does not say it.
        known_up_to: Option<ResourceVersion>,
        /// Namespaces of which it says nothing.
        silent: Arc<Namespaces>,
    },
    /// The endpoint in an observer's Lease has changed. The observer need not count for that.
    TakesReports {
        /// Name from its Lease: as a rule that of the pod.
        observer: Arc<str>,
        /// The endpoint; `None` if it takes no reports, or its Lease is gone.
        endpoint: Option<OperatorEndpoint>,
    },
    /// An observer does not count any more.
    Lost {
        /// Name from its Lease: as a rule that of the pod.
        observer: Arc<str>,
    },
}

/// Connections of the observer tasks to the rest of the process.
#[derive(Debug)]
pub struct ObserverConnections {
    /// Verdicts of this replica.
    pub local_report: LocalReport,
    /// Receiver of changes. When it is full, the listener waits.
    pub peer_events: Sender<PeerEvent>,
    /// Right to delete Leases of dead observers.
    pub leadership: Leadership,
    /// Wall clock for times that people read.
    pub clock: Clock,
    /// Metrics of the observers.
    pub metrics: Metrics,
}

/// The two tasks. A task that ends before it is told to, or panics, is a defect.
#[derive(Debug)]
pub struct Tasks {
    /// Publishes the verdicts of this replica, until `withdraw`; then deletes its Lease.
    pub publishing: JoinHandle<()>,
    /// Listens to the others, until `end`.
    pub listening: JoinHandle<()>,
}

/// Starts publishing and listening. `withdraw` must be cancelled when this replica ceases to follow its own probes.
/// The clients, one for watches and one for calls, must give each request a deadline and must not retry by themselves.
// A Lease that is not withdrawn counts until it runs out, with verdicts that nobody follows any more.
pub fn spawn(
    watches: Client,
    calls: Client,
    settings: Settings,
    connections: ObserverConnections,
    withdraw: CancellationToken,
    end: CancellationToken,
) -> Tasks {
    let ObserverConnections { local_report, peer_events, leadership, clock, metrics } = connections;
    let publishing =
        tokio::spawn(publish::run(calls.clone(), settings.clone(), local_report, clock, metrics.clone(), withdraw));
    let listening = tokio::spawn(async move {
        tokio::select! {
            biased;
            () = end.cancelled() => {}
            () = listen::run(watches, calls, settings, leadership, peer_events, metrics) => {}
        }
    });
    Tasks { publishing, listening }
}
