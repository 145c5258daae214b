//! Rules about what people write, with the severity of breaking them.

use std::fmt;

use serde::Serialize;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
pub enum Severity {
    /// A fact worth knowing; nothing breaks.
    Hint,
    /// A configuration that works now and fails in an outage.
    Warning,
    /// A configuration that is refused, or that cannot do what it says.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hint => "hint",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Rule that a configuration can break.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable name in CamelCase.
    pub code: &'static str,
    /// Severity of each finding of this rule.
    pub severity: Severity,
    /// Sentence that says what breaks the rule.
    pub broken_when: &'static str,
}
