//! Answers for the MTA: the backend of each message, and its login and TLS. Served from memory; pure.
//!
//! The same recipient gets the same backend in every process that asks: Postfix asks from smtpd and again from qmgr,
//! and the two must agree. When one backend is left, only its mail moves. Both are weighted rendezvous hashing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use mail_failover_contract::routing::{RouteBackend, Routing};

use super::refused::RefusedBackends;
use super::stable_hash::StableHash;

/// Limit of the backends that one attempt tries.
// Each that hangs costs the message its timeout.
const MAX_WAYS: usize = 5;

/// Share of the mail that each backend has by the operator's decision, and the order in which messages try them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Routing that the operator has decided.
    pub routing: Arc<Routing>,
    /// A percentage for each of `routing.backends`, in their order. All are 0 when mail can go nowhere.
    pub percents: Vec<u8>,
    /// True for each backend by which mail may leave: it has a share, or it is a standby.
    pub usable: Vec<bool>,
    /// True for each backend that goes to the end of the lists, because it costs time or keeps failing.
    pub open: Vec<bool>,
    /// True for each backend for which no refused message waits, because it has been open for long and another one works.
    pub lost: Vec<bool>,
    /// True for each backend that has taken as many messages as its limits of a day allow. It is no alternate.
    pub spent: Vec<bool>,
    /// Trials of such backends.
    pub trials: Vec<Arc<Trial>>,
    /// Readings of refusals that single messages have taught.
    pub learnt: Arc<LearntRefusals>,
    /// Backends that a drill leaves out, if one is under way.
    pub refused: Option<Arc<RefusedBackends>>,
}

/// Use that messages make of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendUse {
    /// Messages try it first.
    First,
    /// Messages go there when another backend does not take them.
    SpillOver,
    /// The same, and it has taken as many as its limits of a day allow.
    Spent,
}

/// Permission for one message to try a backend first although that goes to the end of the lists.
#[derive(Debug)]
pub struct Trial {
    /// Name of the backend.
    backend: Arc<str>,
    /// Number of the trial of this backend.
    number: u64,
    /// Hash of the address of the first message that asked.
    taken_by: OnceLock<u64>,
    /// Number of questions that were answered with it.
    asked: AtomicU32,
    /// True once a session with the backend was made for it.
    is_prepared: AtomicBool,
    /// True once a session with the backend was begun while a message had it.
    has_session: AtomicBool,
    /// True once its message is over.
    is_given_back: AtomicBool,
}

/// Limit of the questions about the message of a trial.
// Postfix asks when it takes a message and again when it sends it. A stream to one recipient must not follow.
const QUESTIONS: u32 = 4;

impl Trial {
    /// Creates a trial that no message has taken.
    pub fn new(backend: Arc<str>, number: u64) -> Self {
        Self {
            backend,
            number,
            taken_by: OnceLock::new(),
            asked: AtomicU32::new(0),
            is_prepared: AtomicBool::new(false),
            has_session: AtomicBool::new(false),
            is_given_back: AtomicBool::new(false),
        }
    }

    /// The name of the backend.
    pub fn backend(&self) -> &Arc<str> {
        &self.backend
    }

    /// True if a session with the backend was made, and waits for the message.
    pub fn is_prepared(&self) -> bool {
        self.is_prepared.load(Ordering::Relaxed)
    }

    /// Notes that a session with the backend waits for the message.
    pub fn prepare(&self) {
        self.is_prepared.store(true, Ordering::Relaxed);
    }

    /// Takes the trial for an attempt of this number that is no message. False if somebody else has it.
    pub fn take(&self, attempt: u64) -> bool {
        *self.taken_by.get_or_init(|| attempt) == attempt
    }

    /// True if a message has taken it.
    pub fn is_taken(&self) -> bool {
        self.taken_by.get().is_some()
    }

    /// True if a session with the backend was begun since a message took it: the message may hang there.
    pub fn has_session(&self) -> bool {
        self.has_session.load(Ordering::Relaxed)
    }

    /// True if its message is over, so that no result follows.
    pub fn is_given_back(&self) -> bool {
        self.is_given_back.load(Ordering::Relaxed)
    }

