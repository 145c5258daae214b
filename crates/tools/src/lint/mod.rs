//! `mail-failover lint`: errors that the API server would report, and configurations that it accepts and a mail
//! operator would not.
//!
//! It works on files alone and reads no clock: warm-ups and failback windows are checked as of a given time. This
//! module never calls the API server, and its findings are no input to a decision.

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
pub use finding::ManifestFinding;
pub use mail_failover_runtime::findings::{Rule, Severity};
pub use report::{LintFormat, LintReport};
pub use rules::RULES;
pub use schema::SchemaError;

use finding::ManifestFindings;
use schema::Schemas;
use set::ObjectSet;

use crate::manifests::Manifest;
use mail_failover_core::model::Timestamp;

/// Rules and schemas, ready to be applied. Loading them takes longer than one run.
pub struct Linter {
    schemas: Schemas,
}

impl Linter {
    /// Loads all rules of this version.
    ///
    /// # Errors
    /// [`SchemaError`] when this program's own resource definitions cannot be used.
    pub fn new() -> Result<Self, SchemaError> {
        Ok(Self { schemas: Schemas::load()? })
    }

    /// Checks these objects together, as of a time.
    pub fn lint(&self, manifests: &[Manifest], at: Timestamp) -> LintReport {
        let mut findings = ManifestFindings::default();
        let set = ObjectSet::of(manifests, &self.schemas, at, &mut findings);
        rules::check(&set, &mut findings);
        let ours = manifests.iter().filter(|manifest| manifest.is_ours()).count();
        let core = manifests.iter().filter(|manifest| manifest.group().is_empty()).count();
        LintReport {
            findings: findings.sorted(),
            checked: ours,
            referred: core,
            skipped: manifests.len() - ours - core,
            others: vec![],
        }
    }
}
