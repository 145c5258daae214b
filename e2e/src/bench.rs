//! Shared parts of the benches: command line, description of the machine, and the cost of a
//! process.

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use crate::standalone;
use crate::test_env::TestEnv;

/// Clock ticks a second in `/proc/<pid>/stat` (`USER_HZ`): 100 on every architecture that Linux has (proc(5)).
const TICKS: f64 = 100.0;

/// Arguments of every bench.
#[derive(Clone, Copy, Debug, Parser)]
pub struct Arguments {
    /// Run a few rounds only, for work on the bench itself; `BENCH_QUICK=1` has the same effect.
    #[arg(long)]
    pub quick: bool,
    /// Leave the peer out.
    #[arg(long)]
    pub no_peer: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl AsMut<Self> for Arguments {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

/// Runs a bench. Call it first in `main`.
///
/// `cargo test --all-targets` starts the benches as well; then nothing is measured.
pub fn run<F>(name: &str, body: F) -> ExitCode
where
    F: AsyncFnOnce(Arc<TestEnv>, Arguments) -> Result<()>,
{
    match arguments::<Arguments>(name) {
        Some(arguments) => standalone::run(name, async |env| body(env, arguments).await),
        None => ExitCode::SUCCESS,
    }
}

/// Runs a bench that starts Postfix, like [`run`]. Its own arguments have [`Arguments`] flattened
/// into them.
pub fn run_with_postfix<A, F>(name: &str, body: F) -> ExitCode
where
    A: Parser + AsMut<Arguments>,
    F: AsyncFnOnce(Arc<TestEnv>, A) -> Result<()>,
{
    match arguments::<A>(name) {
        Some(arguments) => standalone::run_with_postfix(name, async |env| body(env, arguments).await),
        None => ExitCode::SUCCESS,
    }
}

/// Runs a bench that starts Postfix and takes no control plane: in a network of its own, with a folder. Otherwise like
/// [`run_with_postfix`].
pub fn run_alone_as_root<A, F>(name: &str, body: F) -> ExitCode
where
    A: Parser + AsMut<Arguments>,
    F: AsyncFnOnce(&Path, A) -> Result<()>,
{
    match arguments::<A>(name) {
        Some(arguments) => standalone::run_alone_as_root(name, async |folder| body(folder, arguments).await),
        None => ExitCode::SUCCESS,
    }
}

/// The bench's arguments; `None` if it is not to measure anything.
fn arguments<A: Parser + AsMut<Arguments>>(name: &str) -> Option<A> {
    let mut all = A::parse();
    let arguments = all.as_mut();
    if !arguments.bench {
        println!("{name} measures nothing: it is for `cargo bench`");
        return None;
    }
    arguments.quick |= env::var_os("BENCH_QUICK").is_some_and(|value| !value.is_empty() && value != "0");
    Some(all)
}

/// A description of the machine in one line.
pub fn machine() -> String {
    let cores = available_parallelism().map_or(0, std::num::NonZero::get);
    let kilobytes = field("/proc/meminfo", "MemTotal");
    let gigabytes = kilobytes.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024 / 1024;
    let profile = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    format!(
        "{cores} cores ({}), {gigabytes} GB, Linux {}, {profile}",
        field("/proc/cpuinfo", "model name"),
        read_or_empty("/proc/sys/kernel/osrelease").trim()
    )
}

fn read_or_empty(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line with this name in a file of lines `name: value`.
fn field(path: &str, name: &str) -> String {
    let text = read_or_empty(path);
    let value = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
    value.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

/// Load averages of 1, 5 and 15 minutes, as the kernel prints them.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Resources that a process has used up to a moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    at: Instant,
    cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
}

impl Usage {
    /// The usage of this process until now.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(id: u32) -> Result<Self> {
        let cpu = cpu(&read_of_process(id, "stat")?).with_context(|| format!("/proc/{id}/stat has no times"))?;
        let status = read_of_process(id, "status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok());
        let resident = resident.with_context(|| format!("/proc/{id}/status has no VmRSS"))? * 1024;
        Ok(Self { at: Instant::now(), cpu, resident })
    }

    /// Cores in use since an earlier moment: 1.0 is one core all the time.
    pub fn cores_since(&self, earlier: &Self) -> f64 {
        let wall = self.at.duration_since(earlier.at).as_secs_f64();
        if wall > 0.0 { self.cpu.saturating_sub(earlier.cpu).as_secs_f64() / wall } else { 0.0 }
    }
}

/// Processor time that a process and its children have used until now, ended children included.
///
/// # Errors
/// When there is no such process.
pub fn cpu_with_children(id: u32) -> Result<Duration> {
    let stat = read_of_process(id, "stat")?;
    let mut used = cpu(&stat).zip(cpu_of_ended(&stat)).map(|(own, ended)| own + ended);
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(child) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may end meanwhile, and then its parent has its time only at the next look.
        let Ok(stat) = read_of_process(child, "stat") else { continue };
        if parent(&stat) == Some(id) {
            used = used.zip(cpu(&stat)).map(|(all, child)| all + child);
        }
    }
    used.with_context(|| format!("/proc/{id}/stat has no times"))
}

fn read_of_process(id: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{id}/{file}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

/// User and system time from `/proc/<pid>/stat`. The command in parentheses may contain anything,
/// so fields are counted from its last parenthesis (proc(5)).
fn cpu(stat: &str) -> Option<Duration> {
    times(stat, 11)
}

/// User and system time of children that have ended and were waited for.
fn cpu_of_ended(stat: &str) -> Option<Duration> {
    times(stat, 13)
}

fn times(stat: &str, skipped: usize) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split_whitespace().skip(skipped).map(|ticks| ticks.parse::<f64>().ok());
    let (user, system) = (times.next()??, times.next()??);
    Some(Duration::from_secs_f64((user + system) / TICKS))
}

fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_after_any_command() {
        for command in ["a", "a b", "x) S 9 (y"] {
            let stat = format!("7 ({command}) S 1 1 1 0 -1 0 1 0 0 0 250 150 15 5 20");
            assert_eq!(cpu(&stat), Some(Duration::from_secs(4)), "{command}");
            assert_eq!((cpu_of_ended(&stat), parent(&stat)), (Some(Duration::from_millis(200)), Some(1)), "{command}");
        }
        assert_eq!(cpu("7 (short) S 1"), None);
    }

    #[test]
    fn this_process_costs_something() {
        let usage = Usage::of(std::process::id()).expect("this process");
        assert!(usage.resident > 100_000);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
