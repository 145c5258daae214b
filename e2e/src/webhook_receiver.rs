//! A receiver of webhooks in another language, with that language's reference library of Standard Webhooks.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::control_plane::binaries::{cache_folder, on_path};
use crate::eventually::eventually;
use crate::helm::repository;
use crate::mail::certificates::Identity;
use crate::process::Process;
use crate::test_env::TestEnv;

/// The remedy if the receiver cannot be started.
pub const HOW_TO_INSTALL: &str = "the receiver of webhooks needs Python 3 with pip, and the package in e2e/tools/webhook-receiver/requirements.txt: apt-get install python3-pip";

/// The folder of the reference library.
const LIBRARY: &str = "standardwebhooks-1.1.0";
/// The time limit of the start.
const STARTING: Duration = Duration::from_mins(1);

/// Downloads the reference library into the cache folder, if it is not there. It is pinned by its hash.
///
/// # Errors
/// When there is no pip, or it cannot download.
pub fn prepare() -> Result<()> {
    if library().is_some() {
        return Ok(());
    }
    let folder = cache_folder()?.join(LIBRARY);
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--target"])
        .arg(&folder)
        .arg("--requirement")
        .arg(repository("e2e/tools/webhook-receiver/requirements.txt"))
        .output()
        .context("cannot start python3")?;
    ensure!(output.status.success(), "pip: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The folder of the reference library; `None` if it or Python is missing.
pub fn library() -> Option<PathBuf> {
    let folder = cache_folder().ok()?.join(LIBRARY);
    (folder.join("standardwebhooks").is_dir() && on_path("python3").is_some()).then_some(folder)
}

/// One call as the receiver has seen it.
#[derive(Clone, Debug, Deserialize)]
pub struct ReceivedCall {
    /// Seconds since the Unix epoch.
    pub at: f64,
    /// The header `webhook-id`.
    pub id: String,
    /// `taken`, `again` for an id that was taken before, `unverified`, or the mode in which it was not taken.
    pub outcome: String,
    /// Number of the event.
    #[serde(default)]
    pub sequence: u64,
    /// Backend with the largest share.
    #[serde(default)]
    pub backend: Option<String>,
    /// Type of the event.
    #[serde(default, rename = "type")]
    pub type_: String,
    /// Number of the signatures.
    #[serde(default)]
    pub signatures: usize,
}

/// A running receiver. Killed when dropped.
pub struct WebhookReceiver {
    _process: Process,
    journal: PathBuf,
    mode: PathBuf,
    address: SocketAddr,
}

impl WebhookReceiver {
    /// Starts a receiver at an address, with a certificate for it and a signing secret. It accepts each call.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn start(
        env: &TestEnv,
        name: &str,
        address: SocketAddr,
        identity: &Identity,
        secret: &str,
    ) -> Result<Self> {
        let library = library().context(HOW_TO_INSTALL)?;
        let file = |kind: &str| env.folder().join(format!("{name}.{kind}"));
        let (journal, mode, certificate) = (file("journal"), file("mode"), file("pem"));
        fs::write(&certificate, identity.pem())?;
        fs::write(&mode, "accept")?;
        fs::write(&journal, "")?;
        let mut command = Command::new("python3");
        command
            .arg(repository("e2e/tools/webhook-receiver/receiver.py"))
            .args(["--address", &address.ip().to_string(), "--port", &address.port().to_string(), "--secret", secret])
            .arg("--certificate")
            .arg(&certificate)
            .arg("--library")
            .arg(library)
            .arg("--journal")
            .arg(&journal)
            .arg("--mode")
            .arg(&mode);
        let process = Process::start(format!("receiver {name}"), &mut command, &file("log"))?;
        eventually(STARTING, "the receiver to listen", async || {
            Ok(TcpStream::connect(address).await.is_ok().then_some(()))
        })
        .await?;
        Ok(Self { _process: process, journal, mode, address })
    }

    /// Sets what it does with the calls that follow: `accept`, `lose`, `busy`, `broken` or `hang`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_mode(&self, mode: &str) -> Result<()> {
        let beside = self.mode.with_extension("next");
        fs::write(&beside, mode)?;
        fs::rename(beside, &self.mode)?;
        Ok(())
    }

    /// The calls so far, in their order.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn received(&self) -> Result<Vec<ReceivedCall>> {
        let text = fs::read_to_string(&self.journal)?;
        // The last line may be under way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The URL of the receiver.
    pub fn url(&self) -> String {
        format!("https://{}/hooks/mail", self.address)
    }
}
