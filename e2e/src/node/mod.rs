//! A real node beside a control plane of our own: kubelet, containerd, kube-proxy, kube-scheduler,
//! `CoreDNS` and, on request, enforcement of `NetworkPolicies`, in namespaces of their own. It needs root
//! and a few Debian packages, no Docker and no network.
//!
//! [`packages`] names what is missing on this machine, [`images`] builds images outside, where there is a
//! network, [`Node`] runs the programs inside
//! ([`Isolation::Node`](crate::control_plane::namespace::Isolation::Node)), and [`evidence`] collects what
//! a person needs to analyse a failure.
//!
//! ```text
//! 192.0.2.10 (node)  etcd · kube-apiserver · controllers · scheduler · kubelet · kube-proxy · containerd · the program that runs this
//!      ├── 10.244.0.0/24   pods, each on a point-to-point link (CNI `ptp`), so that the node's rules see all their packets
//!      ├── 10.96.0.0/16    Services (kube-proxy, iptables); 10.96.0.10 is CoreDNS
//!      └── 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24   servers of the program that runs this: pods reach them, nothing leaves
//! ```
//!
//! This module knows nothing of mail and nothing of test runners.

pub mod evidence;
pub mod images;
mod kube_proxy;
mod kubelet;
mod name_server;
mod network_policies;
pub mod packages;
mod reaper;
mod runtime;
mod start;

pub use start::{NAME, Node};
