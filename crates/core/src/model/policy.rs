use std::fmt;
use std::time::Duration;

use super::{CronWindow, Drills, EvidenceClass};

/// Rules by which routes switch; every default is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Thresholds of failure, slowness and recovery.
    pub thresholds: Thresholds,
    /// Pauses between the moves of a route.
    pub hold: HoldPolicy,
    /// Behaviour while no candidate is healthy.
    pub when_none_healthy: WhenNoneHealthy,
    /// Rules for the return to a preferred backend.
    pub failback: Failback,
    /// Objectives that a switch is measured against.
    pub objectives: Objectives,
    /// Thresholds at which real mail makes a backend Unhealthy.
    // ADR-0118: The breaker replaces the reflex.
    pub deliveries: DeliveryThresholds,
    /// Settings of the agents' breakers.
    // ADR-0195: `hold` and `senderDomains` keep their names until v1beta1.
    pub breaker: Breaker,
    /// Rules for drills.
    pub drills: Drills,
}

impl Default for Policy {
    /// The documented defaults: those of a `FailoverPolicy` with an empty spec, and of a route without `policyRef`.
    fn default() -> Self {
        Self {
            thresholds: Thresholds::default(),
            hold: HoldPolicy {
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
            objectives: Objectives::NONE,
            deliveries: DeliveryThresholds::default(),
            breaker: Breaker::default(),
            drills: Drills::default(),
        }
    }
}

/// Evidence that turns a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thresholds {
    /// Failures in a row that make a backend Unhealthy; at least 1.
    pub failure: u32,
    /// Shortest time from the start of the first to the start of the last of these failures. `None` for the time that as
    /// many rounds at the probe's interval span ([`Thresholds::must_last`]).
    pub lasting: Option<Duration>,
    /// Successes in a row that make an Unhealthy backend Healthy; at least 1.
    pub recovery: u32,
    /// Shortest time that the successes of a recovery must span.
    pub stable_for: Duration,
    /// A share of failures that makes a backend Unhealthy although none came in a row.
    pub window: Option<FailureWindow>,
    /// Slowness that makes a backend Degraded.
    pub latency: Option<LatencyLimit>,
    /// Classes of which one failure makes a backend Unhealthy.
    pub immediate: EvidenceClasses,
}

impl Thresholds {
    /// Returns the time that failures in a row must span at a probe with this interval.
    // ADR-0112: A failure is confirmed at once, and counts when it has lasted.
    pub fn must_last(&self, interval: Duration) -> Duration {
        self.lasting.unwrap_or_else(|| interval.saturating_mul(self.failure.saturating_sub(1)))
    }
}

// ADR-0003: Six failures or ten successes, ten seconds apart, by default.
impl Default for Thresholds {
    /// The documented default: 6 failures, 10 successes; one failure about account, allowance or login.
    // Six failures of a probe every 10 s span 50 s, so that a blip of 45 s is ridden out. Coming back takes more evidence
    // than leaving.
    fn default() -> Self {
        Self {
            failure: 6,
            lasting: None,
            recovery: 10,
            stable_for: Duration::ZERO,
            window: None,
            latency: None,
            immediate: EvidenceClasses::OF_THE_ACCOUNT,
        }
    }
}

impl fmt::Display for Thresholds {
    /// A short stable text, equal for equal thresholds.
    // Replicas name thresholds by it in their reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failure, lasting, recovery, stable_for, window, latency, immediate } = self;
        write!(f, "{failure}/{recovery}")?;
        if let Some(lasting) = lasting {
            write!(f, " lasting {lasting:?}")?;
        }
        if !stable_for.is_zero() {
            write!(f, " stable {stable_for:?}")?;
        }
        if let Some(FailureWindow { duration, minimum_samples, failure_percent }) = window {
            write!(f, " window {duration:?} {minimum_samples} {failure_percent}%")?;
        }
        if let Some(LatencyLimit { percentile, above, held_for }) = latency {
            write!(f, " p{percentile} {above:?} {held_for:?}")?;
        }
        // The default goes without saying: reports between replicas have this text for each backend.
        if *immediate == EvidenceClasses::NONE {
            f.write_str(" !")?;
        } else if *immediate != EvidenceClasses::OF_THE_ACCOUNT {
            for class in immediate.iter() {
                write!(f, " !{}", class.as_str())?;
            }
        }
        Ok(())
    }
}

