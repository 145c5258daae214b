//! `mail-failover agent postfix-config`: what main.cf and master.cf need so that the agent can do its work, and what in them defeats it.
//!
//! Wanted lines and rules are pure, over a parsed configuration. This module never changes a configuration and never talks to a
//! running Postfix.

mod arguments;
mod configuration;
mod expansion;
mod finding;
mod rules;
mod source;
#[cfg(test)]
mod tests;
mod wanted;

use std::fmt::Write as _;
use std::process::ExitCode;

pub use arguments::{By, FindingsFormat, LinesFormat, PostfixConfigArguments, Timeouts};
pub use configuration::{Configuration, Service};
pub use finding::{Finding, render as render_findings};
pub use rules::{RULES, Subject, check};
pub use source::{SourceError, from_postconf};
pub use wanted::{Endpoint, IMPLICIT_TLS_SERVICE, Setup, render as render_lines};

/// Nothing that counts.
const CLEAN: u8 = 0;
/// Findings that count.
const FOUND: u8 = 1;
/// No configuration that can be read.
const UNREADABLE: u8 = 2;

/// Prints lines or findings and says by the exit code what came of it.
pub fn run(arguments: &PostfixConfigArguments) -> ExitCode {
    let setup = Setup::of(arguments);
    if arguments.rules {
        print!("{}", table_of_rules());
        return ExitCode::from(CLEAN);
    }
    if !arguments.check {
        print!("{}", render_lines(&setup, arguments.format));
        return ExitCode::from(CLEAN);
    }
    let configuration = match configuration(arguments) {
        Ok(configuration) => configuration,
        Err(error) => {
            eprintln!("mail-failover: {error}");
            return ExitCode::from(UNREADABLE);
        }
    };
    let subject = Subject { configuration: &configuration, setup: &setup, local_domains: &arguments.local_domains };
    let findings = check(subject);
    print!("{}", render_findings(&findings, arguments.output));
    let counts = findings.iter().any(|finding| finding.rule.severity >= arguments.fail_on);
    ExitCode::from(if counts { FOUND } else { CLEAN })
}

fn configuration(arguments: &PostfixConfigArguments) -> Result<Configuration, SourceError> {
    if let Some(main_cf) = &arguments.main_cf {
        return source::from_files(main_cf, arguments.master_cf.as_deref());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SourceError::Start)?;
    runtime.block_on(source::from_postconf(arguments.config_directory.as_deref()))
}

/// Every rule, as a table in Markdown.
fn table_of_rules() -> String {
    let mut table = "| code | severity | broken when |\n|---|---|---|\n".to_owned();
    for rule in RULES {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | {} | {} |", rule.code, rule.severity, rule.broken_when);
    }
    table
}
