use std::time::Duration;

use super::window::Window;
use crate::model::{LatencyLimit, Timestamp};

/// Detector of a percentile of latencies that stays above a limit.
// No latency is kept: the p-th percentile is above the limit exactly when more than (100 - p) % of the samples are, so
// two counts are enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slowness {
    window: Window,
    /// The common result of every observation since that time.
    run: Option<(bool, Timestamp)>,
}

impl Slowness {
    /// Counts a latency. Returns true or false once every observation for `held_for` agrees, `None` before.
    pub(super) fn note(&mut self, limit: &LatencyLimit, latency: Duration, at: Timestamp) -> Option<bool> {
        self.window.note(limit.held_for / 2, at, latency > limit.above);
        let (samples, above) = self.window.counts();
        let is_slow = above * 100 > u64::from(100u8.saturating_sub(limit.percentile)) * samples;
        let since = match self.run {
            Some((before, since)) if before == is_slow => since,
            Some(_) | None => at,
        };
        self.run = Some((is_slow, since));
        (at.since(since) >= limit.held_for).then_some(is_slow)
    }

    /// Forgets everything: later samples are not continuous with earlier ones.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: LatencyLimit =
        LatencyLimit { percentile: 90, above: Duration::from_secs(5), held_for: Duration::from_mins(4) };

    /// Feeds one latency every ten seconds; returns what was said last.
    fn judged(slowness: &mut Slowness, from: i64, latencies: impl IntoIterator<Item = u64>) -> Option<bool> {
        let seconds = (0..).map(|n| from + n * 10);
        latencies.into_iter().zip(seconds).fold(None, |_, (latency, second)| {
            slowness.note(&LIMIT, Duration::from_secs(latency), Timestamp::from_micros(second * 1_000_000))
        })
    }

    #[test]
    fn slow_is_what_exceeds_the_limit_at_its_percentile_for_long() {
        let cases: &[(&str, Vec<u64>, Option<bool>)] = &[
            ("always slow", vec![6; 25], Some(true)),
            ("slow, not yet for long", vec![6; 24], None),
            ("exactly at the limit", vec![5; 25], Some(false)),
            (
                "one of twelve is slow: 8 % exceed",
                (0..48).map(|n| if n % 12 == 11 { 9 } else { 1 }).collect(),
                Some(false),
            ),
            (
                "two of twelve are slow: 16 % exceed",
                (0..49).map(|n| if n % 6 == 0 { 9 } else { 1 }).collect(),
                Some(true),
            ),
            ("slow, then quick for a moment", [vec![6; 20], vec![1; 12], vec![6; 4]].concat(), None),
        ];
        for (case, latencies, said) in cases {
            assert_eq!(judged(&mut Slowness::default(), 0, latencies.clone()), *said, "{case}");
        }
    }

    #[test]
    fn what_exceeds_the_limit_in_exactly_the_share_left_is_not_slow() {
        let quarter = LatencyLimit { percentile: 75, ..LIMIT };
        let mut slowness = Slowness::default();
        let said = (0..60).map(|n| {
            let latency = Duration::from_secs(if n % 4 == 3 { 9 } else { 1 });
            slowness.note(&quarter, latency, Timestamp::from_micros(n * 10_000_000))
        });
        assert_eq!(said.last(), Some(Some(false)));
    }

    #[test]
    fn being_quick_must_last_as_long() {
        let mut slowness = Slowness::default();
        assert_eq!(judged(&mut slowness, 0, vec![6; 30]), Some(true));
        // The slow ones leave the half of `held_for` that counts within 120 s.
        assert_eq!(judged(&mut slowness, 300, vec![1; 30]), None);
        assert_eq!(judged(&mut slowness, 600, vec![1; 20]), Some(false));
    }
}
