//! Foundation of the programs that carry mail or lead it by the operator's document: the agent beside a queueing MTA, and
//! the relay.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `answers` | the backends that a message may take, in their order | yes |
//! | `core` | conclusions from the operator's decision and from real deliveries: order, switch, report | yes |
//! | `pacing` | the turn of each message or session at a backend with a limit of messages a second | yes |
//! | `reading` | the meaning of replies that deliveries meet | yes |
//! | `delivery_counters` | counters of messages, and the report made of them | yes |
//! | `refused` | the backends that a drill leaves out | yes |
//! | `drill_metrics` | metrics of drills, and the log of their turns | no |
//! | `reporter` | reports to the operator's replicas | no |
//! | `pinned` | TLS towards a replica whose certificate is known by its fingerprint | yes |
//! | `source` | the sources of documents: a `ConfigMap`, a file; their flags | no |
//! | `credentials` | logins from mounted Secrets | no |
//! | `store`, `state_writer` | the state that survives a restart | no |
//! | `stable_hash` | a hash for values on disk | yes |
//! | `program` | the parts that every program has, in the order in which they start | no |
//!
//! Architecture invariants: nothing here writes to the API server or speaks SMTP. Input that cannot be read leaves the
//! last good routing in force.

pub mod answers;
pub mod core;
pub mod credentials;
pub mod delivery_counters;
pub mod drill_metrics;
pub mod pacing;
mod pinned;
pub mod program;
pub mod reading;
pub mod refused;
pub mod reporter;
pub mod source;
pub mod stable_hash;
pub mod state_writer;
pub mod store;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::missing_panics_doc, clippy::new_without_default, missing_docs, reason = "for tests")]
pub mod testing;
