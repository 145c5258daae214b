//! Preparation of a scenario: checks it against a fleet and makes a script of it.

use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::agent::MetReply;
use super::effects::{EventError, delivery_stage, effect, reply, step};
use super::expect::{self, Check};
use super::fleet::SimulatedFleet;
use super::run::Simulation;
use super::scenario::{Ask, AskedAction, Event, Scenario, ScenarioDuration, ScenarioError, ScenarioFault, SeenBy};
use super::script::{DialogueStep, MailRefusal, ProbeFault, RoundEffect, Script, ScriptedAction, ScriptedChange};
use super::words;
use mail_failover_core::engine::{LONGEST_DRILL, Request, RequestAction};
use mail_failover_core::model::{Destination, Effect, EvidenceClass, Timestamp};

/// Start of a scenario that names none: 2026-01-01T00:00:00Z.
const DEFAULT_START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const DEFAULT_LATENCY: Duration = Duration::from_millis(100);
const DEFAULT_OBSERVER: &str = "replica-0";
/// Time after which silence of DNS for one name counts: a record's TTL of a minute, and the prober's grace.
const NAME_SILENCE: Duration = Duration::from_mins(2);
/// Time after the end of a drill in which everything leads back.
const AFTER_DRILL: Duration = Duration::from_mins(5);
/// Most windows for drills of which each is looked at for itself.
const MAX_WINDOWS: usize = 10_000;
/// Longest simulation. A longer one is most likely a mistake in `duration`.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// Values of the command line that replace those of the scenario.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// Duration of the simulation.
    pub duration: Option<Duration>,
    /// Seed of all chance.
    pub seed: Option<u64>,
}

