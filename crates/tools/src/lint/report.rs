use std::fmt::{self, Write as _};

use serde_json::json;

use super::finding::ManifestFinding;
use super::rules::listed;
use mail_failover_core::model::text::{visible, visible_json};
use mail_failover_runtime::findings::Severity;

/// Result of a lint run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LintReport {
    /// Findings by file and line.
    pub findings: Vec<ManifestFinding>,
    /// Number of our objects that were checked.
    pub checked: usize,
    /// Number of objects of the core group, which ours may refer to.
    pub referred: usize,
    /// Number of other objects, which were skipped.
    pub skipped: usize,
    /// Files of folders that hold no Kubernetes object.
    pub others: Vec<String>,
}

/// Output format of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LintFormat {
    /// Text for people to read.
    #[default]
    Text,
    /// One JSON object, for programs.
    Json,
    /// Annotations of GitHub Actions, shown beside the lines in question.
    Github,
}

impl LintReport {
    /// Returns true if at least one finding is this severe or worse.
    pub fn has(&self, severity: Severity) -> bool {
        self.findings.iter().any(|finding| finding.rule.severity >= severity)
    }

    /// Renders the report with a final newline.
    pub fn render(&self, format: LintFormat) -> String {
        match format {
            LintFormat::Text => self.to_string(),
            LintFormat::Json => visible_json(&format!("{:#}\n", self.json())).into_owned(),
            LintFormat::Github => self.findings.iter().map(annotation).collect::<String>() + &self.summary() + "\n",
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
            "others": self.others,
        })
    }

    /// Returns the summary line: `3 objects checked, 1 error, 2 warnings, 0 hints; …`.
    fn summary(&self) -> String {
        let mut summary = format!(
            "{} checked: {}, {}, {}",
            counted(self.checked, "object"),
            counted(self.count(Severity::Error), "error"),
            counted(self.count(Severity::Warning), "warning"),
            counted(self.count(Severity::Hint), "hint"),
        );
        if self.skipped > 0 {
            // Writing to a String cannot fail.
            let _ = write!(summary, "; {} of other kinds skipped", counted(self.skipped, "object"));
        }
        if !self.others.is_empty() {
            let files = counted(self.others.len(), "file");
            let _ = write!(summary, "; {files} without any Kubernetes object: {}", visible(&listed(&self.others)));
        }
        summary
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.rule.severity == severity).count()
    }
}

impl fmt::Display for LintReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ManifestFinding { rule, file, line, object, field, message, remedy } in &self.findings {
            let place = if field.is_empty() { object.clone() } else { format!("{object}: {field}") };
            writeln!(f, "{}:{line}: {} {}: {}", visible(file), rule.severity, rule.code, visible(&place))?;
            writeln!(f, "    {}", visible(message))?;
            writeln!(f, "    → {}", visible(remedy))?;
        }
        writeln!(f, "{}", self.summary())
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Formats a workflow command of GitHub Actions, with its escapes.
fn annotation(finding: &ManifestFinding) -> String {
    let level = match finding.rule.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Hint => "notice",
    };
    format!(
        "::{level} file={},line={},title={}::{}\n",
        escaped_property(&finding.file),
        finding.line,
        escaped_property(&format!("{} {}", finding.rule.code, finding.object)),
        escaped(&format!("{}: {}; {}", finding.field, finding.message, finding.remedy)),
    )
}

fn escaped(text: &str) -> String {
    // In one line: a name with a line break could begin a workflow command of its own.
    visible(text).replace('%', "%25")
}

fn escaped_property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}
