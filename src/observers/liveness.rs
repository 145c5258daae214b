//! Liveness of observers, told from changes of their Leases. No I/O; time is an argument.
//!
//! An observer that is seen for the first time counts as if it had just changed: the time of the real change is known
//! to its own clock only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use mail_failover_core::model::{ResourceVersion, Uid};

/// Most observers that are tracked.
pub(super) const MAX_OBSERVERS: usize = 64;
/// Longest lease duration that is believed.
// A Lease that says more is not believed: the election's settings allow no more.
const LONGEST_LEASE: Duration = Duration::from_mins(5);
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// Number of lease durations without a change after which a Lease is garbage.
const GARBAGE_AFTER: u32 = 10;

/// One version of an observer's Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseVersion {
    pub uid: Uid,
    pub resource_version: ResourceVersion,
}

#[derive(Debug)]
struct SeenLease {
    version: LeaseVersion,
    /// Time from which on it has been as it is.
    since: Instant,
    lasts: Duration,
    is_silent: bool,
    /// Time of the next attempt to delete it.
    swept_at: Instant,
}

/// The observers whose Leases exist.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    known: BTreeMap<Arc<str>, SeenLease>,
    /// Names seen so far, while a list is under way.
    listed: Option<BTreeSet<Arc<str>>>,
}

impl SeenLease {
    fn next_timeout(&self) -> Instant {
        if self.is_silent { self.swept_at } else { self.since + self.lasts }
    }
}

impl Liveness {
    /// Takes a Lease in this version. Returns true if that is a sign of life; `None` if there are too many observers.
    // ADR-0027: A new peer counts as alive for a lease duration.
    pub(super) fn seen(
        &mut self,
        now: Instant,
        name: &Arc<str>,
        version: LeaseVersion,
        lasts: Duration,
    ) -> Option<bool> {
        if !self.known.contains_key(name) && self.known.len() >= MAX_OBSERVERS {
            return None;
        }
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        let lasts = lasts.clamp(SHORTEST_LEASE, LONGEST_LEASE);
        if self.known.get(name).is_some_and(|known| known.version == version) {
            return Some(false);
        }
        let swept_at = now + lasts * GARBAGE_AFTER;
        self.known.insert(name.clone(), SeenLease { version, since: now, lasts, is_silent: false, swept_at });
        Some(true)
    }

    /// Takes the deletion of a Lease. Returns true if it was known.
    pub(super) fn gone(&mut self, name: &str) -> bool {
        self.known.remove(name).is_some()
    }

    /// Begins a list of everything; one that broke off starts over.
    pub(super) fn begin_list(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// Ends the list. Returns the Leases that have vanished.
    pub(super) fn end_list(&mut self) -> Vec<Arc<str>> {
        let Some(listed) = self.listed.take() else { return vec![] };
        self.known.extract_if(.., |name, _| !listed.contains(name)).map(|(name, _)| name).collect()
    }

    /// Returns the time to call [`Self::silenced`] or [`Self::garbage`] again.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.known.values().map(SeenLease::next_timeout).min()
    }

    /// Returns the observers that have now been unchanged for their lease duration; each once for every silence.
    pub(super) fn silenced(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut silenced = vec![];
        for (name, entry) in &mut self.known {
            if !entry.is_silent && now >= entry.since + entry.lasts {
                entry.is_silent = true;
                silenced.push(name.clone());
            }
        }
        silenced
    }

    /// Returns the Leases that have been unchanged for so long that their owner will not come back; each again a lease
    /// duration later.
    pub(super) fn garbage(&mut self, now: Instant) -> Vec<(Arc<str>, LeaseVersion)> {
        let due = self.known.iter_mut().filter(|(_, entry)| entry.is_silent && now >= entry.swept_at);
        due.map(|(name, entry)| {
            entry.swept_at = now + entry.lasts;
            (name.clone(), entry.version.clone())
        })
        .collect()
    }
}

