//! Circuit breaker of one backend. Open, it puts the backend at the end of the lists of next hops; half-open, one
//! message at a time tries the backend first again. Pure.
//!
//! It is no decision about the route: no share changes, and a message that meets an open backend goes on to the next
//! one.
// ADR-0116: A breaker orders the lists, and the route stays.

use std::sync::Arc;
use std::time::Duration;

use mail_failover_contract::routing::BreakerPolicy;
use mail_failover_core::model::{EvidenceClass, Timestamp};

use super::traffic::FailureRun;
use crate::answers::Trial;

/// Failures in a row that open it when the backend does not answer, if the policy does not want fewer.
// Each costs a message its timeout.
const SILENCES: u32 = 2;
/// Time after which a trial for which a session was begun is given to another message.
// Longer than the timeouts of a session up to the data that `agent postfix-config` sets.
const TRIAL_LASTS: Duration = Duration::from_mins(3);
/// Time after which a trial for which no session was begun is given to another message.
// smtpd(8) asks for senders, and for recipients that it refuses afterwards. A message that it accepts begins its session
// at once, unless many wait.
const SESSION_FOLLOWS: Duration = Duration::from_secs(10);
/// Time for which the result of a message that is over may be on its way.
const RESULT_FOLLOWS: Duration = Duration::from_secs(1);
/// Failed trials after which the time since the first failure counts, and not their number.
const TRIALS_OF_OUTAGE: u32 = 2;

/// State of the breaker of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    open: Option<Open>,
    /// Number of the latest trial.
    trials: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    since: Timestamp,
    failed_trials: u32,
    next_trial_at: Timestamp,
    trial: Option<Offer>,
}

/// A trial that a message may take or has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    trial: Arc<Trial>,
    /// Time since which attempts are of the trial.
    at: Timestamp,
    /// Latest time at which no message had it.
    seen_free_at: Timestamp,
    /// Time since which a message has it and nothing shows that it tries the backend.
    idle_since: Option<Timestamp>,
}

impl Offer {
    fn new(trial: Trial, now: Timestamp) -> Self {
        Self { trial: Arc::new(trial), at: now, seen_free_at: now, idle_since: None }
    }

    /// True if an attempt that began at this time is of the trial.
    // One that began before is of those under way when the breaker opened.
    fn includes(&self, began_at: Timestamp) -> bool {
        self.trial.is_taken() && began_at >= self.at
    }

    /// Takes the time into account. Returns false if the trial is to be given to another message.
    fn handle_timeout(&mut self, now: Timestamp) -> bool {
        if !self.trial.is_taken() {
            // No message has come for it yet.
            self.seen_free_at = now;
            if self.at + TRIAL_LASTS <= now {
                self.at = now;
            }
            return true;
        }
        self.idle_since = if self.is_idle() { self.idle_since.or(Some(now)) } else { None };
        self.ends_at() > now
    }

    /// True if nothing shows that its message tries the backend.
    fn is_idle(&self) -> bool {
        self.trial.is_given_back() || !self.trial.has_session()
    }

    /// The next time at which [`Self::handle_timeout`] may change anything.
    fn ends_at(&self) -> Timestamp {
        match self.idle_since {
            Some(since) if self.trial.is_given_back() => since + RESULT_FOLLOWS,
            Some(since) => since + SESSION_FOLLOWS,
            None if self.trial.is_taken() && !self.is_idle() => self.seen_free_at + TRIAL_LASTS,
            None => self.seen_free_at + SESSION_FOLLOWS,
        }
    }
}

impl Breaker {
    /// Creates one that has been open since then and gives no trial before the first pause is over.
    pub(super) fn opened(since: Timestamp, now: Timestamp, policy: &BreakerPolicy) -> Self {
        let open = Open { since, failed_trials: 0, next_trial_at: now + policy.first_pause, trial: None };
        Self { open: Some(open), trials: 0 }
    }

    /// Takes the failures in a row into account, `None` if there are none. One is enough if it `is_grave`. `began_at`
    /// is the beginning of the attempt that failed just now, if one has. Returns true if the breaker has opened.
    pub(super) fn handle(
        &mut self,
        now: Timestamp,
        run: Option<&FailureRun>,
        is_grave: bool,
        began_at: Option<Timestamp>,
        policy: &BreakerPolicy,
    ) -> bool {
        let Some(run) = run else {
            self.open = None;
            return false;
        };
        let Some(open) = &mut self.open else {
            let opens = is_grave || opens(run, policy);
            if opens {
                let next_trial_at = now + policy.first_pause;
                self.open = Some(Open { since: now, failed_trials: 0, next_trial_at, trial: None });
            }
            return opens;
        };
        if open.trial.as_ref().zip(began_at).is_some_and(|(offer, began)| offer.includes(began)) {
            open.failed_trials = open.failed_trials.saturating_add(1);
            open.trial = None;
            open.next_trial_at = now + pause(open.failed_trials, policy);
        }
        false
    }

    /// Takes a result into account that is no failure and no success: another message tries the backend, at once if it
    /// `is_alive`, and otherwise after the same pause as before. `began_at` is the beginning of the attempt.
    pub(super) fn undecided(&mut self, now: Timestamp, began_at: Timestamp, is_alive: bool, policy: &BreakerPolicy) {
        let Some(open) = &mut self.open else { return };
        if open.trial.as_ref().is_some_and(|offer| offer.includes(began_at)) {
            open.trial = None;
            open.next_trial_at = if is_alive { now } else { now + pause(open.failed_trials, policy) };
        }
    }

    /// Begins a trial of this backend when one is due.
    pub(super) fn handle_timeout(&mut self, now: Timestamp, backend: &Arc<str>) {
        let Some(open) = &mut self.open else { return };
        let is_due = match &mut open.trial {
            None => open.next_trial_at <= now,
            Some(offer) => !offer.handle_timeout(now),
        };
        if is_due {
            self.trials += 1;
            open.trial = Some(Offer::new(Trial::new(backend.clone(), self.trials), now));
        }
    }

    /// Returns the time of the next trial, or the end of the one under way.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        let open = self.open.as_ref()?;
        Some(open.trial.as_ref().map_or(open.next_trial_at, Offer::ends_at))
    }

    /// Start of the time for which it has been open.
    pub(super) fn open_since(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|open| open.since)
    }

    /// The trial under way.
    pub(super) fn trial(&self) -> Option<Arc<Trial>> {
        self.open.as_ref()?.trial.as_ref().map(|offer| offer.trial.clone())
    }

    /// Time before which no message tries the backend first.
    pub(super) fn next_trial_at(&self) -> Option<Timestamp> {
        self.open.as_ref().filter(|open| open.trial.is_none()).map(|open| open.next_trial_at)
    }

    /// True if trials have failed, so that failures are rare because few messages try the backend.
    pub(super) fn is_outage(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.failed_trials >= TRIALS_OF_OUTAGE)
    }
}

fn opens(run: &FailureRun, policy: &BreakerPolicy) -> bool {
    let is_silent = run.class == EvidenceClass::NoAnswer;
    let enough = if is_silent { SILENCES.min(policy.consecutive) } else { policy.consecutive };
    run.failures >= enough
}

/// Returns the pause after this number of failed trials.
fn pause(failed_trials: u32, policy: &BreakerPolicy) -> Duration {
    policy.first_pause.saturating_mul(1 << failed_trials.min(16)).min(policy.longest_pause)
}