/// A share of failures among the latest results of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureWindow {
    /// Length of the window, kept in [`FailureWindow::BUCKETS`] equal parts. The oldest leaves as a whole.
    pub duration: Duration,
    /// Least number of results for a verdict; at least 1.
    pub minimum_samples: u32,
    /// Percentage of failures, 1 to 100.
    pub failure_percent: u8,
}

impl FailureWindow {
    /// Number of parts of a window.
    // Memory does not grow with the number of results.
    pub const BUCKETS: u32 = 12;
}

/// A latency that must not be exceeded for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LatencyLimit {
    /// Percentile of the latencies in half of `held_for`, 1 to 99.
    pub percentile: u8,
    /// Limit above which a latency is too slow.
    pub above: Duration,
    /// Time without interruption for which it must be too slow to turn Degraded, or quick enough to end that.
    pub held_for: Duration,
}

/// Set of evidence classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EvidenceClasses(u32);

impl EvidenceClasses {
    /// The set without any class.
    pub const NONE: Self = Self(0);
    /// The classes that speak of our account, our allowance or our login.
    // ADR-0070: A refused account is left at the first reply. No wait makes it accepted, and a message more is a
    // message late.
    pub const OF_THE_ACCOUNT: Self = Self(
        Self::bit(EvidenceClass::AccountPaused)
            | Self::bit(EvidenceClass::QuotaExhausted)
            | Self::bit(EvidenceClass::AuthenticationRefused),
    );

    /// Returns true if the set has this class.
    pub fn contains(self, class: EvidenceClass) -> bool {
        self.0 & Self::bit(class) != 0
    }

    /// Iterates over the classes, in the order of [`EvidenceClass::ALL`].
    pub fn iter(self) -> impl Iterator<Item = EvidenceClass> {
        EvidenceClass::ALL.iter().copied().filter(move |class| self.contains(*class))
    }

    const fn bit(class: EvidenceClass) -> u32 {
        1 << class as u32
    }
}

impl FromIterator<EvidenceClass> for EvidenceClasses {
    fn from_iter<I: IntoIterator<Item = EvidenceClass>>(classes: I) -> Self {
        Self(classes.into_iter().fold(0, |bits, class| bits | Self::bit(class)))
    }
}

/// Pauses between moves. Cooldown and minimum stay keep moves that nothing forces. The budget keeps forced ones, too,
/// as far as its last-resort rule goes (`engine/holds.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldPolicy {
    /// Pause after any transition.
    pub cooldown: Duration,
    /// Pause after arriving at a backend, the first one included.
    pub minimum_stay: Duration,
    /// Limit on transitions in a time.
    pub budget: Budget,
}

/// Limit on transitions in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Number of transitions, 1 to 10.
    // `status.history` keeps no more.
    pub switches: u8,
    /// Time in which transitions count.
    pub per: Duration,
}

/// Behaviour while no candidate is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNoneHealthy {
    /// Stay where the mail goes now.
    Hold,
    /// Go to the most preferred candidate.
    Preferred,
}

/// Rules for the return to a preferred backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failback {
    /// Decider of the return.
    pub mode: FailbackMode,
    /// Time without interruption for which the preferred backend must have been Healthy; longer after repeated
    /// failures (`engine/holds.rs`).
    pub after: Duration,
    /// Times in which a return may begin; always if empty.
    pub windows: Vec<CronWindow>,
    /// Steps of the return, percentages increasing; all mail at once if empty.
    pub ramp: Vec<RampStep>,
}

