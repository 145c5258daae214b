//! Output about the runs.

use std::time::Duration;

use super::RunTimes;
use super::job::Run;

/// Lines of a failure's message that are printed; the log has all.
const LINES: usize = 15;

/// Prints one line when a program has ended.
pub fn print_one(run: &Run) {
    let results = &run.results;
    // Programs without tests are not listed.
    if results.passed + results.failed + results.skipped == 0 {
        return;
    }
    let verdict = if results.failed == 0 { "ok" } else { "FAILED" };
    let skipped = if results.skipped == 0 { String::new() } else { format!(", {} skipped", results.skipped) };
    println!("{verdict:6} {}: {} passed{skipped}, {:.1} s", run.job.name, results.passed, run.took.as_secs_f64());
    for failure in &results.failures {
        println!("       {} failed", failure.trial);
    }
}

/// Prints the table of times, the failures, and the closing line. Returns true if nothing failed.
pub fn print(runs: &[Run], times: RunTimes) -> bool {
    let mut rows: Vec<&Run> = runs.iter().filter(|run| run.took >= Duration::from_secs(1)).collect();
    rows.sort_by_key(|run| std::cmp::Reverse(run.took));
    println!("\n| suite | trials | seconds | waits for |\n|---|---:|---:|---|");
    for run in rows {
        let trials = run.results.passed + run.results.failed;
        println!("| {} | {trials} | {:.0} | {} |", run.job.name, run.took.as_secs_f64(), run.job.waits_for);
    }
    let sum: Duration = runs.iter().map(|run| run.took).sum();
    println!(
        "\ncompiling {:.0} s, building programs of Go {:.0} s, suites {:.0} s (one after another: {:.0} s); load {}",
        times.compiled.as_secs_f64(),
        times.prepared.as_secs_f64(),
        times.all.saturating_sub(times.compiled + times.prepared).as_secs_f64(),
        sum.as_secs_f64(),
        load()
    );
    let skipped: usize = runs.iter().map(|run| run.results.skipped).sum();
    if skipped > 0 {
        println!("{skipped} skipped; each log says why");
    }
    for run in runs {
        for failure in &run.results.failures {
            println!("\nFAILED {}: {}", run.job.name, failure.trial);
            for line in failure.message.lines().filter(|line| !line.trim().is_empty()).take(LINES) {
                println!("    {line}");
            }
            println!("    log: {}", run.log.display());
        }
    }
    let passed: usize = runs.iter().map(|run| run.results.passed).sum();
    let failed: usize = runs.iter().map(|run| run.results.failed).sum();
    println!("\n{passed} passed, {failed} failed");
    failed == 0
}

/// The machine's load, to compare times by.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
