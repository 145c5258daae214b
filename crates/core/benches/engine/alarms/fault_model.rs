//! Faults and their times: the rows of the table.

use std::time::Duration;

use fastrand::Rng;
use mail_failover_core::model::EvidenceClass;

use super::micros;

const HOUR: Duration = Duration::from_hours(1);
const OUTAGE: Duration = Duration::from_mins(10);
/// The least time between two faults, so that they are not one: as long as a recovery takes under
/// the default policy.
const PAUSE: Duration = Duration::from_mins(2);
/// The number of hours of which one has an outage of the primary.
const OUTAGE_EVERY: u32 = 10;
/// The time of an answer without a fault, in microseconds.
pub const QUICK: i64 = 20_000;
/// The time before the first hour in which everything is seen healthy, in microseconds.
pub const WARM_UP: i64 = 120_000_000;

/// The fault of a row. No switch improves any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultModel {
    /// The primary fails for this long, once an hour.
    Blip(Duration),
    /// This many in 100 probes fail, of both backends: half of them are not answered, half are
    /// answered 421.
    Random(u32),
    /// Answers of both take an exponential time with a mean of half the timeout, so that 13.5 in
    /// 100 come too late.
    Slow,
    /// No name can be looked up for this long, once an hour: no observer learns anything.
    Resolver(Duration),
    /// One of the two observers reaches nobody for this long, once an hour; in half of the cases it
    /// is the one that decides.
    CutOff(Duration),
    /// Both backends fail for all observers for this long, once an hour.
    AllAtOnce(Duration),
}

/// All rows.
pub const ROWS: [FaultModel; 10] = [
    FaultModel::Blip(Duration::from_secs(8)),
    FaultModel::Blip(Duration::from_secs(28)),
    FaultModel::Blip(Duration::from_secs(45)),
    FaultModel::Random(1),
    FaultModel::Random(5),
    FaultModel::Random(20),
    FaultModel::Slow,
    FaultModel::Resolver(Duration::from_mins(2)),
    FaultModel::CutOff(Duration::from_mins(5)),
    FaultModel::AllAtOnce(Duration::from_mins(5)),
];

impl FaultModel {
    pub fn name(self) -> String {
        match self {
            Self::Blip(length) => format!("blip of {} s", length.as_secs()),
            Self::Random(percent) => format!("{percent} % random failures"),
            Self::Slow => "slow hour".to_owned(),
            Self::Resolver(length) => format!("resolver silent, {} s", length.as_secs()),
            Self::CutOff(length) => format!("replica cut off, {} s", length.as_secs()),
            Self::AllAtOnce(length) => format!("all at once, {} s", length.as_secs()),
        }
    }

    /// The number of observers: two if the fault is about observers, else one, since then no quorum
    /// helps.
    pub fn observers(self) -> usize {
        match self {
            Self::Blip(_) | Self::Random(_) | Self::Slow => 1,
            Self::Resolver(_) | Self::CutOff(_) | Self::AllAtOnce(_) => 2,
        }
    }

    /// Returns true if there are stretches in which every probe succeeds.
    pub fn has_calm(self) -> bool {
        match self {
            Self::Random(_) | Self::Slow => false,
            Self::Blip(_) | Self::Resolver(_) | Self::CutOff(_) | Self::AllAtOnce(_) => true,
        }
    }

    /// The class of a probe that meets no fault, and the time after which it is known. `chance` is
    /// uniform.
    pub fn everyday(self, chance: u32, timeout: i64) -> (EvidenceClass, i64) {
        match self {
            Self::Random(percent) => {
                // Exact to 1 in 2^32; the halves are told apart by the last bit.
                let is_failure = u64::from(chance) * 100 < u64::from(percent) << 32;
                match (is_failure, chance & 1) {
                    (false, _) => (EvidenceClass::Ok, QUICK),
                    (true, 0) => (EvidenceClass::NoAnswer, timeout),
                    (true, _) => (EvidenceClass::Temporary, QUICK),
                }
            }
            Self::Slow => {
                let uniform = (f64::from(chance) + 1.0) / (f64::from(u32::MAX) + 1.0);
                let timeouts = -uniform.ln() / 2.0;
                if timeouts >= 1.0 {
                    (EvidenceClass::NoAnswer, timeout)
                } else {
                    (EvidenceClass::Ok, QUICK + micros(Duration::from_micros(timeout.unsigned_abs()).mul_f64(timeouts)))
                }
            }
            Self::Blip(_) | Self::Resolver(_) | Self::CutOff(_) | Self::AllAtOnce(_) => (EvidenceClass::Ok, QUICK),
        }
    }
}

/// A fault: for a time, probes by these observers of these backends have no other result than this.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub from: i64,
    pub until: i64,
    observers: &'static [usize],
    backends: &'static [usize],
    pub class: EvidenceClass,
    pub is_outage: bool,
}

impl Fault {
    /// Returns true if a probe meets the fault. A dialogue in progress when the fault begins fails,
    /// too.
    pub fn meets(&self, observer: usize, backend: usize, start: i64) -> bool {
        start < self.until
            && start + QUICK > self.from
            && self.observers.contains(&observer)
            && self.backends.contains(&backend)
    }
}

/// The faults of this many hours from 0, in the order of their beginnings.
pub fn draw_faults(fault_model: FaultModel, hours: u32, random: &mut Rng) -> Vec<Fault> {
    const BOTH: &[usize] = &[0, 1];
    const FIRST: &[usize] = &[0];
    const SECOND: &[usize] = &[1];
    let mut faults = Vec::new();
    for hour in 0..hours {
        let begins = WARM_UP + micros(HOUR * hour);
        let mut place = |length: Duration| {
            let from = begins + micros(PAUSE / 2) + random.i64(0..micros(HOUR) - micros(PAUSE) - micros(length));
            (from, from + micros(length))
        };
        let (length, class, observers, backends) = match fault_model {
            FaultModel::Blip(length) => (length, None, BOTH, FIRST),
            FaultModel::Resolver(length) => (length, Some(EvidenceClass::Inconclusive), BOTH, BOTH),
            FaultModel::CutOff(length) => (length, Some(EvidenceClass::NoAnswer), FIRST, BOTH),
            FaultModel::AllAtOnce(length) => (length, None, BOTH, BOTH),
            FaultModel::Random(_) | FaultModel::Slow => (Duration::ZERO, None, BOTH, BOTH),
        };
        let (from, until) = place(length);
        // While nobody can be reached or looked up an outage cannot be told from it, and one that
        // follows a blip without a pause is one with it. A replica that is cut off is no excuse:
        // the other one sees.
        let may_overlap = matches!(fault_model, FaultModel::CutOff(_));
        let outage = loop {
            let (began, ended) = place(OUTAGE);
            let pause = micros(PAUSE);
            if may_overlap || length.is_zero() || ended + pause < from || began > until + pause {
                break (began, ended);
            }
        };
        let mut silent_or_refusing = || {
            if random.bool() { EvidenceClass::NoAnswer } else { EvidenceClass::ConnectionRefused }
        };
        let class = class.unwrap_or_else(&mut silent_or_refusing);
        let outage_class = silent_or_refusing();
        let observers = if may_overlap && random.bool() { SECOND } else { observers };
        if !length.is_zero() {
            faults.push(Fault { from, until, observers, backends, class, is_outage: false });
        }
        if random.u32(0..OUTAGE_EVERY) == 0 {
            let (from, until) = outage;
            let class = outage_class;
            faults.push(Fault { from, until, observers: BOTH, backends: FIRST, class, is_outage: true });
        }
    }
    faults.sort_by_key(|fault| fault.from);
    faults
}
