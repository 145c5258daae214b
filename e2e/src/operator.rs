//! The operator as a process of its own: `mail-failover run`.

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustix::process::Signal;
use tokio::time::timeout;

use crate::eventually::eventually;
use crate::process::Process;

/// Names the program to run instead of the one that is built.
const PROGRAM: &str = "MAIL_FAILOVER_BIN";
/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(5);
/// The metrics of 10,000 backends fit ten times.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;
/// Lines of the log that an error shows.
const TAIL: usize = 15;

/// How to run the operator.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--kubeconfig`.
    pub kubeconfig: PathBuf,
    /// `--lease-namespace`.
    pub lease_namespace: String,
    /// `--identity`: who it is among the replicas.
    pub identity: String,
    /// `--listen-address`: where it answers about its health.
    pub listen: SocketAddr,
    /// Where its output goes; appended to.
    pub log: PathBuf,
    /// Further arguments.
    pub arguments: Vec<OsString>,
    /// Further environment variables.
    pub environment: Vec<(OsString, OsString)>,
}

/// A running operator. Killed when dropped.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    listen: SocketAddr,
}

impl Operator {
    /// Starts the operator. It may not be ready yet, see [`Self::wait_ready`].
    ///
    /// # Errors
    /// When the program is not there or cannot be started.
    pub fn start(options: &Options) -> Result<Self> {
        let mut command = Command::new(program()?);
        command
            .arg("run")
            .arg("--kubeconfig")
            .arg(&options.kubeconfig)
            .args(["--lease-namespace", &options.lease_namespace])
            .args(["--identity", &options.identity])
            .args(["--listen-address", &options.listen.to_string()])
            .args(&options.arguments)
            .envs(options.environment.iter().map(|(name, value)| (name, value)));
        if !options.arguments.iter().any(|argument| argument == "--log-format") {
            command.args(["--log-format", "json"]);
        }
        let process = Process::start(format!("operator {}", options.identity), &mut command, &options.log)?;
        Ok(Self { process, listen: options.listen })
    }

    /// Ends it at once (SIGKILL), as a node's death would.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Freezes it (SIGSTOP): it keeps its connections and does nothing.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Thaws it (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it has ended before, or does not end within the deadline.
    pub async fn terminate(&self, deadline: Duration) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.wait(deadline).await
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the end of its log is in the message.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let what = format!("{} to be ready", self.process.name());
        let ready = eventually(deadline, &what, async || {
            if let Some(status) = self.process.ended() {
                return Ok(Some(Err(status)));
            }
            self.get("/readyz").await?;
            Ok(Some(Ok(())))
        })
        .await;
        match ready {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!("{} ended ({status}):\n{}", self.process.name(), self.process.log_tail(TAIL)),
            Err(error) => Err(error.context(self.process.log_tail(TAIL))),
        }
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await
    }

    /// The body of any path, when the status is a success.
    ///
    /// # Errors
    /// When there is no answer in time, or another status; the message has the body.
    pub async fn get(&self, path: &str) -> Result<String> {
        let uri: hyper::Uri = format!("http://{}{path}", self.listen).parse()?;
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let ask = async {
            let (head, body) = client.get(uri).await?.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
            anyhow::Ok((head.status, String::from_utf8(body.to_bytes().to_vec())?))
        };
        let answer =
            timeout(QUESTION, ask).await.with_context(|| format!("GET {path} took longer than {QUESTION:?}"))?;
        let (status, body) = answer.with_context(|| format!("GET {path}"))?;
        if !status.is_success() {
            bail!("GET {path}: {status}: {body}");
        }
        Ok(body)
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where it answers about its health.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        self.process.log()
    }
}

/// Builds the operator when cargo runs this, so that no suite ever tests yesterday's program: `cargo test -p mail-failover-e2e`
/// alone builds the operator's library, not its program.
///
/// # Errors
/// When it does not build, or there is no program and nobody to build it.
pub fn build() -> Result<()> {
    let Some(cargo) = env::var_os("CARGO").filter(|_| env::var_os(PROGRAM).is_none()) else {
        return program().map(drop);
    };
    let program = beside_us()?;
    let folder = program.parent().context("the program lies in a folder")?;
    let target = folder.parent().context("the profile's folder lies in the target folder")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(other) => other,
        None => bail!("no profile in {}", folder.display()),
    };
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "mail-failover-operator",
            "--bin",
            "mail-failover",
            "--profile",
            profile,
        ])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .stdin(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the operator does not build");
    }
    Ok(())
}

/// The operator's program.
///
/// # Errors
/// When it is not there.
pub fn program() -> Result<PathBuf> {
    let named = env::var_os(PROGRAM).filter(|value| !value.is_empty()).map(PathBuf::from);
    let path = named.map_or_else(beside_us, Ok)?;
    if !path.is_file() {
        bail!("there is no {}: run `cargo build`, or set {PROGRAM} to the program", path.display());
    }
    Ok(path)
}

/// Where cargo puts the operator's program: beside this one, or one folder up from a test's.
fn beside_us() -> Result<PathBuf> {
    let us = env::current_exe().context("the path of this program")?;
    let folder = us.parent().context("a program lies in a folder")?;
    let is_deps = folder.file_name().is_some_and(|name| name == "deps" || name == "examples");
    let folder = if is_deps { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.join("mail-failover"))
}
