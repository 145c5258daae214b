//! Webhooks of a route: the event that tells where the mail goes, its signatures, templates, and the meaning of an
//! answer.
//!
//! Pure: time is an argument, and nothing is sent. No printable type holds a secret.

#![warn(missing_docs)]

pub mod answer;
pub mod event;
pub mod secret;
pub mod signature;
pub mod template;
