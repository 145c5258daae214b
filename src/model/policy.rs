use std::time::Duration;

/// When and how to switch; every value already defaulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When a backend counts as failed and as recovered.
    pub thresholds: Thresholds,
    /// Holds on moves that nothing forces.
    pub hold: Hold,
    /// What to do when no candidate is healthy.
    pub when_none_healthy: WhenNoneHealthy,
    /// When to return to a preferred backend.
    pub failback: Failback,
}

impl Default for Policy {
    /// The documented defaults: what a `FailoverPolicy` with an empty spec means, and a route without `policyRef`.
    fn default() -> Self {
        Self {
            thresholds: Thresholds::default(),
            hold: Hold { cooldown: Duration::from_mins(10), minimum_stay: Duration::from_mins(1) },
            when_none_healthy: WhenNoneHealthy::Hold,
            failback: Failback { mode: FailbackMode::Automatic, after: Duration::from_mins(10) },
        }
    }
}

/// Consecutive results that change a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thresholds {
    /// So many failures in a row make a backend Unhealthy; at least 1.
    pub failure: u32,
    /// So many successes in a row make an Unhealthy backend Healthy; at least 1.
    pub recovery: u32,
}

impl Default for Thresholds {
    /// Probes start at least 9.5 s apart by default (10 s less 5 % jitter), so a blip of 45 s meets at most five of them:
    /// six failures ride it out. Coming back takes more evidence than leaving.
    fn default() -> Self {
        Self { failure: 6, recovery: 10 }
    }
}

/// Holds on moves that nothing forces. A dead, suspended or removed active backend is left at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// After any transition.
    pub cooldown: Duration,
    /// After arriving at a backend, the first one included.
    pub minimum_stay: Duration,
}

/// What to do when no candidate is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNoneHealthy {
    /// Stay where the mail goes now.
    Hold,
    /// Go to the most preferred candidate.
    Preferred,
}

/// When to return to a preferred backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failback {
    /// Who decides.
    pub mode: FailbackMode,
    /// How long the preferred backend must have been healthy without interruption.
    pub after: Duration,
}

/// Who decides on a failback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailbackMode {
    /// The operator.
    Automatic,
    /// A person.
    Manual,
}
