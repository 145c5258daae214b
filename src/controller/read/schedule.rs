//! Times of the reads, and the answers that are news. No I/O; time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::jittered;
use mail_failover_core::model::{ObjectKey, SharedError};
use mail_failover_resolve::{CaKey, LoginKey, ReadProblem};
use mail_failover_runtime::backoff::Backoff;

// ADR-0032: Read CAs and logins by name every 30 s.
const GOOD_INTERVAL: Duration = Duration::from_secs(30);
const BAD_INTERVAL: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Failures in a row after which an object of which nothing is known is reported as unreadable.
// Users need not see an outage of seconds.
const FAILURES_UNTIL_REPORTED: u32 = 3;
/// Refusals in a row after which a known answer is given up.
// An API server that has just started refuses everything for a while.
const DENIALS_UNTIL_GIVEN_UP: u32 = 6;

/// A key of an object in a namespace.
pub trait Namespaced {
    /// Namespace of the object.
    fn namespace(&self) -> &Arc<str>;
}

impl Namespaced for ObjectKey {
    fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }
}

impl Namespaced for CaKey {
    fn namespace(&self) -> &Arc<str> {
        &self.object.namespace
    }
}

impl Namespaced for LoginKey {
    fn namespace(&self) -> &Arc<str> {
        &self.object.namespace
    }
}

/// Outcome of one read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome<V> {
    /// The API server has answered.
    Answer(Answer<V>),
    /// The API server has not answered.
    Failed {
        /// Cause of the failure, for people.
        error: SharedError,
        /// True if the API server refuses, which it will do until a right is granted.
        denied: bool,
    },
}

/// Content of an object, or its defect.
pub type Answer<V> = Result<V, ReadProblem>;

/// A read that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read<K> {
    pub key: K,
    /// Number of the use that it is for.
    // The same object may have been used before.
    number: u64,
}

#[derive(Debug)]
struct ScheduledRead<V> {
    /// Time of the next read; `None` while one is under way.
    due: Option<Instant>,
    number: u64,
    last_reported: Option<Answer<V>>,
    failures: u32,
    denials: u32,
    backoff: Backoff,
}

/// Schedule of the objects in use. Namespaces take turns, and have equal shares of the reads in a second.
#[derive(Debug)]
pub(super) struct Schedule<K, V> {
    entries: BTreeMap<K, ScheduledRead<V>>,
    namespaces: BTreeMap<Arc<str>, NamespaceReads>,
    reads_per_second: u32,
    numbers: u64,
    turns: u64,
}

/// Reads of one namespace.
#[derive(Debug, Default)]
struct NamespaceReads {
    /// Number of the objects in use.
    used: u32,
    /// Number of the latest turn; 0 before the first.
    turn: u64,
}

impl<K: Clone + Ord + Namespaced, V: Clone + PartialEq> Schedule<K, V> {
    pub(super) fn new(reads_per_second: u32) -> Self {
        Self { entries: BTreeMap::new(), namespaces: BTreeMap::new(), reads_per_second, numbers: 0, turns: 0 }
    }

    /// Number of the objects in use.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Replaces the objects in use. New ones are due at once.
    pub(super) fn use_only(&mut self, used: &BTreeSet<K>, now: Instant) {
        if self.entries.len() == used.len() && self.entries.keys().eq(used) {
            return;
        }
        self.entries.retain(|key, _| used.contains(key));
        self.namespaces.values_mut().for_each(|namespace| namespace.used = 0);
        for key in used {
            self.namespaces.entry(key.namespace().clone()).or_default().used += 1;
            if !self.entries.contains_key(key) {
                self.numbers += 1;
                let backoff = Backoff::new(FIRST_BACKOFF, BAD_INTERVAL);
                let entry = ScheduledRead {
                    due: Some(now),
                    number: self.numbers,
                    last_reported: None,
                    failures: 0,
                    denials: 0,
                    backoff,
                };
                self.entries.insert(key.clone(), entry);
            }
        }
        self.namespaces.retain(|_, namespace| namespace.used > 0);
    }

