//! Logs and metrics of the process, and its liveness and readiness.
//!
//! This module never talks to the API server and decides nothing. A metric that cannot be read is left out.

mod exposition;
mod health;
mod health_server;
mod logs;
pub mod metrics;
mod process;
mod server;
#[cfg(test)]
mod testing;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use health::{Heartbeat, Readiness};
pub use health_server::{HealthServer, HealthState};
pub use logs::{LogError, LogFormat, init as init_logs};
pub use server::TelemetryServer;

/// Makes a registry with the metrics of every process: `mail_failover_build_info` and `process_*`.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("mail_failover_build", "The version of the operator", build);
    registry.register_collector(Box::new(process::ProcessCollector));
    registry
}
