//! The programs that a node needs on the machine.

use std::path::Path;

use crate::control_plane::binaries::on_path;

/// Debian's folder of CNI plugins.
pub(super) const CNI_PLUGINS: &str = "/usr/lib/cni";
/// The path of busybox, which is linked statically and so runs in an image of its own.
pub(super) const BUSYBOX: &str = "/bin/busybox";

/// The programs that a node needs and this machine lacks, and the remedy; `None` if all are there.
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
