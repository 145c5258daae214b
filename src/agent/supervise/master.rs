//! Postfix's master(8): who it is, and how it is spoken to.
//!
//! Signals go to master itself and not to the command that started it: `postfix start-fg` is a shell script that waits for master
//! and dies of a signal alone, leaving master behind.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The running master of a queue directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master(Pid);

impl Master {
    /// The master that its pid file names, if it runs. The file is root's; other users find none.
    pub fn find(queue_directory: &Path) -> Option<Self> {
        let file = std::fs::read_to_string(queue_directory.join("pid/master.pid")).ok()?;
        let master = Self(Pid::from_raw(file.trim().parse().ok()?)?);
        master.is_alive().then_some(master)
    }

    /// Whether it runs, and the number is not another process's by now.
    pub fn is_alive(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.as_raw_nonzero())).unwrap_or_default();
        stat.split_once(" (master) ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// Reads the configuration again (master(8)).
    pub fn reload(self) -> rustix::io::Result<()> {
        kill_process(self.0, Signal::HUP)
    }

    /// Ends it and all of its processes, as `postfix stop` does. What they were about to deliver stays queued.
    pub fn stop(self) -> rustix::io::Result<()> {
        kill_process(self.0, Signal::TERM)
    }

    /// Ends it and all of its processes without asking, as `postfix stop` does after five seconds.
    pub fn kill(self) -> rustix::io::Result<()> {
        kill_process_group(self.0, Signal::KILL)
    }
}
