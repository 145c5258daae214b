//! The `mail-failover` binary.

use std::process::ExitCode;

use clap::Parser;
use mail_failover_operator::cli::{Cli, Command};
use mail_failover_operator::{app, cli};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => app::run(arguments).map_err(|error| error.to_string()),
        Command::Crds(arguments) => cli::print_crds(&arguments).map_err(|error| error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mail-failover: {error}");
            ExitCode::FAILURE
        }
    }
}
