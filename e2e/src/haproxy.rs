//! HAProxy, the peer that the benches measure beside the operator: a common way to put two relays
//! behind one address.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::control_plane::binaries::on_path;
use crate::process::Process;

/// The remedy if HAProxy is not installed.
pub const HOW_TO_INSTALL: &str = "haproxy is not installed (on Debian and Ubuntu: e2e/tools/install-debian-packages)";

/// The settings of HAProxy's health checks.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// `inter`.
    pub interval: &'static str,
    /// `timeout check`.
    pub timeout: &'static str,
    /// `fall`.
    pub failures: u32,
    /// `rise`.
    pub successes: u32,
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
    let Checks { interval, timeout, failures, successes } = checks;
    let mut text = format!(
        "global\n  maxconn 4000\n\ndefaults\n  mode tcp\n  retries 3\n  option redispatch\n  option smtpchk EHLO haproxy.bench.test\n  \
         timeout connect {timeout}\n  timeout check {timeout}\n  timeout client 1m\n  timeout server 1m\n  \
         default-server inter {interval} fall {failures} rise {successes} on-marked-down shutdown-sessions\n"
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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn all_servers_are_checked_and_all_but_the_first_are_backups() {
        let checks = Checks { interval: "200ms", timeout: "500ms", failures: 3, successes: 5 };
        let servers = vec![address("192.0.2.1:25"), address("192.0.2.2:25")];
        let text = configuration(checks, &[Listen { at: address("192.0.2.9:2500"), servers }]);
        for line in [
            "  timeout check 500ms\n",
            "  default-server inter 200ms fall 3 rise 5 on-marked-down shutdown-sessions\n",
            "listen route0\n  bind 192.0.2.9:2500\n  server s0 192.0.2.1:25 check\n  server s1 192.0.2.2:25 check backup\n",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
