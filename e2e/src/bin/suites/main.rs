//! `make check`, `make test`, `make e2e` and `make test-all`: compiles the test programs of a set,
//! runs them side by side, and prints what each of them cost.
//!
//! Each program writes into a log of its own below `target/suites`. The last lines name every trial
//! that failed, its message and its log; the very last one is `N passed, N failed`.

mod compile;
mod job;
mod report;
mod schedule;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use mail_failover_e2e::control_plane::{Binaries, Cluster, Program};
use mail_failover_e2e::node::{Node, packages};

/// Runs the test programs of a set side by side.
#[derive(Debug, Parser)]
#[command(name = "suites")]
struct SuitesArguments {
    /// The set of test programs.
    set: Set,
    /// Only programs whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Capacity: how many programs run at a time, by default one more than there are processors. A
    /// program that computes counts twice.
    #[arg(long)]
    capacity: Option<usize>,
    /// Run each program this many times, one time after the other.
    #[arg(long, default_value_t = 1)]
    times: usize,
}

/// The sets of test programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Set {
    /// Tests that start nothing.
    Check,
    /// The tests of `check`, and the suites that start a control plane or Postfix.
    Test,
    /// The suites that start a node.
    E2e,
    /// Every test program.
    All,
}

impl Set {
    /// Programs of Go that the suites of the set start. They are built first, so that their builds
    /// are seen.
    fn programs(self) -> Vec<Program> {
        if Cluster::existing().is_some() && self != Self::Check {
            return vec![Program::Kubectl, Program::Helm, Program::Health];
        }
        // Suites that cannot run here say so themselves, and need no programs.
        let has_nodes = rustix::process::geteuid().is_root() && packages::missing().is_none();
        let control_plane = [Program::Etcd, Program::KubeApiServer, Program::KubeControllerManager, Program::Kubectl];
        let of_tests = [&control_plane[..], &[Program::Helm, Program::Health]].concat();
        let of_nodes =
            [Node::programs(), vec![Program::Health, Program::SourceController, Program::KustomizeController]];
        match self {
            Self::E2e if has_nodes => of_nodes.concat(),
            Self::All if has_nodes => [of_tests, of_nodes.concat()].concat(),
            Self::Test | Self::All => of_tests,
            Self::Check | Self::E2e => Vec::new(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = SuitesArguments::parse();
    match run(&arguments) {
        Ok(is_success) => ExitCode::from(u8::from(!is_success)),
        Err(error) => {
            eprintln!("the suites cannot run: {error:#}");
            println!("0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &SuitesArguments) -> Result<bool> {
    let begun = Instant::now();
    let executables = compile::compile(arguments.set)?;
    let compiled = begun.elapsed();
    let mut jobs = table::jobs(arguments.set, executables);
    jobs.retain(|job| job.name.contains(&arguments.only));
    anyhow::ensure!(!jobs.is_empty(), "no program's name contains {:?}", arguments.only);
    Binaries::locate(&arguments.set.programs())?;
    let prepared = begun.elapsed().saturating_sub(compiled);
    let folder = logs()?;
    let jobs = (1..=arguments.times).flat_map(|time| jobs.iter().map(move |job| job.clone().again(time)));
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let capacity = arguments.capacity.unwrap_or(processors + 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let runs = runtime.block_on(schedule::run_all(jobs.collect(), capacity, &folder))?;
    let times = RunTimes { compiled, prepared, all: begun.elapsed() };
    Ok(report::print(&runs, times))
}

/// The durations of the parts of a whole run.
#[derive(Clone, Copy, Debug)]
struct RunTimes {
    compiled: Duration,
    /// The build of programs of Go.
    prepared: Duration,
    all: Duration,
}

/// Creates the folder of the logs anew, without those of an earlier run.
fn logs() -> Result<PathBuf> {
    let folder = compile::target_folder()?.join("suites");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
