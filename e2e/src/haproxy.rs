//! HAProxy, the peer that the benches measure beside the operator: a common way to put two relays
//! behind one address.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use crate::control_plane::binaries::on_path;
use crate::process::Process;

/// The remedy if HAProxy is not installed.
pub const HOW_TO_INSTALL: &str = "haproxy is not installed (on Debian and Ubuntu: e2e/tools/install-debian-packages)";

/// The settings of HAProxy's health checks.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// `inter`.
    pub interval: &'static str,
    /// `fastinter`: the interval after a first failure.
    pub fast_interval: Option<&'static str>,
    /// `timeout check`.
    pub timeout: &'static str,
    /// `fall`.
    pub failures: u32,
    /// `rise`.
    pub successes: u32,
    /// The syslog server that is told of each server that goes down (RFC 3164 over UDP).
    pub told: Option<SocketAddr>,
}

/// A frontend, and the servers behind it: the first, and the others as backups.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address at which it listens.
    pub at: SocketAddr,
    /// The servers, most preferred first.
    pub servers: Vec<SocketAddr>,
}

/// A running HAProxy. Killed when dropped.
#[derive(Debug)]
pub struct HaProxy {
    process: Process,
}

impl HaProxy {
    /// The path of its program, if it is installed.
    pub fn program() -> Option<PathBuf> {
        on_path("haproxy")
    }

    /// The version that the program prints.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn version(program: &Path) -> Result<String> {
        let output = Command::new(program).arg("-v").output().context("cannot start haproxy")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_whitespace().nth(2).unwrap_or("of an unknown version");
        Ok(version.to_owned())
    }

    /// Starts HAProxy with its files in `folder`. It may not listen yet.
    ///
    /// # Errors
    /// When it refuses the configuration or cannot be started.
    pub fn start(program: &Path, checks: Checks, listens: &[Listen], folder: &Path) -> Result<Self> {
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration(checks, listens)).with_context(|| format!("cannot write {}", file.display()))?;
        let tried = Command::new(program).arg("-c").arg("-f").arg(&file).output().context("cannot start haproxy")?;
        if !tried.status.success() {
            bail!("haproxy refuses {}: {}", file.display(), String::from_utf8_lossy(&tried.stderr).trim());
        }
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&file);
        Ok(Self { process: Process::start("haproxy", &mut command, &folder.join("haproxy.log"))? })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

/// The configuration that HAProxy's documentation advises for two servers of which one is a
/// standby.
fn configuration(checks: Checks, listens: &[Listen]) -> String {
    let Checks { interval, fast_interval, timeout, failures, successes, told } = checks;
    let log = told.map(|at| format!("  log {at} local0 notice\n")).unwrap_or_default();
    let logs = told.map(|_| "  log global\n").unwrap_or_default();
    let fast = fast_interval.map(|fast| format!("fastinter {fast} ")).unwrap_or_default();
    let mut text = format!(
        "global\n  maxconn 4000\n{log}\ndefaults\n{logs}  mode tcp\n  retries 3\n  option redispatch\n  option smtpchk EHLO haproxy.bench.test\n  \
         timeout connect {timeout}\n  timeout check {timeout}\n  timeout client 1m\n  timeout server 1m\n  \
         default-server inter {interval} {fast}fall {failures} rise {successes} on-marked-down shutdown-sessions\n"
    );
    for (number, listen) in listens.iter().enumerate() {
        let _ = write!(text, "\nlisten route{number}\n  bind {}\n", listen.at);
        for (rank, server) in listen.servers.iter().enumerate() {
            let backup = if rank == 0 { "" } else { " backup" };
            let _ = writeln!(text, "  server s{rank} {server} check{backup}");
        }
    }
    text
}

/// A syslog server that notes when HAProxy marks a server as down. It stops when dropped.
#[derive(Debug)]
pub struct DownLog {
    address: SocketAddr,
    downs: Arc<Mutex<Vec<(String, Instant)>>>,
    _task: AbortOnDropHandle<()>,
}

impl DownLog {
    /// Starts to listen.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub async fn listen(address: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(address).await.with_context(|| format!("{address} for syslog"))?;
        let address = socket.local_addr()?;
        let downs = Arc::<Mutex<Vec<(String, Instant)>>>::default();
        let noted = downs.clone();
        let task = tokio::spawn(async move {
            let mut packet = [0; 2048];
            while let Ok(octets) = socket.recv(&mut packet).await {
                let at = Instant::now();
                if let Some(server) = marked_down(&String::from_utf8_lossy(&packet[..octets])) {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push((server.to_owned(), at));
                }
            }
        });
        Ok(Self { address, downs, _task: AbortOnDropHandle::new(task) })
    }

    /// The address for [`Checks::told`].
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The time at which this server (`route0/s0`) was marked as down first since then.
    pub fn first_since(&self, server: &str, since: Instant) -> Option<Instant> {
        let downs = self.downs.lock().unwrap_or_else(PoisonError::into_inner);
        downs.iter().find(|(down, at)| down == server && *at >= since).map(|(_, at)| *at)
    }
}

/// The server that a line of HAProxy's log is about, if it says that the server is down.
fn marked_down(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("Server ")?;
    rest.split_once(" is DOWN").map(|(server, _)| server)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn all_servers_are_checked_and_all_but_the_first_are_backups() {
        let checks = Checks {
            interval: "200ms",
            fast_interval: Some("20ms"),
            timeout: "500ms",
            failures: 3,
            successes: 5,
            told: Some(address("192.0.2.8:514")),
        };
        let servers = vec![address("192.0.2.1:25"), address("192.0.2.2:25")];
        let text = configuration(checks, &[Listen { at: address("192.0.2.9:2500"), servers }]);
        for line in [
            "  timeout check 500ms\n",
            "  log 192.0.2.8:514 local0 notice\n",
            "  default-server inter 200ms fastinter 20ms fall 3 rise 5 on-marked-down shutdown-sessions\n",
            "listen route0\n  bind 192.0.2.9:2500\n  server s0 192.0.2.1:25 check\n  server s1 192.0.2.2:25 check backup\n",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_server_that_goes_down_is_found_in_the_log() {
        let line =
            "<129>Nov 30 01:02:03 haproxy[7]: Backup Server route0/s1 is DOWN, reason: Layer4 connection problem";
        assert_eq!(marked_down(line), Some("route0/s1"));
        assert_eq!(
            marked_down("<133>Nov 30 01:02:03 haproxy[7]: Server route0/s0 is UP, reason: Layer7 check passed"),
            None
        );
    }
}
