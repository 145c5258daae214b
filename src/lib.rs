//! mail-failover-operator: moves outgoing mail to a standby when a sending backend fails.

pub mod agent;
pub mod agent_contract;
pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod engine;
pub mod explain;
mod http;
pub mod kubernetes;
pub mod leader;
pub mod lint;
pub mod manifests;
pub mod model;
pub mod observers;
pub mod output;
pub mod probe;
pub mod probe_job;
pub(crate) mod process;
pub mod rbac;
pub mod reports;
pub mod resolve;
pub mod simulate;
pub mod telemetry;
pub(crate) mod values;
pub mod watch;
