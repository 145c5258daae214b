//! The journal of a sender's messages and attempts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::client::Outcome;
use crate::mail::server::SmtpServer;

/// The upper limit of a sender's messages.
pub const MAX_MESSAGES: usize = 1_000_000;
/// The upper limit of attempts that are kept. Beyond it the oldest are forgotten, and counted.
pub const MAX_ATTEMPTS: usize = 1_000_000;

/// One attempt to send one message.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The number of the message, from 0.
    pub message: usize,
    /// The number of the attempt for that message, from 1.
    pub number: u32,
    /// The endpoint that it connected to.
    pub endpoint: Option<SocketAddr>,
    /// The time of its start.
    pub started: Instant,
    /// The time of its end.
    pub finished: Instant,
    /// The result.
    pub outcome: Outcome,
}

/// The numbers of messages of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that the application wanted to send.
    pub sent: usize,
    /// Messages accepted by a server.
    pub accepted: usize,
    /// Messages given up without having been accepted.
    pub lost: usize,
    /// All attempts.
    pub attempts: usize,
    /// Attempts that were not accepted.
    pub failed_attempts: usize,
    /// Attempts that are counted but no longer kept.
    pub forgotten_attempts: usize,
    /// Messages that were due, but not made because too many others were in progress.
    pub held_back: usize,
}

impl Totals {
    /// Messages neither accepted nor given up yet.
    pub fn outstanding(&self) -> usize {
        self.sent - self.accepted - self.lost
    }
}

/// A failover as seen by the sending client.
#[derive(Clone, Debug)]
pub struct Failover {
    /// The first attempt that was refused or not answered.
    pub first_failed: Attempt,
    /// The first attempt after it that was accepted.
    pub first_accepted: Attempt,
}

impl Failover {
    /// The time from the start of the first failed attempt to the acceptance of the first that
    /// succeeded.
    pub fn took(&self) -> Duration {
        self.first_accepted.finished.saturating_duration_since(self.first_failed.started)
    }
}

/// Every message and attempt of a sender.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// A prefix that distinguishes the message ids of different senders.
    pub run: String,
    totals: Totals,
    attempts: VecDeque<Attempt>,
    /// The start of each attempt in progress, by its message.
    under_way: HashMap<usize, Instant>,
    /// The states by message number.
    messages: Vec<MessageState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageState {
    Outstanding,
    Accepted(SocketAddr),
    Lost,
}

impl Journal {
    pub(super) fn new(run: String) -> Self {
        Self { run, ..Self::default() }
    }

    /// Assigns a new message's number, as long as there is room.
    pub(super) fn begin(&mut self) -> Option<usize> {
        let number = self.messages.len();
        if number >= MAX_MESSAGES {
            self.hold_back();
            return None;
        }
        self.messages.push(MessageState::Outstanding);
        self.totals.sent += 1;
        Some(number)
    }

    pub(super) fn hold_back(&mut self) {
        self.totals.held_back += 1;
    }

    pub(super) fn begin_attempt(&mut self, message: usize, started: Instant) {
        self.under_way.insert(message, started);
    }

