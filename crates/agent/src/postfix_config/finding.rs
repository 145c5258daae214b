//! Findings about a configuration, and their output. Pure.

use std::fmt::Write as _;

use serde_json::json;

use super::arguments::FindingsFormat;
use mail_failover_runtime::findings::{Rule, Severity};

/// A rule that a configuration breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
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
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn add(
        &mut self,
        rule: &'static Rule,
        place: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding { rule, place: place.into(), message: message.into(), remedy: remedy.into() });
    }

    /// Returns the findings, the worst first.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.0.sort_by(|a, b| {
            let key = |finding: &Finding| (std::cmp::Reverse(finding.rule.severity), finding.place.clone());
            key(a).cmp(&key(b)).then(a.rule.code.cmp(b.rule.code))
        });
        self.0
    }
}

/// Renders findings in a format, with a final newline.
pub fn render(findings: &[Finding], format: FindingsFormat) -> String {
    match format {
        FindingsFormat::Text => text(findings),
        FindingsFormat::Json => {
            let findings = findings.iter().map(|Finding { rule, place, message, remedy }| {
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

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { rule, place, message, remedy } in findings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {}: {place}\n    {message}\n    → {remedy}", rule.severity, rule.code);
    }
    let count = |severity| findings.iter().filter(|finding| finding.rule.severity == severity).count();
    let counted = |severity: Severity| match count(severity) {
        1 => format!("1 {severity}"),
        count => format!("{count} {severity}s"),
    };
    let counts = [Severity::Error, Severity::Warning, Severity::Hint].map(counted);
    text + &counts.join(", ") + "\n"
}
