//! Reader of the MTA's log: deliveries, their results, and the evidence in them about the backend.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `line`, `json` | the parser of a line | yes |
//! | `reader` | what is remembered from line to line | yes |
//! | `reply` | the evidence in Postfix's words about a backend, by the probes' rules | yes |
//! | `delivery` | the events in a line, in the core's terms | yes |
//! | `follow` | the sources of lines: a file, a pipe, a socket | no |
//!
//! Architecture invariants: it never holds the MTA up (events that cannot be taken are dropped and counted), and
//! neither an address nor a queue id leaves it.

mod delivery;
pub mod follow;
mod json;
mod line;
mod reader;
pub(crate) mod reply;

use mail_failover_replies::Answered;

pub use reader::LogReader;

/// Finds the reply that a line of Postfix's log quotes: the command that it answers, and `550 5.1.1 …`. A command that
/// was cut off is taken for RCPT, which accuses least.
pub fn quoted_reply(line: &str) -> Option<(Answered, String)> {
    let line = line::LogLine::parse(line)?;
    let record = line.record()?;
    let quoted = reply::Quoted::within(record.reason)?;
    Some((quoted.answered.unwrap_or(Answered::Recipient), format!("{} {}", quoted.code, quoted.text)))
}
