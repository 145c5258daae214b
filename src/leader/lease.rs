//! The election as a state machine: the next call for the lease, and the end of the claim.
//!
//! Architecture invariant: this module does no I/O and reads no clock. `now` is monotonic time since an origin of the
//! caller's own; no time of another replica is ever compared with it.

use std::time::Duration;

use mail_failover_core::model::{ResourceVersion, Uid};

/// Longest lease duration that is believed.
// A record that says more is not believed; `Settings` allow no more.
pub const LONGEST_LEASE: Duration = Duration::from_mins(5);

/// The times of an election; see `Settings` for what they must satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Time for which a record must be unchanged before its holder is taken for dead.
    pub lease_duration: Duration,
    /// Time that a claim lasts, from the sending of the renewal.
    pub renew_deadline: Duration,
}

/// The lease as the API server shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseRecord {
    /// Uid in the lease's metadata.
    pub uid: Uid,
    /// Resource version in the lease's metadata.
    pub resource_version: ResourceVersion,
    /// `spec.holderIdentity`; empty if the lease is vacant.
    pub holder: String,
    /// `spec.renewTime` in microseconds since the Unix epoch.
    // Only compared for equality: it is another replica's clock.
    pub renewed: Option<i64>,
    /// Number of changes of the holder: `spec.leaseTransitions`.
    pub transitions: i32,
    /// `spec.leaseDurationSeconds`: what the holder counts on.
    pub duration: Duration,
}

/// Action on the lease that the machine asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseAction {
    /// Read the lease again.
    Read,
    /// Write it on a condition.
    Write(LeaseWrite),
}

/// A write of the lease, on the condition that it is still what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseWrite {
    /// Identity of the record to replace; `None` creates the lease.
    pub over: Option<(Uid, ResourceVersion)>,
    /// The new holder: this replica, or the one that the lease is given to; empty to vacate.
    pub holder: String,
    /// Number of changes of the holder: `spec.leaseTransitions`.
    pub transitions: i32,
    /// True if this begins a new term; otherwise it renews or ends the present one.
    pub takes: bool,
}

/// Result of a call for the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseEvent {
    /// The lease was read; `None` if there is none.
    Read(Option<LeaseRecord>),
    /// A write was accepted.
    Written {
        /// Time at which it was sent.
        sent: Duration,
        /// The write that was accepted.
        write: LeaseWrite,
        /// The lease as it is since.
        record: LeaseRecord,
    },
    /// A write was refused or had no answer, so the last seen record is not known to be current.
    Outdated,
}

/// Time of the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Go on at once.
    Now,
    /// Wait for the next turn.
    Later,
}

/// A claim to the leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeldLease {
    /// Number of the term, different for each term of this process.
    pub term: u64,
    /// `spec.leaseTransitions` of this term.
    pub transitions: i32,
    /// End of the claim.
    pub deadline: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LeaseState {
    /// It has not been looked at yet.
    Unknown,
    /// There is no lease.
    Missing {
        /// Start of the absence, if there was a lease before.
        // Deleting a lease does not stop its holder.
        since: Option<Duration>,
    },
    /// The lease exists, as last seen.
    Present {
        record: LeaseRecord,
        /// Time from which on it has been as it is.
        since: Duration,
    },
}

/// One replica's part in the election. It can be copied and compared, so that a model checker can drive it
/// (`tests/model_check/`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseMachine {
    identity: String,
    timing: Timing,
    sight: LeaseState,
    /// True if the last seen record is known to be outdated.
    stale: bool,
    held: Option<HeldLease>,
    /// Start of the latest term of its own.
    term_began_at: Duration,
    successor: Option<Successor>,
    terms: u64,
    transitions: Option<i32>,
}

/// Replica that is fitter to lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Successor {
    identity: String,
    /// Time since which there has been one without interruption.
    since: Duration,
}

