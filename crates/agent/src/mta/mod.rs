//! Control of Postfix: reload its configuration, flush its queue, count its messages.
//!
//! | module | is |
//! |---|---|
//! | `switch` | the executor of the core's orders, in the order that was measured: reload, then flush, then flush again |
//! | `mail_owner` | the user of its processes |
//! | `master` | its master process, and signals for it |
//! | `queue` | the number of messages that wait |
//!
//! Postfix's own interfaces are used: a signal, and sockets in the queue directory, so that no process is started.
//! Where the socket cannot be reached, a command flushes. There is no such second way to reload: `postfix reload` is
//! for root, who may send the signal as well, and it believes the pid file, which names another process where Postfix
//! has process numbers of its own. Architecture invariants: it never writes into the queue, never removes or renames a
//! message, and every call has a deadline.

mod mail_owner;
mod master;
mod queue;
pub mod switch;

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mail_failover_core::model::text::visible;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

pub use mail_owner::{MailOwner, mail_owner};
pub use master::{Master, MasterError};
pub use queue::{QueueDepth, depth, depth_on_disk, oldest};

use super::metrics::MtaMetrics;

/// Limit for a request to a socket of Postfix's.
const SOCKET_DEADLINE: Duration = Duration::from_secs(2);
/// Limit for a command of Postfix's.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// A switch does not wait longer for the number of messages.
const COUNT_DEADLINE: Duration = Duration::from_secs(2);
/// Requests to the queue manager: forget dead destinations (F) and the next time of each message (A), scan the deferred
/// queue (D) and the incoming one (I).
// `postqueue -f` says `FAD`. But a message that was being delivered during a reload goes back to the incoming queue, to
// be tried in 60 s. That queue is scanned when new mail comes, or after `queue_run_delay` (`qmgr_active.c`): without
// `I` the message stays there.
// ADR-0059: Send FADI to the queue manager.
const FLUSH: &[u8] = b"FADI";

/// A Postfix on this machine, or in this pod.
#[derive(Clone, Debug)]
pub struct Postfix {
    /// Postfix's parameter `config_directory`, the `-c` of its commands.
    pub config_directory: PathBuf,
    /// Postfix's parameter `queue_directory`.
    pub queue_directory: PathBuf,
    /// Counters of the work on this Postfix.
    pub metrics: MtaMetrics,
}

/// Means by which something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// By a signal or through a socket.
    Directly,
    /// By a command of Postfix's.
    Command,
}

/// Error of a reload or a flush.
#[derive(Debug, thiserror::Error)]
pub enum MtaError {
    /// Postfix does not run.
    #[error("Postfix does not run ({0})")]
    NotRunning(#[source] MasterProblem),
    /// Postfix runs, as far as can be seen, and may not be sent signals.
    #[error(
        "Postfix may not be told by SIGHUP ({0}): run the agent as the user root, no capability is needed, or with CAP_KILL, and in a pod \
         with shareProcessNamespace: true"
    )]
    NotPermitted(#[source] MasterProblem),
    /// A command of Postfix's failed.
    #[error("`{command}` failed: {source}")]
    Command {
        /// Command, with its arguments.
        command: String,
        /// Error of the command.
        source: CommandError,
    },
}

