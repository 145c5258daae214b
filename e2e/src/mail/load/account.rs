//! The account of the messages that a mail server took, by recipient, since a mail server delivers
//! by recipient.
//!
//! Pure, except for reading what the servers have stored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use super::Accepted;
use crate::mail::server::SmtpServer;

/// A copy of a message that a server has stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The envelope recipient.
    pub recipient: String,
    /// The name of the server.
    pub server: String,
    /// The time at which it was stored.
    pub at: Instant,
}

impl Stored {
    /// All copies on these servers, bounces excluded.
    pub fn by(servers: &[&SmtpServer]) -> Vec<Self> {
        let mut copies = Vec::new();
        for server in servers {
            for message in server.received().into_iter().filter(|message| !message.sender.is_empty()) {
                let (name, at) = (server.name(), message.at);
                let recipients = message.recipients.into_iter();
                copies.extend(recipients.map(|recipient| Self { recipient, server: name.to_owned(), at }));
            }
        }
        copies
    }
}

/// The account of a load: every recipient of an accepted message is delivered, queued or lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Recipients of messages that were accepted.
    pub accepted: usize,
    /// Accepted recipients whose message a server has.
    pub delivered: usize,
    /// Accepted recipients whose message is still in the queue, and not delivered.
    pub queued: usize,
    /// Accepted recipients whose message is neither delivered nor queued.
    pub lost: Vec<String>,
    /// Lost recipients of whom the sender was told by a bounce.
    pub bounced: usize,
    /// Recipients who have a message more than once.
    pub duplicated: usize,
    /// Copies beyond the first.
    pub extra_copies: usize,
    /// The number of recipients whose message a server has, by server.
    pub by_server: BTreeMap<String, usize>,
}

impl Account {
    /// Compares what was accepted with what was stored, what bounced and what is queued.
    pub fn of(accepted: &[Accepted], stored: &[Stored], bounced: &BTreeSet<String>, queued: &BTreeSet<String>) -> Self {
        let mut copies: HashMap<&str, usize> = HashMap::new();
        let mut by_server: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for Stored { recipient, server, at: _ } in stored {
            *copies.entry(recipient).or_default() += 1;
            by_server.entry(server.clone()).or_default().insert(recipient);
        }
        let mut account = Self::default();
        for recipient in accepted.iter().flat_map(|message| &message.recipients) {
            account.accepted += 1;
            match copies.get(recipient.as_str()) {
                Some(copies) => {
                    account.delivered += 1;
                    account.duplicated += usize::from(*copies > 1);
                    account.extra_copies += copies - 1;
                }
                None if queued.contains(recipient) => account.queued += 1,
                None => {
                    account.bounced += usize::from(bounced.contains(recipient));
                    account.lost.push(recipient.clone());
                }
            }
        }
        account.by_server = by_server.into_iter().map(|(server, recipients)| (server, recipients.len())).collect();
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(recipients: &[&str]) -> Accepted {
        Accepted {
            id: recipients.concat(),
            recipients: recipients.iter().map(|&recipient| recipient.to_owned()).collect(),
            reply: String::new(),
            at: Instant::now(),
        }
    }

    fn stored(server: &str, recipients: &[&str]) -> Vec<Stored> {
        let stored = recipients.iter().map(|&recipient| Stored {
            recipient: recipient.to_owned(),
            server: server.to_owned(),
            at: Instant::now(),
        });
        stored.collect()
    }

    fn set(recipients: &[&str]) -> BTreeSet<String> {
        recipients.iter().map(|&recipient| recipient.to_owned()).collect()
    }

    #[test]
    fn every_recipient_is_in_one_place() {
        let messages = [accepted(&["a", "b"]), accepted(&["c"]), accepted(&["d"]), accepted(&["e"])];
        let copies = [stored("first", &["a", "b", "a"]), stored("second", &["a", "stranger"])].concat();
        let account = Account::of(&messages, &copies, &set(&["d", "b"]), &set(&["c", "a"]));
        let expected = Account {
            accepted: 5,
            delivered: 2,
            queued: 1,
            lost: vec!["d".to_owned(), "e".to_owned()],
            bounced: 1,
            duplicated: 1,
            extra_copies: 2,
            by_server: [("first".to_owned(), 2), ("second".to_owned(), 2)].into(),
        };
        assert_eq!(account, expected);
        assert_eq!(account.delivered + account.queued + account.lost.len(), account.accepted);
    }
}
