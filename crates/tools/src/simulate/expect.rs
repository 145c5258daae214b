use std::collections::BTreeMap;
use std::time::Duration;

use super::fleet::{NameError, SimulatedFleet};
use super::run::Simulation;
use super::scenario::{Expectation, ScenarioDuration};
use super::summary::views;
use super::timeline::{DrillView, RouteView, Timeline, TimelineChange, hold_name};
use super::words::clock;
use mail_failover_core::engine::{Health, HoldReason, State};
use mail_failover_core::model::{EvidenceClass, Route, Timestamp};

/// Expectation of the scenario, resolved against the fleet.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// Line of the expectation in the scenario.
    line: u64,
    when: When,
    of: ExpectedSubject,
    /// Expectation in words, for the report.
    text: String,
}

#[derive(Clone, Copy, Debug)]
enum When {
    At(Timestamp),
    Between(Timestamp, Timestamp),
    Within(Timestamp, Timestamp),
}

#[derive(Clone, Debug)]
enum ExpectedSubject {
    Route { route: usize, wanted: WantedRoute, transitions: Option<usize> },
    Backend { backend: usize, health: Option<Health>, class: Option<EvidenceClass> },
}

#[derive(Clone, Copy, Debug, Default)]
enum WantedHold {
    #[default]
    Any,
    None,
    Of(HoldReason),
}

#[derive(Clone, Debug, Default)]
struct WantedRoute {
    active: Option<String>,
    shares: Option<BTreeMap<String, u8>>,
    state: Option<State>,
    hold: WantedHold,
    unplaced: Option<u8>,
    /// State of its drill, `None` in words for none.
    drill: Option<&'static str>,
}

/// States of drills that can be expected.
const DRILLS: [&str; 6] = ["None", "Running", "Passed", "Failed", "Aborted", "Skipped"];

/// Result of an expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectationResult {
    /// Line of the expectation in the scenario.
    pub line: u64,
    /// Expectation in words, as reports print it.
    pub expected: String,
    /// True if the expectation is met.
    pub is_met: bool,
    /// Facts that were found instead, or as well.
    pub found: String,
}

