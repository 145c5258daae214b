//! Probes of one backend by one observer, with their results: the timing of `src/probe/schedule.rs`
//! in virtual time.

use fastrand::Rng;
use mail_failover_core::model::EvidenceClass;

use super::fault_model::{Fault, FaultModel, QUICK};
use super::micros;
use super::profile::Profile;

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
}

impl Stream {
    pub fn new(observer: usize, backend: usize, profile: &Profile, random: Rng) -> Self {
        let interval = micros(profile.interval);
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
        self.next_start = start + self.period - self.jitter + ((shift * (2 * self.jitter + 1)) >> 32);
        let mut begun = faults.iter().take_while(|fault| fault.from < start + QUICK);
        let fault = begun.find(|fault| fault.meets(self.observer, self.backend, start));
        let (class, took) = match fault {
            None => fault_model.everyday(chance, self.timeout),
            Some(fault) if is_silent(fault.class) => (fault.class, self.timeout),
            Some(fault) => (fault.class, QUICK),
        };
        self.known(start, start + took, class)
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
        Probe { sequence: self.sequence, start, finish, class, is_check }
    }
}

fn is_silent(class: EvidenceClass) -> bool {
    matches!(class, EvidenceClass::NoAnswer | EvidenceClass::Inconclusive)
}
