use crate::model::{Effect, EvidenceClass, Thresholds, Timestamp};

/// The verdict about a backend, a probe of it, or one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Mail can leave this way.
    Healthy,
    /// Degraded.
    Degraded,
    /// Mail cannot leave this way.
    Unhealthy,
    /// Not enough evidence: never a reason to leave, never good enough to go to.
    Unknown,
}

impl Health {
    /// n.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Unhealthy => "Unhealthy",
            Self::Unknown => "Unknown",
        }
    }
}

/// One observation, as the judgement needs it.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Position in the order in which the observations of one probe were begun.
    pub sequence: u64,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When its result was known.
    pub finished_at: Timestamp,
    /// What it says.
    pub class: EvidenceClass,
    /// One line for people.
    pub message: &'a str,
}

/// A verdict with hysteresis: consecutive failures make it Unhealthy, consecutive successes Healthy again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub health: Health,
    /// Since when it stands.
    pub since: Timestamp,
    /// What it rests on; while Unhealthy it follows a cause that has lasted as long as it takes to fail.
    pub class: EvidenceClass,
    /// What was seen, for people.
    pub message: String,
    /// When the first observation of the current run of failures was begun.
    pub first_failure_at: Option<Timestamp>,
    failures: u32,
    successes: u32,
    /// How many of the latest failures in a row were of one class, and which.
    same_class: (EvidenceClass, u32),
    /// The newest observation that was taken into account; 0 before the first.
    sequence: u64,
}

impl Judgement {
    /// Nothing is known yet.
    pub fn unknown(now: Timestamp) -> Self {
        Self::restored(Health::Unknown, now, EvidenceClass::Inconclusive, String::new())
    }

    /// A verdict taken over from `status` after a restart: it stands until new evidence changes it by the same thresholds.
    pub fn restored(health: Health, since: Timestamp, class: EvidenceClass, message: String) -> Self {
        Self {
            health,
            since,
            class,
            message,
            first_failure_at: None,
            failures: 0,
            successes: 0,
            same_class: (class, 0),
            sequence: 0,
        }
    }

    /// The same verdict, before any observation of a new series: for thresholds that have just been changed.
    #[must_use]
    pub fn carried_over(&self) -> Self {
        Self {
            first_failure_at: self.first_failure_at,
            ..Self::restored(self.health, self.since, self.class, self.message.clone())
        }
    }

    /// Takes over what an earlier leader wrote down: all of it while nothing was observed; since when and why, once it is the same
    /// verdict. A verdict of our own that differs stands.
    pub fn adopt(&mut self, earlier: &Judgement) {
        if !self.is_observed() {
            *self = earlier.carried_over();
        } else if self.health == earlier.health {
            self.since = earlier.since;
            self.class = earlier.class;
            self.message.clone_from(&earlier.message);
        }
    }

    /// Whether any observation of this process was taken into account.
    pub fn is_observed(&self) -> bool {
        self.sequence > 0
    }

    /// Takes an observation into account. Observations may overlap and arrive out of order: one that was begun before the newest
    /// that is already known says nothing new and is ignored. Returns whether the verdict or its class changed.
    pub fn observe(&mut self, thresholds: Thresholds, observation: Observation<'_>) -> bool {
        if observation.sequence <= self.sequence {
            return false;
        }
        self.sequence = observation.sequence;
        match observation.class.effect() {
            Effect::Neutral => false,
            Effect::Success => self.succeed(thresholds, observation),
            Effect::Failure => self.fail(thresholds, observation),
        }
    }

    fn succeed(&mut self, thresholds: Thresholds, observation: Observation<'_>) -> bool {
        self.failures = 0;
        self.first_failure_at = None;
        self.same_class = (observation.class, 0);
        self.successes = self.successes.saturating_add(1);
        let recovered = match self.health {
            Health::Healthy | Health::Degraded => false,
            Health::Unknown => true,
            Health::Unhealthy => self.successes >= thresholds.recovery,
        };
        if recovered {
            self.turn(Health::Healthy, observation);
        }
        recovered
    }

