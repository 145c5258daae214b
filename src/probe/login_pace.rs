//! Pace of a probe's log-ins: slower and slower while the server calls them too many.
//!
//! Pure: time is an argument. Providers count log-ins, and refuse them for a while once there were
//! too many. A prober that goes on at its interval keeps itself locked out, and perhaps the mail
//! servers that share its login.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use mail_failover_core::model::{EvidenceClass, Outcome, Stage};
use mail_failover_smtp::message::MAX_MESSAGE;
use mail_failover_smtp::message::bounded;

/// Longest time between two log-ins that the server calls too many, unless the probe's interval is longer.
pub const MAX_LOGIN_PAUSE: Duration = Duration::from_hours(4);

/// Pace of the log-ins of one probe. By default each round logs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginPace {
    slowed: Option<SlowedLogins>,
}

/// Log-ins that were too many.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SlowedLogins {
    /// Time between two log-ins.
    pause: Duration,
    /// Earliest time of the next log-in.
    next: Instant,
    /// Start of the latest pause. What began before it tells nothing new.
    since: Instant,
    /// The refusal, for people.
    refusal: Arc<str>,
}

impl LoginPace {
    /// Reason for which a round that starts now must end before its log-in, for people.
    pub fn postponed(&self, now: Instant) -> Option<Arc<str>> {
        let slowed = self.slowed.as_ref().filter(|slowed| now < slowed.next)?;
        let left = whole_seconds(slowed.next - now);
        Some(format!("not tried for another {left:?}: log-ins were too many ({})", slowed.refusal).into())
    }

    /// Takes the outcome of a round that was to log in, and adds to its message what follows for the next ones.
    pub fn observe(&mut self, started: Instant, now: Instant, interval: Duration, outcome: &mut Outcome) {
        let is_overtaken = self.slowed.as_ref().is_some_and(|slowed| started < slowed.since);
        if is_overtaken || outcome.stage < Stage::Auth {
            return;
        }
        let is_accepted = outcome.stage > Stage::Auth || outcome.class == EvidenceClass::Ok;
        match &mut self.slowed {
            _ if is_accepted => self.slowed = None,
            _ if outcome.class == EvidenceClass::Throttled => {
                let before = self.slowed.as_ref().map_or(interval, |slowed| slowed.pause);
                let pause = before.saturating_mul(2).min(MAX_LOGIN_PAUSE.max(interval));
                let refusal = bounded(&outcome.message, MAX_MESSAGE / 2).into();
                self.slowed = Some(SlowedLogins { pause, next: now + pause, since: now, refusal });
                let addition = format!("; the next log-in is in {:?}", whole_seconds(pause));
                outcome.message = bounded(&outcome.message, MAX_MESSAGE - addition.len()) + &addition;
            }
            // Refused for another reason. Only one that is accepted shows that they are no longer too many.
            Some(slowed) => slowed.next = now + slowed.pause,
            None => {}
        }
    }
}

/// The duration, rounded up to seconds where it is a second or more.
fn whole_seconds(duration: Duration) -> Duration {
    let is_whole = duration.subsec_nanos() == 0;
    if duration < Duration::from_secs(1) {
        duration
    } else {
        Duration::from_secs(duration.as_secs() + u64::from(!is_whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn outcome(class: EvidenceClass, stage: Stage) -> Outcome {
        let message = "AUTH: 454 4.7.0 Too many login attempts".to_owned();
        Outcome { class, stage, message, certificate_not_after: None, elapsed: Duration::ZERO }
    }

    /// Plays rounds at the interval. Returns the times of those that log in, in seconds.
    fn logins(rounds: u32, answer: impl Fn(Duration) -> (EvidenceClass, Stage)) -> Vec<u64> {
        let began = Instant::now();
        let mut pace = LoginPace::default();
        let mut logins = vec![];
        for at in (0..rounds).map(|round| INTERVAL * round) {
            if pace.postponed(began + at).is_none() {
                logins.push(at.as_secs());
                let (class, stage) = answer(at);
                pace.observe(began + at, began + at, INTERVAL, &mut outcome(class, stage));
            }
        }
        logins
    }

    #[test]
    fn log_ins_that_are_too_many_become_half_as_many_each_time_up_to_a_bound() {
        let logins = logins(4000, |_| (EvidenceClass::Throttled, Stage::Auth));
        assert_eq!(logins[..5], [0, 60, 180, 420, 900]);
        let last: Vec<_> = logins.windows(2).map(|pair| pair[1] - pair[0]).skip(9).collect();
        assert!(last.len() > 3 && last.iter().all(|gap| *gap == MAX_LOGIN_PAUSE.as_secs()), "{last:?}");
    }

    #[test]
    fn one_log_in_that_succeeds_ends_it() {
        // Accepted from the 20th minute on, for a probe of depth Auth and for a deeper one whose sender is refused.
        for then in [(EvidenceClass::Ok, Stage::Auth), (EvidenceClass::Permanent, Stage::Mail)] {
            let logins =
                logins(
                    80,
                    |at| {
                        if at < Duration::from_mins(20) { (EvidenceClass::Throttled, Stage::Auth) } else { then }
                    },
                );
            assert_eq!(logins[..6], [0, 60, 180, 420, 900, 1860]);
            assert!(logins[5..].windows(2).all(|pair| pair[1] - pair[0] == 30), "{logins:?}");
            assert_eq!(logins.len(), 23);
        }
    }

    #[test]
    fn another_refusal_neither_slows_them_down_nor_ends_it() {
        let refused = logins(20, |_| (EvidenceClass::AuthenticationRefused, Stage::Auth));
        assert_eq!(refused.len(), 20);
        let after_one = logins(40, |at| {
            let class = if at.is_zero() { EvidenceClass::Throttled } else { EvidenceClass::AuthenticationRefused };
            (class, Stage::Auth)
        });
        assert!(after_one.windows(2).all(|pair| pair[1] - pair[0] == 60), "{after_one:?}");
        // Without a log-in nothing is learnt of them: the next round may try.
        let unreachable = logins(40, |at| {
            if at.is_zero() {
                (EvidenceClass::Throttled, Stage::Auth)
            } else {
                (EvidenceClass::ConnectionRefused, Stage::Connect)
            }
        });
        assert_eq!(unreachable[..4], [0, 60, 90, 120]);
    }

    #[test]
    fn rounds_that_overlap_slow_them_down_once() {
        let began = Instant::now();
        let mut pace = LoginPace::default();
        let mut told = outcome(EvidenceClass::Throttled, Stage::Auth);
        for round in 0..3 {
            told = outcome(EvidenceClass::Throttled, Stage::Auth);
            pace.observe(
                began + Duration::from_secs(round),
                began + Duration::from_secs(10 + round),
                INTERVAL,
                &mut told,
            );
        }
        let after = |seconds| pace.postponed(began + Duration::from_secs(seconds));
        assert!(after(69).is_some() && after(70).is_none());
        assert!(!told.message.contains("next log-in"), "{}", told.message);
        let why = after(20).unwrap();
        assert_eq!(&*why, "not tried for another 50s: log-ins were too many (AUTH: 454 4.7.0 Too many login attempts)");
    }

    #[test]
    fn an_interval_beyond_the_bound_is_kept() {
        let began = Instant::now();
        let mut pace = LoginPace::default();
        let day = Duration::from_hours(24);
        pace.observe(began, began, day, &mut outcome(EvidenceClass::Throttled, Stage::Auth));
        assert!(pace.postponed(began + day).is_none());
    }
}
