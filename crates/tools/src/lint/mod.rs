//! `mail-failover lint`: what the API server would refuse, and what it would accept but a mail operator would not.
//!
//! Works on files alone and reads no clock: warm-ups and failback windows are looked at as of the time that is given. This module
//! never calls the API server, and what it says is no input to any decision.

mod arguments;
mod command;
mod finding;
mod report;
mod rules;
mod schema;
mod set;
#[cfg(test)]
mod tests;

pub use arguments::LintArguments;
pub use command::run;
pub use finding::Finding;
pub use mail_failover_runtime::findings::{Rule, Severity};
pub use report::{Format, Report};
pub use rules::RULES;
pub use schema::SchemaError;

use finding::Findings;
use schema::Schemas;
use set::Set;

use crate::manifests::Manifest;
use mail_failover_core::model::Timestamp;

/// The rules, ready to be applied. Making one takes longer than using it.
pub struct Linter {
    schemas: Schemas,
}

impl Linter {
    /// All rules of this version.
    ///
    /// # Errors
    /// [`SchemaError`] when this program's own resource definitions cannot be used.
    pub fn new() -> Result<Self, SchemaError> {
        Ok(Self { schemas: Schemas::load()? })
    }

    /// Looks at all of these objects together, as of a time.
    pub fn lint(&self, manifests: &[Manifest], at: Timestamp) -> Report {
        let mut findings = Findings::default();
        let set = Set::of(manifests, &self.schemas, at, &mut findings);
        rules::check(&set, &mut findings);
        let ours = manifests.iter().filter(|manifest| manifest.is_ours()).count();
        let core = manifests.iter().filter(|manifest| manifest.group().is_empty()).count();
        Report { findings: findings.sorted(), checked: ours, referred: core, skipped: manifests.len() - ours - core }
    }
}
