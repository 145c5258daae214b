use std::collections::BTreeMap;

use super::fleet::Fleet;
use super::run::Simulation;
use super::scenario::{Expectation, Span};
use super::summary::views;
use super::timeline::{RouteView, Timeline, What, hold_name};
use super::words::clock;
use mail_failover_core::engine::{Health, HoldReason, State};
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// Something that is expected, ready to be looked up.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// In the scenario.
    line: u64,
    when: When,
    of: Subject,
    /// For people.
    text: String,
}

#[derive(Clone, Copy, Debug)]
enum When {
    At(Timestamp),
    Between(Timestamp, Timestamp),
    Within(Timestamp, Timestamp),
}

#[derive(Clone, Debug)]
enum Subject {
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
}

/// What came of an expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its line in the scenario.
    pub line: u64,
    /// What was expected.
    pub expected: String,
    /// Whether it is so.
    pub is_met: bool,
    /// What there was instead, or as well.
    pub found: String,
}

/// Makes an expectation ready.
///
/// # Errors
/// What makes no sense about it.
pub(super) fn prepare(
    given: &Expectation,
    line: u64,
    fleet: &Fleet,
    start: Timestamp,
    end: Timestamp,
) -> Result<Check, String> {
    let time = |Span(after): Span| {
        let at = start + after;
        if at > end { Err(format!("{} is after the end", clock(after))) } else { Ok(at) }
    };
    let pair = |[from, until]: [Span; 2]| {
        if from > until {
            Err("the first time is after the second".to_owned())
        } else {
            Ok((time(from)?, time(until)?))
        }
    };
    let (when, when_text) = match (given.at, given.between, given.within) {
        (Some(at), None, None) => (When::At(time(at)?), format!("at {}", clock(at.0))),
        (None, Some(times), None) => {
            let (from, until) = pair(times)?;
            (When::Between(from, until), format!("from {} to {}", clock(times[0].0), clock(times[1].0)))
        }
        (None, None, Some(times)) => {
            let (from, until) = pair(times)?;
            (When::Within(from, until), format!("within {} and {}", clock(times[0].0), clock(times[1].0)))
        }
        _ => return Err("exactly one of at, between and within must be set".to_owned()),
    };
    let (of, what) = match (&given.route, &given.backend) {
        (Some(route), None) => route_subject(given, fleet, route, when)?,
        (None, Some(backend)) => backend_subject(given, fleet, backend)?,
        _ => return Err("exactly one of route and backend must be set".to_owned()),
    };
    Ok(Check { line, when, of, text: format!("{what} {when_text}") })
}

fn route_subject(given: &Expectation, fleet: &Fleet, name: &str, when: When) -> Result<(Subject, String), String> {
    let route = fleet.find_route(name)?;
    if given.health.is_some() || given.class.is_some() {
        return Err("health and class are of a backend".to_owned());
    }
    let members = &fleet.routes[route].route.backends;
    let member = |name: &str| {
        let known: Vec<_> = members.iter().map(|member| member.name.to_string()).collect();
        if known.iter().any(|known| known == name) {
            Ok(())
        } else {
            Err(format!("{name} is not a backend of the route; it has {}", known.join(", ")))
        }
    };
    let mut wanted = WantedRoute { unplaced: given.unplaced, ..WantedRoute::default() };
    let mut texts = vec![];
    if let Some(active) = &given.active {
        member(active)?;
        wanted.active = Some(active.clone());
        texts.push(format!("active {active}"));
    }
    if let Some(shares) = &given.shares {
        shares.keys().try_for_each(|name| member(name))?;
        let text: Vec<_> = shares.iter().map(|(name, percent)| format!("{name} {percent} %")).collect();
        texts.push(text.join(", "));
        wanted.shares = Some(shares.clone());
    }
    if let Some(state) = &given.state {
        let found = State::ALL.iter().copied().find(|known| known.as_str() == state);
        let known = State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(", ");
        wanted.state = Some(found.ok_or_else(|| format!("{state} is no state; there is {known}"))?);
        texts.push(state.clone());
    }
    if let Some(hold) = &given.hold {
        wanted.hold = match (hold.as_str(), HoldReason::from_name(hold)) {
            ("None", _) => WantedHold::None,
            (_, Some(reason)) => WantedHold::Of(reason),
            (_, None) => {
                let known = HoldReason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ");
                return Err(format!("{hold} is no hold; there is None, {known}"));
            }
        };
        texts.push(format!("hold {hold}"));
    }
    if let Some(unplaced) = given.unplaced {
        texts.push(format!("{unplaced} % nowhere"));
    }
    if let Some(transitions) = given.transitions {
        if matches!(when, When::Within(..)) {
            return Err("transitions are counted `at` a time or `between` two".to_owned());
        }
        texts.push(format!("{transitions} transitions"));
    }
    if texts.is_empty() {
        return Err("nothing is expected: set active, shares, state, hold, unplaced or transitions".to_owned());
    }
    let text = format!("route {name}: {}", texts.join(", "));
    Ok((Subject::Route { route, wanted, transitions: given.transitions }, text))
}

