mod drills;
mod rounds;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use self::drills::{DrillSights, SimulatedDrills};
use self::rounds::{RoundFinding, Skipping, StreamState};
use super::fleet::SimulatedFleet;
use super::queue::Queue;
use super::source::{EvidenceSource, ProbeStream};
use mail_failover_core::engine::{
    self, Candidate, Decision, Evidence, Health, HoldReason, Memory, News, Observer, ObserverVerdict, Request,
    RequestAction, Situation, StandbyLooks, ThresholdsOfNamespace, Verdict,
};
use mail_failover_core::model::{
    Agent, ClockDrift, DeliveryVerdict, Effect, EvidenceClass, FailbackMode, Route, Stage, Thresholds, Timestamp,
};

/// Largest number of decisions about a route in a row. Two settle it; more would be a defect of the engine, and no
/// reason to hang.
const MAX_DECISIONS: usize = 8;
/// Jitter of the looks at standbys: half of the most, so that every run is the same.
const MEDIUM_JITTER: f64 = 0.5;

/// Recorder of the changes in a simulation.
pub trait Recorder {
    /// Called when the verdict about a backend changes in health, class or throttling; the worst one under any
    /// thresholds in use.
    fn turned(&mut self, at: Timestamp, backend: usize, verdict: &Verdict);
    /// Called after every decision about a route, most of which change nothing.
    fn decided(&mut self, at: Timestamp, decided: &RouteDecision<'_>);
    /// Called when the first storm begins or the last one ends: all failure domains of a route fail at once.
    fn stormed(&mut self, at: Timestamp, is_storm: bool);
    /// Called when the set of observers changes that are not believed for now.
    fn suspected(&mut self, at: Timestamp, suspects: &BTreeSet<Observer>);
}

/// Decision about a route, with what it was made of.
#[derive(Clone, Copy, Debug)]
pub struct RouteDecision<'a> {
    /// Position of the route in the fleet.
    pub index: usize,
    /// Spec of the route.
    pub route: &'a Route,
    /// Backends of the route, as the decision saw them.
    pub candidates: &'a [Candidate],
    /// Memory before the decision.
    pub before: &'a Memory,
    /// Result.
    pub decision: &'a Decision,
}

/// Simulation of a fleet, its observers and the engine, in virtual time.
///
/// It does without a cluster and a network. Rounds of probes begin when the prober would begin them and find what the
/// [`EvidenceSource`] says. The engine judges and decides when a verdict turns, a timer ends or a person asks.
/// Decisions are carried out at once, and all observers know at once what one of them sees.
///
/// With one observer and nothing new, a round costs a few look-ups and no allocation.
///
/// # Skipping
///
/// Most rounds are left out where nothing can change: the source promises that all answers stay the same, and every
/// judgement has been at rest for longer than its memory (windows, runs, `stableFor`, latency). Rounds are then made
/// only as often as keeps evidence from going stale, and all of them again that long before the promise ends.
/// `tests/scenarios.rs` compares timelines with and without skipping.
#[derive(Debug)]
pub struct Simulator<S> {
    fleet: SimulatedFleet,
    source: S,
    now: Timestamp,
    queue: Queue<Due>,
    streams: Vec<StreamState>,
    observers: Vec<Observer>,
    /// Evidence by observer, then by backend.
    evidence: Vec<Vec<EvidenceState>>,
    storm: engine::FailureDomains,
    storms: BTreeSet<ThresholdsOfNamespace>,
    suspects: BTreeSet<Observer>,
    backends: Vec<SimulatedBackend>,
    routes: Vec<SimulatedRoute>,
    touched: Vec<usize>,
    skipping: Option<Skipping>,
    drills: SimulatedDrills,
    rounds: u64,
}

#[derive(Debug)]
enum Due {
    /// A round of this stream begins.
    Round(usize),
    /// A look of this stream begins, beside its rounds.
    Look(usize),
    /// The result of a round is known.
    Result(usize, RoundFinding),
    /// A timer of this route ends.
    Wake(usize),
    /// The standbys of this route are looked at again, if its mail still waits for them.
    Standbys(usize),
    /// The evidence of this observer about this backend may go stale.
    Stale(usize, usize),
}

#[derive(Debug, Default)]
struct EvidenceState {
    evidence: Evidence,
    is_watched: bool,
    own: Option<(Health, EvidenceClass)>,
}

#[derive(Debug, Default)]
struct SimulatedBackend {
    quota_left: Option<u32>,
    told: Option<(Health, EvidenceClass, bool)>,
}

