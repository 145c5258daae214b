//! A model check of the lease and of a switch: every order in which two or three replicas, the network and the clocks
//! may act, with deaths at any moment, requests that arrive late, never or unheard, and processes that stand still
//! between a look at the claim and the write.
//!
//! | part | is |
//! |---|---|
//! | the election's state machine | the real one, `leader/lease.rs` |
//! | the election's calls | a model of `leader/election.rs`: a turn, its calls, conflicts, timeouts, vacating |
//! | the claim | the real deadline; looked at before each step, as `leader/claim.rs` does |
//! | a route's next step | a model of `controller/route/`: confirm, decide, write the output, publish, write the rest |
//! | the decision | "mail goes to the primary while that works": the worst case, without cooldown or soak |
//! | the API server | `resourceVersion`s, names that are taken, and a memory of what it accepted |
//!
//! One route, one output, and no one from outside who writes. The network forgets nothing by itself: a request whose
//! sender has died arrives at any later time. How many faults there are in one history is bounded, and so is time; what
//! is said holds within these bounds. Each check prints how many different states it has seen. A check that takes a
//! guard away must find what the guard is for.

mod guards;
mod model;
mod properties;
mod replica;
mod server;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Instant;

use guards::{Faults, Guards};
use model::Protocol;
use stateright::{Checker, Expectation, HasDiscoveries, Model};

const GUARDS: Guards = Guards {
    lease_versions: true,
    status_versions: true,
    output_versions: true,
    event_names: true,
    confirm: true,
    claim: true,
    status_first: true,
    outputs_name_their_decision: true,
};

const NO_FAULTS: Faults = Faults { crashes: 0, leaves: 0, unfit: 0, slow: 0, stalls: 0, changes: 0 };

/// Two replicas, and a primary that is dead from the beginning. The margin between claim and lease is a tick.
const PROTOCOL: Protocol = Protocol {
    replicas: 2,
    lease_duration: 3,
    renew_deadline: 2,
    storm: 4,
    // After the storm somebody may have to wait for a lease duration, and take turns before and after it.
    end: 9,
    faults: NO_FAULTS,
    is_contested: false,
    primary_works: false,
    slow_lease_calls: false,
    guards: GUARDS,
    properties: properties::of_a_switch,
};

/// Goes through all states until these are found, or to the end. Returns what was found that should not be there and
/// what was not found that should.
fn failures(name: &str, protocol: Protocol, until: HasDiscoveries) -> BTreeSet<&'static str> {
    let began = Instant::now();
    let checker = protocol.checker().threads(1).finish_when(until).spawn_bfs().join();
    // Not by println!, which is shown for failed tests only.
    let (states, took) = (checker.unique_state_count(), began.elapsed().as_secs_f64());
    let _ = writeln!(std::io::stderr(), "model check: {states} states in {took:.1} s: {name}");
    let found = checker.discoveries();
    let mut failures = BTreeSet::new();
    for property in checker.model().properties() {
        match (property.expectation, found.get(property.name)) {
            (Expectation::Always | Expectation::Eventually, Some(path)) => {
                println!("{name}: {} does not hold after {:#?}", property.name, path.clone().into_actions());
                failures.insert(property.name);
            }
            (Expectation::Sometimes, None) => {
                failures.insert(property.name);
            }
            (Expectation::Always | Expectation::Eventually, None) | (Expectation::Sometimes, Some(_)) => {}
        }
    }
    failures
}

fn holds(name: &str, protocol: Protocol) {
    // Never finished early: there is no such property.
    let to_the_end = HasDiscoveries::AllOf(["the end"].into());
    assert_eq!(failures(name, protocol, to_the_end), BTreeSet::new(), "{name}");
}

fn fails(name: &str, property: &'static str, protocol: Protocol) {
    let found = failures(name, protocol, HasDiscoveries::AllOf([property].into()));
    assert!(found.contains(property), "{name}: {property:?} still holds");
}

