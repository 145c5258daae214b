//! Events in the MTA's log, in the terms of the core.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::{NextHop, Routing};
use mail_failover_core::model::EvidenceClass;
use mail_failover_replies::{Answered, EnhancedCode, Reply, Rulebook};

/// Host and port of a delivery attempt, as far as the log says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Host name or address, lower case, without brackets.
    pub host: Arc<str>,
    /// TCP port; `None` if the name could not be resolved.
    pub port: Option<u16>,
}

impl Place {
    /// Returns the position in `routing.backends`. `None` if several backends could be meant.
    pub fn position_in(&self, routing: &Routing) -> Option<usize> {
        let mut positions = routing.backends.iter().enumerate().filter(|(_, backend)| self.is(&backend.next_hop));
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
    /// One line for people, at most [`MAX_SUMMARY`] characters, printable, without mail addresses.
    pub summary: Arc<str>,
    /// Refusal that the class was read from, if it was one.
    pub refusal: Option<LoggedRefusal>,
}

impl Delivery {
    /// Returns the delivery as these rules read its refusal: those of the backend, which the log does not know.
    pub(crate) fn read_by(&self, rulebook: &Rulebook) -> Cow<'_, Self> {
        let Some(LoggedRefusal { answered, code, text }) = &self.refusal else { return Cow::Borrowed(self) };
        let enhanced = EnhancedCode::at_start_of(text);
        let reading = rulebook.read(&Reply { stage: *answered, code: *code, enhanced, text });
        let own = reading.rule.and_then(mail_failover_replies::DecidingRule::own_id);
        if own.is_none() && reading.class == self.class {
            return Cow::Borrowed(self);
        }
        let summary = own.map_or_else(|| self.summary.clone(), |id| by_rule(&self.summary, id));
        Cow::Owned(Self { class: reading.class, summary, ..self.clone() })
    }
}

/// Names the rule that decided at the end of a summary, within its bound.
fn by_rule(summary: &str, id: &str) -> Arc<str> {
    let end = format!(" (by {id})");
    let kept: String = summary.chars().take(MAX_SUMMARY.saturating_sub(end.len())).collect();
    (kept + &end).into()
}

/// A refusal in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRefusal {
    /// Command that it answers; `None` if the log does not tell.
    pub answered: Option<Answered>,
    /// SMTP code.
    pub code: u16,
    /// Text without mail addresses.
    pub text: Box<str>,
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
}
