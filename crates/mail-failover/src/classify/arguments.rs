//! The command line of `mail-failover classify`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mail_failover_replies::Stage;

/// The replies, and how verdicts are written.
#[derive(Debug, Args)]
pub struct ClassifyArguments {
    /// One reply: the command that it answers (CONN, HELO, STARTTLS, AUTH, MAIL, RCPT or DATA) and the reply as a log shows it. Without it,
    /// replies are read from --file or the standard input.
    #[arg(value_name = "STAGE REPLY", num_args = 2, conflicts_with = "file")]
    pub reply: Vec<String>,

    /// A file with one reply a line, `STAGE<TAB>REPLY`; - is the standard input.
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Read lines of Postfix's log and classify the replies in them; other lines are passed over.
    #[arg(long, conflicts_with = "reply")]
    pub postfix_log: bool,

    /// The provider whose own words count, besides the general rules; without it those of every provider do.
    #[arg(long, value_name = "PROVIDER", value_parser = provider)]
    pub provider: Option<String>,

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
    /// One JSON object a line, in the order of the replies.
    Json,
}

fn provider(text: &str) -> Result<String, UnknownProvider> {
    let known = mail_failover_replies::providers();
    match known.iter().find(|name| name.eq_ignore_ascii_case(text)) {
        Some(name) => Ok((*name).to_owned()),
        None => Err(UnknownProvider { name: text.to_owned(), known: known.join(", ") }),
    }
}

/// A provider without rules of its own.
#[derive(Debug, thiserror::Error)]
#[error("{name} has no rules of its own; known are {known}. Leave --provider out to use all")]
struct UnknownProvider {
    name: String,
    known: String,
}

/// The stage of a line or of the command line.
pub(super) fn stage(text: &str) -> Result<Stage, mail_failover_replies::UnknownStage> {
    text.trim().parse()
}