#[cfg(test)]
impl LeaseVersion {
    pub(super) fn for_test(uid: &str, resource_version: &str) -> Self {
        Self {
            uid: Uid::parse(Some(uid)).expect("it is not empty"),
            resource_version: ResourceVersion::parse(Some(resource_version)).expect("it is not empty"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(15);
    const MOMENT: Duration = Duration::from_millis(1);

    fn version(number: u64) -> LeaseVersion {
        LeaseVersion::for_test("uid", &number.to_string())
    }

    fn names(of: &[Arc<str>]) -> Vec<&str> {
        of.iter().map(|name| &**name).collect()
    }

    #[test]
    fn who_does_not_change_for_a_lease_duration_is_silent_until_it_does() {
        let (start, name) = (Instant::now(), Arc::from("a"));
        let mut liveness = Liveness::default();
        assert_eq!(liveness.seen(start, &name, version(1), LASTS), Some(true));
        // The same version once more, from a new list, is no sign of life.
        assert_eq!(liveness.seen(start + LASTS / 2, &name, version(1), LASTS), Some(false));
        assert_eq!(liveness.next_timeout(), Some(start + LASTS));
        assert!(liveness.silenced(start + LASTS - MOMENT).is_empty());
        assert_eq!(names(&liveness.silenced(start + LASTS)), ["a"]);
        assert!(liveness.silenced(start + 2 * LASTS).is_empty(), "it is said once");
        assert_eq!(liveness.seen(start + 2 * LASTS, &name, version(2), LASTS), Some(true));
        assert!(liveness.silenced(start + 3 * LASTS - MOMENT).is_empty());
        assert_eq!(names(&liveness.silenced(start + 3 * LASTS)), ["a"], "every silence is said");
    }

    #[test]
    fn who_is_silent_for_ten_lease_durations_is_garbage_again_and_again() {
        let (start, name) = (Instant::now(), Arc::from("a"));
        let mut liveness = Liveness::default();
        liveness.seen(start, &name, version(1), LASTS);
        liveness.silenced(start + 10 * LASTS - MOMENT);
        assert!(liveness.garbage(start + 10 * LASTS - MOMENT).is_empty());
        assert_eq!(liveness.next_timeout(), Some(start + 10 * LASTS));
        assert_eq!(liveness.garbage(start + 10 * LASTS), [(name.clone(), version(1))]);
        assert!(liveness.garbage(start + 10 * LASTS + MOMENT).is_empty(), "not at once again");
        assert_eq!(liveness.next_timeout(), Some(start + 11 * LASTS));
        liveness.seen(start + 11 * LASTS, &name, version(2), LASTS);
        assert!(liveness.garbage(start + 11 * LASTS).is_empty(), "it lives");
    }

    #[test]
    fn a_new_list_tells_who_has_vanished() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        for name in ["a", "b", "c"] {
            liveness.seen(start, &name.into(), version(1), LASTS);
        }
        liveness.begin_list();
        liveness.seen(start, &"b".into(), version(1), LASTS);
        // It breaks off and starts over.
        liveness.begin_list();
        liveness.seen(start, &"c".into(), version(1), LASTS);
        assert_eq!(names(&liveness.end_list()), ["a", "b"]);
        assert!(liveness.gone("c") && !liveness.gone("c"));
        assert!(liveness.known.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_and_no_lease_lasts_for_ever() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        let name = |number: usize| Arc::from(number.to_string());
        for number in 0..MAX_OBSERVERS {
            assert_eq!(liveness.seen(start, &name(number), version(1), Duration::MAX), Some(true));
        }
        assert_eq!(liveness.seen(start, &name(MAX_OBSERVERS), version(1), LASTS), None);
        assert_eq!(liveness.seen(start, &name(0), version(2), Duration::ZERO), Some(true), "who is known goes on");
        assert_eq!(liveness.silenced(start + SHORTEST_LEASE), [name(0)]);
        assert_eq!(liveness.silenced(start + LONGEST_LEASE).len(), MAX_OBSERVERS - 1);
    }
}
