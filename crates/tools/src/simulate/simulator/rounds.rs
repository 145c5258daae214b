//! Rounds of probes: their starts, their results, and the rounds that may be skipped.

use std::sync::Arc;
use std::time::Duration;

use super::{Due, Simulator};
use crate::simulate::Recorder;
use crate::simulate::draw::Draw;
use crate::simulate::schedule::RoundSchedule;
use crate::simulate::source::{EvidenceSource, ProbeStream};
use mail_failover_core::engine::{AnswerTime, Confirmation, ConfirmationRule, Look, THROTTLED_ONLY};
use mail_failover_core::model::{
    Effect, EvidenceClass, Outcome, Probe, ProbeKey, ProbeReport, Resolution, Stage, Thresholds, Timestamp,
};

#[derive(Clone, Debug)]
pub(super) struct RoundFinding {
    pub(super) sequence: u64,
    pub(super) started_at: Timestamp,
    pub(super) class: EvidenceClass,
    /// True if the round ended before any login.
    pub(super) is_before_login: bool,
    pub(super) elapsed: Duration,
    pub(super) message: Arc<str>,
    /// True if the look came beside those at the interval.
    pub(super) is_extra: bool,
}

#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) stream: ProbeStream,
    pub(super) schedule: RoundSchedule,
    pub(super) round: u64,
    pub(super) sequence: u64,
    /// Longest distance of two rounds that keeps evidence from going stale.
    pub(super) stride: Duration,
    /// Looks that thresholds ask for after a first failure.
    pub(super) rule: ConfirmationRule,
    pub(super) confirmation: Confirmation<Timestamp>,
    /// Time that answers usually take.
    pub(super) usual: AnswerTime,
    /// Number of the latest look beside those at the interval.
    pub(super) look: u64,
    /// Start of the latest round that went to the full depth of the probe, and what has failed in it.
    pub(super) whole: Option<(Timestamp, Option<Arc<str>>)>,
    /// Report that is reused for each round.
    pub(super) report: ProbeReport,
}

#[derive(Debug)]
pub(super) struct Skipping {
    /// Longest memory of any judgement.
    pub(super) reach: Duration,
    /// Time at which everything will have been at rest for `reach`.
    pub(super) calm_at: Timestamp,
    /// Latest promise of the source.
    pub(super) constant_until: Timestamp,
}

impl<S: EvidenceSource> Simulator<S> {
    /// Skips rounds that can change nothing.
    #[must_use]
    pub fn skipping(mut self) -> Self {
        let probes = self.fleet.backends.iter().flat_map(|backend| &backend.backend.probes);
        let slowest = probes.map(|probe| probe.interval + probe.timeout).max().unwrap_or_default();
        let thresholds = self.fleet.backends.iter().flat_map(|backend| &backend.thresholds);
        let reach = thresholds.map(|thresholds| reach(thresholds, slowest)).max().unwrap_or_default()
            + self.streams.iter().map(|stream| stream.stride).max().unwrap_or_default() * 2;
        self.skipping = Some(Skipping { reach, calm_at: self.now + reach, constant_until: self.now });
        self
    }

    pub(super) fn stream(&self, stream: ProbeStream, seed: u64) -> StreamState {
        let known = &self.fleet.backends[stream.backend];
        let probe = &known.backend.probes[stream.probe];
        // By name, so that a backend more in the manifests shifts nobody else's probes.
        let name = format!("{:?}/{}/{}", self.observers[stream.observer], known.key, probe.name);
        let what = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let outcome = Outcome {
            class: EvidenceClass::Inconclusive,
            stage: Stage::Resolve,
            message: String::new(),
            certificate_not_after: None,
            elapsed: Duration::ZERO,
        };
        StreamState {
            stream,
            schedule: RoundSchedule::new(self.now, probe.interval, Draw::new(seed).of(what)),
            round: 0,
            sequence: 0,
            stride: stride(probe),
            rule: ConfirmationRule::of(&known.thresholds, probe.interval),
            confirmation: Confirmation::default(),
            usual: AnswerTime::default(),
            look: 0,
            whole: None,
            report: ProbeReport {
                key: ProbeKey { backend: known.key.clone(), probe: probe.name.clone() },
                revision: 0,
                sequence: 0,
                started_at: self.now,
                finished_at: self.now,
                resolution: Resolution::NotNeeded,
                addresses: vec![],
                outcome,
                delay: None,
                is_extra: false,
            },
        }
    }

    pub(super) fn begin_round(&mut self, index: usize, end: Timestamp, recorder: &mut impl Recorder) {
        self.rounds += 1;
        let state = &mut self.streams[index];
        let answer = self.source.answer(state.stream, state.round, self.now);
        state.sequence += 1;
        let finding = RoundFinding {
            sequence: state.sequence,
            started_at: self.now,
            class: answer.class,
            is_before_login: answer.is_before_login,
            elapsed: answer.elapsed,
            message: answer.message,
            is_extra: false,
        };
        self.suspect(index, finding.elapsed);
        let next = self.next_round(index);
        let interval = self.probe_of(index).interval;
        let state = &mut self.streams[index];
        state.round = next;
        let due = state.confirmation.align(state.schedule.start(next), interval);
        self.queue.push(due, Due::Round(index));
        let known_at = self.now + finding.elapsed;
        // Mostly nothing happens while a round is under way: then its result need not queue.
        if known_at <= end && self.queue.next_at().is_none_or(|next| next > known_at) {
            self.now = known_at;
            self.end_round(index, &finding, recorder);
        } else {
            self.queue.push(known_at, Due::Result(index, finding));
        }
    }

