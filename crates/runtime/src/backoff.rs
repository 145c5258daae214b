//! Backoff and jitter of retries.

use std::time::Duration;

use crate::random;

/// Exponential backoff with jitter: the delay doubles from a first to a longest one.
// The upper half of each delay is random, so that replicas that failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// A backoff between these delays.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Returns the delay after one more failure.
    pub fn after_failure(&mut self) -> Duration {
        self.after_failure_with(random::unit())
    }

    /// The same for a caller that brings its own random number, of at least 0 and less than 1.
    pub fn after_failure_with(&mut self, jitter: f64) -> Duration {
        let delay = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(0.5 + 0.5 * jitter)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Returns a duration that is up to `share` of it shorter or longer.
pub fn jittered(duration: Duration, share: f64) -> Duration {
    duration.mul_f64((1.0 + share * (2.0 * random::unit() - 1.0)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        for upper in [200, 400, 800, 1600, 3200, 5000, 5000] {
            let delay = backoff.after_failure();
            let upper = Duration::from_millis(upper);
            assert!(delay >= upper / 2 && delay <= upper, "{delay:?} is not between half of {upper:?} and {upper:?}");
        }
        backoff.reset();
        assert!(backoff.after_failure() <= Duration::from_millis(200));
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        assert!((0..1000).map(|_| backoff.after_failure()).all(|delay| delay <= Duration::from_secs(5)));
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let (shortest, longest) = (Duration::from_secs(8), Duration::from_secs(12));
        for _ in 0..1000 {
            let jittered = jittered(Duration::from_secs(10), 0.2);
            assert!(jittered >= shortest && jittered <= longest, "{jittered:?}");
        }
    }
}
