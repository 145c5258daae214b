//! Every order in which replicas, network and clocks may act.
//!
//! Time is counted in ticks. Whatever a replica can do it may do now or after any number of ticks, so a frozen process,
//! a slow API server and a busy machine need no action of their own. After the storm nobody dawdles: a tick passes when
//! nothing is left to be done, nothing is lost, and all of it must be well before the time is up.

use std::sync::Arc;
use std::time::Duration;

use mail_failover_operator::leader::lease::{LeaseAction, LeaseWrite, Timing};
use stateright::{Model, Property};

use super::guards::{Faults, Guards};
use super::replica::{LeaseCall, Life, Place, Replica, Step};
use super::server::{Process, Request, Server, Writer};

/// The checked protocol.
#[derive(Clone, Debug)]
pub struct Protocol {
    pub replicas: u8,
    /// The duration of a lease, in ticks.
    pub lease_duration: u8,
    pub renew_deadline: u8,
    /// Until when anything may go wrong, and until when all must be well again.
    pub storm: u8,
    pub end: u8,
    pub faults: Faults,
    /// True if nobody leads at first. Otherwise the first replica has just taken the lease; by
    /// symmetry it does not matter which one.
    pub is_contested: bool,
    /// True if the primary works at first. If it does not, the leader has a switch to make.
    pub primary_works: bool,
    /// True if calls for the lease take time. Otherwise the network delays them only when it loses
    /// or forgets them.
    pub slow_lease_calls: bool,
    pub guards: Guards,
    pub properties: fn() -> Vec<Property<Protocol>>,
}

/// A write whose sender does not wait for it any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Late {
    Lease(Process, LeaseWrite),
    Step(Writer, Request),
}

/// The state of all processes and of the network at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub tick: u8,
    pub primary_works: bool,
    pub server: Arc<Server>,
    pub replicas: Vec<Arc<Replica>>,
    /// Late requests, in no order, as the network keeps none.
    pub late: Vec<Late>,
    pub left: Faults,
    processes: Process,
}

/// The next event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The election's turn in a replica: calls for the lease, as many as follow each other.
    Turn(usize),
    LeaseCallArrives(usize),
    LeaseCallAnswered(usize),
    /// The next step of the route.
    Step(usize, Step),
    /// The request of a slow step arrives.
    StepArrives(usize),
    /// A watch catches up.
    RouteSeen(usize),
    OutputSeen(usize),
    LateArrives(usize),
    Tick,
    // From here on: faults, and the weather.
    TickWithout(usize),
    /// A call for the lease, the turn's first write, is given up by its caller.
    TurnInVain(usize, CallOutcome),
    LeaseCallTimesOut(usize, CallOutcome),
    SlowStep(usize, Step),
    /// The caller gives up.
    StepTimesOut(usize, CallOutcome),
    Crash(usize),
    Leave(usize),
    PrimaryChanges,
}

/// The outcome of a request that no process waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The request was lost.
    Lost,
    /// The request is carried out, but the answer is lost.
    Done,
    /// The request is still in transit.
    Late,
}

impl Protocol {
    fn timing(&self) -> Timing {
        let ticks = |ticks: u8| Duration::from_secs(ticks.into());
        Timing { lease_duration: ticks(self.lease_duration), renew_deadline: ticks(self.renew_deadline) }
    }

    /// The time on a replica's clock. Clocks of different machines are independent.
    fn clock(state: &State, index: usize) -> Duration {
        let replica = &state.replicas[index];
        let began = 10 * u64::try_from(index).unwrap();
        Duration::from_secs(began + u64::from(state.tick) - u64::from(replica.behind))
    }

