use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{ProbeKey, Timestamp};

/// Evidence of one observation about a backend: the closed set of reasons shared by conditions, Events and metric
/// labels.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
pub enum EvidenceClass {
    /// The backend did what was asked.
    Ok,
    /// The backend is alive and asks for less (RFC 3463 x.7.0 with 454/421/450 "rate", "throttl",
    /// "too many"): neither success nor failure.
    Throttled,
    /// A daily or monthly allowance is used up (`451 Maximum credits exceeded`,
    /// `454 4.7.0 … Daily message quota exceeded`, 552 5.2.2 of the account).
    QuotaExhausted,
    /// The backend does not accept our credentials or demands some (535, 534, 530 5.7.0).
    AuthenticationRefused,
    /// The account is paused, suspended or closed (`554 Message rejected: Sending paused for this account`).
    AccountPaused,
    /// The backend refuses us for our reputation or a block list (5.7.1 with "block", "listed", "reputation", …).
    Reputation,
    /// Another 4xx reply: the service itself is not available now.
    Temporary,
    /// Another 5xx reply to something that concerns the backend and no recipient.
    Permanent,
    /// A reply about one recipient, mailbox or message: says nothing about the backend.
    RecipientLevel,
    /// The TCP connection was refused, or the host or network answered that it is unreachable.
    ConnectionRefused,
    /// The connection was closed or reset before the dialogue was over.
    ConnectionLost,
    /// No (complete) answer within the deadline.
    NoAnswer,
    /// Bytes that are no SMTP reply, or more of them than a reply may have.
    ProtocolError,
    /// STARTTLS is not offered or refused, or the handshake failed for a reason other than the certificate.
    TlsFailed,
    /// The certificate is expired, for another name, or not signed by a trusted authority.
    CertificateInvalid,
    /// DNS answered that the host does not exist or has no address, or answers for other names and not for this one.
    Unresolvable,
    /// The in-cluster Service has no ready endpoint.
    NoEndpoints,
    /// The observation itself failed on our side (no free socket, DNS resolver silent, no route for
    /// the address family): no evidence at all.
    Inconclusive,
    /// The probe cannot be made as it is asked for: something that it needs is missing, and the
    /// message says what. No evidence.
    ProbeBlocked,
    /// The backend answers, but slower than the policy allows. Concluded from many observations.
    Slow,
    /// There was no conclusive observation for too long.
    Stale,
}

/// Effect of an observation on the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The observation counts towards recovery.
    Success,
    /// The observation counts towards failure.
    Failure,
    /// The observation counts neither way.
    Neutral,
}

impl EvidenceClass {
    /// Every class, in a fixed order.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the effect of this class on the verdict.
    // Throttling and recipient-level replies come from a living backend, which must not be punished.
    pub fn effect(self) -> Effect {
        match self {
            Self::Ok | Self::Slow => Effect::Success,
            Self::Throttled | Self::RecipientLevel | Self::Inconclusive | Self::ProbeBlocked | Self::Stale => {
                Effect::Neutral
            }
            Self::QuotaExhausted
            | Self::AuthenticationRefused
            | Self::AccountPaused
            | Self::Reputation
            | Self::Temporary
            | Self::Permanent
            | Self::ConnectionRefused
            | Self::ConnectionLost
            | Self::NoAnswer
            | Self::ProtocolError
            | Self::TlsFailed
            | Self::CertificateInvalid
            | Self::Unresolvable
            | Self::NoEndpoints => Effect::Failure,
        }
    }

    /// Returns true if the backend itself answered, or the API server told its state.
    // A failure of our own network cannot look like such an answer.
    pub fn is_answer(self) -> bool {
        match self {
            Self::Ok
            | Self::Throttled
            | Self::QuotaExhausted
            | Self::AuthenticationRefused
            | Self::AccountPaused
            | Self::Reputation
            | Self::Temporary
            | Self::Permanent
            | Self::RecipientLevel
            | Self::NoEndpoints
            | Self::Slow => true,
            // A certificate for another name may be that of a gateway of ours.
            Self::ConnectionRefused
            | Self::ConnectionLost
            | Self::NoAnswer
            | Self::ProtocolError
            | Self::TlsFailed
            | Self::CertificateInvalid
            | Self::Unresolvable
            | Self::Inconclusive
            | Self::ProbeBlocked
            | Self::Stale => false,
        }
    }

    /// Returns true if this evidence shows that our network leads to the backend, false if it may not, `None` if it
    /// says nothing about that.
    // A Service without endpoints is the API server's word: nobody has tried to get there.
    pub fn shows_reach(self) -> Option<bool> {
        let says_nothing = matches!(self, Self::NoEndpoints | Self::Inconclusive | Self::ProbeBlocked | Self::Stale);
        (!says_nothing).then(|| self.is_answer())
    }

    /// Returns true if a single round can give this class; the others are concluded from many rounds.
    pub fn is_of_one_round(self) -> bool {
        !matches!(self, Self::Slow | Self::Stale)
    }

