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

/// Budget of writes: a burst, then one in a fixed time.
#[derive(Debug)]
pub(super) struct WriteBudget {
    burst: u32,
    refill: Duration,
    left: u32,
    refilled_at: Timestamp,
}

const OUTPUT_BURST: u32 = 10;
const OUTPUT_REFILL: Duration = Duration::from_secs(1);
const ADDRESS_BURST: u32 = 5;
const ADDRESS_REFILL: Duration = Duration::from_mins(1);

impl WriteBudget {
    /// The full budget of a route's outputs.
    // ADR-0010: Ten output writes in a burst, then one a second.
    // A controller that keeps reverting our writes must not make us hammer the API server.
    pub(super) fn full(now: Timestamp) -> Self {
        Self::new(now, OUTPUT_BURST, OUTPUT_REFILL)
    }

    /// The full budget of the changes of a backend's addresses.
    // ADR-0103: Answers that rotate are followed once a minute.
    pub(super) fn of_addresses(now: Timestamp) -> Self {
        Self::new(now, ADDRESS_BURST, ADDRESS_REFILL)
    }

    /// A full budget of so many writes, with one more in each `refill`.
    pub(super) fn new(now: Timestamp, burst: u32, refill: Duration) -> Self {
        Self { burst, refill, left: burst, refilled_at: now }
    }

    /// Takes one write. The error is the time at which there will be one.
    pub(super) fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.available(now)?;
        self.left -= 1;
        Ok(())
    }

    /// Returns an error with the time at which there will be a write, if there is none now.
    pub(super) fn available(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let refills = u32::try_from(now.since(self.refilled_at).as_micros() / self.refill.as_micros());
        let refills = refills.unwrap_or(u32::MAX);
        if refills > 0 {
            self.left = self.left.saturating_add(refills).min(self.burst);
            self.refilled_at = now;
        }
        if self.left == 0 { Err(self.refilled_at + self.refill) } else { Ok(()) }
    }

    /// The time at which there will be a write; `None` while there is one.
    pub(super) fn spent_until(&self) -> Option<Timestamp> {
        (self.left == 0).then(|| self.refilled_at + self.refill)
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
