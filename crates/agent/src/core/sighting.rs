//! What one line of the MTA's log says, in words that the core understands.

use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::{Backend, Routing};
use mail_failover_core::model::EvidenceClass;

/// Where an MTA tried to deliver, as far as its log says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Host name or address, lower case, without brackets.
    pub host: Arc<str>,
    /// TCP port; `None` where it did not get as far (the name could not be resolved).
    pub port: Option<u16>,
}

impl Place {
    /// Which of the backends it is, by its place in `routing.backends`. Nothing when more than one could be meant.
    pub fn position_in(&self, routing: &Routing) -> Option<usize> {
        let is_it = |backend: &Backend| {
            *backend.next_hop.host == *self.host && self.port.is_none_or(|port| port == backend.next_hop.port)
        };
        let mut matching = routing.backends.iter().enumerate().filter(|(_, backend)| is_it(backend));
        let first = matching.next()?.0;
        matching.next().is_none().then_some(first)
    }
}

/// One attempt to deliver one message to one recipient, over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where.
    pub place: Place,
    /// What it says about the backend there.
    pub class: EvidenceClass,
    /// What became of the message.
    pub disposition: Disposition,
    /// From the beginning of connecting to the end: `c + d` of Postfix's `delays=a/b/c/d`, which is rounded to two digits.
    pub took: Duration,
    /// The same for all recipients and attempts of a message, and of no other: a hash, for a queue id tells who wrote to whom.
    pub message: u64,
    /// One line for people, at most [`MAX_SUMMARY`] characters, printable, without mail addresses.
    pub summary: Arc<str>,
}

/// What became of a message by one attempt, for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The backend took it.
    Sent,
    /// It is tried again later.
    Deferred,
    /// It was returned to its sender.
    Bounced,
}

/// Characters of [`Delivery::summary`].
pub const MAX_SUMMARY: usize = 200;

/// What a line of the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// An attempt is over.
    Delivery(Delivery),
    /// Nothing was tried: the MTA keeps away from a next hop for an earlier failure. No evidence of its own.
    Suspended,
    /// The backend may have taken a message without our learning it, and it will be sent again.
    PossibleDuplicate(Place),
}
