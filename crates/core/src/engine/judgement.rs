use std::sync::Arc;
use std::time::Duration;

use super::latency::Slowness;
use super::window::Window;
use crate::model::{Effect, EvidenceClass, LatencyLimit, Thresholds, Timestamp};

/// The verdict about a backend, a probe of it, or one of its addresses; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
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
    /// Returns the name used in status and texts.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Observation in the form that the judgement needs.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Position in the order in which the observations of one probe were begun.
    pub sequence: u64,
    /// Start of the observation.
    pub started_at: Timestamp,
    /// End of the observation.
    pub finished_at: Timestamp,
    /// Evidence of the observation.
    pub class: EvidenceClass,
    /// Duration of a successful dialogue; `None` if it is no measure of the backend.
    pub latency: Option<Duration>,
    /// True if the observation ended before any login: a reply to it is about everybody's connections and mail, not
    /// about the number of our own log-ins.
    pub is_before_login: bool,
    /// True if it came sooner than the interval asks for (`ProbeReport::is_extra`).
    pub is_extra: bool,
    /// One line for people.
    pub message: &'a str,
}

/// Time without anything but throttling after which a backend counts as Degraded.
// ADR-0084: Nothing but throttling for five minutes is Degraded.
pub const THROTTLED_ONLY: Duration = Duration::from_mins(5);

/// Change that an observation has caused; the more, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// No change that a decision rests on.
    Nothing,
    /// A failure after a success: the backend is not known to answer any more.
    Doubted,
    /// A further success, which confirms that the backend answers.
    Answered,
    /// A turned verdict, another reason, or a change of throttling.
    Turned,
}

/// Verdict with hysteresis. Failures in a row, or too many in a time, make it Unhealthy; successes in a row make it
/// Healthy again.
///
/// Its memory does not grow: see `a_judgement_takes_bounded_memory`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Verdict by the evidence so far.
    pub health: Health,
    /// Start of the verdict.
    pub since: Timestamp,
    /// Evidence that the verdict rests on. While Unhealthy it follows a new cause once that has lasted as long as it
    /// takes to fail.
    pub class: EvidenceClass,
    /// Description of that evidence, for people.
    pub message: Arc<str>,
    /// Start of the first observation of the run of failures that made it Unhealthy; `None` unless Unhealthy. A
    /// restored verdict has failed since its start at the latest.
    pub first_failure_at: Option<Timestamp>,
    /// Start of the latest success, unless a failure has followed it.
    pub confirmed_at: Option<Timestamp>,
    failures: u32,
    successes: u32,
    /// Start of the first observation of the present run of failures, or of successes.
    run_began_at: Timestamp,
    /// Class of the latest failure.
    latest_class: EvidenceClass,
    /// Failures in a row of that class.
    same_class: u32,
    /// Successes in a row still missing until it no longer counts as throttled.
    throttled: u32,
    /// Start of a time in which nothing but throttling came, in seconds since the epoch; [`UNSET`] after a success.
    // A `Timestamp` takes twice the room, and there are many of these.
    throttled_since: u32,
    /// The newest observation that was taken into account; 0 before the first.
    sequence: u64,
    /// Latest time at which it was known to be alive or dead; before the first such observation, the time at which
    /// observing began.
    alive_at: Timestamp,
    /// Microseconds without conclusive evidence until it is stale; [`NEVER`] before it is watched.
    // A `Duration` takes twice the room, and there are many of these.
    stale_after: u64,
    /// Milliseconds that failures in a row must span.
    must_last: u32,
    /// True if the latest failure was at the log-in or later, or if nobody knows any more where it was.
    failed_at_login: bool,
    /// True if it is Unhealthy, has succeeded since, and has not failed anew for as long as it takes to fail.
    is_recovering: bool,
    /// True if decisions need not wait for this probe's first result.
    may_wait: bool,
    /// Start and reason of the time in which the probe cannot be made as it is asked for.
    blocked: Option<Box<Blocked>>,
    /// Results in the time of `failure.window`.
    // Made with the first observation under thresholds that ask for it, as is `slowness`.
    window: Option<Box<Window>>,
    slowness: Option<Box<Slowness>>,
}

