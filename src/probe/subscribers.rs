//! Subscribers of one probe: the probes of objects that are identical to it, each with an interval of its own.
//!
//! Pure: time is an argument. A round is made as often as the shortest interval asks for. Everybody hears of each round.
//! Those that come sooner than a subscriber's own interval asks for are marked as extra: they count for no recovery, so that
//! nobody's becomes faster because somebody else probes the same more often. Failures count by the time that they span.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ProbeTarget;
use mail_failover_core::engine::ConfirmationRule;
use mail_failover_core::model::{ProbeKey, ProbeReport};

/// Shortest interval that is kept, far below the 100 ms that the schema allows.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Longest interval that is kept, the longest that the schema allows.
const MAX_INTERVAL: Duration = Duration::from_hours(24);
/// Most namespaces that a place for a dialogue may be counted for.
const MAX_NAMESPACES: usize = 16;

/// One probe of an object.
#[derive(Clone, Debug)]
pub(super) struct Subscriber {
    revision: u64,
    interval: Duration,
    is_used: bool,
    confirmation: ConfirmationRule,
    idle_session: bool,
    /// Number of the latest round that it has taken.
    sequence: u64,
    /// Start of the latest round that it has taken; `None` before the first.
    taken_at: Option<Instant>,
}

/// A subscriber that takes a round.
#[derive(Clone, Debug)]
pub(super) struct Taker {
    key: ProbeKey,
    /// Number of the round among those that it takes.
    sequence: u64,
    /// True if the round comes sooner than its interval asks for.
    is_extra: bool,
}

/// All subscribers of one probe.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscribers(BTreeMap<ProbeKey, Subscriber>);

impl Subscriber {
    /// A subscriber that continues after this number.
    pub(super) fn new(target: &ProbeTarget, sequence: u64) -> Self {
        Self {
            revision: target.revision,
            interval: interval(target),
            is_used: target.is_used,
            confirmation: target.confirmation.clone(),
            idle_session: target.idle_session,
            sequence,
            taken_at: None,
        }
    }

    /// The same object, which asks for another probe now.
    pub(super) fn moved(self, target: &ProbeTarget) -> Self {
        Self::new(target, self.sequence)
    }

    fn update(&mut self, target: &ProbeTarget) {
        self.revision = target.revision;
        self.interval = interval(target);
        self.is_used = target.is_used;
        self.confirmation.clone_from(&target.confirmation);
        self.idle_session = target.idle_session;
    }

    /// Number of the latest round that it has taken.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn take(&mut self, started: Instant) -> u64 {
        self.sequence += 1;
        self.taken_at = Some(started);
        self.sequence
    }

    fn take_extra(&mut self, key: &ProbeKey) -> Taker {
        self.sequence += 1;
        Taker { key: key.clone(), sequence: self.sequence, is_extra: true }
    }
}

impl Subscribers {
    /// Adds a subscriber.
    pub(super) fn add(&mut self, key: ProbeKey, subscriber: Subscriber) {
        self.0.insert(key, subscriber);
    }

    /// Takes over revision, interval and use of a subscriber that is there. Returns true if its interval has changed.
    pub(super) fn update(&mut self, target: &ProbeTarget) -> bool {
        let Some(subscriber) = self.0.get_mut(&target.key) else { return false };
        let before = subscriber.interval;
        subscriber.update(target);
        before != subscriber.interval
    }

