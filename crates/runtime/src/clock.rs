//! The only place that reads a clock.
//!
//! Pure modules take a [`Timestamp`] as an argument. This module decides nothing about time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mail_failover_core::model::{ClockDrift, Timestamp};

/// Wall-clock time that never jumps: it is read once at the start and advanced by the monotonic clock.
///
/// A step of the system's clock (NTP after a bad boot, a suspended virtual machine) can therefore neither end a
/// cooldown early nor make one last for years.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started_at: Timestamp,
    started: Instant,
}

impl Clock {
    /// A clock set by the system's.
    pub fn system() -> Self {
        let since_epoch = since_epoch();
        Self {
            started_at: Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)),
            started: Instant::now(),
        }
    }

    /// Returns the present time.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// Returns the lead of the system's clock over this one: steps and slews since the start, and the time for which the
    /// machine was suspended.
    pub fn drift(&self) -> ClockDrift {
        let wall = i64::try_from(since_epoch().as_micros()).unwrap_or(i64::MAX);
        ClockDrift::from_micros(wall.saturating_sub(self.now().as_micros()))
    }

    /// Converts a monotonic instant to a timestamp.
    pub fn at(&self, instant: Instant) -> Timestamp {
        self.started_at + instant.saturating_duration_since(self.started)
    }
}

/// The system's clock in whole seconds since the Unix epoch, for metrics that tell when something happened.
pub fn unix_seconds() -> i64 {
    i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "everybody else asks this clock")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
