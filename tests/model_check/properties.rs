//! What must always hold, and what must be possible lest the rest be said about nothing.

use stateright::Property;

use super::model::{Protocol, State};
use super::server::{Backend, Breach};

pub const ONE_LEADER: &str = "no two lead at one time";
pub const TERM: &str = "no two writers act in one term";

fn unbroken(state: &State, breaches: &[Breach]) -> bool {
    state.server.breach.is_none_or(|breach| !breaches.contains(&breach))
}

fn leaders(state: &State) -> usize {
    state.replicas.iter().filter(|replica| replica.leads()).count()
}

fn best(state: &State) -> Backend {
    if state.primary_works { Backend::Primary } else { Backend::Standby }
}

pub fn one_leader() -> Property<Protocol> {
    Property::always(ONE_LEADER, |_, state: &State| leaders(state) <= 1)
}

pub fn said_is_done() -> Property<Protocol> {
    Property::always("mail goes where status says that the outputs lead", |_, state: &State| {
        !state.server.route.is_applied || state.server.output.leads_to == state.server.route.active
    })
}

pub fn safety() -> Vec<Property<Protocol>> {
    vec![
        Property::always(TERM, |_, state: &State| unbroken(state, &[Breach::TermOfTwo, Breach::TermRepeated])),
        Property::always("transitions count up by one, and none is decided twice", |_, state: &State| {
            unbroken(state, &[Breach::TransitionRepeated, Breach::StatusWentBack])
        }),
        Property::always("an output never goes back to an older decision", |_, state: &State| {
            unbroken(state, &[Breach::OutputWentBack])
        }),
        Property::always("what is acted on was decided", |_, state: &State| unbroken(state, &[Breach::ActedUndecided])),
        Property::always("a transition is told once, and only when it was decided", |_, state: &State| {
            unbroken(state, &[Breach::ToldTwice, Breach::ToldUndecided])
        }),
        Property::always("in the end one leads, and every decided switch has happened and was told", |model: &Protocol, state: &State| {
            let server = &state.server;
            let is_well = || {
                leaders(state) == 1
                    && server.route.active == best(state)
                    && server.output.leads_to == best(state)
                    && server.route.is_applied
                    && server.route.pending.is_empty()
                    && server.events == server.decided
            };
            server.breach.is_some() || !model.is_over(state) || is_well()
        }),
    ]
}
