//! First process of a container: it reaps orphaned processes, passes signals on, and leaves no process behind.
//!
//! It runs the agent proper, this same program, as its only child of its own. One process cannot do both. If it reaps
//! everything (`waitpid(-1)`), it takes the exit status of children that tokio waits for. If it waits only for its own
//! children, the orphans of Postfix's scripts stay as zombies. Here nothing else waits. This module never looks at the
//! processes that it reaps.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, set_child_subreaper, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// Name by which the agent proper knows that its parent reaps. `ps` shows it.
const SUPERVISED: &str = "mail-failover-agent";
/// Time between asking the processes that the agent left running to end, and killing them.
const LEFT_BEHIND: Duration = Duration::from_secs(5);

/// Exit code of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(pub u8);

impl ExitCode {
    fn of(status: WaitStatus) -> Self {
        let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
        Self(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
    }
}

/// Returns true if this process has a parent that reaps for it.
pub fn is_supervised() -> bool {
    std::env::args_os().next().as_deref() == Some(OsStr::new(SUPERVISED))
}

/// Runs this program again with the same arguments, as the agent proper, until it ends.
///
/// # Errors
/// When there cannot be another process, or no signals.
pub fn run() -> io::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(supervise())
}

async fn supervise() -> io::Result<ExitCode> {
    let myself = rustix::process::getpid();
    if !myself.is_init() {
        set_child_subreaper(Some(myself))?;
    }
    // Before there is a child, so that no end of a child and no signal is missed.
    let mut children = signal(SignalKind::child())?;
    let mut signals = Forwarded::new()?;
    // A process group of its own: Ctrl-C at a terminal is told to the whole group, and we pass it on besides.
    let child =
        Command::new("/proc/self/exe").arg0(SUPERVISED).args(std::env::args_os().skip(1)).process_group(0).spawn()?;
    let agent = Pid::from_child(&child);
    loop {
        tokio::select! {
            _ = children.recv() => {
                if let Some(code) = reap(agent) {
                    end_what_is_left().await;
                    return Ok(code);
                }
            }
            signal = signals.next() => {
                // It may have ended just now, which is reaped next.
                let _ = kill_process(agent, signal);
            }
        }
    }
}

/// Takes the status of every process that has ended. Returns the agent's, if that is among them.
fn reap(agent: Pid) -> Option<ExitCode> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == agent {
            code = Some(ExitCode::of(status));
        }
    }
    code
}

/// Ends the processes that the agent left running.
// A process that is still there has been adopted: the agent, which must have crashed, had started it. As process 1 our
// end would be its end as well, but without a warning.
async fn end_what_is_left() {
    let deadline = Instant::now() + LEFT_BEHIND;
    let mut asked = vec![];
    // An error says that there is no child any more.
    while let Ok(ended) = wait(WaitOptions::NOHANG) {
        if ended.is_some() {
            continue;
        }
        let expired = Instant::now() >= deadline;
        for pid in children() {
            if expired {
                let _ = kill_process(pid, Signal::KILL);
            } else if !asked.contains(&pid) {
                let _ = kill_process(pid, Signal::TERM);
                asked.push(pid);
            }
        }
        if expired && children().is_empty() {
            return;
        }
        sleep_until(Instant::now() + Duration::from_millis(20)).await;
    }
}

/// Returns our children now, as far as the kernel lists them (`proc_pid_task(5)`).
fn children() -> Vec<Pid> {
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// Signals that are passed on: those by which people and Kubernetes speak to a process.
struct Forwarded {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Forwarded {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}
