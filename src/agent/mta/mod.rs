//! Postfix: told to read its configuration again, told to try everything again, asked how much it holds.
//!
//! | module | is |
//! |---|---|
//! | `switch` | carries out what the core orders, in the order that was measured: reload, then flush, then flush what lingered |
//!
//! By its own interfaces where they can be reached (a signal, a socket in the queue directory: no process is started), by its commands
//! otherwise. Architecture invariants: it never writes into the queue, never removes or renames a message, and every call has a deadline.

pub mod switch;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::metrics::MtaMetrics;

/// For a word to a socket of Postfix's.
const SOCKET_DEADLINE: Duration = Duration::from_secs(2);
/// For a command of Postfix's.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// For counting the queue.
const COUNT_DEADLINE: Duration = Duration::from_secs(2);
/// Messages beyond this are not counted: a listing of more would take longer than anybody looks at it.
const MAX_COUNT: u64 = 1_000_000;
/// Forget dead destinations (F) and when each message was to be tried next (A), scan what was deferred (D) and what is incoming (I).
///
/// `postqueue -f` says `FAD`. But a message that was being delivered during a reload is put back among the incoming ones, to be looked at in
/// 60 s, and those are scanned when new mail comes, or after `queue_run_delay` (`qmgr_active.c`): without `I` it stays there.
const FLUSH: &[u8] = b"FADI";
/// Where messages wait; those in `hold` do not.
const QUEUES: [&str; 4] = ["maildrop", "incoming", "active", "deferred"];

/// A Postfix on this machine, or in this pod.
#[derive(Clone, Debug)]
pub struct Postfix {
    /// `-c` of its commands.
    pub config_directory: PathBuf,
    /// Its `queue_directory`.
    pub queue_directory: PathBuf,
    /// What is done to it is counted here.
    pub metrics: MtaMetrics,
}

/// How something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// By a signal or a socket.
    Directly,
    /// By a command.
    Command,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum MtaError {
    /// There is no master process to tell.
    #[error("Postfix is not running: {0}")]
    NotRunning(String),
    /// A command of Postfix's failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// It, with its arguments.
        command: String,
        /// What it said.
        reason: String,
    },
}

impl Postfix {
    /// Has Postfix read its configuration again. Deliveries under way are finished; its memory of dead destinations is cleared.
    ///
    /// # Errors
    /// When neither the signal nor `postfix reload` worked.
    pub async fn reload(&self) -> Result<Means, MtaError> {
        let signalled = self.master().and_then(|master| {
            kill_process(master, Signal::HUP).map_err(|error| MtaError::NotRunning(format!("master: {error}")))
        });
        let result = match signalled {
            Ok(()) => Ok(Means::Directly),
            // Who sees no process of Postfix's, because it has a namespace of its own, cannot start its command there either.
            Err(reason) => self.command("postfix", &["reload"]).await.map_err(|_| reason),
        };
        self.count("reload", result)
    }

    /// Has Postfix try every message again, now.
    ///
    /// # Errors
    /// When neither the queue manager's socket nor `postqueue -f` worked.
    pub async fn flush(&self) -> Result<Means, MtaError> {
        let socket = self.queue_directory.join("public/qmgr");
        let told = timeout(SOCKET_DEADLINE, async {
            let mut stream = UnixStream::connect(&socket).await?;
            stream.write_all(FLUSH).await?;
            stream.shutdown().await
        });
        let result = match told.await {
            Ok(Ok(())) => Ok(Means::Directly),
            Ok(Err(_)) | Err(_) => self.command("postqueue", &["-f"]).await,
        };
        self.count("flush", result)
    }

