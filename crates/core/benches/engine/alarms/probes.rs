//! Probes of one backend by one observer, with their results: the timing of `src/probe/schedule.rs`
//! in virtual time.

use std::time::Duration;

use fastrand::Rng;
use mail_failover_core::engine::{Confirmation, ConfirmationRule, Look};
use mail_failover_core::model::{EvidenceClass, Stage, Timestamp};

use super::fault_model::{Fault, FaultModel, QUICK};
use super::profile::Profile;
use super::{micros, timestamp};

/// Each of the two shares of a period's shift, as in `src/probe/schedule.rs`.
const SHIFT: f64 = 0.0225;

/// A probe with its result.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub sequence: u64,
    pub start: i64,
    pub finish: i64,
    pub class: EvidenceClass,
    /// True if a checker that begins nothing while it waits, as HAProxy does, makes this probe,
    /// too.
    pub is_check: bool,
    /// True if it comes beside those at the interval.
    pub is_look: bool,
}

/// The probes of one backend by one observer.
#[derive(Clone, Debug)]
pub struct Stream {
    pub observer: usize,
    pub backend: usize,
    pub next_start: i64,
    pub random: Rng,
    sequence: u64,
    checking_until: i64,
    interval: i64,
    timeout: i64,
    /// The period without the part of the shift that is drawn anew each time.
    period: i64,
    /// The greatest shift of one period, one way.
    jitter: i64,
    spacing: Duration,
    rule: ConfirmationRule,
    confirmation: Confirmation<Timestamp>,
    /// The time after which a probe without a result is suspect.
    patience: i64,
    /// True if looks come for a suspect probe.
    may_suspect: bool,
    /// The start of the latest look that another backend's failure asked for.
    looked_at: i64,
}

impl Stream {
    pub fn new(observer: usize, backend: usize, profile: &Profile, random: Rng) -> Self {
        let interval = micros(profile.interval);
        let rule = ConfirmationRule::of([&profile.policy.thresholds], profile.interval);
        let mut suspicion = Confirmation::default();
        suspicion.suspect(&rule, profile.interval, timestamp(0));
        let mut stream = Self {
            observer,
            backend,
            next_start: 0,
            random,
            sequence: 0,
            checking_until: i64::MIN,
            interval,
            timeout: micros(profile.timeout),
            period: interval,
            jitter: micros(profile.interval.mul_f64(SHIFT)),
            spacing: profile.interval,
            rule,
            confirmation: Confirmation::default(),
            patience: micros(profile.timeout / 4),
            may_suspect: suspicion.next().is_some(),
            looked_at: i64::MIN / 2,
        };
        stream.begin_anew(0);
        stream
    }

    /// Starts anew at a random phase from this moment on, as after any stretch of a drifting
    /// schedule.
    pub fn begin_anew(&mut self, at: i64) {
        self.next_start = at + self.random.i64(0..self.interval);
        self.period = self.interval + self.random.i64(-self.jitter..=self.jitter);
        self.checking_until = i64::MIN;
    }

    /// The probe that is due. `faults` are all that may meet it, in the order of their beginnings.
    pub fn probe(&mut self, fault_model: FaultModel, faults: &[Fault]) -> Probe {
        let (chance, shift) = (self.random.u32(..), i64::from(self.random.u32(..)));
        let start = self.next_start;
        let next = start + self.period - self.jitter + ((shift * (2 * self.jitter + 1)) >> 32);
        let (class, took) = self.result(fault_model, faults, start, chance);
        if took > self.patience {
            self.confirmation.suspect(&self.rule, self.spacing, timestamp(start + self.patience));
        }
        self.next_start = self.confirmation.align(timestamp(next), self.spacing).as_micros();
        self.known(start, start + took, class)
    }

    /// A look that is due now, beside the probes at the interval.
    pub fn look(&mut self, fault_model: FaultModel, faults: &[Fault], now: i64) -> Probe {
        let chance = self.random.u32(..);
        let (class, took) = self.result(fault_model, faults, now, chance);
        self.sequence += 1;
        Probe { sequence: self.sequence, start: now, finish: now + took, class, is_check: false, is_look: true }
    }

    fn result(&self, fault_model: FaultModel, faults: &[Fault], start: i64, chance: u32) -> (EvidenceClass, i64) {
        let mut begun = faults.iter().take_while(|fault| fault.from < start + QUICK);
        let fault = begun.find(|fault| fault.meets(self.observer, self.backend, start));
        match fault {
            None => fault_model.everyday(chance, self.timeout),
            Some(fault) if is_silent(fault.class) => (fault.class, self.timeout),
            Some(fault) => (fault.class, QUICK),
        }
    }

    /// Returns true if looks follow a probe with this result, or come while it has none.
    pub fn asks_for_looks(&self, probe: &Probe) -> bool {
        let is_suspect = self.may_suspect && probe.finish - probe.start > self.patience;
        probe.class != EvidenceClass::Ok || is_suspect
    }

    /// The time of the next look; `i64::MAX` without one.
    pub fn next_look(&self) -> i64 {
        self.confirmation.next().map_or(i64::MAX, Timestamp::as_micros)
    }

    /// Takes note of a look or a probe that begins now.
    pub fn begin(&mut self, now: i64) {
        self.confirmation.begin(timestamp(now));
    }

    /// Returns true if another backend's failure may ask for a look now: once in an interval.
    pub fn may_look(&mut self, now: i64) -> bool {
        let may_look = now >= self.looked_at + self.interval;
        if may_look {
            self.looked_at = now;
        }
        may_look
    }

    /// Plans the looks that follow from a result. Returns true if it is a first failure.
    pub fn confirm(&mut self, probe: &Probe, now: i64) -> bool {
        let look = Look { started: timestamp(probe.start), effect: probe.class.effect(), stage: Stage::Banner };
        let is_first = self.confirmation.observe(&self.rule, self.spacing, look, timestamp(now));
        self.next_start = self.confirmation.align(timestamp(self.next_start), self.spacing).as_micros();
        is_first
    }

    /// The result of all probes that begin now, apart from everyday results.
    pub fn expected(&self, faults: &[Fault], now: i64) -> EvidenceClass {
        let mut begun = faults.iter().take_while(|fault| fault.from < now + QUICK);
        let fault = begun.find(|fault| fault.meets(self.observer, self.backend, now));
        fault.map_or(EvidenceClass::Ok, |fault| fault.class)
    }

    /// A probe with a result that is known a while before this moment.
    pub fn before(&mut self, at: i64, class: EvidenceClass) -> Probe {
        let took = if is_silent(class) { self.timeout } else { QUICK };
        self.known(at - self.interval / 2 - took, at - self.interval / 2, class)
    }

    fn known(&mut self, start: i64, finish: i64, class: EvidenceClass) -> Probe {
        self.sequence += 1;
        let is_check = start >= self.checking_until;
        if is_check {
            self.checking_until = finish;
        }
        Probe { sequence: self.sequence, start, finish, class, is_check, is_look: false }
    }
}

fn is_silent(class: EvidenceClass) -> bool {
    matches!(class, EvidenceClass::NoAnswer | EvidenceClass::Inconclusive)
}
