//! From a scenario as it is written down, and a fleet, to a script; everything that makes no sense is refused.

use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::effects::{Wrong, effect, reply, step};
use super::expect::{self, Check};
use super::fleet::Fleet;
use super::run::Simulation;
use super::scenario::{Ask, AskedAction, Event, Fault, Scenario, ScenarioError, SeenBy, Span};
use super::script::{Act, Deed, Fault as ScriptFault, Refusal, Script, Step};
use super::words;
use mail_failover_core::engine::{Request, RequestAction};
use mail_failover_core::model::{Backend, Effect as Counts, Timestamp};

/// 2026-01-01T00:00:00Z.
const DEFAULT_START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const DEFAULT_LATENCY: Duration = Duration::from_millis(100);
const DEFAULT_OBSERVER: &str = "replica-0";
/// A simulation of more than this is rather a mistake in `duration`.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// What the command line says instead of the scenario.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overrides {
    /// How long it lasts.
    pub duration: Option<Duration>,
    /// Of chance.
    pub seed: Option<u64>,
}

/// Makes a scenario ready to be run.
///
/// # Errors
/// Everything that makes no sense, with its line.
pub fn prepare(
    file: &str,
    scenario: Scenario,
    fleet: Fleet,
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
    let whole = |message: String| ScenarioError { file: file.to_owned(), line: None, message };
    let mut errors = vec![];
    if duration.is_zero() || duration > LONGEST {
        errors.push(whole("duration: must be more than nothing, and a year at most".to_owned()));
    }
    if let Some(twice) = observers.iter().enumerate().find(|(at, name)| observers[..*at].contains(name)) {
        errors.push(whole(format!("observers: {} is there twice", twice.1)));
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
    };
    let mut texts = vec![];
    for (index, event) in scenario.events.iter().enumerate() {
        match preparation.event(index, &event.value) {
            Ok(text) => texts.push(text),
            Err((field, message)) => {
                let field = if field.is_empty() { String::new() } else { format!(".{field}") };
                errors.push(error_at(file, event, format!("events[{index}]{field}: {message}")));
            }
        }
    }
    let mut checks: Vec<Check> = vec![];
    for (index, expectation) in scenario.expect.iter().enumerate() {
        let line = expectation.referenced.line();
        match expect::prepare(&expectation.value, line, &fleet, start, start + duration) {
            Ok(check) => checks.push(check),
            Err(message) => errors.push(error_at(file, expectation, format!("expect[{index}]: {message}"))),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let Preparation { faults, mut acts, refusals, warnings, .. } = preparation;
    acts.sort_by_key(|act| act.at);
    let told = refusals.iter().filter(|refusal| refusal.told.is_some());
    let restless = told.map(|refusal| (refusal.from, refusal.until)).collect();
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

fn error_at<T>(file: &str, place: &Spanned<T>, message: String) -> ScenarioError {
    ScenarioError { file: file.to_owned(), line: Some(place.referenced.line()), message }
}

struct Preparation<'a> {
    fleet: &'a Fleet,
    observers: &'a [Arc<str>],
    start: Timestamp,
    end: Timestamp,
    faults: Vec<ScriptFault>,
    acts: Vec<Act>,
    refusals: Vec<Refusal>,
    warnings: Vec<String>,
}

impl Preparation<'_> {
    /// Takes an event into the script; returns what it is, for people.
    fn event(&mut self, index: usize, event: &Event) -> Result<String, Wrong> {
        let from = self.start + event.at.0;
        let until = event.r#for.map_or(Timestamp::from_micros(i64::MAX), |Span(length)| from + length);
        if from >= self.end {
            return Err(("at", "comes after the end; see `duration`".to_owned()));
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
            return Err(("", message.to_owned()));
        }
        let is_dialogue = event.answers.is_some() || event.fault.is_some() || event.latency.is_some();
        if !is_dialogue && (event.observer.is_some() || event.percent.is_some()) {
            return Err(("", "observer and percent go with answers, fault and latency only".to_owned()));
        }
        if event.answers.is_none() && event.seen_by.is_some() {
            return Err(("seenBy", "goes with answers only".to_owned()));
        }
        self.acts.push(Act { at: from, what: Deed::Note { event: index, is_over: false } });
        if until < self.end && event.request.is_none() {
            self.acts.push(Act { at: until, what: Deed::Note { event: index, is_over: true } });
        }
        if let Some(ask) = &event.request {
            if event.r#for.is_some() {
                return Err(("for", "does not go with a request; see request.for".to_owned()));
            }
            return self.request(ask, event, from);
        }
        let backends = self.targets(event)?;
        let whom = self.whom(event, &backends);
        if let Some(quota_left) = event.quota_left {
            self.do_while(&backends, from, until, |backend, is_over| Deed::Limit {
                backend,
                quota_left: (!is_over).then_some(quota_left),
            });
            return Ok(format!("{whom}: {quota_left} messages left today"));
        }
        if let Some(is_suspended) = event.suspended {
            let before: Vec<_> = self.fleet.backends.iter().map(|backend| backend.backend.suspended).collect();
            self.do_while(&backends, from, until, |backend, is_over| Deed::Suspend {
                backend,
                is_suspended: if is_over { before[backend] } else { is_suspended },
            });
            let text = if is_suspended { "is taken out of service" } else { "is put back into service" };
            return Ok(format!("{whom} {text}"));
        }
        self.dialogue(index, event, &backends, &whom, from, until)
    }

    fn do_while(&mut self, backends: &[usize], from: Timestamp, until: Timestamp, deed: impl Fn(usize, bool) -> Deed) {
        for backend in backends {
            self.acts.push(Act { at: from, what: deed(*backend, false) });
            if until < self.end {
                self.acts.push(Act { at: until, what: deed(*backend, true) });
            }
        }
    }

    fn targets(&self, event: &Event) -> Result<Vec<usize>, Wrong> {
        match (&event.backend, &event.failure_domain, event.all) {
            (Some(name), None, false) => {
                self.fleet.find_backend(name).map(|found| vec![found]).map_err(|message| ("backend", message))
            }
            (None, Some(domain), false) => {
                let of = |backend: &Backend| backend.location.failure_domain.as_deref() == Some(domain.as_str());
                let all = self.fleet.backends.iter().enumerate();
                let found: Vec<_> = all.filter(|(_, one)| of(&one.backend)).map(|(position, _)| position).collect();
                if found.is_empty() {
                    return Err(("failureDomain", format!("no backend is in the failure domain {domain}")));
                }
                Ok(found)
            }
            (None, None, true) => Ok((0..self.fleet.backends.len()).collect()),
            _ => Err(("", "exactly one of backend, failureDomain and `all: true` must be set".to_owned())),
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

    fn request(&mut self, ask: &Ask, event: &Event, at: Timestamp) -> Result<String, Wrong> {
        if event.backend.is_some() || event.failure_domain.is_some() || event.all {
            return Err(("", "a request is made of a route: see request.route and request.to".to_owned()));
        }
        let route = self.fleet.find_route(&ask.route).map_err(|message| ("request.route", message))?;
        let duration = ask.r#for.map(|Span(duration)| duration);
        let (takes_to, takes_for, takes_force) = match ask.action {
            AskedAction::Switch => (true, true, true),
            AskedAction::Pause => (false, true, false),
            AskedAction::Failback | AskedAction::Resume | AskedAction::ApproveFailback => (false, false, false),
        };
        for (field, is_wrong) in [
            ("request.to", ask.to.is_some() && !takes_to),
            ("request.for", duration.is_some() && !takes_for),
            ("request.force", ask.force && !takes_force),
        ] {
            if is_wrong {
                return Err((field, format!("does not go with {:?}", ask.action)));
            }
        }
        let action = match ask.action {
            AskedAction::Switch => {
                let to = ask.to.as_deref().ok_or(("request.to", "is missing: where to?".to_owned()))?;
                RequestAction::Switch { to: to.into(), duration, is_forced: ask.force }
            }
            AskedAction::Failback => RequestAction::Failback,
            AskedAction::Pause => RequestAction::Pause { duration },
            AskedAction::Resume => RequestAction::Resume,
            AskedAction::ApproveFailback => RequestAction::ApproveFailback,
        };
        let to = ask.to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
        let text = format!("a person requests {}{to} of {}", action.as_str(), self.fleet.route_name(route));
        let request = Request { id: ask.id.as_str().into(), action };
        self.acts.push(Act { at, what: Deed::Ask { route, request } });
        Ok(text)
    }

    /// A reply, a fault or slowness.
    fn dialogue(
        &mut self,
        index: usize,
        event: &Event,
        backends: &[usize],
        whom: &str,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<String, Wrong> {
        let observer = event.observer.as_ref().map(|name| {
            let known = self.observers.iter().position(|observer| **observer == **name);
            known.ok_or_else(|| ("observer", format!("{name} is none of the observers: {}", self.observers.join(", "))))
        });
        let observer = observer.transpose()?;
        let percent = event.percent.unwrap_or(100);
        if !(1..=100).contains(&percent) {
            return Err(("percent", "must be from 1 to 100".to_owned()));
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
        let (text, refused) = match (&event.answers, &event.fault, &event.latency) {
            (Some(answers), ..) => {
                let (class, message) = reply(answers)?;
                let text = format!("{whom} answers {} at {}{hit}", answers.reply, step(answers.stage).as_str());
                let told = told_by_mail.then(|| (class, Arc::from(message)));
                (text, Some((class.effect() == Counts::Failure, told)))
            }
            (_, Some(fault), _) => {
                let is_failure = !matches!(fault, Fault::ResolverSilent | Fault::OwnFailure);
                (format!("{whom}: {}{hit}", fault.as_str()), Some((is_failure, None)))
            }
            (_, _, Some(Span(latency))) => (format!("{whom} is slower by {}{hit}", words::length(*latency)), None),
            (None, None, None) => (whom.to_owned(), None),
        };
        if let Some((is_failure, told)) = refused.filter(|_| observer.is_none()) {
            let refusal =
                |backend: &usize| Refusal { backend: *backend, from, until, percent, is_failure, told: told.clone() };
            self.refusals.extend(backends.iter().map(refusal));
        }
        if !told_by_mail && !unseen.is_empty() && event.fault != Some(Fault::ResolverSilent) {
            self.warn_unseen(index, event, &unseen);
        }
        self.faults.push(ScriptFault { from, until, observer, percent, effects });
        Ok(text)
    }

    fn warn_unseen(&mut self, index: usize, event: &Event, unseen: &[usize]) {
        let names: Vec<_> = unseen.iter().map(|backend| self.fleet.backend_name(*backend)).collect();
        let names = names.join(", ");
        let why = match &event.answers {
            Some(answers) => {
                let stage = step(answers.stage).as_str();
                let remedy = if step(answers.stage) > Step::StartTls {
                    "no probe of this version goes beyond STARTTLS; `seenBy: Traffic` shows what would follow if the mail told it"
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
