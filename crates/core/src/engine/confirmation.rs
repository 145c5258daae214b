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
    /// Start of the first look that failed; `None` after a success.
    since: Option<T>,
    planned: VecDeque<T>,
}

impl<T> Default for Confirmation<T> {
    fn default() -> Self {
        Self { since: None, planned: VecDeque::new() }
    }
}

impl<T: Copy + Ord + Add<Duration, Output = T>> Confirmation<T> {
    /// Takes the result of a look into account, and plans those that follow from it. Returns true if it is the first
    /// failure after a success.
    pub fn observe(&mut self, rule: &ConfirmationRule, interval: Duration, look: Look<T>, now: T) -> bool {
        match look.effect {
            Effect::Success => {
                *self = Self::default();
                false
            }
            // ADR-0112: Nothing from AUTH on is tried faster than the interval: accounts are locked for less.
            Effect::Failure if look.stage >= Stage::Auth => {
                self.planned.clear();
                let is_first = self.since.is_none();
                self.since.get_or_insert(look.started);
                is_first
            }
            Effect::Failure if self.since.is_none() => {
                self.since = Some(look.started);
                let apart = apart(interval);
                self.planned = (0..rule.at_once).map(|number| now + apart * number).collect();
                let times = rule.lasting.iter().filter(|lasting| !lasting.is_zero());
                let ends = times.map(|lasting| look.started + *lasting + AFTER_THE_TIME);
                self.planned.extend(ends.filter(|end| *end > now));
                self.planned.make_contiguous().sort_unstable();
                true
            }
            Effect::Failure | Effect::Neutral => false,
        }
    }

    /// Time of the next look, beside those at the interval.
    pub fn next(&self) -> Option<T> {
        self.planned.front().copied()
    }

    /// Takes note of a look that begins now, and stands for all that were due.
    pub fn begin(&mut self, now: T) {
        while self.planned.front().is_some_and(|planned| *planned <= now) {
            self.planned.pop_front();
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
        confirmation.planned.iter().map(|at| at.as_micros() / 1000).collect()
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
}
