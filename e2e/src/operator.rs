//! The operator as a process of its own: `mail-failover run`.

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Method;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustix::process::Signal;
use tokio::time::timeout;

use crate::environment;
use crate::eventually::eventually;
use crate::process::Process;

/// The variable that names the program to run instead of the one that is built.
const PROGRAM: &str = "MAIL_FAILOVER_BIN";
/// The flags that let probes reach the mail servers of tests: on loopback addresses, at any port.
const MAIL_SERVERS: [&str; 4] = ["--allow-destinations", "127.0.0.0/8,::1", "--allow-ports", "1-65535"];
/// The time limit of one request.
const QUESTION: Duration = Duration::from_secs(5);
/// The limit of an answer in bytes: ten times the metrics of 10,000 backends.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;
/// Lines of the log that an error shows.
const TAIL: usize = 15;

/// Settings of an operator's process.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program to run instead of the operator of this workspace, such as an earlier release.
    pub program: Option<PathBuf>,
    pub kubeconfig: PathBuf,
    pub lease_namespace: String,
    /// `--identity`: the replica's name.
    pub identity: String,
    /// `--listen-address`: the address of its metrics.
    pub listen: SocketAddr,
    /// `--health-listen-address`: the address of `/livez` and `/readyz`.
    pub health: SocketAddr,
    /// The file that the operator's output is appended to.
    pub log: PathBuf,
    /// Further arguments of `run`.
    pub arguments: Vec<OsString>,
    /// Further environment variables of the process.
    pub environment: Vec<(OsString, OsString)>,
}

impl Options {
    /// Returns true if the further arguments contain a flag.
    fn has(&self, flag: &str) -> bool {
        self.arguments.iter().any(|argument| argument == flag)
    }
}

/// A running operator. Killed when dropped.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    listen: SocketAddr,
    health: SocketAddr,
}

impl Operator {
    /// Starts the operator. It may not be ready yet, see [`Self::wait_ready`].
    ///
    /// # Errors
    /// When the program is not there or cannot be started.
    pub fn start(options: &Options) -> Result<Self> {
        let mut command = Command::new(match &options.program {
            Some(program) => program.clone(),
            None => program()?,
        });
        command
            .arg("run")
            .arg("--kubeconfig")
            .arg(&options.kubeconfig)
            .args(["--lease-namespace", &options.lease_namespace])
            .args(["--identity", &options.identity])
            .args(["--listen-address", &options.listen.to_string()]);
        if !options.has("--log-format") {
            command.args(["--log-format", "json"]);
        }
        // An earlier release does not know these flags, and serves its health beside its metrics.
        let mut health = options.listen;
        if options.program.is_none() {
            health = options.health;
            command.args(["--health-listen-address", &health.to_string()]);
            // Several operators share the network.
            if !options.has("--report-listen-address") {
                command.arg("--without-reports");
            }
            if !options.has("--allow-destinations") {
                command.args(MAIL_SERVERS);
            }
        }
        command.args(&options.arguments).envs(options.environment.iter().map(|(name, value)| (name, value)));
        let process = Process::start(format!("operator {}", options.identity), &mut command, &options.log)?;
        Ok(Self { process, listen: options.listen, health })
    }

    /// Ends the operator at once (SIGKILL), as a node's death would.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Freezes the operator (SIGSTOP): it keeps its connections and does nothing.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<()> {
        self.process.pause()
    }

    /// Thaws the operator (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Asks the operator to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it has ended before, or does not end within the deadline.
    pub async fn terminate(&self, deadline: Duration) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.wait(deadline).await
    }

    /// Waits until `/readyz` answers with success.
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
            Err(error) => bail!("{error:#}\nthe end of its log:\n{}", self.process.log_tail(TAIL)),
        }
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await
    }

    /// The body of the answer for any path, if the status is a success.
    ///
    /// # Errors
    /// When there is no answer in time, or another status; the message has the body.
    pub async fn get(&self, path: &str) -> Result<String> {
        let address = if ["/livez", "/readyz"].contains(&path) { self.health } else { self.listen };
        get(address, path).await
    }

    /// The exit status if the operator has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The address of its metrics.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// The address of `/livez` and `/readyz`.
    pub fn health_address(&self) -> SocketAddr {
        self.health
    }

    /// The file with the operator's output.
    pub fn log(&self) -> &Path {
        self.process.log()
    }
}

