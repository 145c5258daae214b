//! The subjects that a refusal may have, and the consequences of each.

use std::fmt;

use crate::reply::Answered;
use mail_failover_core::model::EvidenceClass;
use serde::{Deserialize, Serialize};

/// The subject of a reply: what was refused, or what is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum About {
    /// Our account with the provider: paused, suspended, not yet activated.
    Account,
    /// Our login: refused, or demanded and not given.
    Login,
    /// Our allowance: messages or credits that are used up.
    Quota,
    /// Our sender identity: SPF, DKIM, DMARC, an unverified From, `SendAs`.
    Identity,
    /// Our address or host: block lists, reputation, PTR.
    Address,
    /// Our rate: the server is alive and asks for less.
    Rate,
    /// The service itself: it is busy, broken, or does not relay for us.
    Service,
    /// Encryption: demanded or refused.
    Tls,
    /// One recipient or its mailbox.
    Recipient,
    /// One message: its content, size, headers.
    Message,
    /// The policy of the recipient or of its domain towards us.
    Destination,
    /// Our own side: the name in EHLO, for example.
    OurSide,
    /// Nothing that a rule knows.
    Unknown,
}

/// The consequences of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of the table in the documentation")]
pub struct Consequences {
    /// True if it counts as a failure of the backend.
    pub counts: bool,
    /// True if a policy may leave the backend at the first one.
    pub immediate: bool,
    /// True if a 5xx is made temporary while another backend could carry the message.
    pub deferred: bool,
    /// True if a 5xx is made temporary even while no other backend could carry the message: it is about us, and waits
    /// until that is mended.
    pub waits: bool,
    /// True if it is seen as throttling.
    pub throttling: bool,
    /// True if a probe that meets it blames itself and not the backend.
    pub our_own: bool,
}

impl About {
    /// Every subject, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Account,
        Self::Login,
        Self::Quota,
        Self::Identity,
        Self::Address,
        Self::Rate,
        Self::Service,
        Self::Tls,
        Self::Recipient,
        Self::Message,
        Self::Destination,
        Self::OurSide,
        Self::Unknown,
    ];

    /// The consequences of a refusal with this subject: the one table.
    pub fn consequences(self) -> Consequences {
        let refused = Consequences {
            counts: true,
            immediate: false,
            deferred: true,
            waits: false,
            throttling: false,
            our_own: false,
        };
        match self {
            Self::Account | Self::Login | Self::Quota => Consequences { immediate: true, waits: true, ..refused },
            Self::Address => Consequences { waits: true, ..refused },
            Self::Identity | Self::Service | Self::Tls | Self::Unknown => refused,
            Self::OurSide => Consequences { our_own: true, ..refused },
            Self::Rate => Consequences { counts: false, throttling: true, waits: true, ..refused },
            Self::Recipient | Self::Message | Self::Destination => {
                Consequences { counts: false, deferred: false, ..refused }
            }
        }
    }

    /// True if only a reply within a mail transaction can have this subject (RFC 5321 §3.3): before
    /// MAIL there is no message.
    pub(crate) fn needs_a_transaction(self) -> bool {
        matches!(self, Self::Recipient | Self::Message | Self::Destination)
    }

    /// True if only a reply to AUTH, or within a mail transaction, can have this subject: before that no sender is
    /// named.
    // ADR-0198: Whom a refusal names counts for more than where it is said.
    pub(crate) fn needs_a_sender(self) -> bool {
        self == Self::Identity
    }

    /// Class of the evidence that a refusal with this subject and code, at this stage, is.
    pub fn class(self, stage: Option<Answered>, code: u16) -> EvidenceClass {
        let is_temporary = code < 500;
        match self {
            Self::Account => EvidenceClass::AccountPaused,
            Self::Login => EvidenceClass::AuthenticationRefused,
            Self::Quota => EvidenceClass::QuotaExhausted,
            // A standby may be verified, or sign: the backend is refused for what it is for this sender.
            Self::Identity if is_temporary => EvidenceClass::Reputation,
            Self::Address => EvidenceClass::Reputation,
            Self::Rate => EvidenceClass::Throttled,
            Self::Tls if stage == Some(Answered::StartTls) => EvidenceClass::TlsFailed,
            Self::Recipient | Self::Message | Self::Destination => EvidenceClass::RecipientLevel,
            Self::Identity | Self::Service | Self::Tls | Self::OurSide | Self::Unknown => {
                if is_temporary {
                    EvidenceClass::Temporary
                } else {
                    EvidenceClass::Permanent
                }
            }
        }
    }

    /// Explanation for people, half a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Account => "our account is paused, suspended or not yet activated",
            Self::Login => "our login is refused, or one is demanded",
            Self::Quota => "our allowance of messages or credits is used up",
            Self::Identity => "our sender is not accepted: SPF, DKIM, DMARC, an unverified From",
            Self::Address => "our address or host is not trusted: block lists, reputation, PTR",
            Self::Rate => "we send too fast; the server is alive",
            Self::Service => "the service is in trouble, or does not relay for us",
            Self::Tls => "encryption is demanded or refused",
            Self::Recipient => "one recipient or its mailbox",
            Self::Message => "one message: its content, size or form",
            Self::Destination => "the policy of the recipient or of its domain",
            Self::OurSide => "our own side, such as the name in EHLO",
            Self::Unknown => "no rule knows it: its code decides",
        }
    }

    /// Name in output, rules and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::Login => "Login",
            Self::Quota => "Quota",
            Self::Identity => "Identity",
            Self::Address => "Address",
            Self::Rate => "Rate",
            Self::Service => "Service",
            Self::Tls => "Tls",
            Self::Recipient => "Recipient",
            Self::Message => "Message",
            Self::Destination => "Destination",
            Self::OurSide => "OurSide",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
