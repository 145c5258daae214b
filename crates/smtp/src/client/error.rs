//! Reasons for which a session ends before its goal.

use std::time::{Duration, Instant};

use crate::login::NoMechanism;
use crate::reply::{Reply, ReplyError};

/// Lateness at a deadline that says nothing: timers and schedulers are not exact.
const TOLERATED_LATENESS: Duration = Duration::from_millis(20);

/// Reason for which a session ended before its goal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The peer took longer than the bound.
    #[error("no answer within {:?}{}", rounded(*bound), shown(begun.as_ref()))]
    Timeout {
        /// The bound on the step, or on the session.
        bound: Duration,
        /// The part of a reply that has come.
        begun: Option<BegunReply>,
    },
    /// This process looked at a deadline so late that the peer may have answered in time.
    #[error("this process was {late:?} late at a deadline of {bound:?}; give it more processor time")]
    Starved {
        /// The bound on the step, or on the session.
        bound: Duration,
        /// Time between the deadline and the look at it.
        late: Duration,
    },
    /// The peer closed the connection instead of a reply.
    #[error("connection closed")]
    Closed,
    /// The peer closed the connection in the middle of a reply.
    #[error("connection closed within a reply{}", shown(Some(.0)))]
    ClosedWithinReply(BegunReply),
    /// The peer sent bytes that are no reply.
    #[error(transparent)]
    Malformed(#[from] ReplyError),
    /// The peer sent bytes that are no reply in place of its greeting: it does not speak SMTP.
    // They are not quoted. Whoever names a host in a spec would read what others say only to us.
    #[error("not an SMTP greeting ({octets} octets)")]
    NotSmtp {
        /// Number of octets that have come.
        octets: usize,
    },
    /// The peer replied with another code than the one that lets the session go on.
    #[error("{}", .0.line())]
    Refused(Reply),
    /// STARTTLS is required and not offered.
    #[error("not offered")]
    StartTlsNotOffered,
    /// The peer sent plain text between its go-ahead for TLS and the handshake.
    #[error("plain text after the go-ahead for TLS")]
    PlainTextBeforeTls,
    /// The peer has spoken although nothing was asked.
    #[error("the server has spoken out of turn")]
    OutOfTurn,
    /// A login is required, and there is no mechanism for it.
    #[error(transparent)]
    NoMechanism(#[from] NoMechanism),
}

impl SessionError {
    /// Returns true if the peer is in step with us and waits for a command.
    pub(super) fn leaves_peer_waiting(&self) -> bool {
        match self {
            Self::Refused(_) | Self::StartTlsNotOffered | Self::NoMechanism(_) => true,
            Self::Timeout { .. }
            | Self::Starved { .. }
            | Self::Closed
            | Self::ClosedWithinReply(_)
            | Self::Malformed(_)
            | Self::NotSmtp { .. }
            | Self::OutOfTurn
            | Self::PlainTextBeforeTls => false,
        }
    }
}

/// The part of a reply that has come before the peer fell silent or left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BegunReply {
    /// `greeting` or `reply`.
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// The bound as it is told: what was left of a longer one has nanoseconds.
fn rounded(bound: Duration) -> Duration {
    let milliseconds = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    match milliseconds {
        0 => Duration::from_millis(1).min(bound),
        1..1000 => Duration::from_millis(milliseconds),
        _ => Duration::from_millis(milliseconds.saturating_add(50) / 100 * 100),
    }
}

/// The begun reply for people, as the end of a message.
fn shown(begun: Option<&BegunReply>) -> String {
    begun.map_or_else(String::new, |BegunReply { kind, text }| format!("; {kind} begun: {text}"))
}

/// Returns by how much a deadline was noticed too late, if by so much of its bound that the peer may have answered in
/// time: a quarter, and 20 ms at least.
pub fn lateness(bound: Duration, deadline: Instant, noticed: Instant) -> Option<Duration> {
    let late = noticed.saturating_duration_since(deadline);
    (late > (bound / 4).max(TOLERATED_LATENESS)).then_some(late)
}

/// The duration without what is shorter than a millisecond.
pub(super) fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
