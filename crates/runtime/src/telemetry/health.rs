//! Liveness and readiness.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The pulse of a loop: as long as it beats the process is alive. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Pulse>);

#[derive(Debug)]
struct Pulse {
    origin: Instant,
    /// Milliseconds since `origin`.
    last: AtomicU64,
    longest_pause: Duration,
}

impl Heartbeat {
    /// A heart that beats now for the first time and is dead when it pauses for longer than this.
    pub fn new(longest_pause: Duration) -> Self {
        Self(Arc::new(Pulse { origin: Instant::now(), last: AtomicU64::new(0), longest_pause }))
    }

    /// Beats.
    pub fn beat(&self) {
        self.0.last.store(self.millis(), Ordering::Relaxed);
    }

    /// How long ago the last beat was.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.millis().saturating_sub(self.0.last.load(Ordering::Relaxed)))
    }

    /// Whether the last beat is recent enough.
    pub fn is_alive(&self) -> bool {
        self.age() <= self.0.longest_pause
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.0.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What must have happened once before the process is ready, and why it has not yet. Cheap to clone.
///
/// Ready means: every watch has listed what there is. A standby becomes ready like the leader, and readiness does not wait for
/// the first round of probes: a rolling update would wait for the slowest backend.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, String>>>);

impl Readiness {
    /// Waits for this from now on.
    pub fn expect(&self, what: impl Into<String>) {
        self.lock().entry(what.into()).or_insert_with(|| "waiting for the first answer".to_owned());
    }

    /// Notes why this has not happened yet; without effect once it has.
    pub fn hindered(&self, what: &str, why: &str) {
        if let Some(reason) = self.lock().get_mut(what) {
            why.clone_into(reason);
        }
    }

    /// This has happened.
    pub fn met(&self, what: &str) {
        self.lock().remove(what);
    }

    /// What is missing and why; empty when the process is ready.
    pub fn missing(&self) -> Vec<(String, String)> {
        self.lock().iter().map(|(what, why)| (what.clone(), why.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // No user of the lock can leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_that_pauses_too_long_is_dead_until_it_beats_again() {
        let heartbeat = Heartbeat::new(Duration::from_millis(20));
        assert!(heartbeat.is_alive(), "it beats when it is made");
        std::thread::sleep(Duration::from_millis(60));
        assert!(!heartbeat.is_alive(), "its last beat was {:?} ago", heartbeat.age());
        heartbeat.beat();
        assert!(heartbeat.is_alive());
    }

    #[test]
    fn ready_is_when_nothing_expected_is_missing() {
        let readiness = Readiness::default();
        readiness.expect("Service");
        readiness.expect("MailRoute");
        readiness.hindered("MailRoute", "404 page not found");
        assert_eq!(
            readiness.missing(),
            [("MailRoute", "404 page not found"), ("Service", "waiting for the first answer")]
                .map(|(what, why)| (what.to_owned(), why.to_owned()))
        );
        readiness.met("MailRoute");
        readiness.met("Service");
        readiness.hindered("Service", "a later failure does not undo it");
        assert!(readiness.missing().is_empty());
    }
}