    /// Returns a description for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "the backend did what was asked",
            Self::Throttled => "it is alive and asks for less",
            Self::QuotaExhausted => "a daily or monthly allowance is used up",
            Self::AuthenticationRefused => "it does not accept our credentials, or demands some",
            Self::AccountPaused => "the account is paused, suspended or closed",
            Self::Reputation => "it refuses us for our reputation or a block list",
            Self::Temporary => "another 4xx reply: the service is not available now",
            Self::Permanent => "another 5xx reply that concerns the backend and no recipient",
            Self::RecipientLevel => "a reply about one recipient, mailbox or message: says nothing about the backend",
            Self::ConnectionRefused => "the connection was refused, or the host is unreachable",
            Self::ConnectionLost => "the connection ended before the dialogue did",
            Self::NoAnswer => "no complete answer within the deadline",
            Self::ProtocolError => "bytes that are no SMTP reply",
            Self::TlsFailed => "STARTTLS or its handshake failed",
            Self::CertificateInvalid => "the certificate is expired, for another name, or not trusted",
            Self::Unresolvable => "DNS says that the host has no address, or answers for other names only",
            Self::NoEndpoints => "the in-cluster Service has no ready endpoint",
            Self::Inconclusive => "the observation itself failed on our side: no evidence",
            Self::ProbeBlocked => "a probe lacks something that it needs, its Secret perhaps: no evidence",
            Self::Slow => "it answers, but slower than `failure.latency` allows",
            Self::Stale => "there was no conclusive observation for too long",
        }
    }

    /// The class of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// The CamelCase name used in conditions, Events and metric labels.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A step of the dialogue, in the order in which they happen (RFC 5321, RFC 3207).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
pub enum Stage {
    /// Looking up the host's addresses.
    Resolve,
    /// Opening the TCP connection.
    Connect,
    /// The TLS handshake of implicit TLS, before the banner.
    #[strum(serialize = "ImplicitTLS")]
    ImplicitTls,
    /// Waiting for the 220 greeting.
    Banner,
    /// EHLO and its extensions.
    #[strum(serialize = "EHLO")]
    Ehlo,
    /// STARTTLS and its handshake.
    #[strum(serialize = "STARTTLS")]
    StartTls,
    /// EHLO again, inside TLS.
    #[strum(serialize = "EHLO after STARTTLS")]
    EhloAfterStartTls,
    /// AUTH and its exchange (RFC 4954).
    #[strum(serialize = "AUTH")]
    Auth,
    /// MAIL FROM and its reply.
    #[strum(serialize = "MAIL")]
    Mail,
    /// RCPT TO and its reply.
    #[strum(serialize = "RCPT")]
    Recipient,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The stage of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// The name used in messages and metric labels.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The result of one dialogue with one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Evidence about the backend.
    pub class: EvidenceClass,
    /// The last stage that was tried.
    pub stage: Stage,
    /// One line for people, at most 256 characters, printable, free of secrets: `EHLO: 421 4.3.2 shutting down`.
    pub message: String,
    /// First expiry among the served certificates that are needed; `None` if none was seen.
    pub certificate_not_after: Option<NotAfter>,
    /// Duration of the dialogue.
    pub elapsed: Duration,
}

/// Expiry of a certificate that a server presents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotAfter {
    /// End of the certificate's validity.
    pub at: Timestamp,
    /// Name of the certificate, if it is an issuer's and not the server's own.
    pub issuer: Option<Arc<str>>,
}

/// Answer of the name service in this round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The destination is given by address or by in-cluster endpoints: nothing was looked up.
    NotNeeded,
    /// These addresses, sorted, without duplicates.
    Addresses(Vec<SocketAddr>),
    /// An authoritative "no such name" or "no address".
    Negative(String),
    /// No usable answer (timeout, SERVFAIL): the last known addresses stay in use.
    Unanswered(String),
    /// No usable answer for longer than the last one was good for, while other names are answered.
    NameSilent(String),
}

/// The outcome at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressOutcome {
    /// Address of the dialogue.
    pub address: SocketAddr,
    /// Result of the dialogue.
    pub outcome: Outcome,
}

/// One round of one probe: every address of the destination, tried at once.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    /// The probe of the backend.
    pub key: ProbeKey,
    /// The revision of the target (see `probe::ProbeTarget::revision`) that was probed; a report
    /// about an older revision is dropped.
    pub revision: u64,
    /// Rounds of a probe may overlap; the later started one carries the newer truth.
    pub sequence: u64,
    /// Start of the round.
    pub started_at: Timestamp,
    /// End of the round.
    pub finished_at: Timestamp,
    /// Answer of the name service.
    pub resolution: Resolution,
    /// Results per address; empty if there was no address to try.
    pub addresses: Vec<AddressOutcome>,
    /// The round's verdict: success if any address succeeded, else the most telling failure.
    pub outcome: Outcome,
    /// Longest wait of one of its dialogues for its turn; `None` if it was too short to matter.
    pub delay: Option<ProbeDelay>,
    /// True if the round came sooner than the probe's own interval asks for: to confirm a failure, or because another
    /// object probes the same more often. It may have gone less deep, to what nobody counts.
    pub is_extra: bool,
}

/// Wait of a probe for its turn among all that want to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeDelay {
    /// Bound that was reached.
    pub cause: DelayCause,
    /// Time that the dialogue waited for.
    pub waited: Duration,
}

/// Bound of the prober that lets a probe wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
pub enum DelayCause {
    /// Dialogues under way over all backends.
    Dialogues,
    /// Dialogues with one address, under way or begun in a second.
    DialoguesAtAddress,
    /// Log-ins at one address, under way or begun in a second.
    LoginsAtAddress,
}

impl DelayCause {
    /// The name used in metric labels.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Description for people.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Dialogues => "as many dialogues are under way as this namespace may have",
            Self::DialoguesAtAddress => "as many dialogues begin at its address as one client may",
            Self::LoginsAtAddress => "as many log-ins are made at its address as one client may",
        }
    }
}
