use std::sync::Arc;
use std::time::Duration;

use super::agent::MetReply;
use super::draw::Draw;
use super::fleet::SimulatedFleet;
use super::source::{EvidenceSource, ProbeStream, RoundResult};
use mail_failover_core::engine::Request;
use mail_failover_core::model::{EvidenceClass, Timestamp};
use mail_failover_smtp::client::SessionTimeouts;

/// Script of the simulation: the rounds that faults hit, with their results, and the actions of persons.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// Faults as probes see them, each with its span.
    faults: Vec<ProbeFault>,
    /// Spans in which mail reports its failures, so that probes are not the only source of news.
    restless: Vec<(Timestamp, Timestamp)>,
    /// Begins and ends of the faults and of those spans; sorted.
    turns: Vec<Timestamp>,
    /// Shortest duration of a round.
    latency: Duration,
    draw: Draw,
    /// Position of each backend's first probe among all probes.
    first_probes: Vec<usize>,
    /// Timeout of each probe. What slows a round down does so at one step.
    timeouts: Vec<Duration>,
    /// Faults in force since the latest turn.
    in_force: Vec<usize>,
    /// Time of the next change of `in_force`.
    next_turn: Timestamp,
    /// True while chance decides about a fault, or mail reports its failures.
    is_restless: bool,
    well: Arc<str>,
    /// Messages of rounds that take too long, by timeout.
    too_late: Vec<(Duration, Arc<str>)>,
}

/// Fault as probes see it.
#[derive(Clone, Debug)]
pub(super) struct ProbeFault {
    /// Begin of the fault.
    pub(super) from: Timestamp,
    /// End of the fault.
    pub(super) until: Timestamp,
    /// Observer that alone sees the fault.
    pub(super) observer: Option<usize>,
    /// Percentage of the rounds that are hit.
    pub(super) percent: u8,
    /// Effects by the probe's position among all probes.
    pub(super) effects: Vec<Option<RoundEffect>>,
}

/// Effect of a fault on a round.
#[derive(Clone, Debug)]
pub(super) enum RoundEffect {
    /// The round takes this much longer.
    Slow(Duration),
    /// The round ends at a step.
    Ends {
        /// Step that the round reaches; of several effects the earliest step counts.
        step: DialogueStep,
        /// Class of evidence of the result.
        class: EvidenceClass,
        /// True if the round ends only at its deadline.
        hangs: bool,
        /// Message of the result, for people.
        message: Arc<str>,
    },
}

/// Step of a dialogue, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DialogueStep {
    Resolve,
    Connect,
    ImplicitTls,
    Banner,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
}

impl DialogueStep {
    /// Returns the step as messages write it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "Resolve",
            Self::Connect => "Connect",
            Self::ImplicitTls => "ImplicitTLS",
            Self::Banner => "Banner",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
        }
    }
}

/// Action on the simulation at a time.
#[derive(Clone, Debug)]
pub(super) struct ScriptedAction {
    pub(super) at: Timestamp,
    pub(super) what: ScriptedChange,
}

/// Kind of an action.
#[derive(Clone, Debug)]
pub(super) enum ScriptedChange {
    /// Begin or end of an event, for the timeline.
    Note {
        event: usize,
        is_over: bool,
    },
    Suspend {
        backend: usize,
        is_suspended: bool,
    },
    Limit {
        backend: usize,
        quota_left: Option<u32>,
    },
    Ask {
        route: usize,
        request: Request,
    },
}

/// Refusal of mail, and what the operator learns of it.
#[derive(Clone, Debug)]
pub(super) struct MailRefusal {
    pub(super) backend: usize,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    /// Percentage of the messages that are refused.
    pub(super) percent: u8,
    /// True if mail is lost or delayed by it. A reply may also concern one recipient.
    pub(super) is_failure: bool,
    /// Reply that the mail's agent sees, if there is one.
    pub(super) told: Option<MetReply>,
}

