//! What breaks, and what is promised about it.

use std::time::Duration;

use mail_failover_e2e::mail::server::{Action, Fault, Stage as At};

/// `spec.probes[].interval`, and HAProxy's `inter`.
pub const INTERVAL: (&str, Duration) = ("200ms", Duration::from_millis(200));
/// `spec.probes[].timeout`, and HAProxy's `timeout check`.
pub const TIMEOUT: (&str, Duration) = ("500ms", Duration::from_millis(500));
/// `spec.failure.consecutive` and `spec.recovery.consecutive`, and HAProxy's `fall` and `rise`.
pub const THRESHOLD: u32 = 3;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Nobody listens.
    Refused,
    /// The connection is reset where the banner should come.
    Reset,
    /// Connections are accepted, nothing is said.
    Silent,
    /// A banner, and nothing after it.
    HangAfterBanner,
    /// 421 in the banner.
    Banner421,
    /// 554 in the banner.
    Banner554,
    /// Garbage where the TLS handshake should be.
    StartTlsBroken,
    /// The certificate is expired.
    CertificateExpired,
}

impl Case {
    /// All, in the order of the tables.
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

    /// For people.
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
        }
    }

    /// What a server does; `None`: what it shows is what is wrong.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::Refused => Some(Fault::Refuse),
            Self::Reset => Some(Fault::At(At::Banner, Action::Reset)),
            Self::Silent => Some(Fault::Silent),
            Self::HangAfterBanner => Some(Fault::At(At::Ehlo, Action::Hang)),
            Self::Banner421 => Some(Fault::reply(At::Banner, 421, "4.3.2 Service currently unavailable")),
            Self::Banner554 => Some(Fault::reply(At::Banner, 554, "5.3.2 SMTP service not available")),
            Self::StartTlsBroken => Some(Fault::At(At::Handshake, Action::Garbage)),
            Self::CertificateExpired => None,
        }
    }

    /// Whether only a client that speaks TLS notices.
    pub fn takes_tls(self) -> bool {
        match self {
            Self::StartTlsBroken | Self::CertificateExpired => true,
            Self::Refused | Self::Reset | Self::Silent | Self::HangAfterBanner | Self::Banner421 | Self::Banner554 => {
                false
            }
        }
    }

    /// What 99 of 100 failovers must not exceed.
    pub fn goal(self) -> Duration {
        match self {
            Self::Silent | Self::HangAfterBanner => INTERVAL.1 * THRESHOLD + TIMEOUT.1 + Duration::from_millis(300),
            Self::Refused
            | Self::Reset
            | Self::Banner421
            | Self::Banner554
            | Self::StartTlsBroken
            | Self::CertificateExpired => Duration::from_secs(1),
        }
    }
}
