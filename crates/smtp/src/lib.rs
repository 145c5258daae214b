//! SMTP: a client without I/O, its driver for probes, TLS, logins, and the classification of replies.
//!
//! ```text
//! dialogue (tokio, rustls) ◀─▶ client ─▶ login, reply
//!          └─▶ classify, connect, tls ─▶ certificate, wide_hello ─▶ message
//! ```
//!
//! This crate never decides, never talks to Kubernetes, and never sends mail: a dialogue of a probe ends before DATA. It
//! sends credentials only for depths from `Auth` on, over TLS or where the user has allowed plain text. No outcome contains a
//! part of them.

#![warn(missing_docs)]

mod certificate;
pub mod classify;
pub mod client;
pub mod connect;
pub mod dialogue;
pub mod errno;
pub mod login;
pub mod message;
pub mod reply;
pub mod tls;
mod wide_hello;

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::missing_panics_doc, clippy::return_self_not_must_use, missing_docs, reason = "for tests")]
pub mod testing;
