//! A real control plane, fault-injecting SMTP servers, and what the suites, the demo and the benches share.

pub mod control_plane;
pub mod mail;
