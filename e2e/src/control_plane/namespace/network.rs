//! The network inside a namespace of our own.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::on_path;

/// The name server that `/etc/resolv.conf` names inside. Nothing answers there until a test listens
/// on port 53.
pub const NAME_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));

/// The address ranges that are local inside.
const RANGES: [&str; 3] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];
const RANGE_V6: &str = "2001:db8::/32";

/// Brings the network inside up.
pub(super) fn prepare() -> Result<()> {
    let ip = on_path("ip").context("`ip` is not installed; it comes with iproute2")?;
    run(&ip, &["link", "set", "lo", "up"])?;
    for range in RANGES {
        // One local route makes every address of the range local.
        run(&ip, &["route", "add", "local", range, "dev", "lo"])?;
    }
    if Path::new("/proc/sys/net/ipv6").exists() {
        run(&ip, &["-6", "route", "add", "local", RANGE_V6, "dev", "lo"])?;
        // IPv4 may bind to addresses of a local route. IPv6 needs the address on an interface, or this setting.
        fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").context("cannot allow to bind to 2001:db8::/32")?;
    }
    name_server()
}

/// Makes `/etc/resolv.conf` name [`NAME_SERVER`], for processes inside only.
fn name_server() -> Result<()> {
    let system = Path::new("/etc/resolv.conf");
    if !system.exists() {
        return Ok(());
    }
    let ours: PathBuf = env::temp_dir().join("resolv.conf");
    fs::write(&ours, format!("nameserver {NAME_SERVER}\noptions timeout:1 attempts:2\n"))
        .with_context(|| format!("cannot write {}", ours.display()))?;
    let mount = on_path("mount").context("`mount` is not installed; it comes with util-linux")?;
    run(&mount, &["--bind".as_ref(), ours.as_os_str(), system.as_os_str()])
}

pub(super) fn run<S: AsRef<OsStr>>(program: &Path, arguments: &[S]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        let words = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
        bail!("{} {words}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
