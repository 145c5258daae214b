//! Properties that must always hold, and states that must be reachable, so that the properties are
//! not empty.

use stateright::Property;

use super::model::{Late, Protocol, State};
use super::server::{Backend, Breach, Writer};

pub const ONE_LEADER: &str = "no two lead at one time";
pub const ONE_WRITER: &str = "no two writers act in one term";
pub const DECIDED_ONCE: &str = "transitions count up by one, and none is decided twice";
pub const NEVER_BACK: &str = "an output is never written for an older decision than it was before";
pub const DECIDED_FIRST: &str = "no output is written for a decision that does not stand in status";
pub const TOLD_ONCE: &str = "a transition is told once, and only when it was decided";
pub const HAPPENS: &str = "in the end one leads, and every decided switch has happened and was told";
pub const SAID_IS_DONE: &str = "once status says that the outputs lead to a backend, they do until the next decision";

fn is_free_of(state: &State, breaches: &[Breach]) -> bool {
    state.server.breach.is_none_or(|breach| !breaches.contains(&breach))
}

fn leaders(state: &State) -> usize {
    state.replicas.iter().filter(|replica| replica.leads()).count()
}

/// Returns true if another writer than this one leads.
fn is_succeeded(state: &State, writer: Writer) -> bool {
    let mut others = state.replicas.iter().filter(|replica| replica.process != writer.process);
    others.any(|replica| replica.leads())
}

fn is_well(state: &State) -> bool {
    let server = &state.server;
    let best = if state.primary_works { Backend::Primary } else { Backend::Standby };
    leaders(state) == 1
        && server.route.active == best
        && server.output.leads_to == best
        && server.route.is_applied
        && server.route.pending.is_empty()
        && server.events == server.decided
}

/// The invariants of ARCHITECTURE.md, whatever is believed about the lease.
pub fn of_writes() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ONE_WRITER, |_, state: &State| is_free_of(state, &[Breach::TermOfTwo, Breach::TermRepeated])),
        Property::always(DECIDED_ONCE, |_, state: &State| {
            is_free_of(state, &[Breach::TransitionRepeated, Breach::StatusWentBack])
        }),
        Property::always(NEVER_BACK, |_, state: &State| is_free_of(state, &[Breach::OutputWentBack])),
        Property::always(DECIDED_FIRST, |_, state: &State| is_free_of(state, &[Breach::ActedUndecided])),
        Property::always(TOLD_ONCE, |_, state: &State| is_free_of(state, &[Breach::ToldTwice, Breach::ToldUndecided])),
        Property::always(HAPPENS, |protocol: &Protocol, state: &State| {
            state.server.breach.is_some() || !protocol.is_over(state) || is_well(state)
        }),
    ]
}

/// Properties that the lease must provide alone.
pub fn of_the_lease() -> Vec<Property<Protocol>> {
    let mut properties = of_writes();
    properties.push(Property::always(ONE_LEADER, |_, state: &State| leaders(state) <= 1));
    properties.push(Property::sometimes("the lease changes hands", |_, state: &State| {
        state.server.lease.as_ref().is_some_and(|lease| lease.transitions > 0) && leaders(state) == 1
    }));
    properties
}

/// One switch, whoever makes it.
pub fn of_a_switch() -> Vec<Property<Protocol>> {
    let mut properties = of_the_lease();
    properties.push(Property::sometimes("a switch happens before anything is forced to", |protocol, state: &State| {
        state.server.decided.len() == 1 && state.tick < protocol.storm && is_well(state)
    }));
    properties.push(Property::sometimes("a successor finds a decision half carried out", |_, state: &State| {
        let last = state.server.route.last;
        let is_done = state.server.route.is_applied;
        !is_done && is_succeeded(state, Writer { process: last.by, term: 0 })
    }));
    properties
}

/// One switch in which a write is slow.
pub fn of_a_slow_switch() -> Vec<Property<Protocol>> {
    let mut properties = of_a_switch();
    properties.push(Property::sometimes("a write is on its way while another leads already", |_, state: &State| {
        state.late.iter().any(|late| match late {
            Late::Step(writer, _) => is_succeeded(state, *writer),
            Late::Lease(..) => false,
        })
    }));
    properties
}

/// A switch and a way back, in which a write is slow.
pub fn of_a_return() -> Vec<Property<Protocol>> {
    with_a_return(of_a_slow_switch())
}

/// A switch and a way back, in which no write is slow.
pub fn of_a_quick_return() -> Vec<Property<Protocol>> {
    with_a_return(of_a_switch())
}

fn with_a_return(mut properties: Vec<Property<Protocol>>) -> Vec<Property<Protocol>> {
    properties.push(Property::sometimes("mail returns", |_, state: &State| {
        state.server.decided.len() == 2 && is_well(state)
    }));
    properties
}

/// The same though two lead.
pub fn of_writes_by_two_leaders() -> Vec<Property<Protocol>> {
    let mut properties = of_a_mail_path();
    properties.push(Property::sometimes("two lead at one time", |_, state: &State| leaders(state) > 1));
    properties
}

/// Properties of the path of mail: those of writes, and that an applied decision is in the output.
pub fn of_a_mail_path() -> Vec<Property<Protocol>> {
    let mut properties = of_writes();
    properties.push(Property::always(SAID_IS_DONE, |_, state: &State| {
        let server = &state.server;
        !server.route.is_applied || server.output.leads_to == server.route.active
    }));
    properties
}
