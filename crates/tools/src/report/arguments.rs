//! Command line of `mail-failover report`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use mail_failover_core::model::Timestamp;
use mail_failover_runtime::values::{long_duration, timestamp};

/// Arguments of a report.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Length of the time to report on, up to now: 30d, 12h.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = long_duration)]
    pub since: Duration,

    /// Namespace to report on; every namespace by default.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// The kubeconfig; without it KUBECONFIG, ~/.kube/config or the pod's service account. It has
    /// to allow listing the operator's resources and Events.
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    pub kubeconfig: Option<PathBuf>,

    /// Read files instead of a cluster: YAML with status as kubectl prints it, Events among it,
    /// folders, or - for the standard input; repeatable.
    #[arg(long = "file", short = 'f', value_name = "FILE", num_args = 1..)]
    pub files: Vec<PathBuf>,

    /// Prometheus with the operator's metrics, for what is beyond the reach of status and Events.
    #[arg(long, value_name = "URL")]
    pub prometheus: Option<String>,

    /// Format of the page.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: ReportFormat,

    /// End of the time to report on (RFC 3339); now by default.
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub at: Option<Timestamp>,
}

/// Format of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// Markdown, for a repository or a wiki.
    #[default]
    Markdown,
    /// One HTML page without references, for a browser or a printer.
    Html,
}
