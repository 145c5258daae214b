//! Death of a process at one exact step: strace(1) sends it SIGKILL as it enters a system call,
//! which is then not carried out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::control_plane::binaries::on_path;
use crate::eventually::eventually;
use crate::process::Process;

/// The remedy if strace is not installed.
pub const HOW_TO_INSTALL: &str = "strace is not installed: apt-get install strace";
/// Returns true if strace is installed.
pub fn is_installed() -> bool {
    on_path("strace").is_some()
}

/// The time limit of attaching.
const ATTACHING: Duration = Duration::from_secs(10);

/// The system call at which a process dies.
#[derive(Clone, Debug)]
pub struct TracedStep {
    /// The name of the call, or `/` and a regular expression of names.
    pub call: &'static str,
    /// The file of the call, by the path that the process names first. Without it the call may be
    /// about any file.
    pub path: Option<PathBuf>,
    /// The number of the call in any one thread, counted from 1 since strace was attached.
    pub when: usize,
    /// A part of strace's line about the call, as a proof that it was this step.
    pub about: &'static str,
}

/// A strace that is attached to all threads of a process. It detaches when dropped.
#[derive(Debug)]
pub struct Tracer {
    _process: Process,
    calls: PathBuf,
    step: TracedStep,
}

impl Tracer {
    /// Attaches strace to a process. It writes two files into `folder`.
    ///
    /// # Errors
    /// When strace is not installed or may not do that.
    pub async fn attach(id: u32, step: TracedStep, folder: &Path) -> Result<Self> {
        let (calls, log) = (folder.join("strace.calls"), folder.join("strace.log"));
        let TracedStep { call, path, when, .. } = &step;
        let mut command = Command::new("strace");
        command.args(["-f", "-s", "200", "-p", &id.to_string(), "-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:signal=SIGKILL:when={when}"), "-o"]).arg(&calls);
        if let Some(path) = path {
            command.arg("-P").arg(path);
        }
        let process = Process::start("strace", &mut command, &log).context(HOW_TO_INSTALL)?;
        eventually(ATTACHING, "strace to be attached", async || {
            if let Some(status) = process.ended() {
                bail!("strace ended ({status}): {}", process.log_tail(5));
            }
            let told = fs::read_to_string(&log)?;
            Ok(told.contains("attached").then_some(()))
        })
        .await?;
        Ok(Self { _process: process, calls, step })
    }

    /// Checks that the process has died of that step.
    ///
    /// # Errors
    /// When the last of the calls is another one.
    pub fn confirm(&self) -> Result<()> {
        let text = fs::read_to_string(&self.calls).with_context(|| self.calls.display().to_string())?;
        // For a thread that dies with the process, strace may no longer know the call: `???(`.
        let last = text.lines().rfind(|line| line.contains('(') && !line.contains("+++") && !line.contains("???("));
        let last = last.with_context(|| format!("no call in {text:?}"))?;
        ensure!(last.contains(self.step.about), "it died at another step than {:?}: {text}", self.step);
        Ok(())
    }
}
