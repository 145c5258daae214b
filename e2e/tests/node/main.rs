//! Trials of the node itself: of the parts that suites with pods rely on.

mod endpoints;
mod image;
mod pods;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::node::images;
use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    let options = Options {
        node: true,
        images: &[image::recipe, images::operator, images::postfix_agent],
        parallel: 3,
        deadline: Duration::from_mins(3),
        ..Options::default()
    };
    let trials = pods::trials().into_iter().chain(endpoints::trials()).chain(image::trials()).collect();
    suite::run("node", options, trials)
}
