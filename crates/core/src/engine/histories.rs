//! Random policies, fleets, histories and requests, for tests.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::testing::{Fleet, MARKS, at, mark_candidate};
use super::{Candidate, Capacity, Decision, Health, Memory, Request, RequestAction};
use crate::model::{
    Breaker, Budget, CronWindow, DeliveryThresholds, Drills, Failback, FailbackMode, HoldPolicy, Objectives, Policy,
    RampStep, Thresholds, Timestamp, WhenNoneHealthy,
};

prop_compose! {
    fn any_policy()(
        cooldown in 0_u64..600, minimum_stay in 0_u64..600, after in 0_u64..600,
        switches in 1_u8..=4, per in 1_u64..3000,
        prefers in any::<bool>(), is_manual in any::<bool>(), has_window in any::<bool>(),
        ramp in prop::collection::vec(1_u64..300, 0..3),
    ) -> Policy {
        let seconds = Duration::from_secs;
        let steps = ramp.iter().zip([10, 50]);
        Policy {
            thresholds: Thresholds::default(),
            hold: HoldPolicy {
                cooldown: seconds(cooldown),
                minimum_stay: seconds(minimum_stay),
                budget: Budget { switches, per: seconds(per) },
            },
            when_none_healthy: if prefers { WhenNoneHealthy::Preferred } else { WhenNoneHealthy::Hold },
            failback: Failback {
                mode: if is_manual { FailbackMode::Manual } else { FailbackMode::Automatic },
                after: seconds(after),
                windows: has_window
                    .then(|| CronWindow::new("*/30 * * * *", "Europe/Berlin", Duration::from_mins(10)).unwrap())
                    .into_iter()
                    .collect(),
                ramp: steps.map(|(duration, percent)| RampStep { percent, duration: seconds(*duration) }).collect(),
            },
            objectives: Objectives::NONE,
            deliveries: DeliveryThresholds::default(),
            breaker: Breaker::default(),
            drills: Drills::default(),
        }
    }
}

fn any_action() -> impl Generator<Value = RequestAction> {
    let duration = || prop::option::of((1_u64..400).prop_map(Duration::from_secs));
    prop_oneof![
        (prop::sample::select(&["a", "b", "c", "d", "z"][..]), duration(), any::<bool>())
            .prop_map(|(to, duration, is_forced)| RequestAction::Switch { to: to.into(), duration, is_forced }),
        Just(RequestAction::Failback),
        duration().prop_map(|duration| RequestAction::Pause { duration }),
        Just(RequestAction::Resume),
        Just(RequestAction::ApproveFailback),
    ]
}

/// A change between two decisions.
#[derive(Clone, Debug)]
struct Turn {
    wait: u64,
    marks: Vec<usize>,
    capacities: Vec<u8>,
    has_answered: Vec<bool>,
    answers_again: Vec<bool>,
    confirmed: Vec<Vec<usize>>,
    /// True for a backend that stands in the route's list.
    is_listed: Vec<bool>,
    is_storm: bool,
    action: Option<RequestAction>,
}

prop_compose! {
    fn any_turn()(
        wait in 0_u64..200,
        marks in prop::collection::vec(0..MARKS.len(), 4),
        capacities in prop::collection::vec(prop_oneof![3 => Just(100_u8), 1 => 1_u8..100], 4),
        has_answered in prop::collection::vec(prop::bool::weighted(0.8), 4),
        answers_again in prop::collection::vec(prop::bool::weighted(0.3), 4),
        confirmed in prop::collection::vec(prop::collection::vec(0_usize..4, 0..2), 4),
        is_listed in prop::collection::vec(prop::bool::weighted(0.95), 4),
        is_storm in prop::bool::weighted(0.1),
        action in prop::option::weighted(0.15, any_action()),
    ) -> Turn {
        Turn { wait, marks, capacities, has_answered, answers_again, confirmed, is_listed, is_storm, action }
    }
}

fn begin(policy: Policy, is_active_active: bool, weights: &[u32], regions: &[Option<usize>]) -> Fleet {
    let mut fleet = Fleet::of("a? b? c? d?");
    fleet.policy = Some(policy);
    if is_active_active {
        fleet = fleet.active_active(weights);
    }
    fleet.preferred_regions = vec!["eu".into(), "us".into()];
    for (candidate, region) in fleet.candidates.iter_mut().zip(regions) {
        candidate.region = region.map(|region| ["eu", "us", "ap"][region].into());
    }
    fleet
}

/// Applies a turn to a fleet. `all` has the backends that the list may name.
fn apply(fleet: &mut Fleet, all: &mut [Candidate], turn: &Turn, now: Timestamp, id: usize) {
    for (at, candidate) in all.iter_mut().enumerate() {
        mark_candidate(candidate, MARKS[turn.marks[at]], now);
        candidate.capacity = Capacity { percent: turn.capacities[at], until: None };
        candidate.first_failure_at = (candidate.health == Health::Unhealthy).then_some(candidate.since);
        candidate.confirmed_at = turn.has_answered[at].then_some(now);
        let is_failing = candidate.health == Health::Unhealthy;
        candidate.is_recovering = is_failing && turn.answers_again[at];
        candidate.answered_at = candidate.confirmed_at.filter(|_| candidate.is_recovering);
        candidate.confirmed_standbys =
            turn.confirmed[at].iter().map(|name| ["a", "b", "c", "d"][*name].into()).collect();
    }
    let listed = all.iter().zip(&turn.is_listed).filter(|(_, is_listed)| **is_listed);
    fleet.candidates = listed.map(|(candidate, _)| candidate.clone()).collect();
    fleet.is_storm = turn.is_storm;
    fleet.request = turn.action.clone().map(|action| Request::new(id.to_string(), action)).or(fleet.request.take());
}

/// A route over time.
#[derive(Clone, Debug)]
pub struct History {
    policy: Policy,
    is_active_active: bool,
    weights: Vec<u32>,
    regions: Vec<Option<usize>>,
    turns: Vec<Turn>,
}

prop_compose! {
    pub fn any_history()(
        policy in any_policy(),
        is_active_active in any::<bool>(),
        weights in prop::collection::vec(1_u32..100, 4),
        regions in prop::collection::vec(prop::option::of(0_usize..3), 4),
        turns in prop::collection::vec(any_turn(), 1..40),
    ) -> History {
        History { policy, is_active_active, weights, regions, turns }
    }
}

/// Plays a history; what `remembered` makes of a decision is what the next one is taken with.
pub fn play(history: History, mut remembered: impl FnMut(&Decision) -> Memory) {
    let unchecked = walk(history, |_, _, decision, _| Ok(remembered(decision)));
    assert!(unchecked.is_ok());
}

/// Walks through a history; the memory that `step` returns is what the next decision is taken with.
///
/// # Errors
/// Those of `step`.
pub fn walk(
    history: History,
    mut step: impl FnMut(&Fleet, &Memory, &Decision, Timestamp) -> Result<Memory, TestCaseError>,
) -> Result<(), TestCaseError> {
    let History { policy, is_active_active, weights, regions, turns } = history;
    let mut fleet = begin(policy, is_active_active, &weights, &regions);
    let mut all = fleet.candidates.clone();
    let mut now = at(1_000_000);
    for (id, turn) in turns.iter().enumerate() {
        now = now + Duration::from_secs(turn.wait);
        apply(&mut fleet, &mut all, turn, now, id);
        let before = fleet.memory.clone();
        let decision = fleet.decide_at(now);
        fleet.memory = step(&fleet, &before, &decision, now)?;
    }
    Ok(())
}
