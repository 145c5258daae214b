mod rounds;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use self::rounds::{Finding, Skipping, StreamState};
use super::fleet::Fleet;
use super::queue::Queue;
use super::source::{Source, Stream};
use mail_failover_core::engine::{
    self, Candidate, Decision, Evidence, Health, HoldReason, Memory, News, Observer, Request, Situation, Verdict,
};
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// So often a route is looked at in a row at most. Two settle it; more would be the engine's mistake, and no reason to hang.
const MAX_LOOKS: usize = 8;

/// Who is told what happens in a simulated world.
pub trait Recorder {
    /// The verdict about a backend turned, or its reason, or whether it throttles; the worst under any thresholds in use.
    fn turned(&mut self, at: Timestamp, backend: usize, verdict: &Verdict);
    /// A route was looked at; mostly nothing comes of it.
    fn decided(&mut self, at: Timestamp, route: usize, before: &Memory, decision: &Decision);
    /// All failure domains fail at once, or no longer.
    fn stormed(&mut self, at: Timestamp, is_storm: bool);
    /// These observers are not believed for now.
    fn suspected(&mut self, at: Timestamp, suspects: &BTreeSet<Observer>);
}

/// A fleet, its observers and the engine, in virtual time.
///
/// What the operator does with a cluster and a network, this does without: rounds of probes begin when the prober would begin them and
/// find what the [`Source`] says; the engine judges and decides as soon as a verdict turns, a timer ends or a person asks. Decisions
/// are carried out at once, and what one observer sees the others know at once.
///
/// With one observer and nothing new, a round costs a few look-ups and no allocation.
///
/// # Skipping
///
/// Where nothing can change, most rounds are left out. That is so when the source promises that all answers stay what they are, and
/// every judgement has been at rest for longer than anything in it reaches back (windows, runs, `stableFor`, latency). Then rounds are
/// made only as often as it takes to keep evidence from going stale, and all of them again that long before the promise ends.
/// `tests/scenarios.rs` compares timelines with and without.
#[derive(Debug)]
pub struct World<S> {
    fleet: Fleet,
    source: S,
    now: Timestamp,
    queue: Queue<Due>,
    streams: Vec<StreamState>,
    observers: Vec<Observer>,
    /// By observer, then by backend.
    evidence: Vec<Vec<EvidenceState>>,
    storm: engine::FailureDomains,
    is_storm: bool,
    suspects: BTreeSet<Observer>,
    backends: Vec<BackendState>,
    routes: Vec<RouteState>,
    touched: Vec<usize>,
    skipping: Option<Skipping>,
    rounds: u64,
}

#[derive(Debug)]
enum Due {
    /// A round of this stream begins.
    Round(usize),
    /// The result of a round is known.
    Result(usize, Finding),
    /// A timer of this route ends.
    Wake(usize),
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
struct BackendState {
    quota_left: Option<u32>,
    told: Option<(Health, EvidenceClass, bool)>,
}

#[derive(Debug, Default)]
struct RouteState {
    memory: Memory,
    request: Option<Request>,
    candidates: Vec<Candidate>,
    wake_at: Option<Timestamp>,
    is_touched: bool,
}

impl<S: Source> World<S> {
    /// A world in which nothing is known yet. The first of the observers decides; it has at least that one.
    pub fn new(fleet: Fleet, observers: &[Arc<str>], source: S, seed: u64, now: Timestamp) -> Self {
        let others = observers.iter().skip(1).map(|name| Observer::Other(name.clone()));
        let observers: Vec<_> = std::iter::once(Observer::Own).chain(others).collect();
        let mut world = Self {
            source,
            now,
            queue: Queue::new(),
            streams: vec![],
            evidence: vec![],
            storm: engine::FailureDomains::default(),
            is_storm: false,
            suspects: BTreeSet::new(),
            backends: fleet.backends.iter().map(|_| BackendState::default()).collect(),
            routes: fleet.routes.iter().map(|_| RouteState::default()).collect(),
            touched: vec![],
            skipping: None,
            rounds: 0,
            observers,
            fleet,
        };
        for observer in 0..world.observers.len() {
            let mut of_observer = vec![];
            for backend in 0..world.fleet.backends.len() {
                let known = &world.fleet.backends[backend];
                let mut evidence = Evidence::default();
                evidence.track(&known.thresholds, &known.backend.probes, now);
                of_observer.push(EvidenceState { evidence, ..EvidenceState::default() });
                for probe in 0..known.backend.probes.len() {
                    world.streams.push(world.stream(Stream { observer, backend, probe }, seed));
                }
            }
            world.evidence.push(of_observer);
        }
        for (index, stream) in world.streams.iter().enumerate() {
            world.queue.push(stream.schedule.start(0), Due::Round(index));
        }
        (0..world.routes.len()).for_each(|route| world.touch(route));
        world
    }

