//! `mail-failover agent`: stands beside a queueing MTA, tells it where each message goes, and moves the queue when that
//! changes.
//!
//! Moving an endpoint is no failover for a queueing MTA: it keeps a dead next hop suspended by name and goes on to use
//! cached connections. So every backend is a next hop with a name of its own, and the MTA asks the agent, over a local
//! socketmap, which one a message takes.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `supervise` | start, watch, drain and end of Postfix | `drain` is |
//! | `domains`, `domain_files` | the domains that Postfix delivers by its own rules, and the files that name them | `domains` is |
//! | `postfix_config` | the lines that Postfix needs, and the check of a configuration | but for reading it |
//! | `socketmap` | Postfix's requests, and their answers | but for the server |
//! | `mta` | Postfix: reload, flush, count the queue | no |
//! | `shield` | the filter that keeps mail when a backend refuses it because of our account | yes |
//! | `authorities`, `folder` | certificates and the shield as files for Postfix | no |
//! | `status`, `http` | the agent's status | but for the client |
//! | `sessions` | sessions that Postfix begins with each backend | yes |
//! | `driver` | the loop that owns the core | no |
//! | `run`, `arguments` | all wiring; the command line | no |
//!
//! What it has in common with the relay is in the crate `mail_failover_dataplane`: the core that orders the backends, and
//! what it needs.
//!
//! Architecture invariants: the agent never writes to the API server. It never sends mail. It never blocks the MTA on
//! anything but its own memory; the turn of a session is waited for by that one delivery. Input that it cannot read
//! leaves the last good answer in force.

#[allow(clippy::doc_markdown, reason = "its comments are the help of the command line")]
mod arguments;
mod authorities;
mod domain_files;
mod domains;
mod driver;
mod driver_metrics;
mod folder;
mod http;
pub mod log;
pub mod metrics;
pub mod mta;
mod postfix_config;
mod queue_watch;
mod run;
pub mod sessions;
pub mod shield;
pub mod socketmap;
pub mod status;
pub mod supervise;

use std::io;
use std::process::ExitCode;

pub use arguments::{AgentCommand, AgentRunArguments, StatusArguments, StatusFormat};
pub use folder::FOLDER;
use mail_failover_contract::document;
pub use postfix_config::SHIELD;
pub use run::RunError;

/// Runs a subcommand of `mail-failover agent`.
///
/// # Errors
/// When `agent run` could not start, or ended before it was told to.
pub fn command(command: AgentCommand) -> Result<ExitCode, RunError> {
    match command {
        AgentCommand::PostfixConfig(arguments) => Ok(postfix_config::run(&arguments)),
        AgentCommand::Run(arguments) => run::run(*arguments).map(ExitCode::from),
        AgentCommand::Status(arguments) => {
            Ok(ExitCode::from(status::print(&arguments, &mut io::stdout().lock(), &mut io::stderr().lock())))
        }
        AgentCommand::Schema => {
            print!("{}", document::schema_json());
            Ok(ExitCode::SUCCESS)
        }
    }
}
