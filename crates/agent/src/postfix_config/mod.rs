//! Command `mail-failover agent postfix-config`: prints the lines that main.cf and master.cf need for the agent, and
//! checks a configuration for what defeats it.
//!
//! Wanted lines and rules are pure, over a parsed configuration. This module never changes a configuration and never
//! talks to a running Postfix.

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

use configuration::Configuration;
use finding::{ConfigFinding, render as render_findings};
use rules::{CheckContext, RULES, check};
use source::ConfigReadError;
use wanted::{Setup, render as render_lines};

use crate::domain_files;
use crate::domains::LocalDomains;

pub use arguments::PostfixConfigArguments;
pub use source::from_postconf;
pub use wanted::SHIELD;

/// Exit code for no finding that counts.
const CLEAN: u8 = 0;
/// Exit code for findings that count.
const FOUND: u8 = 1;
/// Exit code for a configuration that cannot be read.
const UNREADABLE: u8 = 2;

/// Prints lines or findings. Returns the exit code.
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
    let findings = match findings(arguments, &setup) {
        Ok(findings) => findings,
        Err(error) => {
            eprintln!("mail-failover: {error}");
            return ExitCode::from(UNREADABLE);
        }
    };
    print!("{}", render_findings(&findings, arguments.output));
    let counts = findings.iter().any(|finding| finding.rule.severity >= arguments.fail_on);
    ExitCode::from(if counts { FOUND } else { CLEAN })
}

fn findings(arguments: &PostfixConfigArguments, setup: &Setup) -> Result<Vec<ConfigFinding>, ConfigReadError> {
    let domain_tables = arguments.domain_tables();
    let local_domains = LocalDomains::new(&arguments.local_domains).with_files(domain_files::load(&domain_tables)?);
    let document = arguments.config_file.as_deref().map(source::document).transpose()?;
    let configuration = configuration(arguments)?;
    Ok(check(CheckContext {
        configuration: &configuration,
        setup,
        local_domains: &local_domains,
        domain_tables: &domain_tables,
        document: document.as_ref(),
    }))
}

fn configuration(arguments: &PostfixConfigArguments) -> Result<Configuration, ConfigReadError> {
    if let Some(main_cf) = &arguments.main_cf {
        return source::from_files(main_cf, arguments.master_cf.as_deref());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ConfigReadError::Start)?;
    runtime.block_on(source::from_postconf(arguments.config_directory.as_deref()))
}

/// Formats every rule as a table in Markdown.
fn table_of_rules() -> String {
    let mut table = "| code | severity | broken when |\n|---|---|---|\n".to_owned();
    for rule in RULES {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | {} | {} |", rule.code, rule.severity, rule.broken_when);
    }
    table
}
