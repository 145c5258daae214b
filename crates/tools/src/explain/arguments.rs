//! Command line of `mail-failover explain`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ExplanationFormat;
use mail_failover_core::model::Timestamp;
use mail_failover_runtime::values::timestamp;

/// Kind of object that can be explained.
#[derive(Debug, Subcommand)]
pub enum ExplainCommand {
    /// Say why mail of a route goes where it goes, and what would change that.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Route(ObjectArguments),
    /// Say what is seen of a backend, which routes use it, and by which command something changes.
    Backend(ObjectArguments),
    /// Say which values of a policy are in force, which routes use them, and by which command one changes.
    Policy(ObjectArguments),
}

const EXPLAIN_EXAMPLES: &str = "Examples:
  mail-failover explain route orders -n shop
  mail-failover explain backend ses-eu -n shop
  mail-failover explain policy default -n shop
  kubectl get mailroutes,sendingbackends,failoverpolicies -A -o yaml > dump.yaml
  mail-failover explain route orders -n shop --file dump.yaml --at 2026-11-24T08:00:00Z";

/// Arguments of the explanation of an object.
#[derive(Debug, Args)]
pub struct ObjectArguments {
    /// Name of the object.
    pub name: String,

    /// Namespace of the object; by default that of the kubeconfig's context, or with --file the only
    /// one that has such an object.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// The kubeconfig; without it KUBECONFIG, ~/.kube/config or the pod's service account. It has
    /// to allow reading by name.
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    pub kubeconfig: Option<PathBuf>,

    /// Read files instead of a cluster: YAML with status as kubectl prints it, folders, or - for
    /// the standard input; repeatable.
    #[arg(long = "file", short = 'f', value_name = "FILE", num_args = 1..)]
    pub files: Vec<PathBuf>,

    /// Output format of the explanation.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: ExplanationFormat,

    /// Time of the explanation (RFC 3339), for a dump of the past; now by default.
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub at: Option<Timestamp>,
}