/// Sentinel: staleness is not checked.
const NEVER: u64 = u64::MAX;
/// Sentinel: nothing of the kind has begun.
const UNSET: u32 = u32::MAX;

/// Reason for which a probe cannot be made as it is asked for. The earlier verdict is kept behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Start of the obstacle.
    pub since: Timestamp,
    /// Description of what is missing, for people.
    pub message: Arc<str>,
}

impl Judgement {
    /// Judgement without any evidence.
    pub fn unknown(now: Timestamp) -> Self {
        Self::restored(Health::Unknown, now, EvidenceClass::Inconclusive, Arc::default())
    }

    /// Restores a verdict from `status`. It stands until new evidence changes it by the same thresholds.
    pub fn restored(health: Health, since: Timestamp, class: EvidenceClass, message: impl Into<Arc<str>>) -> Self {
        Self {
            health,
            since,
            class,
            message: message.into(),
            first_failure_at: (health == Health::Unhealthy).then_some(since),
            confirmed_at: None,
            failures: 0,
            successes: 0,
            run_began_at: since,
            latest_class: class,
            same_class: 0,
            // So many as the thresholds ask for, which are not known here.
            throttled: if class == EvidenceClass::Throttled { u32::MAX } else { 0 },
            throttled_since: UNSET,
            sequence: 0,
            alive_at: since,
            stale_after: NEVER,
            must_last: 0,
            failed_at_login: health == Health::Unhealthy,
            is_recovering: false,
            may_wait: false,
            blocked: None,
            window: None,
            slowness: None,
        }
    }

    /// Returns the same verdict behind an obstacle that has kept the probe from being made since then.
    #[must_use]
    pub fn blocked_since(self, since: Timestamp, message: impl Into<Arc<str>>) -> Self {
        Self { blocked: Some(Box::new(Blocked { since, message: message.into() })), ..self }
    }

    /// Returns the same verdict without its observations, for thresholds that have just been changed.
    #[must_use]
    pub fn carried_over(&self) -> Self {
        Self {
            first_failure_at: self.first_failure_at,
            confirmed_at: self.confirmed_at,
            throttled: self.throttled,
            throttled_since: self.throttled_since,
            alive_at: self.alive_at,
            stale_after: self.stale_after,
            must_last: self.must_last,
            may_wait: self.may_wait,
            blocked: self.blocked.clone(),
            ..Self::restored(self.health, self.since, self.class, self.message.clone())
        }
    }

    /// Restores an earlier leader's persisted judgement. Before the first observation: the whole of it. Afterwards:
    /// `since`, class and message, if the verdict is equal; a verdict of our own that differs stands. Stale or blocked
    /// is no verdict and is not restored. A start in the future, by a clock that was ahead, counts as `now`.
    pub fn adopt(&mut self, earlier: &Judgement, now: Timestamp) {
        if matches!(earlier.class, EvidenceClass::Stale | EvidenceClass::ProbeBlocked) {
            return;
        }
        if !self.is_observed() {
            let Self { alive_at, stale_after, must_last, may_wait, .. } = *self;
            *self = Self { alive_at, stale_after, must_last, may_wait, ..earlier.carried_over() };
            self.since = self.since.min(now);
            self.first_failure_at = self.first_failure_at.map(|at| at.min(now));
        } else if self.health == earlier.health {
            self.since = earlier.since.min(now);
            self.class = earlier.class;
            self.message.clone_from(&earlier.message);
        }
    }

    /// Returns true if decisions need not wait for this probe's first result.
    pub(super) fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Returns true if decisions have to wait for this probe's first result.
    pub fn is_awaited(&self) -> bool {
        !self.may_wait && !self.is_observed()
    }

