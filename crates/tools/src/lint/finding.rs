use std::sync::Arc;

use crate::manifests::Manifest;
use mail_failover_runtime::findings::Rule;

/// A rule that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// The file, as it was named.
    pub file: Arc<str>,
    /// From 1.
    pub line: u64,
    /// Kind, namespace and name.
    pub object: String,
    /// The field; empty for the object as a whole.
    pub field: String,
    /// What is wrong, with its numbers.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Findings as they come up.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// A finding about a field of an object.
    pub(super) fn add(
        &mut self,
        rule: &'static Rule,
        manifest: &Manifest,
        field: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let key = manifest.key();
        self.0.push(Finding {
            rule,
            file: manifest.file().into(),
            line: manifest.line(field),
            object: format!("{} {}/{}", manifest.kind(), key.namespace, key.name),
            field: field.to_owned(),
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    /// By place, the worst first where they share one.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        let order = |finding: &Finding| {
            let severity = std::cmp::Reverse(finding.rule.severity);
            (finding.file.clone(), finding.line, finding.field.clone(), severity, finding.rule.code)
        };
        self.0.sort_by_key(order);
        self.0
    }
}
