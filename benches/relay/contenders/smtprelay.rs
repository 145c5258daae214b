//! `decke/smtprelay`, a relay in Go whose users ask for a failover between remotes. It sends each
//! message to all of its remotes, one after the other, so that it has one here.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use mail_failover_e2e::control_plane::binaries::on_path;
use mail_failover_e2e::process::Process;

use super::{Demands, LOGIN, Providers, at};

/// The remedy if it is not installed.
pub const HOW_TO_INSTALL: &str = "smtprelay is not on PATH: `git clone https://github.com/decke/smtprelay && cd smtprelay && go build`, or set SMTPRELAY to the program";

/// The path of its program, if it is installed.
pub fn program() -> Option<PathBuf> {
    env::var_os("SMTPRELAY").map(PathBuf::from).filter(|path| path.is_file()).or_else(|| on_path("smtprelay"))
}

/// The version that the program prints.
///
/// # Errors
/// It cannot be started.
pub fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output().context("cannot start smtprelay")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.trim().trim_start_matches("smtprelay/").to_owned())
}

/// Starts it. Returns the address of SMTP.
///
/// # Errors
/// It does not start.
pub fn start(providers: &Providers, folder: &Path) -> Result<(SocketAddr, Process)> {
    let address = at(41, 2525);
    let first = providers.first.address();
    let remote = match providers.demands {
        Demands::Nothing => format!("smtp://{first}"),
        // It knows no authorities but the system's, so it verifies nothing: less work than the others do.
        Demands::TlsAndLogin => {
            format!("starttls://{}:{}@{first}?skipVerify=true", LOGIN.0, LOGIN.1.replace(' ', "%20"))
        }
    };
    let mut command = Command::new(program().context(HOW_TO_INSTALL)?);
    command.args(["-listen", &address.to_string(), "-remotes", &remote, "-allowed_nets", "192.0.2.0/24"]).args([
        "-hostname",
        "smtprelay.bench.test",
        "-max_connections",
        "-1",
        "-log_level",
        "warn",
    ]);
    Ok((address, Process::start("smtprelay", &mut command, &folder.join("smtprelay.log"))?))
}
