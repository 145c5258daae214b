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
    /// Part of the time that each backend carried mail, times its share; from 0 to 1.
    pub shares: BTreeMap<Arc<str>, f64>,
}

/// Summarizes each route of the fleet.
pub(super) fn of(simulation: &Simulation, timeline: &Timeline) -> Vec<RouteSummary> {
    (0..simulation.fleet.routes.len()).map(|route| of_route(simulation, timeline, route)).collect()
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

fn of_route(simulation: &Simulation, timeline: &Timeline, route: usize) -> RouteSummary {
    let mut summary = RouteSummary::default();
    for entry in &timeline.entries {
        let TimelineChange::Route(change) = &entry.what else { continue };
        let Some(transition) = change.transition.as_ref().filter(|_| change.route == route) else { continue };
        match transition.kind {
            TransitionKind::Failover => summary.failovers += 1,
            TransitionKind::Failback => summary.failbacks += 1,
        }
        if let (TransitionReason::Failed(_), Some(since)) = (transition.reason, transition.first_evidence_at) {
            let took = transition.decided_at.since(since);
            summary.slowest_failover = summary.slowest_failover.max(Some(took));
        }
    }
    let views = views(timeline, route);
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
            let goes_on = goes_on(simulation, route) && view.state != State::NoneHealthy;
            if let Some(backend) = backend {
                summary.refused += refused(simulation, **backend, *from, until, goes_on).mul_f64(part);
            }
        }
    }
    summary
}

/// Returns true if a message that one backend refuses goes on to another one within the same attempt.
fn goes_on(simulation: &Simulation, route: usize) -> bool {
    let known = &simulation.fleet.routes[route];
    !known.route.agents.is_empty() && known.route.alternates && known.backends.len() > 1
}

/// Returns the time in which a backend refused mail within a span, times the refused part. If messages go on, those
/// that an agent sees refused do.
fn refused(simulation: &Simulation, backend: usize, from: Timestamp, until: Timestamp, goes_on: bool) -> Duration {
    let mut refusals: Vec<_> = simulation.refusals.iter().filter(|refusal| refusal.backend == backend).collect();
    refusals.retain(|refusal| refusal.is_failure && !(goes_on && refusal.told.is_some()));
    let mut turns: Vec<_> = refusals.iter().flat_map(|refusal| [refusal.from, refusal.until]).collect();
    turns.extend([from, until]);
    turns.retain(|turn| (from..=until).contains(turn));
    turns.sort_unstable();
    turns.dedup();
    refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.percent));
    turns
        .windows(2)
        .map(|turns| {
            let worst = refusals.iter().find(|refusal| refusal.from <= turns[0] && turns[0] < refusal.until);
            let percent = worst.map_or(0, |refusal| refusal.percent);
            turns[1].since(turns[0]).mul_f64(f64::from(percent) / 100.0)
        })
        .sum()
}
