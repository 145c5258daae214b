//! DNS records that follow a route: who owns them, what is to be changed, the update that does it on a condition
//! (RFC 2136), its signature (TSIG, RFC 8945), the APIs of DNS providers, and the meaning of an answer.
//!
//! Pure: time and the ids of messages are arguments, and nothing is sent. No printable type holds a key.

#![warn(missing_docs)]

pub mod answer;
pub mod api;
pub mod mark;
pub mod message;
pub mod plan;
pub mod record;
pub mod tsig;