/// The body of an HTTP answer, if the status is a success.
///
/// # Errors
/// When there is no answer in time, or another status; the message has the body.
pub async fn get(server: SocketAddr, path: &str) -> Result<String> {
    ask(server, Method::GET, path, String::new()).await
}

/// The body of an HTTP answer to `PUT`, if the status is a success.
///
/// # Errors
/// As of [`get`].
pub async fn put(server: SocketAddr, path: &str, body: String) -> Result<String> {
    ask(server, Method::PUT, path, body).await
}

async fn ask(server: SocketAddr, method: Method, path: &str, body: String) -> Result<String> {
    let what = format!("{method} {path}");
    let request = hyper::Request::builder().method(method).uri(format!("http://{server}{path}"));
    let request = request.body(Full::new(Bytes::from(body)))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let ask = async {
        let (head, body) = client.request(request).await?.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
        anyhow::Ok((head.status, String::from_utf8(body.to_bytes().to_vec())?))
    };
    let answer = timeout(QUESTION, ask).await.with_context(|| format!("{what} took longer than {QUESTION:?}"))?;
    let (status, body) = answer.with_context(|| what.clone())?;
    if !status.is_success() {
        bail!("{what}: {status}: {body}");
    }
    Ok(body)
}

/// Hides from a cargo that this program starts the variables about our package that the outer cargo
/// has set. Build scripts (ring's) watch some of them: seen by another cargo, they would make half
/// of all dependencies build again, and once more for the next one without them.
pub(crate) fn hide_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if name.to_str().is_some_and(|name| of_package.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(&name);
        }
    }
}

/// Builds the operator if cargo runs this program, so that no suite tests an old operator: `cargo
/// test -p mail-failover-e2e` alone builds the operator's library, not its program.
///
/// # Errors
/// When it does not build, or there is no program and nobody to build it.
pub fn build() -> Result<()> {
    let Some(cargo) = env::var_os("CARGO").filter(|_| environment::path(PROGRAM).is_none()) else {
        return program().map(drop);
    };
    let program = beside_us("mail-failover")?;
    let folder = program.parent().context("the program lies in a folder")?;
    let target = folder.parent().context("the profile's folder lies in the target folder")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(other) => other,
        None => bail!("no profile in {}", folder.display()),
    };
    let mut command = Command::new(cargo);
    hide_package(&mut command);
    let status = command
        // By a test of its package, so that dependencies have the features that tests and benches unite: `cargo build`
        // would compile all of them again without these.
        .args(["test", "--quiet", "--workspace", "--no-run", "--test", "agent_process", "--profile", profile])
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

/// The path of the operator's program.
///
/// # Errors
/// When it is not there.
pub fn program() -> Result<PathBuf> {
    let named = environment::path(PROGRAM);
    let path = named.map_or_else(|| beside_us("mail-failover"), Ok)?;
    if !path.is_file() {
        bail!("there is no {}: run `cargo build`, or set {PROGRAM} to the program", path.display());
    }
    Ok(path)
}

