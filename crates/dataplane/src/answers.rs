//! Answers for the MTA: the backend of each message, and its login and TLS. Served from memory; pure.
//!
//! The same recipient gets the same backend in every process that asks: Postfix asks from smtpd and again from qmgr,
//! and the two must agree. When one backend is left, only its mail moves. Both are weighted rendezvous hashing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use mail_failover_contract::routing::{RouteBackend, Routing};

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
    /// True for each backend that has taken as many messages as its limits of a day allow. It is no alternate.
    pub spent: Vec<bool>,
    /// Trials of such backends.
    pub trials: Vec<Arc<Trial>>,
    /// Readings of refusals that single messages have taught.
    pub learnt: Arc<LearntRefusals>,
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
    /// Backends that have refused a message to a recipient and carry other mail, by the hash of the recipient.
    pub avoided: BTreeMap<u64, BTreeSet<Arc<str>>>,
    /// Refusals, each with its backend, after which that backend has carried other mail.
    pub of_messages: BTreeSet<(Arc<str>, u64)>,
    /// Those of them that no other usable backend is left for.
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
        let (open, spent) = (vec![false; routing.backends.len()], vec![false; routing.backends.len()]);
        Self { routing, percents, usable, open, spent, trials: vec![], learnt: Arc::default() }
    }

    /// Returns the backend that a message to this recipient takes: another one than those that have refused it, if one
    /// is usable.
    pub fn backend_for_recipient(&self, recipient: &str) -> Option<&RouteBackend> {
        let Some(avoided) = self.avoided_by(recipient) else { return self.backend_for(recipient, |_| true) };
        self.backend_for(recipient, |backend| !avoided.contains(&backend.name))
            .or_else(|| self.usable_backends().find(|backend| !avoided.contains(&backend.name)))
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
        // ADR-0116: A breaker orders the lists, and the route stays.
        ways.sort_by_key(|backend| self.is_open(backend));
        let trial = self.trials.iter().find(|trial| trial.backend == first.name && is_ready(trial));
        if ways[0].name != first.name && trial.is_some_and(|trial| trial.is_for(message)) {
            ways.retain(|backend| backend.name != first.name);
            ways.insert(0, first);
        } else if let Some(tried) = self.tried_without_share(message, ways[0], may, follows, is_ready) {
            ways.retain(|backend| backend.name != tried.name);
            ways.insert(0, tried);
        }
        ways
    }

    /// Returns the share of each backend when messages try open ones last: the backend that they try first instead has
    /// it.
    // Single messages may differ, by their recipients' refusals and their senders' domains.
    pub fn carried(&self) -> Vec<u8> {
        let mut carried = vec![0; self.percents.len()];
        for (at, percent) in self.percents.iter().enumerate() {
            let first = if self.open[at] { self.instead_of(at).unwrap_or(at) } else { at };
            carried[first] += percent;
        }
        carried
    }

    /// Returns true if messages of the backend at this position try another one first.
    pub fn is_bypassed(&self, at: usize) -> bool {
        self.open[at] && self.percents[at] > 0 && self.instead_of(at).is_some()
    }

    /// Returns true if messages go to the backend of this name: it has a share or is an alternate, and is not open.
    pub fn carries_messages(&self, name: &str) -> bool {
        let at = self.routing.backends.iter().position(|backend| *backend.name == *name);
        at.is_some_and(|at| (self.percents[at] > 0 || self.is_alternate(at)) && !self.open[at])
    }

    fn instead_of(&self, at: usize) -> Option<usize> {
        let mut backends = self.routing.backends.iter().enumerate();
        backends.find(|(other, _)| *other != at && self.is_alternate(*other) && !self.open[*other]).map(|(at, _)| at)
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
mod tests {
    use super::*;
    use mail_failover_contract::routing::parse;

    /// Backends `a`, `b`, … with these shares.
    fn answers(percents: &[u8]) -> Answers {
        let backend = |(name, percent)| serde_json::json!({"name": name, "percent": percent, "standby": true, "host": format!("{name}.example"), "port": 25, "tls": {"mode": "None"}});
        let backends: Vec<_> = ["a", "b", "c"].into_iter().zip(percents).map(backend).collect();
        let document = serde_json::json!({
            "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
            "decision": {"transition": 1}, "backends": backends,
            "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
        });
        Answers::as_decided(Arc::new(parse(&document.to_string()).unwrap()))
    }

    fn choices(answers: &Answers) -> Vec<Arc<str>> {
        let choose = |number| answers.backend_for(&format!("user{number}@example.net"), |_| true).unwrap().name.clone();
        (0..10_000).map(choose).collect()
    }

    #[test]
    fn each_backend_gets_its_share_of_the_recipients() {
        for percents in [[100, 0, 0], [50, 50, 0], [10, 20, 70], [1, 0, 99]] {
            let chosen = choices(&answers(&percents));
            for (name, percent) in ["a", "b", "c"].into_iter().zip(percents) {
                let count = chosen.iter().filter(|chosen| ***chosen == *name).count();
                let expected = usize::from(percent) * 100;
                assert!(count.abs_diff(expected) <= 150, "{name} of {percents:?}: {count}, expected {expected}");
            }
        }
    }

    #[test]
    fn when_a_backend_is_left_only_its_mail_moves() {
        let before = choices(&answers(&[40, 40, 20]));
        let after = choices(&answers(&[50, 50, 0]));
        assert!(before.iter().zip(&after).all(|(before, after)| **before == *"c" || before == after));
    }

    #[test]
    fn the_case_of_an_address_does_not_matter() {
        let answers = answers(&[50, 50, 0]);
        for number in 0..100 {
            let (lower, upper) = (format!("user{number}@example.net"), format!("USER{number}@Example.NET"));
            assert_eq!(answers.backend_for(&lower, |_| true), answers.backend_for(&upper, |_| true));
        }
    }

    #[test]
    fn a_backend_that_may_not_is_passed_over() {
        let answers = answers(&[50, 50, 0]);
        assert_eq!(&*answers.backend_for("x@example.net", |backend| *backend.name != *"a").unwrap().name, "b");
        assert_eq!(answers.backend_for("x@example.net", |_| false), None);
    }

    /// Answers of three backends, of which some have refused a message to Ann.
    fn avoiding(usable: [bool; 3], refused: &[&str]) -> Answers {
        let names = refused.iter().map(|name| Arc::from(*name)).collect();
        let avoided = [(recipient_hash("ann@example.net"), names)].into();
        let learnt = Arc::new(LearntRefusals { avoided, ..LearntRefusals::default() });
        Answers { usable: usable.to_vec(), learnt, ..answers(&[100, 0, 0]) }
    }

    /// A routing of backends with these fields beside the usual ones, for these senders.
    fn with_alternates(backends: &[serde_json::Value], senders: &[&str]) -> Answers {
        let mut all = vec![];
        for (number, fields) in backends.iter().enumerate() {
            let name = format!("b{number}");
            let mut backend = serde_json::json!({"name": name, "percent": 0, "standby": true, "alternate": true, "host": format!("{name}.example"), "port": 25, "tls": {"mode": "None"}});
            backend.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            all.push(backend);
        }
        let document = serde_json::json!({
            "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
            "decision": {"transition": 1}, "backends": all, "senderDomains": senders,
            "deliveries": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000},
        });
        Answers::as_decided(Arc::new(parse(&document.to_string()).unwrap()))
    }

    fn names(ways: &[&RouteBackend]) -> Vec<String> {
        ways.iter().map(|backend| backend.name.to_string()).collect()
    }

    #[test]
    fn the_decided_backend_comes_first_and_then_the_standbys_that_may_carry_each_message() {
        let json = |text: &str| serde_json::from_str(text).unwrap();
        let answers = with_alternates(
            &[
                json("{}"),
                json(r#"{"percent": 100, "alternate": false}"#),
                json(r#"{"alternate": false}"#),
                json(r#"{"standby": false}"#),
                json("{}"),
            ],
            &[],
        );
        assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b1", "b0", "b4"]);
        assert_eq!(names(&answers.ways_for_sender("app@shop.example")), ["b1", "b0", "b4"]);
        let left = Answers { usable: vec![false, true, true, false, true], ..answers };
        assert_eq!(names(&left.ways_for_recipient("x@example.net")), ["b1", "b4"]);
    }

    #[test]
    fn each_share_begins_with_its_own_backend() {
        let half = serde_json::json!({"percent": 50});
        let answers = with_alternates(&[half.clone(), half, serde_json::json!({})], &[]);
        let mut firsts = BTreeSet::new();
        for number in 0..100 {
            let recipient = format!("user{number}@example.net");
            let ways = names(&answers.ways_for_recipient(&recipient));
            assert_eq!(ways[0], *answers.backend_for_recipient(&recipient).unwrap().name);
            assert_eq!((ways.len(), &*ways[2]), (3, "b2"));
            firsts.insert(ways[0].clone());
        }
        assert_eq!(firsts.len(), 2);
    }

    #[test]
    fn an_alternate_fits_every_sender_of_the_route_or_the_sender_of_the_message() {
        let restricted = serde_json::json!({"senderDomains": ["shop.example", "news.example"]});
        let only_shop = serde_json::json!({"senderDomains": ["shop.example"]});
        let first = serde_json::json!({"percent": 100});
        let backends = [first, restricted, only_shop];
        for (senders, by_recipient) in [
            (&[][..], &["b0"][..]),
            (&["shop.example", "news.example"], &["b0", "b1"]),
            (&["shop.example"], &["b0", "b1", "b2"]),
        ] {
            let answers = with_alternates(&backends, senders);
            assert_eq!(names(&answers.ways_for_recipient("x@example.net")), by_recipient, "{senders:?}");
        }
        let answers = with_alternates(&backends, &[]);
        assert_eq!(names(&answers.ways_for_sender("a@Shop.example")), ["b0", "b1", "b2"]);
        assert_eq!(names(&answers.ways_for_sender("a@news.example")), ["b0", "b1"]);
        assert_eq!(names(&answers.ways_for_sender("<>")), ["b0"]);
    }

    #[test]
    fn backends_with_tls_from_the_first_byte_share_no_list_with_others() {
        let implicit = serde_json::json!({"tls": {"mode": "Implicit"}});
        let start_tls = serde_json::json!({"percent": 100, "tls": {"mode": "StartTLS"}});
        let answers = with_alternates(&[implicit.clone(), start_tls, serde_json::json!({}), implicit], &[]);
        assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b1", "b2"]);
        let moved = Answers { percents: vec![100, 0, 0, 0], ..answers };
        assert_eq!(names(&moved.ways_for_recipient("x@example.net")), ["b0", "b3"]);
    }

    #[test]
    fn a_backend_whose_breaker_is_open_comes_last_and_one_message_at_a_time_tries_it_first() {
        let decided = serde_json::json!({"percent": 100});
        let answers = with_alternates(&[decided, serde_json::json!({}), serde_json::json!({})], &[]);
        let open = Answers { open: vec![true, false, false], ..answers };
        assert_eq!(names(&open.ways_for_recipient("x@example.net")), ["b1", "b2", "b0"]);
        let tried = Answers { trials: vec![Arc::new(Trial::new("b0".into(), 1))], ..open.clone() };
        assert_eq!(names(&tried.ways_for_recipient("x@example.net")), ["b0", "b1", "b2"]);
        assert_eq!(names(&tried.ways_for_recipient("y@example.net")), ["b1", "b2", "b0"], "one at a time");
        for _ in 1..QUESTIONS {
            assert_eq!(names(&tried.ways_for_recipient("X@example.net")), ["b0", "b1", "b2"], "the same message");
        }
        assert_eq!(names(&tried.ways_for_recipient("x@example.net")), ["b1", "b2", "b0"], "a stream does not follow");
        let all = Answers { open: vec![true; 3], ..open };
        assert_eq!(names(&all.ways_for_recipient("x@example.net")), ["b0", "b1", "b2"]);
    }

    #[test]
    fn one_message_tries_what_real_mail_has_condemned_and_the_next_backend_follows() {
        let condemned = serde_json::json!({"alternate": false, "standby": false, "trial": true});
        let decided = serde_json::json!({"percent": 100});
        let trials = vec![Arc::new(Trial::new("b0".into(), 1))];
        let answers = with_alternates(&[condemned.clone(), decided.clone(), serde_json::json!({})], &[]);
        let tried = Answers { trials: trials.clone(), ..answers };
        assert_eq!(names(&tried.ways_for_recipient("x@example.net")), ["b0", "b1", "b2"]);
        assert_eq!(names(&tried.ways_for_recipient("y@example.net")), ["b1", "b2"], "one at a time");
        // One that no other backend could follow in the same list is not tried.
        let implicit = serde_json::json!({"percent": 100, "tls": {"mode": "Implicit"}});
        let apart = Answers { trials: trials.clone(), ..with_alternates(&[condemned, implicit], &[]) };
        assert_eq!(names(&apart.ways_for_recipient("x@example.net")), ["b1"]);
        let unmarked = serde_json::json!({"alternate": false, "standby": false});
        let answers = Answers { trials, ..with_alternates(&[unmarked, decided], &[]) };
        assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b1"], "the operator does not want it");
    }

    #[test]
    fn a_backend_that_is_set_apart_by_its_tls_takes_over_from_an_open_one() {
        let decided = serde_json::json!({"percent": 100, "tls": {"mode": "StartTLS"}});
        let implicit = serde_json::json!({"tls": {"mode": "Implicit"}});
        let answers = with_alternates(&[decided, implicit], &[]);
        assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b0"]);
        let open = Answers { open: vec![true, false], ..answers };
        assert_eq!(names(&open.ways_for_recipient("x@example.net")), ["b1"]);
    }

    #[test]
    fn one_attempt_tries_a_bounded_number_of_backends() {
        let mut backends = vec![serde_json::json!({}); 20];
        backends[7] = serde_json::json!({"percent": 100});
        let answers = with_alternates(&backends, &[]);
        assert_eq!(names(&answers.ways_for_recipient("x@example.net")), ["b7", "b0", "b1", "b2", "b3"]);
    }

    #[test]
    fn a_backend_that_has_taken_its_messages_of_the_day_is_no_alternate() {
        let answers = with_alternates(&[serde_json::json!({"percent": 100}), serde_json::json!({})], &[]);
        assert_eq!((answers.use_of("b0"), answers.use_of("b1")), (BackendUse::First, BackendUse::SpillOver));
        let spent = Answers { spent: vec![true, true], ..answers };
        assert_eq!(names(&spent.ways_for_recipient("x@example.net")), ["b0"], "where the route leads is no alternate");
        assert_eq!((spent.use_of("b0"), spent.use_of("b1")), (BackendUse::First, BackendUse::Spent));
        let open = Answers { open: vec![true, false], ..spent.clone() };
        assert_eq!((open.carried(), open.is_bypassed(0)), (vec![100, 0], false), "it does not take over");
        let open = Answers { spent: vec![false, false], ..open };
        assert_eq!(open.use_of("b1"), BackendUse::First, "it takes over");
    }

    #[test]
    fn a_backend_that_has_refused_the_message_is_no_alternate_for_it() {
        let answers = with_alternates(&[serde_json::json!({"percent": 100}), serde_json::json!({})], &[]);
        let avoided = [(recipient_hash("ann@example.net"), ["b0".into()].into())].into();
        let learnt = Arc::new(LearntRefusals { avoided, ..LearntRefusals::default() });
        let answers = Answers { learnt, ..answers };
        assert_eq!(names(&answers.ways_for_recipient("ann@example.net")), ["b1"]);
        assert_eq!(names(&answers.ways_for_recipient("bob@example.net")), ["b0", "b1"]);
    }

    #[test]
    fn a_recipient_goes_where_it_was_not_refused_while_such_a_place_is_usable() {
        let chosen = |answers: &Answers, recipient| answers.backend_for_recipient(recipient).unwrap().name.to_string();
        assert_eq!(chosen(&avoiding([true; 3], &["a"]), "Ann@example.net"), "b");
        assert_eq!(chosen(&avoiding([true; 3], &["a"]), "bob@example.net"), "a");
        assert_eq!(chosen(&avoiding([true; 3], &["a", "b"]), "ann@example.net"), "c");
        assert_eq!(chosen(&avoiding([true, false, true], &["a"]), "ann@example.net"), "c");
        assert_eq!(chosen(&avoiding([true, false, false], &["a"]), "ann@example.net"), "a", "there is nowhere else");
    }
}
