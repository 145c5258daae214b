//! `mail-failover agent`: stands beside a queueing MTA, tells it where each message goes, and moves the queue when that changes.
//!
//! Moving an endpoint is no failover for a queueing MTA: it keeps a dead next hop suspended by name and goes on to use cached connections.
//! So every backend is a next hop with a name of its own, and the MTA asks the agent, over a local socketmap, which one a message takes.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `document` | what the operator writes and the agent reads: one JSON document in one `ConfigMap`, with a schema | yes |
//! | `routing` | a document, checked; which document may replace which | yes |
//! | `answers` | what the MTA is told, from memory | yes |
//! | `supervise` | how Postfix is started, watched, drained and ended | `drain` is |
//! | `postfix_config` | what Postfix has to be told, and what in its configuration defeats failover | but for reading it |
//!
//! Architecture invariants: the agent never writes to the API server; it never sends mail; it never blocks the MTA on anything
//! but its own memory; and whatever it cannot read leaves the last good answer in force.

pub mod answers;
mod arguments;
#[allow(clippy::doc_markdown, reason = "its comments are the descriptions of a JSON schema")]
pub mod document;
pub mod postfix_config;
pub mod routing;
pub mod supervise;

use std::process::ExitCode;

pub use arguments::{AgentCommand, FOLDER, ObjectReference, RunArguments, StatusArguments, StatusFormat};

/// Does what the command line asks.
///
/// # Errors
/// In words, for people.
pub fn command(command: AgentCommand) -> Result<ExitCode, String> {
    match command {
        AgentCommand::Run(_) => Err("agent run is not merged yet".to_owned()),
        AgentCommand::Status(_) => Err("agent status is not merged yet".to_owned()),
        AgentCommand::PostfixConfig(arguments) => Ok(postfix_config::run(&arguments)),
        AgentCommand::Schema => {
            print!("{}", document::schema_json());
            Ok(ExitCode::SUCCESS)
        }
    }
}
