//! What people ask of manifests and of a cluster. Nothing in here is an input to a decision.

pub mod explain;
pub mod lint;
pub mod manifests;
pub mod simulate;
