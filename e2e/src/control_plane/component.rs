use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tokio::time::timeout;

use crate::eventually::eventually;
use crate::process::{Process, tail};

/// The time limit of one request.
const QUESTION: Duration = Duration::from_secs(2);
/// Lines of a log that an error shows.
const TAIL: usize = 15;

/// A program of the control plane that can be stopped and started again.
#[derive(Debug)]
pub(crate) struct Component {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
    log: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Component {
    /// A component that is not started yet, with its log in `folder`.
    pub fn new(name: &'static str, program: &Path, arguments: Vec<String>, folder: &Path) -> Self {
        Self {
            name,
            program: program.to_owned(),
            arguments,
            environment: Vec::new(),
            log: folder.join(format!("{name}.log")),
            process: Mutex::new(None),
        }
    }

    /// Sets an environment variable of the component.
    #[must_use]
    pub fn with(mut self, variable: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((variable, value.into()));
        self
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts the component, unless it runs.
    pub fn start(&self) -> Result<()> {
        let mut process = self.process();
        if process.as_ref().is_none_or(|process| process.ended().is_some()) {
            let mut command = Command::new(&self.program);
            command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
            *process = Some(Process::start(self.name, &mut command, &self.log)?);
        }
        Ok(())
    }

    /// Kills the component, if it runs.
    pub fn stop(&self) {
        let process = self.process().take();
        drop(process);
    }

    /// Sends the component a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process().as_ref().with_context(|| format!("{} is stopped", self.name))?.signal(signal)
    }

    /// Stops the component (SIGSTOP) and waits until it has stopped.
    pub fn pause(&self) -> Result<()> {
        self.process().as_ref().with_context(|| format!("{} is stopped", self.name))?.pause()
    }

    /// Waits until `look` finds the component ready, and no longer than it runs. The error contains
    /// the end of its log.
    pub async fn ready(&self, deadline: Duration, mut look: impl AsyncFnMut() -> Result<()>) -> Result<()> {
        let ready = eventually(deadline, &format!("{} to be ready", self.name), async || match self.ended() {
            Some(status) => Ok(Some(Err(status))),
            None => timeout(QUESTION, look()).await?.map(|()| Some(Ok(()))),
        })
        .await;
        let what = match ready {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) => format!("{} ended ({status})", self.name),
            Err(error) => format!("{error:#}"),
        };
        bail!("{what}\nthe end of its log:\n{}", tail(&self.log, TAIL))
    }

    /// The exit status if it ended by itself.
    fn ended(&self) -> Option<ExitStatus> {
        self.process().as_ref().and_then(Process::ended)
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
