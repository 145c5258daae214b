//! The API server: the lease, one route's status, one output, the Events; and the condition under which each write is
//! accepted.
//!
//! It also keeps what no replica sees: who held which term, what was decided, and the first promise that was broken.

use std::time::Duration;

use mail_failover_core::model::{ResourceVersion, Uid};
use mail_failover_operator::leader::lease;

use super::guards::Guards;

/// A destination of mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    Primary,
    Standby,
}

/// One process: a replica that is started again is another one.
pub type Process = u8;

/// A transition: its id, and who decided it. The name of its Event follows from both: the real one ends in the
/// microsecond of the decision, which two processes do not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transition {
    pub id: u8,
    pub by: Process,
}

/// A `MailRoute` as far as it is persisted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The object's `metadata.resourceVersion`.
    pub version: u8,
    /// The route's `status.active`.
    pub active: Backend,
    /// `status.lastTransition`, and whether it has an `appliedAt`.
    pub last: Transition,
    pub is_applied: bool,
    /// The route's `status.pendingEvents`.
    pub pending: Vec<Transition>,
}

/// An output; which decision it was written for is known to nobody but the model, unless outputs say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Output {
    pub version: u8,
    pub leads_to: Backend,
    pub decision: u8,
}

/// A writer: the process, and its term (`spec.leaseTransitions` of the claim).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    pub process: Process,
    pub term: i32,
}

/// A request for a route's objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    ReadRoute,
    /// Replaces the status, if the route is still `route.version`.
    WriteStatus(Route),
    /// Replaces the output, if it is still `output.version`.
    WriteOutput(Output),
    Publish(Transition),
}

/// The answer of the API server to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The route as it is: read, or read after a write was refused.
    Route(Route),
    StatusWritten(u8),
    /// The output as it is: written, or read after a write was refused.
    Output(Output),
    Published,
}

/// The answer of the API server to a call for the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseAnswer {
    Read(Option<lease::LeaseRecord>),
    Written(lease::LeaseRecord),
    Conflict,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breach {
    /// Two processes took, renewed or wrote in one term.
    TermOfTwo,
    /// The number of a term was given again, or went back.
    TermRepeated,
    /// A transition does not follow from the one before it: its id is not the next one, or it leaves a backend that was
    /// left already.
    TransitionRepeated,
    /// A status was overwritten by one that knows less.
    StatusWentBack,
    /// An output was written for an older decision than it was before.
    OutputWentBack,
    /// An output was written for a decision that does not stand in `status`.
    ActedUndecided,
    /// A transition was told twice.
    ToldTwice,
    /// A transition was told that never stood in `status`.
    ToldUndecided,
}

/// The persisted state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    pub lease: Option<lease::LeaseRecord>,
    lease_version: u8,
    pub route: Route,
    pub output: Output,
    pub events: Vec<Transition>,
    /// The writer of each term.
    terms: Vec<Writer>,
    /// All decisions so far.
    pub decided: Vec<Transition>,
    /// The first promise that was broken.
    pub breach: Option<Breach>,
}

impl Server {
    /// Mail goes to the primary, and all is done about it. Nobody has asked for the lease yet.
    pub fn new() -> Self {
        let last = Transition { id: 0, by: 0 };
        Self {
            lease: None,
            lease_version: 0,
            route: Route { version: 1, active: Backend::Primary, last, is_applied: true, pending: vec![] },
            output: Output { version: 1, leads_to: Backend::Primary, decision: 0 },
            events: vec![],
            terms: vec![],
            decided: vec![],
            breach: None,
        }
    }

    fn broken(&mut self, breach: Breach) {
        self.breach.get_or_insert(breach);
    }

    /// Someone took the lease, or wrote something, in this term.
    fn note_writer(&mut self, writer: Writer) {
        if self.terms.iter().any(|known| known.term == writer.term && known.process != writer.process) {
            self.broken(Breach::TermOfTwo);
        } else if !self.terms.contains(&writer) {
            self.terms.push(writer);
        }
    }

    pub fn read_lease(&self) -> LeaseAnswer {
        LeaseAnswer::Read(self.lease.clone())
    }

    /// A write of the lease arrives.
    pub fn write_lease(
        &mut self,
        guards: Guards,
        process: Process,
        write: &lease::LeaseWrite,
        lease_duration: Duration,
    ) -> LeaseAnswer {
        let have = self.lease.as_ref().map(|record| (record.uid.clone(), record.resource_version.clone()));
        if guards.lease_versions && have != write.over {
            return LeaseAnswer::Conflict;
        }
        if write.takes {
            if self.lease.as_ref().is_some_and(|lease| write.transitions <= lease.transitions) {
                self.broken(Breach::TermRepeated);
            }
            self.note_writer(Writer { process, term: write.transitions });
        } else if !write.holder.is_empty() {
            self.note_writer(Writer { process, term: write.transitions });
        }
        self.lease_version += 1;
        let record = lease::LeaseRecord {
            uid: Uid::parse(Some("uid")).expect("not empty"),
            resource_version: ResourceVersion::parse(Some(&self.lease_version.to_string())).expect("not empty"),
            holder: write.holder.clone(),
            renewed: Some(i64::from(self.lease_version)),
            transitions: write.transitions,
            duration: lease_duration,
        };
        self.lease = Some(record.clone());
        LeaseAnswer::Written(record)
    }

    /// A request for the route's objects arrives.
    pub fn receive(&mut self, guards: Guards, writer: Writer, request: &Request) -> Answer {
        match request {
            Request::ReadRoute => Answer::Route(self.route.clone()),
            Request::WriteStatus(status) => {
                if guards.status_versions && status.version != self.route.version {
                    return Answer::Route(self.route.clone());
                }
                self.note_writer(writer);
                self.judge_status(status);
                let version = self.route.version + 1;
                self.route = Route { version, ..status.clone() };
                Answer::StatusWritten(version)
            }
            Request::WriteOutput(output) => {
                if guards.output_versions && output.version != self.output.version {
                    return Answer::Output(self.output);
                }
                self.note_writer(writer);
                if output.decision < self.output.decision {
                    self.broken(Breach::OutputWentBack);
                }
                if output.decision > self.route.last.id {
                    self.broken(Breach::ActedUndecided);
                }
                self.output = Output { version: self.output.version + 1, ..*output };
                Answer::Output(self.output)
            }
            Request::Publish(transition) => {
                if guards.event_names && self.events.contains(transition) {
                    return Answer::Published;
                }
                self.note_writer(writer);
                if self.events.iter().any(|known| known.id == transition.id) {
                    self.broken(Breach::ToldTwice);
                }
                if !self.decided.contains(transition) {
                    self.broken(Breach::ToldUndecided);
                }
                self.events.push(*transition);
                self.events.sort_unstable();
                Answer::Published
            }
        }
    }

    /// Checks that a status that is about to be accepted follows from the one that it replaces.
    fn judge_status(&mut self, status: &Route) {
        let before = &self.route;
        if status.last == before.last {
            if status.active != before.active
                || (before.is_applied && !status.is_applied)
                || status.pending.iter().any(|event| !before.pending.contains(event))
            {
                self.broken(Breach::StatusWentBack);
            }
        } else if status.last.id < before.last.id {
            self.broken(Breach::StatusWentBack);
        } else if status.last.id == before.last.id + 1 && status.active != before.active {
            self.decided.push(status.last);
        } else {
            self.broken(Breach::TransitionRepeated);
        }
    }
}
