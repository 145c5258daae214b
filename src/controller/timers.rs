//! One timer per key.

use std::collections::{BTreeMap, BTreeSet};

use mail_failover_core::model::Timestamp;

/// Timers, at most one per key. A key whose timer ended has none until it is set again.
#[derive(Debug)]
pub(super) struct KeyedTimers<K> {
    by_time: BTreeSet<(Timestamp, K)>,
    by_key: BTreeMap<K, Timestamp>,
}

impl<K> Default for KeyedTimers<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Clone + Ord> KeyedTimers<K> {
    /// Sets the timer of a key, unless one that ends earlier is set already.
    pub(super) fn set(&mut self, key: &K, at: Timestamp) {
        if self.by_key.get(key).is_some_and(|earlier| *earlier <= at) {
            return;
        }
        self.clear(key);
        self.by_time.insert((at, key.clone()));
        self.by_key.insert(key.clone(), at);
    }

    /// Takes the timer of a key away.
    pub(super) fn clear(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    /// Time at which the first timer ends.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes away a timer that has ended and returns its key; the earliest first.
    pub(super) fn pop_ended(&mut self, now: Timestamp) -> Option<K> {
        let (at, key) = self.by_time.pop_first()?;
        if at > now {
            self.by_time.insert((at, key));
            return None;
        }
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_earliest_timer_of_a_key_stays_and_ends_once() {
        let mut timers = KeyedTimers::default();
        timers.set(&"a", at(2));
        timers.set(&"a", at(3));
        timers.set(&"b", at(4));
        timers.set(&"b", at(1));
        timers.set(&"c", at(1));
        timers.clear(&"c");
        assert_eq!(timers.next_timeout(), Some(at(1)));
        let ended: Vec<_> = std::iter::from_fn(|| timers.pop_ended(at(2))).collect();
        assert_eq!((ended, timers.next_timeout()), (vec!["b", "a"], None));
    }
}
