//! SMTP up to RCPT TO, as probes speak it: dialogues, TLS, logins, and what replies mean.
//!
//! This crate never decides, never talks to Kubernetes, and never sends mail: a dialogue ends before DATA. It sends credentials for depths
//! from `Auth` on only, over TLS or where the user has allowed plain text, and nothing that it says holds a part of them.

pub mod classify;
mod connect;
pub mod dialogue;
mod login;
pub mod message;
pub mod reply;
pub mod tls;

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::missing_panics_doc, clippy::return_self_not_must_use, reason = "for tests")]
pub mod testing;