#[test]
fn two_never_lead_and_one_does_in_the_end_however_slow_the_lease_is() {
    // No route has anything to do. Every call has a way to the API server and a way back, of any length.
    let lease =
        Protocol { primary_works: true, slow_lease_calls: true, properties: properties::of_the_lease, ..PROTOCOL };
    holds("two replicas, and answers that outlast the claim", lease.clone());
    let faults = Faults { crashes: 1, slow: 1, ..NO_FAULTS };
    holds("two replicas, a death and a call in vain", Protocol { storm: 3, end: 8, faults, ..lease.clone() });
    let faults = Faults { leaves: 1, slow: 1, ..NO_FAULTS };
    holds("two replicas, a departure and a call in vain", Protocol { storm: 2, end: 7, faults, ..lease.clone() });
    let faults = Faults { stalls: 1, ..NO_FAULTS };
    holds(
        "two replicas, nobody leads at first, and a clock is slow",
        Protocol { is_contested: true, storm: 3, end: 8, faults, ..lease },
    );
}

#[test]
fn a_lease_that_is_given_away_has_one_holder_at_a_time_and_a_switch_happens_once() {
    // The term began in the first tick; the lease is given away three ticks later.
    let lease = Protocol {
        primary_works: true,
        slow_lease_calls: true,
        storm: 5,
        end: 10,
        properties: properties::of_the_lease,
        ..PROTOCOL
    };
    let faults = Faults { unfit: 1, ..NO_FAULTS };
    holds("two replicas, and the leader is unfit", Protocol { faults, ..lease.clone() });
    let faults = Faults { unfit: 1, crashes: 1, ..NO_FAULTS };
    holds("the leader is unfit, and one of the two dies", Protocol { faults, slow_lease_calls: false, ..lease });
    let returns = Protocol { storm: 5, end: 10, properties: properties::of_a_return, ..PROTOCOL };
    let faults = Faults { unfit: 1, changes: 1, ..NO_FAULTS };
    let properties = properties::of_a_quick_return;
    holds("the leader is unfit and the primary recovers", Protocol { faults, properties, ..returns.clone() });
    // Four million states, which take minutes: `make test-all` goes through them.
    if std::env::var_os("E2E_EXHAUSTIVE").is_some() {
        let faults = Faults { slow: 1, ..faults };
        holds("the leader is unfit, a write is slow and the primary recovers", Protocol { faults, ..returns });
    }
}

#[test]
fn three_never_lead_either() {
    let lease = Protocol {
        replicas: 3,
        storm: 2,
        end: 7,
        primary_works: true,
        slow_lease_calls: true,
        properties: properties::of_the_lease,
        ..PROTOCOL
    };
    holds("three replicas and slow calls", lease);
}

#[test]
fn a_switch_happens_once_whoever_dies_and_whatever_is_lost_or_late() {
    let faults = Faults { crashes: 1, slow: 1, ..NO_FAULTS };
    let properties = properties::of_a_slow_switch;
    holds("two replicas, a death and a slow write", Protocol { faults, properties, ..PROTOCOL });
}

#[test]
fn a_switch_and_a_return_happen_once_whoever_hands_over() {
    let faults = Faults { leaves: 1, slow: 1, changes: 1, ..NO_FAULTS };
    let properties = properties::of_a_return;
    holds(
        "two replicas, a departure, a slow write and a primary that recovers",
        Protocol { storm: 1, end: 6, faults, properties, ..PROTOCOL },
    );
}

#[test]
fn of_three_replicas_two_may_want_to_succeed() {
    let faults = Faults { crashes: 1, ..NO_FAULTS };
    holds("three replicas and a death", Protocol { replicas: 3, storm: 2, end: 7, faults, ..PROTOCOL });
    let faults = Faults { leaves: 1, slow: 1, ..NO_FAULTS };
    holds(
        "three replicas, a departure and a slow write",
        Protocol { replicas: 3, storm: 1, end: 6, faults, properties: properties::of_a_slow_switch, ..PROTOCOL },
    );
}

#[test]
fn a_machine_that_was_suspended_may_believe_that_it_leads_and_doubles_nothing() {
    let faults = Faults { stalls: 2, ..NO_FAULTS };
    let properties = properties::of_writes_by_two_leaders;
    holds("two replicas, and two lead", Protocol { faults, properties, ..PROTOCOL });
}

