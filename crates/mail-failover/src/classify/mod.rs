//! `mail-failover classify`: the subject of a reply, what follows from it, and the rule that says so.

mod arguments;
mod backend;
mod command;
#[cfg(test)]
mod tests;
mod verdict;

pub use arguments::ClassifyArguments;
use arguments::Format;
pub use command::run;
