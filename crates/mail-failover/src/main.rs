//! The `mail-failover` binary.

mod cli;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use mail_failover_agent as agent;
use mail_failover_operator::{app, probe_job};
use mail_failover_runtime::clock::Clock;
use mail_failover_tools::{explain, lint, simulate};

use cli::{Cli, Command};

fn main() -> ExitCode {
    let result: Result<ExitCode, String> = match Cli::parse().command {
        Command::Run(arguments) => app::run(arguments).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string()),
        Command::Crds(arguments) => {
            cli::print_crds(&arguments).map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
        }
        Command::Explain(what) => explain::run(&what, Clock::system().now(), &mut io::stdout().lock())
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| error.to_string()),
        Command::Lint(arguments) => Ok(ExitCode::from(lint::run(
            &arguments,
            Clock::system().now(),
            &mut io::stdout().lock(),
            &mut io::stderr().lock(),
        ))),
        Command::Simulate(arguments) => {
            Ok(ExitCode::from(simulate::run(&arguments, &mut io::stdout().lock(), &mut io::stderr().lock())))
        }
        Command::Probe(arguments) => probe_job::run(&arguments, &mut io::stdout().lock()),
        Command::Agent(command) => agent::command(command).map_err(|error| error.to_string()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("mail-failover: {error}");
        ExitCode::FAILURE
    })
}
