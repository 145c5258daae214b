use std::time::Duration;

use mail_failover_core::model::Timestamp;

/// Largest number of ticks on the axis.
const MAX_TICKS: u32 = 12;
/// Distances between ticks that people count in, in seconds.
const STEPS: [u64; 23] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    1_209_600, 2_592_000, 7_776_000,
];

/// Axis of time with its ticks.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    start: Timestamp,
    end: Timestamp,
    pub(super) left: f64,
    pub(super) right: f64,
}

impl Axis {
    pub(super) fn new(start: Timestamp, end: Timestamp, left: f64, right: f64) -> Self {
        Self { start, end, left, right }
    }

    pub(super) fn x(&self, at: Timestamp) -> f64 {
        let part = at.since(self.start).as_secs_f64() / self.end.since(self.start).as_secs_f64();
        self.left + part.min(1.0) * (self.right - self.left)
    }

    /// Returns the times of the ticks with their labels.
    pub(super) fn ticks(&self) -> Vec<(Timestamp, String)> {
        let whole = self.end.since(self.start);
        let step = STEPS.into_iter().find(|step| whole <= Duration::from_secs(*step) * MAX_TICKS);
        let step = step.unwrap_or(7_776_000);
        let count = whole.as_secs() / step;
        (0..=count).map(|n| (self.start + Duration::from_secs(n * step), label(n * step, step))).collect()
    }
}

fn label(seconds: u64, step: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match step {
        86_400.. => format!("{days} d"),
        60.. if days > 0 => format!("{days} d {hours}:{minutes:02}"),
        60.. => format!("{hours}:{minutes:02}"),
        _ => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_at_times_that_people_count_in() {
        let cases =
            [(90, "0:00:00 0:00:10", 10), (7200, "0:00 0:10", 13), (86_400, "0:00 2:00", 13), (604_800, "0 d 1 d", 8)];
        for (seconds, first, count) in cases {
            let start = Timestamp::from_micros(0);
            let axis = Axis::new(start, start + Duration::from_secs(seconds), 0.0, 100.0);
            let ticks: Vec<_> = axis.ticks().into_iter().map(|(_, label)| label).collect();
            assert_eq!((ticks[..2].join(" "), ticks.len()), (first.to_owned(), count), "{seconds}");
        }
    }
}
