//! A user, network, mount and process namespace of our own.
//!
//! The API server refuses loopback addresses in `EndpointSlices`, so servers, senders and the operator of a suite meet
//! at the documentation addresses (RFC 5737, RFC 3849) in a network that has no way out. Every address of these ranges
//! can be bound and connected to; every port is free; suites that run at the same time do not see each other.
//!
//! The program starts itself again inside, through util-linux' `unshare`, as process 1 of the process namespace: when
//! it ends, in whatever way, the kernel ends every process that it started. The process outside only waits, passes
//! signals on and removes what was left in the temporary folder.
//!
//! ```text
//! program (outside) ── unshare ── program (inside, process 1) ── etcd, kube-apiserver, operators, …
//!         └────── a pipe: its end inside reads "closed" when the process outside is gone ──┘
//! ```
//!
//! [`network`] makes the network inside, [`node`] what a kubelet needs beside it, and [`leftovers`] removes what the
//! kernel does not: control groups, and the folder of one that was killed.

mod leftovers;
mod network;
mod node;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::binaries::on_path;
use crate::environment;

/// The variable that marks a process that is inside already; its value names what the namespace
/// isolates.
const INSIDE: &str = "MAIL_FAILOVER_NAMESPACE";

pub(crate) use leftovers::{control_group, disposable_folder};
pub use network::NAME_SERVER;
pub use node::{NODE_ADDRESS, SERVICE_RANGE};

/// The parts of the machine that are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Processes and network: for a control plane of our own.
    Network,
    /// Processes and network, with the machine's users: for programs that start as root and change
    /// their user, as Postfix does. A user namespace made without help has one user only. It needs
    /// real root.
    NetworkAsRoot,
    /// The same as [`Self::NetworkAsRoot`], and what a kubelet and a container runtime change of a
    /// machine: its control groups are below one of our own, and `/run`, `/var/lib`, `/var/log` and
    /// kernel settings stay unchanged.
    Node,
    /// Processes only, with the machine's network: for a cluster that exists already.
    Processes,
}

impl Isolation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::NetworkAsRoot => "network-as-root",
            Self::Node => "node",
            Self::Processes => "processes",
        }
    }

    fn has_own_network(self) -> bool {
        match self {
            Self::Network | Self::NetworkAsRoot | Self::Node => true,
            Self::Processes => false,
        }
    }

    /// Returns true if it keeps the machine's users, and so needs the machine's root.
    fn takes_root(self) -> bool {
        match self {
            Self::NetworkAsRoot | Self::Node => true,
            Self::Network | Self::Processes => false,
        }
    }
}

/// The side of the namespace on which [`enter`] returned.
#[derive(Debug)]
pub enum Entered {
    /// This is the process inside: continue.
    Inside,
    /// This is the process outside, and the one inside has ended: exit with this code.
    Finished(ExitCode),
    /// This machine allows no namespace. The text names the reason and the remedy.
    Forbidden(String),
}

/// Starts this program again, with the same arguments, in namespaces of its own; returns in both
/// processes. `prepare` runs outside before that, once it is known that the machine allows it:
/// downloads, builds.
///
/// Call it first in `main`, before any thread or runtime exists.
///
/// # Errors
/// When `prepare` fails, or when a namespace is allowed, but cannot be set up.
pub fn enter(isolation: Isolation, prepare: impl FnOnce() -> Result<()>) -> Result<Entered> {
    if env::var_os(INSIDE).is_some_and(|value| value == OsStr::new(isolation.as_str())) {
        end_with_the_process_outside();
        if isolation.has_own_network() {
            network::prepare()?;
        }
        if isolation == Isolation::Node {
            node::prepare()?;
        }
        return Ok(Entered::Inside);
    }
    let Some(unshare) = on_path("unshare") else {
        return Ok(Entered::Forbidden("`unshare` is not installed; it comes with util-linux".to_owned()));
    };
    if isolation.has_own_network() && on_path("ip").is_none() {
        return Ok(Entered::Forbidden("`ip` is not installed; it comes with iproute2".to_owned()));
    }
    if isolation.takes_root()
        && let Err(why) = has_real_root()
    {
        return Ok(Entered::Forbidden(why));
    }
    match allowed_flags(&unshare, isolation)? {
        Ok(flags) => {
            prepare()?;
            run_inside(&unshare, &flags, isolation).map(Entered::Finished)
        }
        Err(why) => Ok(Entered::Forbidden(why)),
    }
}

