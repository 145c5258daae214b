//! The programs, their Go modules and their versions.
//!
//! A version is written in a go.mod below `e2e/tools` and nowhere else; it is read from there at
//! compile time.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use ring::digest::{SHA256, digest};

use crate::go_module::required_version;

const GITOPS: &str = include_str!("../../tools/gitops/go.mod");
/// A digest of the program's only source and of the versions that it is built with.
static HEALTH_VERSION: LazyLock<String> = LazyLock::new(|| {
    let source = concat!(include_str!("../../tools/gitops/health/main.go"), include_str!("../../tools/gitops/go.mod"));
    let digest = digest(&SHA256, source.as_bytes());
    digest.as_ref().iter().take(6).fold("v0-".to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
});

/// A program that a control plane or a node needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcd,
    KubeApiServer,
    /// The controllers of Kubernetes: garbage collection, `EndpointSlices` of selector Services, Jobs, …
    KubeControllerManager,
    /// The scheduler, which assigns pods to the node.
    KubeScheduler,
    /// The node's agent, which runs pods.
    Kubelet,
    /// The Service proxy, which leads a Service's address to its endpoints.
    KubeProxy,
    /// The agent that enforces `NetworkPolicies` on a node.
    KubeNetworkPolicies,
    /// The command line client.
    Kubectl,
    Containerd,
    /// The shim that containerd starts beside each pod. It must be in containerd's folder.
    ContainerdShim,
    /// containerd's own client, which loads images.
    Ctr,
    /// The cluster's name server.
    CoreDns,
    Helm,
    /// Prometheus' receiver of alerts.
    Alertmanager,
    /// Flux's controller that fetches Git repositories.
    SourceController,
    /// Flux's controller that applies the content of a repository.
    KustomizeController,
    /// Our own program that evaluates the health of objects as Argo CD and Flux do.
    Health,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiServer => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::KubeNetworkPolicies => "kube-network-policies",
            Self::Kubectl => "kubectl",
            Self::Containerd => "containerd",
            Self::ContainerdShim => "containerd-shim-runc-v2",
            Self::Ctr => "ctr",
            Self::CoreDns => "coredns",
            Self::Helm => "helm",
            Self::Alertmanager => "alertmanager",
            Self::SourceController => "source-controller",
            Self::KustomizeController => "kustomize-controller",
            Self::Health => "health",
        }
    }

    /// The product that it is a part of.
    pub fn product(self) -> Product {
        match self {
            Self::Etcd => Product::Etcd,
            Self::KubeApiServer
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubelet
            | Self::KubeProxy
            | Self::Kubectl => Product::Kubernetes,
            Self::KubeNetworkPolicies => Product::NetworkPolicies,
            Self::Containerd | Self::ContainerdShim | Self::Ctr => Product::Containerd,
            Self::CoreDns => Product::CoreDns,
            Self::Helm => Product::Helm,
            Self::Alertmanager => Product::Alertmanager,
            Self::SourceController => Product::SourceController,
            Self::KustomizeController => Product::KustomizeController,
            Self::Health => Product::Health,
        }
    }

    /// The Go package that is its main program.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiServer => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Self::KubeNetworkPolicies => "sigs.k8s.io/kube-network-policies/cmd",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Containerd => "github.com/containerd/containerd/v2/cmd/containerd",
            Self::ContainerdShim => "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            Self::Ctr => "github.com/containerd/containerd/v2/cmd/ctr",
            Self::CoreDns => "github.com/coredns/coredns",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
            Self::Alertmanager => "github.com/prometheus/alertmanager/cmd/alertmanager",
            Self::SourceController => "github.com/fluxcd/source-controller",
            Self::KustomizeController => "github.com/fluxcd/kustomize-controller",
            Self::Health => "./health",
        }
    }
}

/// Programs that are built from one Go module. Most have a module to themselves in `e2e/tools`: their dependencies do
/// not agree with each other. Those for `GitOps` share one, so that what is asked about health is asked of the versions
/// that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Etcd,
    Kubernetes,
    NetworkPolicies,
    Containerd,
    CoreDns,
    Helm,
    Alertmanager,
    SourceController,
    KustomizeController,
    Health,
}

