//! A Postfix of a test's own: real, with its own configuration, queue, data, log and address,
//! chrooted as on Debian or not.
//!
//! It needs real root (Postfix starts as root and becomes `postfix`) and the package;
//! [`Postfix::missing`] names what is missing and the remedy. Processes are started, signalled and
//! ended by the ids of our own; a Postfix of the machine is neither read nor touched. This module
//! does not know how mail is routed: the lines of main.cf that a test adds decide it.

mod configuration;
mod maillog;
mod queue;

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub use configuration::{Parameter, PostfixTimeouts, parameter};
pub use maillog::MailLog;
pub use queue::Queued;

use crate::control_plane::binaries::on_path;
use crate::eventually::eventually;
use crate::process::{Process, tail};

/// The folders of the daemons on Debian and its relatives.
const DAEMONS: [&str; 3] = ["/usr/lib/postfix/sbin", "/usr/libexec/postfix", "/usr/lib/postfix"];
/// The remedy if Postfix is not installed.
const HOW_TO_INSTALL: &str = "Postfix is not installed (on Debian and Ubuntu: e2e/tools/install-debian-packages)";
/// The time limit of a start, until it listens, and of an end.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of its log that an error shows.
const TAIL: usize = 15;

/// Settings of a Postfix.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address at which it takes mail. It trusts the documentation networks.
    pub at: SocketAddr,
    /// True if its daemons run in the queue directory as their root, as in Debian's master.cf.
    pub chroot: bool,
    /// Its time limits for a server, and its pauses before it retries deferred mail.
    pub timeouts: PostfixTimeouts,
    /// Shell commands by which an administrator changes a configuration, such as `postconf -e …`.
    /// They run before the parameters below are set.
    pub commands: Option<String>,
    /// Further parameters of main.cf, such as the route of mail.
    pub parameters: Vec<Parameter>,
    /// The file that it logs to.
    pub log: PathBuf,
}

impl Options {
    /// Settings of a chrooted Postfix with lowered timeouts, and without a route for mail.
    pub fn new(at: SocketAddr, log: PathBuf) -> Self {
        Self { at, chroot: true, timeouts: PostfixTimeouts::Lowered, commands: None, parameters: Vec::new(), log }
    }

    /// Adds a parameter, whose value may refer to others.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push(parameter(name, value));
        self
    }

    /// Adds this text before the value that a parameter has by then.
    #[must_use]
    pub fn with_first(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push(parameter(name, value).ahead());
        self
    }
}

/// A running Postfix. Killed, with all its daemons, when dropped.
#[derive(Debug)]
pub struct Postfix {
    at: SocketAddr,
    log: PathBuf,
    folder: TempDir,
    daemons: PathBuf,
    master: Mutex<Option<Process>>,
}

fn open_to_all(path: &Path) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

