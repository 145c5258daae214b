//! `mail-failover explain route NAME`: the reasons why mail goes where it goes, and the events that would change that.
//!
//! It reads the operator's `status` from a cluster or from a dump, and asks the engine what follows from it. It does
//! not see the operator's probes of this moment. This module never writes, and its result is no input to a decision.

mod arguments;
mod explanation;
mod messages;
mod source;
mod text;

use std::io::Write;

pub use arguments::{ExplainCommand, RouteArguments};
pub use explanation::{RouteExplanation, Snapshot};
pub use source::SnapshotError;

use mail_failover_core::model::Timestamp;
use mail_failover_core::model::text::visible_json;

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
    let ExplainCommand::Route(arguments) = what;
    let RouteArguments { name, namespace, kubeconfig, files, output, at } = arguments;
    let snapshot = if files.is_empty() {
        source::from_cluster(name, namespace.as_deref(), kubeconfig.as_deref())?
    } else {
        source::from_files(name, namespace.as_deref(), files)?
    };
    let explanation = RouteExplanation::of(&snapshot, at.unwrap_or(now))?;
    match output {
        ExplanationFormat::Text => out.write_all(text::render(&explanation).as_bytes())?,
        ExplanationFormat::Json => writeln!(out, "{}", visible_json(&format!("{:#}", explanation.json())))?,
    }
    Ok(())
}