/// Errors of an expectation.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExpectationError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{} is after the end", clock(*.0))]
    AfterEnd(Duration),
    #[error("the first time is after the second")]
    Reversed,
    #[error("exactly one of {0} must be set")]
    NotOne(&'static str),
    #[error("health and class are of a backend")]
    OfBackend,
    #[error("active, shares, state, hold, unplaced, drill and transitions are of a route")]
    OfRoute,
    #[error("{name} is not a backend of the route; it has {known}")]
    NotOfRoute { name: String, known: String },
    #[error("{value} is no {field}; there is {known}")]
    Unknown { field: &'static str, value: String, known: String },
    #[error("transitions are counted `at` a time or `between` two")]
    TransitionsWithin,
    #[error("nothing is expected: set {0}")]
    Empty(&'static str),
}

/// Resolves an expectation against the fleet.
///
/// # Errors
/// [`ExpectationError`] for times, names or values that cannot be.
pub(super) fn prepare(
    given: &Expectation,
    line: u64,
    fleet: &SimulatedFleet,
    start: Timestamp,
    end: Timestamp,
) -> Result<Check, ExpectationError> {
    let (when, when_text) = match (given.at, given.between, given.within) {
        (Some(at), None, None) => (When::At(moment(at, start, end)?), format!("at {}", clock(at.0))),
        (None, Some(times), None) => {
            let (from, until) = moments(times, start, end)?;
            (When::Between(from, until), format!("from {} to {}", clock(times[0].0), clock(times[1].0)))
        }
        (None, None, Some(times)) => {
            let (from, until) = moments(times, start, end)?;
            (When::Within(from, until), format!("within {} and {}", clock(times[0].0), clock(times[1].0)))
        }
        _ => return Err(ExpectationError::NotOne("at, between and within")),
    };
    let (of, what) = match (&given.route, &given.backend) {
        (Some(route), None) => route_subject(given, fleet, route, when)?,
        (None, Some(backend)) => backend_subject(given, fleet, backend)?,
        _ => return Err(ExpectationError::NotOne("route and backend")),
    };
    Ok(Check { line, when, of, text: format!("{what} {when_text}") })
}

fn moment(
    ScenarioDuration(after): ScenarioDuration,
    start: Timestamp,
    end: Timestamp,
) -> Result<Timestamp, ExpectationError> {
    let at = start + after;
    if at > end { Err(ExpectationError::AfterEnd(after)) } else { Ok(at) }
}

fn moments(
    [from, until]: [ScenarioDuration; 2],
    start: Timestamp,
    end: Timestamp,
) -> Result<(Timestamp, Timestamp), ExpectationError> {
    if from > until {
        return Err(ExpectationError::Reversed);
    }
    Ok((moment(from, start, end)?, moment(until, start, end)?))
}

/// Checks that a name is that of one of the route's backends.
fn check_member(name: &str, route: &Route) -> Result<(), ExpectationError> {
    if route.backends.iter().any(|member| *member.name == *name) {
        return Ok(());
    }
    let known: Vec<_> = route.backends.iter().map(|member| member.name.to_string()).collect();
    Err(ExpectationError::NotOfRoute { name: name.to_owned(), known: known.join(", ") })
}

fn route_subject(
    given: &Expectation,
    fleet: &SimulatedFleet,
    name: &str,
    when: When,
) -> Result<(ExpectedSubject, String), ExpectationError> {
    let route = fleet.find_route(name)?;
    if given.health.is_some() || given.class.is_some() {
        return Err(ExpectationError::OfBackend);
    }
    let members = &fleet.routes[route].route;
    let mut wanted = WantedRoute { unplaced: given.unplaced, ..WantedRoute::default() };
    let mut texts = vec![];
    if let Some(active) = &given.active {
        check_member(active, members)?;
        wanted.active = Some(active.clone());
        texts.push(format!("active {active}"));
    }
    if let Some(shares) = &given.shares {
        shares.keys().try_for_each(|name| check_member(name, members))?;
        let text: Vec<_> = shares.iter().map(|(name, percent)| format!("{name} {percent} %")).collect();
        texts.push(text.join(", "));
        wanted.shares = Some(shares.clone());
    }
    if let Some(state) = &given.state {
        let found = State::ALL.iter().copied().find(|known| known.as_str() == state);
        let known = State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = ExpectationError::Unknown { field: "state", value: state.clone(), known };
        wanted.state = Some(found.ok_or(unknown)?);
        texts.push(state.clone());
    }
    if let Some(hold) = &given.hold {
        wanted.hold = match (hold.as_str(), HoldReason::from_name(hold)) {
            ("None", _) => WantedHold::None,
            (_, Some(reason)) => WantedHold::Of(reason),
            (_, None) => {
                let known = HoldReason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ");
                let known = format!("None, {known}");
                return Err(ExpectationError::Unknown { field: "hold", value: hold.clone(), known });
            }
        };
        texts.push(format!("hold {hold}"));
    }
    if let Some(drill) = &given.drill {
        let found = DRILLS.into_iter().find(|known| known == drill);
        let known = DRILLS.join(", ");
        wanted.drill = Some(found.ok_or(ExpectationError::Unknown { field: "drill", value: drill.clone(), known })?);
        texts.push(format!("drill {drill}"));
    }
    if let Some(unplaced) = given.unplaced {
        texts.push(format!("{unplaced} % nowhere"));
    }
    if let Some(transitions) = given.transitions {
        if matches!(when, When::Within(..)) {
            return Err(ExpectationError::TransitionsWithin);
        }
        texts.push(format!("{transitions} transitions"));
    }
    if texts.is_empty() {
        return Err(ExpectationError::Empty("active, shares, state, hold, unplaced, drill or transitions"));
    }
    let text = format!("route {name}: {}", texts.join(", "));
    Ok((ExpectedSubject::Route { route, wanted, transitions: given.transitions }, text))
}

fn backend_subject(
    given: &Expectation,
    fleet: &SimulatedFleet,
    name: &str,
) -> Result<(ExpectedSubject, String), ExpectationError> {
    let backend = fleet.find_backend(name)?;
    let is_of_route = given.active.is_some()
        || given.shares.is_some()
        || given.state.is_some()
        || given.hold.is_some()
        || given.unplaced.is_some()
        || given.drill.is_some()
        || given.transitions.is_some();
    if is_of_route {
        return Err(ExpectationError::OfRoute);
    }
    let all = [Health::Healthy, Health::Degraded, Health::Unhealthy, Health::Unknown];
    let health = given.health.as_ref().map(|health| {
        let found = all.into_iter().find(|known| known.as_str() == health);
        found.ok_or_else(|| ExpectationError::Unknown {
            field: "health",
            value: health.clone(),
            known: all.map(Health::as_str).join(", "),
        })
    });
    let class = given.class.as_ref().map(|class| {
        EvidenceClass::from_name(class).ok_or_else(|| ExpectationError::Unknown {
            field: "class",
            value: class.clone(),
            known: EvidenceClass::ALL.iter().map(|class| class.as_str()).collect::<Vec<_>>().join(", "),
        })
    });
    let (health, class) = (health.transpose()?, class.transpose()?);
    let texts: Vec<_> = [health.map(Health::as_str), class.map(EvidenceClass::as_str)].into_iter().flatten().collect();
    if texts.is_empty() {
        return Err(ExpectationError::Empty("health or class"));
    }
    Ok((ExpectedSubject::Backend { backend, health, class }, format!("backend {name}: {}", texts.join(", "))))
}

impl Check {
    /// Checks the expectation against a timeline.
    pub(super) fn check(&self, simulation: &Simulation, timeline: &Timeline) -> ExpectationResult {
        let (is_met, found) = match &self.of {
            ExpectedSubject::Route { route, wanted, transitions } => {
                let phases: Vec<_> = views(timeline, *route)
                    .into_iter()
                    .map(|(since, view)| Phase { since, fits: wanted.fits(view), text: view_text(view) })
                    .collect();
                let (is_met, found) = self.when.check(simulation, &phases);
                match transitions.map(|wanted| (wanted, self.transitions(timeline, *route))) {
                    Some((wanted, counted)) => (is_met && counted == wanted, format!("{counted} transitions; {found}")),
                    None => (is_met, found),
                }
            }
            ExpectedSubject::Backend { backend, health, class } => {
                let phases: Vec<_> = timeline
                    .entries
                    .iter()
                    .filter_map(|entry| match &entry.what {
                        TimelineChange::Verdict(change) if change.backend == *backend => {
                            let fits = health.is_none_or(|health| health == change.health)
                                && class.is_none_or(|class| class == change.class);
                            let text = format!("{} ({})", change.health.as_str(), change.class.as_str());
                            Some(Phase { since: entry.at, fits, text })
                        }
                        TimelineChange::Event { .. }
                        | TimelineChange::Verdict(_)
                        | TimelineChange::Route(_)
                        | TimelineChange::Storm(_)
                        | TimelineChange::Suspects(_) => None,
                    })
                    .collect();
                self.when.check(simulation, &phases)
            }
        };
        ExpectationResult { line: self.line, expected: self.text.clone(), is_met, found }
    }

    fn transitions(&self, timeline: &Timeline, route: usize) -> usize {
        timeline
            .entries
            .iter()
            .filter(|entry| match &entry.what {
                TimelineChange::Route(change) => {
                    change.route == route && change.transition.is_some() && self.when.covers(entry.at)
                }
                TimelineChange::Event { .. }
                | TimelineChange::Verdict(_)
                | TimelineChange::Storm(_)
                | TimelineChange::Suspects(_) => false,
            })
            .count()
    }
}

/// State of a route or a backend, which lasts until the next phase.
struct Phase {
    since: Timestamp,
    /// True if the state is as expected.
    fits: bool,
    text: String,
}

impl When {
    fn covers(self, at: Timestamp) -> bool {
        match self {
            Self::At(until) => at <= until,
            Self::Between(from, until) | Self::Within(from, until) => from <= at && at < until,
        }
    }

    /// Returns true if the phases are as expected, and the phase that shows it in words.
    fn check(self, simulation: &Simulation, phases: &[Phase]) -> (bool, String) {
        match self {
            Self::At(moment) => {
                let phase = phase_at(phases, moment);
                (phase.is_some_and(|phase| phase.fits), phase_text(simulation, phase))
            }
            Self::Between(from, until) => {
                // A change at the first moment counts, one at the last does not.
                let first = phase_at(phases, from);
                let later = phases.iter().filter(|phase| phase.since > from && phase.since < until);
                match first.into_iter().chain(later).find(|phase| !phase.fits) {
                    Some(other) => (false, phase_text(simulation, Some(other))),
                    None => (first.is_some(), phase_text(simulation, first)),
                }
            }
            Self::Within(from, until) => {
                let before = phases.iter().rfind(|phase| phase.since < from);
                if before.is_some_and(|phase| phase.fits) {
                    return (false, format!("it was so before: {}", phase_text(simulation, before)));
                }
                // Phases are in the order of time, so the first one that fits decides.
                match phases.iter().find(|phase| phase.fits && phase.since >= from) {
                    Some(found) if found.since < until => (true, phase_text(simulation, Some(found))),
                    Some(later) => (false, format!("only later: {}", phase_text(simulation, Some(later)))),
                    None => (false, phase_text(simulation, phase_at(phases, until))),
                }
            }
        }
    }
}

fn phase_at(phases: &[Phase], at: Timestamp) -> Option<&Phase> {
    phases.iter().rfind(|phase| phase.since <= at)
}

fn phase_text(simulation: &Simulation, phase: Option<&Phase>) -> String {
    match phase {
        Some(Phase { since, text, .. }) => format!("{text} since {}", simulation.after(*since)),
        None => "nothing is known".to_owned(),
    }
}

impl WantedRoute {
    fn fits(&self, view: &RouteView) -> bool {
        let shares = view
            .shares
            .iter()
            .filter(|share| share.percent > 0)
            .map(|share| (share.backend.to_string(), share.percent));
        let is_held_as_wanted = match self.hold {
            WantedHold::Any => true,
            WantedHold::None => view.hold.is_none(),
            WantedHold::Of(reason) => view.hold.is_some_and(|hold| hold.reason == reason),
        };
        self.active.as_ref().is_none_or(|active| view.active().is_some_and(|found| **found == **active))
            && self.shares.as_ref().is_none_or(|wanted| *wanted == shares.collect())
            && self.state.is_none_or(|state| state == view.state)
            && is_held_as_wanted
            && self.unplaced.is_none_or(|unplaced| unplaced == view.unplaced)
            && self.drill.is_none_or(|drill| drill == drill_state(view))
    }
}

fn drill_state(view: &RouteView) -> &'static str {
    view.drill.as_ref().map_or("None", DrillView::state)
}

fn view_text(view: &RouteView) -> String {
    let drill = view.drill.as_ref().map_or_else(String::new, |drill| format!(", drill {}", drill.state()));
    format!("{}, {}, hold {}{drill}", view.state.as_str(), view.shares_text(), hold_name(view.hold))
}
