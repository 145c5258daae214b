//! Events in the MTA's log, in the terms of the core.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::{NextHop, Routing};
use mail_failover_core::model::{DeliveryStage, EvidenceClass, Stage};
use mail_failover_replies::{About, Answered, DecidingRule, EnhancedCode, Reply, Rulebook};

use crate::reading::{self, Sender};

/// Host and port of a delivery attempt, as far as the log says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Host name or address, lower case, without brackets.
    pub host: Arc<str>,
    /// TCP port; `None` if the name could not be resolved.
    pub port: Option<u16>,
    /// Name of the backend, from who knows it: several may have one host and port.
    pub backend: Option<Arc<str>>,
}

impl Place {
    /// Returns the position in `routing.backends`. `None` if several backends could be meant.
    pub fn position_in(&self, routing: &Routing) -> Option<usize> {
        let is_named = |name: &str| self.backend.as_ref().is_none_or(|backend| **backend == *name);
        let there = routing.backends.iter().enumerate().filter(|(_, backend)| self.is(&backend.next_hop));
        let mut positions = there.filter(|(_, backend)| is_named(&backend.name));
        let (first, _) = positions.next()?;
        positions.next().is_none().then_some(first)
    }

    fn is(&self, next_hop: &NextHop) -> bool {
        next_hop.host == self.host && self.port.is_none_or(|port| port == next_hop.port)
    }
}

/// One finished attempt to deliver one message to one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Host and port of the server.
    pub place: Place,
    /// Verdict on the backend there.
    pub class: EvidenceClass,
    /// Result for the message.
    pub disposition: Disposition,
    /// Time from the beginning of connecting to the end: `c + d` of Postfix's `delays=a/b/c/d`, which is rounded to two
    /// digits.
    pub took: Duration,
    /// Hash of the queue id: equal for all recipients and attempts of a message.
    // A queue id itself tells who wrote to whom.
    pub message: u64,
    /// Hash of the recipient: [`crate::answers::recipient_hash`].
    pub recipient: u64,
    /// Time since the message came in (`delay=`).
    pub age: Duration,
    /// Refusal by a 5xx within the mail transaction, if there was one.
    pub refusal: Option<MessageRefusal>,
    /// One line for people, at most [`MAX_SUMMARY`] characters, printable, without mail addresses.
    pub summary: Arc<str>,
    /// Reply that the class was read from, if it was one.
    pub logged: Option<LoggedReply>,
    /// Stage at which it failed, if that is known. A log does not tell it.
    pub stage: Option<DeliveryStage>,
}

impl Delivery {
    /// Returns the stage at which it failed. Where the log does not tell, the deepest that it may have been.
    pub fn failed_stage(&self) -> DeliveryStage {
        if let Some(stage) = self.stage {
            return stage;
        }
        if let Some(LoggedReply { answered, .. }) = &self.logged {
            return match answered {
                Some(Answered::Connection) => DeliveryStage::Session(Stage::Banner),
                Some(Answered::Hello) => DeliveryStage::Session(Stage::Ehlo),
                Some(Answered::StartTls) => DeliveryStage::Session(Stage::StartTls),
                Some(Answered::Auth) => DeliveryStage::Session(Stage::Auth),
                Some(Answered::Mail) => DeliveryStage::Session(Stage::Mail),
                Some(Answered::Recipient) => DeliveryStage::Session(Stage::Recipient),
                Some(Answered::Data) | None => DeliveryStage::Data,
            };
        }
        if self.class == EvidenceClass::Unresolvable {
            DeliveryStage::Session(Stage::Resolve)
        } else if self.class == EvidenceClass::ConnectionRefused {
            DeliveryStage::Session(Stage::Connect)
        } else if matches!(self.class, EvidenceClass::TlsFailed | EvidenceClass::CertificateInvalid) {
            DeliveryStage::Session(Stage::StartTls)
        } else {
            self.silent_stage()
        }
    }

