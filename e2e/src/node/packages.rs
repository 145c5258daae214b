//! What a node needs of the machine.

use std::path::Path;

use crate::control_plane::binaries::on_path;

/// Debian's folder of CNI plugins.
pub(super) const CNI_PLUGINS: &str = "/usr/lib/cni";
/// Linked statically, so that it runs in an image of its own.
pub(super) const BUSYBOX: &str = "/bin/busybox";

/// What is missing on this machine for a node, and how to get it; `None` when all is there.
pub fn missing() -> Option<String> {
    let programs = ["runc", "iptables", "conntrack", "buildah", "mmdebstrap", "nsenter", "ip", "mount"]
        .map(|program| (program, on_path(program).is_some()));
    let files = [CNI_PLUGINS, BUSYBOX].map(|path| (path, Path::new(path).exists()));
    let missing: Vec<_> = programs.iter().chain(&files).filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return None;
    }
    Some(format!(
        "a node needs {}, not found here. On Debian and Ubuntu: sudo e2e/tools/install-debian-packages --node",
        missing.join(", ")
    ))
}
