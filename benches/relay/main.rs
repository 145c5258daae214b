//! An application in front of two providers, side by side in one run: straight to the provider,
//! through HAProxy (TCP), through `mail-failover relay`, through Postfix, and through
//! `decke/smtprelay` where it can be had. Measured: the latency of a message in health, what a
//! message costs the processor, the memory of idle connections, and what the application sees of a
//! failover.

mod application;
mod contenders;
mod failing;
mod idle;
mod latency;
mod processor;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use mail_failover_e2e::bench::{self, Arguments, load, machine};
use mail_failover_e2e::haproxy::{HOW_TO_INSTALL, HaProxy};
use mail_failover_e2e::postfix::Postfix;

use crate::contenders::smtprelay;

/// Arguments of this bench.
#[derive(Clone, Debug, Parser)]
struct RelayBenchArguments {
    #[command(flatten)]
    common: Arguments,
    /// Measure only this; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Latency,
    Processor,
    Idle,
    Failing,
}

impl AsMut<Arguments> for RelayBenchArguments {
    fn as_mut(&mut self) -> &mut Arguments {
        &mut self.common
    }
}

fn main() -> ExitCode {
    bench::run_alone_as_root("the bench of relays", measure)
}

async fn measure(folder: &Path, RelayBenchArguments { common: arguments, only }: RelayBenchArguments) -> Result<()> {
    println!("{}; load {}", machine(), load());
    let haproxy = HaProxy::program().filter(|_| !arguments.no_peer);
    match &haproxy {
        Some(program) => println!("Postfix {}, HAProxy {}", Postfix::version()?, HaProxy::version(program)?),
        None if arguments.no_peer => println!("peers are left out"),
        None => println!("Postfix {}; rows of HAProxy are missing: {HOW_TO_INSTALL}", Postfix::version()?),
    }
    match smtprelay::program().filter(|_| !arguments.no_peer) {
        Some(program) => println!("decke/smtprelay {} ({})", smtprelay::version(&program)?, program.display()),
        None if arguments.no_peer => {}
        None => println!("rows of decke/smtprelay are missing: {}", smtprelay::HOW_TO_INSTALL),
    }
    let is_wanted = |part| only.is_empty() || only.contains(&part);
    let mut all_met = true;
    if is_wanted(Part::Latency) {
        all_met &= latency::measure(folder, arguments).await?;
    }
    if is_wanted(Part::Processor) {
        all_met &= processor::measure(folder, arguments).await?;
    }
    if is_wanted(Part::Idle) {
        all_met &= idle::measure(folder, arguments).await?;
    }
    if is_wanted(Part::Failing) {
        all_met &= failing::measure(folder, arguments).await?;
    }
    println!("\n{}; load {}", if all_met { "Every goal is met." } else { "NOT every goal is met." }, load());
    Ok(())
}

/// The cell of a table for a goal.
fn yes_or_no(met: bool) -> &'static str {
    if met { "yes" } else { "NO" }
}
