//! The API as a real API server serves it: accepted and refused objects, the words of refusals,
//! defaults, and the output of kubectl. No operator runs.

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
