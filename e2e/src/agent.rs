//! The agent as a process of its own: `mail-failover agent run`, beside a test's Postfix.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mail_failover_agent::status::Status;
use rustix::process::Signal;

use crate::eventually::eventually;
use crate::operator;
use crate::postfix::Postfix;
use crate::process::{Process, tail};
use crate::scrape::Scrape;
use crate::test_env::{TestEnv, free_address};

/// Lines of the log that an error shows.
const TAIL: usize = 15;

/// Settings of an agent's process.
#[derive(Clone, Debug)]
pub struct Options {
    pub kubeconfig: PathBuf,
    /// `--config-map`, as `namespace/name`.
    pub config_map: String,
    pub queue_directory: PathBuf,
    pub postfix_config_directory: PathBuf,
    pub mail_log: PathBuf,
    pub state_directory: PathBuf,
    pub credentials_directory: PathBuf,
    /// `--listen-address`: the address of `/status` and `/metrics`.
    pub listen: SocketAddr,
    /// `--health-listen-address`: the address of `/livez` and `/readyz`.
    pub health: SocketAddr,
    /// The file that the agent's output is appended to.
    pub log: PathBuf,
    /// Further arguments of `agent run`.
    pub arguments: Vec<OsString>,
    /// The program that starts the agent, with its arguments, such as `setpriv` for other rights.
    /// If empty, the agent is started directly.
    pub starter: Vec<OsString>,
}

impl Options {
    /// Settings of an agent beside this Postfix, with all of its files in a folder of the
    /// environment, and no logins.
    ///
    /// # Errors
    /// When there is no room for its files, or no free port.
    pub fn beside(postfix: &Postfix, env: &TestEnv, config_map: &str, name: &str) -> Result<Self> {
        let folder = env.folder().join(name);
        let (state_directory, credentials_directory) = (folder.join("state"), folder.join("credentials"));
        for folder in [&folder, &state_directory, &credentials_directory] {
            fs::create_dir(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Self {
            kubeconfig: env.kubeconfig().to_owned(),
            config_map: format!("{}/{config_map}", env.namespace()),
            queue_directory: postfix.queue_directory(),
            postfix_config_directory: postfix.configuration(),
            mail_log: postfix.log_file().to_owned(),
            state_directory,
            credentials_directory,
            listen: free_address()?,
            health: free_address()?,
            log: folder.join("agent.log"),
            arguments: vec!["--log".into(), "info,mail_failover_agent=debug".into()],
            starter: Vec::new(),
        })
    }
}

/// An agent that can be killed and started again. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    options: Options,
    process: Mutex<Option<Process>>,
}

impl Agent {
    /// Starts the agent. It may not be ready yet, see [`Self::wait_ready`].
    ///
    /// # Errors
    /// When the program is not there or cannot be started.
    pub fn start(options: Options) -> Result<Self> {
        let agent = Self { options, process: Mutex::default() };
        agent.start_again()?;
        Ok(agent)
    }

    /// Starts the agent once more after it has ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&self) -> Result<()> {
        let options = &self.options;
        let program = operator::program()?;
        let mut command = match options.starter.split_first() {
            Some((starter, arguments)) => {
                let mut command = Command::new(starter);
                command.args(arguments).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .args(["agent", "run", "--config-map", &options.config_map, "--log-format", "json"])
            .arg("--kubeconfig")
            .arg(&options.kubeconfig)
            .arg("--queue-directory")
            .arg(&options.queue_directory)
            .arg("--postfix-config-directory")
            .arg(&options.postfix_config_directory)
            .arg("--mail-log")
            .arg(&options.mail_log)
            .arg("--state-directory")
            .arg(&options.state_directory)
            .arg("--credentials-directory")
            .arg(&options.credentials_directory)
            .args(["--listen-address", &options.listen.to_string()])
            .args(["--health-listen-address", &options.health.to_string()])
            .args(&options.arguments);
        *self.process() = Some(Process::start("the agent", &mut command, &options.log)?);
        Ok(())
    }

    /// Waits until `/readyz` answers with success.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the end of its log is in the message.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<()> {
        let ready = eventually(deadline, "the agent to be ready", async || {
            if let Some(status) = self.ended() {
                return Ok(Some(Err(status)));
            }
            operator::get(self.options.health, "/readyz").await?;
            Ok(Some(Ok(())))
        })
        .await;
        let log = tail(&self.options.log, TAIL);
        match ready {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!("the agent ended ({status}):\n{log}"),
            Err(error) => bail!("{error:#}\nthe end of its log:\n{log}"),
        }
    }

    /// Ends the agent at once (SIGKILL).
    pub fn kill(&self) {
        if let Some(process) = self.process().take() {
            process.kill();
        }
    }

    /// Asks the agent to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not run, or does not end within the deadline.
    pub async fn terminate(&self, deadline: Duration) -> Result<ExitStatus> {
        let process = self.process().take().context("the agent does not run")?;
        process.signal(Signal::TERM)?;
        process.wait(deadline).await
    }

    /// Asks the agent for its `/status`.
    ///
    /// # Errors
    /// When it does not answer, or what answers is no agent.
    pub async fn status(&self) -> Result<Status> {
        status(self.options.listen).await
    }

    /// The address of `/status` and `/metrics`.
    pub fn listen_address(&self) -> SocketAddr {
        self.options.listen
    }

    /// The numbers of `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Scrape> {
        Ok(Scrape::new(operator::get(self.options.listen, "/metrics").await?))
    }

    /// The exit status if the agent ended by itself.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.process().as_ref().and_then(Process::ended)
    }

    /// The process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn id(&self) -> Result<u32> {
        Ok(self.process().as_ref().context("the agent does not run")?.id())
    }

    /// The folder in which the agent keeps its state.
    pub fn state_directory(&self) -> &Path {
        &self.options.state_directory
    }

    /// The file with the agent's output.
    pub fn log(&self) -> &Path {
        &self.options.log
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks an agent at this address for its `/status`.
///
/// # Errors
/// When it does not answer, or what answers is no agent.
pub async fn status(agent: SocketAddr) -> Result<Status> {
    let text = operator::get(agent, "/status").await?;
    serde_json::from_str(&text).with_context(|| format!("/status is none of an agent: {text}"))
}