    /// Sets the time without conclusive evidence after which it is stale, from `now` on. With `may_wait`, decisions
    /// need not wait for its first result.
    pub(super) fn watch(&mut self, stale_after: Duration, may_wait: bool, now: Timestamp) {
        self.may_wait = may_wait;
        if self.stale_after == NEVER {
            self.alive_at = now;
        }
        self.stale_after = u64::try_from(stale_after.as_micros()).unwrap_or(NEVER);
    }

    /// Sets the time that failures in a row must span.
    pub(super) fn demand(&mut self, must_last: Duration) {
        self.must_last = whole_millis(must_last);
    }

    /// Returns the time that failures in a row must span.
    pub(super) fn must_last(&self) -> Duration {
        Duration::from_millis(self.must_last.into())
    }

    /// Returns true if this is the time that failures in a row must span, as it is kept.
    pub(super) fn demands(&self, must_last: Duration) -> bool {
        self.must_last == whole_millis(must_last)
    }

    /// Returns the time without conclusive evidence after which it is stale.
    pub fn stale_after(&self) -> Duration {
        if self.stale_after == NEVER { Duration::MAX } else { Duration::from_micros(self.stale_after) }
    }

    /// Returns the time at which it becomes stale without further evidence.
    pub fn stale_at(&self) -> Timestamp {
        self.alive_at + self.stale_after()
    }

