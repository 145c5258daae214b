//! Pace of the messages to each backend: one begins when its turn has come, so that a backend gets no more messages a
//! second than our part of its limit.
//!
//! In the relay a message waits for it. Beside Postfix a session does: before each session Postfix asks for the TLS policy of the next hop, and that one delivery waits for the answer:
//! neither a client that hands in mail nor the queue manager does. Postfix's own `smtp_destination_rate_delay` knows
//! whole seconds between two deliveries, and each order of a list as a destination of its own.
// ADR-0126: The pace of a backend is kept where a session begins.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Longest wait of a session with a backend that messages try first.
// Postfix gives up on a socketmap after 100 s. Of 20 deliveries at a time the last one waits for so long at one message
// in 3 s.
pub const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Longest wait of a session with a backend that takes what another one does not.
// A delivery that waits holds one of the slots of the list, which other messages need for its first backend.
pub const LONGEST_WAIT_OF_SPILL_OVER: Duration = Duration::from_millis(300);

/// Turns of all backends. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Paces {
    /// Earliest time of the next session, by the backend's name, for those that are waited for.
    turns: Arc<Mutex<BTreeMap<Arc<str>, Instant>>>,
    end: CancellationToken,
}

impl Paces {
    /// Creates paces by which nothing waits after `end`.
    pub fn new(end: CancellationToken) -> Self {
        Self { turns: Arc::default(), end }
    }

    /// Takes the next turn of a backend with this time between two sessions. Returns the time until it, or `None` if
    /// that is more than `longest`.
    pub fn take(&self, backend: &Arc<str>, interval: Duration, longest: Duration, now: Instant) -> Option<Duration> {
        let mut turns = self.lock();
        let turn = turns.get(backend).copied().map_or(now, |turn| turn.max(now));
        let wait = turn.saturating_duration_since(now);
        if wait > longest {
            return None;
        }
        turns.insert(backend.clone(), turn + interval);
        Some(wait)
    }

    /// Returns the backends whose next turn is too far away for what another one does not take.
    pub fn spent(&self, now: Instant) -> Vec<Arc<str>> {
        let mut turns = self.lock();
        turns.retain(|_, turn| *turn > now);
        let late = turns.iter().filter(|(_, turn)| turn.saturating_duration_since(now) > LONGEST_WAIT_OF_SPILL_OVER);
        late.map(|(backend, _)| backend.clone()).collect()
    }

    /// Waits for a turn. Returns false if the agent ends before it.
    pub async fn wait(&self, time: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(time) => true,
            () = self.end.cancelled() => false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Instant>> {
        // Every critical section leaves the map whole.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    #[test]
    fn sessions_begin_one_interval_apart_however_many_come_at_once() {
        let (paces, start, a) = (Paces::default(), Instant::now(), Arc::from("a"));
        let waits: Vec<_> = (0..4).map(|_| paces.take(&a, INTERVAL, LONGEST_WAIT, start).unwrap()).collect();
        assert_eq!(waits, [0, 100, 200, 300].map(Duration::from_millis));
        // A pause is not made up for: the limit holds for every second.
        let later = start + Duration::from_mins(1);
        assert_eq!(paces.take(&a, INTERVAL, LONGEST_WAIT, later), Some(Duration::ZERO));
        assert_eq!(paces.take(&a, INTERVAL, LONGEST_WAIT, later), Some(INTERVAL));
        assert_eq!(paces.take(&"b".into(), INTERVAL, LONGEST_WAIT, later), Some(Duration::ZERO), "each has its own");
    }

    #[test]
    fn what_would_wait_for_too_long_takes_no_turn() {
        let (paces, start, a) = (Paces::default(), Instant::now(), Arc::from("a"));
        let taken = (0..1000).filter_map(|_| paces.take(&a, INTERVAL, LONGEST_WAIT, start)).count();
        assert_eq!(taken, 601, "as many as have their turn within a minute");
        let next = start + INTERVAL;
        assert_eq!(paces.take(&a, INTERVAL, LONGEST_WAIT, next), Some(LONGEST_WAIT));
        assert_eq!(paces.take(&a, INTERVAL, LONGEST_WAIT_OF_SPILL_OVER, next), None);
    }

    #[test]
    fn a_backend_with_a_queue_of_sessions_is_spent_until_its_turns_are_over() {
        let (paces, start, a) = (Paces::default(), Instant::now(), Arc::<str>::from("a"));
        for _ in 0..3 {
            paces.take(&a, INTERVAL, LONGEST_WAIT, start);
        }
        assert_eq!(paces.spent(start), Vec::<Arc<str>>::new(), "300 ms are waited for");
        paces.take(&a, INTERVAL, LONGEST_WAIT, start);
        assert_eq!(paces.spent(start), [a]);
        assert_eq!(paces.spent(start + INTERVAL), Vec::<Arc<str>>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_for_a_turn_when_the_agent_ends() {
        let end = CancellationToken::new();
        let paces = Paces::new(end.clone());
        assert!(paces.wait(Duration::from_secs(50)).await);
        end.cancel();
        assert!(!paces.wait(Duration::from_secs(50)).await);
    }
}
