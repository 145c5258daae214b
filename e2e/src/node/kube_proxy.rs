use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::runtime::write;
use super::start::NAME;
use crate::control_plane::arguments::{POD_RANGE, flag};
use crate::control_plane::binaries::search_path;
use crate::control_plane::component::Component;
use crate::control_plane::{Binaries, ControlPlane, Program};

/// The component kube-proxy, not started yet.
pub(super) fn component(binaries: &Binaries, control_plane: &ControlPlane, folder: &Path) -> Result<Component> {
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": control_plane.kubeconfig_for("system:kube-proxy", &[])? },
        "hostnameOverride": NAME,
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        // Limits of the machine, which a network namespace may not set.
        "conntrack": { "maxPerCore": 0 },
        "oomScoreAdj": 0,
    });
    let path = folder.join("kube-proxy.json");
    write(&path, &configuration.to_string())?;
    let arguments = vec![flag("config", &path)];
    Ok(Component::new("kube-proxy", binaries.path(Program::KubeProxy)?, arguments, folder)
        .with("PATH", search_path(&[])))
}
