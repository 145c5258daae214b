//! `mail-failover agent`: stands beside a queueing MTA, tells it where each message goes, and moves the queue when that changes.
//!
//! Moving an endpoint is no failover for a queueing MTA: it keeps a dead next hop suspended by name and goes on to use cached connections.
//! So every backend is a next hop with a name of its own, and the MTA asks the agent, over a local socketmap, which one a message takes.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `document` | what the operator writes and the agent reads: one JSON document in one `ConfigMap`, with a schema | yes |
//! | `routing` | a document, checked; which document may replace which | yes |
//! | `answers` | what the MTA is told, from memory | yes |
//! | `reporter` | tells the operator's replicas what deliveries meet | no |
//! | `pinned` | TLS towards a replica whose certificate is known by its fingerprint | yes |
//! | `core` | what it concludes from the operator's word and from real deliveries: leave, return, switch, report | yes |
//!
//! Architecture invariants: the agent never writes to the API server; it never sends mail; it never blocks the MTA on anything
//! but its own memory; and whatever it cannot read leaves the last good answer in force.

pub mod answers;
pub mod core;
#[allow(clippy::doc_markdown, reason = "its comments are the descriptions of a JSON schema")]
pub mod document;
pub mod log;
pub mod metrics;
pub mod mta;
mod pinned;
pub mod reporter;
pub mod routing;
pub mod shield;
