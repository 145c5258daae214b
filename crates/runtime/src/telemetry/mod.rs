//! What the operator tells about itself: logs, metrics, and whether it is alive and ready.
//!
//! Never talks to the API server, and decides nothing: a metric that cannot be read is left out.

mod health;
mod logs;
mod process;
mod server;

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use health::{Heartbeat, Readiness};
pub use logs::{LogError, LogFormat, init as init_logs};
pub use server::{Server, State};

/// A registry with what every process tells: `mail_failover_build_info` and `process_*`.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("mail_failover_build", "The version of the operator", build);
    registry.register_collector(Box::new(process::ProcessCollector));
    registry
}
