//! Changes of a backend's health, counted for people.

use std::collections::VecDeque;
use std::time::Duration;

use mail_failover_core::engine::Health;
use mail_failover_core::model::Timestamp;

/// Time for which changes are counted.
const WINDOW: Duration = Duration::from_mins(10);
/// Changes from which their number is told: three failures and two recoveries.
const MANY: usize = 5;
/// Most changes that are counted.
const MOST: usize = 1000;

/// Latest changes between Unhealthy and any other health.
#[derive(Debug, Default)]
pub(super) struct Turns {
    is_unhealthy: bool,
    at: VecDeque<Timestamp>,
}

impl Turns {
    /// Takes note of the health now. No evidence is no change.
    pub(super) fn note(&mut self, now: Timestamp, health: Health) {
        let is_unhealthy = match health {
            Health::Unhealthy => true,
            Health::Healthy | Health::Degraded => false,
            Health::Unknown => return,
        };
        if std::mem::replace(&mut self.is_unhealthy, is_unhealthy) == is_unhealthy {
            return;
        }
        self.at.push_back(now);
        self.at.retain(|at| now.since(*at) <= WINDOW);
        if self.at.len() > MOST {
            self.at.pop_front();
        }
    }

    /// The end of a sentence about a change, if there were many.
    pub(super) fn words(&self, now: Timestamp) -> String {
        let count = self.at.iter().filter(|at| now.since(**at) <= WINDOW).count();
        if count < MANY {
            return String::new();
        }
        let more = if count >= MOST { "or more " } else { "" };
        format!("; it has changed {count} times {more}in {} min", WINDOW.as_secs() / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn many_changes_are_told_as_a_number() {
        let mut turns = Turns::default();
        for second in 0..37 {
            let health = if second % 2 == 0 { Health::Unhealthy } else { Health::Healthy };
            turns.note(at(second * 10), health);
            turns.note(at(second * 10 + 1), Health::Unknown);
            turns.note(at(second * 10 + 2), health);
        }
        assert_eq!(turns.words(at(370)), "; it has changed 37 times in 10 min");
        assert_eq!(turns.words(at(780)), "; it has changed 19 times in 10 min");
        assert_eq!(turns.words(at(3600)), "");
    }

    #[test]
    fn a_few_changes_and_a_flood_have_their_bounds() {
        let mut turns = Turns::default();
        for (second, health) in
            [Health::Unhealthy, Health::Healthy, Health::Unhealthy, Health::Degraded].iter().enumerate()
        {
            turns.note(at(second as u64), *health);
            assert_eq!(turns.words(at(second as u64)), "");
        }
        for number in 0..5000_u64 {
            let health = if number % 2 == 0 { Health::Unhealthy } else { Health::Healthy };
            turns.note(at(10), health);
        }
        assert_eq!(
            (turns.at.len(), turns.words(at(10))),
            (1000, "; it has changed 1000 times or more in 10 min".to_owned())
        );
    }
}
