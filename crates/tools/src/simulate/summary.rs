use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::run::Simulation;
use super::timeline::{RouteView, Timeline, What};
use mail_failover_core::engine::{State, TransitionKind, TransitionReason};
use mail_failover_core::model::Timestamp;

/// What a simulation meant to a route. Mail is taken to be spread evenly over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteSummary {
    /// Moves to a less preferred backend.
    pub failovers: usize,
    /// Moves to a more preferred one.
    pub failbacks: usize,
    /// From the first evidence of a failure to the decision, at its slowest; `None` when nothing failed over by evidence.
    pub slowest_failover: Option<Duration>,
    /// No backend could deliver, as far as the operator knew.
    pub none_healthy: Duration,
    /// Mail had nowhere to go, for so long times its share.
    pub unplaced: Duration,
    /// Mail went where it was refused, for so long times its share: because that was not noticed, not yet, or nobody was better.
    pub refused: Duration,
    /// The part of time that each backend carried the mail, times its share; from 0 to 1.
    pub shares: BTreeMap<Arc<str>, f64>,
}

/// How each route fared.
pub(super) fn of(simulation: &Simulation, timeline: &Timeline) -> Vec<RouteSummary> {
    (0..simulation.fleet.routes.len()).map(|route| of_route(simulation, timeline, route)).collect()
}

/// Where a route stood from when, and how long.
pub(super) fn views(timeline: &Timeline, route: usize) -> Vec<(Timestamp, &RouteView)> {
    let view = |entry: &'_ super::timeline::Entry| entry.at;
    timeline
        .entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Route(change) if change.route == route => Some((view(entry), &change.view)),
            What::Event { .. } | What::Verdict(_) | What::Route(_) | What::Storm(_) | What::Suspects(_) => None,
        })
        .collect()
}

fn of_route(simulation: &Simulation, timeline: &Timeline, route: usize) -> RouteSummary {
    let mut summary = RouteSummary::default();
    for entry in &timeline.entries {
        let What::Route(change) = &entry.what else { continue };
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
            if let Some(backend) = backend {
                summary.refused += refused(simulation, **backend, *from, until).mul_f64(part);
            }
        }
    }
    summary
}

/// For how long, times how much of it, a backend refused mail within a time.
fn refused(simulation: &Simulation, backend: usize, from: Timestamp, until: Timestamp) -> Duration {
    let mut refusals: Vec<_> =
        simulation.refusals.iter().filter(|refusal| refusal.backend == backend && refusal.is_failure).collect();
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