    /// Time of the next read.
    pub(super) fn due(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.due).min()
    }

    /// Begins the read that has been due for the longest time, of the namespace whose last turn was the longest ago; it
    /// is under way until it is [answered](Self::answered).
    pub(super) fn next(&mut self, now: Instant) -> Option<Read<K>> {
        let namespaces = &self.namespaces;
        let turn = |key: &K| namespaces.get(key.namespace()).map_or(0, |namespace| namespace.turn);
        let due = self.entries.iter_mut().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now));
        let (key, entry) = due.min_by_key(|(key, entry)| (turn(key), entry.due))?;
        entry.due = None;
        self.turns += 1;
        let (key, number) = (key.clone(), entry.number);
        self.namespaces.entry(key.namespace().clone()).or_default().turn = self.turns;
        Some(Read { key, number })
    }

    /// Shortest pause between two reads of an object, so that those of its namespace keep to their share.
    fn least_pause(&self, key: &K) -> Duration {
        let used = self.namespaces.get(key.namespace()).map_or(1, |namespace| namespace.used);
        let namespaces = u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX).max(1);
        Duration::from_secs(1).saturating_mul(used).saturating_mul(namespaces) / self.reads_per_second
    }

    /// Ends a read. Returns the answer if it is news.
    pub(super) fn answered(&mut self, read: &Read<K>, now: Instant, outcome: ReadOutcome<V>) -> Option<Answer<V>> {
        let least = self.least_pause(&read.key);
        // It may have gone out of use, and come back, while it was being read.
        let entry = self.entries.get_mut(&read.key).filter(|entry| entry.number == read.number)?;
        let (pause, answer) = match outcome {
            ReadOutcome::Answer(answer) => {
                entry.backoff.reset();
                (entry.failures, entry.denials) = (0, 0);
                (jittered(if answer.is_ok() { GOOD_INTERVAL } else { BAD_INTERVAL }), Some(answer))
            }
            ReadOutcome::Failed { error, denied } => {
                entry.failures = entry.failures.saturating_add(1);
                entry.denials = if denied { entry.denials.saturating_add(1) } else { 0 };
                let known = matches!(
                    &entry.last_reported,
                    Some(Ok(_) | Err(ReadProblem::NotFound | ReadProblem::Malformed(_)))
                );
                let is_given_up = entry.denials >= DENIALS_UNTIL_GIVEN_UP;
                let tell = is_given_up || (!known && (denied || entry.failures >= FAILURES_UNTIL_REPORTED));
                (entry.backoff.after_failure(), tell.then_some(Err(ReadProblem::Unreadable(error))))
            }
        };
        entry.due = Some(now + pause.max(least));
        let answer = answer.filter(|answer| entry.last_reported.as_ref() != Some(answer))?;
        entry.last_reported = Some(answer.clone());
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("shop", name)
    }

    fn good(text: &str) -> ReadOutcome<String> {
        ReadOutcome::Answer(Ok(text.to_owned()))
    }

    fn bad(problem: ReadProblem) -> ReadOutcome<String> {
        ReadOutcome::Answer(Err(problem))
    }

    fn failed(denied: bool) -> ReadOutcome<String> {
        ReadOutcome::Failed { error: "no answer".into(), denied }
    }

    fn of(names: &[&str]) -> BTreeSet<ObjectKey> {
        names.iter().map(|name| key(name)).collect()
    }

    fn schedule(names: &[&str], now: Instant) -> Schedule<ObjectKey, String> {
        let mut schedule = Schedule::new(20);
        schedule.use_only(&of(names), now);
        schedule
    }

    /// True for each outcome whose answer was passed on.
    fn told(outcomes: impl IntoIterator<Item = ReadOutcome<String>>) -> Vec<bool> {
        let mut now = Instant::now();
        let mut schedule = schedule(&["a"], now);
        let told = outcomes.into_iter().map(|outcome| {
            now = schedule.due().expect("one is in use");
            let read = schedule.next(now).expect("it is due");
            schedule.answered(&read, now, outcome).is_some()
        });
        told.collect()
    }

    #[test]
    fn only_news_is_told() {
        let malformed = |why: &str| bad(ReadProblem::Malformed(why.into()));
        for (what, outcomes, want) in [
            ("the same answer", vec![good("x"), good("x"), good("y"), good("y")], vec![true, false, true, false]),
            (
                "missing",
                vec![bad(ReadProblem::NotFound), bad(ReadProblem::NotFound), good("x")],
                vec![true, false, true],
            ),
            ("malformed", vec![malformed("a"), malformed("a"), malformed("b")], vec![true, false, true]),
            ("gone", vec![good("x"), bad(ReadProblem::NotFound), good("x")], vec![true, true, true]),
            (
                "an outage",
                vec![good("x"), failed(false), failed(true), good("x"), good("y")],
                vec![true, false, false, false, true],
            ),
            (
                "an outage while missing",
                vec![bad(ReadProblem::NotFound), failed(true), bad(ReadProblem::NotFound)],
                vec![true, false, false],
            ),
            (
                "denied for long, although known",
                std::iter::once(good("x")).chain(std::iter::repeat_n(failed(true), 7)).chain([good("x")]).collect(),
                vec![true, false, false, false, false, false, true, false, true],
            ),
            ("denied", vec![failed(true), failed(true), good("x")], vec![true, false, true]),
            ("a short outage at first", vec![failed(false), failed(false), good("x")], vec![false, false, true]),
            (
                "an outage at first",
                vec![failed(false), failed(false), failed(false), failed(false)],
                vec![false, false, true, false],
            ),
        ] {
            assert_eq!(told(outcomes), want, "{what}");
        }
    }

    #[test]
    fn what_is_bad_is_read_more_often_than_what_is_good() {
        for (outcome, least, most) in [
            (good("x"), 24 * SECOND, 36 * SECOND),
            (bad(ReadProblem::NotFound), 4 * SECOND, 6 * SECOND),
            (failed(false), SECOND / 4, SECOND / 2),
        ] {
            let now = Instant::now();
            let mut schedule = schedule(&["a"], now);
            assert_eq!(schedule.due(), Some(now));
            let read = schedule.next(now).expect("it is due at once");
            assert_eq!((schedule.due(), schedule.next(now)), (None, None), "it is being read");
            schedule.answered(&read, now, outcome.clone());
            let pause = schedule.due().expect("again").duration_since(now);
            assert!(pause >= least && pause <= most, "{outcome:?}: {pause:?}");
        }
    }

    #[test]
    fn what_has_waited_longest_is_read_first() {
        let now = Instant::now();
        let mut schedule = schedule(&["b"], now);
        schedule.use_only(&of(&["a", "b", "c"]), now + SECOND);
        assert_eq!(schedule.next(now + SECOND).map(|read| read.key), Some(key("b")));
    }

    #[test]
    fn an_answer_for_an_earlier_use_is_dropped() {
        let now = Instant::now();
        let mut schedule = schedule(&["a"], now);
        let read = schedule.next(now).expect("it is due");
        schedule.use_only(&of(&[]), now);
        assert_eq!(schedule.answered(&read, now, good("x")), None);
        schedule.use_only(&of(&["a"]), now);
        let again = schedule.next(now).expect("it is due");
        assert_eq!(schedule.answered(&read, now, good("x")), None);
        assert!(schedule.answered(&again, now, good("x")).is_some());
    }

    #[test]
    fn many_are_read_less_often_instead_of_faster() {
        let names: Vec<String> = (0..2000).map(|number| format!("ca-{number}")).collect();
        let now = Instant::now();
        let mut schedule = schedule(&names.iter().map(String::as_str).collect::<Vec<_>>(), now);
        let read = schedule.next(now).expect("it is due");
        schedule.answered(&read, now, good("x"));
        while schedule.next(now).is_some() {}
        assert_eq!(schedule.due(), Some(now + 100 * SECOND));
    }

    #[test]
    fn thousands_of_one_namespace_do_not_keep_another_waiting() {
        let mut used: BTreeSet<_> = (0..3000).map(|number| ObjectKey::new("evil", number.to_string())).collect();
        let now = Instant::now();
        let mut schedule = Schedule::<ObjectKey, String>::new(20);
        schedule.use_only(&used, now);
        for _ in 0..8 {
            assert!(schedule.next(now).is_some());
        }
        used.insert(key("ca"));
        schedule.use_only(&used, now + SECOND);
        let read = schedule.next(now + SECOND).expect("it is due");
        assert_eq!(read.key, key("ca"), "though the others have waited for longer");
        // It does not exist yet, and is looked for as often as if it were alone.
        schedule.answered(&read, now + SECOND, bad(ReadProblem::NotFound));
        let due = schedule.entries[&key("ca")].due.expect("again").duration_since(now + SECOND);
        assert!(due <= 6 * SECOND, "{due:?}");
        // The others have half of the reads.
        let other = schedule.next(now + SECOND).expect("it is due");
        schedule.answered(&other, now + SECOND, bad(ReadProblem::NotFound));
        assert_eq!(schedule.entries[&other.key].due, Some(now + SECOND + 300 * SECOND));
    }
}
