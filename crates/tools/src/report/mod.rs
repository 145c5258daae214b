//! `mail-failover report --since 30d`: what happened to the mail of each route, as a page for a manager or an auditor.
//!
//! It reads status and Events from a cluster or from a dump, and asks Prometheus where one is given. What is beyond the
//! reach of these the page says. This module never writes, and its result is no input to a decision.
// ADR-0151: A report names the gaps of its sources.

mod arguments;
mod collect;
mod event;
mod page;
mod prometheus;
mod render;
#[cfg(test)]
mod tests;

use std::io::Write;

pub use arguments::{ReportArguments, ReportFormat};
pub use collect::CollectError;

use mail_failover_core::model::Timestamp;
use mail_failover_core::model::text::visible_lines;

/// Errors that leave a report unwritten.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The objects cannot be read.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The report cannot be written to the output.
    #[error("the report cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

/// Runs the command.
///
/// # Errors
/// [`ReportError`]. A Prometheus that does not answer is no error: the page says what is missing for it.
pub fn run(arguments: &ReportArguments, now: Timestamp, out: &mut impl Write) -> Result<(), ReportError> {
    let until = arguments.at.unwrap_or(now);
    let since = until - arguments.since;
    let collected = collect::collect(arguments, since, until)?;
    let page = page::page(&collected, since, until);
    let text = match arguments.output {
        ReportFormat::Markdown => render::markdown(&page),
        ReportFormat::Html => render::html(&page),
    };
    out.write_all(visible_lines(&text).as_bytes())?;
    Ok(())
}
