//! Reading of replies that real deliveries have met, by the rules of a backend. Pure.
//!
//! The log tells less than a dialogue: the command that a reply answers may have been cut off. It also tells more: the
//! message that was refused has a sender.

use mail_failover_core::model::EvidenceClass;
use mail_failover_replies::{About, Answered, DecidingRule, EnhancedCode, Reading, Reply, Rulebook};

/// Sender of a message, as far as the log has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sender {
    /// An address, or not known.
    #[default]
    Other,
    /// The null sender of bounces (RFC 5321 §4.5.5).
    Null,
}

/// Reads a reply to a delivery of a message of this sender.
pub(crate) fn of_delivery<'a>(rulebook: &'a Rulebook, reply: &Reply<'_>, sender: Sender) -> Reading<'a> {
    let reading = if reply.stage.is_some() { rulebook.read(reply) } else { careful(rulebook, reply) };
    let is_decided_by_user = reading.rule.and_then(DecidingRule::own_id).is_some();
    if !is_decided_by_user && is_about_sender(reply, reading.about, sender) {
        return Reading { class: EvidenceClass::RecipientLevel, ..reading };
    }
    reading
}

/// Returns the reading that accuses least, of those at the commands that the reply may have answered.
fn careful<'a>(rulebook: &'a Rulebook, reply: &Reply<'_>) -> Reading<'a> {
    let readings = [Answered::Recipient, Answered::Data, Answered::Mail]
        .map(|answered| rulebook.read(&Reply { stage: Some(answered), ..reply.clone() }));
    let harmless = readings.iter().find(|reading| !reading.about.consequences().counts);
    let lasting = readings.iter().find(|reading| !reading.about.consequences().immediate);
    harmless.or(lasting).copied().unwrap_or(readings[0])
}

/// True if a refusal of MAIL is about this message's sender: its form, its size, its options (RFC 5321 §4.2.3,
/// RFC 3463 x.1, x.3.4, x.5.2, x.5.4, x.6).
fn is_about_sender(reply: &Reply<'_>, about: About, sender: Sender) -> bool {
    let is_positively_ours =
        matches!(about, About::Account | About::Login | About::Quota | About::Address | About::Rate | About::Tls);
    if reply.stage != Some(Answered::Mail) || reply.code < 500 || is_positively_ours {
        return false;
    }
    let by_enhanced = match reply.enhanced {
        Some(EnhancedCode(_, subject, detail)) => matches!((subject, detail), (1 | 6, _) | (3, 4) | (5, 2 | 4)),
        None => false,
    };
    matches!(reply.code, 501 | 552 | 553 | 555) || by_enhanced || sender == Sender::Null
}
