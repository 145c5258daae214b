//! Tools for people: lint, explain, report and simulate. Their results are no input to a decision.

pub mod explain;
pub mod lint;
pub mod manifests;
pub mod report;
pub mod simulate;