    /// True for the message of this address, if it is the first that asks, or the one that was.
    fn is_for(&self, address: u64) -> bool {
        *self.taken_by.get_or_init(|| address) == address && self.asked.fetch_add(1, Ordering::Relaxed) < QUESTIONS
    }
}

impl PartialEq for Trial {
    fn eq(&self, other: &Self) -> bool {
        (&self.backend, self.number) == (&other.backend, other.number)
    }
}

impl Eq for Trial {}

/// Readings of refusals that single messages have taught. Texts are fingerprints of replies.
// ADR-0074: What a message has met decides how its refusal is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LearntRefusals {
    /// Backends that a message to a recipient passes over, by the hash of the recipient: those that have refused it, while
    /// another one has not, or while one that carries other mail has the last word.
    pub avoided: BTreeMap<u64, BTreeSet<Arc<str>>>,
    /// Refusals, each with its backend, after which that backend has carried other mail.
    pub of_messages: BTreeSet<(Arc<str>, u64)>,
    /// Refusals, each with its backend, that stand: no other usable backend is left for a message that has met them.
    pub settled: BTreeSet<(Arc<str>, u64)>,
}

/// Returns the hash of an address, in any case.
pub fn recipient_hash(address: &str) -> u64 {
    StableHash::default().part(address.to_ascii_lowercase().as_bytes()).finish()
}

impl Answers {
    /// The operator's own shares.
    pub fn as_decided(routing: Arc<Routing>) -> Self {
        let percents = routing.backends.iter().map(|backend| backend.percent).collect();
        let usable = routing.backends.iter().map(|backend| backend.percent > 0 || backend.standby).collect();
        let none = vec![false; routing.backends.len()];
        let (open, lost, spent) = (none.clone(), none.clone(), none);
        Self { routing, percents, usable, open, lost, spent, trials: vec![], learnt: Arc::default(), refused: None }
    }

    /// Returns the backend that a message to this recipient takes: another one than those that have refused it, if one
    /// is usable.
    pub fn backend_for_recipient(&self, recipient: &str) -> Option<&RouteBackend> {
        let Some(avoided) = self.avoided_by(recipient) else { return self.backend_for(recipient, |_| true) };
        let mut others = self.usable_backends().filter(|backend| !avoided.contains(&backend.name)).peekable();
        let any = others.peek().copied();
        self.backend_for(recipient, |backend| !avoided.contains(&backend.name))
            .or_else(|| others.find(|backend| !self.is_refused(&backend.name)))
            .or(any)
            .or_else(|| self.backend_for(recipient, |_| true))
    }

    /// Returns the backends that a message to this recipient tries within one attempt, the first one first. Empty if
    /// none may carry it.
    ///
    /// Nothing is known of the sender, so another backend than the first must fit every sender of the route.
    pub fn ways_for_recipient(&self, recipient: &str) -> Vec<&RouteBackend> {
        let Some(first) = self.backend_for_recipient(recipient) else { return vec![] };
        let avoided = self.avoided_by(recipient);
        let may = |backend: &RouteBackend| {
            self.fits_every_sender(backend) && avoided.is_none_or(|avoided| !avoided.contains(&backend.name))
        };
        self.ways(recipient, first, may)
    }

    /// Returns the backends that a message of this sender tries within one attempt, the first one first. Empty if none
    /// may carry it.
    pub fn ways_for_sender(&self, sender: &str) -> Vec<&RouteBackend> {
        let Some((_, domain)) = sender.rsplit_once('@') else {
            // The null sender of bounces (RFC 5321, 4.5.5) has no domain: backends that may send for any domain go first.
            let first = self.backend_for(sender, sends_for_any).or_else(|| self.backend_for(sender, |_| true));
            return first.map_or_else(Vec::new, |first| self.ways(sender, first, sends_for_any));
        };
        let domain = domain.to_ascii_lowercase();
        let may = |backend: &RouteBackend| sends_for_any(backend) || sends_for(backend, &domain);
        self.backend_for(sender, may).map_or_else(Vec::new, |first| self.ways(sender, first, may))
    }

