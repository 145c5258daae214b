//! One route through some hours of virtual time, by the engine and by the peer, on the same probes.
//!
//! Full simulation tells the engine every result. The quick one leaves out those that change
//! nothing (`Ours::is_settled`), in stretches in which every probe of every observer can only have
//! such results. They only renew when a backend was last seen alive, confirmed or dead, which the
//! latest one does as well, so one more is told before anything else happens (in both, that both go
//! on from the same).
//!
//! * Where probes fail at random, each probe is drawn in both, so both meet the same failures at the same moments.
//! * Where they do not, the schedules begin anew at a random phase shortly before the next fault begins or ends, in both, and the probes
//!   of the stretch before it are drawn in the full one only. Phases that drift are uniform after minutes anyway.
//!
//! `skipping_changes_no_count` (`tests/engine_benches.rs`) compares the two.

use fastrand::Rng;
use mail_failover_core::engine::{ObserverVerdict, Transition, TransitionReason};
use mail_failover_core::model::EvidenceClass;

use super::fault_model::{Fault, FaultModel, QUICK, WARM_UP, draw_faults};
use super::haproxy::Balancer;
use super::micros;
use super::ours::{Consequence, Ours};
use super::probes::{Probe, Stream};
use super::profile::Profile;

/// The time from a change of one observer's verdict until the other one has heard of it, in
/// microseconds.
const REPORT_DELAY: i64 = 200_000;
/// The number of successes in flight at once: more than a timeout of the fast policy has intervals.
const IN_FLIGHT: usize = 8;

/// The score of one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Moves away from a backend that was not out.
    pub wrong: u64,
    /// Outages in which mail was still led to the dead backend after the deadline.
    pub missed: u64,
}

/// The counts of a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmCounts {
    pub hours: u64,
    pub outages: u64,
    /// All of our transitions, returns included.
    pub transitions: u64,
    pub ours: Score,
    pub peer: Score,
    /// The seed of our first wrong move, and its time, to reproduce it.
    pub first_wrong: Option<(u64, i64)>,
}

impl std::ops::AddAssign for AlarmCounts {
    fn add_assign(&mut self, other: Self) {
        self.hours += other.hours;
        self.outages += other.outages;
        self.transitions += other.transitions;
        self.first_wrong = self.first_wrong.into_iter().chain(other.first_wrong).min();
        for (sum, score) in [(&mut self.ours, other.ours), (&mut self.peer, other.peer)] {
            sum.wrong += score.wrong;
            sum.missed += score.missed;
        }
    }
}

/// The results that the engine is told: all of them, or only those that may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Full,
    Quick,
}

/// Simulates this many hours, and returns the counts.
pub fn simulate(profile: &Profile, fault_model: FaultModel, hours: u32, seed: u64, pace: Pace) -> AlarmCounts {
    let mut simulation = Simulation::new(profile, fault_model, hours, seed, pace);
    simulation.run();
    simulation.counts
}

#[derive(Clone, Debug)]
enum Event {
    Result { stream: usize, probe: Probe },
    Report { backend: usize, verdict: ObserverVerdict },
}

#[derive(Clone, Copy, Debug)]
enum Deadline {
    Ours,
    Peer,
}

struct Simulation {
    fault_model: FaultModel,
    seed: u64,
    pace: Pace,
    now: i64,
    end: i64,
    interval: i64,
    timeout: i64,
    faults: Vec<Fault>,
    /// The number of faults that are over.
    past: usize,
    /// The deadlines, the last one first.
    deadlines: Vec<(i64, Deadline)>,
    streams: Vec<Stream>,
    /// The pending events, the last one first.
    pending: Vec<(i64, Event)>,
    ours: Ours,
    /// A copy of [`Ours::wakes_at`].
    wakes_at: i64,
    peer: Balancer,
    peer_leads_to: usize,
    random: Rng,
    counts: AlarmCounts,
}

impl Simulation {
    fn new(profile: &Profile, fault_model: FaultModel, hours: u32, seed: u64, pace: Pace) -> Self {
        let mut random = Rng::with_seed(seed);
        let faults = draw_faults(fault_model, hours, &mut random);
        let outages = || faults.iter().filter(|fault| fault.is_outage);
        let ours = outages().map(|fault| (fault.from + micros(profile.deadline()), Deadline::Ours));
        let peer = outages().map(|fault| (fault.from + micros(Balancer::deadline(profile)), Deadline::Peer));
        let mut deadlines: Vec<_> = ours.chain(peer).collect();
        deadlines.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let observers = fault_model.observers();
        let streams = (0..observers).flat_map(|observer| [(observer, 0), (observer, 1)]);
        let streams = streams.map(|(observer, backend)| Stream::new(observer, backend, profile, random.fork()));
        Self {
            fault_model,
            seed,
            pace,
            now: 0,
            end: WARM_UP + micros(std::time::Duration::from_hours(1) * hours),
            interval: micros(profile.interval),
            timeout: micros(profile.timeout),
            past: 0,
            deadlines,
            streams: streams.collect(),
            pending: Vec::with_capacity(64),
            ours: Ours::new(profile, observers),
            wakes_at: i64::MAX,
            peer: Balancer::new(),
            peer_leads_to: 0,
            counts: AlarmCounts { hours: hours.into(), outages: outages().count() as u64, ..AlarmCounts::default() },
            faults,
            random,
        }
    }

