//! Looks that confirm a failure: when the next ones come after a first look that failed.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Add;
use std::time::Duration;

use crate::model::{Depth, Effect, Stage, Thresholds, TlsMode};

/// Most looks at once after a first failure, whatever a policy counts. The rest comes at the interval.
const MOST_AT_ONCE: u32 = 10;
/// Most looks at the ends of times, the shortest ones.
const MOST_TIMES: usize = 10;
/// Part of the interval that looks at once are apart.
const PART_OF_INTERVAL: u32 = 50;
/// Bounds on the time that looks at once are apart, unless the interval is shorter.
// A provider takes a handful of connections a second from one client.
const APART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Delay of the look that ends a time, so that it has not begun before.
const AFTER_THE_TIME: Duration = Duration::from_millis(5);
/// Part of the interval that a round waits for the end of a time.
// As much as six rounds may be early by: five periods, each up to 4.5 % short.
const PART_OF_WAIT: u32 = 4;

/// Looks that thresholds ask for after a first failure.
// ADR-0112: A failure is confirmed at once, and counts when it has lasted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfirmationRule {
    /// Looks at once: as many as rounds at the interval do not bring in time.
    at_once: u32,
    /// Times that a failure must have lasted for.
    lasting: BTreeSet<Duration>,
}

impl ConfirmationRule {
    /// The looks that these thresholds ask for at a probe with this interval.
    pub fn of<'a>(thresholds: impl IntoIterator<Item = &'a Thresholds>, interval: Duration) -> Self {
        let mut rules = vec![];
        for thresholds in thresholds {
            let lasting = thresholds.must_last(interval);
            let rounds = lasting.as_micros() / interval.as_micros().max(1);
            let missing =
                thresholds.failure.saturating_sub(1).saturating_sub(u32::try_from(rounds).unwrap_or(u32::MAX));
            rules.push(Self { at_once: missing.min(MOST_AT_ONCE), lasting: BTreeSet::from([lasting]) });
        }
        Self::together(&rules)
    }

    /// The looks that all of these rules ask for together.
    pub fn together<'a>(rules: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut together = Self::default();
        for rule in rules {
            together.at_once = together.at_once.max(rule.at_once);
            together.lasting.extend(&rule.lasting);
        }
        // Everybody may ask for times of his own.
        while together.lasting.len() > MOST_TIMES {
            together.lasting.pop_last();
        }
        together
    }
}

/// Result of a look, as far as its confirmation is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Look<T> {
    /// Start of the look.
    pub started: T,
    /// Effect on the verdict.
    pub effect: Effect,
    /// Stage that it ended at.
    pub stage: Stage,
}

/// Confirmation of a failure at one probe: the looks that are still to come.
#[derive(Clone, Debug)]
pub struct Confirmation<T> {
    /// Start of the newest look with a known result.
    newest: Option<T>,
    /// Start of the first look that failed; `None` after a success.
    since: Option<T>,
    /// Looks close together.
    at_once: VecDeque<T>,
    /// Ends of the times that the failure must have lasted for.
    ends: VecDeque<T>,
    /// True if the latest failure was at AUTH or later.
    is_at_login: bool,
    /// Start of the looks at once, if they were planned before the round was over.
    suspected_at: Option<T>,
}

impl<T> Default for Confirmation<T> {
    fn default() -> Self {
        Self {
            newest: None,
            since: None,
            at_once: VecDeque::new(),
            ends: VecDeque::new(),
            is_at_login: false,
            suspected_at: None,
        }
    }
}

impl<T: Copy + Ord + Add<Duration, Output = T>> Confirmation<T> {
    /// Plans looks at once for a round that has begun, in case it has no result until then.
    // Otherwise a silent server costs a timeout before the first of them, and another one for the last.
    pub fn suspect(&mut self, rule: &ConfirmationRule, interval: Duration, at: T) {
        if self.since.is_none() && rule.at_once > 0 {
            self.suspected_at = Some(at);
            self.plan(rule, interval, at);
        }
    }

    /// Takes the result of a look into account, and plans those that follow from it. Returns true if it is the first
    /// failure after a success. A look that began before the newest known one is ignored, as by a judgement.
    pub fn observe(&mut self, rule: &ConfirmationRule, interval: Duration, look: Look<T>, now: T) -> bool {
        if self.newest.is_some_and(|newest| look.started < newest) {
            return false;
        }
        self.newest = Some(look.started);
        match look.effect {
            Effect::Success => {
                *self = Self { newest: self.newest, ..Self::default() };
                false
            }
            Effect::Failure => {
                let is_first = self.since.is_none();
                let was_at_login = std::mem::replace(&mut self.is_at_login, look.stage >= Stage::Auth);
                if is_first {
                    self.since = Some(look.started);
                    let times = rule.lasting.iter().filter(|lasting| !lasting.is_zero());
                    self.ends = times.map(|lasting| look.started + *lasting + AFTER_THE_TIME).collect();
                    self.ends.retain(|end| *end > now);
                }
                // Looks under way already are those that would come now.
                let are_under_way = self.suspected_at.is_some_and(|at| look.started < at && at < now);
                if self.is_at_login {
                    // ADR-0112: Nothing from AUTH on is tried faster than the interval: accounts are locked for less.
                    self.at_once.clear();
                } else if (is_first && !are_under_way) || was_at_login {
                    self.plan(rule, interval, now);
                }
                is_first
            }
            Effect::Neutral => {
                // It is an answer all the same.
                if self.since.is_none() {
                    *self = Self { newest: self.newest, ..Self::default() };
                }
                false
            }
        }
    }

