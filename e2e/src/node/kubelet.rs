use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::runtime::{SOCKET, write};
use super::start::NAME;
use crate::control_plane::arguments::flag;
use crate::control_plane::binaries::search_path;
use crate::control_plane::component::Component;
use crate::control_plane::namespace::{self, NAME_SERVER, NODE_ADDRESS};
use crate::control_plane::{Binaries, ControlPlane, Program};
use crate::node::name_server;

/// The component kubelet, not started yet. Logs go to `folder`, volumes to `data`, output of
/// containers to `pod_logs`.
pub(super) fn component(
    binaries: &Binaries,
    control_plane: &ControlPlane,
    folder: &Path,
    data: &Path,
    pod_logs: &Path,
) -> Result<Component> {
    let address = NODE_ADDRESS.to_string();
    let server = control_plane.server_identity("kubelet", &[NAME, &address])?;
    let kubeconfig = control_plane.kubeconfig_for(&format!("system:node:{NAME}"), &["system:nodes"])?;
    let resolv_conf = folder.join("resolv.conf");
    write(&resolv_conf, &format!("nameserver {NAME_SERVER}\n"))?;
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": control_plane.certificate_authority() },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": server.certificate,
        "tlsPrivateKeyFile": server.key,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "clusterDNS": [name_server::ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": resolv_conf,
        "podLogsDir": pod_logs,
        "volumePluginDir": folder.join("volume-plugins"),
        // As the machine has it: control groups of version 1 or 2, swap or none.
        "failCgroupV1": false,
        "failSwapOn": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": namespace::control_group()?,
        // This node must not evict pods for the machine's disks and memory.
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        // A root without CAP_SYS_RESOURCE may not lower it.
        "oomScoreAdj": 0,
    });
    let path = folder.join("kubelet.json");
    write(&path, &configuration.to_string())?;
    let arguments = vec![
        flag("config", &path),
        flag("kubeconfig", &kubeconfig),
        flag("root-dir", &data.join("kubelet")),
        flag("cert-dir", &data.join("kubelet-certificates")),
        format!("--hostname-override={NAME}"),
        format!("--node-ip={address}"),
    ];
    Ok(Component::new("kubelet", binaries.path(Program::Kubelet)?, arguments, folder).with("PATH", search_path(&[])))
}
