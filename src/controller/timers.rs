//! One timer for each key.

use std::collections::{BTreeMap, BTreeSet};

use mail_failover_core::model::Timestamp;

/// Timers by key, at most one each.
#[derive(Debug)]
pub(super) struct KeyedTimers<K> {
    queue: BTreeSet<(Timestamp, K)>,
    by_key: BTreeMap<K, Timestamp>,
}

impl<K> Default for KeyedTimers<K> {
    fn default() -> Self {
        Self { queue: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Clone + Ord> KeyedTimers<K> {
    /// Sets a timer, unless an earlier one is set already.
    pub(super) fn set(&mut self, key: &K, at: Timestamp) {
        if self.by_key.get(key).is_some_and(|known| *known <= at) {
            return;
        }
        self.clear(key);
        self.queue.insert((at, key.clone()));
        self.by_key.insert(key.clone(), at);
    }

    /// Takes a timer back, if it is set.
    pub(super) fn clear(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.queue.remove(&(at, key.clone()));
        }
    }

    /// The end of the first timer.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes the key of a timer that has ended, the earliest first.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<K> {
        self.next_timeout().filter(|at| *at <= now)?;
        let (_, key) = self.queue.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_timer_of_a_key_stays_and_ends_once() {
        let at = Timestamp::from_micros;
        let mut timers = KeyedTimers::default();
        timers.set(&"a", at(20));
        timers.set(&"b", at(10));
        timers.set(&"a", at(30));
        timers.set(&"a", at(15));
        timers.set(&"c", at(5));
        timers.clear(&"c");
        assert_eq!(timers.next_timeout(), Some(at(10)));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(15)), Some("b"));
        assert_eq!(timers.pop(at(15)), Some("a"));
        assert_eq!((timers.pop(at(99)), timers.next_timeout()), (None, None));
    }
}