#[derive(Debug, Default)]
struct SimulatedRoute {
    memory: Memory,
    request: Option<Request>,
    candidates: Vec<Candidate>,
    wake_at: Option<Timestamp>,
    is_touched: bool,
    looks: StandbyLooks,
}

impl<S: EvidenceSource> Simulator<S> {
    /// Makes a simulation in which nothing is known yet. The first of the observers decides; there is at least one.
    pub fn new(fleet: SimulatedFleet, observers: &[Arc<str>], source: S, seed: u64, now: Timestamp) -> Self {
        let others = observers.iter().skip(1).map(|name| Observer::Other(name.clone()));
        let observers: Vec<_> = std::iter::once(Observer::Own).chain(others).collect();
        let mut simulator = Self {
            source,
            now,
            queue: Queue::new(),
            streams: vec![],
            evidence: vec![],
            storm: engine::FailureDomains::default(),
            storms: BTreeSet::new(),
            suspects: BTreeSet::new(),
            backends: fleet.backends.iter().map(|_| SimulatedBackend::default()).collect(),
            routes: fleet.routes.iter().map(|_| SimulatedRoute::default()).collect(),
            touched: vec![],
            skipping: None,
            drills: SimulatedDrills::default(),
            rounds: 0,
            observers,
            fleet,
        };
        for observer in 0..simulator.observers.len() {
            let mut of_observer = vec![];
            for backend in 0..simulator.fleet.backends.len() {
                let known = &simulator.fleet.backends[backend];
                let mut evidence = Evidence::default();
                evidence.track(&known.thresholds, &known.backend.probes, now);
                of_observer.push(EvidenceState { evidence, ..EvidenceState::default() });
                for probe in 0..known.backend.probes.len() {
                    simulator.streams.push(simulator.stream(ProbeStream { observer, backend, probe }, seed));
                }
            }
            simulator.evidence.push(of_observer);
        }
        for (index, stream) in simulator.streams.iter().enumerate() {
            simulator.queue.push(stream.schedule.start(0), Due::Round(index));
        }
        (0..simulator.routes.len()).for_each(|route| simulator.touch(route));
        simulator
    }

    /// Lets time pass until `end`, the events at `end` included.
    pub fn run_until(&mut self, end: Timestamp, recorder: &mut impl Recorder) {
        self.decide_touched(recorder);
        while let Some((at, due)) = self.queue.pop_by(end) {
            self.now = at;
            match due {
                Due::Round(index) => self.begin_round(index, end, recorder),
                Due::Look(index) => self.begin_planned_look(index),
                Due::Result(index, finding) => self.end_round(index, &finding, recorder),
                Due::Wake(route) => {
                    if self.routes[route].wake_at == Some(at) {
                        self.routes[route].wake_at = None;
                        self.touch(route);
                    }
                }
                Due::Standbys(route) => self.look_at_standbys(route),
                Due::Stale(observer, backend) => {
                    let state = &mut self.evidence[observer][backend];
                    state.is_watched = false;
                    state.evidence.handle_timeout(at);
                    let own = state.evidence.worst(at).map(|(verdict, _)| (verdict.health, verdict.class));
                    // Mostly it has been heard of in the meantime.
                    if own == state.own {
                        self.watch(observer, backend);
                    } else {
                        self.handle_verdict(observer, backend, recorder);
                    }
                }
            }
            self.decide_touched(recorder);
        }
        self.now = self.now.max(end);
    }

    /// Returns the present time of the simulation.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the number of rounds that were made.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Returns the engine's memory of the route.
    pub fn memory(&self, route: usize) -> &Memory {
        &self.routes[route].memory
    }

    /// Returns the worst verdict about a backend under any thresholds in use.
    pub fn verdict(&self, backend: usize) -> Option<Verdict> {
        self.evidence[0][backend].evidence.worst(self.now).map(|(verdict, _)| verdict)
    }

    /// Decides about a route again at once, and reports the decision.
    pub fn decide_again(&mut self, route: usize, recorder: &mut impl Recorder) {
        self.touch(route);
        self.decide_touched(recorder);
    }

    /// Takes a backend out of service for a person, or returns it to service.
    pub fn suspend(&mut self, backend: usize, is_suspended: bool, recorder: &mut impl Recorder) {
        self.fleet.backends[backend].backend.suspended = is_suspended;
        if is_suspended {
            self.storm.leave_out(&self.fleet.backends[backend].key);
        } else {
            (0..self.observers.len()).for_each(|observer| self.note(observer, backend));
        }
        self.update_suspicion(recorder);
        self.touch_users(backend);
        self.decide_touched(recorder);
    }

