//! Probes that run as Kubernetes Jobs beside the backend: in another zone, under another network policy, or with a
//! login that the operator must not read.
//!
//! ```text
//! operator: manifest ─▶ Job ─▶ pod: command ─▶ one round of `crate::probe` ─▶ report ─▶ termination message ─▶ operator: report
//! ```
//!
//! The manifest, the arguments and the report are pure. Architecture invariants:
//!
//! - This module never decides and never talks to the API server: the controller's applier creates Jobs, and watches
//!   bring their results.
//! - The pod has no access to the API server.
//! - A login is a file in the pod. No manifest, argument, log or report contains it.

mod arguments;
mod command;
pub mod manifest;
pub mod report;

pub use arguments::ProbeArguments;
pub use command::{ProbeCommandError, run};

/// Settings of the Jobs of probes.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// The operator's own image.
    pub image: String,
    /// The name that their probes give in EHLO; the pod's name, when absent.
    pub ehlo_name: Option<String>,
    /// The limit on the Jobs under way at a time, over all backends.
    pub limit: usize,
}