    fn plan(&mut self, rule: &ConfirmationRule, interval: Duration, from: T) {
        let apart = apart(interval);
        self.at_once = (0..rule.at_once).map(|number| from + apart * number).collect();
    }

    /// True if the newest conclusive look failed: whatever else points to a failure says nothing new.
    pub fn is_failing(&self) -> bool {
        self.since.is_some()
    }

    /// Time of the next look, beside those at the interval.
    pub fn next(&self) -> Option<T> {
        let end = self.ends.front().filter(|_| !self.is_at_login);
        self.at_once.front().into_iter().chain(end).min().copied()
    }

    /// Time of a round at the interval that would be due then: later if the failure will have lasted in a moment.
    // One look fewer, and a failed log-in waits for no further interval, since no look follows it.
    pub fn align(&self, due: T, interval: Duration) -> T {
        let latest = due + interval / PART_OF_WAIT;
        self.ends.iter().find(|end| **end >= due && **end <= latest).map_or(due, |end| *end)
    }

    /// Takes note of a look that begins now, and stands for all that were due.
    pub fn begin(&mut self, now: T) {
        for planned in [&mut self.at_once, &mut self.ends] {
            while planned.front().is_some_and(|planned| *planned <= now) {
                planned.pop_front();
            }
        }
    }
}

/// Depth of a look beside those at the interval: nothing that providers count.
pub fn depth_of_look(depth: Depth, tls: TlsMode) -> Depth {
    let deepest = if tls == TlsMode::None { Depth::Ehlo } else { Depth::StartTls };
    depth.min(deepest)
}