    /// Sets the number of messages that may still be sent through a backend.
    pub fn limit(&mut self, backend: usize, quota_left: Option<u32>, recorder: &mut impl Recorder) {
        self.backends[backend].quota_left = quota_left;
        self.touch_users(backend);
        self.decide_touched(recorder);
    }

    /// Takes what an agent beside an MTA reports of its deliveries, at every observer.
    pub fn report_agent(
        &mut self,
        backend: usize,
        verdict: &DeliveryVerdict,
        cooldown: Duration,
        recorder: &mut impl Recorder,
    ) {
        let known = &self.fleet.backends[backend];
        let Some(route) = known.routes.first().map(|route| self.fleet.routes[*route].key.clone()) else { return };
        let agent = Agent { route, name: "agent".into() };
        for observer in 0..self.observers.len() {
            let state = &mut self.evidence[observer][backend];
            if state.evidence.record_agent(&agent, verdict.clone(), cooldown, self.now) {
                self.handle_verdict(observer, backend, recorder);
            }
            // Its timers are others now.
            self.watch(observer, backend);
        }
        self.decide_touched(recorder);
    }

    /// Adds a person's request about a route.
    pub fn ask(&mut self, route: usize, request: Request, recorder: &mut impl Recorder) {
        let is_manual = self.fleet.routes[route].policy.failback.mode == FailbackMode::Manual;
        let is_return = match request.action {
            RequestAction::Failback => true,
            RequestAction::ApproveFailback => is_manual,
            RequestAction::Switch { .. }
            | RequestAction::Pause { .. }
            | RequestAction::Resume
            | RequestAction::Drill { .. }
            | RequestAction::Malformed(_) => false,
        };
        for backend in if is_return { self.fleet.routes[route].backends.clone() } else { vec![] } {
            for observer in 0..self.observers.len() {
                if self.evidence[observer][backend].evidence.acquit(self.now) {
                    self.handle_verdict(observer, backend, recorder);
                }
            }
        }
        self.routes[route].request = Some(request);
        self.touch(route);
        self.decide_touched(recorder);
    }

    fn observe(&mut self, index: usize, finding: &RoundFinding, recorder: &mut impl Recorder) {
        let state = &mut self.streams[index];
        let report = &mut state.report;
        let is_same = report.outcome.class == finding.class && report.outcome.elapsed == finding.elapsed;
        report.sequence = finding.sequence;
        report.started_at = finding.started_at;
        report.finished_at = self.now;
        report.is_extra = finding.is_extra;
        report.outcome.class = finding.class;
        let ProbeStream { observer, backend, probe } = state.stream;
        let depth = self.fleet.backends[backend].backend.probes[probe].depth;
        report.outcome.stage = match finding.class.effect() {
            Effect::Success => depth.last_stage(),
            Effect::Failure | Effect::Neutral if finding.is_before_login => Stage::Banner,
            Effect::Failure | Effect::Neutral => Stage::Auth,
        };
        report.outcome.elapsed = finding.elapsed;
        report.outcome.message.clear();
        report.outcome.message.push_str(&finding.message);
        let news = self.evidence[observer][backend].evidence.observe(report, self.now);
        if !is_same || news == News::Turned {
            self.stir();
        }
        if observer > 0 && news != News::Nothing {
            self.tell_confirmations(observer, backend, recorder);
        }
        match news {
            News::Nothing | News::Doubted | News::Answered => {
                for at in 0..self.fleet.backends[backend].routes.len() {
                    let route = self.fleet.backends[backend].routes[at];
                    let is_held = self.routes[route].memory.awaits_answer();
                    if (is_held && news == News::Answered) || self.awaits_answer(route) {
                        self.touch(route);
                    }
                }
            }
            News::Turned => self.handle_verdict(observer, backend, recorder),
        }
        if !self.evidence[observer][backend].is_watched {
            self.watch(observer, backend);
        }
    }

    /// Handles a possible change of an observer's verdict about a backend.
    fn handle_verdict(&mut self, observer: usize, backend: usize, recorder: &mut impl Recorder) {
        let now = self.now;
        if !self.evidence[observer][backend].is_watched {
            self.watch(observer, backend);
        }
        let verdict = self.evidence[observer][backend].evidence.worst(now);
        let turned = verdict.map(|(verdict, _)| (verdict.health, verdict.class));
        let is_news = self.evidence[observer][backend].own != turned;
        self.evidence[observer][backend].own = turned;
        if is_news {
            self.stir();
        }
        if self.fleet.backends[backend].backend.is_shared_out() {
            self.share_runs(observer, backend, recorder);
        } else {
            self.report_to_decider(observer, backend);
        }
        if !self.fleet.backends[backend].backend.suspended {
            self.note(observer, backend);
            self.update_suspicion(recorder);
        }
        self.tell(backend, recorder);
        self.touch_users(backend);
    }

