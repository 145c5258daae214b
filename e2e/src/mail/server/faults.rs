//! Faults of a server.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A fault of a server as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// No fault.
    #[default]
    None,
    /// Connections are refused. Established sessions continue.
    Refuse,
    /// SYNs are dropped, so that connecting takes as long as the client's own time limit. (One
    /// connection that comes just then may fit into the kernel's queue: that one is made, and gets
    /// no answer.)
    Blackhole,
    /// The kernel still accepts connections, but nothing is said any more, in established sessions
    /// neither: a frozen process.
    Silent,
    /// The action replaces the reply of a stage.
    At(SessionStage, Action),
    /// EHLO does not list an extension, and its command is not known.
    NotOffered(Extension),
    /// A message is stored, and then the session ends before the client can know: the source of
    /// duplicates.
    AcceptWithoutReply(Ending),
}

impl Fault {
    /// Replies with this code and text (with its enhanced status code) at a stage.
    pub const fn reply(stage: SessionStage, code: u16, text: &'static str) -> Self {
        Self::At(stage, Action::Reply(code, Cow::Borrowed(text)))
    }

    /// The action in place of the reply of `stage`.
    pub(super) fn at(&self, stage: SessionStage) -> Option<&Action> {
        match self {
            Self::Silent => Some(&Action::Hang),
            Self::At(at, action) if *at == stage => Some(action),
            Self::None
            | Self::Refuse
            | Self::Blackhole
            | Self::At(..)
            | Self::NotOffered(_)
            | Self::AcceptWithoutReply(_) => None,
        }
    }

    /// The state of the listening sockets under this fault.
    pub(super) fn listening(&self) -> Listening {
        match self {
            Self::Refuse => Listening::Refused,
            Self::Blackhole => Listening::Unanswered,
            Self::None | Self::Silent | Self::At(..) | Self::NotOffered(_) | Self::AcceptWithoutReply(_) => {
                Listening::Open
            }
        }
    }
}

/// The server's treatment of a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listening {
    Open,
    Refused,
    Unanswered,
}

/// A stage of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionStage {
    /// The greeting: right after accepting the connection.
    Banner,
    /// EHLO or HELO.
    Ehlo,
    /// The reply to STARTTLS.
    StartTls,
    /// The TLS handshake, after STARTTLS or (with implicit TLS) before the banner. A replacement is
    /// sent in the clear.
    Handshake,
    /// The reply to the credentials of AUTH.
    Auth,
    Mail,
    Rcpt,
    /// The reply to DATA.
    Data,
    /// The middle of the content, after its first line. With another reply than the usual one, the message is not
    /// stored, and its end gets no reply.
    Content,
    /// The reply to the final dot. Without the usual reply, the message is not stored.
    EndOfData,
}

/// An action at a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed (FIN).
    Close,
    /// Nothing is said for as long as the client waits.
    Hang,
    /// The usual reply, one byte per interval.
    Slow(Duration),
    /// This reply is sent, without the stage's usual effect. After 421 the connection is closed
    /// (RFC 5321 section 3.8).
    Reply(u16, Cow<'static, str>),
    /// A line of bytes that are neither SMTP nor TLS.
    Garbage,
    /// The beginning of a reply, and no end of the line for as long as the client reads.
    EndlessLine,
    /// The usual reply, after continuation lines of about this many bytes.
    Huge(usize),
}

/// An extension that EHLO may list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extension {
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth,
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed (FIN).
    Close,
    /// The session stays open, and nothing is said any more.
    Hang,
    /// A line of bytes that are no SMTP reply is sent; then the connection is closed (FIN).
    Garbage,
}

impl Ending {
    pub(super) fn action(self) -> Action {
        match self {
            Self::Reset => Action::Reset,
            Self::Close => Action::Close,
            Self::Hang => Action::Hang,
            Self::Garbage => Action::Garbage,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Refuse => f.write_str("connection refused"),
            Self::Blackhole => f.write_str("connection unanswered"),
            Self::Silent => f.write_str("frozen"),
            Self::At(stage, action) => write!(f, "{action} at {stage}"),
            Self::NotOffered(Extension::StartTls) => f.write_str("STARTTLS not offered"),
            Self::NotOffered(Extension::Auth) => f.write_str("AUTH not offered"),
            Self::AcceptWithoutReply(ending) => write!(f, "accepted, then {}", ending.action()),
        }
    }
}

impl fmt::Display for SessionStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Banner => "banner",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Handshake => "TLS handshake",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Content => "content",
            Self::EndOfData => "end of data",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => f.write_str("reset"),
            Self::Close => f.write_str("close"),
            Self::Hang => f.write_str("hang"),
            Self::Slow(interval) => write!(f, "a byte per {interval:?}"),
            Self::Reply(code, _) => write!(f, "{code}"),
            Self::Garbage => f.write_str("garbage"),
            Self::EndlessLine => f.write_str("endless line"),
            Self::Huge(size) => write!(f, "{size} bytes"),
        }
    }
}
