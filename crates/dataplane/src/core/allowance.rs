//! Messages that one backend took within the last 24 hours, hour by hour. Pure; bounded memory.
// ADR-0126: The pace of a backend is kept where a session begins.

use std::collections::VecDeque;
use std::time::Duration;

use mail_failover_core::model::Timestamp;
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_hours(1);
/// Time for which an hour counts after its beginning: the whole of it is then a day ago.
const COUNTS: Duration = Duration::from_hours(25);
/// The part of an allowance that may be used before it is saved again.
const SAVED_EVERY: u64 = 20;

/// Messages of one hour. Times are microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HourCount {
    /// Beginning of the hour: the first message of it.
    pub since: i64,
    /// Number of messages.
    pub messages: u64,
}

/// Count of the messages of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DayCount {
    hours: VecDeque<HourCount>,
    /// Number of messages when they were last saved.
    saved: u64,
}

impl DayCount {
    /// Goes on where the agent's last process ended.
    // A clock that was wrong once must not count for as long.
    pub(super) fn restored(hours: &[HourCount], now: Timestamp) -> Self {
        let past = |hour: &HourCount| HourCount { since: hour.since.min(now.as_micros()), ..*hour };
        let mut count = Self { hours: hours.iter().map(past).collect(), saved: 0 };
        count.handle_timeout(now);
        count.saved = count.messages();
        count
    }

    /// Counts a message.
    pub(super) fn add(&mut self, now: Timestamp) {
        self.handle_timeout(now);
        match self.hours.back_mut().filter(|hour| Timestamp::from_micros(hour.since) + HOUR > now) {
            Some(hour) => hour.messages = hour.messages.saturating_add(1),
            None => self.hours.push_back(HourCount { since: now.as_micros(), messages: 1 }),
        }
    }

    /// Forgets hours that are a day ago.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        while self.hours.front().is_some_and(|hour| Timestamp::from_micros(hour.since) + COUNTS <= now) {
            self.hours.pop_front();
        }
    }

    /// Number of messages within the last 24 hours.
    pub(super) fn messages(&self) -> u64 {
        self.hours.iter().map(|hour| hour.messages).fold(0, u64::saturating_add)
    }

    /// Returns true if as many as this are used up.
    pub(super) fn is_spent(&self, allowance: Option<u64>) -> bool {
        allowance.is_some_and(|allowance| self.messages() >= allowance)
    }

    /// Returns the time at which an allowance that is used up may be there again.
    pub(super) fn next_timeout(&self, allowance: Option<u64>) -> Option<Timestamp> {
        let first = self.hours.front().filter(|_| self.is_spent(allowance))?;
        Some(Timestamp::from_micros(first.since) + COUNTS)
    }

    /// Returns true if a good part of the allowance has been used since the count was saved. It counts as saved then.
    pub(super) fn wants_saving(&mut self, allowance: Option<u64>) -> bool {
        let Some(allowance) = allowance else { return false };
        let messages = self.messages();
        let is_due = messages.saturating_sub(self.saved) >= (allowance / SAVED_EVERY).max(1);
        if is_due {
            self.saved = messages;
        }
        is_due
    }

    /// The count as it is saved.
    pub(super) fn hours(&self) -> Vec<HourCount> {
        self.hours.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000) + Duration::from_mins(minutes)
    }

    #[test]
    fn a_day_s_messages_are_used_up_until_their_hour_is_a_day_ago() {
        let mut count = DayCount::default();
        for minute in [0, 30, 59, 60] {
            count.add(at(minute));
        }
        assert_eq!((count.messages(), count.hours().len()), (4, 2));
        assert!(count.is_spent(Some(4)) && !count.is_spent(Some(5)) && !count.is_spent(None));
        assert_eq!(count.next_timeout(Some(4)), Some(at(25 * 60)));
        assert_eq!(count.next_timeout(Some(5)), None);
        count.handle_timeout(at(25 * 60) - Duration::from_secs(1));
        assert!(count.is_spent(Some(4)));
        count.handle_timeout(at(25 * 60));
        assert_eq!(count.messages(), 1);
    }

    #[test]
    fn a_restart_goes_on_counting_and_a_clock_that_was_ahead_does_not_count_for_longer() {
        let mut count = DayCount::default();
        for _ in 0..3 {
            count.add(at(0));
        }
        assert_eq!(DayCount::restored(&count.hours(), at(60)).messages(), 3);
        assert_eq!(DayCount::restored(&count.hours(), at(26 * 60)).messages(), 0);
        let ahead = [HourCount { since: at(1_000_000).as_micros(), messages: 7 }];
        let mut restored = DayCount::restored(&ahead, at(0));
        restored.handle_timeout(at(25 * 60));
        assert_eq!(restored.messages(), 0);
    }

    #[test]
    fn a_twentieth_of_the_allowance_at_most_is_not_saved() {
        let mut count = DayCount::default();
        let mut saved = 0;
        for _ in 0..100 {
            count.add(at(0));
            saved += u32::from(count.wants_saving(Some(100)));
        }
        assert_eq!(saved, 20);
        assert!(!count.wants_saving(None));
    }
}
