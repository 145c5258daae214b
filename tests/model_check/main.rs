mod model;
mod properties;
mod replica;
mod server;

use std::time::Instant;
use model::*;
use stateright::{Checker, Model, Property};

const GUARDS: Guards = Guards { lease_versions: true, status_versions: true, output_versions: true, event_names: true, confirm: true, claim: true, status_first: true, outputs_name_their_decision: false };

fn all() -> Vec<Property<Protocol>> { let mut all = properties::safety(); all.push(properties::one_leader()); all }
fn strong() -> Vec<Property<Protocol>> { let mut all = all(); all.push(properties::said_is_done()); all }

fn env(name: &str, default: u8) -> u8 { std::env::var(name).ok().map_or(default, |v| v.parse().unwrap()) }

#[test]
fn explore() {
    let protocol = Protocol {
        replicas: env("R", 2), lease_duration: env("L", 3), renew_deadline: env("RD", 2), storm: env("S", 4), end: env("S", 4) + env("C", 5),
        faults: Faults { crashes: env("CR", 0), leaves: env("LV", 0), slow: env("TO", 0), stalls: env("ST", 0), changes: env("CH", 0) },
        is_contested: env("CO", 0) == 1, primary_works: env("PW", 0) == 1, slow_lease_calls: env("SLOW", 0) == 1,
        guards: Guards { outputs_name_their_decision: env("NAME", 0) == 1, ..GUARDS },
        properties: if env("STRONG", 0) == 1 { strong } else { all },
    };
    let began = Instant::now();
    let checker = protocol.checker().threads(2).timeout(std::time::Duration::from_secs(100)).spawn_bfs().join();
    println!("{} states, {} unique, depth {}, {:?} done {}", checker.state_count(), checker.unique_state_count(), checker.max_depth(), began.elapsed(), checker.is_done());
    for (name, path) in checker.discoveries() {
        println!("{name}: {:#?}", path.clone().into_actions());
        println!("{:#?}", path.last_state());
    }
}
