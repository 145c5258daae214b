//! The election as a state machine: the next call for the lease, and the end of the claim.
//!
//! Architecture invariant: this module does no I/O and reads no clock. `now` is monotonic time since an origin of the
//! caller's own; no time of another replica is ever compared with it.

use std::time::Duration;

/// Longest lease duration.
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
pub struct Record {
    /// The lease's `metadata.uid`.
    pub uid: String,
    /// The lease's `metadata.resourceVersion`.
    pub resource_version: String,
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

/// The next call for the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Read the lease again.
    Read,
    /// Write it on a condition.
    Write(Write),
}

/// A write of the lease, on the condition that it is still what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Identity of the record to replace; `None` creates the lease.
    pub over: Option<(String, String)>,
    /// The new holder; empty to vacate.
    pub holder: String,
    /// Number of changes of the holder: `spec.leaseTransitions`.
    pub transitions: i32,
    /// True if this begins a new term; otherwise it renews or ends the present one.
    pub takes: bool,
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
pub struct Held {
    /// Number of the term, different for each term of this process.
    pub term: u64,
    /// `spec.leaseTransitions` of this term.
    pub transitions: i32,
    /// End of the claim.
    pub deadline: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sight {
    /// It has not been looked at yet.
    Unknown,
    /// There is no lease.
    Missing {
        /// Start of the absence, if there was a lease before.
        // Deleting a lease does not stop its holder.
        since: Option<Duration>,
    },
    /// The lease exists.
    Present {
        record: Record,
        /// Time from which on it has been as it is.
        since: Duration,
    },
}

/// One replica's part in the election. It can be copied and compared, so that a model checker can drive it (`tests/model_check/`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    identity: String,
    timing: Timing,
    sight: Sight,
    /// True if the last seen record is known to be outdated.
    stale: bool,
    held: Option<Held>,
    terms: u64,
    transitions: Option<i32>,
}

impl Machine {
    /// One that has seen nothing yet; `identity` as in `Settings`.
    pub fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, sight: Sight::Unknown, stale: false, held: None, terms: 0, transitions: None }
    }

    /// Returns the claim if it still holds. One whose deadline has passed is gone for good: the next one has another
    /// term.
    pub fn held(&mut self, now: Duration) -> Option<Held> {
        self.held = self.held.filter(|held| now < held.deadline);
        self.held
    }

    /// Gives the claim up.
    pub fn forfeit(&mut self) {
        self.held = None;
    }

    /// Returns the call to make now.
    pub fn call(&mut self, now: Duration) -> Call {
        let held = self.held(now);
        if self.stale {
            return Call::Read;
        }
        let over = match &self.sight {
            Sight::Unknown => return Call::Read,
            Sight::Missing { .. } => None,
            Sight::Present { record, .. } => Some((record.uid.clone(), record.resource_version.clone())),
        };
        let holder = self.identity.clone();
        match held {
            Some(held) => Call::Write(Write { over, holder, transitions: held.transitions, takes: false }),
            None if self.is_free(now) => {
                let transitions = self.transitions.map_or(0, |transitions| transitions.saturating_add(1));
                Call::Write(Write { over, holder, transitions, takes: true })
            }
            None => Call::Read,
        }
    }

    /// Returns the write that vacates the lease, if it is known to be ours. The claim ends here, before the write is
    /// sent.
    pub fn vacate(&mut self) -> Option<Write> {
        self.held = None;
        match &self.sight {
            Sight::Present { record, .. } if record.holder == self.identity && !self.stale => Some(Write {
                over: Some((record.uid.clone(), record.resource_version.clone())),
                holder: String::new(),
                transitions: record.transitions,
                takes: false,
            }),
            Sight::Present { .. } | Sight::Missing { .. } | Sight::Unknown => None,
        }
    }

    /// Takes the result of a read.
    pub fn read(&mut self, now: Duration, record: Option<Record>) -> Then {
        self.stale = false;
        let sight = match record {
            Some(record) => {
                if record.holder != self.identity {
                    self.held = None;
                }
                self.transitions = Some(record.transitions);
                let since = match &self.sight {
                    Sight::Present { record: before, since } if *before == record => *since,
                    Sight::Present { .. } | Sight::Missing { .. } | Sight::Unknown => now,
                };
                Sight::Present { record, since }
            }
            // Even if it was ours or nobody's when it was last seen: somebody may have taken it since.
            None => Sight::Missing {
                since: match &self.sight {
                    Sight::Present { .. } => Some(now),
                    Sight::Missing { since } => *since,
                    Sight::Unknown => None,
                },
            },
        };
        self.sight = sight;
        match self.call(now) {
            Call::Write(_) => Then::Now,
            Call::Read => Then::Later,
        }
    }

    /// Takes an accepted write that was sent at `sent`, and the lease as it is since.
    pub fn written(&mut self, sent: Duration, now: Duration, write: &Write, record: Record) -> Then {
        let before = self.held(now);
        self.stale = false;
        self.transitions = Some(record.transitions);
        self.sight = Sight::Present { record, since: now };
        if write.holder.is_empty() {
            self.held = None;
            return Then::Later;
        }
        let deadline = sent + self.timing.renew_deadline;
        if write.takes {
            self.terms += 1;
            self.held = Some(Held { term: self.terms, transitions: write.transitions, deadline });
        } else {
            // An answer that comes after the claim has lapsed does not bring it back: somebody may have acted on its loss.
            self.held = before.map(|held| Held { deadline: held.deadline.max(deadline), ..held });
        }
        if self.held(now).is_some() { Then::Later } else { Then::Now }
    }

    /// Notes that the record is outdated, or not known to be current.
    pub fn outdated(&mut self) {
        self.stale = true;
    }

    /// Returns true if nobody can hold a claim any more.
    fn is_free(&self, now: Duration) -> bool {
        match &self.sight {
            Sight::Unknown => false,
            Sight::Missing { since: None } => true,
            Sight::Missing { since: Some(since) } => now >= *since + self.timing.lease_duration,
            Sight::Present { record, since } => {
                // The holder may count on a longer lease than we do, while an update changes the setting.
                let patience = self.timing.lease_duration.max(record.duration.min(LONGEST_LEASE));
                !self.is_foreign(record) || now >= *since + patience
            }
        }
    }

    fn is_foreign(&self, record: &Record) -> bool {
        !record.holder.is_empty() && record.holder != self.identity
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
