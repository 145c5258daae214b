//! Real Postfix, with and without the agent beside it.
//!
//! Takes real root and the package; says what is missing otherwise. A sample of the fault matrix is played here with little mail; `make
//! e2e-matrix` plays all of it.

mod cells;
mod harness;
mod killed;
mod robustness;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    let options =
        Options { operator: true, postfix: true, parallel: 2, deadline: Duration::from_mins(3), ..Options::default() };
    let trials = harness::trials()
        .into_iter()
        .chain(cells::trials())
        .chain(robustness::trials())
        .chain(killed::trials())
        .collect();
    suite::run("postfix", options, trials)
}
