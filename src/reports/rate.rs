//! How often one agent may report. No I/O; time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use mail_failover_core::model::Agent;

/// So many reports at once, as when several words turn in a row …
const BURST: f64 = 40.0;
/// … and so many a second in the long run; a heartbeat comes every ten.
const PER_SECOND: f64 = 10.0;
/// After so long without a report an agent may have its whole burst again: nothing need be remembered of it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// More agents are not remembered; who is new has to wait until one is forgotten.
const MAX_AGENTS: usize = 10_000;

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// A token bucket for each agent.
#[derive(Debug, Default)]
pub(super) struct Rate(BTreeMap<Agent, Bucket>);

impl Rate {
    /// Whether this agent may report now.
    pub(super) fn take(&mut self, agent: &Agent, now: Instant) -> bool {
        if !self.0.contains_key(agent) && self.0.len() >= MAX_AGENTS {
            self.0.retain(|_, bucket| now.saturating_duration_since(bucket.at) < FORGOTTEN_AFTER);
            if self.0.len() >= MAX_AGENTS {
                return false;
            }
        }
        let bucket = self.0.entry(agent.clone()).or_insert(Bucket { left: BURST, at: now });
        let earned = now.saturating_duration_since(bucket.at).as_secs_f64() * PER_SECOND;
        *bucket = Bucket { left: (bucket.left + earned).min(BURST), at: now };
        let may = bucket.left >= 1.0;
        if may {
            bucket.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_failover_core::model::ObjectKey;

    fn agent(name: &str) -> Agent {
        Agent { route: ObjectKey::new("shop", "orders"), name: name.into() }
    }

    #[test]
    fn a_burst_is_let_through_and_a_flood_is_not() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let at_once = (0..100).filter(|_| rate.take(&agent("a"), start)).count();
        assert_eq!(at_once, 40);
        assert!(rate.take(&agent("b"), start), "another agent is not concerned");
        let a_second_later = (0..100).filter(|_| rate.take(&agent("a"), start + Duration::from_secs(1))).count();
        assert_eq!(a_second_later, 10);
    }

    #[test]
    fn memory_is_bounded_and_those_who_are_quiet_make_room() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        for number in 0..MAX_AGENTS {
            assert!(rate.take(&agent(&number.to_string()), start));
        }
        assert!(!rate.take(&agent("late"), start + Duration::from_secs(9)));
        assert!(rate.take(&agent("late"), start + FORGOTTEN_AFTER));
        assert_eq!(rate.0.len(), 1);
    }
}
