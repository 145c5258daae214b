//! The fault matrix: every fault at every point of a session.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::mail::server::{Action, Ending, Fault, SessionStage};

/// The pause between two bytes. Any reply takes longer than a client waits for it, but a client
/// that waits for the next byte only never gives up.
const SLOW: Duration = Duration::from_millis(700);

/// The point of a session at which the primary breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    Connect,
    Banner,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The final dot, of a message that is not taken.
    EndOfData,
    /// The final dot, of a message that is taken.
    AfterAccepting,
}

/// The way in which the primary breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// Connections are refused.
    Refuse,
    /// The connection is reset.
    Reset,
    /// Nothing is said any more.
    Hang,
    /// The usual reply, a byte at a time.
    Slow,
    /// The reply has code 4xx.
    Temporary,
    /// The reply has code 5xx and is about our account, not about a recipient.
    AccountRefused,
    /// Bytes that are no reply.
    Garbage,
}

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The point of the session.
    pub point: Point,
    /// The way of breaking.
    pub kind: FaultKind,
}

impl Point {
    /// All points, in the order of a session.
    pub const ALL: [Self; 10] = [
        Self::Connect,
        Self::Banner,
        Self::Ehlo,
        Self::StartTls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::EndOfData,
        Self::AfterAccepting,
    ];

    /// The server's stage at this point; none before and after a dialogue.
    fn stage(self) -> Option<SessionStage> {
        match self {
            Self::Connect | Self::AfterAccepting => None,
            Self::Banner => Some(SessionStage::Banner),
            Self::Ehlo => Some(SessionStage::Ehlo),
            Self::StartTls => Some(SessionStage::StartTls),
            Self::Auth => Some(SessionStage::Auth),
            Self::Mail => Some(SessionStage::Mail),
            Self::Rcpt => Some(SessionStage::Rcpt),
            Self::Data => Some(SessionStage::Data),
            Self::EndOfData => Some(SessionStage::EndOfData),
        }
    }

    /// A 4xx reply as providers send it at this point.
    fn temporary(self) -> Action {
        let (code, text) = match self {
            Self::Connect | Self::Banner | Self::Ehlo => (421, "4.3.2 Service not available, try again later"),
            Self::StartTls => (454, "4.7.0 TLS not available due to temporary reason"),
            Self::Auth => (454, "4.7.0 Temporary authentication failure"),
            Self::Mail | Self::Rcpt | Self::Data => (451, "4.3.0 Temporary server error"),
            Self::EndOfData | Self::AfterAccepting => (451, "4.3.0 Temporary server error, message not accepted"),
        };
        Action::Reply(code, Cow::Borrowed(text))
    }

    /// The reply of Amazon SES and `SendGrid` for an account that may not send at present. SES
    /// sends it at the end of the data.
    fn account_refused(self) -> Action {
        let (code, text) = match self {
            Self::Auth => (535, "Authentication failed: account disabled"),
            Self::Connect
            | Self::Banner
            | Self::Ehlo
            | Self::StartTls
            | Self::Mail
            | Self::Rcpt
            | Self::Data
            | Self::EndOfData
            | Self::AfterAccepting => (554, "Message rejected: Sending paused for this account."),
        };
        Action::Reply(code, Cow::Borrowed(text))
    }
}

impl FaultKind {
    pub const ALL: [Self; 7] =
        [Self::Refuse, Self::Reset, Self::Hang, Self::Slow, Self::Temporary, Self::AccountRefused, Self::Garbage];
}

impl Cell {
    /// The whole matrix, with the cells that make no sense.
    pub fn all() -> impl Iterator<Item = Self> {
        Point::ALL.into_iter().flat_map(|point| FaultKind::ALL.into_iter().map(move |kind| Self { point, kind }))
    }

    /// The cells that make sense.
    pub fn playable() -> impl Iterator<Item = Self> {
        Self::all().filter(|cell| cell.fault().is_ok())
    }