/// Makes a scenario ready to be run.
///
/// # Errors
/// Everything that makes no sense, with its line.
pub fn prepare(
    file: &str,
    scenario: Scenario,
    fleet: SimulatedFleet,
    overrides: Overrides,
) -> Result<Simulation, Vec<ScenarioError>> {
    let start = scenario.start.map_or(DEFAULT_START, |start| start.0);
    let duration = overrides.duration.unwrap_or(scenario.duration.0);
    let seed = overrides.seed.unwrap_or(scenario.seed);
    let mut observers: Vec<Arc<str>> = scenario.observers.iter().map(|name| name.as_str().into()).collect();
    if observers.is_empty() {
        observers.push(DEFAULT_OBSERVER.into());
    }
    let fleet = fleet.shared_out_among(observers.len());
    let mut errors = vec![];
    if duration.is_zero() || duration > LONGEST {
        errors.push(error_in(file, "duration: must be more than nothing, and a year at most"));
    }
    if let Some(twice) = observers.iter().enumerate().find(|(at, name)| observers[..*at].contains(name)) {
        errors.push(error_in(file, format!("observers: {} is there twice", twice.1)));
    }
    let mut preparation = Preparation {
        fleet: &fleet,
        observers: &observers,
        start,
        end: start + duration,
        faults: vec![],
        acts: vec![],
        refusals: vec![],
        warnings: vec![],
        drills: vec![],
    };
    let mut texts = vec![];
    for (index, event) in scenario.events.iter().enumerate() {
        match preparation.event(index, &event.value) {
            Ok(text) => texts.push(text),
            Err(error) => {
                let field = if error.field.is_empty() { String::new() } else { format!(".{}", error.field) };
                errors.push(error_at(file, event, format!("events[{index}]{field}: {error}")));
            }
        }
    }
    let mut checks: Vec<Check> = vec![];
    for (index, expectation) in scenario.expect.iter().enumerate() {
        let line = expectation.referenced.line();
        match expect::prepare(&expectation.value, line, &fleet, start, start + duration) {
            Ok(check) => checks.push(check),
            Err(error) => errors.push(error_at(file, expectation, format!("expect[{index}]: {error}"))),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let Preparation { faults, mut acts, refusals, warnings, drills, .. } = preparation;
    acts.sort_by_key(|act| act.at);
    let told = refusals.iter().filter(|refusal| refusal.told.is_some());
    let mut restless: Vec<_> = told.map(|refusal| (refusal.from, refusal.until)).collect();
    restless.extend(drills.into_iter().chain(drill_windows(&fleet, start, start + duration)));
    let latency = scenario.latency.map_or(DEFAULT_LATENCY, |latency| latency.0);
    Ok(Simulation {
        title: scenario.title,
        description: scenario.description,
        start,
        end: start + duration,
        seed,
        observers,
        script: Script::new(&fleet, faults, restless, latency, seed),
        acts,
        refusals,
        warnings,
        checks,
        event_texts: texts,
        is_lasting: scenario.events.iter().map(|event| event.value.request.is_none()).collect(),
        fleet,
    })
}

/// Returns the times in which a drill of a schedule may run, so that no round is skipped then.
fn drill_windows(fleet: &SimulatedFleet, start: Timestamp, end: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let mut spans = vec![];
    for window in fleet.routes.iter().filter_map(|route| route.policy.drills.window.as_ref()) {
        spans.extend(window.open_until(start).map(|until| (start, until + AFTER_DRILL)));
        let mut next = window.next_opening(start);
        while let Some(opens_at) = next.filter(|at| *at < end) {
            if spans.len() >= MAX_WINDOWS {
                spans.push((opens_at, end));
                break;
            }
            spans.push((opens_at, opens_at + window.duration() + AFTER_DRILL));
            next = window.next_opening(opens_at);
        }
    }
    spans.sort_unstable();
    spans.dedup();
    spans
}

fn error_in(file: &str, message: impl Into<String>) -> ScenarioError {
    ScenarioError { file: file.to_owned(), line: None, message: message.into() }
}

fn error_at<T>(file: &str, place: &Spanned<T>, message: String) -> ScenarioError {
    ScenarioError { file: file.to_owned(), line: Some(place.referenced.line()), message }
}

struct Preparation<'a> {
    fleet: &'a SimulatedFleet,
    observers: &'a [Arc<str>],
    start: Timestamp,
    end: Timestamp,
    faults: Vec<ProbeFault>,
    acts: Vec<ScriptedAction>,
    refusals: Vec<MailRefusal>,
    warnings: Vec<String>,
    /// Times in which drills that are asked for may run.
    drills: Vec<(Timestamp, Timestamp)>,
}

impl Preparation<'_> {
    /// Adds an event to the script. Returns the event in words.
    fn event(&mut self, index: usize, event: &Event) -> Result<String, EventError> {
        let from = self.start + event.at.0;
        let until = event.r#for.map_or(Timestamp::from_micros(i64::MAX), |ScenarioDuration(length)| from + length);
        if from >= self.end {
            return Err(EventError::new("at", "comes after the end; see `duration`"));
        }
        let given = [
            event.answers.is_some(),
            event.fault.is_some(),
            event.latency.is_some(),
            event.quota_left.is_some(),
            event.suspended.is_some(),
            event.request.is_some(),
        ];
        if given.into_iter().filter(|is_given| *is_given).count() != 1 {
            let message = "exactly one of answers, fault, latency, quotaLeft, suspended and request must be set";
            return Err(EventError::new("", message));
        }
        let is_dialogue = event.answers.is_some() || event.fault.is_some() || event.latency.is_some();
        if !is_dialogue && (event.observer.is_some() || event.percent.is_some()) {
            return Err(EventError::new("", "observer and percent go with answers, fault and latency only"));
        }
        if event.answers.is_none() && event.seen_by.is_some() {
            return Err(EventError::new("seenBy", "goes with answers only"));
        }
        self.acts.push(ScriptedAction { at: from, what: ScriptedChange::Note { event: index, is_over: false } });
        if until < self.end && event.request.is_none() {
            self.acts.push(ScriptedAction { at: until, what: ScriptedChange::Note { event: index, is_over: true } });
        }
        if let Some(ask) = &event.request {
            if event.r#for.is_some() {
                return Err(EventError::new("for", "does not go with a request; see request.for"));
            }
            return self.request(ask, event, from);
        }
        let backends = self.targets(event)?;
        let whom = self.whom(event, &backends);
        if let Some(quota_left) = event.quota_left {
            self.do_while(&backends, from, until, |backend, is_over| ScriptedChange::Limit {
                backend,
                quota_left: (!is_over).then_some(quota_left),
            });
            return Ok(format!("{whom}: {quota_left} messages left today"));
        }
        if let Some(is_suspended) = event.suspended {
            let before: Vec<_> = self.fleet.backends.iter().map(|backend| backend.backend.suspended).collect();
            self.do_while(&backends, from, until, |backend, is_over| ScriptedChange::Suspend {
                backend,
                is_suspended: if is_over { before[backend] } else { is_suspended },
            });
            let text = if is_suspended { "is taken out of service" } else { "is put back into service" };
            return Ok(format!("{whom} {text}"));
        }
        self.dialogue(index, event, &backends, &whom, from, until)
    }

    fn do_while(
        &mut self,
        backends: &[usize],
        from: Timestamp,
        until: Timestamp,
        deed: impl Fn(usize, bool) -> ScriptedChange,
    ) {
        for backend in backends {
            self.acts.push(ScriptedAction { at: from, what: deed(*backend, false) });
            if until < self.end {
                self.acts.push(ScriptedAction { at: until, what: deed(*backend, true) });
            }
        }
    }

    fn targets(&self, event: &Event) -> Result<Vec<usize>, EventError> {
        match (&event.backend, &event.failure_domain, event.all) {
            (Some(name), None, false) => self
                .fleet
                .find_backend(name)
                .map(|found| vec![found])
                .map_err(|error| EventError::new("backend", error.to_string())),
            (None, Some(domain), false) => {
                let found: Vec<_> = self
                    .fleet
                    .backends
                    .iter()
                    .enumerate()
                    .filter(|(_, one)| one.backend.location.failure_domain.as_deref() == Some(domain.as_str()))
                    .map(|(position, _)| position)
                    .collect();
                if found.is_empty() {
                    return Err(EventError::new(
                        "failureDomain",
                        format!("no backend is in the failure domain {domain}"),
                    ));
                }
                Ok(found)
            }
            (None, None, true) => Ok((0..self.fleet.backends.len()).collect()),
            _ => Err(EventError::new("", "exactly one of backend, failureDomain and `all: true` must be set")),
        }
    }

    fn whom(&self, event: &Event, backends: &[usize]) -> String {
        let whom = match (&event.failure_domain, backends) {
            (Some(domain), _) => format!("all in {domain}"),
            (None, [one]) if !event.all => self.fleet.backend_name(*one),
            (None, _) => "all backends".to_owned(),
        };
        match &event.observer {
            Some(observer) => format!("{whom}, seen from {observer}"),
            None => whom,
        }
    }

    fn request(&mut self, ask: &Ask, event: &Event, at: Timestamp) -> Result<String, EventError> {
        if event.backend.is_some() || event.failure_domain.is_some() || event.all {
            return Err(EventError::new("", "a request is made of a route: see request.route and request.to"));
        }
        let route =
            self.fleet.find_route(&ask.route).map_err(|error| EventError::new("request.route", error.to_string()))?;
        let duration = ask.r#for.map(|ScenarioDuration(duration)| duration);
        let (takes_to, takes_for, takes_force) = match ask.action {
            AskedAction::Switch => (true, true, true),
            AskedAction::Pause => (false, true, false),
            AskedAction::Drill => (false, true, true),
            AskedAction::Failback | AskedAction::Resume | AskedAction::ApproveFailback => (false, false, false),
        };
        for (field, is_wrong) in [
            ("request.to", ask.to.is_some() && !takes_to),
            ("request.for", duration.is_some() && !takes_for),
            ("request.force", ask.force && !takes_force),
            ("request.mode", ask.mode.is_some() && ask.action != AskedAction::Drill),
        ] {
            if is_wrong {
                return Err(EventError::new(field, format!("does not go with {:?}", ask.action)));
            }
        }
        let action = match ask.action {
            AskedAction::Switch => {
                let to = ask.to.as_deref();
                let to = to.ok_or_else(|| EventError::new("request.to", "is missing: where to?"))?;
                RequestAction::Switch { to: to.into(), duration, is_forced: ask.force }
            }
            AskedAction::Failback => RequestAction::Failback,
            AskedAction::Pause => RequestAction::Pause { duration },
            AskedAction::Resume => RequestAction::Resume,
            AskedAction::ApproveFailback => RequestAction::ApproveFailback,
            AskedAction::Drill => {
                let mode = ask.mode.as_deref().map(|mode| {
                    let unknown = format!("{mode} is no mode; there is Observed, Blocked, Shadow");
                    mode.parse().map_err(|_| EventError::new("request.mode", unknown))
                });
                self.drills.push((at, at + LONGEST_DRILL + AFTER_DRILL));
                RequestAction::Drill { mode: mode.transpose()?, duration, is_forced: ask.force }
            }
        };
        let to = ask.to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
        let text = format!("a person requests {}{to} of {}", action.as_str(), self.fleet.route_name(route));
        let request = Request::new(ask.id.as_str(), action);
        self.acts.push(ScriptedAction { at, what: ScriptedChange::Ask { route, request } });
        Ok(text)
    }

    /// Adds a reply, a fault or a delay.
    fn dialogue(
        &mut self,
        index: usize,
        event: &Event,
        backends: &[usize],
        whom: &str,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<String, EventError> {
        let observer = event.observer.as_ref().map(|name| {
            self.observers.iter().position(|observer| **observer == **name).ok_or_else(|| {
                let known = self.observers.join(", ");
                EventError::new("observer", format!("{name} is none of the observers: {known}"))
            })
        });
        let observer = observer.transpose()?;
        let percent = event.percent.unwrap_or(100);
        if !(1..=100).contains(&percent) {
            return Err(EventError::new("percent", "must be from 1 to 100"));
        }
        let hit = if percent < 100 { format!(" to {percent} %") } else { String::new() };
        let told_by_mail = event.seen_by == Some(SeenBy::Traffic);
        let mut effects = vec![];
        let mut seen = vec![];
        for (position, known) in self.fleet.backends.iter().enumerate() {
            for probe in &known.backend.probes {
                let is_hit = backends.contains(&position) && !told_by_mail;
                let effect = if is_hit { effect(event, &known.backend, probe)? } else { None };
                if effect.is_some() {
                    seen.push(position);
                }
                effects.push(effect);
            }
        }
        let unseen: Vec<_> = backends.iter().filter(|backend| !seen.contains(backend)).copied().collect();
        let text = match (&event.answers, &event.fault, &event.latency) {
            (Some(answers), ..) => {
                format!("{whom} answers {} at {}{hit}", answers.reply, step(answers.stage).as_str())
            }
            (_, Some(fault), _) => format!("{whom}: {}{hit}", fault.as_str()),
            (_, _, Some(ScenarioDuration(latency))) => format!("{whom} is slower by {}{hit}", words::length(*latency)),
            (None, None, None) => whom.to_owned(),
        };
        for &backend in backends {
            // Each backend has rules of its own about replies.
            let (is_failure, told) = match (&event.answers, &event.fault) {
                (Some(answers), _) => {
                    let reply = reply(answers, &self.fleet.backends[backend].backend)?;
                    // A message that is asked to come later has not been sent.
                    let is_failure = reply.class.effect() == Effect::Failure || reply.class == EvidenceClass::Throttled;
                    let told = told_by_mail.then(|| MetReply {
                        class: reply.class,
                        stage: delivery_stage(answers.stage),
                        message: reply.message.into(),
                    });
                    (is_failure, told)
                }
                (None, Some(fault)) => {
                    (!matches!(fault, ScenarioFault::ResolverSilent | ScenarioFault::OwnFailure), None)
                }
                (None, None) => continue,
            };
            if observer.is_none() {
                self.refusals.push(MailRefusal { backend, from, until, percent, is_failure, told });
            }
        }
        if event.fault == Some(ScenarioFault::ResolverSilent) {
            self.silence_names(backends, from, until, observer, percent);
        }
        if !told_by_mail && !unseen.is_empty() && event.fault != Some(ScenarioFault::ResolverSilent) {
            self.warn_unseen(index, event, &unseen);
        }
        self.faults.push(ProbeFault { from, until, observer, percent, effects });
        Ok(text)
    }

    /// Adds what follows when DNS is silent for some names alone: the prober counts it once their addresses are old.
    fn silence_names(
        &mut self,
        backends: &[usize],
        from: Timestamp,
        until: Timestamp,
        observer: Option<usize>,
        percent: u8,
    ) {
        let is_named = |backend: usize| match &self.fleet.backends[backend].backend.destination {
            Destination::Host(host) => host.host.parse::<std::net::IpAddr>().is_err(),
            Destination::Service(_) => false,
        };
        let mut others = (0..self.fleet.backends.len()).filter(|backend| !backends.contains(backend));
        let from = from + NAME_SILENCE;
        if from >= until || !others.any(is_named) {
            return;
        }
        let mut effects = vec![];
        for (position, known) in self.fleet.backends.iter().enumerate() {
            let is_silent = backends.contains(&position) && is_named(position);
            let effect = is_silent.then(|| RoundEffect::Ends {
                step: DialogueStep::Resolve,
                class: EvidenceClass::Unresolvable,
                hangs: false,
                message: "Resolve: DNS answers for other names, and not for this one".into(),
            });
            effects.extend(std::iter::repeat_n(effect, known.backend.probes.len()));
        }
        self.faults.push(ProbeFault { from, until, observer, percent, effects });
    }

    fn warn_unseen(&mut self, index: usize, event: &Event, unseen: &[usize]) {
        let names: Vec<_> = unseen.iter().map(|backend| self.fleet.backend_name(*backend)).collect();
        let names = names.join(", ");
        let why = match &event.answers {
            Some(answers) => {
                let stage = step(answers.stage).as_str();
                let remedy = if step(answers.stage) > DialogueStep::Rcpt {
                    "no probe sends a message; `seenBy: Traffic` shows what follows if agents report it"
                } else {
                    "see `spec.probes[].smtp.depth` and `tls.mode`"
                };
                format!(
                    "no probe of {names} comes as far as {stage}: the operator does not see this reply, mail does ({remedy})"
                )
            }
            None => format!("no probe of {names} notices this: see `spec.probes[].smtp.depth` and `tls.mode`"),
        };
        self.warnings.push(format!("events[{index}]: {why}"));
    }
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
