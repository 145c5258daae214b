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
/// Time after which a trial whose message has said nothing is given to another message.
// Longer than the timeouts of a session up to the data that `agent postfix-config` sets.
const TRIAL_LASTS: Duration = Duration::from_mins(3);
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
    trial: Option<(Arc<Trial>, Timestamp)>,
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
        // An attempt that began before the trial is one of those under way when the breaker opened.
        let is_of_trial =
            open.trial.as_ref().zip(began_at).is_some_and(|((trial, at), began)| trial.is_taken() && began >= *at);
        if is_of_trial {
            open.failed_trials = open.failed_trials.saturating_add(1);
            open.trial = None;
            open.next_trial_at = now + pause(open.failed_trials, policy);
        }
        false
    }

    /// Begins a trial of this backend when one is due.
    pub(super) fn handle_timeout(&mut self, now: Timestamp, backend: &Arc<str>) {
        let Some(open) = &mut self.open else { return };
        match &mut open.trial {
            None if open.next_trial_at > now => {}
            Some((_, at)) if *at + TRIAL_LASTS > now => {}
            // No message has come for it yet.
            Some((trial, at)) if !trial.is_taken() => *at = now,
            None | Some(_) => {
                self.trials += 1;
                open.trial = Some((Arc::new(Trial::new(backend.clone(), self.trials)), now));
            }
        }
    }

    /// Returns the time of the next trial, or the end of the one under way.
    pub(super) fn next_timeout(&self) -> Option<Timestamp> {
        let open = self.open.as_ref()?;
        Some(open.trial.as_ref().map_or(open.next_trial_at, |(_, at)| *at + TRIAL_LASTS))
    }

    /// Start of the time for which it has been open.
    pub(super) fn open_since(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|open| open.since)
    }

    /// The trial under way.
    pub(super) fn trial(&self) -> Option<Arc<Trial>> {
        self.open.as_ref()?.trial.as_ref().map(|(trial, _)| trial.clone())
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
