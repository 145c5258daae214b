use std::sync::Arc;
use std::time::Duration;

use super::latency::Slowness;
use super::window::Window;
use crate::model::{Effect, EvidenceClass, LatencyLimit, Thresholds, Timestamp};

/// The verdict about a backend, a probe of it, or one of its addresses; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Mail can leave this way.
    Healthy,
    /// Mail can leave this way, slower than it should.
    Degraded,
    /// Not enough evidence: never a reason to leave, never good enough to go to.
    Unknown,
    /// Mail cannot leave this way.
    Unhealthy,
}

impl Health {
    /// The name used in status and texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Unknown => "Unknown",
            Self::Unhealthy => "Unhealthy",
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
    /// How long a success took; `None` when that says nothing.
    pub latency: Option<Duration>,
    /// One line for people.
    pub message: &'a str,
}

/// What an observation has changed; the more, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Nothing that a decision rests on.
    Nothing,
    /// The backend has answered as it should, again: who waits for a confirmation has it.
    Answered,
    /// A verdict, its reason, or whether the backend throttles.
    Turned,
}

/// A verdict with hysteresis: failures in a row, or too many in a time, make it Unhealthy; successes in a row Healthy again.
///
/// Its memory does not grow: see `a_judgement_takes_bounded_memory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub health: Health,
    /// Since when it stands.
    pub since: Timestamp,
    /// What it rests on; while Unhealthy it follows a cause that has lasted as long as it takes to fail.
    pub class: EvidenceClass,
    /// What was seen, for people.
    pub message: Arc<str>,
    /// When the first observation of the run of failures that made it Unhealthy was begun; `None` unless Unhealthy.
    pub first_failure_at: Option<Timestamp>,
    /// When the latest success was begun, unless a failure has followed it.
    pub confirmed_at: Option<Timestamp>,
    failures: u32,
    successes: u32,
    /// When the first of the present run of failures, or of successes, was begun.
    run_began_at: Timestamp,
    /// How many of the latest failures in a row were of one class, and which.
    same_class: (EvidenceClass, u32),
    /// So many successes in a row are still missing until it no longer counts as throttled.
    throttled: u32,
    /// The newest observation that was taken into account; 0 before the first.
    sequence: u64,
    /// When it was last known to be alive or dead; before the first such observation, when we began to look.
    alive_at: Timestamp,
    /// In microseconds, [`NEVER`] before it is watched: a `Duration` takes twice the room, and there are many of these.
    stale_after: u64,
    /// Whether nobody waits for its first observation.
    may_wait: bool,
    /// Since when the probe cannot be made as it is asked for, and why.
    blocked: Option<Box<Blocked>>,
    /// Made with the first observation under thresholds that ask for it, as is `slowness`.
    window: Option<Box<Window>>,
    slowness: Option<Box<Slowness>>,
}

/// No silence is too long.
const NEVER: u64 = u64::MAX;

/// Why a probe cannot be made as it is asked for. What it has said before stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Since when.
    pub since: Timestamp,
    /// What is missing, for people.
    pub message: Arc<str>,
}

impl Judgement {
    /// Nothing is known yet.
    pub fn unknown(now: Timestamp) -> Self {
        Self::restored(Health::Unknown, now, EvidenceClass::Inconclusive, Arc::default())
    }

    /// A verdict taken over from `status` after a restart: it stands until new evidence changes it by the same thresholds.
    pub fn restored(health: Health, since: Timestamp, class: EvidenceClass, message: impl Into<Arc<str>>) -> Self {
        Self {
            health,
            since,
            class,
            message: message.into(),
            first_failure_at: None,
            confirmed_at: None,
            failures: 0,
            successes: 0,
            run_began_at: since,
            same_class: (class, 0),
            throttled: 0,
            sequence: 0,
            alive_at: since,
            stale_after: NEVER,
            may_wait: false,
            blocked: None,
            window: None,
            slowness: None,
        }
    }

    /// The same verdict, before any observation of a new series: for thresholds that have just been changed.
    #[must_use]
    pub fn carried_over(&self) -> Self {
        Self {
            first_failure_at: self.first_failure_at,
            confirmed_at: self.confirmed_at,
            throttled: self.throttled,
            alive_at: self.alive_at,
            stale_after: self.stale_after,
            may_wait: self.may_wait,
            blocked: self.blocked.clone(),
            ..Self::restored(self.health, self.since, self.class, self.message.clone())
        }
    }

