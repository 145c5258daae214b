//! A red team with every right on our kinds in one namespace, and none elsewhere, while a victim's
//! provider dies again and again in another: the victim's failover takes as long as it does alone.

mod arena;
mod attack;
mod flood;
mod tarpit;

use std::process::ExitCode;
use std::time::Duration;

use mail_failover_e2e::environment::is_exhaustive;
use mail_failover_e2e::suite::{self, Options};

fn main() -> ExitCode {
    let options = Options { operator: true, deadline: Duration::from_mins(15), ..Options::default() };
    let mut trials = vec![tarpit::trial_with(12)];
    if is_exhaustive() {
        // They take the whole machine for minutes.
        trials.extend([tarpit::trial_with(70), attack::trial_of_everything()]);
    }
    suite::run("red_team", options, trials)
}
