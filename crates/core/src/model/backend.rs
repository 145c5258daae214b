use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Login, LoginReference, ReplyRules, Stage, Timestamp};

/// One way out for mail, checked and with its references resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Address at which the backend takes mail.
    pub destination: Destination,
    /// Use of TLS with the backend.
    pub tls: Tls,
    /// Secret in the backend's namespace with its login; `None` if the backend asks for none.
    pub secret: Option<LoginReference>,
    /// Credentials of this process's own probes.
    pub login: ProbeLogin,
    /// True during planned maintenance: no new mail here, and no alarm about it.
    pub suspended: bool,
    /// Probes of the backend: at least one, names unique.
    pub probes: Vec<Probe>,
    /// Place where the backend is run.
    pub location: Location,
    /// Amount of mail that the backend takes.
    pub limits: Limits,
    /// Domains that the backend may send for, in lower case; any if empty.
    pub sender_domains: Vec<Arc<str>>,
    /// Reading of its replies.
    pub replies: ReplyRules,
}

impl Backend {
    /// Returns true if the replicas divide probes of this backend among themselves: probes that a provider counts as
    /// more than a connection.
    // An MTA in the cluster is the user's own, so nobody counts there.
    pub fn is_shared_out(&self) -> bool {
        match self.destination {
            Destination::Host(_) => self.probes.iter().any(|probe| probe.depth.is_counted()),
            Destination::Service(_) => false,
        }
    }

    /// Returns the backend with its divided probes as seldom as befits one of `replicas`. Together the replicas probe
    /// as often as was asked for.
    #[must_use]
    pub fn shared_out_among(mut self, replicas: u32) -> Self {
        if self.is_shared_out() {
            for probe in &mut self.probes {
                if probe.depth.is_counted() && probe.vantage == Vantage::Operator {
                    probe.interval = probe.interval.saturating_mul(replicas);
                    probe.sharers = replicas;
                }
            }
        }
        self
    }
}

/// Credentials of this process's own probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProbeLogin {
    /// No credentials: the backend asks for no login, or no probe goes that far.
    #[default]
    None,
    /// The credentials to log in with.
    With(Login),
    /// The credentials are missing: probes stop before the login, and their verdict is Unknown.
    // ADR-0033: A missing login blocks its probe and nothing else.
    Missing {
        /// Reason in one CamelCase word.
        reason: &'static str,
        /// Description of what is missing and what to do, free of secrets.
        message: Arc<str>,
    },
}

/// Place where a backend is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// A region as the user names it: `eu-west-1`.
    pub region: Option<Arc<str>>,
    /// Jurisdiction whose law applies: `EU`.
    pub jurisdiction: Option<Arc<str>>,
    /// Name shared by backends that fail together; the storm brake counts them as one. A backend without one is alone.
    pub failure_domain: Option<Arc<str>>,
}

/// Amount of mail that a backend takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most messages a second.
    pub messages_per_second: Option<u32>,
    /// Most messages a day.
    pub messages_per_day: Option<u32>,
    /// Limits of the first days, in which a new address earns its reputation.
    pub warm_up: Option<WarmUp>,
    /// Most connections at a time.
    pub connections: Option<u32>,
    /// Most messages over one connection.
    pub messages_per_connection: Option<u32>,
}

impl Limits {
    /// True if there is a limit of the amount of mail.
    pub fn bound_messages(&self) -> bool {
        self.messages_per_second.is_some() || self.messages_per_day.is_some() || self.warm_up.is_some()
    }
}

/// Most messages on each of the first days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// Start of the first day.
    pub started_at: Timestamp,
    /// Messages on each day; afterwards warm-up limits nothing.
    pub schedule: Vec<u32>,
}

impl WarmUp {
    /// Returns the messages allowed on the day of `now` and the end of that day; `None` once warm. The first day's
    /// number holds before the start, too.
    pub fn at(&self, now: Timestamp) -> Option<(u32, Timestamp)> {
        let day = now.since(self.started_at).as_secs() / DAY.as_secs();
        let allowed = *self.schedule.get(usize::try_from(day).ok()?)?;
        Some((allowed, self.started_at + DAY * u32::try_from(day + 1).ok()?))
    }
}

const DAY: Duration = Duration::from_hours(24);

/// Address at which a backend takes mail.
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
    /// A DNS name or an IPv4/IPv6 address, without brackets. A name is absolute, with a final dot or
    /// without.
    pub host: Arc<str>,
    /// TCP port of the server.
    pub port: u16,
}

