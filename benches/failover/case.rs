//! The faults, and the promises about them.

use std::time::Duration;

use mail_failover_e2e::mail::server::{Action, Fault, SessionStage};

/// `spec.probes[].interval`, and HAProxy's `inter`.
pub const INTERVAL: (&str, Duration) = ("200ms", Duration::from_millis(200));
/// `spec.probes[].timeout`, and HAProxy's `timeout check`.
pub const TIMEOUT: (&str, Duration) = ("500ms", Duration::from_millis(500));
/// `spec.failure.consecutive` and `spec.recovery.consecutive`, and HAProxy's `fall` and `rise`.
pub const THRESHOLD: u32 = 3;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Connections are refused.
    Refused,
    /// The connection is reset where the banner should come.
    Reset,
    /// Connections are accepted, and nothing is said.
    Silent,
    /// The banner is sent, and nothing after it.
    HangAfterBanner,
    /// The banner is 421.
    Banner421,
    /// The banner is 554.
    Banner554,
    /// The TLS handshake is answered with garbage.
    StartTlsBroken,
    /// The certificate is expired.
    CertificateExpired,
    /// The process is killed: connections are refused, and established sessions reset.
    Killed,
}

impl Case {
    /// All that probes at the interval find, in the order of the tables.
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::Reset,
        Self::Silent,
        Self::HangAfterBanner,
        Self::Banner421,
        Self::Banner554,
        Self::StartTlsBroken,
        Self::CertificateExpired,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::Reset => "reset at the banner",
            Self::Silent => "silent hang",
            Self::HangAfterBanner => "hang after the banner",
            Self::Banner421 => "421 banner",
            Self::Banner554 => "554 banner",
            Self::StartTlsBroken => "STARTTLS broken",
            Self::CertificateExpired => "certificate expired",
            Self::Killed => "relay killed",
        }
    }

    /// The fault of a server; `None` if its certificate is the fault.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::Refused | Self::Killed => Some(Fault::Refuse),
            Self::Reset => Some(Fault::At(SessionStage::Banner, Action::Reset)),
            Self::Silent => Some(Fault::Silent),
            Self::HangAfterBanner => Some(Fault::At(SessionStage::Ehlo, Action::Hang)),
            Self::Banner421 => Some(Fault::reply(SessionStage::Banner, 421, "4.3.2 Service currently unavailable")),
            Self::Banner554 => Some(Fault::reply(SessionStage::Banner, 554, "5.3.2 SMTP service not available")),
            Self::StartTlsBroken => Some(Fault::At(SessionStage::Handshake, Action::Garbage)),
            Self::CertificateExpired => None,
        }
    }

    /// Returns true if only a client that speaks TLS notices the fault.
    pub fn takes_tls(self) -> bool {
        match self {
            Self::StartTlsBroken | Self::CertificateExpired => true,
            Self::Refused
            | Self::Reset
            | Self::Silent
            | Self::HangAfterBanner
            | Self::Banner421
            | Self::Banner554
            | Self::Killed => false,
        }
    }

    /// The bound that 99 of 100 failovers must meet.
    pub fn goal(self) -> Duration {
        match self {
            Self::Silent | Self::HangAfterBanner => INTERVAL.1 * THRESHOLD + TIMEOUT.1 + Duration::from_millis(300),
            Self::Refused
            | Self::Reset
            | Self::Banner421
            | Self::Banner554
            | Self::StartTlsBroken
            | Self::CertificateExpired
            | Self::Killed => Duration::from_secs(1),
        }
    }
}