    /// Returns the stage that Postfix names when a server does not answer (`smtp_session.c`, `smtp_proto.c`).
    fn silent_stage(&self) -> DeliveryStage {
        const PHASES: [(&str, Stage); 6] = [
            ("connect to ", Stage::Connect),
            ("initial server greeting", Stage::Banner),
            ("EHLO", Stage::Ehlo),
            ("HELO", Stage::Ehlo),
            ("STARTTLS", Stage::StartTls),
            ("sending MAIL FROM", Stage::Mail),
        ];
        let mut phases = PHASES.iter();
        let found = phases.find(|(words, _)| self.summary.contains(words));
        found.map_or(DeliveryStage::Data, |(_, stage)| DeliveryStage::Session(*stage))
    }

    /// Returns true if these rules read its refusal as one of its sender's identity: that is no failure of the backend,
    /// which may carry the mail of other senders.
    pub fn is_about_sender(&self, rulebook: &Rulebook) -> bool {
        let Some(LoggedReply { answered, code, text, sender }) = &self.logged else { return false };
        let reply = Reply { stage: *answered, code: *code, enhanced: EnhancedCode::of_text(text), text };
        reading::of_delivery(rulebook, &reply, *sender).about == About::Identity
    }

    /// Returns the delivery as these rules read its refusal: those of the backend, which the log does not know.
    pub fn read_by(&self, rulebook: &Rulebook) -> Cow<'_, Self> {
        let Some(LoggedReply { answered, code, text, sender }) = &self.logged else { return Cow::Borrowed(self) };
        let enhanced = EnhancedCode::of_text(text);
        let reply = Reply { stage: *answered, code: *code, enhanced, text };
        let reading = reading::of_delivery(rulebook, &reply, *sender);
        let own = reading.rule.and_then(DecidingRule::own_id);
        let refusal = self.refusal.map(|refusal| MessageRefusal { about: reading.about, ..refusal });
        if own.is_none() && reading.class == self.class && refusal == self.refusal {
            return Cow::Borrowed(self);
        }
        let summary = own.map_or_else(|| self.summary.clone(), |id| by_rule(&self.summary, id));
        Cow::Owned(Self { class: reading.class, refusal, summary, ..self.clone() })
    }
}

/// Names the rule that decided at the end of a summary, within its bound.
fn by_rule(summary: &str, id: &str) -> Arc<str> {
    let end = format!(" (by {id})");
    let kept: String = summary.chars().take(MAX_SUMMARY.saturating_sub(end.len())).collect();
    (kept + &end).into()
}

/// A reply of a server in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedReply {
    /// Command that it answers; `None` if the log does not tell.
    pub answered: Option<Answered>,
    /// SMTP code.
    pub code: u16,
    /// Text without mail addresses.
    pub text: Box<str>,
    /// Sender of the message.
    pub sender: Sender,
}

/// Refusal of a message or a recipient by a 5xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRefusal {
    /// Subject of the reply.
    pub about: About,
    /// Fingerprint of the reply: equal for replies that differ in identifiers, addresses and times only.
    pub text: u64,
}

/// Result of one attempt, for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The backend took it.
    Sent,
    /// The message is tried again later.
    Deferred,
    /// The message was returned to its sender.
    Bounced,
    /// The MTA went on to the next hop of its list, within the same attempt.
    PassedOn,
}

/// Limit of [`Delivery::summary`], in characters.
pub const MAX_SUMMARY: usize = 200;

/// Event that one line of the log tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// An attempt is over.
    Delivery(Delivery),
    /// Nothing was tried: the MTA avoids a next hop because of an earlier failure. This is no evidence of its own.
    Suspended,
    /// The backend may have taken a message without our learning it, and it will be sent again.
    PossibleDuplicate(Place),
    /// A message has left the queue without a delivery: it was too old, or a person removed it. The hash of its queue
    /// id.
    Gone(u64),
}
