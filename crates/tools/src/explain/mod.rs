//! `mail-failover explain route NAME`: the reasons why mail goes where it goes, and the events that would change that.
//! `explain backend` and `explain policy` say what is seen of a backend, and which values are in force.
//!
//! It reads the operator's `status` from a cluster or from a dump, and asks the engine what follows from it. It does
//! not see the operator's probes of this moment. This module never writes, and its result is no input to a decision.

mod arguments;
mod backend;
mod explanation;
mod messages;
mod policy;
mod source;
mod text;

use std::io::Write;

pub use arguments::{ExplainCommand, ObjectArguments};
pub use explanation::{RouteExplanation, Snapshot};
pub use source::SnapshotError;

use backend::BackendExplanation;
use mail_failover_core::model::Timestamp;
use mail_failover_core::model::text::visible_json;
use policy::PolicyExplanation;

/// Output format of an explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ExplanationFormat {
    /// Text for people to read.
    #[default]
    Text,
    /// One JSON object, for programs.
    Json,
}

/// Errors that leave a route unexplained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The route's objects cannot be read.
    #[error(transparent)]
    Source(#[from] SnapshotError),
    /// The route cannot be used as it is written, and no earlier decision is known.
    #[error("MailRoute {0} cannot be used: {1}")]
    Route(String, String),
    /// The explanation cannot be written to the output.
    #[error("the account cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Runs the command.
///
/// # Errors
/// [`ExplainError`], with the routes that there are when this one is not among them.
pub fn run(what: &ExplainCommand, now: Timestamp, out: &mut impl Write) -> Result<(), ExplainError> {
    let (ExplainCommand::Route(arguments) | ExplainCommand::Backend(arguments) | ExplainCommand::Policy(arguments)) =
        what;
    let ObjectArguments { name, namespace, kubeconfig, files, output, at } = arguments;
    let (namespace, kubeconfig, at) = (namespace.as_deref(), kubeconfig.as_deref(), at.unwrap_or(now));
    let (text, json) = match what {
        ExplainCommand::Route(_) => {
            let snapshot = if files.is_empty() {
                source::from_cluster(name, namespace, kubeconfig)?
            } else {
                source::from_files(name, namespace, files)?
            };
            let explanation = RouteExplanation::of(&snapshot, at)?;
            (text::render(&explanation), explanation.json())
        }
        ExplainCommand::Backend(_) => {
            let explanation = BackendExplanation::of(&source::used(name, namespace, kubeconfig, files)?, at);
            (explanation.text(), explanation.json())
        }
        ExplainCommand::Policy(_) => {
            let explanation = PolicyExplanation::of(&source::used(name, namespace, kubeconfig, files)?, at);
            (explanation.text(), explanation.json())
        }
    };
    match output {
        ExplanationFormat::Text => out.write_all(text.as_bytes())?,
        ExplanationFormat::Json => writeln!(out, "{}", visible_json(&format!("{json:#}")))?,
    }
    Ok(())
}
