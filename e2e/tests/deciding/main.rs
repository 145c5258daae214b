//! Trials of every setting of a decision, seen in status, outputs, Events and kubectl.

mod drills;
mod fixture;
mod gitops;
mod holding;
mod judging;
mod places;
mod ramps;
mod requests;
mod restarts;
mod sharing;
mod storms;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    let options = Options { operator: true, parallel: 5, deadline: Duration::from_mins(4), ..Options::default() };
    // Trials with the longest timers start first, so that they do not end last.
    let groups = [
        restarts::trials(),
        storms::trials(),
        judging::trials(),
        ramps::trials(),
        holding::trials(),
        requests::trials(),
        drills::trials(),
        gitops::trials(),
        sharing::trials(),
        places::trials(),
    ];
    suite::run("deciding", options, groups.into_iter().flatten().collect())
}