/// The path of another program of this workspace: beside this program, or one folder up from a
/// test's.
pub(crate) fn beside_us(program: &str) -> Result<PathBuf> {
    let us = env::current_exe().context("the path of this program")?;
    let folder = us.parent().context("a program lies in a folder")?;
    let is_deps = folder.file_name().is_some_and(|name| name == "deps" || name == "examples");
    let folder = if is_deps { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.join(program))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;

    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A program of a few shell lines in the operator's place.
    fn options(folder: &TempDir, script: &str, listen: SocketAddr) -> Options {
        let program = folder.path().join("program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        Options {
            program: Some(program),
            kubeconfig: "/kubeconfig".into(),
            lease_namespace: "shop".to_owned(),
            identity: "a".to_owned(),
            listen,
            health: listen,
            log: folder.path().join("a.log"),
            arguments: vec!["--namespace".into(), "shop".into()],
            environment: vec![("COLOUR".into(), "blue".into())],
        }
    }

    async fn logged(operator: &Operator, text: &str) {
        eventually(Duration::from_secs(5), text, async || {
            let log = fs::read_to_string(operator.log())?;
            if log.contains(text) { Ok(Some(())) } else { bail!("{log}") }
        })
        .await
        .expect("logged");
    }

    fn nowhere() -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }

    #[tokio::test]
    async fn the_operator_gets_its_arguments_and_environment() {
        let folder = TempDir::new().expect("a folder");
        let operator = Operator::start(&options(&folder, "echo \"$@ $COLOUR\"", nowhere())).expect("started");
        logged(
            &operator,
            "run --kubeconfig /kubeconfig --lease-namespace shop --identity a --listen-address 127.0.0.1:1 --log-format json \
             --namespace shop blue\n",
        )
        .await;
    }

    #[tokio::test]
    async fn one_that_ends_early_is_reported_with_its_log() {
        let folder = TempDir::new().expect("a folder");
        let operator = Operator::start(&options(&folder, "echo no such flag >&2; exit 2", nowhere())).expect("started");
        let error = operator.wait_ready(Duration::from_secs(10)).await.expect_err("it ended").to_string();
        assert!(error.contains("operator a ended (exit status: 2)") && error.contains("no such flag"), "{error}");
    }

    #[tokio::test]
    async fn one_that_is_never_ready_is_reported_with_what_it_answers() {
        let (folder, listener) =
            (TempDir::new().expect("a folder"), TcpListener::bind("127.0.0.1:0").await.expect("a port"));
        let options = options(&folder, "exec sleep 60", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let answer =
                    "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 12\r\nconnection: close\r\n\r\nnot synced\r\n";
                assert!(connection.read(&mut [0; 1024]).await.expect("a question") > 0);
                connection.write_all(answer.as_bytes()).await.expect("written");
                connection.shutdown().await.expect("ended");
            }
        });
        let operator = Operator::start(&options).expect("started");
        let error = operator.wait_ready(Duration::from_millis(300)).await.expect_err("it is not ready");
        assert!(error.to_string().contains("503 Service Unavailable: not synced"), "{error}");
    }

    #[tokio::test]
    async fn one_that_is_frozen_does_nothing_until_it_is_thawed() {
        let folder = TempDir::new().expect("a folder");
        let script = "trap 'echo told; exit 7' TERM; echo started; while :; do sleep 0.01; done";
        let operator = Operator::start(&options(&folder, script, nowhere())).expect("started");
        logged(&operator, "started").await;
        operator.freeze().expect("frozen");
        operator.terminate(Duration::from_millis(200)).await.expect_err("it does not react");
        operator.thaw().expect("thawed");
        logged(&operator, "told").await;
        let ended = eventually(Duration::from_secs(5), "its end", async || Ok(operator.ended())).await.expect("ended");
        assert_eq!(ended.code(), Some(7));
        operator.freeze().expect_err("there is nothing to freeze any more");
    }

    #[tokio::test]
    async fn a_frozen_one_can_be_killed() {
        let folder = TempDir::new().expect("a folder");
        let operator = Operator::start(&options(&folder, "exec sleep 60", nowhere())).expect("started");
        operator.freeze().expect("frozen");
        operator.kill();
        assert_eq!(operator.ended().and_then(|status| status.signal()), Some(9));
    }
}
