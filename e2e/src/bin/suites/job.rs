//! A run of a test program, and its result.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mail_failover_e2e::process::tail;
use tokio::process::{Child, Command};

/// Lines of a log shown if it contains no list of failures.
const TAIL: usize = 25;

/// A test program to be run once.
#[derive(Clone, Debug)]
pub struct Job {
    /// The name in the table and of the log.
    pub name: String,
    pub program: PathBuf,
    /// The working directory.
    pub folder: PathBuf,
    /// The part of the program's trials that is run, if it has parts.
    pub part: Option<&'static str>,
    /// The share of the capacity that it takes.
    pub weight: usize,
    /// The cause of its waiting, for the table.
    pub waits_for: &'static str,
    /// The time after which it is killed.
    pub deadline: Duration,
}

impl Job {
    /// The same job for a part of the trials, with its name.
    pub fn of_part(&self, part: &'static str) -> Self {
        Self { name: format!("{} {part}", self.name), part: Some(part), ..self.clone() }
    }

    /// The same job, named after the number of its repetition.
    pub fn again(mut self, time: usize) -> Self {
        if time > 1 {
            self.name = format!("{} #{time}", self.name);
        }
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// When that fails.
    pub fn start(self, logs: &Path) -> Result<Running> {
        let log = logs.join(format!("{}.log", self.name.replace(' ', "-")));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            // The programs that it starts are built already; no second cargo must run beside the others.
            .env_remove("CARGO")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        if let Some(part) = self.part {
            command.env("E2E_PART", part);
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(Running { job: self, child, log, begun: Instant::now() })
    }
}

/// A running test program. It is killed when this is dropped.
pub struct Running {
    pub job: Job,
    child: Child,
    log: PathBuf,
    pub begun: Instant,
}

impl Running {
    /// Waits until it ends, or kills it at its deadline.
    pub async fn finish(mut self) -> Run {
        let ended = tokio::time::timeout(self.job.deadline, self.child.wait()).await;
        let took = self.begun.elapsed();
        let why = match ended {
            Ok(Ok(status)) if status.success() => None,
            Ok(Ok(status)) => Some(format!("it ended with {status}")),
            Ok(Err(error)) => Some(format!("its exit status is unknown: {error}")),
            Err(_) => {
                let _ = self.child.kill().await;
                Some(format!("it took longer than {:?} and was killed", self.job.deadline))
            }
        };
        let text = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let mut results = TrialResults::of(&text);
        if let Some(why) = why
            && results.failures.is_empty()
        {
            results.failed = results.failed.max(1);
            results.failures.push(FailedTrial { trial: why, message: tail(&self.log, TAIL) });
        }
        Run { job: self.job, log: self.log, took, results }
    }
}

/// A test program that has ended.
pub struct Run {
    pub job: Job,
    pub log: PathBuf,
    pub took: Duration,
    pub results: TrialResults,
}

/// The results that a test program printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TrialResults {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    pub failures: Vec<FailedTrial>,
}

/// A trial that failed.
#[derive(Debug, PartialEq, Eq)]
pub struct FailedTrial {
    pub trial: String,
    pub message: String,
}

impl TrialResults {
    /// Parses the output of libtest or of libtest-mimic.
    fn of(output: &str) -> Self {
        let mut results = Self::default();
        let mut message: Option<FailedTrial> = None;
        for line in output.lines() {
            let heading = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----"));
            if let Some(counts) = line.strip_prefix("test result: ") {
                results.passed += count(counts, "passed");
                results.failed += count(counts, "failed");
                results.skipped += count(counts, "ignored");
            }
            if heading.is_some() || line == "failures:" || line.starts_with("test result: ") {
                results.failures.extend(message.take());
            }
            if let Some(trial) = heading {
                let trial = trial.strip_suffix(" stdout").unwrap_or(trial).to_owned();
                message = Some(FailedTrial { trial, message: String::new() });
            } else if let Some(failure) = &mut message {
                failure.message.push_str(line);
                failure.message.push('\n');
            }
        }
        results
    }
}

/// The number before this word: `2` of `ok. 2 passed; 0 failed`.
fn count(text: &str, word: &str) -> usize {
    let before = text.split([';', '.']).find_map(|part| part.trim().strip_suffix(word));
    before.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtest_prints_is_understood() {
        let output = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\nthread 'b' panicked\nleft: 1\n\n\n\
                      failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        let results = TrialResults::of(output);
        assert_eq!((results.passed, results.failed, results.skipped), (1, 1, 3));
        assert_eq!(results.failures.len(), 1);
        assert_eq!(results.failures[0].trial, "b");
        assert!(results.failures[0].message.contains("left: 1"), "{results:?}");
    }

    #[test]
    fn what_libtest_mimic_prints_is_understood() {
        let output = "test a route, and back ... FAILED\n\nfailures:\n\n---- a route, and back ----\nwaited 75s\n\n---- other ----\nlate\n\n\
                      failures:\n    a route, and back\n    other\n\ntest result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out\n";
        let results = TrialResults::of(output);
        assert_eq!((results.passed, results.failed), (4, 2));
        let trials: Vec<_> = results.failures.iter().map(|failure| failure.trial.as_str()).collect();
        assert_eq!(trials, ["a route, and back", "other"]);
    }

    #[test]
    fn nothing_is_made_of_a_program_that_died() {
        assert_eq!(TrialResults::of("running 3 tests\ntest a ... ok\n"), TrialResults::default());
    }
}
