use std::fmt;
use std::time::Duration;

use super::{EvidenceClass, FailbackWindow};

/// When and how to switch; every value already defaulted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When a backend counts as failed, degraded and recovered.
    pub thresholds: Thresholds,
    /// Holds on moves.
    pub hold: Hold,
    /// What to do when no candidate is healthy.
    pub when_none_healthy: WhenNoneHealthy,
    /// When and how to return to a preferred backend.
    pub failback: Failback,
    /// What a switch is measured against.
    pub objectives: Objectives,
    /// When an agent leaves a backend by itself.
    pub reflex: Reflex,
}

impl Default for Policy {
    /// The documented defaults: what a `FailoverPolicy` with an empty spec means, and a route without `policyRef`.
    fn default() -> Self {
        Self {
            thresholds: Thresholds::default(),
            hold: Hold {
                cooldown: Duration::from_mins(10),
                minimum_stay: Duration::from_mins(1),
                budget: Budget { switches: 6, per: Duration::from_hours(1) },
            },
            when_none_healthy: WhenNoneHealthy::Hold,
            failback: Failback {
                mode: FailbackMode::Automatic,
                after: Duration::from_mins(10),
                windows: vec![],
                ramp: vec![],
            },
            objectives: Objectives { recovery_time: None },
            reflex: Reflex::default(),
        }
    }
}

/// What turns a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thresholds {
    /// So many failures in a row make a backend Unhealthy; at least 1.
    pub failure: u32,
    /// So many successes in a row make an Unhealthy backend Healthy; at least 1.
    pub recovery: u32,
    /// The successes of a recovery must span at least so long.
    pub stable_for: Duration,
    /// A share of failures that makes a backend Unhealthy although none came in a row.
    pub window: Option<FailureWindow>,
    /// Slowness that makes a backend Degraded.
    pub latency: Option<LatencyLimit>,
    /// One failure of these classes is enough.
    pub immediate: EvidenceClasses,
}

impl Default for Thresholds {
    /// Probes start at least 9.5 s apart by default (10 s less 5 % jitter), so a blip of 45 s meets at most five of them:
    /// six failures ride it out. Coming back takes more evidence than leaving.
    fn default() -> Self {
        Self {
            failure: 6,
            recovery: 10,
            stable_for: Duration::ZERO,
            window: None,
            latency: None,
            immediate: EvidenceClasses::NONE,
        }
    }
}

impl fmt::Display for Thresholds {
    /// A short stable text, equal for equal thresholds: by it one replica tells another which verdict it means.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failure, recovery, stable_for, window, latency, immediate } = self;
        write!(f, "{failure}/{recovery}")?;
        if !stable_for.is_zero() {
            write!(f, " stable {stable_for:?}")?;
        }
        if let Some(FailureWindow { duration, minimum_samples, failure_percent }) = window {
            write!(f, " window {duration:?} {minimum_samples} {failure_percent}%")?;
        }
        if let Some(LatencyLimit { percentile, above, held_for }) = latency {
            write!(f, " p{percentile} {above:?} {held_for:?}")?;
        }
        for class in immediate.iter() {
            write!(f, " !{}", class.as_str())?;
        }
        Ok(())
    }
}

/// A share of failures among the latest results of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureWindow {
    /// How far it reaches back; kept in [`FailureWindow::BUCKETS`] equal parts, the oldest of which leaves as a whole.
    pub duration: Duration,
    /// With fewer results nothing is said; at least 1.
    pub minimum_samples: u32,
    /// 1 to 100.
    pub failure_percent: u8,
}

impl FailureWindow {
    /// In so many parts a window is kept, so that its memory does not grow with the number of results.
    pub const BUCKETS: u32 = 12;
}

/// A latency that must not be exceeded for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LatencyLimit {
    /// 1 to 99: of the latencies of half of `held_for`, this percentile counts.
    pub percentile: u8,
    /// Above this it is too slow.
    pub above: Duration,
    /// Too slow for so long without interruption means Degraded; quick enough for so long ends it.
    pub held_for: Duration,
}

/// A set of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EvidenceClasses(u32);

impl EvidenceClasses {
    /// No class.
    pub const NONE: Self = Self(0);

    /// Whether it holds this class.
    pub fn contains(self, class: EvidenceClass) -> bool {
        self.0 & Self::bit(class) != 0
    }

    /// Its classes, in the order of [`EvidenceClass::ALL`].
    pub fn iter(self) -> impl Iterator<Item = EvidenceClass> {
        EvidenceClass::ALL.into_iter().filter(move |class| self.contains(*class))
    }

    fn bit(class: EvidenceClass) -> u32 {
        1 << class as u32
    }
}

impl FromIterator<EvidenceClass> for EvidenceClasses {
    fn from_iter<I: IntoIterator<Item = EvidenceClass>>(classes: I) -> Self {
        Self(classes.into_iter().fold(0, |bits, class| bits | Self::bit(class)))
    }
}

/// Holds on moves. Cooldown and minimum stay are for comfort: what must be left is left all the same. The budget holds that, too,
/// as far as its last-resort rule goes (`engine/holds.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// After any transition.
    pub cooldown: Duration,
    /// After arriving at a backend, the first one included.
    pub minimum_stay: Duration,
    /// Transitions in a time.
    pub budget: Budget,
}

/// So many transitions in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// 1 to 10: no more of a route's history is kept.
    pub switches: u8,
    /// How far back transitions count.
    pub per: Duration,
}

/// What to do when no candidate is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNoneHealthy {
    /// Stay where the mail goes now.
    Hold,
    /// Go to the most preferred candidate.
    Preferred,
}

/// When and how to return to a preferred backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failback {
    /// Who decides.
    pub mode: FailbackMode,
    /// How long the preferred backend must have been healthy without interruption; longer after repeated failures (`engine/holds.rs`).
    pub after: Duration,
    /// When a return may begin; always, when empty.
    pub windows: Vec<FailbackWindow>,
    /// In which steps the mail returns; at once, when empty. Percentages increase.
    pub ramp: Vec<RampStep>,
}

/// Who decides on a failback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailbackMode {
    /// The operator.
    Automatic,
    /// A person.
    Manual,
}

/// One step of a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RampStep {
    /// So much of the route's mail at most goes to the returning backend; 1 to 99.
    pub percent: u8,
    /// For so long.
    pub duration: Duration,
}

/// What a switch is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objectives {
    /// From the first evidence of a failure until every output leads elsewhere.
    pub recovery_time: Option<Duration>,
}

/// When an agent leaves a backend by itself, by what real mail meets there; classes of which one delivery is enough, cooldown and budget are
/// those of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reflex {
    /// So many deliveries in a row must fail; at least 1.
    pub consecutive: u32,
    /// They must span at least so long.
    pub lasting: Duration,
}

impl Default for Reflex {
    /// However much mail meets a blip of 45 s, it does not span 50.
    fn default() -> Self {
        Self { consecutive: 10, lasting: Duration::from_secs(50) }
    }
}
