//! Route 53 as moto imitates it, with a zone that a BIND publishes.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;

use crate::control_plane::binaries::{cache_folder, on_path};
use crate::eventually::eventually;
use crate::helm::repository;
use crate::mail::certificates::Identity;
use crate::name_server::{KEY, KEY_NAME, NameServer, ZONE};
use crate::process::Process;
use crate::test_env::TestEnv;

/// The remedy if moto cannot be started.
pub const HOW_TO_INSTALL: &str =
    "moto needs Python 3 with pip, and the packages in e2e/tools/moto/requirements.txt: apt-get install python3-pip";

/// The folder of the packages; its name changes with their list.
const LIBRARY: &str = "moto-5.2.5";
/// The time limit of the start.
const STARTING: Duration = Duration::from_mins(1);

/// Downloads moto into the cache folder, if it is not there. All packages are pinned by their hashes.
///
/// # Errors
/// When there is no pip, or it cannot download.
pub fn prepare() -> Result<()> {
    if library().is_some() {
        return Ok(());
    }
    let folder = cache_folder()?.join(LIBRARY);
    // Into another folder first, so that one that stopped in between is not taken for a whole one.
    let beside = folder.with_extension("next");
    if beside.exists() {
        fs::remove_dir_all(&beside)?;
    }
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--require-hashes", "--target"])
        .arg(&beside)
        .arg("--requirement")
        .arg(repository("e2e/tools/moto/requirements.txt"))
        .output()
        .context("cannot start python3")?;
    ensure!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(beside, folder)?;
    Ok(())
}

/// The folder of the packages; `None` if it or Python is missing.
pub fn library() -> Option<PathBuf> {
    let folder = cache_folder().ok()?.join(LIBRARY);
    (folder.join("moto").is_dir() && on_path("python3").is_some()).then_some(folder)
}

/// A running moto. Killed when dropped.
pub struct Moto {
    _process: Process,
    address: SocketAddr,
    zone_id: String,
}

impl Moto {
    /// Starts moto at an address, with a certificate for it and the zone of a name server, which publishes what moto has
    /// accepted.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn start(
        env: &TestEnv,
        address: SocketAddr,
        identity: &Identity,
        publisher: &NameServer,
    ) -> Result<Self> {
        let library = library().context(HOW_TO_INSTALL)?;
        let file = |kind: &str| env.folder().join(format!("moto.{kind}"));
        let (certificate, zone_id) = (file("pem"), file("zone-id"));
        fs::write(&certificate, identity.pem())?;
        let mut command = Command::new("python3");
        command
            .arg(repository("e2e/tools/moto/server.py"))
            .arg("--library")
            .arg(library)
            .args(["--address", &address.ip().to_string(), "--port", &address.port().to_string()])
            .arg("--certificate")
            .arg(&certificate)
            .args(["--zone", ZONE, "--name-server", &publisher.address().ip().to_string()])
            .args(["--tsig", &format!("hmac-sha256:{KEY_NAME}:{KEY}")])
            .arg("--zone-id")
            .arg(&zone_id);
        let process = Process::start("moto".to_owned(), &mut command, &file("log"))?;
        let zone_id = eventually(STARTING, "moto to listen", async || {
            TcpStream::connect(address).await.with_context(|| process.log_tail(20))?;
            Ok(Some(fs::read_to_string(&zone_id)?))
        })
        .await?;
        Ok(Self { _process: process, address, zone_id })
    }

    /// Its place as that of Route 53.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The id of the hosted zone.
    pub fn zone_id(&self) -> &str {
        &self.zone_id
    }
}
