//! What has to be looked at, when, and what is under way about it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::Written;
use crate::controller::step::{Step, Subject, SubjectKind, Task};
use crate::controller::timers::KeyedTimers;
use mail_failover_core::model::{ObjectKey, Timestamp};

/// Subjects to look at. One that has a step under way stays on the agenda until that is done.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    due: BTreeSet<Subject>,
    timers: KeyedTimers<Subject>,
    under_way: BTreeMap<Subject, UnderWay>,
    last_task: u64,
}

/// A step under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    id: u64,
    /// The status that it writes.
    pub(super) written: Option<Written>,
    /// Names of the Events that it publishes.
    pub(super) events: Vec<String>,
    is_job: bool,
}

impl Agenda {
    /// Looks at this as soon as possible.
    pub(super) fn add(&mut self, subject: Subject) {
        self.due.insert(subject);
    }

    /// Looks at these as soon as possible.
    pub(super) fn extend(&mut self, subjects: impl IntoIterator<Item = Subject>) {
        self.due.extend(subjects);
    }

    /// Looks at this at that time, unless an earlier one is set already.
    pub(super) fn set_timer(&mut self, subject: &Subject, at: Timestamp) {
        self.timers.set(subject, at);
    }

    /// Looks at this only for a reason.
    pub(super) fn clear_timer(&mut self, subject: &Subject) {
        self.timers.clear(subject);
    }

    /// When the first timer ends.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.timers.next_timeout()
    }

    /// Puts those whose time has come on the agenda.
    pub(super) fn wake(&mut self, now: Timestamp) {
        while let Some(subject) = self.timers.pop(now) {
            self.due.insert(subject);
        }
    }

    /// How many have to be looked at.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// How many steps are under way.
    pub(super) fn steps_under_way(&self) -> usize {
        self.under_way.len()
    }

    /// How many of them create a Job.
    pub(super) fn jobs_under_way(&self) -> usize {
        self.under_way.values().filter(|step| step.is_job).count()
    }

    /// The next of a kind that can be looked at now, after `earlier` if given; it is taken off.
    pub(super) fn next_of(&mut self, kind: SubjectKind, earlier: Option<Subject>) -> Option<Subject> {
        let first = || Bound::Included(Subject { kind, key: ObjectKey::new("", "") });
        let from = earlier.map_or_else(first, Bound::Excluded);
        let of_kind = self.due.range((from, Bound::Unbounded)).take_while(|subject| subject.kind == kind);
        let next = of_kind.into_iter().find(|subject| !self.under_way.contains_key(*subject))?.clone();
        self.due.remove(&next);
        Some(next)
    }

    /// Begins a step.
    pub(super) fn begin(&mut self, subject: &Subject, step: Step, written: Option<Written>) -> Task {
        let events = match &step {
            Step::PublishEvents(events) => events.iter().filter_map(|event| event.metadata.name.clone()).collect(),
            Step::Confirm | Step::WriteStatus { .. } | Step::WriteOutputs { .. } | Step::RunJob { .. } => vec![],
        };
        let is_job = matches!(step, Step::RunJob { .. });
        self.last_task += 1;
        self.under_way.insert(subject.clone(), UnderWay { id: self.last_task, written, events, is_job });
        Task { id: self.last_task, subject: subject.clone(), step }
    }

    /// A step is over; `None` when it is not the one under way: the answer to a step of an earlier term.
    pub(super) fn finish(&mut self, subject: &Subject, id: u64) -> Option<UnderWay> {
        self.under_way.get(subject).filter(|under_way| under_way.id == id)?;
        self.under_way.remove(subject)
    }

    /// Gives up on every step under way; what it was about is worked out again.
    pub(super) fn abandon_steps(&mut self) {
        self.under_way.clear();
    }
}