impl Script {
    pub(super) fn new(
        fleet: &SimulatedFleet,
        faults: Vec<ProbeFault>,
        restless: Vec<(Timestamp, Timestamp)>,
        latency: Duration,
        seed: u64,
    ) -> Self {
        let mut turns: Vec<_> = faults.iter().flat_map(|fault| [fault.from, fault.until]).collect();
        turns.extend(restless.iter().flat_map(|(from, until)| [*from, *until]));
        turns.sort_unstable();
        turns.dedup();
        let (mut first_probes, mut timeouts) = (vec![], vec![]);
        for backend in &fleet.backends {
            first_probes.push(timeouts.len());
            timeouts.extend(backend.backend.probes.iter().map(|probe| probe.timeout));
        }
        let mut too_late: Vec<(Duration, Arc<str>)> =
            timeouts.iter().map(|timeout| (*timeout, format!("EHLO: no answer within {timeout:?}").into())).collect();
        too_late.sort_unstable();
        too_late.dedup();
        Self {
            faults,
            restless,
            turns,
            latency,
            draw: Draw::new(seed).of(u64::from_be_bytes(*b"scenario")),
            first_probes,
            timeouts,
            in_force: vec![],
            next_turn: Timestamp::from_micros(i64::MIN),
            is_restless: false,
            well: "250 ready".into(),
            too_late,
        }
    }

    /// Updates the faults in force.
    fn turn(&mut self, at: Timestamp) {
        self.in_force.clear();
        for (index, fault) in self.faults.iter().enumerate() {
            if (fault.from..fault.until).contains(&at) {
                self.in_force.push(index);
            }
        }
        self.is_restless = self.in_force.iter().any(|index| self.faults[*index].percent < 100)
            || self.restless.iter().any(|(from, until)| (*from..*until).contains(&at));
        self.next_turn = turn_after(&self.turns, at);
    }

    /// Returns true if a fault hits a round of a stream, by chance.
    fn hits(&self, fault: usize, stream: ProbeStream, round: u64) -> bool {
        let percent = self.faults[fault].percent;
        let place = [fault, stream.observer, stream.backend, stream.probe];
        percent >= 100
            || place.into_iter().fold(self.draw, |draw, position| draw.of(position as u64)).fraction(round)
                < f64::from(percent) / 100.0
    }
}

impl EvidenceSource for Script {
    fn answer(&mut self, stream: ProbeStream, round: u64, at: Timestamp) -> RoundResult {
        if at >= self.next_turn {
            self.turn(at);
        }
        let probe = self.first_probes[stream.backend] + stream.probe;
        let timeout = self.timeouts[probe];
        let mut elapsed = self.latency;
        let mut end: Option<(DialogueStep, EvidenceClass, bool, &Arc<str>)> = None;
        for index in &self.in_force {
            let fault = &self.faults[*index];
            let Some(effect) = &fault.effects[probe] else { continue };
            if fault.observer.is_some_and(|observer| observer != stream.observer) || !self.hits(*index, stream, round) {
                continue;
            }
            match effect {
                RoundEffect::Slow(by) => elapsed += *by,
                RoundEffect::Ends { step, class, hangs, message } => {
                    if end.is_none_or(|(earlier, ..)| *step < earlier) {
                        end = Some((*step, *class, *hangs, message));
                    }
                }
            }
        }
        // A server that is too slow is so from its greeting on.
        let is_too_slow = elapsed >= timeout && !end.is_some_and(|(_, _, hangs, _)| hangs);
        let is_before_login = is_too_slow || end.is_some_and(|(step, ..)| step < DialogueStep::Auth);
        let (class, elapsed, message) = match end {
            Some((step, class, true, message)) => (class, bound(step, timeout), message.clone()),
            Some((_, class, false, message)) if elapsed < timeout => (class, elapsed, message.clone()),
            None if elapsed < timeout => (EvidenceClass::Ok, elapsed, self.well.clone()),
            Some(_) | None => {
                let message = self.too_late.iter().find(|(of, _)| *of == timeout).map(|(_, message)| message.clone());
                (EvidenceClass::NoAnswer, timeout, message.unwrap_or_default())
            }
        };
        RoundResult { class, is_before_login, elapsed, message }
    }

    fn constant_until(&self, at: Timestamp) -> Timestamp {
        if self.is_restless || at >= self.next_turn { at } else { self.next_turn }
    }
}

/// Returns the time after which a round ends that hangs at a step, by its probe's timeout.
pub(super) fn bound(step: DialogueStep, timeout: Duration) -> Duration {
    let bounds = SessionTimeouts::of_probe(timeout);
    if step == DialogueStep::Connect { bounds.connection } else { bounds.step }
}

fn turn_after(turns: &[Timestamp], at: Timestamp) -> Timestamp {
    let next = turns.partition_point(|turn| *turn <= at);
    turns.get(next).copied().unwrap_or(Timestamp::from_micros(i64::MAX))
}
