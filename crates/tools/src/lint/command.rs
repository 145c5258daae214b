//! The command: reads files, writes the report, and says by its exit code what came of it.

use std::io::{self, Write};

use super::{LintArguments, Linter, RULES};
use crate::manifests;
use mail_failover_core::model::Timestamp;

/// Nothing that counts.
const CLEAN: u8 = 0;
/// Findings that count.
const FOUND: u8 = 1;
/// Nothing can be said: files that cannot be read, or a report that cannot be written.
const UNREADABLE: u8 = 2;

/// Runs the command and returns its exit code.
pub fn run(arguments: &LintArguments, now: Timestamp, out: &mut impl Write, errors: &mut impl Write) -> u8 {
    match attempt(arguments, now, out) {
        Ok(code) => code,
        Err(messages) => {
            for message in messages {
                // Where an error cannot be told, the exit code is all that is left.
                drop(writeln!(errors, "mail-failover: {message}"));
            }
            UNREADABLE
        }
    }
}

fn attempt(arguments: &LintArguments, now: Timestamp, out: &mut impl Write) -> Result<u8, Vec<String>> {
    let unwritten = |error: io::Error| vec![format!("the report cannot be written: {error}")];
    if arguments.rules {
        out.write_all(rules().as_bytes()).map_err(unwritten)?;
        return Ok(CLEAN);
    }
    let told = |errors: Vec<manifests::ManifestError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    let manifests = manifests::read(&arguments.files).map_err(told)?;
    let linter = Linter::new().map_err(|error| vec![error.to_string()])?;
    let report = linter.lint(&manifests, arguments.at.unwrap_or(now));
    out.write_all(report.render(arguments.output).as_bytes()).map_err(unwritten)?;
    Ok(if report.has(arguments.fail_on) { FOUND } else { CLEAN })
}

/// Every rule, as a table in Markdown.
fn rules() -> String {
    let row = |rule: &&super::Rule| format!("| `{}` | {} | {} |\n", rule.code, rule.severity, rule.broken_when);
    "| code | severity | broken when |\n|---|---|---|\n".to_owned() + &RULES.iter().map(row).collect::<String>()
}