    /// How many messages Postfix holds; `None` when they could not all be counted in time.
    pub async fn queued(&self) -> Option<u64> {
        let directory = self.queue_directory.clone();
        let counted = tokio::task::spawn_blocking(move || count_files(&directory)).await.ok()?;
        let count = match counted {
            Ok(count) => Some(count),
            // The queue belongs to Postfix's user; a neighbour may ask the listing service.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                timeout(COUNT_DEADLINE, count_listed(self.queue_directory.join("public/showq")))
                    .await
                    .ok()
                    .and_then(Result::ok)
            }
            Err(_) => None,
        };
        match count {
            Some(count) => _ = self.metrics.queued.set(i64::try_from(count).unwrap_or(i64::MAX)),
            None => _ = self.metrics.incomplete_counts.inc(),
        }
        count
    }

    /// The master process: the one that its pid file names, if that is a Postfix master indeed.
    ///
    /// # Errors
    /// When there is none.
    pub fn master(&self) -> Result<Pid, MtaError> {
        let file = self.queue_directory.join("pid/master.pid");
        let not_running = |reason: String| MtaError::NotRunning(format!("{}: {reason}", file.display()));
        let text = fs::read_to_string(&file).map_err(|error| not_running(error.to_string()))?;
        let number: i32 =
            text.trim().parse().map_err(|_| not_running(format!("{:?} is no process id", text.trim())))?;
        // Not 1, and not the process groups that 0 and less mean to kill(2).
        let pid = (number > 1).then(|| Pid::from_raw(number)).flatten();
        let pid = pid.ok_or_else(|| not_running(format!("{number} is no process id")))?;
        // A pid file outlives its process, and the number may be another's by now.
        let name = fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
        if name.trim_end() != "master" {
            return Err(not_running(format!("process {number} is no Postfix master")));
        }
        Ok(pid)
    }

    async fn command(&self, program: &str, arguments: &[&str]) -> Result<Means, MtaError> {
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(&self.config_directory)
            .args(arguments)
            .kill_on_drop(true)
            .stdin(std::process::Stdio::null());
        let failed = |reason: String| {
            let command = format!("{program} -c {} {}", self.config_directory.display(), arguments.join(" "));
            MtaError::Command { command, reason }
        };
        match timeout(COMMAND_DEADLINE, command.output()).await {
            Err(_) => Err(failed(format!("no end within {COMMAND_DEADLINE:?}"))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Ok(Ok(output)) if output.status.success() => Ok(Means::Command),
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said: String = said.trim().chars().filter(|letter| !letter.is_control()).take(200).collect();
                Err(failed(format!("{}: {said}", output.status)))
            }
        }
    }

    fn count(&self, step: &'static str, result: Result<Means, MtaError>) -> Result<Means, MtaError> {
        let label = match &result {
            Ok(Means::Directly) => "direct",
            Ok(Means::Command) => "command",
            Err(_) => "failed",
        };
        self.metrics.step(step, label);
        result
    }
}

/// Names are read, no message is opened: 50,000 take some 30 ms.
fn count_files(queue_directory: &std::path::Path) -> io::Result<u64> {
    let deadline = Instant::now() + COUNT_DEADLINE;
    let mut count = 0;
    let mut folders: Vec<PathBuf> = QUEUES.iter().map(|queue| queue_directory.join(queue)).collect();
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            } else {
                count += 1;
            }
        }
        if count > MAX_COUNT || Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(count)
}

/// Postfix's listing: attributes as `name NUL value NUL`, one `queue_name` for each message (showq(8)).
async fn count_listed(socket: PathBuf) -> io::Result<u64> {
    const MARK: &[u8] = b"queue_name\0";
    let mut stream = UnixStream::connect(socket).await?;
    let mut chunk = vec![0; 64 * 1024];
    let mut kept = 0;
    let mut count = 0;
    loop {
        let read = stream.read(&mut chunk[kept..]).await?;
        if read == 0 {
            return Ok(count);
        }
        let bytes = kept + read;
        count += chunk[..bytes].windows(MARK.len()).filter(|window| *window == MARK).count() as u64;
        if count > MAX_COUNT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // A mark may lie across two reads; one that was counted must not be kept whole.
        kept = bytes.min(MARK.len() - 1);
        chunk.copy_within(bytes - kept..bytes, 0);
    }
}
