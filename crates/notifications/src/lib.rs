//! Notifications of people: which ones are one message, its text, the format of each receiver, and the queue in which
//! messages wait.
//!
//! Pure: time is an argument, randomness too, and nothing is sent. No printable type holds a secret.

#![warn(missing_docs)]

pub mod delivery;
pub mod format;
pub mod group;
pub mod id;
pub mod message;
pub mod secret;
