//! Schedule of the test programs that run at the same time.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::job::{Job, Run};
use super::report;

/// The interval at which the running programs are printed.
const PROGRESS: Duration = Duration::from_secs(30);

/// Runs all jobs in their order, as many at a time as the capacity allows, and at least one.
///
/// # Errors
/// When a program cannot be started, or somebody interrupts.
pub async fn run_all(jobs: Vec<Job>, capacity: usize, logs: &Path) -> Result<Vec<Run>> {
    let (count, mut waiting, mut runs) = (jobs.len(), jobs, Vec::new());
    let mut running = JoinSet::new();
    // Start and weight, by name.
    let mut taken: BTreeMap<String, (Instant, usize)> = BTreeMap::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    while !waiting.is_empty() || !taken.is_empty() {
        let used: usize = taken.values().map(|(_, weight)| weight).sum();
        let next = waiting.iter().position(|job| taken.is_empty() || used + job.weight <= capacity);
        if let Some(index) = next {
            let started = waiting.remove(index).start(logs)?;
            taken.insert(started.job.name.clone(), (started.begun, started.job.weight));
            running.spawn(started.finish());
            continue;
        }
        tokio::select! {
            Some(ended) = running.join_next() => {
                let run = ended?;
                taken.remove(&run.job.name);
                report::print_one(&run);
                runs.push(run);
            }
            () = sleep(PROGRESS) => {
                let names: Vec<_> =
                    taken.iter().map(|(name, (since, _))| format!("{name} ({} s)", since.elapsed().as_secs())).collect();
                println!("{} of {count} done; running: {}", runs.len(), names.join(", "));
            }
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    }
    Ok(runs)
}