    fn run(&mut self) {
        while self.now < self.end {
            match (self.fault_model.has_calm(), self.pace) {
                (true, _) => self.pass_calm(),
                (false, Pace::Quick) => self.skim(),
                (false, Pace::Full) => {}
            }
            self.step(self.end);
        }
    }

    /// Returns true if each probe's latest result changed nothing and would change nothing again,
    /// until a fault begins or ends.
    fn is_settled(&self) -> bool {
        let faults = &self.faults[self.past..];
        self.streams.iter().all(|stream| stream.next_look() == i64::MAX)
            && self.streams.iter().all(|stream| {
                let class = stream.expected(faults, self.now);
                let is_expected = |event: &Event| match event {
                    Event::Result { stream: of, probe } => {
                        (self.streams[*of].observer, self.streams[*of].backend) != (stream.observer, stream.backend)
                            || probe.class == class
                    }
                    Event::Report { .. } => false,
                };
                self.ours.is_settled(stream.observer, stream.backend, class)
                    && (stream.observer > 0 || self.peer.servers[stream.backend].is_settled(class == EvidenceClass::Ok))
                    && self.pending.iter().all(|(_, event)| is_expected(event))
            })
    }

    /// The time until which no fault begins or ends, and no timer or deadline is due.
    fn undisturbed_until(&mut self) -> i64 {
        // A fault that is over may still be in flight, or be the subject of a decision.
        while self.faults.get(self.past).is_some_and(|fault| fault.until + 2 * self.timeout < self.now) {
            self.past += 1;
        }
        let begun = self.faults[self.past..].iter().take_while(|fault| fault.from - QUICK < self.now);
        let next = self.faults[self.past..].iter().find(|fault| fault.from - QUICK >= self.now);
        let ends = begun.map(|fault| fault.until).filter(|until| *until > self.now);
        let changes = ends.chain(next.map(|fault| fault.from - QUICK)).chain(self.deadlines.last().map(|(at, _)| *at));
        changes.fold(self.wakes_at.min(self.end), i64::min)
    }

    /// Handles the next event before `until`, and sets the time to that of the event.
    fn step(&mut self, until: i64) {
        let (stream, start) = self.next_start();
        let result_at = self.pending.last().map_or(i64::MAX, |(at, _)| *at);
        let deadline_at = self.deadlines.last().map_or(i64::MAX, |(at, _)| *at);
        let (looking, look_at) = self.next_look();
        let first = start.min(look_at).min(result_at).min(deadline_at).min(self.wakes_at);
        if first >= until {
            self.now = until;
            return;
        }
        self.now = self.now.max(first);
        if first == self.wakes_at {
            let (transition, is_to_be_told) = self.ours.wake(self.now);
            self.wakes_at = self.ours.wakes_at();
            self.count(transition.as_ref());
            self.tell_each(is_to_be_told);
        } else if first == result_at {
            if let Some((_, event)) = self.pending.pop() {
                self.take(event);
            }
        } else if first == deadline_at {
            if let Some((_, deadline)) = self.deadlines.pop() {
                self.judge(deadline);
            }
        } else if first == start {
            self.streams[stream].begin(self.now);
            let probe = self.streams[stream].probe(self.fault_model, &self.faults[self.past..]);
            self.schedule(probe.finish, Event::Result { stream, probe });
        } else {
            self.streams[looking].begin(self.now);
            self.look(looking);
        }
    }

    fn look(&mut self, stream: usize) {
        let probe = self.streams[stream].look(self.fault_model, &self.faults[self.past..], self.now);
        self.schedule(probe.finish, Event::Result { stream, probe });
    }

    fn next_look(&self) -> (usize, i64) {
        let looks = self.streams.iter().map(Stream::next_look).enumerate();
        looks.min_by_key(|(_, at)| *at).unwrap_or((0, i64::MAX))
    }

    /// Looks at the backend that could take over, as the controller asks for.
    fn look_at_other(&mut self, observer: usize, backend: usize) {
        let other = self.streams.iter().position(|stream| (stream.observer, stream.backend) == (observer, 1 - backend));
        if let Some(other) = other
            && self.streams[other].may_look(self.now)
        {
            self.look(other);
        }
    }

    fn next_start(&self) -> (usize, i64) {
        let starts = self.streams.iter().map(|stream| stream.next_start).enumerate();
        starts.min_by_key(|(_, start)| *start).unwrap_or((0, i64::MAX))
    }

