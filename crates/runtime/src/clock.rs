//! The one place that reads a clock.
//!
//! Everything pure takes a [`Timestamp`] as an argument. This module never decides anything about time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mail_failover_core::model::Timestamp;

/// Wall-clock time that never jumps: read once at start, advanced by the monotonic clock.
///
/// A step of the system's clock (NTP after a bad boot, a suspended virtual machine) can so neither end a cooldown
/// early nor make one last for years.
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

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The timestamp of a monotonic instant.
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