/// Versions alone do not do it: in each of these an output whose version nobody has changed since would lead back where
/// an older decision said, until the leader's watches have caught up ([`properties::HAPPENS`] holds all the same).
///
/// - A write whose answer never came arrives after its decision was taken back. Meanwhile the output led where it
///   should.
/// - A new leader reads its route afresh, not its outputs. Its watch shows an output as it was, that is where it should
///   lead again.
/// - A machine that was suspended believes that it leads. Its watch of outputs is up to date, that of routes is not.
#[test]
fn an_output_never_follows_an_older_decision_because_outputs_name_theirs() {
    use properties::{NEVER_BACK, SAID_IS_DONE, of_a_mail_path, of_writes_by_two_leaders};
    let path = Protocol { storm: 1, end: 6, properties: of_a_mail_path, ..PROTOCOL };
    let suspended = Protocol { properties: of_writes_by_two_leaders, ..PROTOCOL };
    for (name, property, protocol, faults) in [
        (
            "one leader, a late write, a primary that recovers",
            SAID_IS_DONE,
            path.clone(),
            Faults { slow: 1, changes: 1, ..NO_FAULTS },
        ),
        (
            "a departure, a watch that is behind, a primary that flaps",
            SAID_IS_DONE,
            path,
            Faults { leaves: 1, changes: 2, ..NO_FAULTS },
        ),
        (
            "two lead, a watch that is behind, a primary that recovers",
            NEVER_BACK,
            suspended,
            Faults { stalls: 2, changes: 1, ..NO_FAULTS },
        ),
    ] {
        let protocol = Protocol { faults, ..protocol };
        holds(name, protocol.clone());
        let guards = Guards { outputs_name_their_decision: false, ..GUARDS };
        fails(&format!("{name}; outputs do not name their decision"), property, Protocol { guards, ..protocol });
    }
}

#[test]
fn without_any_one_of_its_guards_the_protocol_fails() {
    use properties::{DECIDED_FIRST, DECIDED_ONCE, NEVER_BACK, ONE_LEADER, ONE_WRITER, TOLD_ONCE};
    let slow = Faults { slow: 1, ..NO_FAULTS };
    let flapping = Faults { slow: 1, changes: 1, ..NO_FAULTS };
    let late_and_flapping = Protocol { faults: flapping, ..PROTOCOL };
    let handover = Protocol { storm: 1, faults: Faults { leaves: 1, ..flapping }, ..PROTOCOL };
    for (name, property, protocol, guards) in [
        (
            "the lease's version",
            ONE_WRITER,
            Protocol { faults: slow, ..PROTOCOL },
            Guards { lease_versions: false, ..GUARDS },
        ),
        ("the status's version", DECIDED_ONCE, handover.clone(), Guards { status_versions: false, ..GUARDS }),
        ("the output's version", NEVER_BACK, late_and_flapping.clone(), Guards { output_versions: false, ..GUARDS }),
        (
            "the Event's fixed name",
            TOLD_ONCE,
            Protocol { faults: slow, ..PROTOCOL },
            Guards { event_names: false, ..GUARDS },
        ),
        (
            // Either of the two is enough here.
            "the fresh look at the route and names on outputs",
            NEVER_BACK,
            handover,
            Guards { confirm: false, outputs_name_their_decision: false, ..GUARDS },
        ),
        (
            "the look at the claim and names on outputs",
            NEVER_BACK,
            late_and_flapping,
            Guards { claim: false, outputs_name_their_decision: false, ..GUARDS },
        ),
        ("status before outputs", DECIDED_FIRST, PROTOCOL, Guards { status_first: false, ..GUARDS }),
    ] {
        fails(&format!("without {name}"), property, Protocol { guards, ..protocol });
    }
    let careless = Protocol { renew_deadline: 4, ..PROTOCOL };
    fails("with a claim that outlasts the lease", ONE_LEADER, careless);
    let faults = Faults { stalls: 2, ..NO_FAULTS };
    fails("with a clock that is slower than the margin", ONE_LEADER, Protocol { faults, ..PROTOCOL });
}