/// Problem with Postfix's master.
#[derive(Debug, thiserror::Error)]
pub enum MasterProblem {
    /// It does not catch signals yet.
    #[error("it is just starting")]
    Starting,
    /// It cannot be found.
    #[error(transparent)]
    NotFound(#[from] MasterError),
    /// It cannot be sent a signal.
    #[error("master: {0}")]
    Signal(#[source] Errno),
    /// It does not listen at a socket.
    #[error("{}: {source}", path.display())]
    Socket {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Error of a command of Postfix's.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be run.
    #[error(transparent)]
    Start(io::Error),
    /// It does not end in time.
    #[error("no end within {COMMAND_DEADLINE:?}")]
    Deadline,
    /// It ends with an error.
    #[error("{status}: {said}")]
    Failed {
        /// Exit status of the command.
        status: ExitStatus,
        /// Error that the command printed.
        said: String,
    },
}

impl Postfix {
    /// Makes Postfix read its configuration again. Deliveries under way are finished; its memory of dead destinations
    /// is cleared.
    ///
    /// # Errors
    /// [`MtaError::NotRunning`] or [`MtaError::NotPermitted`].
    pub async fn reload(&self) -> Result<Means, MtaError> {
        let result = match self.master() {
            Ok(master) if !master.is_ready() => Err(MtaError::NotRunning(MasterProblem::Starting)),
            Ok(master) => match master.reload() {
                Ok(()) => Ok(Means::Directly),
                Err(error) => Err(MtaError::NotPermitted(MasterProblem::Signal(error))),
            },
            Err(error) if self.is_running().await => Err(MtaError::NotPermitted(error.into())),
            Err(error) => Err(MtaError::NotRunning(error.into())),
        };
        self.count("reload", result)
    }

    /// Makes Postfix try every message again, now.
    ///
    /// # Errors
    /// When neither the queue manager's socket, for which the group `postdrop` is enough, nor `postqueue -f` worked.
    pub async fn flush(&self) -> Result<Means, MtaError> {
        let told = timeout(SOCKET_DEADLINE, async {
            let mut stream = UnixStream::connect(self.queue_manager()).await?;
            stream.write_all(FLUSH).await?;
            stream.shutdown().await
        });
        let result = match told.await {
            Ok(Ok(())) => Ok(Means::Directly),
            Ok(Err(source)) if is_absence(&source) => {
                Err(MtaError::NotRunning(MasterProblem::Socket { path: self.queue_manager(), source }))
            }
            Ok(Err(_)) | Err(_) => self.command("postqueue", &["-f"]).await,
        };
        self.count("flush", result)
    }

    /// Counts the messages that wait to be sent. `None` if they could not all be counted in time.
    pub async fn queued(&self) -> Option<u64> {
        let counted = timeout(COUNT_DEADLINE, self.depth()).await;
        counted.ok()?.ok().map(|depth| depth.waiting)
    }

    /// Counts the messages in the queue.
    ///
    /// # Errors
    /// As [`depth`].
    pub async fn depth(&self) -> io::Result<QueueDepth> {
        let depth = depth(&self.queue_directory).await;
        match &depth {
            Ok(depth) => _ = self.metrics.queued.set(i64::try_from(depth.waiting).unwrap_or(i64::MAX)),
            Err(_) => _ = self.metrics.incomplete_counts.inc(),
        }
        depth
    }

    /// Returns true if there is a Postfix to be told anything, as far as this process can see.
    pub async fn is_running(&self) -> bool {
        if self.master().is_ok() {
            return true;
        }
        // Master listens there for the queue manager, and asks for no right to see processes.
        let connected = timeout(SOCKET_DEADLINE, UnixStream::connect(self.queue_manager())).await;
        !matches!(connected, Ok(Err(error)) if is_absence(&error))
    }

    /// Finds the master process of this Postfix.
    ///
    /// # Errors
    /// As [`Master::find`].
    pub fn master(&self) -> Result<Master, MasterError> {
        Master::find(&self.queue_directory)
    }

    fn queue_manager(&self) -> PathBuf {
        self.queue_directory.join("public/qmgr")
    }

    async fn command(&self, program: &str, arguments: &[&str]) -> Result<Means, MtaError> {
        self.run(program, arguments).await.map(|()| Means::Command).map_err(|source| MtaError::Command {
            command: format!("{program} -c {} {}", self.config_directory.display(), arguments.join(" ")),
            source,
        })
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<(), CommandError> {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config_directory).args(arguments).kill_on_drop(true).stdin(Stdio::null());
        let output = timeout(COMMAND_DEADLINE, command.output()).await.map_err(|_elapsed| CommandError::Deadline)?;
        let output = output.map_err(CommandError::Start)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = visible(said.trim()).chars().take(200).collect();
        Err(CommandError::Failed { status: output.status, said })
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

/// Returns true if nobody listens at a socket, or there is none.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
