//! Probes that run as Kubernetes Jobs, beside the backend: from another zone, under another network policy, with a login that the
//! operator must not read.
//!
//! ```text
//! operator: manifest ─▶ Job ─▶ pod: command ─▶ one round of `crate::probe` ─▶ report ─▶ termination message ─▶ operator: report
//! ```
//!
//! The manifest, the arguments and the report are pure. Architecture invariants: this module never decides, never talks to the API
//! server (the controller's applier creates Jobs, watches bring what became of them), and the pod has no access to it either; a login
//! is a file in the pod and stands in no manifest, argument, log or report.

mod arguments;
mod command;
pub mod manifest;
pub mod report;

pub use arguments::ProbeArguments;
pub use command::run;