    /// Schedules an event after all others of the same moment.
    fn schedule(&mut self, at: i64, event: Event) {
        let place = self.pending.partition_point(|(other, _)| *other > at);
        self.pending.insert(place, (at, event));
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Result { stream, probe } => {
                let (observer, backend) = (self.streams[stream].observer, self.streams[stream].backend);
                if observer == 0 && probe.is_check {
                    self.check(backend, probe.class == EvidenceClass::Ok);
                }
                if self.streams[stream].confirm(&probe, self.now) {
                    self.look_at_other(observer, backend);
                }
                self.observe(observer, backend, &probe);
            }
            Event::Report { backend, verdict } => {
                let transition = self.ours.record_peer(backend, verdict, self.now);
                self.wakes_at = self.ours.wakes_at();
                self.count(transition.as_ref());
            }
        }
    }

    fn observe(&mut self, observer: usize, backend: usize, probe: &Probe) {
        let Consequence { transition, is_to_be_told } = self.ours.observe(observer, backend, probe);
        self.wakes_at = self.ours.wakes_at();
        self.count(transition.as_ref());
        self.tell_each(is_to_be_told);
    }

    fn tell_each(&mut self, is_to_be_told: [bool; 2]) {
        (0..2).filter(|backend| is_to_be_told[*backend]).for_each(|backend| self.report(backend));
    }

    fn report(&mut self, backend: usize) {
        if let Some(verdict) = self.ours.own_verdict(1, backend, self.now) {
            self.schedule(self.now + REPORT_DELAY, Event::Report { backend, verdict });
        }
    }

    fn check(&mut self, backend: usize, passed: bool) {
        self.peer.servers[backend].check(passed);
        let Some(in_use) = self.peer.in_use() else { return };
        if in_use != self.peer_leads_to && self.peer_leads_to == 0 && !self.is_out(0) {
            self.counts.peer.wrong += 1;
        }
        self.peer_leads_to = in_use;
    }

    fn count(&mut self, transition: Option<&Transition>) {
        let Some(transition) = transition else { return };
        self.counts.transitions += 1;
        let has_failed = matches!(transition.reason, TransitionReason::Failed(_));
        if has_failed && !self.is_out(usize::from(&*transition.from == "b")) {
            self.counts.ours.wrong += 1;
            self.counts.first_wrong.get_or_insert((self.seed, self.now));
        }
    }

    /// Returns true if a backend is out, or was until a moment ago.
    fn is_out(&self, backend: usize) -> bool {
        let is_now = |fault: &&Fault| fault.from <= self.now && self.now < fault.until + self.timeout;
        backend == 0 && self.faults[self.past..].iter().filter(is_now).any(|fault| fault.is_outage)
    }

    fn judge(&mut self, deadline: Deadline) {
        match deadline {
            Deadline::Ours => self.counts.ours.missed += u64::from(self.ours.leads_to() == Some(0)),
            Deadline::Peer => self.counts.peer.missed += u64::from(self.peer.in_use() == Some(0)),
        }
    }

    /// Skips the time until shortly before the next event that matters, if that is far enough.
    fn pass_calm(&mut self) {
        let slack = 3 * self.interval + self.timeout;
        let until = self.undisturbed_until() - slack;
        if until < self.now + slack || !self.is_settled() {
            return;
        }
        let expected: Vec<_> =
            self.streams.iter().map(|stream| stream.expected(&self.faults[self.past..], self.now)).collect();
        if self.pace == Pace::Full {
            let after: Vec<_> = self.streams.iter().map(|stream| stream.random.clone()).collect();
            self.streams.iter_mut().for_each(|stream| stream.random = self.random.fork());
            while self.now < until {
                self.step(until);
            }
            self.streams.iter_mut().zip(after).for_each(|(stream, random)| stream.random = random);
        }
        while let Some((at, event)) = self.pending.pop() {
            self.now = self.now.max(at);
            self.take(event);
        }
        for (number, class) in expected.into_iter().enumerate() {
            let probe = self.streams[number].before(until, class);
            let (observer, backend) = (self.streams[number].observer, self.streams[number].backend);
            self.observe(observer, backend, &probe);
            self.streams[number].begin_anew(until);
        }
        self.now = self.now.max(until);
    }

    /// Draws probes until one does not succeed, or another event is due.
    fn skim(&mut self) {
        if !self.pending.is_empty() || !self.is_settled() {
            return;
        }
        let until = self.undisturbed_until();
        let is_fault = self.faults[self.past..].first().is_some_and(|fault| fault.from - QUICK <= self.now);
        if is_fault {
            return;
        }
        let mut latest = [[None; IN_FLIGHT]; 2];
        let mut drawn = [0; 2];
        let at = loop {
            let (stream, start) = self.next_start();
            if start >= until {
                break until;
            }
            let probe = self.streams[stream].probe(self.fault_model, &[]);
            if self.streams[stream].asks_for_looks(&probe) {
                self.schedule(probe.finish, Event::Result { stream, probe });
                break start;
            }
            latest[stream][drawn[stream] % IN_FLIGHT] = Some(probe);
            drawn[stream] += 1;
        };
        self.now = self.now.max(at - 1);
        for (stream, latest) in latest.into_iter().enumerate() {
            let probes = || latest.into_iter().flatten();
            if let Some(probe) = probes().filter(|probe| probe.finish < at).max_by_key(|probe| probe.sequence) {
                self.observe(0, self.streams[stream].backend, &probe);
            }
            for probe in probes().filter(|probe| probe.finish >= at) {
                self.schedule(probe.finish, Event::Result { stream, probe });
            }
        }
    }
}
