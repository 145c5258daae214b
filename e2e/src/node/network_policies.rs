//! What enforces `NetworkPolicies`: `sigs.k8s.io/kube-network-policies`, beside kube-proxy on the node.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::clients::Kubectl;
use crate::control_plane::binaries::search_path;
use crate::control_plane::component::Component;
use crate::control_plane::{Binaries, ControlPlane, Program};
use crate::node::name_server::NAMESPACE;
use crate::node::start::NAME;

const ACCOUNT: &str = "kube-network-policies";
/// Where the program looks for its token, as if in a pod. In the mount namespace, where `/run` is ours.
const CREDENTIALS: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// What it needs in the cluster, as a list that kubectl applies.
pub(super) fn objects() -> Value {
    let items = [
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": ACCOUNT, "namespace": NAMESPACE } }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": ACCOUNT },
            "rules": [
                { "apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"] },
                { "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list", "watch"] },
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": ACCOUNT },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT },
            "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE }],
        }),
    ];
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

/// Starts it, once its objects are there and containerd runs.
pub(super) async fn start(
    binaries: &Binaries,
    control_plane: &ControlPlane,
    kubectl: &Kubectl,
    folder: &Path,
) -> Result<Component> {
    let arguments = ["create", "token", ACCOUNT, "--namespace", NAMESPACE, "--duration=24h"];
    let token = kubectl.run(&arguments).await?;
    let credentials = Path::new(CREDENTIALS);
    fs::create_dir_all(credentials).with_context(|| format!("cannot make {CREDENTIALS}"))?;
    fs::write(credentials.join("token"), token.trim())?;
    fs::copy(control_plane.certificate_authority(), credentials.join("ca.crt"))?;
    let arguments = vec![format!("--hostname-override={NAME}"), "--metrics-bind-address=127.0.0.1:9080".to_owned()];
    let component =
        Component::new("kube-network-policies", binaries.path(Program::KubeNetworkPolicies)?, arguments, folder)
            .with("PATH", search_path(&[]))
            .with("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .with("KUBERNETES_SERVICE_PORT", control_plane.port().to_string());
    component.start()?;
    Ok(component)
}
