use std::sync::Arc;
use std::time::Duration;

use super::agent::BackendMail;
use super::draw::Draw;
use super::expect::{Check, ExpectationResult};
use super::fleet::SimulatedFleet;
use super::script::{MailRefusal, Script, ScriptedAction, ScriptedChange};
use super::simulator::Simulator;
use super::summary::{self, RouteSummary};
use super::timeline::{Notes, Timeline, TimelineChange};
use mail_failover_core::model::{DeliveryVerdict, Policy, Timestamp};

/// Rate of a route that does not say how much mail it carries, in messages per second.
const DEFAULT_PER_SECOND: f64 = 1.0;
const TICK: Duration = Duration::from_secs(1);

/// Scenario with its fleet, ready to be run. Every run has the same result.
#[derive(Clone, Debug)]
pub struct Simulation {
    pub(super) title: String,
    pub(super) description: Option<String>,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) seed: u64,
    pub(super) observers: Vec<Arc<str>>,
    pub(super) fleet: SimulatedFleet,
    pub(super) script: Script,
    /// Actions in the order of time.
    pub(super) acts: Vec<ScriptedAction>,
    pub(super) refusals: Vec<MailRefusal>,
    pub(super) warnings: Vec<String>,
    pub(super) checks: Vec<Check>,
    /// Texts of the events, by position in the scenario.
    pub(super) event_texts: Vec<String>,
    /// True for an event that lasts, by position in the scenario. A person's request is over at once.
    pub(super) is_lasting: Vec<bool>,
}

/// Result of a simulation.
#[derive(Clone, Debug)]
pub struct SimulationResult {
    /// Changes in the order of time.
    pub timeline: Timeline,
    /// Summaries by the route's position in the fleet.
    pub summaries: Vec<RouteSummary>,
    /// Results of the expectations, in the order of the scenario.
    pub checked: Vec<ExpectationResult>,
    /// Number of rounds of probes that were made.
    pub rounds: u64,
}

impl Simulation {
    /// Returns warnings for the reader, each a sentence.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the duration of the scenario.
    pub fn duration(&self) -> Duration {
        self.end.since(self.start)
    }

    /// Runs the simulation. Skipping rounds that can change nothing saves time and changes no result.
    ///
    /// Before the scenario begins, the fleet has been up and undisturbed for as long as any hold on a fresh route
    /// lasts.
    pub fn run(&self, is_skipping: bool) -> SimulationResult {
        let mut simulator = Simulator::new(
            self.fleet.clone(),
            &self.observers,
            self.script.clone(),
            self.seed,
            self.start - self.lead(),
        );
        if is_skipping {
            simulator = simulator.skipping();
        }
        // Just before the start, so that what is due then begins at once.
        simulator = simulator.drilling_from(self.start - Duration::from_micros(1));
        let mut notes = Notes::new(self.fleet.routes.len());
        simulator.run_until(self.start - Duration::from_micros(1), &mut notes);
        for route in 0..self.fleet.routes.len() {
            simulator.decide_again(route, &mut notes);
        }
        notes.open(self.start, (0..self.fleet.backends.len()).map(|backend| simulator.verdict(backend)));
        let mut mail = Mail {
            draw: Draw::new(self.seed).of(u64::from_be_bytes(*b"messages")),
            credits: vec![0.0; self.refusals.len()],
            count: 0,
            taken: vec![0.0; self.fleet.backends.len()],
            seen: vec![BackendMail::default(); self.fleet.backends.len()],
        };
        for act in &self.acts {
            self.pass(&mut simulator, &mut notes, act.at, &mut mail);
            match &act.what {
                ScriptedChange::Note { event, is_over } => {
                    notes.note(act.at, TimelineChange::Event { event: *event, is_over: *is_over });
                }
                ScriptedChange::Suspend { backend, is_suspended } => {
                    simulator.suspend(*backend, *is_suspended, &mut notes);
                }
                ScriptedChange::Limit { backend, quota_left } => simulator.limit(*backend, *quota_left, &mut notes),
                ScriptedChange::Ask { route, request } => simulator.ask(*route, request.clone(), &mut notes),
            }
        }
        self.pass(&mut simulator, &mut notes, self.end, &mut mail);
        let Notes { timeline, alternates, .. } = notes;
        SimulationResult {
            summaries: summary::of(self, &timeline, &alternates),
            checked: self.checks.iter().map(|check| check.check(self, &timeline)).collect(),
            rounds: simulator.rounds(),
            timeline,
        }
    }

    /// Returns the time that the fleet is up before the start.
    fn lead(&self) -> Duration {
        let holds = self.fleet.routes.iter().map(|route| route.policy.hold.minimum_stay + route.policy.hold.cooldown);
        let probes = self.fleet.backends.iter().flat_map(|backend| &backend.backend.probes);
        let first_rounds = probes.map(|probe| probe.interval * 2 + probe.timeout).max().unwrap_or_default();
        holds.max().unwrap_or_default() + first_rounds
    }

