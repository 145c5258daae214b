//! Reading of replies that real deliveries have met, by the rules of a backend. Pure.
//!
//! The log tells less than a dialogue: the command that a reply answers may have been cut off. It also tells more: the
//! message that was refused has a sender.

use std::borrow::Cow;

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

/// Mark of a refusal that the reply filter has made temporary. The temporary code stands before it, and the refusal as
/// the backend gave it after it.
const MARK: &str = "(kept by mail-failover) ";
/// Form of the code before it.
const TEMPORARY: &str = "4yz ";

/// Returns a line of a refusal by 5xx as a temporary one that holds the original. `None` for other lines.
pub fn marked(line: &str) -> Option<String> {
    let code = line.strip_prefix('5')?.get(..2)?;
    Some(format!("4{code} {MARK}{line}"))
}

/// Returns a text with its replies as the backend gave them, without the mark of the reply filter. A mark that the
/// filter cannot have written stays: a server may say these words, too.
pub fn unmarked(text: &str) -> Cow<'_, str> {
    let (mut clean, mut taken) = (String::new(), 0);
    for (at, _) in text.match_indices(MARK) {
        if is_own_mark(text.as_bytes(), at) {
            clean.push_str(&text[taken..at - TEMPORARY.len()]);
            taken = at + MARK.len();
        }
    }
    if taken == 0 { Cow::Borrowed(text) } else { Cow::Owned(clean + &text[taken..]) }
}

/// True if the mark at this place stands between a temporary code and the same one by 5.
fn is_own_mark(text: &[u8], at: usize) -> bool {
    let Some((before, code)) = text[..at].split_last_chunk::<{ TEMPORARY.len() }>() else { return false };
    let permanent = text.get(at + MARK.len()..).unwrap_or_default();
    let is_begun = before.last().is_none_or(u8::is_ascii_whitespace);
    is_begun && code[0] == b'4' && code[3] == b' ' && permanent.starts_with(&[b'5', code[1], code[2]])
}

/// Reads a reply to a delivery of a message of this sender.
pub fn of_delivery<'a>(rulebook: &'a Rulebook, reply: &Reply<'_>, sender: Sender) -> Reading<'a> {
    let reading = if reply.stage.is_some() { rulebook.read(reply) } else { careful(rulebook, reply) };
    let is_decided_by_user = reading.rule.and_then(DecidingRule::own_id).is_some();
    if !is_decided_by_user && is_about_sender(reply, reading.about, sender) {
        return Reading { class: EvidenceClass::RecipientLevel, ..reading };
    }
    reading
}

/// True if a refusal by 5xx is made temporary while another backend is usable. Where the command is not known, only rules
/// that hold at every command let it bounce.
pub fn is_deferred(rulebook: &Rulebook, reply: &Reply<'_>) -> bool {
    reply.code >= 500 && rulebook.read(reply).about.consequences().deferred
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

#[cfg(test)]
mod tests {
    use mail_failover_core::model::{ReplyRule, ReplyRules};

    use super::*;

    fn class(rulebook: &Rulebook, stage: Option<Answered>, sender: Sender) -> EvidenceClass {
        let text = "5.1.8 no more letters of this week";
        let reply = Reply { stage, code: 553, enhanced: EnhancedCode::of_text(text), text };
        of_delivery(rulebook, &reply, sender).class
    }

    #[test]
    fn a_users_rule_comes_before_what_a_delivery_tells() {
        let rule = ReplyRule {
            name: "house".into(),
            about: "Account".into(),
            stages: vec![],
            codes: vec![],
            enhanced_codes: vec![],
            words: vec!["letters of this week".into()],
        };
        let (own, problems) = Rulebook::new(&ReplyRules { rules: vec![rule], ..ReplyRules::default() });
        assert_eq!(problems, []);
        let general = class(&Rulebook::default(), Some(Answered::Mail), Sender::Other);
        assert_eq!(general, EvidenceClass::RecipientLevel);
        for stage in [Some(Answered::Mail), None] {
            for sender in [Sender::Other, Sender::Null] {
                assert_eq!(class(&own, stage, sender), EvidenceClass::AccountPaused, "{stage:?} {sender:?}");
            }
        }
    }
}