impl LeaseMachine {
    /// One that has seen nothing yet; `identity` as in `Settings`.
    pub fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            sight: LeaseState::Unknown,
            stale: false,
            held: None,
            term_began_at: Duration::ZERO,
            successor: None,
            terms: 0,
            transitions: None,
        }
    }

    /// Notes the replica that is fitter to lead; `None` while this one is fit itself, or no other is fitter.
    ///
    /// A holder gives the lease to it, and its claim ends before that is written. It does so only after half a renew
    /// deadline, and no sooner than a lease duration after its term began. So the lease is given away at most once in a
    /// lease duration, by whomever.
    // ADR-0101: A suspect leader gives its Lease away.
    pub fn set_successor(&mut self, now: Duration, successor: Option<&str>) {
        let since = self.successor.as_ref().map_or(now, |known| known.since);
        self.successor = successor.map(|identity| Successor { identity: identity.to_owned(), since });
    }

    /// Takes the result of a call. Returns the time of the next one.
    pub fn handle(&mut self, now: Duration, event: LeaseEvent) -> Then {
        match event {
            LeaseEvent::Read(record) => self.read(now, record),
            LeaseEvent::Written { sent, write, record } => self.written(sent, now, &write, record),
            LeaseEvent::Outdated => {
                self.stale = true;
                Then::Now
            }
        }
    }

    /// Ends a claim whose deadline has passed. It is gone for good: the next one has another term.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.held = self.held.filter(|held| now < held.deadline);
    }

    /// Returns the deadline of the claim, if there is one.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.held.map(|held| held.deadline)
    }

    /// Returns the claim if it still holds at `now`.
    pub fn held(&mut self, now: Duration) -> Option<HeldLease> {
        self.handle_timeout(now);
        self.held
    }

    /// Gives the claim up.
    pub fn forfeit(&mut self) {
        self.held = None;
    }

    /// Returns the call to make now. A claim that is given away ends here, before the write is sent.
    pub fn poll(&mut self, now: Duration) -> LeaseAction {
        let action = self.next_action(now);
        if let LeaseAction::Write(write) = &action
            && write.holder != self.identity
        {
            self.held = None;
        }
        action
    }

    fn next_action(&mut self, now: Duration) -> LeaseAction {
        let held = self.held(now);
        if self.stale {
            return LeaseAction::Read;
        }
        if let Some(write) = self.give_away(now) {
            return LeaseAction::Write(write);
        }
        let over = match &self.sight {
            LeaseState::Unknown => return LeaseAction::Read,
            LeaseState::Missing { .. } => None,
            LeaseState::Present { record, .. } => Some((record.uid.clone(), record.resource_version.clone())),
        };
        let holder = self.identity.clone();
        match held {
            Some(held) => LeaseAction::Write(LeaseWrite { over, holder, transitions: held.transitions, takes: false }),
            None if self.is_free(now) => {
                let transitions = self.transitions.map_or(0, |transitions| transitions.saturating_add(1));
                LeaseAction::Write(LeaseWrite { over, holder, transitions, takes: true })
            }
            None => LeaseAction::Read,
        }
    }

    /// Returns the write that vacates the lease, if it is known to be ours. The claim ends here, before the write is
    /// sent.
    pub fn vacate(&mut self) -> Option<LeaseWrite> {
        self.held = None;
        match &self.sight {
            LeaseState::Present { record, .. } if record.holder == self.identity && !self.stale => Some(LeaseWrite {
                over: Some((record.uid.clone(), record.resource_version.clone())),
                holder: String::new(),
                transitions: record.transitions,
                takes: false,
            }),
            LeaseState::Present { .. } | LeaseState::Missing { .. } | LeaseState::Unknown => None,
        }
    }

    /// Returns the write that gives the lease to the successor, if that is due.
    fn give_away(&self, now: Duration) -> Option<LeaseWrite> {
        let held = self.held?;
        let Successor { identity, since } = self.successor.as_ref()?;
        let Timing { lease_duration, renew_deadline } = self.timing;
        if now < self.term_began_at + lease_duration || now < *since + renew_deadline / 2 {
            return None;
        }
        let LeaseState::Present { record, .. } = &self.sight else { return None };
        let over = Some((record.uid.clone(), record.resource_version.clone()));
        Some(LeaseWrite { over, holder: identity.clone(), transitions: held.transitions, takes: false })
    }

    fn read(&mut self, now: Duration, record: Option<LeaseRecord>) -> Then {
        self.stale = false;
        let sight = match record {
            Some(record) => {
                if record.holder != self.identity {
                    self.held = None;
                }
                self.transitions = Some(record.transitions);
                let since = match &self.sight {
                    LeaseState::Present { record: before, since } if *before == record => *since,
                    LeaseState::Present { .. } | LeaseState::Missing { .. } | LeaseState::Unknown => now,
                };
                LeaseState::Present { record, since }
            }
            // A lease that was ours or vacant when last seen may have been taken since by another replica.
            None => LeaseState::Missing {
                since: match &self.sight {
                    LeaseState::Present { .. } => Some(now),
                    LeaseState::Missing { since } => *since,
                    LeaseState::Unknown => None,
                },
            },
        };
        self.sight = sight;
        match self.next_action(now) {
            LeaseAction::Write(_) => Then::Now,
            LeaseAction::Read => Then::Later,
        }
    }

    fn written(&mut self, sent: Duration, now: Duration, write: &LeaseWrite, record: LeaseRecord) -> Then {
        let before = self.held(now);
        self.stale = false;
        self.transitions = Some(record.transitions);
        self.sight = LeaseState::Present { record, since: now };
        if write.holder != self.identity {
            self.held = None;
            return Then::Later;
        }
        let deadline = sent + self.timing.renew_deadline;
        if write.takes {
            self.terms += 1;
            self.term_began_at = now;
            self.held = Some(HeldLease { term: self.terms, transitions: write.transitions, deadline });
        } else {
            // An answer that arrives after the claim has lapsed does not revive it: readers may have acted on its loss.
            self.held = before.map(|held| HeldLease { deadline: held.deadline.max(deadline), ..held });
        }
        if self.held(now).is_some() { Then::Later } else { Then::Now }
    }

    /// Returns true if nobody can hold a claim any more.
    fn is_free(&self, now: Duration) -> bool {
        match &self.sight {
            LeaseState::Unknown => false,
            LeaseState::Missing { since: None } => true,
            LeaseState::Missing { since: Some(since) } => now >= *since + self.timing.lease_duration,
            LeaseState::Present { record, since } => {
                // During an update of the setting the holder may count on a longer lease than we do.
                let unchanged_for = self.timing.lease_duration.max(record.duration.min(LONGEST_LEASE));
                !self.is_foreign(record) || now >= *since + unchanged_for
            }
        }
    }

    fn is_foreign(&self, record: &LeaseRecord) -> bool {
        !record.holder.is_empty() && record.holder != self.identity
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
