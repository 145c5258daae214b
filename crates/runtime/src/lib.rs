//! Foundation of the operator and its agents: clock, process, tasks, clients of the API server, logs and metrics.
//!
//! Nothing in here knows of mail, but for the ports of mail servers.

#![warn(missing_docs)]

pub mod backoff;
pub mod clock;
pub mod dial_guard;
pub mod findings;
pub mod http;
pub mod kubernetes;
pub mod places;
pub mod process;
pub mod random;
pub mod tasks;
pub mod telemetry;
pub mod terminal;
pub mod values;
