//! Time that a server usually takes to answer, and the silence after which it is looked at again.

use std::time::Duration;

/// Estimate of the time that a server's answers take, smoothed as TCP smooths its round trips (RFC 6298 §2).
// ADR-0181: Silence is suspect by what is usual. The longest of the latest answers, as it was before, is one slow answer for
// minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerTime(Option<Estimate>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Estimate {
    smoothed: Duration,
    variation: Duration,
}

impl AnswerTime {
    /// Takes an answer into account that took so long.
    pub fn observe(&mut self, took: Duration) {
        let estimate = match self.0 {
            None => Estimate { smoothed: took, variation: took / 2 },
            Some(Estimate { smoothed, variation }) => Estimate {
                variation: (variation * 3 + smoothed.abs_diff(took)) / 4,
                smoothed: (smoothed * 7 + took) / 8,
            },
        };
        self.0 = Some(estimate);
    }

    /// Returns the time after which a look without a result is suspect: twice what is usual and four times its variation,
    /// from a quarter of the timeout to half of it. `None` if the server's answers usually take about as long as the
    /// timeout.
    // A server that takes its time, and a first packet that is lost (it is sent again after 1 s), are no suspects.
    pub fn patience(&self, timeout: Duration) -> Option<Duration> {
        let expected = self.0.map_or(Duration::ZERO, |usual| usual.smoothed * 2 + usual.variation * 4);
        (expected < timeout).then(|| expected.clamp(timeout / 4, timeout / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The patience with a server after these answers, in milliseconds.
    fn patience(answers: impl IntoIterator<Item = u64>) -> Option<u128> {
        let mut usual = AnswerTime::default();
        for took in answers {
            usual.observe(millis(took));
        }
        usual.patience(TIMEOUT).map(|patience| patience.as_millis())
    }

    #[test]
    fn a_quick_server_is_suspect_after_a_quarter_of_the_timeout() {
        assert_eq!(patience([]), Some(250));
        assert_eq!(patience([2; 100]), Some(250));
    }

    #[test]
    fn a_slow_server_has_up_to_half_of_the_timeout_and_one_as_slow_as_it_is_no_suspect() {
        assert_eq!(patience([200; 100]), Some(400));
        assert_eq!(patience([300; 100]), Some(500));
        assert_eq!(patience([600; 100]), None);
        assert_eq!(patience([0, 900, 100, 700, 50, 800, 10, 950]), None, "nobody knows what is usual");
    }

    #[test]
    fn one_slow_answer_is_forgotten_after_a_few_quick_ones() {
        let after = |quick: usize| patience([5; 20].into_iter().chain([300]).chain(std::iter::repeat_n(5, quick)));
        assert_eq!(after(0), Some(378));
        assert_eq!(after(4), Some(250));
    }

    #[test]
    fn no_answer_is_too_long_for_it() {
        let mut usual = AnswerTime::default();
        for _ in 0..100 {
            usual.observe(Duration::from_hours(24 * 365));
        }
        assert_eq!(usual.patience(TIMEOUT), None);
    }
}