    /// Takes over what an earlier leader wrote down: all of it while nothing was observed; since when and why, once it is the same
    /// verdict. A verdict of our own that differs stands. That evidence was stale, or a probe blocked, is no verdict to take over.
    pub fn adopt(&mut self, earlier: &Judgement) {
        if matches!(earlier.class, EvidenceClass::Stale | EvidenceClass::ProbeBlocked) {
            return;
        }
        if !self.is_observed() {
            let Self { alive_at, stale_after, may_wait, .. } = *self;
            *self = Self { alive_at, stale_after, may_wait, ..earlier.carried_over() };
        } else if self.health == earlier.health {
            self.since = earlier.since;
            self.class = earlier.class;
            self.message.clone_from(&earlier.message);
        }
    }

    /// Whether nobody waits for its first observation.
    pub(super) fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Whether an observation of this process is waited for.
    pub fn is_awaited(&self) -> bool {
        !self.may_wait && !self.is_observed()
    }

    /// From `now` on, silence for so long is worth telling: see [`Judgement::is_stale`].
    /// With `may_wait` nobody waits for its first observation.
    pub(super) fn watch(&mut self, stale_after: Duration, may_wait: bool, now: Timestamp) {
        self.may_wait = may_wait;
        if self.stale_after == NEVER {
            self.alive_at = now;
        }
        self.stale_after = u64::try_from(stale_after.as_micros()).unwrap_or(NEVER);
    }

    /// How long there may be no conclusive evidence.
    pub fn stale_after(&self) -> Duration {
        if self.stale_after == NEVER { Duration::MAX } else { Duration::from_micros(self.stale_after) }
    }

    /// When it becomes stale without further evidence.
    pub fn stale_at(&self) -> Timestamp {
        self.alive_at + self.stale_after()
    }

