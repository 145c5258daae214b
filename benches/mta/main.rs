//! A queueing mail server whose provider breaks, side by side in one run: Postfix with a list of
//! relays, Postfix behind HAProxy, and Postfix with our agent and operator: with quick probes, and
//! the delay of every message under the default policy. Then the costs: 10,000 deferred messages,
//! throughput and processor time without a fault.
//!
//! Every round has providers and a Postfix of its own, so that nothing is remembered from one to
//! the next.

mod cpu;
mod default_policy;
mod draining;
mod side_by_side;
mod throughput;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use mail_failover_e2e::bench::{self, Arguments, load, machine};
use mail_failover_e2e::control_plane::install_crds;
use mail_failover_e2e::fixture::{QUICK_LEASE, WAIT_TIMEOUT};
use mail_failover_e2e::haproxy::{HOW_TO_INSTALL, HaProxy};
use mail_failover_e2e::postfix::Postfix;
use mail_failover_e2e::test_env::TestEnv;

/// Arguments of this bench.
#[derive(Clone, Debug, Parser)]
struct MtaArguments {
    #[command(flatten)]
    common: Arguments,
    /// Measure only this; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    SideBySide,
    DefaultPolicy,
    Draining,
    Throughput,
    Cpu,
}

impl AsMut<Arguments> for MtaArguments {
    fn as_mut(&mut self) -> &mut Arguments {
        &mut self.common
    }
}

fn main() -> ExitCode {
    bench::run_with_postfix("the bench of queueing mail servers", measure)
}

async fn measure(env: Arc<TestEnv>, MtaArguments { common: arguments, only }: MtaArguments) -> Result<()> {
    install_crds(&env.client()).await?;
    println!("{}; load {}", machine(), load());
    let haproxy = HaProxy::program().filter(|_| !arguments.no_peer);
    match &haproxy {
        Some(program) => println!("Postfix {}, HAProxy {}", Postfix::version()?, HaProxy::version(program)?),
        None if arguments.no_peer => println!("Postfix {}", Postfix::version()?),
        None => println!("Postfix {}; rows of HAProxy are missing: {HOW_TO_INSTALL}", Postfix::version()?),
    }
    let operator = env.start_operator("bench", &QUICK_LEASE)?;
    operator.wait_ready(WAIT_TIMEOUT).await?;

    let is_wanted = |part| only.is_empty() || only.contains(&part);
    let mut all_met = true;
    if is_wanted(Part::SideBySide) {
        all_met &= side_by_side::measure(&env, arguments, haproxy.is_some()).await?;
    }
    if is_wanted(Part::DefaultPolicy) {
        all_met &= default_policy::measure(&env, arguments).await?;
    }
    if is_wanted(Part::Draining) {
        all_met &= draining::measure(&env, arguments).await?;
    }
    if is_wanted(Part::Throughput) {
        all_met &= throughput::measure(&env, arguments).await?;
    }
    if is_wanted(Part::Cpu) {
        all_met &= cpu::measure(&env, arguments).await?;
    }
    operator.terminate(WAIT_TIMEOUT).await?;
    println!("{}", if all_met { "Every goal is met." } else { "NOT every goal is met." });
    Ok(())
}

/// The verdict on a goal.
fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "NOT met" }
}

/// The cell of a table for a goal.
fn yes_or_no(met: bool) -> &'static str {
    if met { "yes" } else { "NO" }
}