fn backend_subject(given: &Expectation, fleet: &Fleet, name: &str) -> Result<(Subject, String), String> {
    let backend = fleet.find_backend(name)?;
    let is_of_route = given.active.is_some()
        || given.shares.is_some()
        || given.state.is_some()
        || given.hold.is_some()
        || given.unplaced.is_some()
        || given.transitions.is_some();
    if is_of_route {
        return Err("active, shares, state, hold, unplaced and transitions are of a route".to_owned());
    }
    let all = [Health::Healthy, Health::Degraded, Health::Unhealthy, Health::Unknown];
    let health = given.health.as_ref().map(|health| {
        let found = all.into_iter().find(|known| known.as_str() == health);
        found.ok_or_else(|| format!("{health} is no health; there is {}", all.map(Health::as_str).join(", ")))
    });
    let class = given.class.as_ref().map(|class| {
        EvidenceClass::from_name(class).ok_or_else(|| {
            let known = EvidenceClass::ALL.iter().map(|class| class.as_str()).collect::<Vec<_>>().join(", ");
            format!("{class} is no class; there is {known}")
        })
    });
    let (health, class) = (health.transpose()?, class.transpose()?);
    let texts: Vec<_> = [health.map(Health::as_str), class.map(EvidenceClass::as_str)].into_iter().flatten().collect();
    if texts.is_empty() {
        return Err("nothing is expected: set health or class".to_owned());
    }
    Ok((Subject::Backend { backend, health, class }, format!("backend {name}: {}", texts.join(", "))))
}

impl Check {
    /// Looks whether it is so.
    pub(super) fn check(&self, simulation: &Simulation, timeline: &Timeline) -> Checked {
        let (is_met, found) = match &self.of {
            Subject::Route { route, wanted, transitions } => {
                let views: Vec<_> = views(timeline, *route)
                    .into_iter()
                    .map(|(at, view)| (at, wanted.fits(view), view_text(view)))
                    .collect();
                let (is_met, found) = self.when.check(simulation, &views);
                match transitions.map(|wanted| (wanted, self.transitions(timeline, *route))) {
                    Some((wanted, counted)) => (is_met && counted == wanted, format!("{counted} transitions; {found}")),
                    None => (is_met, found),
                }
            }
            Subject::Backend { backend, health, class } => {
                let verdicts: Vec<_> = timeline
                    .entries
                    .iter()
                    .filter_map(|entry| match &entry.what {
                        What::Verdict(change) if change.backend == *backend => {
                            let fits = health.is_none_or(|health| health == change.health)
                                && class.is_none_or(|class| class == change.class);
                            let text = format!("{} ({})", change.health.as_str(), change.class.as_str());
                            Some((entry.at, fits, text))
                        }
                        What::Event { .. } | What::Verdict(_) | What::Route(_) | What::Storm(_) | What::Suspects(_) => {
                            None
                        }
                    })
                    .collect();
                self.when.check(simulation, &verdicts)
            }
        };
        Checked { line: self.line, expected: self.text.clone(), is_met, found }
    }

    fn transitions(&self, timeline: &Timeline, route: usize) -> usize {
        let is_in_time = |at: Timestamp| match self.when {
            When::At(until) => at <= until,
            When::Between(from, until) | When::Within(from, until) => from <= at && at < until,
        };
        let is_counted = |entry: &&super::timeline::Entry| match &entry.what {
            What::Route(change) => change.route == route && change.transition.is_some() && is_in_time(entry.at),
            What::Event { .. } | What::Verdict(_) | What::Storm(_) | What::Suspects(_) => false,
        };
        timeline.entries.iter().filter(is_counted).count()
    }
}

impl When {
    /// Looks at what was from when on, whether it fits, and what it was; returns the same of the whole.
    fn check(self, simulation: &Simulation, states: &[(Timestamp, bool, String)]) -> (bool, String) {
        let at = |at: Timestamp| states.iter().rfind(|(since, ..)| *since <= at);
        let text = |state: Option<&(Timestamp, bool, String)>| {
            state.map_or_else(
                || "nothing is known".to_owned(),
                |(since, _, what)| format!("{what} since {}", simulation.after(*since)),
            )
        };
        let during = |from, until| states.iter().filter(move |(since, ..)| *since >= from && *since < until);
        match self {
            Self::At(moment) => (at(moment).is_some_and(|(_, fits, _)| *fits), text(at(moment))),
            Self::Between(from, until) => {
                // What changes with the first moment counts, what changes with the last does not.
                let mut all = at(from).into_iter().chain(during(from, until).filter(|(since, ..)| *since > from));
                match all.find(|(_, fits, _)| !fits) {
                    Some(other) => (false, text(Some(other))),
                    None => (at(from).is_some(), text(at(from))),
                }
            }
            Self::Within(from, until) => {
                let before = states.iter().rfind(|(since, ..)| *since < from);
                if before.is_some_and(|(_, fits, _)| *fits) {
                    return (false, format!("it was so before: {}", text(before)));
                }
                if let Some(found) = during(from, until).find(|(_, fits, _)| *fits) {
                    return (true, text(Some(found)));
                }
                let later = states.iter().find(|(since, fits, _)| *fits && *since >= until);
                (false, later.map_or_else(|| text(at(until)), |later| format!("only later: {}", text(Some(later)))))
            }
        }
    }
}

impl WantedRoute {
    fn fits(&self, view: &RouteView) -> bool {
        let shares = || {
            view.shares.iter().filter(|share| share.percent > 0).map(|share| (share.backend.to_string(), share.percent))
        };
        let is_held_as_wanted = match self.hold {
            WantedHold::Any => true,
            WantedHold::None => view.hold.is_none(),
            WantedHold::Of(reason) => view.hold.is_some_and(|hold| hold.reason == reason),
        };
        self.active.as_ref().is_none_or(|active| view.active().is_some_and(|found| **found == **active))
            && self.shares.as_ref().is_none_or(|wanted| *wanted == shares().collect())
            && self.state.is_none_or(|state| state == view.state)
            && is_held_as_wanted
            && self.unplaced.is_none_or(|unplaced| unplaced == view.unplaced)
    }
}

fn view_text(view: &RouteView) -> String {
    format!("{}, {}, hold {}", view.state.as_str(), view.shares_text(), hold_name(view.hold))
}