impl Postfix {
    /// The reasons why Postfix cannot be started here, and the remedy; `None` if it can.
    ///
    /// It does not check that this process has root:
    /// [`Isolation::NetworkAsRoot`](crate::control_plane::namespace::Isolation::NetworkAsRoot)
    /// does.
    pub fn missing() -> Option<String> {
        if on_path("postfix").is_none() || daemons().is_none() {
            return Some(HOW_TO_INSTALL.to_owned());
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let has_user = users.lines().any(|line| line.starts_with("postfix:"));
        let has_group = groups.lines().any(|line| line.starts_with("postdrop:"));
        (!has_user || !has_group)
            .then(|| "the user `postfix` or the group `postdrop` is missing: install Postfix as a package".to_owned())
    }

    /// The version of the installed Postfix.
    ///
    /// # Errors
    /// When `postconf` cannot be started.
    pub fn version() -> Result<String> {
        let output =
            Command::new("postconf").args(["-dh", "mail_version"]).output().context("cannot start postconf")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Starts Postfix; it takes mail when this returns.
    ///
    /// # Errors
    /// When `postfix check` refuses the configuration, or it does not listen in time.
    pub async fn start(options: Options) -> Result<Self> {
        let daemons = daemons().context(HOW_TO_INSTALL)?;
        // A short path: sockets in the queue directory have names of at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("pf-").tempdir().context("no temporary folder")?;
        // Postfix creates the log for root only, but keeps the mode of an existing file. Processes
        // of other users read it, too.
        drop(OpenOptions::new().create(true).append(true).mode(0o644).open(&options.log)?);
        let postfix = Self { at: options.at, log: options.log.clone(), folder, daemons, master: Mutex::new(None) };
        postfix.prepare(&options)?;
        postfix.check()?;
        postfix.start_again().await?;
        Ok(postfix)
    }

    fn prepare(&self, options: &Options) -> Result<()> {
        open_to_all(self.folder.path())?;
        for folder in [self.configuration(), self.queue_directory(), self.data_directory()] {
            fs::create_dir(&folder)
                .and_then(|()| open_to_all(&folder))
                .with_context(|| folder.display().to_string())?;
        }
        chown(self.data_directory(), Some(user_id("postfix")?), None).context("the data directory")?;
        if options.chroot {
            self.furnish_chroot()?;
        }
        let main = configuration::main(options, &self.queue_directory(), &self.data_directory(), &self.daemons);
        fs::write(self.configuration().join("main.cf"), main)?;
        fs::write(self.configuration().join("master.cf"), configuration::master(options))?;
        if let Some(commands) = &options.commands {
            let mut shell = Command::new("sh");
            shell.args(["-euc", commands]).env("MAIL_CONFIG", self.configuration());
            said(shell, "the commands that configure Postfix")?;
        }
        let parameters = options.timeouts.parameters().iter().map(|(name, value)| parameter(name, *value));
        for parameter in parameters.chain(options.parameters.iter().cloned()) {
            let value = parameter.value_after(|| self.said("postconf", &["-h", parameter.name()]))?;
            self.said("postconf", &["-e", &format!("{} = {value}", parameter.name())])?;
        }
        Ok(())
    }

    /// Copies into the chroot what Debian's start script copies, as far as it is needed.
    fn furnish_chroot(&self) -> Result<()> {
        let inside = self.queue_directory().join("etc");
        fs::create_dir(&inside)?;
        for file in ["localtime", "services", "resolv.conf", "hosts", "host.conf", "nsswitch.conf"] {
            let outside = Path::new("/etc").join(file);
            if outside.exists() {
                fs::copy(&outside, inside.join(file)).with_context(|| outside.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Runs `postfix check`, which also makes the folders of the queue.
    fn check(&self) -> Result<()> {
        let output = self.command("postfix").arg("check").output().context("cannot start postfix")?;
        ensure!(
            output.status.success(),
            "`postfix check` refuses {}: {}{}",
            self.configuration().display(),
            String::from_utf8_lossy(&output.stderr).trim(),
            tail(&self.log, TAIL)
        );
        Ok(())
    }

    fn start_master(&self) -> Result<Process> {
        let mut command = Command::new(self.daemons.join("master"));
        // `-d` keeps it in the foreground. It ends its process group with itself, so it needs one of its own.
        command.arg("-c").arg(self.configuration()).arg("-d").process_group(0);
        Process::start("Postfix", &mut command, &self.folder.path().join("master.out"))
    }

    /// Starts Postfix once more after it has ended; it takes mail when this returns.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn start_again(&self) -> Result<()> {
        *self.master() = Some(self.start_master()?);
        let listening = eventually(WAIT_TIMEOUT, "Postfix to take mail", async || {
            // Daemons of a killed master may hold its locks for a moment.
            if self.master().as_ref().is_some_and(|master| master.ended().is_some()) {
                *self.master() = Some(self.start_master()?);
            }
            let mut greeting = [0; 4];
            TcpStream::connect(self.at).await?.read_exact(&mut greeting).await?;
            Ok((&greeting == b"220 ").then_some(()))
        })
        .await;
        listening.with_context(|| format!("the end of its log:\n{}", tail(&self.log, TAIL)))
    }

    /// The address at which it takes mail.
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// The folder of its configuration, `config_directory`.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// The folder of its queue, `queue_directory`.
    pub fn queue_directory(&self) -> PathBuf {
        self.folder.path().join("queue")
    }

    fn data_directory(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Reads its log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log(&self) -> Result<MailLog> {
        let text = fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())?;
        Ok(MailLog::new(text))
    }

    /// The file that it logs to.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The process id of its master.
    ///
    /// # Errors
    /// When it does not run.
    pub fn master_id(&self) -> Result<u32> {
        Ok(self.master().as_ref().context("Postfix does not run")?.id())
    }

    /// Runs `postfix reload`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload(&self) -> Result<()> {
        self.master().as_ref().context("Postfix does not run")?.signal(Signal::HUP)
    }

    /// Runs `postqueue -f`.
    ///
    /// # Errors
    /// When that fails.
    pub fn flush(&self) -> Result<()> {
        self.said("postqueue", &["-f"]).map(drop)
    }

    /// Asks Postfix to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not run, or does not end in time.
    pub async fn stop(&self) -> Result<()> {
        let master = self.master().take().context("Postfix does not run")?;
        master.signal(Signal::TERM)?;
        master.wait(WAIT_TIMEOUT).await?;
        Ok(())
    }

    /// Kills Postfix and all its daemons at once (SIGKILL), as a power cut would. Accepted messages
    /// stay in its queue.
    pub fn kill(&self) {
        kill(self.master().take());
    }

    /// All messages in the queue.
    ///
    /// # Errors
    /// When `postqueue` fails.
    pub fn queue(&self) -> Result<Vec<Queued>> {
        queue::parse(&self.said("postqueue", &["-j"])?)
    }

    /// The number of messages in the queue, counted by their files, which is cheap.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub fn queued(&self) -> Result<usize> {
        queue::count(&self.queue_directory())
    }

    /// Waits until the queue is empty. Returns false if it is not empty in time.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub async fn drained(&self, within: Duration) -> Result<bool> {
        let end = tokio::time::Instant::now() + within;
        loop {
            if self.queued()? == 0 {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A program of Postfix with this configuration.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.configuration());
        command
    }

    fn said(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        command.args(arguments);
        said(command, &format!("{program} {}", arguments.join(" ")))
    }

    fn master(&self) -> MutexGuard<'_, Option<Process>> {
        self.master.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program and returns its output.
fn said(mut command: Command, what: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {what}"))?;
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Kills a master with its daemons, which are of its process group.
fn kill(master: Option<Process>) {
    let Some(master) = master else { return };
    if master.ended().is_none()
        && let Some(group) = i32::try_from(master.id()).ok().and_then(Pid::from_raw)
    {
        // The master is not reaped, so the id of the group cannot belong to others.
        let _ = kill_process_group(group, Signal::KILL);
    }
    master.kill();
}

fn daemons() -> Option<PathBuf> {
    DAEMONS.into_iter().map(PathBuf::from).find(|folder| folder.join("master").is_file())
}

/// The number of a group, by `/etc/group`.
///
/// # Errors
/// When there is none of this name.
pub fn group_id(name: &str) -> Result<u32> {
    id("/etc/group", name)
}

fn user_id(name: &str) -> Result<u32> {
    id("/etc/passwd", name)
}

/// The id of a name in a file with lines `name:password:id:…`.
fn id(file: &str, name: &str) -> Result<u32> {
    let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.first() == Some(&name));
    let id = fields.and_then(|fields| fields.get(2)?.parse().ok());
    id.with_context(|| format!("{file} has no {name}"))
}
