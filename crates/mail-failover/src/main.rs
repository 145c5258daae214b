//! Entry point of the binary `mail-failover`.

mod classify;
mod cli;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use mail_failover_agent as agent;
use mail_failover_core::model::text::visible_lines;
use mail_failover_operator::{app, probe_job};
use mail_failover_relay as relay;
use mail_failover_runtime::clock::Clock;
use mail_failover_runtime::terminal::TerminalWriter;
use mail_failover_tools::{explain, lint, report, simulate};

use cli::{Cli, Command};

fn main() -> ExitCode {
    run(Cli::parse().command).unwrap_or_else(|error| {
        eprintln!("mail-failover: {}", visible_lines(&error.to_string()));
        ExitCode::FAILURE
    })
}

/// The standard output. Hidden characters of files, objects and servers are escaped.
fn stdout() -> TerminalWriter<io::StdoutLock<'static>> {
    TerminalWriter::new(io::stdout().lock())
}

fn stderr() -> TerminalWriter<io::StderrLock<'static>> {
    TerminalWriter::new(io::stderr().lock())
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Run(arguments) => app::run(arguments)?,
        Command::Crds(arguments) => cli::print_crds(&arguments)?,
        Command::Explain(what) => explain::run(&what, Clock::system().now(), &mut stdout())?,
        Command::Report(arguments) => report::run(&arguments, Clock::system().now(), &mut stdout())?,
        Command::Lint(arguments) => {
            return Ok(lint::run(&arguments, Clock::system().now(), &mut stdout(), &mut stderr()).into());
        }
        Command::Simulate(arguments) => {
            return Ok(simulate::run(&arguments, &mut stdout(), &mut stderr()).into());
        }
        Command::Probe(arguments) => return Ok(probe_job::run(&arguments, &mut io::stdout().lock())?),
        Command::Classify(arguments) => {
            return Ok(match classify::run(&arguments, &mut stdout()) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(error) => {
                    eprintln!("mail-failover: {}", visible_lines(&error.to_string()));
                    ExitCode::from(2)
                }
            });
        }
        Command::Agent(command) => return Ok(agent::command(command)?),
        Command::Relay(command) => relay::command(command)?,
    }
    Ok(ExitCode::SUCCESS)
}