    /// Plans looks for a round that is silent for longer than it should be, as the prober does.
    fn suspect(&mut self, index: usize, elapsed: Duration) {
        let (interval, timeout) = (self.probe_of(index).interval, self.probe_of(index).timeout);
        let state = &mut self.streams[index];
        if let Some(patience) = state.usual.patience(timeout).filter(|patience| *patience < elapsed) {
            state.confirmation.suspect(&state.rule, interval, self.now + patience);
            if let Some(next) = state.confirmation.next() {
                self.queue.push(next, Due::Look(index));
            }
        }
    }

    fn probe_of(&self, index: usize) -> &Probe {
        let stream = self.streams[index].stream;
        &self.fleet.backends[stream.backend].backend.probes[stream.probe]
    }

    /// Makes a look beside those at the interval, if one is planned now.
    pub(super) fn begin_planned_look(&mut self, index: usize) {
        let confirmation = &mut self.streams[index].confirmation;
        if confirmation.next().is_none_or(|next| next > self.now) {
            return;
        }
        confirmation.begin(self.now);
        if let Some(next) = confirmation.next() {
            self.queue.push(next, Due::Look(index));
        }
        self.begin_look(index);
    }

    /// Makes a look that goes no deeper than to EHLO in TLS.
    pub(super) fn begin_look(&mut self, index: usize) {
        self.rounds += 1;
        let state = &mut self.streams[index];
        state.look += 1;
        // Numbers of rounds do not reach as far: a look draws for itself.
        let mut answer = self.source.answer(state.stream, u64::MAX - state.look, self.now);
        if !answer.is_before_login && answer.class.effect() != Effect::Success {
            answer.class = EvidenceClass::Ok;
        }
        state.sequence += 1;
        let finding = RoundFinding {
            sequence: state.sequence,
            started_at: self.now,
            class: answer.class,
            is_before_login: answer.is_before_login,
            elapsed: answer.elapsed,
            message: answer.message,
            is_extra: true,
        };
        self.queue.push(self.now + finding.elapsed, Due::Result(index, finding));
    }

    /// Takes the result of a round, and plans the looks that confirm a first failure.
    pub(super) fn end_round(&mut self, index: usize, finding: &RoundFinding, recorder: &mut impl Recorder) {
        let state = &mut self.streams[index];
        let stream = state.stream;
        let look = Look {
            started: finding.started_at,
            effect: finding.class.effect(),
            stage: if finding.is_before_login { Stage::Banner } else { Stage::Auth },
        };
        let interval = self.fleet.backends[stream.backend].backend.probes[stream.probe].interval;
        if look.effect == Effect::Success {
            state.usual.observe(finding.elapsed);
        }
        match look.effect {
            _ if finding.is_extra => {}
            Effect::Neutral => {}
            Effect::Success => state.whole = Some((finding.started_at, None)),
            Effect::Failure => {
                let failure = format!("{}: {}", finding.class.as_str(), finding.message).into();
                state.whole = Some((finding.started_at, Some(failure)));
            }
        }
        let is_first = state.confirmation.observe(&state.rule, interval, look, self.now);
        if look.effect == Effect::Failure
            && let Some(next) = state.confirmation.next()
        {
            self.queue.push(next, Due::Look(index));
        }
        if is_first && finding.is_before_login {
            self.look_at_neighbours(stream);
        }
        self.observe(index, finding, recorder);
    }

    /// Looks at the backends that could take over, so that they have answered by the time that they are needed.
    fn look_at_neighbours(&mut self, failing: ProbeStream) {
        let neighbours = self.neighbours(failing.backend);
        for index in 0..self.streams.len() {
            let stream = self.streams[index].stream;
            if stream.observer == failing.observer && neighbours.contains(&stream.backend) {
                self.begin_look(index);
            }
        }
    }

    fn next_round(&mut self, index: usize) -> u64 {
        let state = &self.streams[index];
        let next = state.round + 1;
        let Some(skipping) = &mut self.skipping else { return next };
        let constant_until = self.source.constant_until(self.now);
        if constant_until != skipping.constant_until {
            // The promise is a new one: answers may have changed, though this one has not.
            skipping.constant_until = constant_until;
            skipping.calm_at = self.now + skipping.reach;
        }
        let target = (constant_until - skipping.reach).min(self.now + state.stride);
        let may_skip = self.now >= skipping.calm_at && target > self.now;
        if may_skip { next.max(state.schedule.round_at(target)) } else { next }
    }

    /// Notes a change: no round is skipped until it has been forgotten.
    pub(super) fn stir(&mut self) {
        if let Some(skipping) = &mut self.skipping {
            skipping.calm_at = self.now + skipping.reach;
        }
    }
}

/// Returns the longest memory of a judgement by these thresholds.
fn reach(thresholds: &Thresholds, slowest_round: Duration) -> Duration {
    let window = thresholds.window.map_or(Duration::ZERO, |window| window.duration);
    let latency = thresholds.latency.map_or(Duration::ZERO, |latency| latency.held_for * 2);
    let run = slowest_round * (thresholds.failure.max(thresholds.recovery) + 2);
    let lasting = thresholds.must_last(slowest_round);
    window.max(latency).max(thresholds.stable_for).max(lasting).max(THROTTLED_ONLY) + run
}

/// Returns the longest distance of two rounds of a probe while rounds are skipped.
// Evidence goes stale three intervals, a timeout and 30 s after the latest; a round is late by no more than an
// interval.
fn stride(probe: &Probe) -> Duration {
    probe.interval * 2 + Duration::from_secs(25)
}
