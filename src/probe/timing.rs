//! Starts of rounds: the spread of first ones, the start after a change, and the shift of each.

use std::time::Duration;

use tokio::time::Instant;

use mail_failover_runtime::random;

/// Bound on the first start of a new target, beside a tenth of its interval.
const FIRST_SPREAD: Duration = Duration::from_secs(2);
/// Widening of the first spread by each target under schedule: 5,000 starts a second.
const SPREAD_PER_TARGET: Duration = Duration::from_micros(200);
/// Delay of the first start by each target at the same place, beyond [`SMALL_CROWD`]: half as many starts as one
/// address takes in a second.
const SPREAD_AT_PLACE: Duration = Duration::from_millis(40);
/// Targets at one place that start as if they were alone.
const SMALL_CROWD: usize = 20;
/// Bound on the start of a changed target, beside a tenth of its interval.
const CHANGED_SPREAD: Duration = Duration::from_millis(50);
/// Each of the two parts of an interval's shift. Together they are 4.5 %, so that a timer's resolution of 1 ms fits
/// into 5 %.
pub(super) const SHIFT: f64 = 0.0225;

/// Time until a new target starts first.
pub(super) fn first_delay(interval: Duration, targets: usize, at_place: usize) -> Duration {
    let alone = (interval / 10).min(FIRST_SPREAD).min(times(SPREAD_PER_TARGET, targets));
    let crowd = times(SPREAD_AT_PLACE, at_place.saturating_sub(SMALL_CROWD));
    // Round and round again, if there are more than the interval has room for.
    let in_turn = crowd.as_nanos() % interval.as_nanos().max(1);
    random_below(alone) + Duration::from_nanos(u64::try_from(in_turn).unwrap_or(0))
}

fn times(unit: Duration, count: usize) -> Duration {
    unit.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Start of a target that has changed.
pub(super) fn promptly(interval: Duration) -> Instant {
    Instant::now() + random_below((interval / 10).min(CHANGED_SPREAD))
}

/// Random number from -1 to 1.
pub(super) fn shift() -> f64 {
    random::unit().mul_add(2.0, -1.0)
}

fn random_below(bound: Duration) -> Duration {
    bound.mul_f64(random::unit())
}
