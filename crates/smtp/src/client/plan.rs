//! Plan of a session: how far it goes, and the bounds on waiting for the peer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_core::model::{Login, TlsMode};

/// Bound on the TCP connection. A host that is there completes it in a second, with one lost packet in three.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Bound on a whole session, in steps: those up to EHLO inside TLS.
const SESSION_STEPS: u32 = 6;
/// Bound on a whole session. With the look-up before it, a round ends within a minute.
const SESSION_TIMEOUT: Duration = Duration::from_secs(55);

/// Settings of a session.
#[derive(Clone, Debug)]
pub struct SessionPlan {
    /// Our name in EHLO: a domain or an address literal (RFC 5321 §4.1.1.1). If absent, the literal of our address.
    pub ehlo_name: Option<Arc<str>>,
    /// TLS before the greeting, by STARTTLS, or not at all.
    pub tls: TlsMode,
    /// Last step of the session.
    pub goal: Goal,
    /// Bounds on waiting for the peer.
    pub timeouts: SessionTimeouts,
}

/// Bounds on waiting for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimeouts {
    /// Bound on the whole session, up to its goal.
    pub session: Duration,
    /// Bound on the TCP connection.
    pub connection: Duration,
    /// Bound on each of a handshake and a reply (RFC 5321 §4.5.3.2).
    pub step: Duration,
}

impl SessionTimeouts {
    /// The bounds that follow from the `timeout` of a probe: that on each step. The connection has 5 s at most. The
    /// whole session has six steps and 55 s at most, but never less than one step.
    // ADR-0077: A probe's timeout is that of a step.
    pub fn of_probe(timeout: Duration) -> Self {
        Self {
            session: timeout.saturating_mul(SESSION_STEPS).min(SESSION_TIMEOUT).max(timeout),
            connection: timeout.min(CONNECTION_TIMEOUT),
            step: timeout,
        }
    }
}

/// Last step of a session, with everything that the steps up to it need.
#[derive(Clone, Debug)]
pub enum Goal {
    /// The TCP connection, without a byte from the peer. The peer's greeting is read, and QUIT sent, after the end.
    Connection,
    /// The peer's greeting with 220.
    Greeting,
    /// EHLO, before any STARTTLS.
    Ehlo,
    /// EHLO, inside TLS if the mode asks for it.
    Ready,
    /// An accepted AUTH with this login.
    Login(Login),
    /// The beginning of a mail transaction.
    Transaction {
        /// Login for AUTH, if the server wants one.
        login: Option<Login>,
        /// Address for MAIL FROM, without angle brackets.
        sender: Arc<str>,
        /// Address for RCPT TO, without angle brackets. If absent, the session ends after MAIL.
        recipient: Option<Arc<str>>,
    },
}

/// The literal of an address, as EHLO names a host without a domain (RFC 5321 §4.1.3).
pub fn address_literal(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}
