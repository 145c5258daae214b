//! What a sender did and saw.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::client::Outcome;
use crate::mail::server::SmtpServer;

/// A sender makes no more messages than these.
pub const MAX_MESSAGES: usize = 1_000_000;
/// Of more attempts than these, the oldest are forgotten, and counted.
pub const MAX_ATTEMPTS: usize = 1_000_000;

/// One attempt to send one message.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Of which message: its number, from 0.
    pub message: usize,
    /// The how manieth for that message, from 1.
    pub number: u32,
    /// Through which endpoint.
    pub endpoint: Option<SocketAddr>,
    /// When it began.
    pub started: Instant,
    /// When it was over.
    pub finished: Instant,
    /// What came of it.
    pub outcome: Outcome,
}

/// How many messages there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that the application wanted to send.
    pub sent: usize,
    /// Of these, accepted by a server.
    pub accepted: usize,
    /// Of these, given up without having been accepted.
    pub lost: usize,
    /// Attempts.
    pub attempts: usize,
    /// Attempts that were not accepted.
    pub failed_attempts: usize,
    /// Attempts that are counted but not kept any more.
    pub forgotten_attempts: usize,
    /// Messages that were due, but not made because too many others were on their way.
    pub held_back: usize,
}

impl Totals {
    /// Messages neither accepted nor given up yet.
    pub fn outstanding(&self) -> usize {
        self.sent - self.accepted - self.lost
    }
}

/// A failover as the sending client saw it.
#[derive(Clone, Debug)]
pub struct Failover {
    /// The first send that was refused or not answered.
    pub first_failed: Attempt,
    /// The first send after it that was accepted.
    pub first_accepted: Attempt,
}

impl Failover {
    /// From the start of the first failed send to the acceptance of the first that succeeded.
    pub fn took(&self) -> Duration {
        self.first_accepted.finished.saturating_duration_since(self.first_failed.started)
    }
}

/// Every message and attempt of a sender.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Tells the ids of one sender's messages from those of another's.
    pub run: String,
    totals: Totals,
    attempts: VecDeque<Attempt>,
    /// By message number.
    messages: Vec<Fate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Outstanding,
    Accepted(SocketAddr),
    Lost,
}

impl Journal {
    pub(super) fn new(run: String) -> Self {
        Self { run, ..Self::default() }
    }

    /// A new message's number, as long as there is room.
    pub(super) fn begin(&mut self) -> Option<usize> {
        let number = self.messages.len();
        if number >= MAX_MESSAGES {
            self.hold_back();
            return None;
        }
        self.messages.push(Fate::Outstanding);
        self.totals.sent += 1;
        Some(number)
    }

    pub(super) fn hold_back(&mut self) {
        self.totals.held_back += 1;
    }

