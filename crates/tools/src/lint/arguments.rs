//! Command line of `mail-failover lint`.

use std::path::PathBuf;

use clap::Args;

use super::{LintFormat, Severity};
use mail_failover_core::model::Timestamp;
use mail_failover_runtime::values::timestamp;

/// Arguments of the linter.
#[derive(Debug, Args)]
pub struct LintArguments {
    /// YAML or JSON files, folders of them with their subfolders, or - for the standard input; what
    /// refers to one another should be given together.
    #[arg(required_unless_present = "rules", value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Exit with 1 for findings of this severity or worse.
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "error")]
    pub fail_on: Severity,

    /// Output format of the findings.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: LintFormat,

    /// Time for which warm-ups and failback windows are checked (RFC 3339); now by default.
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub at: Option<Timestamp>,

    /// Print every rule as a table in Markdown, and check nothing.
    #[arg(long)]
    pub rules: bool,
}
