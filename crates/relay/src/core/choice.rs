//! Choice of the backends that one message tries, from the answers in force.
//!
//! Shares are exact: of a hundred messages in a row each backend gets as many as its percentage, spread evenly (smooth
//! weighted round-robin, as nginx and HAProxy do it). A relay knows the sender of each message, so it need not keep
//! mail of one recipient together as Postfix's questions do.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail_failover_contract::routing::RouteBackend;
use mail_failover_dataplane::answers::{Answers, sends_for, sends_for_any};

use super::transaction::Way;

/// Smooth weighted round-robin over backends by their names.
#[derive(Clone, Debug, Default)]
pub struct Rotation(BTreeMap<Arc<str>, i64>);

impl Rotation {
    /// The next of these backends with their weights. `None` if there is none.
    pub fn next<'a>(&mut self, candidates: &[(&'a RouteBackend, u8)]) -> Option<&'a RouteBackend> {
        let total: i64 = candidates.iter().map(|(_, weight)| i64::from(*weight)).sum();
        let mut best: Option<(&RouteBackend, i64)> = None;
        for (backend, weight) in candidates {
            let credit = self.0.entry(backend.name.clone()).or_default();
            *credit += i64::from(*weight);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((backend, *credit));
            }
        }
        let (backend, _) = best?;
        if let Some(credit) = self.0.get_mut(&backend.name) {
            *credit -= total;
        }
        Some(backend)
    }

    /// Forgets backends that are gone.
    pub fn keep_those_of(&mut self, backends: &[RouteBackend]) {
        self.0.retain(|name, _| backends.iter().any(|backend| backend.name == *name));
    }
}

/// The ways of a message from a sender of this domain, `None` for the null sender; the first one first. Empty if none may
/// carry it. `message` is a number that no other message has.
pub fn ways(answers: &Answers, rotation: &mut Rotation, domain: Option<&str>, message: u64) -> Vec<Way> {
    if answers.routing.is_withdrawn {
        return vec![];
    }
    let with_share = answers.routing.backends.iter().zip(answers.percents.iter().copied());
    let with_share: Vec<_> = with_share.filter(|(_, percent)| *percent > 0).collect();
    let mut fitting: Vec<_> = with_share.iter().filter(|(backend, _)| may_send(backend, domain)).copied().collect();
    if fitting.is_empty() && domain.is_none() {
        // The null sender of bounces has no domain (RFC 5321 §4.5.5): better by any backend than by none.
        fitting = with_share;
    }
    let Some(first) = rotation.next(&fitting) else { return vec![] };
    let in_order = answers.in_order(message, first, |backend| may_send(backend, domain));
    let mut ways: Vec<_> = in_order.iter().map(|backend| way(backend, false)).collect();
    // Where the operator would send mail now, a message that was refused may go, too.
    let (refused, others): (Vec<_>, Vec<_>) = answers
        .usable_backends()
        .filter(|backend| may_send(backend, domain))
        .partition(|backend| answers.is_refused(&backend.name));
    add(&mut ways, &others, true);
    // No message is lost or waits for a drill: what it refuses takes what nobody else does.
    // ADR-0165: A drill leaves its backend out of the lists, and ends by itself.
    add(&mut ways, &answers.refused_ways(first, |backend| may_send(backend, domain)), false);
    add(&mut ways, &refused, true);
    ways
}

/// Names of the backends that may send for this domain and have no share of the mail now.
pub fn without_share(answers: &Answers, domain: &str) -> Vec<String> {
    let with_percent = answers.routing.backends.iter().zip(&answers.percents);
    let without = with_percent.filter(|(backend, percent)| **percent == 0 && may_send(backend, Some(domain)));
    without.map(|(backend, _)| backend.name.to_string()).collect()
}

/// Adds those of the backends that are no way yet.
fn add(ways: &mut Vec<Way>, backends: &[&RouteBackend], after_refusal: bool) {
    for backend in backends {
        if ways.iter().all(|known| known.backend != backend.name) {
            ways.push(way(backend, after_refusal));
        }
    }
}

fn may_send(backend: &RouteBackend, domain: Option<&str>) -> bool {
    sends_for_any(backend) || domain.is_some_and(|domain| sends_for(backend, domain))
}

fn way(backend: &RouteBackend, after_refusal: bool) -> Way {
    Way { backend: backend.name.clone(), rulebook: backend.rulebook.clone(), after_refusal }
}

#[cfg(test)]
mod tests {
    use mail_failover_contract::routing::parse;
    use mail_failover_dataplane::refused::RefusedBackends;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn backend(name: &str, percent: u8, more: &Value) -> Value {
        let mut backend = json!({"name": name, "percent": percent, "standby": true, "alternate": true, "host": format!("{name}.example"), "port": 25, "tls": {"mode": "None"}});
        backend.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        backend
    }

    fn answers(backends: &[Value], more: &Value) -> Answers {
        let mut document = json!({
            "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
            "decision": {"transition": 1}, "backends": backends,
        });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Answers::as_decided(Arc::new(parse(&document.to_string()).unwrap()))
    }

    fn names(answers: &Answers, rotation: &mut Rotation, domain: Option<&str>) -> Vec<String> {
        let ways = ways(answers, rotation, domain, 1);
        let mark = |way: &Way| if way.after_refusal { format!("({})", way.backend) } else { way.backend.to_string() };
        ways.iter().map(mark).collect()
    }