/// Decider of a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailbackMode {
    /// The operator returns by itself.
    Automatic,
    /// A person approves the return.
    Manual,
}

/// One step of a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RampStep {
    /// Largest share of the route's mail for the returning backend, 1 to 99.
    pub percent: u8,
    /// Duration of the step.
    pub duration: Duration,
}

/// Objectives that a route is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objectives {
    /// Longest time from the first evidence of a failure until every output leads elsewhere.
    pub recovery_time: Option<Duration>,
    /// Longest time from the first evidence of a failure until the first message is out on the new way.
    pub delivery_time: Option<Duration>,
    /// Least share of the attempts to deliver that a backend accepts.
    pub success: Option<Share>,
    /// Least share of the time in which mail can leave.
    pub availability: Option<Share>,
    /// Time that the two shares, and the failovers, are looked at for.
    pub window: Duration,
}

impl Objectives {
    /// No objective.
    pub const NONE: Self = Self {
        recovery_time: None,
        delivery_time: None,
        success: None,
        availability: None,
        window: Duration::from_hours(24 * 30),
    };

    /// Returns true if there is no objective.
    pub fn is_empty(&self) -> bool {
        let Self { recovery_time, delivery_time, success, availability, window: _ } = self;
        recovery_time.is_none() && delivery_time.is_none() && success.is_none() && availability.is_none()
    }
}

/// Share in parts per million: 99.9 % are 999,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    const WHOLE: u32 = 1_000_000;

    /// Creates a share; at most the whole.
    pub fn from_parts_per_million(parts: u32) -> Self {
        Self(parts.min(Self::WHOLE))
    }

    /// Returns `part` of `whole`; the whole of nothing.
    pub fn of(part: u64, whole: u64) -> Self {
        let parts = u128::from(part) * u128::from(Self::WHOLE) / u128::from(whole.max(1));
        if whole == 0 {
            Self(Self::WHOLE)
        } else {
            Self::from_parts_per_million(u32::try_from(parts).unwrap_or(u32::MAX))
        }
    }

    /// Returns the parts per million.
    pub fn parts_per_million(self) -> u32 {
        self.0
    }

    /// Returns what is missing to the whole, in parts per million: the error budget of an objective.
    pub fn rest(self) -> u32 {
        Self::WHOLE - self.0
    }
}

impl fmt::Display for Share {
    /// Writes percent without needless zeros: `99.9%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, decimals) = (self.0 / 10_000, format!("{:04}", self.0 % 10_000));
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            decimals => write!(f, "{whole}.{decimals}%"),
        }
    }
}

/// Thresholds at which the deliveries that an agent sees make a backend Unhealthy. The policy's immediate classes count
/// as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryThresholds {
    /// Deliveries in a row that must fail; at least 1.
    pub consecutive: u32,
    /// Shortest time that these failures must span.
    pub lasting: Duration,
}

impl Default for DeliveryThresholds {
    /// The documented default: 10 failures over 50 s.
    // However much mail meets a blip of 45 s, it does not span 50.
    fn default() -> Self {
        Self { consecutive: 10, lasting: Duration::from_secs(50) }
    }
}

/// Settings of an agent's circuit breakers, which order the backends that a message tries and move no route.
// ADR-0116: A breaker orders the lists, and the route stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Deliveries in a row that open it when they fail; at least 1.
    pub consecutive: u32,
    /// Pause before the first trial.
    pub first_pause: Duration,
    /// Longest pause between two trials; not below `first_pause`.
    pub longest_pause: Duration,
}

impl Default for Breaker {
    /// The documented default: 3 failures; trials after 5 s, and then with pauses that double up to a minute.
    fn default() -> Self {
        Self { consecutive: 3, first_pause: Duration::from_secs(5), longest_pause: Duration::from_mins(1) }
    }
}
