//! When to try again what failed, and how often to do what somebody else keeps undoing.

use std::time::Duration;

use mail_failover_core::model::Timestamp;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Exponential, with full jitter in its upper half; over when something succeeded.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Timestamp>,
    error: String,
}

impl Backoff {
    pub(super) fn fail(&mut self, now: Timestamp, error: String) {
        let longest = FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + longest.mul_f64(0.5 + fastrand::f64() / 2.0));
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
        let mut backoff = Backoff::default();
        assert_eq!(backoff.until(now), None);
        let mut longest = Timestamp::default();
        for _ in 0..100 {
            backoff.fail(now, "no".to_owned());
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
