//! Classification of SMTP replies: from a reply to the [`EvidenceClass`] of the backend that sent it.
//!
//! The rules are those of `mail_failover_replies`, where the subject of a reply comes before its severity. This module
//! never decides what follows from a class.

use mail_failover_core::model::EvidenceClass;
pub use mail_failover_replies::Answered;
use mail_failover_replies::{About, Reading, Reply, Rulebook};

use super::client::SessionError;
use super::login::NoMechanism;
use super::reply::EnhancedCode;

/// The class of a reply to a probe by the general rules; `text` without code, of any length, in any case.
pub fn classify(answered: Answered, code: u16, enhanced: Option<EnhancedCode>, text: &str) -> EvidenceClass {
    probe_class(&Rulebook::default().read(&Reply { stage: Some(answered), code, enhanced, text }))
}

/// The class of the evidence that a reply to a probe is.
pub fn probe_class(reading: &Reading<'_>) -> EvidenceClass {
    // A probe that is refused for itself says nothing about the backend.
    if reading.about.consequences().our_own { EvidenceClass::ProbeBlocked } else { reading.class }
}

/// The class of a session that ended before its goal. That of a refusal is the one of its code alone, without the rules
/// about its text.
pub fn session_class(error: &SessionError) -> EvidenceClass {
    match error {
        SessionError::Timeout { .. } => EvidenceClass::NoAnswer,
        SessionError::Starved { .. } => EvidenceClass::Inconclusive,
        SessionError::Closed | SessionError::ClosedWithinReply(_) => EvidenceClass::ConnectionLost,
        SessionError::Malformed(_)
        | SessionError::NotSmtp { .. }
        | SessionError::OutOfTurn
        | SessionError::PlainTextBeforeTls => EvidenceClass::ProtocolError,
        SessionError::StartTlsNotOffered => EvidenceClass::TlsFailed,
        SessionError::NoMechanism(NoMechanism::Unknown(_)) => EvidenceClass::ProbeBlocked,
        // Nobody has refused the login: one node of a pool that is just starting must not move a route at once.
        SessionError::NoMechanism(NoMechanism::NotOffered) => EvidenceClass::Permanent,
        SessionError::Refused(reply) if reply.code >= 500 => EvidenceClass::Permanent,
        SessionError::Refused(_) => EvidenceClass::Temporary,
    }
}

/// The subject of a refusal by the general rules; `text` without code, of any length, in any case.
pub fn about(answered: Answered, code: u16, enhanced: Option<EnhancedCode>, text: &str) -> About {
    Rulebook::default().read(&Reply { stage: Some(answered), code, enhanced, text }).about
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
