//! What the operator and its agents run on: the clock, the process, clients of the API server, logs and metrics.
//!
//! Nothing in here knows of mail.

pub mod backoff;
pub mod clock;
pub mod findings;
pub mod http;
pub mod kubernetes;
pub mod process;
pub mod random;
pub mod telemetry;
pub mod values;
