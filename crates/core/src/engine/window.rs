use std::time::Duration;

use crate::model::{FailureWindow, Timestamp};

const BUCKETS: usize = FailureWindow::BUCKETS as usize;

/// Counts of samples and hits in a sliding time, in memory that does not grow with their number.
///
/// The time is cut into [`FailureWindow::BUCKETS`] equal parts that begin at fixed moments. The oldest leaves as a
/// whole, so the counts reach back no further than the whole and no less than eleven twelfths of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// The number of the newest part, counted from the epoch.
    newest: i64,
    buckets: [WindowPart; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct WindowPart {
    samples: u32,
    hits: u32,
}

impl Window {
    /// Counts a sample. A sample from before everything counted means that the clock was set back; counting then
    /// begins anew.
    pub(super) fn note(&mut self, duration: Duration, at: Timestamp, is_hit: bool) {
        let length = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) / i64::from(FailureWindow::BUCKETS);
        let part = at.as_micros().div_euclid(length.max(1));
        self.slide(part);
        let bucket = &mut self.buckets[slot(part)];
        bucket.samples = bucket.samples.saturating_add(1);
        bucket.hits = bucket.hits.saturating_add(u32::from(is_hit));
    }

    fn slide(&mut self, part: i64) {
        let ahead = part.saturating_sub(self.newest);
        let reach = i64::from(FailureWindow::BUCKETS);
        if ahead >= reach || ahead <= -reach {
            self.clear();
        } else {
            for passed in 0..ahead {
                self.buckets[slot(part - passed)] = WindowPart::default();
            }
        }
        if ahead > 0 || ahead <= -reach {
            self.newest = part;
        }
    }

    pub(super) fn clear(&mut self) {
        self.buckets = [WindowPart::default(); BUCKETS];
    }

    /// Samples, and how many of them were hits.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.buckets.iter().fold((0, 0), |(samples, hits), bucket| {
            (samples + u64::from(bucket.samples), hits + u64::from(bucket.hits))
        })
    }
}

fn slot(part: i64) -> usize {
    usize::try_from(part.rem_euclid(i64::from(FailureWindow::BUCKETS))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn samples_leave_when_their_part_is_older_than_the_window() {
        let mut window = Window::default();
        for second in [600, 604, 605] {
            window.note(MINUTE, at(second), true);
        }
        let cases = [(659, (4, 3)), (660, (3, 1)), (664, (4, 1)), (665, (4, 0)), (724, (2, 0)), (10_000, (1, 0))];
        for (second, counts) in cases {
            window.note(MINUTE, at(second), false);
            assert_eq!(window.counts(), counts, "{second} s");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_loses_nothing_and_one_set_back_far_begins_anew() {
        let mut window = Window::default();
        window.note(MINUTE, at(600), true);
        window.note(MINUTE, at(570), true);
        assert_eq!(window.counts(), (2, 2));
        window.note(MINUTE, at(60), false);
        window.note(MINUTE, at(61), false);
        assert_eq!(window.counts(), (2, 0));
    }

    #[test]
    fn extreme_times_do_no_harm() {
        for duration in [Duration::ZERO, Duration::from_micros(1), MINUTE, Duration::MAX] {
            let mut window = Window::default();
            for micros in [0, i64::MAX, i64::MIN, -1, i64::MAX] {
                window.note(duration, Timestamp::from_micros(micros), true);
            }
            assert!(window.counts().0 >= 1);
        }
    }
}
