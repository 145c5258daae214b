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

use std::io;
use std::net::SocketAddr;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use health::{Heartbeat, Readiness};
pub use health_server::{HealthServer, HealthState};
pub use logs::{LogError, LogFormat, init as init_logs};
pub use server::TelemetryServer;

/// Error of an address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; choose another with {flag}")]
pub struct ListenError {
    /// Address that is in use or not ours.
    pub address: SocketAddr,
    /// Flag that sets the address.
    pub flag: &'static str,
    /// Error of the operating system.
    pub source: io::Error,
}

impl ListenError {
    /// Puts the operating system's error about the address of a flag into words.
    pub fn of(address: SocketAddr, flag: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { address, flag, source }
    }
}

/// Makes a registry with the metrics of every process: `mail_failover_build_info` and `process_*`.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("mail_failover_build", "The version of the operator", build);
    registry.register_collector(Box::new(process::ProcessCollector));
    registry
}
