//! Which programs there are, from which Go module they are built, and at which version.
//!
//! The version stands in `e2e/tools/<product>/go.mod` and nowhere else; it is read from there when this is compiled.

use std::path::PathBuf;

/// A program that a control plane needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The store.
    Etcd,
    /// The API server.
    KubeApiServer,
    /// The controllers of Kubernetes: garbage collection, `EndpointSlices` of selector Services, Jobs, …
    KubeControllerManager,
    /// The command line client.
    Kubectl,
    /// The package manager.
    Helm,
}

impl Program {
    /// Its file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiServer => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
        }
    }

    /// What it is a part of.
    pub fn product(self) -> Product {
        match self {
            Self::Etcd => Product::Etcd,
            Self::KubeApiServer | Self::KubeControllerManager | Self::Kubectl => Product::Kubernetes,
            Self::Helm => Product::Helm,
        }
    }

    /// The Go package that is its main program.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiServer => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
        }
    }
}

/// Programs that are built from one Go module. One module per product: their dependencies do not agree with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// etcd.
    Etcd,
    /// Kubernetes.
    Kubernetes,
    /// Helm.
    Helm,
}

impl Product {
    /// The name of its folder in `e2e/tools`, and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kubernetes => "kubernetes",
            Self::Helm => "helm",
        }
    }

    /// The folder that holds its go.mod.
    pub(super) fn folder(self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools").join(self.name())
    }

    /// The version that its go.mod requires: `v1.37.2`.
    pub fn version(self) -> &'static str {
        let (go_mod, module) = match self {
            Self::Etcd => (include_str!("../../tools/etcd/go.mod"), "go.etcd.io/etcd/server/v3"),
            Self::Kubernetes => (include_str!("../../tools/kubernetes/go.mod"), "k8s.io/kubernetes"),
            Self::Helm => (include_str!("../../tools/helm/go.mod"), "helm.sh/helm/v4"),
        };
        required_version(go_mod, module).unwrap_or("unknown")
    }

    /// What the linker is told: no symbol tables, and the version that the programs report.
    pub(super) fn linker_flags(self) -> String {
        match self {
            Self::Etcd | Self::Helm => "-s -w".to_owned(),
            Self::Kubernetes => {
                let version = self.version();
                let mut numbers = version.trim_start_matches('v').split('.');
                let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
                let variables = "k8s.io/component-base/version";
                format!(
                    "-s -w -X {variables}.gitVersion={version} -X {variables}.gitMajor={major} -X {variables}.gitMinor={minor}"
                )
            }
        }
    }
}

/// The version in a go.mod's `require`, in a block or on a line of its own.
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().filter(|version| version.starts_with('v'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_what_go_mod_requires() {
        let cases = [
            ("require k8s.io/kubernetes v1.2.3\n", Some("v1.2.3")),
            ("require (\n\tk8s.io/kubernetes v1.2.3 // indirect\n)\n", Some("v1.2.3")),
            ("replace (\n\tk8s.io/kubernetes => ./here\n)\n", None),
            ("tool k8s.io/kubernetes/cmd/kubectl\n", None),
        ];
        for (go_mod, version) in cases {
            assert_eq!(required_version(go_mod, "k8s.io/kubernetes"), version, "{go_mod}");
        }
        for product in [Product::Etcd, Product::Kubernetes, Product::Helm] {
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
