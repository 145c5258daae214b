//! Rules that something written by people can break, and how bad that is.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
pub enum Severity {
    /// Worth knowing.
    Hint,
    /// It works, until the day it is needed.
    Warning,
    /// It is refused, or cannot do what it says.
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

/// Something that manifests can be wrong about.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// A stable name, CamelCase.
    pub code: &'static str,
    /// How bad it is to break it.
    pub severity: Severity,
    /// When it is broken, for people.
    pub broken_when: &'static str,
}
