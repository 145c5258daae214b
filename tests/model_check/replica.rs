//! One replica: the election (`leader/election.rs`) around the real state machine, and a route's next step
//! (`controller/route/`).

use std::time::Duration;

use mail_failover_operator::leader::lease::{LeaseAction, LeaseEvent, LeaseMachine, Then, Timing};

use super::guards::Guards;
use super::server::{Answer, Backend, LeaseAnswer, Output, Process, Request, Route, Server, Transition, Writer};

/// The place of a request that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place<A> {
    /// In transit, in the sender's hands or in the network. The claim was checked before, and
    /// nothing stops the request any more.
    Travelling,
    /// The API server has done it, and the answer is on its way.
    Answered(A),
}

/// A call for the lease under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaseCall {
    pub call: LeaseAction,
    sent: Duration,
    pub place: Place<LeaseAnswer>,
}

/// A step under way. Its answer takes no time: a replica that is answered late does the same as one that goes on late.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub writer: Writer,
    pub request: Request,
}

/// The phase of a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    Running,
    /// Told to end: the process gives the lease back, after the actions in progress have ended or
    /// timed out.
    Vacating,
}

/// A replica's running process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub process: Process,
    /// The ticks for which its clock has stood still.
    pub behind: u8,
    pub life: Life,
    machine: LeaseMachine,
    /// True if the election had its turn in this tick.
    pub had_turn: bool,
    pub lease_call: Option<LeaseCall>,
    /// The term in which it acts, and `spec.leaseTransitions` of that.
    term: Option<(u64, i32)>,
    /// True if the route was read again in this term.
    is_confirmed: bool,
    pub route: Route,
    pub output: Output,
    published: Vec<Transition>,
    pub step: Option<Step>,
}

impl Replica {
    /// A process that starts: it has listed everything and knows nothing else.
    pub fn start(process: Process, behind: u8, timing: Timing, server: &Server) -> Self {
        Self {
            process,
            behind,
            life: Life::Running,
            machine: LeaseMachine::new(identity(process), timing),
            had_turn: false,
            lease_call: None,
            term: None,
            is_confirmed: false,
            route: server.route.clone(),
            output: server.output,
            published: vec![],
            step: None,
        }
    }

    /// Returns true if it believes that it leads.
    pub fn leads(&self) -> bool {
        self.term.is_some()
    }

    /// Compares the claim with the clock, as everyone does who acts on it (`leader/claim.rs`). What was under way in a
    /// term that is over is nobody's business any more; it is returned.
    pub fn look_at_the_claim(&mut self, now: Duration, guards: Guards) -> Option<Step> {
        let held = self.machine.held(now).map(|held| (held.term, held.transitions));
        if held == self.term || (held.is_none() && !guards.claim && self.life == Life::Running) {
            return None;
        }
        self.term = held;
        self.is_confirmed = !guards.confirm;
        self.step.take()
    }

    /// The election's turn: one call for the lease begins.
    pub fn call_for_lease(&mut self, now: Duration) {
        self.had_turn = true;
        let call = match self.life {
            Life::Running => self.machine.poll(now),
            Life::Vacating => self.machine.vacate().map_or(LeaseAction::Read, LeaseAction::Write),
        };
        self.lease_call = Some(LeaseCall { call, sent: now, place: Place::Travelling });
    }

    /// The answer to the call for the lease is here. Returns whether the process has ended.
    pub fn lease_answered(&mut self, now: Duration) -> bool {
        let Some(LeaseCall { call, sent, place: Place::Answered(answer) }) = self.lease_call.take() else {
            unreachable!("there is an answer")
        };
        let is_vacating = self.life == Life::Vacating;
        let then = match (call, answer) {
            (LeaseAction::Read, LeaseAnswer::Read(record)) => {
                let then = self.machine.handle(now, LeaseEvent::Read(record));
                if is_vacating && self.machine.vacate().is_none() {
                    return true;
                }
                then
            }
            (LeaseAction::Write(write), LeaseAnswer::Written(record)) => {
                let then = self.machine.handle(now, LeaseEvent::Written { sent, write, record });
                if is_vacating {
                    return true;
                }
                then
            }
            (LeaseAction::Write(_), LeaseAnswer::Conflict) => self.machine.handle(now, LeaseEvent::Outdated),
            (call, answer) => unreachable!("{answer:?} to {call:?}"),
        };
        if is_vacating || then == Then::Now {
            self.call_for_lease(now);
        }
        false
    }

