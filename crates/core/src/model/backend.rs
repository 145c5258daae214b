use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Login, Timestamp};

/// One way out for mail, checked and with its references resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it is.
    pub destination: Destination,
    /// How TLS is spoken.
    pub tls: Tls,
    /// The Secret with its credentials (`username`, `password`), in its namespace; it asks for no login, when absent.
    pub secret: Option<Arc<str>>,
    /// What probes of this process log in with.
    pub login: ProbeLogin,
    /// Planned maintenance: no new mail here, and no alarm about it.
    pub suspended: bool,
    /// At least one, names unique.
    pub probes: Vec<Probe>,
    /// Where its operator runs it.
    pub location: Location,
    /// How much it takes.
    pub limits: Limits,
    /// The domains it may send for; any, when empty. Lower case.
    pub sender_domains: Vec<Arc<str>>,
}

impl Backend {
    /// Whether replicas share out any of its probes among themselves: those that a provider counts as more than a connection. What stands in
    /// the cluster is the user's own.
    pub fn is_shared_out(&self) -> bool {
        match self.destination {
            Destination::Host(_) => self.probes.iter().any(|probe| probe.depth.is_counted()),
            Destination::Service(_) => false,
        }
    }

    /// The part of one of so many replicas: probes that are shared out are made by each so many times less often, and together as often as was
    /// asked for.
    #[must_use]
    pub fn shared_out_among(mut self, replicas: u32) -> Self {
        if self.is_shared_out() {
            let counted = |probe: &&mut Probe| probe.depth.is_counted() && probe.vantage == Vantage::Operator;
            for probe in self.probes.iter_mut().filter(counted) {
                probe.interval = probe.interval.saturating_mul(replicas);
            }
        }
        self
    }
}

/// What probes of this process log in with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProbeLogin {
    /// With nothing: the backend asks for no login, or no probe goes that far.
    #[default]
    None,
    /// With this.
    With(Login),
    /// It cannot be had: such probes stop before it, and their verdict is Unknown.
    Missing {
        /// One CamelCase word.
        reason: &'static str,
        /// What is missing and what to do, free of secrets.
        message: Arc<str>,
    },
}

/// Where a backend is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// A region as the user names it: `eu-west-1`.
    pub region: Option<Arc<str>>,
    /// Whose law applies: `EU`.
    pub jurisdiction: Option<Arc<str>>,
    /// What fails together with it; backends of one domain are one backend for the storm brake. Alone, when absent.
    pub failure_domain: Option<Arc<str>>,
}

/// How much mail a backend takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Messages a second.
    pub messages_per_second: Option<u32>,
    /// Messages a day.
    pub messages_per_day: Option<u32>,
    /// A new address earns its reputation slowly.
    pub warm_up: Option<WarmUp>,
}

/// How much may be sent on each of the first days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// When the first day begins.
    pub started_at: Timestamp,
    /// Messages on each day; afterwards warm-up limits nothing.
    pub schedule: Vec<u32>,
}

impl WarmUp {
    /// What is allowed on the day of `now`, and when that day ends; `None` once warm. Before it starts, as on the first day.
    pub fn at(&self, now: Timestamp) -> Option<(u32, Timestamp)> {
        let day = now.since(self.started_at).as_secs() / DAY.as_secs();
        let allowed = *self.schedule.get(usize::try_from(day).ok()?)?;
        Some((allowed, self.started_at + DAY * u32::try_from(day + 1).ok()?))
    }
}

const DAY: Duration = Duration::from_hours(24);

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A host name or address outside (or an address inside).
    Host(SmtpHost),
    /// An MTA behind a Service of this cluster.
    Service(ServicePort),
}

/// Host and port of an SMTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpHost {
    /// A DNS name or an IPv4/IPv6 address, without brackets.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

/// A Service in this cluster with what is known of it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The name under which clients in the cluster reach it: `relay-a.shop.svc.cluster.local`.
    pub dns_name: Arc<str>,
    /// The Service's own port.
    pub port: u16,
    /// Its ready endpoints, sorted, without duplicates; follows the Service's `EndpointSlices`.
    pub endpoints: Vec<SocketAddr>,
}

/// How TLS is spoken with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Whether and when.
    pub mode: TlsMode,
    /// The name the certificate must carry (and SNI sends).
    pub server_name: Arc<str>,
    /// Who may have signed it.
    pub trust: TrustAnchors,
}

/// Whether and when TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Never.
    None,
    /// STARTTLS when offered; the certificate is not verified.
    Opportunistic,
    /// STARTTLS required, certificate verified (RFC 3207).
    StartTls,
    /// TLS from the first byte, certificate verified (RFC 8314).
    Implicit,
}

impl TlsMode {
    /// The name used in specs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Opportunistic => "Opportunistic",
            Self::StartTls => "StartTLS",
            Self::Implicit => "Implicit",
        }
    }
}

/// Who may have signed a backend's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TrustAnchors {
    /// Mozilla's root programme, compiled in.
    WellKnown,
    /// These PEM certificates and no others.
    Pem(Arc<[u8]>),
}

/// How one aspect of a backend is observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Unique within the backend.
    pub name: Arc<str>,
    /// From start to start.
    pub interval: Duration,
    /// For a whole round at one address. May exceed the interval; rounds then overlap.
    pub timeout: Duration,
    /// How far the dialogue goes.
    pub depth: Depth,
    /// The addresses that it names.
    pub envelope: Envelope,
    /// From where.
    pub vantage: Vantage,
}

/// From where a backend is observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vantage {
    /// From the operator itself, by every replica.
    #[default]
    Operator,
    /// From a Kubernetes Job in the backend's namespace, which one replica creates and all hear.
    Job,
}

/// The addresses that a probe's dialogue names (RFC 5321 §4.1.2), without angle brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// In MAIL FROM; present for depths from there on.
    pub sender: Option<Arc<str>>,
    /// In RCPT TO; present for that depth.
    pub recipient: Option<Arc<str>>,
}

/// How far a probe's SMTP dialogue goes; each depth includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// The TCP connection.
    Connect,
    /// The 220 greeting (after the handshake, with implicit TLS).
    Banner,
    /// EHLO.
    Ehlo,
    /// STARTTLS, handshake and EHLO again; the same as `Ehlo` with implicit TLS.
    StartTls,
    /// AUTH, where the backend has credentials (RFC 4954).
    Auth,
    /// MAIL FROM, then RSET.
    MailFrom,
    /// RCPT TO, then RSET.
    RcptTo,
}

impl Depth {
    /// Every depth, the least first.
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Banner, Self::Ehlo, Self::StartTls, Self::Auth, Self::MailFrom, Self::RcptTo];

    /// Whether providers count it as more than a connection: a log-in, or the beginning of a message.
    pub fn is_counted(self) -> bool {
        self >= Self::Auth
    }

    /// The name used in specs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "Connect",
            Self::Banner => "Banner",
            Self::Ehlo => "Ehlo",
            Self::StartTls => "StartTLS",
            Self::Auth => "Auth",
            Self::MailFrom => "MailFrom",
            Self::RcptTo => "RcptTo",
        }
    }
}