/// A Service in this cluster with what is known of it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The name under which clients in the cluster reach it: `relay-a.shop.svc.cluster.local`.
    // ADR-0043: Agents reach Services by DNS name.
    pub dns_name: Arc<str>,
    /// The Service's own port.
    pub port: u16,
    /// The port that clients of `dns_name` connect to. It differs from `port` if the Service is headless: its name then
    /// stands for its endpoints, which listen on their own port.
    pub client_port: u16,
    /// Ready endpoints of the Service, sorted, without duplicates. They follow its `EndpointSlices`.
    pub endpoints: Vec<SocketAddr>,
}

/// Use of TLS with a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// Requirement for TLS and its verification.
    pub mode: TlsMode,
    /// The name the certificate must carry (and SNI sends).
    pub server_name: Arc<str>,
    /// Authorities that may have signed the certificate.
    pub trust: TrustAnchors,
}

/// Requirement for TLS and its verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
pub enum TlsMode {
    /// TLS is never used.
    None,
    /// STARTTLS when offered; the certificate is not verified.
    Opportunistic,
    /// STARTTLS required, certificate verified (RFC 3207).
    #[strum(serialize = "StartTLS")]
    StartTls,
    /// TLS from the first byte, certificate verified (RFC 8314).
    Implicit,
}

impl TlsMode {
    /// The name used in specs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The mode that mail clients use at a port by default: submission with TLS from the first byte or by STARTTLS
    /// (RFC 8314 §3.3), relays as they offer it (RFC 3207), and nothing elsewhere.
    pub fn default_of_port(port: u16) -> Self {
        match port {
            465 => Self::Implicit,
            587 => Self::StartTls,
            25 => Self::Opportunistic,
            _ => Self::None,
        }
    }
}

/// Authorities that may have signed a backend's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TrustAnchors {
    /// Mozilla's root programme, compiled in.
    WellKnown,
    /// These PEM certificates and no others.
    Pem(Arc<[u8]>),
}

/// Observation of one aspect of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Unique within the backend.
    pub name: Arc<str>,
    /// Time from the start of a round to the start of the next.
    pub interval: Duration,
    /// Limit for each wait for the backend in a dialogue. A dialogue may outlast the interval; rounds then overlap.
    pub timeout: Duration,
    /// Last step of the dialogue.
    pub depth: Depth,
    /// The addresses that it names.
    pub envelope: Envelope,
    /// Place that the probe is made from.
    pub vantage: Vantage,
    /// True if each address that answers keeps an idle session, whose end starts a look.
    pub idle_session: bool,
    /// Number of replicas that take turns at it; 1 if each of them makes every round.
    pub sharers: u32,
}

/// Place that a probe is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vantage {
    /// The operator's own process, in every replica.
    #[default]
    Operator,
    /// A Kubernetes Job in the backend's namespace. One replica creates it, and all take its result.
    Job,
}

/// The addresses that a probe's dialogue names (RFC 5321 §4.1.2), without angle brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Address in MAIL FROM; present for depths from there on.
    pub sender: Option<Arc<str>>,
    /// Address in RCPT TO; present for that depth.
    pub recipient: Option<Arc<str>>,
}

/// Last step of a probe's SMTP dialogue; each depth includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr, strum::VariantArray)]
pub enum Depth {
    /// The TCP connection alone.
    Connect,
    /// The 220 greeting (after the handshake, with implicit TLS).
    Banner,
    /// EHLO and its reply.
    Ehlo,
    /// STARTTLS, handshake and EHLO again; the same as `Ehlo` with implicit TLS.
    #[strum(serialize = "StartTLS")]
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
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the last stage of a dialogue of this depth.
    pub fn last_stage(self) -> Stage {
        match self {
            Self::Connect => Stage::Connect,
            Self::Banner => Stage::Banner,
            Self::Ehlo => Stage::Ehlo,
            Self::StartTls => Stage::EhloAfterStartTls,
            Self::Auth => Stage::Auth,
            Self::MailFrom => Stage::Mail,
            Self::RcptTo => Stage::Recipient,
        }
    }

    /// Returns true if providers count it as more than a connection: a login, or the beginning of a message.
    pub fn is_counted(self) -> bool {
        self >= Self::Auth
    }

    /// The name used in specs.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