    /// The fault of the primary, or the reason why there is none.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn fault(self) -> Result<Fault, &'static str> {
        match (self.point, self.kind) {
            (Point::Connect, FaultKind::Refuse) => Ok(Fault::Refuse),
            (Point::Connect, FaultKind::Hang) => Ok(Fault::Blackhole),
            (Point::Connect, FaultKind::Reset) => Err("a connection that is made and reset at once: banner, reset"),
            (Point::Connect, FaultKind::Slow) => Err("a slow handshake of TCP delays a connection and breaks nothing"),
            (Point::Connect, FaultKind::Temporary | FaultKind::AccountRefused | FaultKind::Garbage) => {
                Err("nothing can be said before there is a connection: banner")
            }
            (_, FaultKind::Refuse) => Err("only a connection can be refused"),
            (Point::AfterAccepting, FaultKind::Reset) => Ok(Fault::AcceptWithoutReply(Ending::Reset)),
            (Point::AfterAccepting, FaultKind::Hang) => Ok(Fault::AcceptWithoutReply(Ending::Hang)),
            (Point::AfterAccepting, FaultKind::Garbage) => Ok(Fault::AcceptWithoutReply(Ending::Garbage)),
            (Point::AfterAccepting, FaultKind::Slow) => Ok(Fault::At(SessionStage::EndOfData, Action::Slow(SLOW))),
            (Point::AfterAccepting, FaultKind::Temporary | FaultKind::AccountRefused) => {
                Err("a server that refuses has not accepted: end of data")
            }
            (Point::EndOfData, FaultKind::Slow) => {
                Err("a reply that comes, however slowly, means accepted: after accepting, slow")
            }
            (point, kind) => {
                let Some(stage) = point.stage() else { return Err("there is no such stage") };
                let action = match kind {
                    FaultKind::Refuse => return Err("only a connection can be refused"),
                    FaultKind::Reset => Action::Reset,
                    FaultKind::Hang => Action::Hang,
                    FaultKind::Slow => Action::Slow(SLOW),
                    FaultKind::Temporary => point.temporary(),
                    FaultKind::AccountRefused => point.account_refused(),
                    FaultKind::Garbage => Action::Garbage,
                };
                Ok(Fault::At(stage, action))
            }
        }
    }

    /// Returns true if the primary may store messages that it does not acknowledge in time. Those
    /// are delivered twice, and SMTP has no remedy (RFC 5321 section 4.5.3.2.6, RFC 1047).
    pub fn may_duplicate(self) -> bool {
        self.point == Point::AfterAccepting
    }

    /// Returns true if only a client's time limit reveals the fault.
    pub fn takes_default_timeouts(self) -> bool {
        matches!(self.kind, FaultKind::Hang | FaultKind::Slow)
    }

    /// Returns true if the fault needs STARTTLS.
    pub fn takes_tls(self) -> bool {
        // A password is not sent in the clear, so AUTH takes TLS, too.
        matches!(self.point, Point::StartTls | Point::Auth)
    }

    /// Returns true if the fault needs a login.
    pub fn takes_login(self) -> bool {
        self.point == Point::Auth
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Banner => "banner",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::EndOfData => "end of data",
            Self::AfterAccepting => "after accepting",
        })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refused",
            Self::Reset => "reset",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Temporary => "4xx",
            Self::AccountRefused => "account 5xx",
            Self::Garbage => "garbage",
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.point, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mail_failover_core::model::EvidenceClass;
    use mail_failover_smtp::classify::{Answered, classify};

    use super::*;

    #[test]
    fn every_pair_is_played_or_has_a_reason() {
        assert_eq!(Cell::all().count(), Point::ALL.len() * FaultKind::ALL.len());
        let played: BTreeSet<_> = Cell::playable().map(|cell| (cell.point, cell.kind)).collect();
        for point in Point::ALL {
            assert!(played.iter().any(|(played, _)| *played == point), "{point} is never played");
        }
        for kind in FaultKind::ALL {
            assert!(played.iter().any(|(_, played)| *played == kind), "{kind} is never played");
        }
        // Every stage of the dialogue with everything but a refused connection; a slow end of data is played as
        // accepted.
        assert_eq!(played.len(), 2 + 8 * 6 - 1 + 4);
    }

    #[test]
    fn what_an_account_is_refused_with_is_known_to_be_about_the_account() {
        let answered = [
            (Point::Banner, Answered::Connection),
            (Point::Ehlo, Answered::Hello),
            (Point::StartTls, Answered::StartTls),
            (Point::Auth, Answered::Auth),
            (Point::Mail, Answered::Mail),
            (Point::Rcpt, Answered::Recipient),
            (Point::Data, Answered::Data),
            (Point::EndOfData, Answered::Data),
        ];
        for (point, answered) in answered {
            let Action::Reply(code, text) = point.account_refused() else { panic!("{point} replies") };
            assert_eq!(classify(answered, code, None, &text), EvidenceClass::AccountPaused, "{point}");
        }
    }

    #[test]
    fn no_two_cells_play_the_same() {
        let faults: Vec<_> = Cell::playable().filter_map(|cell| cell.fault().ok()).collect();
        for (number, fault) in faults.iter().enumerate() {
            assert!(!faults[..number].contains(fault), "{fault} is played twice");
        }
    }
}