    /// Lets time pass, second by second while mail is refused or throttled, and from trial to trial.
    fn pass(&self, simulator: &mut Simulator<Script>, notes: &mut Notes, until: Timestamp, mail: &mut Mail) {
        while simulator.now() < until {
            let now = simulator.now();
            let told = self.refusals.iter().filter(|refusal| refusal.told.is_some());
            let is_refusing = told.clone().any(|refusal| refusal.from <= now && now < refusal.until);
            let next = told.map(|refusal| refusal.from).filter(|from| *from > now).min();
            let is_telling = is_refusing || mail.seen.iter().any(|seen| seen.is_throttled(now));
            let tick = is_telling.then(|| now + TICK);
            let trial = mail.seen.iter().filter_map(BackendMail::next_trial_at).filter(|at| *at > now).min();
            let next = [next, tick, trial].into_iter().flatten().fold(until, Timestamp::min);
            simulator.run_until(next, notes);
            self.tell(simulator, notes, mail);
            self.make_trials(simulator, notes, mail);
        }
    }

    /// Has one message try each backend again that its agent has condemned and whose trial is due.
    fn make_trials(&self, simulator: &mut Simulator<Script>, notes: &mut Notes, mail: &mut Mail) {
        let now = simulator.now();
        for backend in 0..self.fleet.backends.len() {
            if mail.seen[backend].next_trial_at().is_none_or(|at| at > now) {
                continue;
            }
            mail.count += 1;
            let fraction = mail.draw.fraction(mail.count);
            let refusal = self.refusals.iter().find(|refusal| {
                let is_now = refusal.backend == backend && refusal.from <= now && now < refusal.until;
                is_now && refusal.told.is_some() && fraction < f64::from(refusal.percent) / 100.0
            });
            let verdict = match refusal.and_then(|refusal| refusal.told.as_ref()) {
                Some(reply) => mail.seen[backend].refused(now, reply, &self.policy_of(backend)),
                None => mail.seen[backend].taken(),
            };
            self.report(simulator, notes, backend, verdict);
        }
    }

    fn report(
        &self,
        simulator: &mut Simulator<Script>,
        notes: &mut Notes,
        backend: usize,
        verdict: Option<DeliveryVerdict>,
    ) {
        if let Some(verdict) = verdict {
            simulator.report_agent(backend, &verdict, self.policy_of(backend).hold.cooldown, notes);
        }
    }

    /// Returns the policy by which the agent judges a backend: that of its first route.
    fn policy_of(&self, backend: usize) -> Policy {
        let route = self.fleet.backends[backend].routes.first();
        route.map_or_else(Policy::default, |route| self.fleet.routes[*route].policy.clone())
    }

    /// Reports the deliveries of one tick.
    fn tell(&self, simulator: &mut Simulator<Script>, notes: &mut Notes, mail: &mut Mail) {
        let now = simulator.now();
        for (index, refusal) in self.refusals.iter().enumerate() {
            let Some(reply) = &refusal.told else { continue };
            if now < refusal.from || now >= refusal.until {
                continue;
            }
            let per_second = self.mail_of(simulator, refusal.backend) * TICK.as_secs_f64();
            // More than one message in a tick tells no more than one.
            mail.credits[index] = (mail.credits[index] + per_second).min(1.0);
            if mail.credits[index] >= 1.0 {
                mail.credits[index] -= 1.0;
                mail.count += 1;
                let is_refused = mail.draw.fraction(mail.count) < f64::from(refusal.percent) / 100.0;
                let seen = &mut mail.seen[refusal.backend];
                let verdict =
                    if is_refused { seen.refused(now, reply, &self.policy_of(refusal.backend)) } else { seen.taken() };
                self.report(simulator, notes, refusal.backend, verdict);
            }
        }
        for backend in 0..self.fleet.backends.len() {
            let is_over = mail.seen[backend].is_throttled(now) && !self.is_refusing(backend, now);
            if !is_over {
                continue;
            }
            let taken = &mut mail.taken[backend];
            *taken = (*taken + self.mail_of(simulator, backend) * TICK.as_secs_f64()).min(1.0);
            if *taken >= 1.0 {
                *taken = 0.0;
                let verdict = mail.seen[backend].taken();
                self.report(simulator, notes, backend, verdict);
            }
        }
    }

    /// Returns true if mail meets a refusal of the backend that its agent sees.
    fn is_refusing(&self, backend: usize, now: Timestamp) -> bool {
        let mut told = self.refusals.iter().filter(|refusal| refusal.backend == backend && refusal.told.is_some());
        told.any(|refusal| refusal.from <= now && now < refusal.until)
    }

    /// Returns the messages per second that go through a backend.
    fn mail_of(&self, simulator: &Simulator<Script>, backend: usize) -> f64 {
        let name = &self.fleet.backends[backend].key.name;
        let users = self.fleet.backends[backend].routes.iter();
        users
            .map(|route| {
                let traffic = self.fleet.routes[*route].route.traffic;
                let per_second = traffic.messages_per_day.map_or(DEFAULT_PER_SECOND, |day| f64::from(day) / 86_400.0);
                let shares = simulator.memory(*route).shares.iter().filter(|share| share.backend == *name);
                shares.map(|share| f64::from(share.percent) / 100.0 * per_second).sum::<f64>()
            })
            .sum()
    }
}

/// Deliveries under way, as far as they are reported.
struct Mail {
    draw: Draw,
    /// Fraction of a message that has come together, by refusal.
    credits: Vec<f64>,
    count: u64,
    /// Fraction of a message that a backend takes again, by backend.
    taken: Vec<f64>,
    /// Mail of each backend as its agent sees it.
    seen: Vec<BackendMail>,
}
