//! `mail-failover relay`: a synchronous SMTP relay without a queue, between an application and the backends of a route.
//!
//! The application speaks to one host name. The relay carries each message to a backend while the application waits, and
//! gives it exactly the answer that a backend gave. While no final answer stands, a failure has the same transaction
//! carried to the next backend. It never says that a message is accepted before a backend has said so: nothing can be
//! lost in it.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `core` | sessions with applications, transactions, replay, the choice of backends | yes |
//! | `backend` | connections to backends and their pool | no |
//! | `listener`, `proxy` | ports; the real client behind a load balancer | no |
//! | `server` | the driver of each connection of an application | no |
//! | `buffer` | the content of messages under way | no |
//! | `awaited` | the final answers that backends owe | no |
//! | `driver` | the loop that owns the order of backends and its breakers: documents, evidence, reports | no |
//! | `at_once` | a look without waiting | no |
//! | `scout` | learns what backends offer before a message needs it | no |
//! | `accounts`, `certificate` | logins of applications, and our certificate, from mounted Secrets | no |
//! | `run`, `arguments`, `metrics` | all wiring; the command line; metrics | no |
//!
//! Architecture invariants: an accepted message is at one backend exactly once, unless the user has asked for `Retry`.
//! Nothing is converted, but for the `Received` line. No address and nothing secret is logged unless asked for. Input
//! that it cannot read leaves the last good routing in force.

// ADR-0130: The relay has no queue.

mod accounts;
#[allow(clippy::doc_markdown, reason = "its comments are the help of the command line")]
mod arguments;
mod at_once;
mod awaited;
mod backend;
mod buffer;
mod certificate;
pub mod core;
mod driver;
mod listener;
mod metrics;
mod proxy;
mod run;
mod scout;
mod server;

pub use arguments::{ArgumentError, RelayArguments, RelayCommand};
pub use run::{RelayAddresses, RunError, serve};

/// Runs a subcommand of `mail-failover relay`.
///
/// # Errors
/// When `relay run` could not start, or ended before it was told to.
pub fn command(command: RelayCommand) -> Result<(), RunError> {
    match command {
        RelayCommand::Run(arguments) => run::run(&arguments),
    }
}
