//! Findings about a configuration, and their output. Pure.

use std::cmp::Reverse;
use std::fmt::Write as _;

use mail_failover_runtime::findings::{Rule, Severity};
use serde_json::json;

use super::arguments::FindingsFormat;

/// A rule that a configuration breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFinding {
    /// Rule that is broken.
    pub rule: &'static Rule,
    /// The parameter, or the service of master.cf as `name/kind`.
    pub place: String,
    /// Problem, with the values and the consequence.
    pub message: String,
    /// Remedy for the administrator.
    pub remedy: String,
}

/// Collector of the findings of a check.
#[derive(Debug, Default)]
pub(super) struct ConfigFindings(Vec<ConfigFinding>);

impl ConfigFindings {
    pub(super) fn add(
        &mut self,
        rule: &'static Rule,
        place: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(ConfigFinding { rule, place: place.into(), message: message.into(), remedy: remedy.into() });
    }

    /// Returns the findings, the worst first.
    pub(super) fn sorted(mut self) -> Vec<ConfigFinding> {
        self.0.sort_by_key(|finding| (Reverse(finding.rule.severity), finding.place.clone(), finding.rule.code));
        self.0
    }
}

/// Renders findings in a format, with a final newline.
pub fn render(findings: &[ConfigFinding], format: FindingsFormat) -> String {
    match format {
        FindingsFormat::Text => text(findings),
        FindingsFormat::Json => {
            let findings = findings.iter().map(|ConfigFinding { rule, place, message, remedy }| {
                json!({
                    "code": rule.code,
                    "severity": rule.severity.to_string(),
                    "place": place,
                    "message": message,
                    "remedy": remedy,
                })
            });
            format!("{:#}\n", json!({ "findings": findings.collect::<Vec<_>>() }))
        }
    }
}

fn text(findings: &[ConfigFinding]) -> String {
    let mut text = String::new();
    for ConfigFinding { rule, place, message, remedy } in findings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {}: {place}\n    {message}\n    → {remedy}", rule.severity, rule.code);
    }
    let counts = [Severity::Error, Severity::Warning, Severity::Hint].map(|severity| counted(findings, severity));
    text + &counts.join(", ") + "\n"
}

fn counted(findings: &[ConfigFinding], severity: Severity) -> String {
    match findings.iter().filter(|finding| finding.rule.severity == severity).count() {
        1 => format!("1 {severity}"),
        count => format!("{count} {severity}s"),
    }
}