    /// Whether there has been no conclusive evidence for so long that the verdict says nothing any more. It stands all the same: what
    /// was Unhealthy before the silence needs the whole recovery after it.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now >= self.stale_at()
    }

    /// Why the probe cannot be made as it is asked for, if it cannot.
    pub fn blocked(&self) -> Option<&Blocked> {
        self.blocked.as_deref()
    }

    /// Whether any observation of this process was taken into account.
    pub fn is_observed(&self) -> bool {
        self.sequence > 0
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Successes in a row so far.
    pub fn successes(&self) -> u32 {
        self.successes
    }

    /// Whether it asked for less, and `recovery` successes in a row have not followed yet.
    pub fn is_throttled(&self) -> bool {
        self.throttled > 0
    }

    /// Takes an observation into account. Observations may overlap and arrive out of order: one that was begun before the newest
    /// that is already known says nothing new and is ignored.
    pub fn observe(&mut self, thresholds: &Thresholds, observation: Observation<'_>) -> News {
        if observation.sequence <= self.sequence {
            return News::Nothing;
        }
        self.sequence = observation.sequence;
        if tells_of_life(observation.class) {
            if self.is_stale(observation.finished_at)
                && let Some(slowness) = &mut self.slowness
            {
                slowness.clear();
            }
            self.alive_at = observation.finished_at;
        }
        if observation.class == EvidenceClass::ProbeBlocked {
            return self.block(observation);
        }
        // Our own trouble says nothing about what was missing.
        let was_blocked = observation.class != EvidenceClass::Inconclusive && self.blocked.take().is_some();
        let news = match observation.class.effect() {
            Effect::Neutral if observation.class == EvidenceClass::Throttled => {
                let was_throttled = self.is_throttled();
                self.throttled = thresholds.recovery.max(1);
                if was_throttled { News::Nothing } else { News::Turned }
            }
            Effect::Neutral => News::Nothing,
            Effect::Success => self.succeed(thresholds, observation),
            Effect::Failure => self.fail(thresholds, observation),
        };
        if was_blocked { News::Turned } else { news }
    }

    /// What was known stands behind it, and counts again once the probe can be made.
    fn block(&mut self, observation: Observation<'_>) -> News {
        if self.blocked.as_ref().is_some_and(|blocked| *blocked.message == *observation.message) {
            return News::Nothing;
        }
        let since = self.blocked.as_ref().map_or(observation.finished_at, |blocked| blocked.since);
        self.blocked = Some(Box::new(Blocked { since, message: observation.message.into() }));
        News::Turned
    }

    fn succeed(&mut self, thresholds: &Thresholds, observation: Observation<'_>) -> News {
        if self.successes == 0 {
            self.run_began_at = observation.started_at;
        }
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        self.same_class = (observation.class, 0);
        self.confirmed_at = Some(observation.started_at);
        let was_throttled = self.is_throttled();
        self.throttled = self.throttled.saturating_sub(1);
        self.count(thresholds, observation, false);
        let is_slow = self.is_slow(thresholds, observation);
        let turned = match (self.health, is_slow) {
            (Health::Healthy, Some(true)) => {
                let message = thresholds.latency.as_ref().map(too_slow).unwrap_or_default();
                self.turn(Health::Degraded, EvidenceClass::Slow, observation.finished_at, message);
                true
            }
            (Health::Degraded, Some(false)) | (Health::Unknown, _) => {
                self.turn(Health::Healthy, observation.class, observation.finished_at, observation.message.into());
                true
            }
            (Health::Unhealthy, _) if self.has_recovered(thresholds, observation) => {
                self.turn(Health::Healthy, observation.class, observation.finished_at, observation.message.into());
                // What was before must not make it Unhealthy or Degraded again.
                self.window.iter_mut().for_each(|window| window.clear());
                self.slowness.iter_mut().for_each(|slowness| slowness.clear());
                true
            }
            (Health::Healthy, Some(false) | None) | (Health::Degraded, Some(true) | None) | (Health::Unhealthy, _) => {
                false
            }
        };
        if turned || was_throttled != self.is_throttled() { News::Turned } else { News::Answered }
    }

    fn has_recovered(&self, thresholds: &Thresholds, observation: Observation<'_>) -> bool {
        self.successes >= thresholds.recovery
            && observation.finished_at.since(self.run_began_at) >= thresholds.stable_for
    }

    fn fail(&mut self, thresholds: &Thresholds, observation: Observation<'_>) -> News {
        if self.failures == 0 {
            self.run_began_at = observation.started_at;
        }
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.same_class = match self.same_class {
            (class, run) if class == observation.class => (class, run.saturating_add(1)),
            _ => (observation.class, 1),
        };
        self.confirmed_at = None;
        if self.is_throttled() {
            self.throttled = thresholds.recovery.max(1);
        }
        self.count(thresholds, observation, true);
        match self.health {
            Health::Healthy | Health::Degraded | Health::Unknown => {
                let message = if self.failures >= thresholds.failure || thresholds.immediate.contains(observation.class)
                {
                    observation.message.into()
                } else if let Some(message) = self.too_many_failures(thresholds, observation) {
                    message
                } else {
                    return News::Nothing;
                };
                self.turn(Health::Unhealthy, observation.class, observation.finished_at, message);
                self.first_failure_at = Some(self.run_began_at);
                News::Turned
            }
            Health::Unhealthy if self.class != observation.class && self.same_class.1 >= thresholds.failure => {
                self.class = observation.class;
                self.message = observation.message.into();
                News::Turned
            }
            Health::Unhealthy => News::Nothing,
        }
    }

    fn count(&mut self, thresholds: &Thresholds, observation: Observation<'_>, is_failure: bool) {
        if let Some(limit) = &thresholds.window {
            self.window.get_or_insert_default().note(limit.duration, observation.finished_at, is_failure);
        }
    }

    /// What to say when the share of failures in the window is too large. Asked at failures only: nothing fails by a success.
    fn too_many_failures(&self, thresholds: &Thresholds, observation: Observation<'_>) -> Option<Arc<str>> {
        let (limit, window) = (thresholds.window.as_ref()?, self.window.as_ref()?);
        let (samples, failures) = window.counts();
        let is_reached =
            samples >= u64::from(limit.minimum_samples) && failures * 100 >= u64::from(limit.failure_percent) * samples;
        is_reached.then(|| {
            let duration = limit.duration;
            format!("{failures} of {samples} failed within {duration:?}, the latest: {}", observation.message).into()
        })
    }

    /// Whether it is slow, where that has held for long enough to count. Without a limit nothing is slow.
    fn is_slow(&mut self, thresholds: &Thresholds, observation: Observation<'_>) -> Option<bool> {
        match (&thresholds.latency, observation.latency) {
            (None, _) => Some(false),
            (Some(_), None) => None,
            (Some(limit), Some(latency)) => {
                self.slowness.get_or_insert_default().note(limit, latency, observation.finished_at)
            }
        }
    }

    fn turn(&mut self, health: Health, class: EvidenceClass, since: Timestamp, message: Arc<str>) {
        self.health = health;
        self.since = since;
        self.class = class;
        self.message = message;
        self.first_failure_at = None;
    }
}

fn too_slow(limit: &LatencyLimit) -> Arc<str> {
    format!("p{} over {:?} for {:?}", limit.percentile, limit.above, limit.held_for).into()
}

/// Whether an observation of this class tells that the backend is alive, or that it is dead. A reply that counts neither way is a reply.
fn tells_of_life(class: EvidenceClass) -> bool {
    match class.effect() {
        Effect::Success | Effect::Failure => true,
        Effect::Neutral => matches!(class, EvidenceClass::Throttled | EvidenceClass::RecipientLevel),
    }
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
pub(super) mod tests;