/// The most isolating flags that this machine allows, or the reason why it allows none.
fn allowed_flags(unshare: &Path, isolation: Isolation) -> Result<Result<Vec<&'static str>, String>> {
    let mut common = vec!["--mount", "--pid", "--fork", "--kill-child"];
    if isolation.has_own_network() {
        common.push("--net");
    }
    // A container may forbid a fresh /proc, or user namespaces while its root may make the others.
    let attempts: [&[&str]; 4] =
        [&["--user", "--map-root-user", "--mount-proc"], &["--user", "--map-root-user"], &["--mount-proc"], &[]];
    let mut refusals = Vec::new();
    for attempt in attempts {
        if isolation.takes_root() && attempt.contains(&"--user") {
            continue;
        }
        let flags: Vec<&str> = attempt.iter().chain(&common).copied().collect();
        let output = Command::new(unshare)
            .args(&flags)
            .args(["--", "true"])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", unshare.display()))?;
        if output.status.success() {
            return Ok(Ok(flags));
        }
        refusals.push(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    refusals.dedup();
    Ok(Err(format!(
        "this machine allows no namespace of one's own ({}). To allow it, depending on the machine: \
         `sysctl kernel.unprivileged_userns_clone=1`, `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, \
         `sysctl user.max_user_namespaces=10000`; in a container, `--privileged` or `--security-opt seccomp=unconfined`",
        refusals.join("; ")
    )))
}

/// Checks that this process is root and may become any user. The error names the remedy.
fn has_real_root() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err(
            "it needs root, because Postfix and a kubelet do: run it with `sudo -E env PATH=$PATH …`".to_owned()
        );
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if maps_many_users(&map) {
        Ok(())
    } else {
        Err("this root is the only user of a user namespace, and Postfix and containers become other users: run it as the machine's root, or in a \
             container whose users are mapped (newuidmap, `--userns-remap`)"
            .to_owned())
    }
}

/// Returns true if `/proc/self/uid_map` (`user_namespaces(7)`) maps all users that packages of
/// Debian make, whose ids are below 1000. Its lines have the first id inside, the first id outside,
/// and the number of ids.
fn maps_many_users(map: &str) -> bool {
    let ranges: Vec<_> = map
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
            let (first, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(first..first.saturating_add(count))
        })
        .collect();
    (0..1000).all(|id| ranges.iter().any(|range| range.contains(&id)))
}

/// Runs the process outside until its end.
fn run_inside(unshare: &Path, flags: &[&str], isolation: Isolation) -> Result<ExitCode> {
    let program = env::current_exe().context("the path of this program")?;
    let is_node = isolation == Isolation::Node;
    let prefix = if is_node { leftovers::NODE_PREFIX } else { "mail-failover-" };
    let scratch = tempfile::Builder::new().prefix(prefix).tempdir().context("cannot make a temporary folder")?;
    let _remains = if is_node { Some(leftovers::Leftovers::of(scratch.path())?) } else { None };
    if isolation.takes_root() {
        // Other users may enter, since Postfix's users must reach their files in it. Only root may list it.
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o711))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, interrupted) = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let mut child = tokio::process::Command::new(unshare)
            .args(flags)
            .arg("--")
            .arg(program)
            .args(env::args_os().skip(1))
            .env(INSIDE, isolation.as_str())
            // All files of the process inside are in this folder, so that it can be removed at once.
            .env("TMPDIR", scratch.path())
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", unshare.display()))?;
        // Taken out of the child, since waiting for the child would close it.
        let _pipe = child.stdin.take();
        tokio::select! {
            status = child.wait() => anyhow::Ok((status?, None)),
            number = signals.next() => {
                // The kernel kills the process inside with its parent (--kill-child), and with it every other one.
                child.kill().await?;
                Ok((child.wait().await?, Some(number)))
            }
        }
    })?;
    if let Some(number) = interrupted {
        remove(scratch);
        return Ok(ExitCode::from(128 + number));
    }
    if status.success() && !keep() {
        remove(scratch);
    } else {
        eprintln!("What was written is kept in {}", scratch.keep().display());
    }
    Ok(code_of(status))
}

/// Returns true if `E2E_KEEP` asks to keep what was written, also after a success.
pub fn keep() -> bool {
    environment::is_set("E2E_KEEP")
}

fn code_of(status: ExitStatus) -> ExitCode {
    // Without a code a signal ended it; unshare passes that on by ending the same way.
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(101))
}

/// Removes a folder. Processes that were just killed may still be writing to it.
fn remove(folder: TempDir) {
    let path = folder.keep();
    for _ in 0..100 {
        match fs::remove_dir_all(&path) {
            Ok(()) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    eprintln!("{} could not be removed", path.display());
}

/// The signals that end a program by custom.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

fn listen_to(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("cannot listen to signals")
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: listen_to(SignalKind::interrupt())?,
            terminate: listen_to(SignalKind::terminate())?,
            hang_up: listen_to(SignalKind::hangup())?,
        })
    }

    /// Waits for the first signal, and returns its number.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
        }
    }
}

/// Ends this process when the one outside is gone for any reason: its end of the pipe closes.
fn end_with_the_process_outside() {
    std::thread::spawn(|| {
        let mut pipe = std::io::stdin().lock();
        let mut bytes = [0; 64];
        while pipe.read(&mut bytes).is_ok_and(|length| length > 0) {}
        std::process::exit(130);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_with_one_user_is_told_from_a_machine() {
        let cases = [
            ("         0          0 4294967295\n", true),
            ("0 100000 65536\n", true),
            ("0 1000 1\n1 100000 65536\n", true),
            ("0 1000 1\n", false),
            ("1000 1000 1\n", false),
            ("", false),
        ];
        for (map, expected) in cases {
            assert_eq!(maps_many_users(map), expected, "{map:?}");
        }
    }
}