    /// Adds the actions that need no fault.
    fn work(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, replica) in state.replicas.iter().enumerate() {
            match &replica.lease_call {
                Some(LeaseCall { place: Place::Travelling, .. }) => actions.push(Action::LeaseCallArrives(index)),
                Some(LeaseCall { place: Place::Answered(_), .. }) => actions.push(Action::LeaseCallAnswered(index)),
                None if !replica.had_turn => actions.push(Action::Turn(index)),
                None => {}
            }
            match &replica.step {
                Some(_) => actions.push(Action::StepArrives(index)),
                None => actions
                    .extend(replica.next_step(self.guards, state.primary_works).map(|step| Action::Step(index, step))),
            }
            if replica.waits_for_route(&state.server) {
                actions.push(Action::RouteSeen(index));
            }
            if replica.waits_for_output(&state.server) {
                actions.push(Action::OutputSeen(index));
            }
        }
        actions.extend((0..state.late.len()).map(Action::LateArrives));
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        if left.changes > 0 {
            actions.push(Action::PrimaryChanges);
        }
        for (index, replica) in state.replicas.iter().enumerate() {
            let outcomes = [CallOutcome::Lost, CallOutcome::Done, CallOutcome::Late];
            match &replica.lease_call {
                Some(_) if left.slow > 0 => {
                    actions.extend(outcomes.map(|outcome| Action::LeaseCallTimesOut(index, outcome)));
                }
                None if left.slow > 0 && !replica.had_turn && !self.slow_lease_calls => {
                    actions.extend(outcomes.map(|outcome| Action::TurnInVain(index, outcome)));
                }
                Some(_) | None => {}
            }
            match &replica.step {
                Some(_) => actions.extend(outcomes.map(|outcome| Action::StepTimesOut(index, outcome))),
                None if left.slow > 0 => {
                    let step = replica.next_step(self.guards, state.primary_works);
                    actions.extend(
                        step.filter(|step| step.request != Request::ReadRoute)
                            .map(|step| Action::SlowStep(index, step)),
                    );
                }
                None => {}
            }
            if left.crashes > 0 {
                actions.push(Action::Crash(index));
            }
            if left.leaves > 0 && replica.life == Life::Running {
                actions.push(Action::Leave(index));
            }
            if left.stalls > 0 {
                actions.push(Action::TickWithout(index));
            }
        }
    }

    /// Returns true if time is up and no work is left.
    pub fn is_over(&self, state: &State) -> bool {
        let is_idle = || {
            let mut work = vec![];
            self.work(state, &mut work);
            work.is_empty()
        };
        state.tick == self.end && is_idle()
    }

    /// Does this to the state. Returns whether it can be done.
    fn apply(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::Turn(index) => {
                let now = Self::clock(state, index);
                replica(state, index).call_for_lease(now);
                if !self.slow_lease_calls {
                    self.hurry(state, index, None);
                }
                self.look_at_the_claim(state, index);
            }
            Action::TurnInVain(index, outcome) => {
                state.left.slow -= 1;
                let now = Self::clock(state, index);
                replica(state, index).call_for_lease(now);
                if !self.hurry(state, index, Some(outcome)) {
                    return false;
                }
                self.look_at_the_claim(state, index);
            }
            Action::LeaseCallArrives(index) => self.lease_call_arrives(state, index),
            Action::LeaseCallAnswered(index) => {
                self.lease_call_answered(state, index);
                self.look_at_the_claim(state, index);
            }
            Action::LeaseCallTimesOut(index, outcome) => {
                state.left.slow -= 1;
                self.lease_call_fails(state, index, outcome);
            }
            Action::Step(index, Step { writer, request }) => {
                let answer = Arc::make_mut(&mut state.server).receive(self.guards, writer, &request);
                replica(state, index).step_answered(request, answer);
            }
            Action::SlowStep(index, step) => {
                state.left.slow -= 1;
                replica(state, index).step = Some(step);
            }
            Action::StepArrives(index) => {
                let Some(Step { writer, request }) = replica(state, index).step.take() else {
                    unreachable!("it was sent")
                };
                let answer = Arc::make_mut(&mut state.server).receive(self.guards, writer, &request);
                replica(state, index).step_answered(request, answer);
            }
            Action::StepTimesOut(index, outcome) => match (outcome, replica(state, index).step.take()) {
                (CallOutcome::Late, step) => leave_step(state, step),
                (CallOutcome::Done, Some(Step { writer, request })) => {
                    Arc::make_mut(&mut state.server).receive(self.guards, writer, &request);
                }
                (CallOutcome::Lost | CallOutcome::Done, _) => {}
            },
            Action::RouteSeen(index) => {
                let server = state.server.clone();
                replica(state, index).see_route(&server.route);
            }
            Action::OutputSeen(index) => {
                let server = state.server.clone();
                replica(state, index).see_output(server.output);
            }
            Action::Leave(index) => {
                state.left.leaves -= 1;
                let now = Self::clock(state, index);
                let call = replica(state, index).leave(now);
                leave_lease_call(state, index, call);
                self.look_at_the_claim(state, index);
                if !self.slow_lease_calls {
                    self.hurry(state, index, None);
                }
            }
            Action::Crash(index) => {
                state.left.crashes -= 1;
                let Replica { lease_call, step, .. } = (*state.replicas[index]).clone();
                leave_lease_call(state, index, lease_call);
                leave_step(state, step);
                self.restart(state, index);
            }
            Action::LateArrives(index) => {
                let server = Arc::make_mut(&mut state.server);
                match state.late.remove(index) {
                    Late::Lease(process, write) => {
                        server.write_lease(self.guards, process, &write, self.timing().lease_duration);
                    }
                    Late::Step(writer, request) => {
                        server.receive(self.guards, writer, &request);
                    }
                }
            }
            Action::Tick => self.tick(state, None),
            Action::TickWithout(index) => {
                state.left.stalls -= 1;
                self.tick(state, Some(index));
            }
            Action::PrimaryChanges => {
                state.left.changes -= 1;
                state.primary_works = !state.primary_works;
            }
        }
        true
    }

    /// Checks the claim, whenever the clock or the election has advanced.
    fn look_at_the_claim(&self, state: &mut State, index: usize) {
        let now = Self::clock(state, index);
        let step = replica(state, index).look_at_the_claim(now, self.guards);
        leave_step(state, step);
    }

    fn tick(&self, state: &mut State, stalled: Option<usize>) {
        state.tick += 1;
        for index in 0..state.replicas.len() {
            let replica = replica(state, index);
            replica.had_turn = false;
            replica.behind += u8::from(stalled == Some(index));
            self.look_at_the_claim(state, index);
        }
    }

    fn lease_call_arrives(&self, state: &mut State, index: usize) {
        let replica = Arc::make_mut(&mut state.replicas[index]);
        let Some(under_way) = &mut replica.lease_call else { unreachable!("it was sent") };
        under_way.place = Place::Answered(match &under_way.call {
            LeaseAction::Read => state.server.read_lease(),
            LeaseAction::Write(write) => Arc::make_mut(&mut state.server).write_lease(
                self.guards,
                replica.process,
                write,
                self.timing().lease_duration,
            ),
        });
    }

    fn lease_call_answered(&self, state: &mut State, index: usize) {
        let now = Self::clock(state, index);
        if replica(state, index).lease_answered(now) {
            self.restart(state, index);
        }
    }

    /// The caller gives up.
    fn lease_call_fails(&self, state: &mut State, index: usize, outcome: CallOutcome) {
        let call = state.replicas[index].lease_call.clone();
        match (outcome, &call) {
            (CallOutcome::Done, Some(LeaseCall { place: Place::Travelling, .. })) => {
                self.lease_call_arrives(state, index);
            }
            (CallOutcome::Late, _) => leave_lease_call(state, index, call),
            (CallOutcome::Lost | CallOutcome::Done, _) => {}
        }
        replica(state, index).lease_call_failed();
        if state.replicas[index].life == Life::Vacating {
            self.restart(state, index);
        }
    }

    /// A whole turn at once, in which the first write meets this outcome. Returns whether there was a write.
    fn hurry(&self, state: &mut State, index: usize, outcome: Option<CallOutcome>) -> bool {
        let mut writes = false;
        while let Some(LeaseCall { call, .. }) = &state.replicas[index].lease_call {
            writes |= matches!(call, LeaseAction::Write(_));
            if let (LeaseAction::Write(_), Some(outcome)) = (call, outcome) {
                self.lease_call_fails(state, index, outcome);
                break;
            }
            self.lease_call_arrives(state, index);
            self.lease_call_answered(state, index);
        }
        if !writes && state.tick < self.storm {
            // Nothing has changed: it may look as often as it likes.
            replica(state, index).had_turn = false;
        }
        writes
    }

    fn restart(&self, state: &mut State, index: usize) {
        state.processes += 1;
        let behind = state.replicas[index].behind;
        state.replicas[index] = Arc::new(Replica::start(state.processes, behind, self.timing(), &state.server));
    }
}

