//! Postfix's master(8), and the signals to it.
//!
//! Signals go to master itself and not to the command that started it: `postfix start-fg` is a shell script that waits
//! for master. A signal to the script ends it alone and leaves master behind.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Error of a master that cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// The pid file cannot be read.
    #[error("{}: {source}", file.display())]
    PidFile {
        /// Path of the pid file.
        file: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The pid file names no process.
    #[error("{}: {text:?} is no process id", file.display())]
    NoProcessId {
        /// Path of the pid file.
        file: PathBuf,
        /// Content of the pid file.
        text: String,
    },
    /// The process does not run, or is another program.
    #[error("process {number}, which {} names, is no Postfix master that runs", file.display())]
    NoMaster {
        /// Path of the pid file.
        file: PathBuf,
        /// Number of the process.
        number: String,
    },
}

/// The running master of a queue directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master(Pid);

impl Master {
    /// Finds the master that its pid file names, if that runs and is a Postfix master indeed. The file is root's; other
    /// users find none.
    ///
    /// # Errors
    /// [`MasterError`], which names the file.
    pub fn find(queue_directory: &Path) -> Result<Self, MasterError> {
        let file = queue_directory.join("pid/master.pid");
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text.trim().to_owned(),
            Err(source) => return Err(MasterError::PidFile { file, source }),
        };
        // Not 1, and not the process groups that 0 and less mean to kill(2).
        let Some(pid) = text.parse().ok().filter(|pid: &i32| *pid > 1).and_then(Pid::from_raw) else {
            return Err(MasterError::NoProcessId { file, text });
        };
        let master = Self(pid);
        if master.is_alive() { Ok(master) } else { Err(MasterError::NoMaster { file, number: text }) }
    }

    /// Returns true if it runs. A pid file outlives its process, and the number may be another's by now.
    pub fn is_alive(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.as_raw_nonzero())).unwrap_or_default();
        stat.split_once(" (master) ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// Returns true if a reload does not end it: it catches SIGHUP.
    // Master writes its pid file before it catches SIGHUP.
    pub fn is_ready(self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.as_raw_nonzero())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask & (1 << (Signal::HUP.as_raw() - 1)) != 0)
    }

    /// Reads the configuration again (master(8)). Deliveries under way are finished; memory of dead destinations is
    /// cleared.
    ///
    /// # Errors
    /// As kill(2): `EPERM` when this process is neither of master's user nor has `CAP_KILL`.
    pub fn reload(self) -> rustix::io::Result<()> {
        kill_process(self.0, Signal::HUP)
    }

    /// Ends it and all of its processes, as `postfix stop` does. What they were about to deliver stays queued.
    ///
    /// # Errors
    /// As [`Self::reload`].
    pub fn stop(self) -> rustix::io::Result<()> {
        kill_process(self.0, Signal::TERM)
    }

    /// Ends it and all of its processes without asking, as `postfix stop` does after five seconds.
    ///
    /// # Errors
    /// As [`Self::reload`].
    pub fn kill(self) -> rustix::io::Result<()> {
        kill_process_group(self.0, Signal::KILL)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use mail_failover_dataplane::testing::Folder;

    #[test]
    fn a_pid_file_of_another_process_is_not_believed() {
        let folder = Folder::new();
        assert!(Master::find(folder.path()).unwrap_err().to_string().contains("pid/master.pid"));
        fs::create_dir(folder.path().join("pid")).unwrap();
        for text in ["", "0", "-1", "1", "x", &format!("  {}\n", std::process::id())] {
            fs::write(folder.path().join("pid/master.pid"), text).unwrap();
            assert!(Master::find(folder.path()).is_err(), "{text:?}");
        }
    }
}
