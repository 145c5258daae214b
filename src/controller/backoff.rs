//! When to try again what failed, and how often to do what somebody else keeps undoing.

use std::time::Duration;

use mail_failover_core::model::Timestamp;
use mail_failover_runtime::backoff::Backoff;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// A failure that is tried again, and when; over when something succeeded.
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
    /// One more failure. `jitter` is a random number of at least 0 and less than 1.
    pub(super) fn fail(&mut self, now: Timestamp, error: String, jitter: f64) {
        self.until = Some(now + self.backoff.jittered_by(jitter));
        self.error = error;
    }

    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Until when to wait; `None` when nothing has to be waited for.
    pub(super) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now)
    }

    /// What went wrong last, while it does.
    pub(super) fn error(&self) -> Option<&str> {
        self.until.is_some().then_some(self.error.as_str())
    }
}

/// So many writes in a burst, then one a second: a controller that keeps undoing ours must not make us hammer the API server.
#[derive(Debug)]
pub(super) struct WriteBudget {
    left: u32,
    refilled_at: Timestamp,
}

const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(1);

impl WriteBudget {
    pub(super) fn full(now: Timestamp) -> Self {
        Self { left: BURST, refilled_at: now }
    }

    /// Takes one, or says when there will be one.
    pub(super) fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let refills = u32::try_from(now.since(self.refilled_at).as_micros() / REFILL.as_micros()).unwrap_or(u32::MAX);
        if refills > 0 {
            self.left = self.left.saturating_add(refills).min(BURST);
            self.refilled_at = now;
        }
        if self.left == 0 {
            return Err(self.refilled_at + REFILL);
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
        let mut backoff = Retry::default();
        assert_eq!(backoff.until(now), None);
        let mut longest = Timestamp::default();
        for number in 0..100 {
            backoff.fail(now, "no".to_owned(), f64::from(number) / 100.0);
            let until = backoff.until(now).unwrap();
            assert!(until >= now + FIRST / 2 && until <= now + LONGEST);
            longest = longest.max(until);
        }
        assert!(longest > now + LONGEST / 2);
        assert_eq!(backoff.error(), Some("no"));
        backoff.succeed();
        assert_eq!((backoff.until(now), backoff.error()), (None, None));
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
