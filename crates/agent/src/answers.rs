//! Answers for the MTA: the backend of each message, and its login and TLS. Served from memory; pure.
//!
//! The same recipient gets the same backend in every process that asks: Postfix asks from smtpd and again from qmgr,
//! and the two must agree. When one backend is left, only its mail moves. Both are weighted rendezvous hashing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mail_failover_contract::routing::{RouteBackend, Routing};

use super::stable_hash::StableHash;

/// Share of the mail that each backend carries now: the operator's decision, corrected by the agent's own ejections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Routing that the operator has decided.
    pub routing: Arc<Routing>,
    /// A percentage for each of `routing.backends`, in their order. All are 0 when mail can go nowhere.
    pub percents: Vec<u8>,
    /// True for each backend by which mail may leave: it has a share, or it is a standby that the agent has not left.
    pub usable: Vec<bool>,
    /// Readings of refusals that single messages have taught.
    pub learnt: Arc<LearntRefusals>,
}

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

/// Returns the hash of a recipient's address, in any case.
pub fn recipient_hash(address: &str) -> u64 {
    StableHash::default().part(address.to_ascii_lowercase().as_bytes()).finish()
}

impl Answers {
    /// The operator's own shares.
    pub fn as_decided(routing: Arc<Routing>) -> Self {
        let percents = routing.backends.iter().map(|backend| backend.percent).collect();
        let usable = routing.backends.iter().map(|backend| backend.percent > 0 || backend.standby).collect();
        Self { routing, percents, usable, learnt: Arc::default() }
    }

    /// Returns the backend that a message to this recipient takes: another one than those that have refused it, if one
    /// is usable.
    pub fn backend_for_recipient(&self, recipient: &str) -> Option<&RouteBackend> {
        let avoided = (!self.learnt.avoided.is_empty()).then(|| self.learnt.avoided.get(&recipient_hash(recipient)));
        let Some(Some(avoided)) = avoided else { return self.backend_for(recipient, |_| true) };
        self.backend_for(recipient, |backend| !avoided.contains(&backend.name))
            .or_else(|| self.usable_backends().find(|backend| !avoided.contains(&backend.name)))
            .or_else(|| self.backend_for(recipient, |_| true))
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
            "reflex": {"consecutive": 3, "lastingMilliseconds": 0, "cooldownMilliseconds": 1000, "switches": 6, "perMilliseconds": 3_600_000},
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