    /// Lets time pass until `end`, whose own events come to pass, too.
    pub fn run_until(&mut self, end: Timestamp, recorder: &mut impl Recorder) {
        self.settle(recorder);
        while let Some((at, due)) = self.queue.pop_by(end) {
            self.now = at;
            match due {
                Due::Round(index) => self.begin_round(index, end, recorder),
                Due::Result(index, finding) => self.observe(index, &finding, recorder),
                Due::Wake(route) => {
                    if self.routes[route].wake_at == Some(at) {
                        self.routes[route].wake_at = None;
                        self.touch(route);
                    }
                }
                Due::Stale(observer, backend) => {
                    let state = &mut self.evidence[observer][backend];
                    state.is_watched = false;
                    let own = state.evidence.worst(at).map(|(verdict, _)| (verdict.health, verdict.class));
                    // Mostly it has been heard of in the meantime.
                    if own == state.own {
                        self.watch(observer, backend);
                    } else {
                        self.look_at(observer, backend, recorder);
                    }
                }
            }
            self.settle(recorder);
        }
        self.now = self.now.max(end);
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// So many rounds of probes were made.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// What the route remembers.
    pub fn memory(&self, route: usize) -> &Memory {
        &self.routes[route].memory
    }

    /// The worst verdict about a backend under any thresholds in use.
    pub fn verdict(&self, backend: usize) -> Option<Verdict> {
        self.evidence[0][backend].evidence.worst(self.now).map(|(verdict, _)| verdict)
    }

    /// Decides anew about a route at once, and says so.
    pub fn look_again(&mut self, route: usize, recorder: &mut impl Recorder) {
        self.touch(route);
        self.settle(recorder);
    }

    /// A person takes a backend out of service, or back.
    pub fn suspend(&mut self, backend: usize, is_suspended: bool, recorder: &mut impl Recorder) {
        self.fleet.backends[backend].backend.suspended = is_suspended;
        if is_suspended {
            self.storm.leave_out(&self.fleet.backends[backend].key);
        } else {
            (0..self.observers.len()).for_each(|observer| self.note(observer, backend));
        }
        self.weigh(recorder);
        self.touch_users(backend);
        self.settle(recorder);
    }

    /// So many messages may still be sent through a backend.
    pub fn limit(&mut self, backend: usize, quota_left: Option<u32>, recorder: &mut impl Recorder) {
        self.backends[backend].quota_left = quota_left;
        self.touch_users(backend);
        self.settle(recorder);
    }

    /// A person asks something of a route.
    pub fn ask(&mut self, route: usize, request: Request, recorder: &mut impl Recorder) {
        self.routes[route].request = Some(request);
        self.touch(route);
        self.settle(recorder);
    }

    /// A message was delivered through a backend, or refused, and the one who decides hears of it.
    pub fn hear_of_mail(
        &mut self,
        backend: usize,
        class: EvidenceClass,
        message: &Arc<str>,
        recorder: &mut impl Recorder,
    ) {
        let Some(index) = self.streams.iter().position(|at| at.stream.observer == 0 && at.stream.backend == backend)
        else {
            return;
        };
        self.streams[index].sequence += 1;
        let (sequence, message) = (self.streams[index].sequence, message.clone());
        let finding = Finding { sequence, started_at: self.now, class, elapsed: Duration::ZERO, message };
        self.observe(index, &finding, recorder);
        self.settle(recorder);
    }

    fn observe(&mut self, index: usize, finding: &Finding, recorder: &mut impl Recorder) {
        let state = &mut self.streams[index];
        let report = &mut state.report;
        let is_same = report.outcome.class == finding.class && report.outcome.elapsed == finding.elapsed;
        report.sequence = finding.sequence;
        report.started_at = finding.started_at;
        report.finished_at = self.now;
        report.outcome.class = finding.class;
        report.outcome.elapsed = finding.elapsed;
        report.outcome.message.clear();
        report.outcome.message.push_str(&finding.message);
        let Stream { observer, backend, probe: _ } = state.stream;
        let news = self.evidence[observer][backend].evidence.observe(report, self.now);
        if !is_same || news == News::Turned {
            self.stir();
        }
        match news {
            News::Nothing => {}
            News::Answered => {
                for at in 0..self.fleet.backends[backend].routes.len() {
                    let route = self.fleet.backends[backend].routes[at];
                    if self.routes[route].memory.held_by == Some(HoldReason::AwaitingConfirmation) {
                        self.touch(route);
                    }
                }
            }
            News::Turned => self.look_at(observer, backend, recorder),
        }
        if !self.evidence[observer][backend].is_watched {
            self.watch(observer, backend);
        }
    }

    /// Looks whether what an observer says of a backend has turned, and draws the conclusions.
    fn look_at(&mut self, observer: usize, backend: usize, recorder: &mut impl Recorder) {
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
        let own = &self.observers[observer];
        match own {
            Observer::Own => {}
            Observer::Other(name) => {
                let name = name.clone();
                for thresholds in self.fleet.backends[backend].thresholds.clone() {
                    if let Some(sighting) = self.evidence[observer][backend].evidence.sighting(thresholds, now) {
                        self.evidence[0][backend].evidence.hear(&name, thresholds, sighting, now);
                    }
                }
            }
        }
        if !self.fleet.backends[backend].backend.suspended {
            self.note(observer, backend);
            self.weigh(recorder);
        }
        self.tell(backend, recorder);
        self.touch_users(backend);
    }

    /// Notes for storms and suspicion what an observer says by itself.
    fn note(&mut self, observer: usize, backend: usize) {
        let known = &self.fleet.backends[backend];
        let evidence = &self.evidence[observer][backend].evidence;
        let sightings = known.thresholds.iter().filter_map(|thresholds| evidence.sighting(*thresholds, self.now));
        let health = sightings.map(|sighting| sighting.health).max().unwrap_or(Health::Unknown);
        let domain = known.backend.location.failure_domain.as_ref();
        self.storm.note(&known.key, domain, &self.observers[observer], health);
    }

    /// Whether there is a storm, and whom to believe.
    fn weigh(&mut self, recorder: &mut impl Recorder) {
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
        let is_storm = self.storm.is_storm();
        if is_storm != self.is_storm {
            self.is_storm = is_storm;
            recorder.stormed(self.now, is_storm);
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
    fn settle(&mut self, recorder: &mut impl Recorder) {
        // In the order of the routes, whoever was touched first.
        self.touched.sort_unstable_by(|one, other| other.cmp(one));
        while let Some(route) = self.touched.pop() {
            self.routes[route].is_touched = false;
            let _ = (0..MAX_LOOKS).take_while(|_| self.decide(route, recorder)).count();
        }
    }

    /// Decides about a route. Returns whether that is to be done once more.
    fn decide(&mut self, index: usize, recorder: &mut impl Recorder) -> bool {
        let now = self.now;
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
            policy: Some(&known.policy),
            strategy: known.route.strategy,
            preferred_regions: &known.route.preferred_regions,
            candidates: &state.candidates,
            is_storm: self.is_storm,
            request: state.request.as_ref(),
        };
        let decision = engine::decide(&situation, &state.memory);
        recorder.decided(now, index, &state.memory, &decision);
        if decision.next_timeout != state.wake_at {
            state.wake_at = decision.next_timeout;
            if let Some(at) = decision.next_timeout {
                self.queue.push(at, Due::Wake(index));
            }
        }
        // As the operator does once it has carried out what was decided: what holds the route now may show only then.
        let is_settled = decision.memory == state.memory;
        state.memory = decision.memory;
        !is_settled
    }
}
