//! The node itself: what suites that run pods rely on.

mod endpoints;
mod pods;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    let options = Options { node: true, parallel: 3, deadline: Duration::from_mins(3), ..Options::default() };
    suite::run("node", options, pods::trials().into_iter().chain(endpoints::trials()).collect())
}
