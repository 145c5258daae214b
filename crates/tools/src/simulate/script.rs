use std::sync::Arc;
use std::time::Duration;

use super::draw::Draw;
use super::fleet::Fleet;
use super::source::{Answer, Source, Stream};
use mail_failover_core::engine::Request;
use mail_failover_core::model::{EvidenceClass, Timestamp};

/// What happens to a fleet, worked out: which rounds of which probes find what, and what persons do.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// What probes find, as long as it lasts.
    faults: Vec<Fault>,
    /// Times in which more comes to pass than probes find: mail tells something.
    restless: Vec<(Timestamp, Timestamp)>,
    /// When faults, or those times, begin and end; sorted.
    turns: Vec<Timestamp>,
    /// How long a round takes at least.
    latency: Duration,
    draw: Draw,
    /// By backend: the position of its first probe among all.
    first_probes: Vec<usize>,
    /// By probe: for a whole round.
    timeouts: Vec<Duration>,
    /// Faults in force since the latest turn.
    in_force: Vec<usize>,
    /// When that changes.
    next_turn: Timestamp,
    /// Whether anything of it is left to chance, or mail tells something.
    is_restless: bool,
    well: Arc<str>,
    /// By timeout.
    too_late: Vec<(Duration, Arc<str>)>,
}

/// A fault, as probes see it.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// From when.
    pub(super) from: Timestamp,
    /// Until when.
    pub(super) until: Timestamp,
    /// Only this observer sees it.
    pub(super) observer: Option<usize>,
    /// So many of a hundred rounds are hit.
    pub(super) percent: u8,
    /// By probe among all.
    pub(super) effects: Vec<Option<Effect>>,
}

/// What a fault does to a round.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// It takes so much longer.
    Slow(Duration),
    /// It ends here.
    Ends {
        /// How far it came; the least ends it first.
        step: Step,
        /// What it says.
        class: EvidenceClass,
        /// It ends only by the deadline.
        hangs: bool,
        /// For people.
        message: Arc<str>,
    },
}

/// How far a dialogue comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
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

impl Step {
    /// As messages call it.
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

/// Something that is done to the world at a time.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) at: Timestamp,
    pub(super) what: Deed,
}

/// What is done.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// An event begins or ends: for the timeline.
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

/// Mail that is refused, and what becomes known of it.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) backend: usize,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    /// So many of a hundred messages.
    pub(super) percent: u8,
    /// Whether mail is lost or waits by it; a reply may also concern a recipient, or only ask for less.
    pub(super) is_failure: bool,
    /// What the mail tells the operator, if it does.
    pub(super) told: Option<(EvidenceClass, Arc<str>)>,
}

impl Script {
    pub(super) fn new(
        fleet: &Fleet,
        faults: Vec<Fault>,
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

    /// Looks what is in force from now on.
    fn turn(&mut self, at: Timestamp) {
        let is_now = |from: Timestamp, until: Timestamp| from <= at && at < until;
        let faults = self.faults.iter().enumerate();
        self.in_force.clear();
        self.in_force.extend(faults.filter(|(_, fault)| is_now(fault.from, fault.until)).map(|(index, _)| index));
        self.is_restless = self.in_force.iter().any(|index| self.faults[*index].percent < 100)
            || self.restless.iter().any(|(from, until)| is_now(*from, *until));
        self.next_turn = turn_after(&self.turns, at);
    }

    /// Whether a fault hits a round of a stream, by chance.
    fn hits(&self, fault: usize, stream: Stream, round: u64) -> bool {
        let percent = self.faults[fault].percent;
        let place = [fault, stream.observer, stream.backend, stream.probe];
        percent >= 100
            || place.into_iter().fold(self.draw, |draw, position| draw.of(position as u64)).fraction(round)
                < f64::from(percent) / 100.0
    }
}

impl Source for Script {
    fn answer(&mut self, stream: Stream, round: u64, at: Timestamp) -> Answer {
        if at >= self.next_turn {
            self.turn(at);
        }
        let probe = self.first_probes[stream.backend] + stream.probe;
        let timeout = self.timeouts[probe];
        let mut elapsed = self.latency;
        let mut end: Option<(Step, EvidenceClass, bool, &Arc<str>)> = None;
        for index in &self.in_force {
            let fault = &self.faults[*index];
            let Some(effect) = &fault.effects[probe] else { continue };
            if fault.observer.is_some_and(|observer| observer != stream.observer) || !self.hits(*index, stream, round) {
                continue;
            }
            match effect {
                Effect::Slow(by) => elapsed += *by,
                Effect::Ends { step, class, hangs, message } => {
                    if end.is_none_or(|(earlier, ..)| *step < earlier) {
                        end = Some((*step, *class, *hangs, message));
                    }
                }
            }
        }
        match end {
            Some((_, class, true, message)) => Answer { class, elapsed: timeout, message: message.clone() },
            Some((_, class, false, message)) if elapsed < timeout => {
                Answer { class, elapsed, message: message.clone() }
            }
            None if elapsed < timeout => Answer { class: EvidenceClass::Ok, elapsed, message: self.well.clone() },
            Some(_) | None => {
                let message = self.too_late.iter().find(|(of, _)| *of == timeout).map(|(_, message)| message.clone());
                Answer { class: EvidenceClass::NoAnswer, elapsed: timeout, message: message.unwrap_or_default() }
            }
        }
    }

    fn constant_until(&self, at: Timestamp) -> Timestamp {
        if self.is_restless || at >= self.next_turn { at } else { self.next_turn }
    }
}

fn turn_after(turns: &[Timestamp], at: Timestamp) -> Timestamp {
    let next = turns.partition_point(|turn| *turn <= at);
    turns.get(next).copied().unwrap_or(Timestamp::from_micros(i64::MAX))
}
