//! Liveness and readiness of the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pulse of a loop; the process is alive as long as it beats. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Pulse>);

#[derive(Debug)]
struct Pulse {
    origin: Instant,
    /// Time of the last beat, in milliseconds since `origin`.
    last: AtomicU64,
    longest_pause: Duration,
}

impl Heartbeat {
    /// Makes a pulse that beats now and is dead after a pause longer than this.
    pub fn new(longest_pause: Duration) -> Self {
        Self(Arc::new(Pulse { origin: Instant::now(), last: AtomicU64::new(0), longest_pause }))
    }

    /// Marks one turn of the loop.
    pub fn beat(&self) {
        self.0.last.store(self.millis(), Ordering::Relaxed);
    }

    /// Returns the time since the last beat.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.millis().saturating_sub(self.0.last.load(Ordering::Relaxed)))
    }

    /// Returns true if the last beat is recent enough.
    pub fn is_alive(&self) -> bool {
        self.age() <= self.0.longest_pause
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.0.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Conditions that must be met once before the process is ready, each with the reason why it is not. Cheap to clone.
///
/// The operator is ready when every watch has listed its objects. A standby becomes ready like the leader. Readiness
/// does not wait for the first round of probes: a rolling update would wait for the slowest backend.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Conditions>>);

#[derive(Debug, Default)]
struct Conditions {
    missing: BTreeMap<String, String>,
    remarks: BTreeMap<&'static str, String>,
}

impl Readiness {
    /// Adds a condition that is not met yet.
    pub fn expect(&self, what: impl Into<String>) {
        self.lock().missing.entry(what.into()).or_insert_with(|| "waiting for the first answer".to_owned());
    }

    /// Notes why a condition is not met. Has no effect once it is.
    pub fn hindered(&self, what: &str, why: &str) {
        if let Some(reason) = self.lock().missing.get_mut(what) {
            why.clone_into(reason);
        }
    }

    /// Marks a condition as met.
    pub fn met(&self, what: &str) {
        self.lock().missing.remove(what);
    }

    /// Returns the conditions that are not met, with their reasons; empty when the process is ready.
    pub fn missing(&self) -> Vec<(String, String)> {
        self.lock().missing.iter().map(|(what, why)| (what.clone(), why.clone())).collect()
    }

    /// Notes what people should know of a process that is ready all the same; `None` when it is over.
    pub fn remark(&self, what: &'static str, why: Option<String>) {
        let mut conditions = self.lock();
        match why {
            Some(why) => drop(conditions.remarks.insert(what, why)),
            None => drop(conditions.remarks.remove(what)),
        }
    }

    /// Returns what people should know, each with its reason.
    pub fn remarks(&self) -> Vec<(&'static str, String)> {
        self.lock().remarks.iter().map(|(what, why)| (*what, why.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Conditions> {
        // No user of the lock can leave the maps half changed.
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
