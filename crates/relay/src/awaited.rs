//! Final answers that backends owe: messages whose end was sent and that nothing was said of.
//!
//! Such a message waits for its answer until the end of its transaction's bound, because a short wait would make doubt
//! where a slow answer was on its way. The messages after it need not wait for that to learn that the backend does not
//! answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least number of messages that wait.
// One alone may be a large one that is scanned.
const AT_LEAST: usize = 2;

/// Messages of all backends that wait for their final answers. Clones share them.
#[derive(Clone, Debug)]
pub struct AwaitedAnswers {
    after: Duration,
    backends: Arc<Mutex<BTreeMap<Arc<str>, AwaitedOfBackend>>>,
}

#[derive(Debug, Default)]
struct AwaitedOfBackend {
    /// Times at which the ends of messages were sent, by numbers of ours.
    begun: BTreeMap<u64, Instant>,
    next: u64,
    /// Time of the latest answer that came while others were waited for.
    answered_at: Option<Instant>,
    is_told: bool,
}

impl AwaitedOfBackend {
    /// Number of the messages that have waited for so long since the backend's latest answer.
    fn waiting_for(&self, after: Duration, now: Instant) -> usize {
        let since = self.begun.values().map(|begun| self.answered_at.map_or(*begun, |answered| answered.max(*begun)));
        since.filter(|since| now.saturating_duration_since(*since) >= after).count()
    }
}

impl AwaitedAnswers {
    /// Without messages. A backend whose answers do not come for so long has stalled.
    pub fn new(after: Duration) -> Self {
        Self { after, backends: Arc::default() }
    }

    /// Notes that the end of a message is sent to a backend. It waits until the result is dropped.
    pub fn begin(&self, backend: &Arc<str>, now: Instant) -> AwaitedAnswer {
        let mut backends = self.lock();
        let of_backend = backends.entry(backend.clone()).or_default();
        let number = of_backend.next;
        of_backend.next += 1;
        of_backend.begun.insert(number, now);
        AwaitedAnswer { answers: self.clone(), backend: backend.clone(), number }
    }

    /// Takes the backends that have stalled, each with the number of messages. Each is told once until it answers.
    pub fn take_stalled(&self, now: Instant) -> Vec<(Arc<str>, u32)> {
        let mut stalled = vec![];
        for (backend, of_backend) in self.lock().iter_mut().filter(|(_, of_backend)| !of_backend.is_told) {
            let waiting = of_backend.waiting_for(self.after, now);
            if waiting >= AT_LEAST {
                of_backend.is_told = true;
                stalled.push((backend.clone(), u32::try_from(waiting).unwrap_or(u32::MAX)));
            }
        }
        stalled
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, AwaitedOfBackend>> {
        // Every critical section leaves the map whole.
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message that waits for its final answer.
#[derive(Debug)]
pub struct AwaitedAnswer {
    answers: AwaitedAnswers,
    backend: Arc<str>,
    number: u64,
}

impl AwaitedAnswer {
    /// Notes that the backend has answered: it is alive, whatever it has said.
    pub fn answered(self, now: Instant) {
        let mut backends = self.answers.lock();
        if let Some(of_backend) = backends.get_mut(&self.backend) {
            of_backend.answered_at = Some(now);
            of_backend.is_told = false;
        }
    }
}

impl Drop for AwaitedAnswer {
    fn drop(&mut self) {
        let mut backends = self.answers.lock();
        let Some(of_backend) = backends.get_mut(&self.backend) else { return };
        of_backend.begun.remove(&self.number);
        if of_backend.begun.is_empty() {
            backends.remove(&self.backend);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_leaves_two_messages_without_an_answer_has_stalled_once() {
        let (awaited, start) = (AwaitedAnswers::new(Duration::from_secs(5)), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let a: Arc<str> = "a".into();
        let first = awaited.begin(&a, after(0));
        assert_eq!(awaited.take_stalled(after(20)), [], "one alone may be a large one");
        let second = awaited.begin(&a, after(20));
        assert_eq!(awaited.take_stalled(after(24)), []);
        assert_eq!(awaited.take_stalled(after(25)), [(a.clone(), 2)]);
        assert_eq!(awaited.take_stalled(after(26)), [], "it is told once");
        // Who answers is alive, and has all the time anew.
        let third = awaited.begin(&a, after(26));
        first.answered(after(30));
        assert_eq!(awaited.take_stalled(after(34)), []);
        assert_eq!(awaited.take_stalled(after(35)), [(a.clone(), 2)]);
        drop((second, third));
        assert!(awaited.lock().is_empty(), "nothing is left behind");
    }
}
