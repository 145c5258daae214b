//! Extensions of each backend's server as last seen, and those that EHLO may offer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mail_failover_dataplane::answers::Answers;

use crate::core::capabilities::Capabilities;

/// Sight of one backend's server.
#[derive(Clone, Copy, Debug, Default)]
struct Sight {
    capabilities: Option<Capabilities>,
    /// True if the latest connection has failed.
    is_failing: bool,
}

/// Extensions by backend. There are as many entries as backends in the document.
#[derive(Debug, Default)]
pub struct Learnt(Mutex<BTreeMap<Arc<str>, Sight>>);

impl Learnt {
    /// Notes the extensions of a server that was reached.
    pub fn seen(&self, backend: &Arc<str>, capabilities: Capabilities) {
        self.lock().insert(backend.clone(), Sight { capabilities: Some(capabilities), is_failing: false });
    }

    /// Notes that a server was not reached.
    pub fn failed(&self, backend: &Arc<str>) {
        self.lock().entry(backend.clone()).or_default().is_failing = true;
    }

    /// True if the server's extensions are not known.
    pub fn is_unknown(&self, backend: &str) -> bool {
        self.lock().get(backend).is_none_or(|sight| sight.capabilities.is_none())
    }

    /// Forgets backends that are gone.
    pub fn keep_those_of(&self, answers: &Answers) {
        self.lock().retain(|name, _| answers.routing.backends.iter().any(|backend| backend.name == *name));
    }

    /// The extensions that all backends have to which messages go now. One that was never seen counts as one without
    /// any, unless it cannot be reached.
    pub fn common(&self, answers: &Answers) -> Capabilities {
        let learnt = self.lock();
        let mut seen = vec![];
        for backend in &answers.routing.backends {
            if !answers.carries_messages(&backend.name) {
                continue;
            }
            match learnt.get(&backend.name).copied().unwrap_or_default() {
                Sight { capabilities: Some(capabilities), .. } => seen.push(capabilities),
                Sight { capabilities: None, is_failing: true } => {}
                Sight { capabilities: None, is_failing: false } => seen.push(Capabilities::default()),
            }
        }
        Capabilities::common(seen)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Sight>> {
        // Entries are replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mail_failover_contract::routing::parse;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_every_backend_was_seen_to_have_is_offered() {
        let backend = |name, percent| json!({"name": name, "percent": percent, "standby": true, "alternate": true, "host": format!("{name}.example"), "port": 25, "tls": {"mode": "None"}});
        let document = json!({
            "apiVersion": "agent.mailfailover.io/v1alpha1", "route": {"namespace": "shop", "name": "orders", "uid": "u"},
            "decision": {"transition": 1}, "backends": [backend("a", 100), backend("b", 0)],
        });
        let mut answers = Answers::as_decided(Arc::new(parse(&document.to_string()).unwrap()));
        let (learnt, eight_bit) = (Learnt::default(), Capabilities { eight_bit: true, ..Capabilities::default() });
        let offered = |learnt: &Learnt, answers: &Answers| learnt.common(answers).eight_bit;
        assert!(!offered(&learnt, &answers));
        learnt.seen(&"a".into(), eight_bit);
        assert!(!offered(&learnt, &answers), "b was never seen");
        learnt.failed(&"b".into());
        assert!(offered(&learnt, &answers), "b cannot be reached");
        learnt.seen(&"b".into(), Capabilities::default());
        assert!(!offered(&learnt, &answers));
        answers.open[1] = true;
        assert!(offered(&learnt, &answers), "its breaker is open");
        learnt.failed(&"a".into());
        assert!(offered(&learnt, &answers), "what was seen once stays");
    }
}
