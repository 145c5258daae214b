//! `mail-failover agent`: stands beside a queueing MTA, tells it where each message goes, and moves the queue when that changes.
//!
//! Moving an endpoint is no failover for a queueing MTA: it keeps a dead next hop suspended by name and goes on to use cached connections.
//! So every backend is a next hop with a name of its own, and the MTA asks the agent, over a local socketmap, which one a message takes.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `answers` | what the MTA is told, from memory | yes |
//! | `reporter` | tells the operator's replicas what deliveries meet | no |
//! | `pinned` | TLS towards a replica whose certificate is known by its fingerprint | yes |
//! | `supervise` | how Postfix is started, watched, drained and ended | `drain` is |
//! | `postfix_config` | what Postfix has to be told, and what in its configuration defeats failover | but for reading it |
//! | `core` | what it concludes from the operator's word and from real deliveries: leave, return, switch, report | yes |
//! | `socketmap` | what Postfix asks, and the answers | but for the server |
//! | `mta` | Postfix, told to reload and to flush, and asked what it holds | no |
//! | `shield` | keeps what a backend refuses for reasons of ours, where Postfix would return it | yes |
//! | `credentials`, `authorities`, `folder` | logins from mounted Secrets; certificates and the shield as files for Postfix | no |
//! | `source` | where documents come from: a `ConfigMap`, a file | no |
//! | `store`, `keeper` | what survives a restart | no |
//! | `status`, `http` | what it says about itself | but for the client |
//! | `tally` | what became of messages, and what the operator is told of it | yes |
//! | `driver` | the loop that owns the core | no |
//! | `run`, `arguments` | all wiring; the command line | no |
//!
//! Architecture invariants: the agent never writes to the API server; it never sends mail; it never blocks the MTA on anything
//! but its own memory; and whatever it cannot read leaves the last good answer in force.

pub mod answers;
#[allow(clippy::doc_markdown, reason = "its comments are the help of the command line")]
mod arguments;
mod authorities;
pub mod core;
pub mod credentials;
mod driver;
mod folder;
mod http;
mod keeper;
pub mod log;
pub mod metrics;
pub mod mta;
mod pinned;
pub mod postfix_config;
pub mod reporter;
mod run;
pub mod shield;
pub mod socketmap;
mod source;
pub mod status;
pub mod store;
pub mod supervise;
mod tally;
#[cfg(test)]
mod testing;

use std::io;
use std::process::ExitCode;

pub use arguments::{AgentCommand, ObjectReference, RunArguments, StatusArguments, StatusFormat};
pub use folder::{FOLDER, SHIELD};
use mail_failover_contract::document;

/// Does what the command line asks.
///
/// # Errors
/// In words, for people.
pub fn command(command: AgentCommand) -> Result<ExitCode, String> {
    match command {
        AgentCommand::PostfixConfig(arguments) => Ok(postfix_config::run(&arguments)),
        AgentCommand::Run(arguments) => run::run(*arguments).map(ExitCode::from).map_err(|error| error.to_string()),
        AgentCommand::Status(arguments) => {
            Ok(ExitCode::from(status::print(&arguments, &mut io::stdout().lock(), &mut io::stderr().lock())))
        }
        AgentCommand::Schema => {
            print!("{}", document::schema_json());
            Ok(ExitCode::SUCCESS)
        }
    }
}
