use std::sync::Arc;

use crate::manifests::Manifest;
use mail_failover_runtime::findings::Rule;

/// Finding: a rule, and the place that breaks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFinding {
    /// Rule that is broken.
    pub rule: &'static Rule,
    /// File as it was named on the command line.
    pub file: Arc<str>,
    /// Line in the file, counted from 1.
    pub line: u64,
    /// Kind, namespace and name of the object.
    pub object: String,
    /// Path of the field; empty for the object as a whole.
    pub field: String,
    /// Sentence that says what is wrong, with its numbers.
    pub message: String,
    /// Sentence that says what to do about it.
    pub remedy: String,
}

/// Collector of findings while rules are checked.
#[derive(Debug, Default)]
pub(super) struct ManifestFindings(Vec<ManifestFinding>);

impl ManifestFindings {
    /// Adds a finding about a field of an object.
    pub(super) fn add(
        &mut self,
        rule: &'static Rule,
        manifest: &Manifest,
        field: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let key = manifest.key();
        self.0.push(ManifestFinding {
            rule,
            file: manifest.file().into(),
            line: manifest.line(field),
            object: format!("{} {}/{}", manifest.kind(), key.namespace, key.name),
            field: field.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    /// Returns the findings by place, the most severe first where several share a place.
    pub(super) fn sorted(mut self) -> Vec<ManifestFinding> {
        self.0.sort_by_key(|finding| {
            let severity = std::cmp::Reverse(finding.rule.severity);
            (finding.file.clone(), finding.line, finding.field.clone(), severity, finding.rule.code)
        });
        self.0
    }
}
