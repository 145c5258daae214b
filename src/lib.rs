//! mail-failover-operator: moves outgoing mail to a standby when a sending backend fails.

pub mod app;
pub mod controller;
pub mod dial;
pub mod dns;
pub mod leader;
pub mod notification;
pub mod observers;
pub mod output;
pub mod probe;
pub mod probe_job;
pub mod rbac;
pub mod reports;
pub mod watch;
pub mod webhook;
