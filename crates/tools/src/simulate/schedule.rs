//! Schedule of a probe's rounds, like the prober's, except that every start can be computed without the starts before
//! it.

use std::time::Duration;

use super::draw::Draw;
use mail_failover_core::model::Timestamp;

/// Largest share of each of the two shifts of a period, as in `probe/schedule.rs`.
const SHIFT: f64 = 0.0225;
/// Longest delay of a new target's first round, besides a tenth of its interval.
const FIRST_SPREAD: Duration = Duration::from_secs(2);

/// Starts of one stream. One part of the shift belongs to the stream, so that streams drift apart. The other part is
/// drawn for each start and does not add up, unlike the prober's. Two starts are still as far apart as the prober's: at
/// least an interval less 4.5 %.
#[derive(Clone, Debug)]
pub(super) struct RoundSchedule {
    first: Timestamp,
    period: Duration,
    /// Half of the largest shift of a single start, in both directions.
    shift: Duration,
    draw: Draw,
}

impl RoundSchedule {
    pub(super) fn new(from: Timestamp, interval: Duration, draw: Draw) -> Self {
        let spread = (interval / 10).min(FIRST_SPREAD);
        let drift = draw.fraction(0).mul_add(2.0, -1.0);
        Self {
            first: from + spread.mul_f64(draw.fraction(1)),
            period: interval.mul_f64(SHIFT.mul_add(drift, 1.0)),
            shift: interval.mul_f64(SHIFT),
            draw,
        }
    }

    /// Returns the start of a round; rounds count from 0.
    pub(super) fn start(&self, round: u64) -> Timestamp {
        let period = u64::try_from(self.period.as_micros()).unwrap_or(u64::MAX);
        let on_time = self.first + Duration::from_micros(period.saturating_mul(round));
        on_time + self.shift.mul_f64(self.draw.fraction(round + 2))
    }

    /// Returns the first round that begins at `at` or later.
    pub(super) fn round_at(&self, at: Timestamp) -> u64 {
        let passed = at.since(self.first + self.shift).as_micros() / self.period.as_micros().max(1);
        let mut round = u64::try_from(passed).unwrap_or(u64::MAX);
        while self.start(round) < at {
            round += 1;
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_as_far_apart_as_the_probers_and_found_without_those_before() {
        let from = Timestamp::from_micros(1_000_000);
        for (stream, interval) in [(1, 200), (2, 10_000), (3, 86_400_000)] {
            let interval = Duration::from_millis(interval);
            let schedule = RoundSchedule::new(from, interval, Draw::new(7).of(stream));
            assert!(schedule.start(0) >= from && schedule.start(0) <= from + interval);
            let mut gaps = std::collections::BTreeSet::new();
            for round in 0..500 {
                let (start, next) = (schedule.start(round), schedule.start(round + 1));
                let gap = next.since(start);
                assert!(gap >= interval.mul_f64(0.954) && gap <= interval.mul_f64(1.046), "{gap:?}");
                gaps.insert(gap);
                assert_eq!(schedule.round_at(start), round);
                assert_eq!(schedule.round_at(start + Duration::from_micros(1)), round + 1);
            }
            assert!(gaps.len() > 100, "jitter: {}", gaps.len());
        }
    }
}
