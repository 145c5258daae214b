//! Classification of SMTP replies: from a reply to the [`EvidenceClass`] of the backend that sent it.
//!
//! The rules are those of `mail_failover_replies`, where the subject of a reply comes before its severity. This module
//! never decides what follows from a class.

use mail_failover_core::model::EvidenceClass;
/// The command that a reply answers.
pub use mail_failover_replies::Stage as Answered;
use mail_failover_replies::{About, Enhanced, Reply, subject};

use super::reply::EnhancedCode;

/// The class of a reply to a probe; `text` without code, of any length, in any case.
pub fn classify(answered: Answered, code: u16, enhanced: Option<EnhancedCode>, text: &str) -> EvidenceClass {
    match code {
        // 3yz (RFC 5321 §4.2.1) asks for more of what goes well.
        200..=399 => EvidenceClass::Ok,
        400..=599 => {
            let about = about(answered, code, enhanced, text);
            // A probe that is refused for itself says nothing about the backend.
            if about.consequences().our_own { EvidenceClass::ProbeBlocked } else { about.class(Some(answered), code) }
        }
        _ => EvidenceClass::ProtocolError,
    }
}

/// The subject of a refusal; `text` without code, of any length, in any case.
pub fn about(answered: Answered, code: u16, enhanced: Option<EnhancedCode>, text: &str) -> About {
    let enhanced = enhanced.map(|EnhancedCode(class, subject, detail)| Enhanced(class, subject, detail));
    subject(&Reply { stage: Some(answered), code, enhanced, text }, None).0
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
