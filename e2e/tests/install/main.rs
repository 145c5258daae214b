//! Trials of the operator as installed: with the rights that its manifests grant and no others.

mod accepted;
mod life;
mod scoped;
mod shop;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    // One trial at a time: an operator of the whole cluster would handle the routes of every trial.
    let options = Options {
        operator: true,
        audit: true,
        modules: &[accepted::PROMETHEUS_OPERATOR],
        parallel: 1,
        deadline: Duration::from_mins(6),
        ..Options::default()
    };
    suite::run(
        "install",
        options,
        [accepted::trials(), life::trials(), scoped::trials()].into_iter().flatten().collect(),
    )
}
