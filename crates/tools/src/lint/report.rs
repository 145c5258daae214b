use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::json;

use super::finding::Finding;
use mail_failover_runtime::findings::Severity;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// By file and line.
    pub findings: Vec<Finding>,
    /// So many objects of ours there are.
    pub checked: usize,
    /// So many of the core group, which ours may refer to.
    pub referred: usize,
    /// So many others, which were not looked at.
    pub skipped: usize,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// Annotations of GitHub Actions, beside the lines they are about.
    Github,
}

impl Report {
    /// Whether there is a finding at least so bad.
    pub fn has(&self, severity: Severity) -> bool {
        self.findings.iter().any(|finding| finding.rule.severity >= severity)
    }

    /// The report in a format, with a final newline.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.to_string(),
            Format::Json => format!("{:#}\n", self.json()),
            Format::Github => self.findings.iter().map(annotation).collect::<String>() + &self.summary() + "\n",
        }
    }

    fn json(&self) -> serde_json::Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "code": finding.rule.code,
                "severity": finding.rule.severity.to_string(),
                "file": &*finding.file,
                "line": finding.line,
                "object": finding.object,
                "field": finding.field,
                "message": finding.message,
                "remedy": finding.remedy,
            })
        });
        json!({
            "findings": findings.collect::<Vec<_>>(),
            "checked": self.checked,
            "referred": self.referred,
            "skipped": self.skipped,
        })
    }

    /// `3 objects checked, 1 error, 2 warnings, 0 hints; …`.
    fn summary(&self) -> String {
        let mut counts: BTreeMap<Severity, usize> = BTreeMap::new();
        for finding in &self.findings {
            *counts.entry(finding.rule.severity).or_default() += 1;
        }
        let count = |severity| counts.get(&severity).copied().unwrap_or(0);
        let mut summary = format!(
            "{} checked: {}, {}, {}",
            counted(self.checked, "object"),
            counted(count(Severity::Error), "error"),
            counted(count(Severity::Warning), "warning"),
            counted(count(Severity::Hint), "hint"),
        );
        if self.skipped > 0 {
            // Writing to a String cannot fail.
            let _ = write!(summary, "; {} of other kinds skipped", counted(self.skipped, "object"));
        }
        summary
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { rule, file, line, object, field, message, remedy } in &self.findings {
            let place = if field.is_empty() { object.clone() } else { format!("{object}: {field}") };
            writeln!(f, "{file}:{line}: {} {}: {place}", rule.severity, rule.code)?;
            writeln!(f, "    {message}")?;
            writeln!(f, "    → {remedy}")?;
        }
        writeln!(f, "{}", self.summary())
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A workflow command of GitHub Actions, with the escapes it wants.
fn annotation(finding: &Finding) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let level = match finding.rule.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Hint => "notice",
    };
    format!(
        "::{level} file={},line={},title={}::{}\n",
        property(&finding.file),
        finding.line,
        property(&format!("{} {}", finding.rule.code, finding.object)),
        data(&format!("{}: {}; {}", finding.field, finding.message, finding.remedy)),
    )
}
