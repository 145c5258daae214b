//! When the rounds of a probe begin: as the prober does it, but every start can be worked out without those before it.

use std::time::Duration;

use super::draw::Draw;
use mail_failover_core::model::Timestamp;

/// As in `probe/schedule.rs`: each of the two shares of a period's shift.
const SHIFT: f64 = 0.0225;
/// New targets start within a tenth of their interval, and within this.
const FIRST_SPREAD: Duration = Duration::from_secs(2);

/// The starts of one stream. A share of the shift is the stream's own, so that crowds drift apart; the other is drawn for each start
/// and does not add up, unlike the prober's: two starts are as far apart as the prober's all the same, an interval less 4.5 % at least.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    first: Timestamp,
    period: Duration,
    /// Half of the largest shift of a single start, in both directions.
    shift: Duration,
    draw: Draw,
}

impl Schedule {
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

    /// When a round begins; rounds count from 0.
    pub(super) fn start(&self, round: u64) -> Timestamp {
        let period = u64::try_from(self.period.as_micros()).unwrap_or(u64::MAX);
        let on_time = self.first + Duration::from_micros(period.saturating_mul(round));
        on_time + self.shift.mul_f64(self.draw.fraction(round + 2))
    }

    /// The first round that begins at `at` or later.
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
            let schedule = Schedule::new(from, interval, Draw::new(7).of(stream));
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
