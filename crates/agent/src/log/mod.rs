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

pub use reader::{LogReader, LoggedLine};