    /// Tells every other observer what one sees of a backend whose rounds they share out, and handles what they make of it.
    fn share_runs(&mut self, observer: usize, backend: usize, recorder: &mut impl Recorder) {
        let name: Arc<str> = match &self.observers[observer] {
            Observer::Own => "the observer that decides".into(),
            Observer::Other(name) => name.clone(),
        };
        for other in (0..self.observers.len()).filter(|other| *other != observer) {
            let before = self.own_verdicts(other, backend);
            for (thresholds, verdict) in self.own_verdicts(observer, backend) {
                self.evidence[other][backend].evidence.record_peer(&name, thresholds, verdict, self.now);
            }
            if self.own_verdicts(other, backend) != before {
                self.handle_verdict(other, backend, recorder);
            }
        }
    }

    /// Tells the observer that decides what another one sees of a backend. Returns true if that is news.
    fn report_to_decider(&mut self, observer: usize, backend: usize) -> bool {
        let Observer::Other(name) = self.observers[observer].clone() else { return false };
        let mut is_news = false;
        for (thresholds, verdict) in self.own_verdicts(observer, backend) {
            is_news |= self.evidence[0][backend].evidence.record_peer(&name, thresholds, verdict, self.now);
        }
        is_news
    }

    /// Returns what an observer sees of a backend, as it reports it to the others.
    fn own_verdicts(&self, observer: usize, backend: usize) -> Vec<(Thresholds, ObserverVerdict)> {
        let known = &self.fleet.backends[backend];
        let mut verdicts = vec![];
        for thresholds in &known.thresholds {
            let Some(mut verdict) = self.evidence[observer][backend].evidence.own_verdict(*thresholds, self.now) else {
                continue;
            };
            if let Some(since) = verdict.first_failure_at {
                let mut confirms = BTreeSet::new();
                for neighbour in self.neighbours(backend) {
                    if self.evidence[observer][neighbour].evidence.has_answered_since(since) {
                        confirms.insert(self.fleet.backends[neighbour].key.name.clone());
                    }
                }
                verdict.confirms = confirms.into_iter().collect();
            }
            verdicts.push((*thresholds, verdict));
        }
        verdicts
    }

    /// Returns the other backends of the routes of a backend.
    fn neighbours(&self, backend: usize) -> BTreeSet<usize> {
        let routes = self.fleet.backends[backend].routes.iter();
        let mut neighbours: BTreeSet<_> =
            routes.flat_map(|route| self.fleet.routes[*route].backends.iter().copied()).collect();
        neighbours.remove(&backend);
        neighbours
    }

    /// Tells the observer that decides that another one has, or has no more, seen a backend answer since others of the
    /// same routes fail.
    fn tell_confirmations(&mut self, observer: usize, backend: usize, recorder: &mut impl Recorder) {
        let routes = self.fleet.backends[backend].routes.iter();
        let mut neighbours = routes.flat_map(|route| &self.fleet.routes[*route].backends);
        let sees_fail = |at: &usize| {
            let own = self.evidence[observer][*at].own;
            own.is_some_and(|(health, _)| health == Health::Unhealthy)
        };
        if !neighbours.any(sees_fail) {
            return;
        }
        for failing in self.neighbours(backend) {
            if self.report_to_decider(observer, failing) {
                self.tell(failing, recorder);
                self.touch_users(failing);
            }
        }
    }

    /// Notes an observer's own verdicts, for storms and suspicion.
    fn note(&mut self, observer: usize, backend: usize) {
        let own = self.own_verdicts(observer, backend);
        let known = &self.fleet.backends[backend];
        let domain = known.backend.location.failure_domain.as_ref();
        let verdicts = own.iter().map(|(thresholds, verdict)| (*thresholds, verdict));
        self.storm.note(&known.key, domain, &self.observers[observer], verdicts);
    }

    /// Updates the storm, and the set of observers that are not believed.
    fn update_suspicion(&mut self, recorder: &mut impl Recorder) {
        let suspects = self.storm.suspects();
        if suspects != self.suspects {
            recorder.suspected(self.now, &suspects);
            for backend in 0..self.backends.len() {
                if self.evidence[0][backend].evidence.suspect(&suspects, self.now) {
                    self.tell(backend, recorder);
                    self.touch_users(backend);
                }
            }
            self.suspects = suspects;
            self.stir();
        }
        let storms = self.storm.storms();
        if storms != self.storms {
            let before = std::mem::replace(&mut self.storms, storms);
            if before.is_empty() != self.storms.is_empty() {
                recorder.stormed(self.now, !self.storms.is_empty());
            }
            (0..self.routes.len()).for_each(|route| self.touch(route));
        }
    }

