//! The places of a machine that a kubelet, kube-proxy and a container runtime write to, and their
//! replacements.
//!
//! They write to places whose names are fixed, and to kernel settings that have no namespace. In
//! the mount namespace those places are replaced, so that the machine's stay as they are, in
//! whatever way this process ends.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::network::run;
use super::on_path;

/// The node's address, by which pods reach the API server.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// The addresses of Services.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";

/// The folder that is replaced as a whole: sockets, network namespaces and locks.
const RUN: &str = "/run";
/// Folders with an overlay: the machine's files are seen, and writes go elsewhere.
const COVERED: [&str; 2] = ["/var/lib", "/var/log"];
/// Settings that a kubelet writes for the whole machine unless they have these values. A machine
/// that panics at its first oops is not wanted here.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// Settings of the network namespace.
const NETWORK_SETTINGS: [(&str, &str); 3] = [
    ("net/ipv4/ip_forward", "1"),
    // Each pod has a route of its own, so a reply may take another route than the request.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
];

/// Prepares the mount and network namespace that this process is in.
pub(super) fn prepare() -> Result<()> {
    let folder = env::temp_dir();
    if folder.starts_with(RUN) {
        bail!("TMPDIR={} lies in {RUN}, which is replaced for a node: set TMPDIR to another folder", folder.display());
    }
    cover_folders()?;
    show_kernel_settings()?;
    let ip = on_path("ip").context("`ip` is not installed; it comes with iproute2")?;
    let address = NODE_ADDRESS.to_string();
    run(&ip, &["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    // A connection to a Service needs a route before kube-proxy can redirect it.
    run(&ip, &["route", "add", SERVICE_RANGE, "dev", "lo", "src", &address])?;
    // Connections to all other addresses fail at once.
    run(&ip, &["route", "add", "unreachable", "default"])?;
    for (name, value) in NETWORK_SETTINGS {
        fs::write(Path::new("/proc/sys").join(name), value).with_context(|| format!("cannot set {name}"))?;
    }
    Ok(())
}

fn cover_folders() -> Result<()> {
    let mount = on_path("mount").context("`mount` is not installed; it comes with util-linux")?;
    run(&mount, &["-t", "tmpfs", "-o", "mode=755", "tmpfs", RUN])?;
    for covered in COVERED {
        // On a tmpfs, because an overlay on an overlay, as in a container, is refused.
        let ours = Path::new(RUN).join(covered.trim_start_matches('/').replace('/', "-"));
        let (upper, work) = (ours.join("upper"), ours.join("work"));
        for folder in [&upper, &work] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let options = format!("lowerdir={covered},upperdir={},workdir={}", upper.display(), work.display());
        run(&mount, &["-t", "overlay", "-o", &options, "overlay", covered])?;
    }
    Ok(())
}

/// Covers the kernel settings with the values that a kubelet expects.
fn show_kernel_settings() -> Result<()> {
    let mount = on_path("mount").context("`mount` is not installed; it comes with util-linux")?;
    let ours = Path::new(RUN).join("kernel-settings");
    for (name, value) in KERNEL_SETTINGS {
        let setting = Path::new("/proc/sys").join(name);
        if !setting.exists() {
            continue;
        }
        let shown = ours.join(name.replace('/', "-"));
        fs::create_dir_all(&ours)?;
        fs::write(&shown, format!("{value}\n")).with_context(|| format!("cannot write {}", shown.display()))?;
        run(&mount, &["--bind".as_ref(), shown.as_os_str(), setting.as_os_str()])?;
    }
    Ok(())
}