    pub(super) fn record(&mut self, attempt: Attempt) {
        self.totals.attempts += 1;
        match attempt.endpoint {
            Some(endpoint) if attempt.outcome.is_accepted() => self.end(attempt.message, Fate::Accepted(endpoint)),
            Some(_) | None => self.totals.failed_attempts += 1,
        }
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.pop_front();
            self.totals.forgotten_attempts += 1;
        }
        self.attempts.push_back(attempt);
    }

    pub(super) fn give_up(&mut self, message: usize) {
        self.end(message, Fate::Lost);
    }

    pub(super) fn give_up_all(&mut self) {
        (0..self.messages.len()).for_each(|message| self.give_up(message));
    }

    /// A message's fate is sealed once.
    fn end(&mut self, message: usize, fate: Fate) {
        let Some(entry) = self.messages.get_mut(message).filter(|entry| **entry == Fate::Outstanding) else { return };
        *entry = fate;
        match fate {
            Fate::Accepted(_) => self.totals.accepted += 1,
            Fate::Lost => self.totals.lost += 1,
            Fate::Outstanding => {}
        }
    }

    /// How many messages there are of each kind.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// In the order of being over.
    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        self.attempts.iter()
    }

    /// The `X-Message-Id` of a message.
    pub fn id(&self, message: usize) -> String {
        format!("{}-{message:06}", self.run)
    }

    /// The ids of the messages that were given up.
    pub fn lost(&self) -> Vec<String> {
        let lost = self.messages.iter().enumerate().filter(|(_, fate)| **fate == Fate::Lost);
        lost.map(|(message, _)| self.id(message)).collect()
    }

    /// How many messages each endpoint accepted.
    pub fn accepted_by(&self) -> BTreeMap<SocketAddr, usize> {
        let mut counts = BTreeMap::new();
        for fate in &self.messages {
            if let Fate::Accepted(endpoint) = fate {
                *counts.entry(*endpoint).or_default() += 1;
            }
        }
        counts
    }

    /// Of the attempts that failed at `after` or later, the one that started first: the break hit it, even if it had started
    /// just before.
    pub fn first_failed_attempt_after(&self, after: Instant) -> Option<&Attempt> {
        let failed = self.attempts.iter().filter(|attempt| !attempt.outcome.is_accepted() && attempt.finished >= after);
        failed.min_by_key(|attempt| attempt.started)
    }

    /// Of the attempts that started at `after` or later and were accepted, the one accepted first.
    pub fn first_accepted_after(&self, after: Instant) -> Option<&Attempt> {
        let accepted = self.attempts.iter().filter(|attempt| attempt.outcome.is_accepted() && attempt.started >= after);
        accepted.min_by_key(|attempt| attempt.finished)
    }

    /// The failover after a break at `after`; `None` when nothing failed, or nothing was accepted since.
    pub fn failover_after(&self, after: Instant) -> Option<Failover> {
        let first_failed = self.first_failed_attempt_after(after)?;
        let first_accepted = self.first_accepted_after(first_failed.started)?;
        Some(Failover { first_failed: first_failed.clone(), first_accepted: first_accepted.clone() })
    }

    /// Holds the sender's account against what servers have stored.
    pub fn delivery(&self, servers: &[&SmtpServer]) -> Delivery {
        let mut stored: HashMap<String, usize> = HashMap::new();
        let mut delivery = Delivery::default();
        for server in servers {
            let mut here = HashSet::new();
            for message in server.received().into_iter().filter(|message| self.is_ours(&message.id)) {
                *stored.entry(message.id.clone()).or_default() += 1;
                here.insert(message.id);
            }
            *delivery.messages.entry(server.name().to_owned()).or_default() += here.len();
        }
        delivery.duplicated = stored.values().filter(|copies| **copies > 1).count();
        delivery.extra_copies = stored.values().map(|copies| copies - 1).sum();
        delivery.delivered = stored.len();
        for (message, fate) in self.messages.iter().enumerate() {
            let is_stored = stored.contains_key(&self.id(message));
            match fate {
                Fate::Accepted(_) if !is_stored => delivery.vanished.push(self.id(message)),
                Fate::Lost if is_stored => delivery.lost_but_delivered += 1,
                Fate::Lost => delivery.lost += 1,
                Fate::Accepted(_) | Fate::Outstanding => {}
            }
        }
        delivery
    }

    fn is_ours(&self, id: &str) -> bool {
        id.strip_prefix(&self.run).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// What became of a sender's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Messages that a server has stored.
    pub delivered: usize,
    /// By the server's name: how many different messages it has stored.
    pub messages: BTreeMap<String, usize>,
    /// Messages stored more than once.
    pub duplicated: usize,
    /// Copies beyond the first.
    pub extra_copies: usize,
    /// Messages that the sender gave up, and that no server has.
    pub lost: usize,
    /// Messages that the sender gave up although a server has them.
    pub lost_but_delivered: usize,
    /// The ids of messages that were accepted but that no server has: mail that a server lost.
    pub vanished: Vec<String>,
}
