//! `mail-failover explain route NAME`: why mail goes where it goes, and what would have to happen for it to change.
//!
//! Reads what the operator has written down, from a cluster or from a dump of one, and asks the engine what follows from it. It sees what
//! stands in `status`, not what the operator's probes see this moment. This module never writes, and nothing it says is an input to a
//! decision.

mod account;
mod arguments;
mod source;
mod text;

use std::io::Write;

pub use account::{Account, Given};
pub use arguments::{Explanation, RouteArguments};
pub use source::SourceError;

use mail_failover_core::model::Timestamp;

/// How an account is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// What it would be of cannot be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The route cannot be used as it is written, and no earlier decision is known.
    #[error("MailRoute {0} cannot be used: {1}")]
    Route(String, String),
    /// It cannot be written.
    #[error("the account cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Runs the command.
///
/// # Errors
/// [`ExplainError`], with the routes that there are when this one is not among them.
pub fn run(what: &Explanation, now: Timestamp, out: &mut impl Write) -> Result<(), ExplainError> {
    let Explanation::Route(arguments) = what;
    let RouteArguments { name, namespace, kubeconfig, files, output, at } = arguments;
    let given = if files.is_empty() {
        source::from_cluster(name, namespace.as_deref(), kubeconfig.as_deref())?
    } else {
        source::from_files(name, namespace.as_deref(), files)?
    };
    let account = Account::of(&given, at.unwrap_or(now))?;
    match output {
        Format::Text => out.write_all(text::render(&account).as_bytes())?,
        Format::Json => writeln!(out, "{:#}", account.json())?,
    }
    Ok(())
}
