//! The MTA's log, read: which deliveries went well, which failed, and what that says about the backend.
//!
//! | module | is | pure |
//! |---|---|---|
//! | `line` | a line, taken apart | yes |
//! | `reply` | what Postfix's words say about a backend, by the probes' rules | yes |
//! | `delivery` | a line, as the core understands it | yes |
//! | `follow` | where lines come from: a file, a pipe, a socket | no |
//!
//! Architecture invariants: it never holds the MTA up (what cannot be taken is dropped and counted), and neither an address nor a queue id
//! leaves it.

pub mod delivery;
pub mod follow;
pub mod line;
pub mod reply;

pub use delivery::sighting;
