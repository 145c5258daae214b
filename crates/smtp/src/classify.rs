//! Classification of SMTP replies: from a reply to the [`EvidenceClass`] of the backend that sent it.
//!
//! The rules are those of `mail_failover_replies`, where the subject of a reply comes before its severity. This module
//! never decides what follows from a class.

use mail_failover_core::model::EvidenceClass;
pub use mail_failover_replies::Answered;
use mail_failover_replies::{About, Reply, Rulebook};

use super::reply::EnhancedCode;

/// The class of a reply by the general rules; `text` without code, of any length, in any case.
pub fn classify(answered: Answered, code: u16, enhanced: Option<EnhancedCode>, text: &str) -> EvidenceClass {
    Rulebook::default().read(&Reply { stage: Some(answered), code, enhanced, text }).class
}

/// The subject of a refusal by the general rules; `text` without code, of any length, in any case.
pub fn about(answered: Answered, code: u16, enhanced: Option<EnhancedCode>, text: &str) -> About {
    Rulebook::default().read(&Reply { stage: Some(answered), code, enhanced, text }).about
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