    /// Adds the alternates that `may` carry a message of this address to its first backend. Backends whose breaker is
    /// open come last, but for the message of a trial.
    // ADR-0115: A message tries the standbys within one attempt.
    fn ways<'a>(
        &'a self,
        address: &str,
        first: &'a RouteBackend,
        may: impl Fn(&RouteBackend) -> bool + Copy,
    ) -> Vec<&'a RouteBackend> {
        // Of a trial no other backend would follow within the attempt.
        let follows = |next: &RouteBackend, tried: &RouteBackend| next.tls.is_implicit() == tried.tls.is_implicit();
        let mut ways = self.ordered(recipient_hash(address), first, may, follows, |_| true);
        // TLS from the first byte is a setting of the transport, and a list has one transport.
        let is_implicit = ways[0].tls.is_implicit();
        ways.retain(|backend| backend.tls.is_implicit() == is_implicit);
        ways.truncate(MAX_WAYS);
        ways
    }

    /// Returns the backends that one message tries if each may be spoken to by a TLS of its own, the first one first.
    /// `message` is a number that no other message has. It takes a trial only once that is prepared.
    // ADR-0158: A trial begins with a session and not with a message.
    pub fn in_order<'a>(
        &'a self,
        message: u64,
        first: &'a RouteBackend,
        may: impl Fn(&RouteBackend) -> bool + Copy,
    ) -> Vec<&'a RouteBackend> {
        let mut ways = self.ordered(message, first, may, |_, _| true, Trial::is_prepared);
        ways.truncate(MAX_WAYS);
        ways
    }

    /// The first backend and the alternates. Those whose breaker is open come last, but for the message of a trial. A
    /// backend on trial without a share comes before one that `follows` it.
    fn ordered<'a>(
        &'a self,
        message: u64,
        first: &'a RouteBackend,
        may: impl Fn(&RouteBackend) -> bool + Copy,
        follows: impl Fn(&RouteBackend, &RouteBackend) -> bool,
        is_ready: fn(&Trial) -> bool,
    ) -> Vec<&'a RouteBackend> {
        let alternates = self.alternates().filter(|backend| backend.name != first.name && may(backend));
        let mut ways: Vec<_> = std::iter::once(first).chain(alternates).collect();
        self.leave_out_refused(&mut ways);
        // ADR-0116: A breaker orders the lists, and the route stays.
        ways.sort_by_key(|backend| self.is_open(backend));
        let mut trials = self.trials.iter().filter(|_| !self.is_refused(&first.name));
        let trial = trials.find(|trial| trial.backend == first.name && is_ready(trial));
        let may = |backend: &RouteBackend| may(backend) && !self.is_refused(&backend.name);
        if ways[0].name != first.name && trial.is_some_and(|trial| trial.is_for(message)) {
            ways.retain(|backend| backend.name != first.name);
            ways.insert(0, first);
        } else if let Some(tried) = self.tried_without_share(message, ways[0], may, follows, is_ready) {
            ways.retain(|backend| backend.name != tried.name);
            ways.insert(0, tried);
        }
        ways
    }

    /// Notes that a session with the backend of this name begins: if a message has its trial, it may be that message's.
    pub fn session_begins(&self, backend: &str) {
        for trial in self.trials.iter().filter(|trial| *trial.backend == *backend && trial.is_taken()) {
            trial.has_session.store(true, Ordering::Relaxed);
        }
    }

    /// Gives back the trials that the message of this number has: it is over.
    // A recipient that was refused, or a message that was not sent after all, says nothing about the backend.
    pub fn message_ended(&self, message: u64) {
        for trial in self.trials.iter().filter(|trial| trial.taken_by.get() == Some(&message)) {
            trial.is_given_back.store(true, Ordering::Relaxed);
        }
    }

    /// Leaves out the backends that a drill refuses, unless no other one is in the list: no message waits for a drill.
    // ADR-0165: A drill leaves its backend out of the lists, and ends by itself.
    fn leave_out_refused(&self, ways: &mut Vec<&RouteBackend>) {
        let Some(refused) = &self.refused else { return };
        let count = ways.len();
        if ways.iter().any(|backend| !refused.contains(&backend.name)) {
            ways.retain(|backend| !refused.contains(&backend.name));
        }
        if ways.len() < count {
            refused.note();
        }
    }

    /// Returns the backends that [`Self::in_order`] would have given this message if no drill refused them. A message that
    /// somebody waits for goes there when every other way has failed.
    pub fn refused_ways<'a>(
        &'a self,
        first: &'a RouteBackend,
        may: impl Fn(&RouteBackend) -> bool,
    ) -> Vec<&'a RouteBackend> {
        let alternates = self.alternates().filter(|backend| backend.name != first.name && may(backend));
        let ways = std::iter::once(first).chain(alternates);
        ways.filter(|backend| self.is_refused(&backend.name)).take(MAX_WAYS).collect()
    }

    /// Returns true if a drill refuses the backend of this name now.
    pub fn is_refused(&self, name: &str) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.contains(name))
    }

    /// Returns the share of each backend when messages try open ones last and refused ones not at all: the backend that
    /// they try first instead has it.
    // Single messages may differ, by their recipients' refusals and their senders' domains.
    pub fn carried(&self) -> Vec<u8> {
        let mut carried = vec![0; self.percents.len()];
        for (at, percent) in self.percents.iter().enumerate() {
            let is_left = self.open[at] || self.is_refused(&self.routing.backends[at].name);
            let first = if is_left { self.instead_of(at).unwrap_or(at) } else { at };
            carried[first] += percent;
        }
        carried
    }

    /// Returns true if messages of the backend at this position try another one first.
    pub fn is_bypassed(&self, at: usize) -> bool {
        self.open[at] && self.percents[at] > 0 && self.instead_of(at).is_some()
    }

    /// Returns true if messages that were sent to the backend at this position try another one first now, with or without
    /// a share of its own: it may have come first while the breaker of another one was open.
    pub fn is_left_for_another(&self, at: usize) -> bool {
        if self.percents[at] > 0 {
            return self.is_bypassed(at);
        }
        let mut others = self.routing.backends.iter().enumerate().filter(|(other, _)| *other != at);
        self.open[at]
            && others.any(|(other, backend)| {
                let takes_messages = self.percents[other] > 0 || self.is_alternate(other);
                takes_messages && !self.open[other] && !self.is_refused(&backend.name)
            })
    }

    /// Returns true if messages go to the backend of this name: it has a share or is an alternate, and is not open.
    pub fn carries_messages(&self, name: &str) -> bool {
        let at = self.routing.backends.iter().position(|backend| *backend.name == *name);
        at.is_some_and(|at| (self.percents[at] > 0 || self.is_alternate(at)) && !self.open[at])
    }

    fn instead_of(&self, at: usize) -> Option<usize> {
        let mut others = self.routing.backends.iter().enumerate().filter(|(other, _)| *other != at);
        let (other, _) = others.find(|(other, backend)| {
            self.is_alternate(*other) && !self.open[*other] && !self.is_refused(&backend.name)
        })?;
        Some(other)
    }

    /// Returns true if messages that another backend does not take may go to the one at this position.
    pub fn is_alternate(&self, at: usize) -> bool {
        self.routing.backends[at].alternate && self.usable[at] && !self.spent[at]
    }

    fn alternates(&self) -> impl Iterator<Item = &RouteBackend> {
        let backends = self.routing.backends.iter().enumerate();
        backends.filter(|(at, _)| self.is_alternate(*at)).map(|(_, backend)| backend)
    }

    /// Returns the use that messages make of the backend of this name.
    pub fn use_of(&self, name: &str) -> BackendUse {
        let at = self.routing.backends.iter().position(|backend| *backend.name == *name);
        match at {
            Some(at) if self.carried()[at] > 0 || self.percents[at] > 0 => BackendUse::First,
            Some(at) if self.spent[at] => BackendUse::Spent,
            Some(_) | None => BackendUse::SpillOver,
        }
    }

    /// Returns a backend without a share that this message tries before `next`, because real mail has condemned it and
    /// the operator wants to know if that is over.
    // ADR-0119: Acquit at the depth of the accusation.
    fn tried_without_share(
        &self,
        message: u64,
        next: &RouteBackend,
        may: impl Fn(&RouteBackend) -> bool,
        follows: impl Fn(&RouteBackend, &RouteBackend) -> bool,
        is_ready: fn(&Trial) -> bool,
    ) -> Option<&RouteBackend> {
        let tried = |trial: &Arc<Trial>| {
            let mut backends = self.routing.backends.iter();
            let backend = backends.find(|backend| backend.trial && backend.name == trial.backend)?;
            let is_followed = backend.name != next.name && follows(next, backend);
            (is_followed && may(backend) && trial.is_for(message)).then_some(backend)
        };
        self.trials.iter().filter(|trial| is_ready(trial)).find_map(tried)
    }

    fn is_open(&self, backend: &RouteBackend) -> bool {
        let at = self.routing.backends.iter().position(|known| known.name == backend.name);
        at.is_some_and(|at| self.open[at])
    }

    fn fits_every_sender(&self, backend: &RouteBackend) -> bool {
        let senders = &self.routing.sender_domains;
        sends_for_any(backend) || (!senders.is_empty() && senders.iter().all(|domain| sends_for(backend, domain)))
    }

    fn avoided_by(&self, recipient: &str) -> Option<&BTreeSet<Arc<str>>> {
        let avoided = &self.learnt.avoided;
        if avoided.is_empty() { None } else { avoided.get(&recipient_hash(recipient)) }
    }

    /// Returns the backends by which mail may leave, in order of preference.
    pub fn usable_backends(&self) -> impl Iterator<Item = &RouteBackend> {
        let backends = self.routing.backends.iter().zip(&self.usable);
        backends.filter(|(_, usable)| **usable).map(|(backend, _)| backend)
    }

    /// Returns true if a message that another backend refuses may wait for the one at this position: mail may leave by
    /// it, it is not lost, and it may take more of this day. A drill is no reason against it: the backend works, and the
    /// drill ends.
    // ADR-0075: What waits without another backend.
    pub fn is_waited_for(&self, at: usize) -> bool {
        self.usable[at] && !self.lost[at] && (self.percents[at] > 0 || !self.spent[at])
    }

    /// Returns the backends that [messages may wait for](Self::is_waited_for), in order of preference.
    pub fn awaited_backends(&self) -> impl Iterator<Item = &RouteBackend> {
        let backends = self.routing.backends.iter().enumerate();
        backends.filter(|(at, _)| self.is_waited_for(*at)).map(|(_, backend)| backend)
    }

    /// Returns the backend that a message takes, among those that `may` carry it. The key is the address of its
    /// recipient or sender, in any case.
    pub fn backend_for(&self, key: &str, may: impl Fn(&RouteBackend) -> bool) -> Option<&RouteBackend> {
        let candidates = self.routing.backends.iter().zip(&self.percents);
        let mut candidates = candidates.filter(|(backend, percent)| **percent > 0 && may(backend)).peekable();
        let first = candidates.next()?;
        if candidates.peek().is_none() {
            return Some(first.0);
        }
        let key = key.to_ascii_lowercase();
        let (mut best, mut lowest) = (first.0, cost(&first.0.name, &key, *first.1));
        for (backend, percent) in candidates {
            let cost = cost(&backend.name, &key, *percent);
            if cost < lowest {
                (best, lowest) = (backend, cost);
            }
        }
        Some(best)
    }
}

/// True if the backend may send for any domain.
pub fn sends_for_any(backend: &RouteBackend) -> bool {
    backend.sender_domains.is_empty()
}

/// True if the backend may send for this domain, in lower case.
pub fn sends_for(backend: &RouteBackend, domain: &str) -> bool {
    backend.sender_domains.iter().any(|allowed| **allowed == *domain)
}

/// Returns the cost of a backend for a key: −ln(u)/weight for a `u` in (0, 1) that depends on backend and key only. The
/// backend with the lowest cost is taken (weighted rendezvous hashing).
#[expect(clippy::cast_precision_loss, reason = "53 bits of a hash are as good as 64")]
fn cost(backend: &str, key: &str, percent: u8) -> f64 {
    let hash = StableHash::default().part(backend.as_bytes()).part(key.as_bytes()).finish();
    let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -unit.ln() / f64::from(percent)
}

#[cfg(test)]
#[path = "answers_tests.rs"]
mod tests;
