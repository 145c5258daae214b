//! Trials of a real Postfix, with and without the agent beside it.
//!
//! They need real root and the package, and say what is missing otherwise. A sample of the fault
//! matrix runs here with little mail; `make e2e-matrix` runs all of it.

mod cells;
mod harness;
mod idle_sessions;
mod killed;
mod rates;
mod robustness;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::environment::is_exhaustive;
use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    let deadline = if is_exhaustive() { Duration::from_mins(6) } else { Duration::from_mins(3) };
    let options = Options { operator: true, postfix: true, parallel: 2, deadline, ..Options::default() };
    let trials = harness::trials()
        .into_iter()
        .chain(cells::trials())
        .chain(robustness::trials())
        .chain(killed::trials())
        .chain(idle_sessions::trials())
        .chain(rates::trials())
        .collect();
    suite::run("postfix", options, trials)
}