impl Product {
    /// The name in messages and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kubernetes => "kubernetes",
            Self::NetworkPolicies => "network-policies",
            Self::Containerd => "containerd",
            Self::CoreDns => "coredns",
            Self::Helm => "helm",
            Self::Alertmanager => "alertmanager",
            Self::SourceController => "source-controller",
            Self::KustomizeController => "kustomize-controller",
            Self::Health => "health",
        }
    }

    /// The folder that holds its go.mod.
    pub(super) fn folder(self) -> PathBuf {
        let folder = match self {
            Self::SourceController | Self::KustomizeController | Self::Health => "gitops",
            Self::Etcd
            | Self::Kubernetes
            | Self::NetworkPolicies
            | Self::Containerd
            | Self::CoreDns
            | Self::Helm
            | Self::Alertmanager => self.name(),
        };
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools").join(folder)
    }

    /// The version that its go.mod requires: `v1.37.2`. Of [`Product::Health`], which is our own, the digest of what it
    /// is made of.
    pub fn version(self) -> &'static str {
        let (go_mod, module) = match self {
            Self::Etcd => (include_str!("../../tools/etcd/go.mod"), "go.etcd.io/etcd/server/v3"),
            Self::Kubernetes => (include_str!("../../tools/kubernetes/go.mod"), "k8s.io/kubernetes"),
            Self::NetworkPolicies => {
                (include_str!("../../tools/network-policies/go.mod"), "sigs.k8s.io/kube-network-policies")
            }
            Self::Containerd => (include_str!("../../tools/containerd/go.mod"), "github.com/containerd/containerd/v2"),
            Self::CoreDns => (include_str!("../../tools/coredns/go.mod"), "github.com/coredns/coredns"),
            Self::Helm => (include_str!("../../tools/helm/go.mod"), "helm.sh/helm/v4"),
            Self::Alertmanager => {
                (include_str!("../../tools/alertmanager/go.mod"), "github.com/prometheus/alertmanager")
            }
            Self::SourceController => (GITOPS, "github.com/fluxcd/source-controller"),
            Self::KustomizeController => (GITOPS, "github.com/fluxcd/kustomize-controller"),
            Self::Health => return &HEALTH_VERSION,
        };
        required_version(go_mod, module).unwrap_or("unknown")
    }

    /// Flags of the linker: no symbol tables, and the version that the programs report.
    pub(super) fn linker_flags(self) -> String {
        let version = self.version();
        match self {
            Self::Etcd
            | Self::CoreDns
            | Self::Alertmanager
            | Self::NetworkPolicies
            | Self::SourceController
            | Self::KustomizeController
            | Self::Health => "-s -w".to_owned(),
            Self::Kubernetes => {
                let mut numbers = version.trim_start_matches('v').split('.');
                let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
                let variables = "k8s.io/component-base/version";
                format!(
                    "-s -w -X {variables}.gitVersion={version} -X {variables}.gitMajor={major} -X {variables}.gitMinor={minor}"
                )
            }
            Self::Containerd => format!("-s -w -X github.com/containerd/containerd/v2/version.Version={version}"),
            Self::Helm => format!("-s -w -X helm.sh/helm/v4/internal/version.version={version}"),
        }
    }

    /// Build tags that leave out what a node for tests never uses.
    pub(super) fn build_tags(self) -> &'static str {
        match self {
            // Snapshotters of other file systems; some of them take C libraries.
            Self::Containerd => "no_btrfs no_zfs no_devmapper no_aufs",
            Self::Etcd
            | Self::Kubernetes
            | Self::NetworkPolicies
            | Self::CoreDns
            | Self::Helm
            | Self::Alertmanager
            | Self::SourceController
            | Self::KustomizeController
            | Self::Health => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_has_a_version() {
        let products = [
            Product::Etcd,
            Product::Kubernetes,
            Product::NetworkPolicies,
            Product::Containerd,
            Product::CoreDns,
            Product::Helm,
            Product::Alertmanager,
            Product::SourceController,
            Product::KustomizeController,
            Product::Health,
        ];
        for product in products {
            assert!(product.version().starts_with('v'), "{product:?}");
        }
    }

    #[test]
    fn kubernetes_reports_the_version_it_is_built_at() {
        let flags = Product::Kubernetes.linker_flags();
        assert!(flags.contains(&format!("gitVersion={}", Product::Kubernetes.version())), "{flags}");
        assert!(flags.contains("gitMajor=1 "), "{flags}");
    }
}