fn replica(state: &mut State, index: usize) -> &mut Replica {
    Arc::make_mut(&mut state.replicas[index])
}

/// A write of the lease that is on its way stays there when nobody waits for it.
fn leave_lease_call(state: &mut State, index: usize, call: Option<LeaseCall>) {
    if let Some(LeaseCall { call: LeaseAction::Write(write), place: Place::Travelling, .. }) = call {
        state.late.push(Late::Lease(state.replicas[index].process, write));
        state.late.sort_by_cached_key(|late| format!("{late:?}"));
    }
}

/// Leaves an action in the network, unless it only reads.
fn leave_step(state: &mut State, step: Option<Step>) {
    if let Some(Step { writer, request }) = step
        && request != Request::ReadRoute
    {
        state.late.push(Late::Step(writer, request));
        state.late.sort_by_cached_key(|late| format!("{late:?}"));
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let server = Arc::new(Server::new());
        let start = |index: u8| Arc::new(Replica::start(index, 0, self.timing(), &server));
        let mut state = State {
            tick: 0,
            primary_works: self.primary_works,
            replicas: (0..self.replicas).map(start).collect(),
            server,
            late: vec![],
            left: self.faults,
            processes: self.replicas - 1,
        };
        if !self.is_contested {
            self.apply(&mut state, Action::Turn(0));
            while state.replicas[0].lease_call.is_some() {
                self.apply(&mut state, Action::LeaseCallArrives(0));
                self.apply(&mut state, Action::LeaseCallAnswered(0));
            }
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.server.breach.is_some() {
            return;
        }
        self.work(state, actions);
        if state.tick < self.storm {
            self.faults(state, actions);
            actions.push(Action::Tick);
        } else if actions.is_empty() && state.tick < self.end {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.apply(&mut next, action).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        (self.properties)()
    }
}
