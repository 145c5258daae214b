use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::run::Simulation;
use super::timeline::{RouteView, Timeline, TimelineChange};
use mail_failover_core::engine::{State, TransitionKind, TransitionReason};
use mail_failover_core::model::Timestamp;

/// Effect of a simulation on a route. Mail counts as evenly spread over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteSummary {
    /// Number of moves to a less preferred backend.
    pub failovers: usize,
    /// Number of moves to a more preferred backend.
    pub failbacks: usize,
    /// Longest time from the first evidence of a failure to the decision; `None` if no failover was due to evidence.
    pub slowest_failover: Option<Duration>,
    /// Time in which no backend could deliver, as far as the operator knew.
    pub none_healthy: Duration,
    /// Time in which mail had nowhere to go, times its share.
    pub unplaced: Duration,
    /// Time in which mail went to a backend that refused it, times its share: the failure was not noticed, not yet
    /// noticed, or no backend was better. Messages of a route with agents that go on to another backend within the
    /// attempt are not refused.
    pub refused: Duration,
    /// Number of drills by result; those that still run at the end are not counted.
    pub drills: BTreeMap<&'static str, usize>,
    /// Part of the time that each backend carried mail, times its share; from 0 to 1.
    pub shares: BTreeMap<Arc<str>, f64>,
}

/// Alternates of a route over time: their names since each change.
pub(super) type Alternates = Vec<(Timestamp, Vec<Arc<str>>)>;

/// Summarizes each route of the fleet. `alternates` are those of each route.
pub(super) fn of(simulation: &Simulation, timeline: &Timeline, alternates: &[Alternates]) -> Vec<RouteSummary> {
    let routes = alternates.iter().enumerate();
    routes.map(|(route, alternates)| of_route(simulation, timeline, alternates, route)).collect()
}

/// Returns the states of a route, each with the time of its begin.
pub(super) fn views(timeline: &Timeline, route: usize) -> Vec<(Timestamp, &RouteView)> {
    timeline
        .entries
        .iter()
        .filter_map(|entry| match &entry.what {
            TimelineChange::Route(change) if change.route == route => Some((entry.at, &change.view)),
            TimelineChange::Event { .. }
            | TimelineChange::Verdict(_)
            | TimelineChange::Route(_)
            | TimelineChange::Storm(_)
            | TimelineChange::Suspects(_) => None,
        })
        .collect()
}

fn of_route(simulation: &Simulation, timeline: &Timeline, alternates: &Alternates, route: usize) -> RouteSummary {
    let mut summary = RouteSummary::default();
    for entry in &timeline.entries {
        let TimelineChange::Route(change) = &entry.what else { continue };
        let Some(transition) = change.transition.as_ref().filter(|_| change.route == route) else { continue };
        match transition.kind {
            // A drill is no failover.
            _ if transition.reason == TransitionReason::Drill => {}
            TransitionKind::Failover => summary.failovers += 1,
            TransitionKind::Failback => summary.failbacks += 1,
        }
        if let (TransitionReason::Failed(_), Some(since)) = (transition.reason, transition.first_evidence_at) {
            let took = transition.decided_at.since(since);
            summary.slowest_failover = summary.slowest_failover.max(Some(took));
        }
    }
    let views = views(timeline, route);
    let mut known = None;
    for (_, view) in &views {
        let Some(result) = view.drill.as_ref().and_then(|drill| drill.result.as_ref()) else { continue };
        if known.replace(&result.id) != Some(&result.id) {
            *summary.drills.entry(result.outcome.as_str()).or_default() += 1;
        }
    }
    let ends = views.iter().skip(1).map(|(at, _)| *at).chain([simulation.end]);
    let total = simulation.duration().as_secs_f64();
    for ((from, view), until) in views.iter().zip(ends) {
        let lasted = until.since(*from);
        if view.state == State::NoneHealthy {
            summary.none_healthy += lasted;
        }
        summary.unplaced += lasted.mul_f64(f64::from(view.unplaced) / 100.0);
        for share in &view.shares {
            let part = f64::from(share.percent) / 100.0;
            *summary.shares.entry(share.backend.clone()).or_default() += lasted.as_secs_f64() * part / total;
            let backend = &simulation.fleet.routes[route]
                .backends
                .iter()
                .find(|backend| simulation.fleet.backends[**backend].key.name == share.backend);
            // Without an agent nothing leads a message elsewhere.
            let has_agents = !simulation.fleet.routes[route].route.agents.is_empty();
            let alternates = if has_agents { alternates.as_slice() } else { &[] };
            if let Some(backend) = backend {
                summary.refused += refused(simulation, **backend, *from, until, alternates).mul_f64(part);
            }
        }
    }
    summary
}

/// Returns the time in which a backend refused mail within a span, times the refused part. What an agent sees refused or
/// throttled goes on to another backend within the same attempt while there is an alternate.
fn refused(
    simulation: &Simulation,
    backend: usize,
    from: Timestamp,
    until: Timestamp,
    alternates: &[(Timestamp, Vec<Arc<str>>)],
) -> Duration {
    let name = &simulation.fleet.backends[backend].key.name;
    let mut refusals: Vec<_> = simulation.refusals.iter().filter(|refusal| refusal.backend == backend).collect();
    refusals.retain(|refusal| refusal.is_failure);
    let mut turns: Vec<_> = refusals.iter().flat_map(|refusal| [refusal.from, refusal.until]).collect();
    turns.extend(alternates.iter().map(|(at, _)| *at));
    turns.extend([from, until]);
    turns.retain(|turn| (from..=until).contains(turn));
    turns.sort_unstable();
    turns.dedup();
    refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.percent));
    let mut total = Duration::ZERO;
    for turns in turns.windows(2) {
        let known = alternates.iter().rev().find(|(at, _)| *at <= turns[0]);
        let goes_on = known.is_some_and(|(_, names)| names.iter().any(|other| other != name));
        let mut in_force = refusals.iter().filter(|refusal| refusal.from <= turns[0] && turns[0] < refusal.until);
        let worst = in_force.find(|refusal| !(goes_on && refusal.told.is_some()));
        let percent = worst.map_or(0, |refusal| refusal.percent);
        total += turns[1].since(turns[0]).mul_f64(f64::from(percent) / 100.0);
    }
    total
}
