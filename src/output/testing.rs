//! A backend for the tests of outputs.

use std::time::Duration;

use mail_failover_core::model::{
    Backend, Depth, Destination, Envelope, Limits, Location, Probe, ProbeLogin, SmtpHost, Tls, TlsMode, TrustAnchors,
    Vantage,
};

pub(super) fn backend() -> Backend {
    Backend {
        destination: Destination::Host(SmtpHost { host: "relay.example".into(), port: 587 }),
        tls: Tls { mode: TlsMode::None, server_name: "relay.example".into(), trust: TrustAnchors::WellKnown },
        secret: None,
        login: ProbeLogin::None,
        suspended: false,
        probes: vec![Probe {
            name: "smtp".into(),
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            depth: Depth::Ehlo,
            envelope: Envelope::default(),
            vantage: Vantage::Operator,
            idle_session: false,
            sharers: 1,
        }],
        location: Location::default(),
        limits: Limits::default(),
        sender_domains: vec![],
        replies: mail_failover_core::model::ReplyRules::default(),
    }
}
