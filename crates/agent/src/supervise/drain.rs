//! Draining of the queue before the end: the next step, by the depth that was seen. Pure; time is an argument.

use std::time::Duration;

use mail_failover_core::model::Timestamp;

use crate::mta::QueueDepth;

/// Time for which each look must find the queue empty.
// A message that was accepted just before new mail was refused is in the queue by then, and has been seen there.
const SETTLED: Duration = Duration::from_secs(2);
/// Pause between two flushes: a greylisting or throttling server wants to be left alone for a while.
const FLUSH_EVERY: Duration = Duration::from_secs(10);

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    deadline: Timestamp,
    flush_at: Timestamp,
    /// Time since which each look found nothing.
    empty_since: Option<Timestamp>,
}

/// Next step of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStep {
    /// Flush the queue, then look again.
    Flush,
    /// Wait, then look again.
    Wait,
    /// The queue is empty.
    Empty,
    /// The time for the drain is over.
    Expired,
}

impl Drain {
    /// Starts a drain. No new mail is accepted from now on.
    pub fn new(now: Timestamp, timeout: Duration) -> Self {
        Self { deadline: now + timeout, flush_at: now, empty_since: None }
    }

    /// Returns the next step after a look at the queue; `depth` is `None` if it could not be seen.
    pub fn looked(&mut self, now: Timestamp, depth: Option<QueueDepth>) -> DrainStep {
        if depth.is_some_and(|depth| depth.waiting == 0) {
            let since = *self.empty_since.get_or_insert(now);
            if now >= since + SETTLED {
                return DrainStep::Empty;
            }
        } else {
            self.empty_since = None;
        }
        if now >= self.deadline {
            return DrainStep::Expired;
        }
        if self.empty_since.is_none() && now >= self.flush_at {
            self.flush_at = now + FLUSH_EVERY;
            return DrainStep::Flush;
        }
        DrainStep::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_000_000_000);

    /// Steps after looks, one every second, at these numbers of messages.
    fn steps(timeout: u64, waiting: &[Option<u64>]) -> Vec<DrainStep> {
        let mut drain = Drain::new(START, Duration::from_secs(timeout));
        let looks = waiting.iter().zip(0..);
        let depth = |waiting: &Option<u64>| waiting.map(|waiting| QueueDepth { waiting, held: 7 });
        looks.map(|(waiting, second)| drain.looked(START + Duration::from_secs(second), depth(waiting))).collect()
    }

    #[test]
    fn an_empty_queue_is_believed_when_it_stays_empty() {
        use DrainStep::{Empty, Flush, Wait};
        assert_eq!(steps(60, &[Some(0), Some(0), Some(0)]), [Wait, Wait, Empty]);
        let late = [Some(0), Some(0), Some(1), Some(0), Some(0), Some(0)];
        assert_eq!(steps(60, &late), [Wait, Wait, Flush, Wait, Wait, Empty]);
    }

    #[test]
    fn what_waits_is_flushed_now_and_then() {
        let steps = steps(60, &[Some(3); 25]);
        let flushes: Vec<_> =
            steps.iter().zip(0..).filter(|(step, _)| **step == DrainStep::Flush).map(|(_, at)| at).collect();
        assert_eq!(flushes, [0, 10, 20]);
    }

    #[test]
    fn time_runs_out() {
        assert_eq!(steps(2, &[Some(1), Some(1), Some(1)]), [DrainStep::Flush, DrainStep::Wait, DrainStep::Expired]);
        assert_eq!(steps(0, &[Some(1)]), [DrainStep::Expired]);
    }

    #[test]
    fn a_queue_that_cannot_be_seen_is_not_empty() {
        assert_eq!(
            steps(3, &[Some(0), None, Some(0), Some(0)]),
            [DrainStep::Wait, DrainStep::Flush, DrainStep::Wait, DrainStep::Expired]
        );
    }
}
