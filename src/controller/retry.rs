//! Pauses after failures, and a budget of writes against a controller that keeps reverting them.

use std::time::Duration;

use mail_failover_core::model::Timestamp;
use mail_failover_runtime::backoff::Backoff;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses of one resource after failures in a row.
#[derive(Debug)]
pub(super) struct Retry {
    backoff: Backoff,
    until: Option<Timestamp>,
    error: String,
}

impl Default for Retry {
    fn default() -> Self {
        Self { backoff: Backoff::new(FIRST, LONGEST), until: None, error: String::new() }
    }
}

impl Retry {
    /// Notes a failure. `random` is a number from 0 to 1.
    pub(super) fn fail(&mut self, now: Timestamp, random: f64, error: String) {
        self.until = Some(now + self.backoff.after_failure_with(random));
        self.error = error;
    }

    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// End of the pause; `None` if there is none.
    pub(super) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now)
    }

    /// The latest failure since the latest success.
    pub(super) fn error(&self) -> Option<&str> {
        self.until.is_some().then_some(self.error.as_str())
    }
}

/// Budget of changes: a burst, then one in a time.
#[derive(Debug)]
pub(super) struct WriteBudget {
    left: u32,
    refilled_at: Timestamp,
    burst: u32,
    refill: Duration,
}

impl WriteBudget {
    /// The budget of output writes: ten, then one a second.
    // ADR-0010: Ten output writes in a burst, then one a second.
    // A controller that keeps reverting our writes must not make us hammer the API server.
    pub(super) fn full(now: Timestamp) -> Self {
        Self { left: 10, refilled_at: now, burst: 10, refill: Duration::from_secs(1) }
    }

    /// The budget of the changes of a backend's addresses: five, then one a minute.
    // ADR-0103: Answers that rotate are followed once a minute.
    pub(super) fn of_addresses(now: Timestamp) -> Self {
        Self { left: 5, refilled_at: now, burst: 5, refill: Duration::from_mins(1) }
    }

    /// Takes one write. The error is the time at which there will be one.
    pub(super) fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let refills =
            u32::try_from(now.since(self.refilled_at).as_micros() / self.refill.as_micros()).unwrap_or(u32::MAX);
        if refills > 0 {
            self.left = self.left.saturating_add(refills).min(self.burst);
            self.refilled_at = now;
        }
        if self.left == 0 {
            return Err(self.refilled_at + self.refill);
        }
        self.left -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_end_with_success() {
        let now = Timestamp::from_micros(0);
        let mut random = fastrand::Rng::with_seed(7);
        let mut retry = Retry::default();
        assert_eq!(retry.until(now), None);
        let mut longest = Timestamp::default();
        for _ in 0..100 {
            retry.fail(now, random.f64(), "no".to_owned());
            let until = retry.until(now).unwrap();
            assert!(until >= now + FIRST / 2 && until <= now + LONGEST);
            longest = longest.max(until);
        }
        assert!(longest > now + LONGEST / 2);
        assert_eq!(retry.error(), Some("no"));
        retry.succeed();
        assert_eq!((retry.until(now), retry.error()), (None, None));
    }

    #[test]
    fn a_burst_is_followed_by_one_write_a_second() {
        let at = |millis: u64| Timestamp::from_micros(0) + Duration::from_millis(millis);
        let mut budget = WriteBudget::full(at(0));
        assert_eq!((0..20).filter(|_| budget.take(at(10)).is_ok()).count(), 10);
        assert_eq!(budget.take(at(10)), Err(at(1000)));
        assert_eq!(budget.take(at(1000)), Ok(()));
        assert_eq!(budget.take(at(1500)), Err(at(2000)));
    }
}
