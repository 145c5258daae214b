use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Point in time: microseconds since the Unix epoch, UTC.
///
/// A type of our own without a `now()`, so that no pure code can read a clock by accident. Kubernetes' `MicroTime` has
/// the same resolution, so a timestamp survives a trip through `status` unchanged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time that can be told.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time that can be told.
    pub const MAX: Self = Self(i64::MAX);

    /// Creates a timestamp from microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the time since `earlier`; zero if that lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Lead of the wall clock over the clock that decisions go by, in microseconds.
///
/// That one never jumps, so that no step of the wall clock ends a hold early or makes one last for years. What is of the
/// wall clock by nature (an opening hour, a day of the warm-up) is asked by [`ClockDrift::wall`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockDrift(i64);

impl ClockDrift {
    /// Creates a drift from microseconds; negative if the wall clock is behind.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the lead of the wall clock in microseconds.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the time of the wall clock.
    pub fn wall(self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_add(self.0))
    }

    /// Returns the time at which the wall clock shows this.
    pub fn at_wall(self, wall: Timestamp) -> Timestamp {
        Timestamp(wall.0.saturating_sub(self.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Saturates instead of overflowing: "forever" stays in the future.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    /// Saturates instead of overflowing.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.0.div_euclid(1_000_000);
        fmt::Display::fmt(&jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX), f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000))
    }
}