    /// Returns true if there has been no conclusive evidence for so long that the verdict counts as Unknown.
    // The verdict is kept: an Unhealthy one needs the whole recovery after the silence.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        now >= self.stale_at()
    }

    /// Returns the obstacle that keeps the probe from being made, if there is one.
    pub fn blocked(&self) -> Option<&Blocked> {
        self.blocked.as_deref()
    }

    /// Returns true if an observation of this process was taken into account.
    pub fn is_observed(&self) -> bool {
        self.sequence > 0
    }

    /// Returns true if it is Unhealthy, has succeeded since, and has not failed anew for as long as it takes to fail.
    pub(super) fn is_recovering(&self) -> bool {
        self.is_recovering
    }

    /// Returns the start of the present run of successes; `None` if the latest result that counts is none.
    pub(super) fn succeeding_since(&self) -> Option<Timestamp> {
        (self.failures == 0 && self.successes > 0).then_some(self.run_began_at)
    }

    /// Returns number and start of the present run of failures, or of successes; `None` if it is one of the other kind.
    pub(super) fn run(&self, is_failing: bool) -> Option<(u32, Timestamp)> {
        let count = if is_failing { self.failures } else { self.successes };
        (count > 0).then_some((count, self.run_began_at))
    }

    /// Turns Unhealthy by a run of failures that other replicas have part in, and that began then. Returns false if it is
    /// known to fail.
    pub(super) fn fail_together(&mut self, began_at: Timestamp, message: Arc<str>, now: Timestamp) -> bool {
        if self.health == Health::Unhealthy && !self.is_recovering {
            return false;
        }
        if self.health != Health::Unhealthy {
            self.turn(Health::Unhealthy, self.latest_class, now, message);
        }
        self.is_recovering = false;
        self.first_failure_at = Some(began_at);
        true
    }

    /// Turns Healthy by a run of successes that other replicas have part in. Returns false if it is not Unhealthy.
    pub(super) fn recover_together(&mut self, now: Timestamp) -> bool {
        let is_unhealthy = self.health == Health::Unhealthy;
        if is_unhealthy {
            self.recover(self.latest_class, now, Arc::default());
        }
        is_unhealthy
    }

    fn recover(&mut self, class: EvidenceClass, now: Timestamp, message: Arc<str>) {
        self.turn(Health::Healthy, class, now, message);
        // Samples from before the recovery must not make it Unhealthy or Degraded again.
        self.window.iter_mut().for_each(|window| window.clear());
        self.slowness.iter_mut().for_each(|slowness| slowness.clear());
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Successes in a row so far.
    pub fn successes(&self) -> u32 {
        self.successes
    }

    /// Returns true if it asked for less, and fewer than `recovery` successes in a row have followed.
    pub fn is_throttled(&self) -> bool {
        self.throttled > 0
    }

    /// Takes an observation into account. Observations may overlap and arrive out of order: one that was begun before
    /// the newest known one is ignored.
    pub fn observe(&mut self, thresholds: &Thresholds, observation: Observation<'_>) -> News {
        if observation.sequence <= self.sequence {
            return News::Nothing;
        }
        self.sequence = observation.sequence;
        self.throttled = self.throttled.min(thresholds.recovery.max(1));
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
        // An observation that failed on our side does not tell that the obstacle is gone.
        let was_blocked = observation.class != EvidenceClass::Inconclusive && self.blocked.take().is_some();
        let news = match observation.class.effect() {
            Effect::Neutral if observation.class == EvidenceClass::Throttled => {
                let was_throttled = self.is_throttled();
                self.throttled = thresholds.recovery.max(1);
                let turned = self.note_throttled_only(observation);
                if was_throttled && !turned { News::Nothing } else { News::Turned }
            }
            Effect::Neutral => News::Nothing,
            Effect::Success if observation.is_extra => self.answer(observation),
            Effect::Success => self.succeed(thresholds, observation),
            Effect::Failure => self.fail(thresholds, observation),
        };
        if was_blocked { News::Turned } else { news }
    }

    /// Notes that the probe cannot be made.
    // The earlier verdict is kept, and counts again once the probe can be made.
    fn block(&mut self, observation: Observation<'_>) -> News {
        if self.blocked.as_ref().is_some_and(|blocked| *blocked.message == *observation.message) {
            return News::Nothing;
        }
        let since = self.blocked.as_ref().map_or(observation.finished_at, |blocked| blocked.since);
        self.blocked = Some(Box::new(Blocked { since, message: observation.message.into() }));
        News::Turned
    }

    /// Notes that the backend asks for less. Returns true if it has done nothing else for so long that it turns
    /// Degraded.
    fn note_throttled_only(&mut self, observation: Observation<'_>) -> bool {
        if !observation.is_before_login {
            return false;
        }
        if self.throttled_since == UNSET {
            self.throttled_since = seconds(observation.started_at);
        }
        let lasting = seconds(observation.finished_at).saturating_sub(self.throttled_since);
        let is_long = Duration::from_secs(lasting.into()) >= THROTTLED_ONLY;
        let may_turn = match self.health {
            Health::Healthy | Health::Unknown => true,
            Health::Degraded => self.class != EvidenceClass::Throttled,
            Health::Unhealthy => false,
        };
        if is_long && may_turn {
            let message = format!("nothing but throttling for {THROTTLED_ONLY:?}: {}", observation.message);
            self.turn(Health::Degraded, EvidenceClass::Throttled, observation.finished_at, message.into());
        }
        is_long && may_turn
    }

    /// Takes a success that came sooner than the interval asks for. It ends a run of failures, and counts for nothing else.
    // A recovery takes what the interval brings: otherwise looks of others would shorten it.
    fn answer(&mut self, observation: Observation<'_>) -> News {
        // What fails at the log-in is acquitted there only.
        let is_accused = self.failures > 0 || self.health == Health::Unhealthy;
        if is_accused && self.failed_at_login && observation.is_before_login {
            return News::Nothing;
        }
        self.confirmed_at = Some(observation.started_at);
        if self.health != Health::Unhealthy {
            self.failures = 0;
            self.same_class = 0;
        }
        News::Answered
    }

    fn succeed(&mut self, thresholds: &Thresholds, observation: Observation<'_>) -> News {
        if self.successes == 0 {
            self.run_began_at = observation.started_at;
        }
        self.failures = 0;
        self.successes = self.successes.saturating_add(1);
        self.latest_class = observation.class;
        self.same_class = 0;
        self.confirmed_at = Some(observation.started_at);
        self.throttled_since = UNSET;
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
            // What was throttled for long has to answer as often as after a failure.
            (Health::Degraded, _) if self.class == EvidenceClass::Throttled => {
                let has_recovered = !self.is_throttled();
                if has_recovered {
                    self.turn(Health::Healthy, observation.class, observation.finished_at, observation.message.into());
                }
                has_recovered
            }
            (Health::Degraded, Some(false)) | (Health::Unknown, _) => {
                self.turn(Health::Healthy, observation.class, observation.finished_at, observation.message.into());
                true
            }
            (Health::Unhealthy, _) if self.has_recovered(thresholds, observation) => {
                self.recover(observation.class, observation.finished_at, observation.message.into());
                true
            }
            (Health::Unhealthy, _) => {
                self.is_recovering = true;
                false
            }
            (Health::Healthy, Some(false) | None) | (Health::Degraded, Some(true) | None) => false,
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
        let has_lasted = self.has_lasted(observation);
        self.failed_at_login = !observation.is_before_login;
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.same_class = if self.latest_class == observation.class { self.same_class.saturating_add(1) } else { 1 };
        self.latest_class = observation.class;
        let was_confirmed = self.confirmed_at.take().is_some();
        let quiet = if was_confirmed { News::Doubted } else { News::Nothing };
        if self.is_throttled() {
            self.throttled = thresholds.recovery.max(1);
        }
        self.count(thresholds, observation, true);
        match self.health {
            Health::Healthy | Health::Degraded | Health::Unknown => {
                let is_run = self.failures >= thresholds.failure && has_lasted;
                let message = if is_run || thresholds.immediate.contains(observation.class) {
                    observation.message.into()
                } else if let Some(message) = self.too_many_failures(thresholds, observation) {
                    message
                } else {
                    return quiet;
                };
                self.turn(Health::Unhealthy, observation.class, observation.finished_at, message);
                self.first_failure_at = Some(self.run_began_at);
                News::Turned
            }
            Health::Unhealthy => {
                let is_run = self.failures >= thresholds.failure && has_lasted;
                let is_relapse = self.is_recovering && (is_run || thresholds.immediate.contains(observation.class));
                if is_relapse {
                    // What has answered since the failure before says nothing about this one.
                    self.first_failure_at = Some(self.run_began_at);
                    self.is_recovering = false;
                }
                let is_new_cause = self.class != observation.class && self.same_class >= thresholds.failure;
                if is_new_cause {
                    self.class = observation.class;
                    self.message = observation.message.into();
                }
                // Decisions ask if it answers.
                if is_relapse || is_new_cause || was_confirmed { News::Turned } else { quiet }
            }
        }
    }

    /// Returns true if the present run of failures spans the time that it must.
    fn has_lasted(&self, observation: Observation<'_>) -> bool {
        observation.started_at.since(self.run_began_at) >= self.must_last()
    }

    fn count(&mut self, thresholds: &Thresholds, observation: Observation<'_>, is_failure: bool) {
        // Looks after a failure would make its share larger than it is.
        if let Some(limit) = thresholds.window.as_ref().filter(|_| !observation.is_extra) {
            // ADR-0011: A failure window trips at a failure only.
            self.window.get_or_insert_default().note(limit.duration, observation.finished_at, is_failure);
        }
    }

    /// Returns a message if the share of failures in the window is too large.
    // Checked at failures only: a success cannot raise the share.
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

    /// Returns true if latency has been above the limit for long enough to count. Without a limit nothing is slow.
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
        self.is_recovering = false;
    }
}

/// Milliseconds of a duration, rounded up.
// A `Duration` takes four times the room, and there are many of these.
fn whole_millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Returns whole seconds since the epoch; the bounds stand for what is beyond them.
fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_micros().div_euclid(1_000_000).clamp(0, i64::from(UNSET) - 1)).unwrap_or(0)
}

fn too_slow(limit: &LatencyLimit) -> Arc<str> {
    format!("p{} over {:?} for {:?}", limit.percentile, limit.above, limit.held_for).into()
}

/// Returns true if the class tells that the backend is alive, or that it is dead. A neutral reply is a reply.
fn tells_of_life(class: EvidenceClass) -> bool {
    match class.effect() {
        Effect::Success | Effect::Failure => true,
        Effect::Neutral => matches!(class, EvidenceClass::Throttled | EvidenceClass::RecipientLevel),
    }
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
pub(super) mod tests;
