//! A real Kubernetes control plane for tests, the demo and the benches: etcd, kube-apiserver and,
//! where it is needed, kube-controller-manager; without nodes, without root.
//!
//! [`binaries`] finds or builds the programs, [`namespace`] keeps them apart from the machine,
//! [`ControlPlane`] runs them, and [`Cluster`] is the view of the tests: a control plane of our own
//! or a cluster that exists already.
//!
//! This module knows nothing of mail and nothing of test runners.

pub(crate) mod arguments;
mod audit;
pub mod binaries;
mod certificates;
mod cluster;
pub(crate) mod component;
mod crds;
pub mod namespace;
mod programs;
pub(crate) mod server;

pub use audit::{Call, Right, granted};
pub use binaries::Binaries;
pub use cluster::{Cluster, EXISTING};
pub use crds::{install_crds, said};
pub use programs::{Product, Program};
pub use server::{ControlPlane, Options};
