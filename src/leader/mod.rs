//! Leader election on a `coordination.k8s.io/v1` Lease: only the leader writes.
//!
//! Every write of the lease carries the uid and resourceVersion that were seen, so of two writers one is refused.
//! Further rules:
//!
//! - No time of one replica is ever compared with another's: a candidate takes over when it has itself seen the record
//!   unchanged for a lease duration, on its own monotonic clock. `renewTime` and `acquireTime` are written for people,
//!   and so that each renewal changes the record.
//! - The holder's claim lasts for the renew deadline, counted from when the last accepted renewal was *sent*. That is
//!   shorter than the lease by a margin which also covers clocks that run at different speeds.
//! - A [`Claim`] compares the clock with its deadline each time it is asked, so a process that was frozen sees its loss
//!   before it writes. A freeze between that check and the sending cannot be ruled out; therefore writes carry
//!   resourceVersions as well. `CLOCK_MONOTONIC` stands still while a machine is suspended: a machine that wakes up may
//!   believe for one renew deadline, at most until its next renewal is refused, that it still leads. There again the
//!   resourceVersions decide.
//! - A lost claim does not end the process: it probes on as a candidate.
//! - A lease with an empty `holderIdentity` is free at once. The holder clears it when its last write is over; clearing
//!   it by hand has the same effect.
//! - A holder that sees everything fail that others see work gives the lease to one of those: it writes their name into
//!   `holderIdentity`, and a replica that finds its own name there takes the lease at once. That happens at most once in
//!   a lease duration, whoever gives (ADR-0101). If the other one does not take it, it runs out as any other.
//! - A deleted lease is created again by its holder. A candidate that has seen it before waits for a lease duration all
//!   the same. One that has never seen it takes it at once, so that the first start need not wait.

mod claim;
mod election;
pub mod lease;
mod metrics;
mod settings;

pub use claim::{Claim, ClaimLost, Leadership};
pub use election::start;
pub use metrics::Metrics;
pub use settings::{Settings, SettingsError, unique_identity};