    fn fail(&mut self, thresholds: Thresholds, observation: Observation<'_>) -> bool {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.first_failure_at.get_or_insert(observation.started_at);
        self.same_class = match self.same_class {
            (class, run) if class == observation.class => (class, run.saturating_add(1)),
            _ => (observation.class, 1),
        };
        match self.health {
            Health::Healthy | Health::Degraded | Health::Unknown if self.failures >= thresholds.failure => {
                self.turn(Health::Unhealthy, observation);
                true
            }
            Health::Unhealthy if self.class != observation.class && self.same_class.1 >= thresholds.failure => {
                self.class = observation.class;
                observation.message.clone_into(&mut self.message);
                true
            }
            Health::Healthy | Health::Degraded | Health::Unknown | Health::Unhealthy => false,
        }
    }

    fn turn(&mut self, health: Health, observation: Observation<'_>) {
        self.health = health;
        self.since = observation.finished_at;
        self.class = observation.class;
        observation.message.clone_into(&mut self.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE_TWO: Thresholds = Thresholds {
        failure: 3,
        recovery: 2,
        stable_for: std::time::Duration::ZERO,
        window: None,
        latency: None,
        immediate: crate::model::EvidenceClasses::NONE,
    };

    fn judge(classes: &[EvidenceClass]) -> Judgement {
        let mut judgement = Judgement::unknown(Timestamp::from_micros(0));
        for (class, sequence) in classes.iter().zip(1..) {
            judgement.observe(THREE_TWO, observation(sequence, *class));
        }
        judgement
    }

    fn observation(sequence: u64, class: EvidenceClass) -> Observation<'static> {
        let at = Timestamp::from_micros(i64::try_from(sequence).unwrap());
        Observation { sequence, started_at: at, finished_at: at, class, message: class.as_str() }
    }

    #[test]
    fn verdicts_follow_runs_of_evidence() {
        use EvidenceClass::{ConnectionRefused as Refused, Inconclusive, NoAnswer, Ok, RecipientLevel, Throttled};
        let cases: &[(&[EvidenceClass], Health)] = &[
            (&[], Health::Unknown),
            (&[Ok], Health::Healthy),
            (&[Refused, Refused], Health::Unknown),
            (&[Refused, Refused, Refused], Health::Unhealthy),
            (&[Ok, Refused, Refused, Ok, Refused, Refused], Health::Healthy),
            (&[Ok, Refused, NoAnswer, Refused], Health::Unhealthy),
            (&[Ok, Refused, Throttled, Refused, Inconclusive, Refused], Health::Unhealthy),
            (&[Ok, Throttled, Throttled, Throttled, RecipientLevel, RecipientLevel, Inconclusive], Health::Healthy),
            (&[Throttled, RecipientLevel], Health::Unknown),
            (&[Refused, Refused, Refused, Ok], Health::Unhealthy),
            (&[Refused, Refused, Refused, Ok, Refused, Ok], Health::Unhealthy),
            (&[Refused, Refused, Refused, Ok, Throttled, Ok], Health::Healthy),
        ];
        for (classes, health) in cases {
            assert_eq!(judge(classes).health, *health, "{classes:?}");
        }
    }

    #[test]
    fn a_lasting_new_cause_replaces_the_reason_but_not_the_time() {
        use EvidenceClass::{ConnectionRefused, NoAnswer};
        let judgement = judge(&[ConnectionRefused, ConnectionRefused, ConnectionRefused, NoAnswer, NoAnswer]);
        assert_eq!(judgement.class, ConnectionRefused);
        let judgement = judge(&[ConnectionRefused, ConnectionRefused, ConnectionRefused, NoAnswer, NoAnswer, NoAnswer]);
        assert_eq!((judgement.class, judgement.since), (NoAnswer, Timestamp::from_micros(3)));
    }

    #[test]
    fn an_older_observation_that_arrives_late_changes_nothing() {
        let mut judgement = judge(&[EvidenceClass::Ok]);
        for sequence in [4, 5] {
            judgement.observe(THREE_TWO, observation(sequence, EvidenceClass::NoAnswer));
        }
        judgement.observe(THREE_TWO, observation(2, EvidenceClass::Ok));
        judgement.observe(THREE_TWO, observation(6, EvidenceClass::NoAnswer));
        assert_eq!(judgement.health, Health::Unhealthy);
        assert_eq!(judgement.first_failure_at, Some(Timestamp::from_micros(4)));
    }
}