/// Time between two looks at once.
fn apart(interval: Duration) -> Duration {
    (interval / PART_OF_INTERVAL).clamp(APART.0, APART.1).min(interval)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn rule(failure: u32, lasting: Option<u64>) -> ConfirmationRule {
        let lasting = lasting.map(Duration::from_secs);
        ConfirmationRule::of([&Thresholds { failure, lasting, ..Thresholds::default() }], INTERVAL)
    }

    fn look(started: i64, effect: Effect, stage: Stage) -> Look<Timestamp> {
        Look { started: at(started), effect, stage }
    }

    /// The looks that come after a failure which began at 0 and is known then, in milliseconds.
    fn looks(rule: &ConfirmationRule, known: i64, stage: Stage) -> Vec<i64> {
        let mut confirmation = Confirmation::default();
        confirmation.observe(rule, INTERVAL, look(0, Effect::Failure, stage), at(known));
        let mut planned = vec![];
        while let Some(next) = confirmation.next() {
            planned.push(next.as_micros() / 1000);
            confirmation.begin(next);
        }
        planned
    }

    #[test]
    fn the_next_looks_come_at_once_close_together_and_one_when_it_has_lasted() {
        assert_eq!(looks(&rule(3, Some(0)), 2, Stage::Connect), [2, 202]);
        assert!(looks(&rule(1, Some(0)), 2, Stage::Connect).is_empty());
        // One round comes at the interval, and the last one with the end of the time.
        assert_eq!(looks(&rule(4, Some(15)), 5000, Stage::Connect), [5000, 5200, 15_005]);
        assert_eq!(looks(&rule(1000, Some(0)), 0, Stage::Banner).len(), 10);
        // By default the rounds are enough.
        assert_eq!(looks(&rule(6, None), 5000, Stage::Connect), [50_005]);
        assert_eq!(looks(&rule(3, None), 5000, Stage::Connect), [20_005]);
    }

    #[test]
    fn nothing_from_auth_on_is_tried_faster_than_its_interval() {
        for stage in [Stage::Auth, Stage::Mail, Stage::Recipient] {
            assert!(looks(&rule(6, Some(0)), 0, stage).is_empty());
        }
        assert_eq!(depth_of_look(Depth::RcptTo, TlsMode::Implicit), Depth::StartTls);
        assert_eq!(depth_of_look(Depth::Auth, TlsMode::None), Depth::Ehlo);
        assert_eq!(depth_of_look(Depth::Connect, TlsMode::StartTls), Depth::Connect);
    }

    #[test]
    fn a_success_ends_the_looks_and_what_goes_on_failing_begins_none() {
        let mut confirmation = Confirmation::default();
        let rule = rule(3, Some(5));
        assert!(confirmation.observe(&rule, INTERVAL, look(0, Effect::Failure, Stage::Banner), at(0)));
        confirmation.begin(at(0));
        confirmation.begin(at(200));
        assert!(!confirmation.observe(&rule, INTERVAL, look(200, Effect::Failure, Stage::Banner), at(201)));
        assert_eq!(confirmation.next(), Some(at(5005)));
        confirmation.begin(at(5005));
        assert!(!confirmation.observe(&rule, INTERVAL, look(5005, Effect::Failure, Stage::Banner), at(5006)));
        assert_eq!(confirmation.next(), None, "a dead backend is probed at its interval");
        confirmation.observe(&rule, INTERVAL, look(60_000, Effect::Success, Stage::Banner), at(60_000));
        assert!(confirmation.observe(&rule, INTERVAL, look(70_000, Effect::Failure, Stage::Banner), at(70_000)));
        assert!(confirmation.next().is_some());
    }

    #[test]
    fn a_failure_before_the_login_is_looked_at_although_one_at_the_login_came_first() {
        let mut confirmation = Confirmation::default();
        assert!(confirmation.observe(&rule(3, Some(0)), INTERVAL, look(0, Effect::Failure, Stage::Auth), at(5)));
        assert_eq!(confirmation.next(), None);
        assert!(!confirmation.observe(
            &rule(3, Some(0)),
            INTERVAL,
            look(10_000, Effect::Failure, Stage::Connect),
            at(10_001)
        ));
        assert_eq!(confirmation.next(), Some(at(10_001)));
    }

    #[test]
    fn looks_begin_while_a_round_is_silent_and_are_not_made_twice() {
        let (rule, silent) = (rule(3, Some(0)), look(0, Effect::Failure, Stage::Banner));
        let mut confirmation = Confirmation::default();
        confirmation.suspect(&rule, INTERVAL, at(1250));
        assert_eq!(confirmation.next(), Some(at(1250)));
        confirmation.begin(at(1250));
        confirmation.begin(at(1450));
        assert!(confirmation.observe(&rule, INTERVAL, silent, at(5000)));
        assert_eq!(confirmation.next(), None);
        // A failure that is known sooner is looked at at once.
        let mut confirmation = Confirmation::default();
        confirmation.suspect(&rule, INTERVAL, at(1250));
        assert!(confirmation.observe(&rule, INTERVAL, silent, at(3)));
        assert_eq!(confirmation.next(), Some(at(3)));
        // So is one that only a look finds, since the round's own result comes too late to count.
        let mut confirmation = Confirmation::default();
        confirmation.suspect(&rule, INTERVAL, at(1250));
        confirmation.begin(at(1250));
        assert!(confirmation.observe(&rule, INTERVAL, look(1250, Effect::Failure, Stage::Connect), at(1252)));
        assert_eq!(confirmation.next(), Some(at(1252)));
        // An answer ends them, whatever it says, and what fails already begins none.
        confirmation.observe(&rule, INTERVAL, look(1253, Effect::Success, Stage::Banner), at(1254));
        assert_eq!(confirmation.next(), None);
        confirmation.suspect(&rule, INTERVAL, at(3250));
        confirmation.observe(&rule, INTERVAL, look(2000, Effect::Neutral, Stage::Banner), at(2001));
        assert_eq!(confirmation.next(), None);
        confirmation.observe(&rule, INTERVAL, look(9000, Effect::Failure, Stage::Auth), at(9001));
        confirmation.suspect(&rule, INTERVAL, at(11_250));
        assert_eq!(confirmation.next(), None);
    }

    #[test]
    fn what_began_before_the_newest_result_begins_no_looks() {
        let mut confirmation = Confirmation::default();
        confirmation.observe(&rule(3, Some(0)), INTERVAL, look(200, Effect::Success, Stage::Banner), at(210));
        assert!(!confirmation.observe(&rule(3, Some(0)), INTERVAL, look(0, Effect::Failure, Stage::Banner), at(5000)));
        assert_eq!(confirmation.next(), None);
        assert!(confirmation.observe(
            &rule(3, Some(0)),
            INTERVAL,
            look(5000, Effect::Failure, Stage::Banner),
            at(5001)
        ));
    }

    #[test]
    fn a_round_waits_a_moment_for_the_end_of_the_time() {
        for stage in [Stage::Connect, Stage::Auth] {
            let mut confirmation = Confirmation::default();
            confirmation.observe(&rule(6, None), INTERVAL, look(0, Effect::Failure, stage), at(10));
            let due = |millis| confirmation.align(at(millis), INTERVAL).as_micros() / 1000;
            assert_eq!([39_500, 47_800, 50_004, 50_100].map(due), [39_500, 50_005, 50_005, 50_100], "{stage:?}");
        }
    }
}
