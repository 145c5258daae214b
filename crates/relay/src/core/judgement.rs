//! Meaning of a backend's reply for a message that is on its way.

use mail_failover_core::model::EvidenceClass;
use mail_failover_dataplane::reading::{Sender, of_delivery};
use mail_failover_replies::{About, Answered, Rulebook};
use mail_failover_smtp::reply::Reply;

/// Consequence of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The backend takes what was sent.
    Accepted,
    /// The refusal is about this sender, recipient or message: another backend would say the same.
    OfMessage,
    /// The refusal is about us or the backend: another backend may take it.
    OfBackend {
        /// Class of the evidence.
        class: EvidenceClass,
        /// Subject of the reply.
        about: About,
    },
    /// No answer that this command can have.
    Nonsense,
}

/// Reads a reply by the rules of the backend that gave it.
pub fn judge(
    rulebook: &Rulebook,
    answered: Answered,
    expects_content: bool,
    reply: &Reply,
    is_null: bool,
) -> Judgement {
    match reply.code {
        354 if expects_content => return Judgement::Accepted,
        // Anything else would have us send content as commands, or take an acceptance for one of something else.
        200..=399 if expects_content => return Judgement::Nonsense,
        200..=299 => return Judgement::Accepted,
        400..=599 => {}
        _ => return Judgement::Nonsense,
    }
    let read = mail_failover_replies::Reply {
        stage: Some(answered),
        code: reply.code,
        enhanced: reply.enhanced(),
        text: &reply.text,
    };
    let sender = if is_null { Sender::Null } else { Sender::Other };
    let reading = of_delivery(rulebook, &read, sender);
    let about = reading.about;
    if reading.class != EvidenceClass::RecipientLevel {
        return Judgement::OfBackend { class: reading.class, about };
    }
    // 421 closes the connection, whatever its text is about (RFC 5321 §4.2.3).
    if reply.code == 421 {
        return Judgement::OfBackend { class: EvidenceClass::Temporary, about };
    }
    // A refusal of the sender says nothing about the backend, and another one may know that sender.
    if is_null || matches!(about, About::Recipient | About::Message | About::Destination) {
        Judgement::OfMessage
    } else {
        Judgement::OfBackend { class: EvidenceClass::RecipientLevel, about }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(answered: Answered, line: &str) -> Judgement {
        let (code, text) = line.split_once(' ').unwrap();
        let reply = Reply { code: code.parse().unwrap(), text: text.to_owned() };
        judge(&Rulebook::default(), answered, false, &reply, false)
    }

    #[test]
    fn what_is_about_the_account_goes_on_and_what_is_about_the_message_does_not() {
        use Answered::{Data, Mail, Recipient};
        for (answered, line, expected) in [
            (Recipient, "250 2.1.5 ok", None),
            (Recipient, "251 will forward", None),
            (Recipient, "550 5.1.1 no such user", Some(true)),
            (Recipient, "450 4.2.1 mailbox busy", Some(true)),
            (Mail, "552 5.3.4 Message size exceeds file system imposed limit", Some(true)),
            // Another backend may know the sender.
            (Mail, "553 5.1.8 sender domain does not exist", Some(false)),
            (Mail, "553 5.7.1 <a@b.example>: Sender address rejected: not owned by user x", Some(false)),
            (Mail, "553 Relaying disallowed as shop@example.com", Some(false)),
            (Data, "552 5.3.4 message too big", Some(true)),
            (Data, "554 Message rejected: Sending paused for this account", Some(false)),
            (Mail, "530 5.7.0 authentication required", Some(false)),
            (Mail, "454 4.7.0 Throttling failure: Daily message quota exceeded", Some(false)),
            (Recipient, "421 4.3.0 try again later", Some(false)),
            (Data, "451 4.3.0 internal error", Some(false)),
        ] {
            let is_of_message = match judged(answered, line) {
                Judgement::Accepted => None,
                Judgement::OfMessage => Some(true),
                Judgement::OfBackend { .. } => Some(false),
                Judgement::Nonsense => panic!("{line}"),
            };
            assert_eq!(is_of_message, expected, "{line}");
        }
    }

    #[test]
    fn what_is_about_the_sender_counts_for_no_backend_and_that_of_the_null_sender_is_final() {
        let reply = Reply { code: 553, text: "5.7.1 Sender address rejected: not owned by user x".to_owned() };
        let judged = |is_null| judge(&Rulebook::default(), Answered::Mail, false, &reply, is_null);
        let expected = Judgement::OfBackend { class: EvidenceClass::RecipientLevel, about: About::Identity };
        assert_eq!((judged(false), judged(true)), (expected, Judgement::OfMessage));
    }

    #[test]
    fn only_354_asks_for_content() {
        let reply = |code| Reply { code, text: "go".to_owned() };
        let judged = |code| judge(&Rulebook::default(), Answered::Data, true, &reply(code), false);
        assert_eq!(
            (judged(354), judged(250), judged(334)),
            (Judgement::Accepted, Judgement::Nonsense, Judgement::Nonsense)
        );
        assert!(matches!(judged(451), Judgement::OfBackend { .. }));
        assert_eq!(judge(&Rulebook::default(), Answered::Data, false, &reply(354), false), Judgement::Nonsense);
    }
}
