//! The command line of `mail-failover classify`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use mail_failover_replies::{RuleProblem, Rulebook};

/// The replies, and how verdicts are written.
#[derive(Debug, Args)]
pub struct ClassifyArguments {
    /// One reply: the command that it answers (CONN, HELO, STARTTLS, AUTH, MAIL, RCPT or DATA) and the reply as a log
    /// shows it. Or a file
    /// with one reply a line, `STAGE<TAB>REPLY`; - is the standard input, which is also read when nothing is given.
    #[arg(value_name = "STAGE REPLY | FILE", num_args = 0..=2, conflicts_with = "file")]
    pub reply: Vec<String>,

    /// The file, as an option.
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Read lines of Postfix's log and classify the replies in them; other lines are passed over.
    #[arg(long)]
    pub postfix_log: bool,

    /// The provider whose own words count, besides the general rules; without it those of every provider do.
    #[arg(long, value_name = "PROVIDER", value_parser = provider)]
    pub provider: Option<Arc<str>>,

    /// A manifest with a `SendingBackend`: replies are read as if it had sent them, by its provider and its
    /// spec.replies.
    #[arg(long, value_name = "FILE", conflicts_with = "provider")]
    pub backend_file: Option<PathBuf>,

    /// The name of the backend, if the manifest has several.
    #[arg(long, value_name = "NAME", requires = "backend_file")]
    pub backend: Option<String>,

    /// The form of the verdicts.
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Format,
}

/// A form of verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a paragraph a reply.
    #[default]
    Text,
    /// One JSON object a line, in the order of the lines; `line` and `error` for a line that holds no reply.
    Json,
}

fn provider(name: &str) -> Result<Arc<str>, RuleProblem> {
    Rulebook::of_provider(name).map(|_| name.into())
}
