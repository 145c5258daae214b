use std::time::Duration;

use crate::model::Timestamp;

/// Shortest pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Most doublings of the pause, which is then a little more than two minutes and a half.
const MAX_DOUBLINGS: u32 = 4;
/// Part of a pause by which it may be longer.
const JITTER: f64 = 0.5;

/// Looks at the standbys of a route that waits for one of them to answer: at once, then ever more rarely.
// ADR-0208: To await a confirmation is momentary for a minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandbyLooks {
    made: u32,
    next: Option<Timestamp>,
}

impl StandbyLooks {
    /// Returns true if the standbys are to be looked at now. `jitter` is at least 0 and less than 1.
    pub fn is_due(&mut self, now: Timestamp, is_waiting: bool, jitter: f64) -> bool {
        if !is_waiting {
            *self = Self::default();
            return false;
        }
        if self.next.is_some_and(|next| next > now) {
            return false;
        }
        let pause = FIRST_PAUSE * (1 << self.made.min(MAX_DOUBLINGS));
        self.made = self.made.saturating_add(1);
        self.next = Some(now + pause.mul_f64(1.0 + JITTER * jitter));
        true
    }

    /// Returns the time of the next look; `None` while nothing waits.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::at;

    #[test]
    fn looks_come_at_once_then_ever_more_rarely_and_begin_anew_with_the_next_wait() {
        let mut looks = StandbyLooks::default();
        assert!(!looks.is_due(at(0), false, 0.0));
        let mut made = vec![];
        for second in 1..=700 {
            if looks.is_due(at(second), true, 0.0) {
                made.push(second);
            }
        }
        assert_eq!(made, [1, 11, 31, 71, 151, 311, 471, 631]);
        assert_eq!(looks.next_timeout(), Some(at(791)));
        assert!(!looks.is_due(at(701), false, 0.0));
        assert_eq!(looks.next_timeout(), None);
        assert!(looks.is_due(at(702), true, 0.99) && !looks.is_due(at(715), true, 0.99));
    }
}
