//! The API as a real API server serves it: what it accepts, what it refuses and with which words, what it fills in, and what
//! kubectl makes of it. No operator runs.

mod accepted;
mod coverage;
mod kubectl;
mod object;
mod refused;

use std::process::ExitCode;

use mail_failover_e2e::suite::{Options, run};

fn main() -> ExitCode {
    let mut trials = refused::trials();
    trials.extend(accepted::trials());
    trials.extend(kubectl::trials());
    trials.extend(coverage::trials());
    run("api", Options::default(), trials)
}
