//! Rate limits: for the reports of each agent, and for reviews of tokens. No I/O; time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use mail_failover_core::model::Agent;

/// Reports of an agent. Several verdicts may turn in a row, and a heartbeat comes every ten seconds.
const REPORTS: RateLimit = RateLimit { burst: 40.0, per_second: 10.0 };
/// Time without a report after which an agent has its whole burst again, so that its bucket can be dropped.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// Largest number of agents with a bucket. A new agent has to wait until a bucket is dropped.
const MAX_AGENTS: usize = 10_000;

/// Limit of a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    /// Number that is let through at once.
    pub(super) burst: f64,
    /// Number that is let through per second in the long run.
    pub(super) per_second: f64,
}

/// Token bucket: what is left of a limit.
#[derive(Debug)]
pub(super) struct TokenBucket {
    limit: RateLimit,
    left: f64,
    at: Instant,
}

impl TokenBucket {
    /// Makes a full bucket.
    pub(super) fn new(limit: RateLimit, now: Instant) -> Self {
        Self { limit, left: limit.burst, at: now }
    }

    /// Takes one. Returns true if there was one left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.limit.per_second;
        (self.left, self.at) = ((self.left + earned).min(self.limit.burst), now);
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

/// Token buckets by agent.
#[derive(Debug, Default)]
pub(super) struct Rate(BTreeMap<Agent, TokenBucket>);

impl Rate {
    /// Takes a token for this agent. Returns true if it may report now.
    pub(super) fn take(&mut self, agent: &Agent, now: Instant) -> bool {
        if !self.0.contains_key(agent) && self.0.len() >= MAX_AGENTS {
            self.0.retain(|_, bucket| now.saturating_duration_since(bucket.at) < FORGOTTEN_AFTER);
            if self.0.len() >= MAX_AGENTS {
                return false;
            }
        }
        self.0.entry(agent.clone()).or_insert_with(|| TokenBucket::new(REPORTS, now)).take(now)
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