    /// No answer came in time, whatever was done.
    pub fn lease_call_failed(&mut self) {
        if let Some(LeaseCall { call: LeaseAction::Write(_), sent, .. }) = self.lease_call.take() {
            self.machine.handle(sent, LeaseEvent::Outdated);
        }
    }

    /// Notes the replica that is fitter to lead.
    pub fn find_fitter(&mut self, now: Duration, successor: Option<&str>) {
        self.machine.set_successor(now, successor);
    }

    /// Ends the replica, which gives up its claim. Returns a call for the lease in progress, which
    /// no process waits for any more.
    pub fn leave(&mut self, now: Duration) -> Option<LeaseCall> {
        self.life = Life::Vacating;
        self.machine.forfeit();
        let call = self.lease_call.take();
        self.call_for_lease(now);
        call
    }

    /// Begins the next missing step, if there is one.
    pub fn next_step(&self, guards: Guards, primary_works: bool) -> Option<Step> {
        let (_, term) = self.term.filter(|_| self.step.is_none() && self.life == Life::Running)?;
        let request = self.next_request(guards, primary_works)?;
        Some(Step { writer: Writer { process: self.process, term }, request })
    }

    /// Confirm, decide, write the output, publish, write the rest of the status.
    fn next_request(&self, guards: Guards, primary_works: bool) -> Option<Request> {
        let is_outdated = guards.outputs_name_their_decision && self.output.decision > self.route.last.id;
        if !self.is_confirmed || is_outdated {
            return Some(Request::ReadRoute);
        }
        let best = if primary_works { Backend::Primary } else { Backend::Standby };
        let pending: Vec<_> =
            self.route.pending.iter().filter(|event| !self.published.contains(event)).copied().collect();
        let decided = (self.route.active != best).then(|| {
            let last = Transition { id: self.route.last.id + 1, by: self.process };
            let pending = pending.iter().copied().chain([last]).collect();
            Route { active: best, last, is_applied: false, pending, ..self.route.clone() }
        });
        if let Some(status) = &decided
            && guards.status_first
        {
            return Some(Request::WriteStatus(status.clone()));
        }
        let goal = decided.as_ref().unwrap_or(&self.route);
        let is_there = self.output.leads_to == goal.active
            && (!guards.outputs_name_their_decision || self.output.decision == goal.last.id);
        if !is_there {
            let Output { version, .. } = self.output;
            return Some(Request::WriteOutput(Output { version, leads_to: goal.active, decision: goal.last.id }));
        }
        if let Some(status) = decided {
            return Some(Request::WriteStatus(status));
        }
        if let Some(event) = pending.first() {
            return Some(Request::Publish(*event));
        }
        let is_said = self.route.is_applied && self.route.pending.is_empty();
        (!is_said).then(|| Request::WriteStatus(Route { is_applied: true, pending, ..self.route.clone() }))
    }

    /// The answer to a step is here.
    pub fn step_answered(&mut self, request: Request, answer: Answer) {
        match (request, answer) {
            (Request::ReadRoute | Request::WriteStatus(_), Answer::Route(route)) => {
                self.see_route(&route);
                self.is_confirmed = true;
            }
            (Request::WriteStatus(status), Answer::StatusWritten(version)) => {
                self.see_route(&Route { version, ..status });
            }
            (Request::WriteOutput(_), Answer::Output(output)) => self.see_output(output),
            (Request::Publish(event), Answer::Published) => self.published.push(event),
            (request, answer) => unreachable!("{answer:?} to {request:?}"),
        }
    }

    /// Takes note of the route, unless a newer version is known.
    pub fn see_route(&mut self, route: &Route) {
        if self.route.version <= route.version {
            self.route = route.clone();
            self.published.retain(|event| route.pending.contains(event));
        }
    }

    /// Takes note of the output, unless a newer version is known.
    pub fn see_output(&mut self, output: Output) {
        if self.output.version <= output.version {
            self.output = output;
        }
    }

    /// Returns true if the route's watch is behind and matters. Nothing is done with the route
    /// until it is confirmed.
    pub fn waits_for_route(&self, server: &Server) -> bool {
        self.leads() && self.is_confirmed && self.route.version < server.route.version
    }

    /// Returns true if the output's watch is behind.
    pub fn waits_for_output(&self, server: &Server) -> bool {
        self.output.version < server.output.version
    }
}

/// No two processes have the same.
pub fn identity(process: Process) -> String {
    format!("process-{process}")
}
