//! The election as a state machine: what to do with the lease, and how long the claim lasts.
//!
//! Architecture invariant: this module does no I/O and reads no clock. `now` is monotonic time since an origin of the caller's own;
//! no time of another replica is ever compared with it.

use std::time::Duration;

/// No record is believed to last longer than this: `Settings` allow no more.
pub const LONGEST_LEASE: Duration = Duration::from_mins(5);

/// The times of an election; see `Settings` for what they must satisfy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// How long a record must be unchanged before its holder is taken for dead.
    pub lease_duration: Duration,
    /// How long a claim lasts, counted from when the renewal was sent.
    pub renew_deadline: Duration,
}

/// The lease as the API server shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Empty when it is vacant.
    pub holder: String,
    /// `spec.renewTime` in microseconds since the Unix epoch; only ever compared for being the same.
    pub renewed: Option<i64>,
    /// `spec.leaseTransitions`.
    pub transitions: i32,
    /// `spec.leaseDurationSeconds`: what the holder counts on.
    pub duration: Duration,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Read the lease.
    Read,
    /// Write it.
    Write(Write),
}

/// A write of the lease, on the condition that it is still what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Uid and resourceVersion of the record to replace; `None`: there is none, create it.
    pub over: Option<(String, String)>,
    /// The new holder; empty to vacate.
    pub holder: String,
    /// `spec.leaseTransitions`.
    pub transitions: i32,
    /// Whether this begins a new term; otherwise it renews the claim of the present one, or ends it.
    pub takes: bool,
}

/// When to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// At once.
    Now,
    /// At the next turn.
    Later,
}

/// A claim to the leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Counts this process's terms; never the same for two of them.
    pub term: u64,
    /// `spec.leaseTransitions` of this term.
    pub transitions: i32,
    /// The claim ends at this time.
    pub deadline: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sight {
    /// It has not been looked at yet.
    Unknown,
    /// There is no lease.
    Missing {
        /// Since when, if there was one before: who deletes a lease does not stop its holder.
        since: Option<Duration>,
    },
    /// There is one.
    Present {
        record: Record,
        /// Since when it is as it is.
        since: Duration,
    },
}

/// One replica's part in the election. It can be copied and compared, so that a model checker can drive it (`tests/model_check/`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Machine {
    identity: String,
    timing: Timing,
    sight: Sight,
    /// What was seen is known to be outdated.
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

    /// The claim, if it still holds. One whose deadline has passed is gone for good: the next one has another term.
    pub fn held(&mut self, now: Duration) -> Option<Held> {
        self.held = self.held.filter(|held| now < held.deadline);
        self.held
    }

    /// Gives the claim up.
    pub fn forfeit(&mut self) {
        self.held = None;
    }

    /// What to do now.
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

    /// The write that vacates the lease, if it is known to be ours. The claim ends here, before the write is sent.
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

    /// The lease was read.
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

    /// A write that was sent at `sent` has been accepted, and the lease is now this.
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

    /// The lease is not what a write was based on, or not known to be.
    pub fn outdated(&mut self) {
        self.stale = true;
    }

    /// Whether nobody can hold a claim any more.
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
