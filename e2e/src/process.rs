//! A program that runs beside a test, and never longer than it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::time::{Instant, sleep};

/// A running program with its log. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command`; standard output and error are appended to `log`.
    ///
    /// # Errors
    /// When the program cannot be started or its log cannot be opened.
    pub fn start(name: impl Into<String>, command: &mut Command, log: &Path) -> Result<Self> {
        let name = name.into();
        let (stdout, stderr) = open_twice(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        Ok(Self { name, log: log.to_owned(), child: Mutex::new(child) })
    }

    /// The name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// The exit status if the process has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Sends the process a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The lock is held until the signal is sent: the id cannot belong to another process while the child is not
        // reaped.
        let mut child = self.child();
        if let Some(status) = child.try_wait()? {
            bail!("{} has ended ({status})", self.name);
        }
        kill_process(Pid::from_child(&child), signal)
            .with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// Stops the process (SIGSTOP) and waits until it has stopped.
    ///
    /// # Errors
    /// When it has ended already, or ends before it stops.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let id = Pid::from_child(&self.child());
        // The signal alone is not enough: on a busy machine other threads of the process go on for
        // a while. The kernel tells its parent when the last of them has stopped (waitid(2)).
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(id), options).with_context(|| format!("cannot wait for {}", self.name))?;
        if !status.is_some_and(|status| status.stopped()) {
            bail!("{} ended and did not stop", self.name);
        }
        Ok(())
    }

    /// Kills the process (SIGKILL), stopped or not, and waits until it is gone. Does nothing if it
    /// has ended.
    pub fn kill(&self) {
        let mut child = self.child();
        // An error means that it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// When it does not within the deadline.
    pub async fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} did not end within {deadline:?}", self.name);
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Opens a file for appending, for standard output and for standard error.
fn open_twice(log: &Path) -> std::io::Result<(File, File)> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    Ok((file.try_clone()?, file))
}

/// The end of a file.
fn read_end(path: &Path) -> std::io::Result<Vec<u8>> {
    // More than enough for the lines asked for, and bounded for a log of any size.
    const BYTES: u64 = 64 * 1024;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last lines of a file, or a sentence if it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    match read_end(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}