    fn tell(&mut self, backend: usize, recorder: &mut impl Recorder) {
        let Some(verdict) = self.verdict(backend) else { return };
        let told = Some((verdict.health, verdict.class, verdict.is_throttled));
        if self.backends[backend].told != told {
            self.backends[backend].told = told;
            recorder.turned(self.now, backend, &verdict);
        }
    }

    fn watch(&mut self, observer: usize, backend: usize) {
        let state = &mut self.evidence[observer][backend];
        if let Some(at) = state.evidence.next_timeout(self.now) {
            state.is_watched = true;
            self.queue.push(at, Due::Stale(observer, backend));
        }
    }

    fn touch_users(&mut self, backend: usize) {
        for at in 0..self.fleet.backends[backend].routes.len() {
            self.touch(self.fleet.backends[backend].routes[at]);
        }
    }

    fn touch(&mut self, route: usize) {
        if !std::mem::replace(&mut self.routes[route].is_touched, true) {
            self.touched.push(route);
        }
    }

    /// Decides about every route that something happened to.
    fn decide_touched(&mut self, recorder: &mut impl Recorder) {
        // In the order of the routes, whoever was touched first.
        self.touched.sort_unstable_by(|one, other| other.cmp(one));
        while let Some(route) = self.touched.pop() {
            self.routes[route].is_touched = false;
            let _ = (0..MAX_DECISIONS).take_while(|_| self.decide(route, recorder)).count();
        }
    }

    /// Decides about a route. Returns true if another decision has to follow.
    fn decide(&mut self, index: usize, recorder: &mut impl Recorder) -> bool {
        let now = self.now;
        let drill = self.drill_sights(index);
        let (known, state) = (&self.fleet.routes[index], &mut self.routes[index]);
        state.candidates.clear();
        for (member, backend) in known.route.backends.iter().zip(&known.backends) {
            let verdict = self.evidence[0][*backend].evidence.verdict(known.policy.thresholds, now);
            let (usable, quota_left) = (&self.fleet.backends[*backend].backend, self.backends[*backend].quota_left);
            let candidate = Candidate::new(member, Some(usable), verdict.as_ref(), &known.route, quota_left, now);
            state.candidates.push(candidate);
        }
        let situation = Situation {
            now,
            drift: ClockDrift::default(),
            policy: &known.policy,
            strategy: known.route.strategy,
            preferred_regions: &known.route.preferred_regions,
            candidates: &state.candidates,
            is_storm: self.storms.contains(&(known.key.namespace.clone(), known.policy.thresholds)),
            request: state.request.as_ref(),
            drill: drill.as_ref().map(DrillSights::inputs),
        };
        let decision = engine::decide(&situation, &state.memory);
        let (route, candidates, before) = (&known.route, state.candidates.as_slice(), &state.memory);
        recorder.decided(now, &RouteDecision { index, route, candidates, before, decision: &decision });
        if decision.next_timeout != state.wake_at {
            state.wake_at = decision.next_timeout;
            if let Some(at) = decision.next_timeout {
                self.queue.push(at, Due::Wake(index));
            }
        }
        // As the operator does once it has carried out what was decided: what holds the route now may show only then.
        let is_settled = decision.memory == state.memory;
        state.memory = decision.memory;
        self.note_drill(index);
        self.look_at_standbys(index);
        !is_settled
    }

    /// Looks at the standbys of a route whose mail waits for one of them to answer, and plans the next looks.
    fn look_at_standbys(&mut self, index: usize) {
        let state = &mut self.routes[index];
        let is_waiting = state.memory.held_by == Some(HoldReason::AwaitingConfirmation);
        if !state.looks.is_due(self.now, is_waiting, MEDIUM_JITTER) {
            return;
        }
        if let Some(at) = state.looks.next_timeout() {
            self.queue.push(at, Due::Standbys(index));
        }
        let carriers: BTreeSet<_> = state.memory.shares.iter().map(|share| share.backend.clone()).collect();
        for at in 0..self.streams.len() {
            let ProbeStream { observer, backend, .. } = self.streams[at].stream;
            let is_standby = self.fleet.routes[index].backends.contains(&backend)
                && !carriers.contains(&self.fleet.backends[backend].key.name);
            // As in a cluster, where the leader asks its own prober.
            if observer == 0 && is_standby {
                self.begin_look(at);
            }
        }
    }
}
