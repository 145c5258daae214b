//! Sessions that Postfix has begun with each backend since it last told what became of one, and the number of its
//! questions for a way.
//!
//! Postfix logs a delivery at its end: of one that hangs, after a timeout of up to ten minutes. But before each session
//! it asks for the TLS policy of the next hop. So a backend with which sessions are begun, and of which nothing is
//! heard, has stalled.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time without a word after which sessions count as stalled.
// Above the delays of live servers: postscreen(8) greets after 6 s, Exchange refuses after 5 s.
const STALLED_AFTER: Duration = Duration::from_secs(10);
/// Least number of sessions, each of which has waited for so long.
// One may be a large message, beside which the next one has just begun.
const AT_LEAST: u32 = 2;
/// Time after which a session alone is forgotten.
// Postfix has told of it by then, whatever it waited for (600 s at most, at the end of data). Its line was lost.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(15);

/// Sessions of all backends. Clones share them. There are as many entries as backends of documents.
#[derive(Clone, Debug, Default)]
pub struct BegunSessions {
    begun: Arc<Mutex<BTreeMap<Arc<str>, Begun>>>,
    ways: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    first_at: Instant,
    /// Beginning of the session with which there are enough.
    enough_at: Option<Instant>,
    count: u32,
}

impl BegunSessions {
    /// Notes that Postfix was told the way of a message.
    pub fn told_way(&self) {
        self.ways.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of times that Postfix was told a way, since the start.
    pub fn ways(&self) -> u64 {
        self.ways.load(Ordering::Relaxed)
    }

    /// Notes that Postfix is about to begin a session with a backend.
    pub fn begin(&self, backend: &Arc<str>, now: Instant) {
        let mut begun = self.lock();
        let of_backend = begun.entry(backend.clone()).or_insert(Begun { first_at: now, enough_at: None, count: 0 });
        of_backend.count = of_backend.count.saturating_add(1);
        if of_backend.count == AT_LEAST {
            of_backend.enough_at = Some(now);
        }
    }

    /// Notes that Postfix has told what became of a delivery there.
    pub fn heard_of(&self, backend: &str) {
        self.lock().remove(backend);
    }

    /// Forgets all sessions: without a log nothing is heard of them.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    /// Takes the backends that have stalled, each with the number of sessions. Each is told once for those sessions. A
    /// session alone waits for the next one, so that thin traffic is judged as well, and each has its time.
    pub fn take_stalled(&self, now: Instant) -> Vec<(Arc<str>, u32)> {
        let mut stalled = vec![];
        self.lock().retain(|backend, begun| {
            let waited = |since| now.saturating_duration_since(since);
            let Some(enough_at) = begun.enough_at else { return waited(begun.first_at) < FORGOTTEN_AFTER };
            let has_stalled = waited(enough_at) >= STALLED_AFTER;
            if has_stalled {
                stalled.push((backend.clone(), begun.count));
            }
            !has_stalled
        });
        stalled
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Begun>> {
        // Every critical section leaves the map whole.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_which_nothing_is_heard_for_ten_seconds_have_stalled_once() {
        let (sessions, start) = (BegunSessions::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let a: Arc<str> = "a".into();
        sessions.begin(&a, after(0));
        sessions.begin(&a, after(1));
        sessions.begin(&a, after(9));
        assert_eq!(sessions.take_stalled(after(10)), []);
        assert_eq!(sessions.take_stalled(after(11)), [(a.clone(), 3)]);
        assert_eq!(sessions.take_stalled(after(30)), []);
        // Whoever is heard of is alive, or has failed in the log.
        sessions.begin(&a, after(40));
        sessions.begin(&a, after(41));
        sessions.heard_of("a");
        sessions.begin(&a, after(49));
        assert_eq!(sessions.take_stalled(after(55)), []);
        // One session alone may be a large message.
        assert_eq!(sessions.take_stalled(after(60)), []);
    }

    #[test]
    fn thin_traffic_to_a_backend_that_hangs_stalls_ten_seconds_after_its_second_message() {
        let (sessions, start) = (BegunSessions::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let a: Arc<str> = "a".into();
        // One message every 11 s, and a look every second.
        for second in 0..=20 {
            assert_eq!(sessions.take_stalled(after(second)), [], "{second}");
            if second % 11 == 0 {
                sessions.begin(&a, after(second));
            }
        }
        assert_eq!(sessions.take_stalled(after(21)), [(a.clone(), 2)]);
        // The same traffic to a backend that works, whose log has a line of each.
        for second in 20..80 {
            if second % 11 == 0 {
                sessions.begin(&a, after(second));
                sessions.heard_of("a");
            }
            assert_eq!(sessions.take_stalled(after(second)), [], "{second}");
        }
    }

    #[test]
    fn a_message_beside_a_large_one_has_ten_seconds_of_its_own() {
        let (sessions, start) = (BegunSessions::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let a: Arc<str> = "a".into();
        // The large one takes a minute.
        sessions.begin(&a, after(0));
        sessions.begin(&a, after(40));
        for second in 40..46 {
            assert_eq!(sessions.take_stalled(after(second)), [], "{second}");
        }
        sessions.heard_of("a");
        assert_eq!(sessions.take_stalled(after(60)), []);
    }

    #[test]
    fn a_session_whose_line_was_lost_is_forgotten_in_the_end() {
        let (sessions, start) = (BegunSessions::default(), Instant::now());
        let after = |minutes| start + Duration::from_mins(minutes);
        let a: Arc<str> = "a".into();
        sessions.begin(&a, after(0));
        assert_eq!(sessions.take_stalled(after(15)), []);
        sessions.begin(&a, after(16));
        assert_eq!(sessions.take_stalled(after(17)), [], "it is alone");
        sessions.begin(&a, after(18));
        sessions.forget_all();
        assert_eq!(sessions.take_stalled(after(19)), []);
    }
}