    /// Removes a subscriber.
    pub(super) fn remove(&mut self, key: &ProbeKey) -> Option<Subscriber> {
        self.0.remove(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if a route uses the backend of any subscriber.
    pub(super) fn are_used(&self) -> bool {
        self.0.values().any(|subscriber| subscriber.is_used)
    }

    /// True if any subscriber wants an idle session with each address.
    pub(super) fn want_idle_sessions(&self) -> bool {
        self.0.values().any(|subscriber| subscriber.idle_session)
    }

    /// Shortest interval that anybody asks for.
    pub(super) fn interval(&self) -> Duration {
        self.0.values().map(|subscriber| subscriber.interval).min().unwrap_or(MAX_INTERVAL)
    }

    /// Namespaces of the subscribers, the first ones of many.
    pub(super) fn namespaces(&self) -> Arc<[Arc<str>]> {
        let mut namespaces: Vec<Arc<str>> = vec![];
        for key in self.0.keys() {
            // Keys are sorted by namespace.
            if namespaces.last() != Some(&key.backend.namespace) {
                namespaces.push(key.backend.namespace.clone());
            }
            if namespaces.len() == MAX_NAMESPACES {
                break;
            }
        }
        namespaces.into()
    }

    /// Takes note of a round that starts now. Returns those who take it, sorted.
    // Numbered at the start: rounds overlap, and the one that was begun later tells the newer truth.
    // All of them take one after a change, which comes sooner than the interval asks for.
    pub(super) fn begin_round(&mut self, now: Instant, is_for_all: bool) -> Vec<Taker> {
        let mut takers = vec![];
        for (key, subscriber) in &mut self.0 {
            let is_due =
                subscriber.taken_at.is_none_or(|at| now + subscriber.interval / 20 >= at + subscriber.interval);
            if is_due || is_for_all {
                takers.push(Taker { key: key.clone(), sequence: subscriber.take(now), is_extra: false });
            } else {
                takers.push(subscriber.take_extra(key));
            }
        }
        takers
    }

    /// Takes note of a look beside those at the interval. Returns those who take it, sorted.
    pub(super) fn begin_look(&mut self) -> Vec<Taker> {
        let mut takers = vec![];
        for (key, subscriber) in &mut self.0 {
            takers.push(subscriber.take_extra(key));
        }
        takers
    }

    /// The looks that follow a first failure, for all of them.
    pub(super) fn confirmation(&self) -> ConfirmationRule {
        ConfirmationRule::together(self.0.values().map(|subscriber| &subscriber.confirmation))
    }

    /// Start of the next round, if rounds of the shortest interval are shifted by this share of it: before anybody has
    /// waited for more than 5 % beyond his interval.
    pub(super) fn next_start(&self, shift: f64) -> Option<Instant> {
        let shortest = self.interval();
        let mut starts = vec![];
        for Subscriber { interval, taken_at, .. } in self.0.values() {
            let wait = if *interval == shortest { interval.mul_f64(1.0 + shift) } else { *interval + *interval / 20 };
            starts.extend(taken_at.map(|taken_at| taken_at + wait));
        }
        starts.into_iter().min()
    }

    /// The reports of a round that was started then: to those who take it, and to those who came since and have taken
    /// none.
    pub(super) fn reports(&mut self, takers: &[Taker], started: Instant, of: &ProbeReport) -> Vec<ProbeReport> {
        let mut reports = self.reports_to(takers, of);
        for (key, subscriber) in &mut self.0 {
            if subscriber.taken_at.is_none() {
                let (key, sequence, revision) = (key.clone(), subscriber.take(started), subscriber.revision);
                reports.push(ProbeReport { key, revision, sequence, ..of.clone() });
            }
        }
        reports
    }

    /// The reports of a round to those who take it and are still there.
    pub(super) fn reports_to(&self, takers: &[Taker], of: &ProbeReport) -> Vec<ProbeReport> {
        let mut reports = vec![];
        for Taker { key, sequence, is_extra } in takers {
            if let Some(subscriber) = self.0.get(key) {
                let (key, revision, sequence, is_extra) = (key.clone(), subscriber.revision, *sequence, *is_extra);
                reports.push(ProbeReport { key, revision, sequence, is_extra, ..of.clone() });
            }
        }
        reports
    }

    /// Interval of one of them.
    pub(super) fn interval_of(&self, key: &ProbeKey) -> Duration {
        self.0.get(key).map_or(MAX_INTERVAL, |subscriber| subscriber.interval)
    }
}

/// The target's interval, within bounds.
fn interval(target: &ProbeTarget) -> Duration {
    // An interval of zero would be a busy loop; one of centuries would overflow an `Instant`.
    target.interval.clamp(MIN_INTERVAL, MAX_INTERVAL)
}
