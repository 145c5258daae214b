//! Mail that waits beside the agents of a route.

use std::sync::Arc;
use std::time::Duration;

/// Age from which a message that is kept is told of.
// A switch, and Postfix's first attempts after it, take less.
pub(in crate::controller) const KEPT_FOR_LONG: Duration = Duration::from_mins(15);

/// Mail that waits beside all agents of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::controller) struct KeptTotal {
    /// Number of messages.
    pub(in crate::controller) messages: u64,
    /// Age of the oldest; zero without one.
    pub(in crate::controller) oldest: Duration,
}

/// Mail that has waited for long beside an agent, because a backend refuses it by a 5xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) enum LongKept {
    /// No message has waited for long.
    Nothing,
    /// The oldest message has.
    Messages {
        /// Subject of the latest refusal of the oldest message: `Quota`, for example.
        about: Arc<str>,
        /// Backend that refused it last.
        backend: Arc<str>,
    },
}
