//! Trials of the operator and its routes by Git, with the real source-controller and
//! kustomize-controller of Flux on a real node.

mod failing_over;
mod flux;
mod git;
mod installing;
mod platform;
mod removing;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::control_plane::Program;
use mail_failover_e2e::node::images;
use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    let options = Options {
        node: true,
        // What the operator writes is counted.
        audit: true,
        images: &[images::operator, flux::source_controller, flux::kustomize_controller],
        programs: &[Program::Health],
        modules: &flux::MODULES,
        // One operator and one repository serve all trials.
        parallel: 1,
        deadline: Duration::from_mins(8),
        ..Options::default()
    };
    let trials = installing::trials().into_iter().chain(failing_over::trials()).chain(removing::trials()).collect();
    suite::run("gitops", options, trials)
}
