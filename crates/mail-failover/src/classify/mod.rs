//! `mail-failover classify`: the subject of a reply, what follows from it, and the rule that says so.

mod arguments;
mod command;
mod verdict;

pub use arguments::ClassifyArguments;
use arguments::Format;
pub use command::run;
