//! The command `lint`: reads files, writes the report and returns an exit code.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::{LintArguments, LintReport, Linter, RULES, SchemaError};
use crate::manifests::{self, ManifestError};
use mail_failover_core::model::Timestamp;

/// Exit code when no finding counts.
const CLEAN: u8 = 0;
/// Exit code when at least one finding counts.
const FOUND: u8 = 1;
/// Exit code when files cannot be read or the report cannot be written.
const UNREADABLE: u8 = 2;

/// Runs the command and returns its exit code.
pub fn run(arguments: &LintArguments, now: Timestamp, out: &mut impl Write, errors: &mut impl Write) -> u8 {
    match attempt(arguments, now, out) {
        Ok(code) => code,
        Err(error) => {
            for message in error.messages() {
                // An error that cannot be printed leaves only the exit code.
                drop(writeln!(errors, "mail-failover: {message}"));
            }
            UNREADABLE
        }
    }
}

/// Errors that leave the files unchecked.
#[derive(Debug, thiserror::Error)]
enum LintError {
    #[error("{}", manifests::lines(.0))]
    Manifests(Vec<ManifestError>),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("the report cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl LintError {
    /// Returns the messages to print, one for each problem.
    fn messages(&self) -> Vec<String> {
        match self {
            Self::Manifests(errors) => errors.iter().map(ToString::to_string).collect(),
            Self::Schema(_) | Self::Write(_) => vec![self.to_string()],
        }
    }
}

fn attempt(arguments: &LintArguments, now: Timestamp, out: &mut impl Write) -> Result<u8, LintError> {
    if arguments.rules {
        out.write_all(rules().as_bytes())?;
        return Ok(CLEAN);
    }
    let read = manifests::read(&arguments.files).map_err(LintError::Manifests)?;
    let report = Linter::new()?.lint(&read.manifests, arguments.at.unwrap_or(now));
    let report = LintReport { others: read.others, ..report };
    out.write_all(report.render(arguments.output).as_bytes())?;
    Ok(if report.has(arguments.fail_on) { FOUND } else { CLEAN })
}

/// Returns every rule as a row of a Markdown table.
fn rules() -> String {
    let mut table = "| code | severity | broken when |\n|---|---|---|\n".to_owned();
    for rule in RULES {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | {} | {} |", rule.code, rule.severity, rule.broken_when);
    }
    table
}