    #[test]
    fn the_first_way_has_a_share_and_alternates_follow_and_open_breakers_come_last() {
        let none = json!({});
        let not_alternate = json!({"alternate": false});
        let implicit = json!({"tls": {"mode": "Implicit"}});
        let no_standby = json!({"standby": false, "alternate": false});
        let backends = [
            backend("a", 100, &none),
            backend("b", 0, &implicit),
            backend("c", 0, &not_alternate),
            backend("d", 0, &no_standby),
        ];
        let mut answers = answers(&backends, &none);
        // Unlike Postfix's list, it may mix implicit TLS with the rest.
        assert_eq!(names(&answers, &mut Rotation::default(), Some("x.example")), ["a", "b", "(c)"]);
        answers.open[0] = true;
        assert_eq!(names(&answers, &mut Rotation::default(), Some("x.example")), ["b", "a", "(c)"]);
    }

    #[test]
    fn a_backend_carries_only_senders_of_its_domains() {
        let shop = json!({"senderDomains": ["shop.example"]});
        let answers = answers(&[backend("a", 50, &shop), backend("b", 50, &json!({}))], &json!({}));
        let mut rotation = Rotation::default();
        for _ in 0..4 {
            assert_eq!(names(&answers, &mut rotation, Some("other.example")), ["b"]);
        }
        assert_eq!(names(&answers, &mut rotation, None), ["b"]);
        let answers = self::answers(&[backend("a", 100, &shop)], &json!({}));
        assert_eq!(names(&answers, &mut rotation, Some("other.example")), Vec::<String>::new());
        assert_eq!(names(&answers, &mut rotation, None), ["a"]);
    }

    #[test]
    fn a_backend_without_a_share_that_could_send_for_a_domain_is_named() {
        let (x, y) = (json!({"senderDomains": ["x.example"]}), json!({"senderDomains": ["y.example"]}));
        let answers = answers(&[backend("a", 100, &x), backend("b", 0, &y)], &json!({}));
        assert_eq!(names(&answers, &mut Rotation::default(), Some("y.example")), Vec::<String>::new());
        assert_eq!(without_share(&answers, "y.example"), ["b"]);
        assert_eq!(without_share(&answers, "z.example"), Vec::<String>::new());
    }

    #[test]
    fn what_a_drill_refuses_takes_what_nobody_else_does() {
        let none = json!({});
        let not_alternate = json!({"alternate": false});
        let backends = [backend("a", 100, &none), backend("b", 0, &none), backend("c", 0, &not_alternate)];
        let mut answers = answers(&backends, &none);
        answers.refused = Some(Arc::new(RefusedBackends::new("d1".into(), vec!["a".into()])));
        assert_eq!(names(&answers, &mut Rotation::default(), Some("x.example")), ["b", "(c)", "a"]);
        answers.refused = Some(Arc::new(RefusedBackends::new("d1".into(), vec!["a".into(), "c".into()])));
        assert_eq!(names(&answers, &mut Rotation::default(), Some("x.example")), ["b", "a", "(c)"]);
        // Nobody else may send for this domain.
        let shop = json!({"senderDomains": ["shop.example"]});
        let mut answers = self::answers(&[backend("a", 100, &none), backend("b", 0, &shop)], &none);
        answers.refused = Some(Arc::new(RefusedBackends::new("d1".into(), vec!["a".into()])));
        assert_eq!(names(&answers, &mut Rotation::default(), Some("x.example")), ["a"]);
        assert_eq!(names(&answers, &mut Rotation::default(), Some("shop.example")), ["b", "a"]);
    }

    #[test]
    fn nobody_carries_the_mail_of_a_withdrawn_route() {
        let answers = answers(&[backend("withdrawn", 100, &json!({}))], &json!({"withdrawn": true}));
        assert_eq!(names(&answers, &mut Rotation::default(), None), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn of_a_hundred_messages_each_backend_gets_exactly_its_share(a in 0..=100_u8, b in 0..=100_u8) {
            prop_assume!(a + b <= 100);
            let shares = [a, b, 100 - a - b];
            let backends: Vec<_> = ["a", "b", "c"].iter().zip(shares).map(|(name, percent)| backend(name, percent, &json!({}))).collect();
            let answers = answers(&backends, &json!({}));
            let mut rotation = Rotation::default();
            let mut counts = BTreeMap::new();
            for message in 1..=100_u32 {
                let first = ways(&answers, &mut rotation, Some("x.example"), 1)[0].backend.clone();
                *counts.entry(first).or_insert(0_u32) += 1;
                // And never far from it on the way there.
                for (name, percent) in ["a", "b", "c"].iter().zip(shares) {
                    let due = message * u32::from(percent) / 100;
                    let count = counts.get(*name).copied().unwrap_or(0);
                    prop_assert!(count.abs_diff(due) <= 2, "{name} of {shares:?} after {message}: {count}, due {due}");
                }
            }
            for (name, percent) in ["a", "b", "c"].iter().zip(shares) {
                prop_assert_eq!(counts.get(*name).copied().unwrap_or(0), u32::from(percent));
            }
        }
    }
}