    /// Records an attempt that has ended. Attempts are kept in the order of their ends.
    pub(super) fn record(&mut self, attempt: Attempt) {
        self.under_way.remove(&attempt.message);
        self.totals.attempts += 1;
        match attempt.endpoint {
            Some(endpoint) if attempt.outcome.is_accepted() => {
                self.end(attempt.message, MessageState::Accepted(endpoint));
            }
            Some(_) | None => self.totals.failed_attempts += 1,
        }
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.pop_front();
            self.totals.forgotten_attempts += 1;
        }
        self.attempts.push_back(attempt);
    }

    pub(super) fn give_up(&mut self, message: usize) {
        self.under_way.remove(&message);
        self.end(message, MessageState::Lost);
    }

    pub(super) fn give_up_all(&mut self) {
        (0..self.messages.len()).for_each(|message| self.give_up(message));
    }

    /// Sets a message's state, once.
    fn end(&mut self, message: usize, state: MessageState) {
        let Some(entry) = self.messages.get_mut(message).filter(|entry| **entry == MessageState::Outstanding) else {
            return;
        };
        *entry = state;
        match state {
            MessageState::Accepted(_) => self.totals.accepted += 1,
            MessageState::Lost => self.totals.lost += 1,
            MessageState::Outstanding => {}
        }
    }

    /// The numbers of messages of each kind.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The attempts in the order of their ends.
    pub fn attempts(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        self.attempts.iter()
    }

    /// The `X-Message-Id` of a message.
    pub fn id(&self, message: usize) -> String {
        format!("{}-{message:06}", self.run)
    }

    /// The ids of the messages that were given up.
    pub fn lost(&self) -> Vec<String> {
        let lost = self.messages.iter().enumerate().filter(|(_, state)| **state == MessageState::Lost);
        lost.map(|(message, _)| self.id(message)).collect()
    }

    /// The number of messages that each endpoint accepted.
    pub fn accepted_by(&self) -> BTreeMap<SocketAddr, usize> {
        let mut counts = BTreeMap::new();
        for state in &self.messages {
            if let MessageState::Accepted(endpoint) = state {
                *counts.entry(*endpoint).or_default() += 1;
            }
        }
        counts
    }

    /// The failed attempt with the earliest start, of those that started at `after` or later. An
    /// attempt that was in progress at `after` does not count: an earlier break may have caused its
    /// failure.
    pub fn first_failed_attempt_after(&self, after: Instant) -> Option<&Attempt> {
        self.started_after(after).filter(|attempt| !attempt.outcome.is_accepted()).min_by_key(|attempt| attempt.started)
    }

    /// The attempt that was accepted first, of those that started at `after` or later.
    pub fn first_accepted_after(&self, after: Instant) -> Option<&Attempt> {
        self.started_after(after).filter(|attempt| attempt.outcome.is_accepted()).min_by_key(|attempt| attempt.finished)
    }

    /// The attempts that started at `after` or later, latest first, so that the search costs no
    /// more than what happened since.
    fn started_after(&self, after: Instant) -> impl Iterator<Item = &Attempt> {
        let over = self.attempts.iter().rev().take_while(move |attempt| attempt.finished >= after);
        over.filter(move |attempt| attempt.started >= after)
    }

    /// The failover after a break at `after`. It is `None` while nothing failed, or nothing was
    /// accepted since, or an attempt is in progress that may yet turn out to be the first that
    /// failed.
    pub fn failover_after(&self, after: Instant) -> Option<Failover> {
        let first_failed = self.first_failed_attempt_after(after)?;
        if self.under_way.values().any(|started| (after..first_failed.started).contains(started)) {
            return None;
        }
        let first_accepted = self.first_accepted_after(first_failed.started)?;
        Some(Failover { first_failed: first_failed.clone(), first_accepted: first_accepted.clone() })
    }

    /// Compares the sender's account with what servers have stored.
    pub fn delivery(&self, servers: &[&SmtpServer]) -> Delivery {
        let mut stored: HashMap<String, usize> = HashMap::new();
        let mut delivery = Delivery::default();
        for server in servers {
            let messages = delivery.messages.entry(server.name().to_owned()).or_default();
            for (id, copies) in server.received_by_id().into_iter().filter(|(id, _)| self.is_ours(id)) {
                *stored.entry(id).or_default() += copies;
                *messages += 1;
            }
        }
        delivery.duplicated = stored.values().filter(|copies| **copies > 1).count();
        delivery.extra_copies = stored.values().map(|copies| copies - 1).sum();
        delivery.delivered = stored.len();
        for (message, state) in self.messages.iter().enumerate() {
            let is_stored = stored.contains_key(&self.id(message));
            match state {
                MessageState::Accepted(_) if !is_stored => delivery.vanished.push(self.id(message)),
                MessageState::Lost if is_stored => delivery.lost_but_delivered += 1,
                MessageState::Lost => delivery.lost += 1,
                MessageState::Accepted(_) | MessageState::Outstanding => {}
            }
        }
        delivery
    }

    fn is_ours(&self, id: &str) -> bool {
        id.strip_prefix(&self.run).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// The states of a sender's messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Messages that a server has stored.
    pub delivered: usize,
    /// The number of different messages that a server has stored, by the server's name.
    pub messages: BTreeMap<String, usize>,
    /// Messages stored more than once.
    pub duplicated: usize,
    /// Copies beyond the first.
    pub extra_copies: usize,
    /// Messages that the sender gave up and that no server has.
    pub lost: usize,
    /// Messages that the sender gave up although a server has them.
    pub lost_but_delivered: usize,
    /// The ids of messages that were accepted but that no server has: a server lost them.
    pub vanished: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::sender::Step;

    /// The milliseconds of an attempt's start and end, and true if it was accepted.
    type Times = (u64, u64, bool);

    fn journal(zero: Instant, attempts: &[Times]) -> Journal {
        let mut journal = Journal::new("run".to_owned());
        assert!(attempts.is_sorted_by_key(|(_, finished, _)| finished), "as they are recorded");
        for (started, finished, accepted) in attempts {
            let message = journal.begin().expect("room");
            let outcome = if *accepted {
                Outcome::Accepted { reply: String::new() }
            } else {
                Outcome::Unanswered { step: Step::Banner }
            };
            let [started, finished] = [started, finished].map(|millis| zero + Duration::from_millis(*millis));
            let endpoint = Some(SocketAddr::from(([192, 0, 2, 1], 25)));
            journal.begin_attempt(message, started);
            journal.record(Attempt { message, number: 1, endpoint, started, finished, outcome });
        }
        journal
    }

    #[test]
    fn a_failover_lasts_from_the_first_failed_start_to_the_first_acceptance_after_it() {
        const GOOD: bool = true;
        const BAD: bool = false;
        // The break is at 100.
        let cases: [(&str, &[Times], Option<u64>); 8] = [
            ("nothing failed", &[(101, 102, GOOD)], None),
            ("nothing was accepted since", &[(99, 101, GOOD), (103, 104, BAD)], None),
            ("refused at once", &[(101, 102, BAD), (121, 125, GOOD)], Some(24)),
            ("a slow failure that began first", &[(105, 106, BAD), (101, 301, BAD), (320, 321, GOOD)], Some(220)),
            ("a slow acceptance that began first", &[(101, 102, BAD), (140, 150, GOOD), (110, 190, GOOD)], Some(49)),
            (
                "still on its way at the break, and accepted",
                &[(101, 102, BAD), (99, 104, GOOD), (108, 109, GOOD)],
                Some(8),
            ),
            ("still hanging of an earlier break", &[(50, 150, BAD), (160, 161, BAD), (170, 171, GOOD)], Some(11)),
            ("an earlier break", &[(10, 20, BAD), (30, 40, GOOD), (110, 111, GOOD)], None),
        ];
        let zero = Instant::now();
        for (name, attempts, expected) in cases {
            let took =
                journal(zero, attempts).failover_after(zero + Duration::from_millis(100)).map(|seen| seen.took());
            assert_eq!(took, expected.map(Duration::from_millis), "{name}");
        }
    }

    #[test]
    fn a_failover_is_not_told_before_it_is_known_which_send_failed_first() {
        let zero = Instant::now();
        let mut journal = journal(zero, &[(105, 106, false), (120, 121, true)]);
        let broken = zero + Duration::from_millis(100);
        let slow = journal.begin().expect("room");
        journal.begin_attempt(slow, zero + Duration::from_millis(101));
        let later = journal.begin().expect("room");
        journal.begin_attempt(later, zero + Duration::from_millis(130));
        assert!(journal.failover_after(broken).is_none());
        journal.give_up(slow);
        assert_eq!(journal.failover_after(broken).map(|seen| seen.took()), Some(Duration::from_millis(16)));
    }

    #[test]
    fn a_fate_is_sealed_once() {
        let mut journal = journal(Instant::now(), &[(1, 2, true), (1, 2, false)]);
        journal.give_up_all();
        journal.give_up_all();
        let totals = journal.totals();
        assert_eq!((totals.sent, totals.accepted, totals.lost, totals.outstanding()), (2, 1, 1, 0));
        assert_eq!(journal.lost(), ["run-000001"]);
    }

    #[test]
    fn attempts_are_forgotten_and_messages_are_not() {
        let mut journal = journal(Instant::now(), &[(1, 2, false)]);
        let attempt = journal.attempts[0].clone();
        for number in 2..=u32::try_from(MAX_ATTEMPTS).expect("not that many") + 2 {
            journal.record(Attempt { number, ..attempt.clone() });
        }
        let totals = journal.totals();
        assert_eq!((totals.attempts, totals.forgotten_attempts), (MAX_ATTEMPTS + 2, 2));
        assert_eq!((journal.attempts().count(), journal.attempts[0].number), (MAX_ATTEMPTS, 3));
    }
}
