use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use mail_failover_core::model::Timestamp;

/// Queue of future events in the order of time, and of insertion where times are equal.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Reverse<Item<T>>>,
    count: u64,
}

#[derive(Debug)]
struct Item<T> {
    at: Timestamp,
    number: u64,
    what: T,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), count: 0 }
    }

    pub(super) fn push(&mut self, at: Timestamp, what: T) {
        self.heap.push(Reverse(Item { at, number: self.count, what }));
        self.count += 1;
    }

    /// Returns the time of the next event.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse(item)| item.at)
    }

    /// Removes the next event if it is due by `end`.
    pub(super) fn pop_by(&mut self, end: Timestamp) -> Option<(Timestamp, T)> {
        if self.next_at()? > end {
            return None;
        }
        self.heap.pop().map(|Reverse(item)| (item.at, item.what))
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Item<T> {}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
