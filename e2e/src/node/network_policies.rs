//! Enforcement of `NetworkPolicies`: `sigs.k8s.io/kube-network-policies`, beside kube-proxy on the
//! node.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::clients::Kubectl;
use crate::command;
use crate::control_plane::arguments::POD_RANGE;
use crate::control_plane::binaries::{on_path, search_path};
use crate::control_plane::component::Component;
use crate::control_plane::{Binaries, ControlPlane, Program};
use crate::node::name_server::NAMESPACE;
use crate::node::start::NAME;

const START: Duration = Duration::from_secs(30);
/// The text that it logs once it knows the policies and the pods.
const SYNCED: &str = "Caches are synced";
const ACCOUNT: &str = "kube-network-policies";
/// The folder of the program's token, as in a pod. In the mount namespace `/run` is our own.
const CREDENTIALS: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// The queue of the kernel in which the program decides about packets.
const QUEUE: &str = "100";

/// The program's objects in the cluster, as a list for kubectl.
fn objects() -> Value {
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

/// Starts the program.
pub(super) async fn start(
    binaries: &Binaries,
    control_plane: &ControlPlane,
    kubectl: &Kubectl,
    folder: &Path,
) -> Result<Component> {
    kubectl.apply(&objects().to_string()).await?;
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
    component
        .ready(START, async || {
            ensure!(fs::read_to_string(component.log())?.contains(SYNCED), "it has not listed the policies yet");
            Ok(())
        })
        .await?;
    lead_to_queue().await?;
    Ok(component)
}

/// Hands the first packet of every connection of a pod to the program. Its own rules do so by
/// nftables, but some kernels are built without the `queue` statement (`CONFIG_NFT_QUEUE`); more
/// kernels have the same in iptables.
async fn lead_to_queue() -> Result<()> {
    let rules: [&[&str]; 4] = [
        // As in the program's own rules: the node's own connections are probes.
        &["-m", "owner", "--uid-owner", "0", "-j", "RETURN"],
        &["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "RETURN"],
        &["--source", POD_RANGE, "-j", "NFQUEUE", "--queue-num", QUEUE],
        &["--destination", POD_RANGE, "-j", "NFQUEUE", "--queue-num", QUEUE],
    ];
    let iptables = on_path("iptables").context("`iptables` is not installed")?;
    for rule in rules {
        let mut command = Command::new(&iptables);
        command.args(["--wait", "-t", "mangle", "-A", "POSTROUTING"]).args(rule);
        command::output(&mut command, "iptables", "", START).await?;
    }
    Ok(())
}
