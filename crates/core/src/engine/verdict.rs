use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::shared_rounds::SharedRounds;
use super::{Agreement, DELIVERIES, Health, Judgement, ObserverVerdict};
use crate::model::{EvidenceClass, Timestamp};

/// Time for which a backend that is Unhealthy must have answered every probe to carry mail that nobody else can.
// As long as a backend in use may recover after a storm: what has failed with it may return a moment later.
const ANSWERING_AGAIN: Duration = Duration::from_mins(1);

/// Verdict about a backend, over all its probes and all its observers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Worst verdict of its probes: Unhealthy before Unknown before Degraded before Healthy.
    pub health: Health,
    /// Start of the verdict.
    pub since: Timestamp,
    /// Evidence that the verdict rests on.
    pub class: EvidenceClass,
    /// Description of that evidence, for people.
    pub message: Arc<str>,
    /// Start of the failure by our own clock: of this process's own run of failures, or the time at which it heard of
    /// the others'. `None` unless Unhealthy.
    pub first_failure_at: Option<Timestamp>,
    /// Start of the first observation of a run of failures, as the observer that saw it first dates it; `None` unless
    /// Unhealthy. For people: it may come from another clock.
    pub first_evidence_at: Option<Timestamp>,
    /// Start of the latest success that no failure of the same probe has followed, as this process sees it: the latest
    /// of its probes'. `None` if the newest conclusive observation of each of them is a failure.
    // Confirmation asks if our network leads there, and any probe's answer tells that.
    pub confirmed_at: Option<Timestamp>,
    /// Time since which every probe of a backend that is Unhealthy has answered, if it has answered all of them for a
    /// minute, as this process sees it. `None` if real mail condemns it, and unless Unhealthy.
    // ADR-0205: What answers every probe again is the last resort.
    pub answered_at: Option<Timestamp>,
    /// True if it is Unhealthy, its probes have succeeded since, and none has failed anew for as long as it takes to
    /// fail.
    pub is_recovering: bool,
    /// Failure that was last seen of it, if nobody can look now; `None` unless Unknown.
    pub unseen_failure: Option<UnseenFailure>,
    /// Backends that a believed peer has seen answer since it saw this one begin to fail; sorted. Empty unless
    /// Unhealthy.
    pub confirmed_standbys: Vec<Arc<str>>,
    /// True if the backend has lately asked for less.
    pub is_throttled: bool,
    /// Failures in a row so far, as this process sees it at the decisive probe.
    pub failures: u32,
    /// Observers that agree with it.
    pub observers: Agreement,
}

/// Failure of a backend that nobody can look at any more: its probes are blocked or silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnseenFailure {
    /// Start of the failure, by our own clock.
    pub since: Timestamp,
    /// Evidence of the failure.
    pub class: EvidenceClass,
}

impl Verdict {
    /// Combines the probes of this process and the deliveries reported to it; `None` if there are no probes.
    pub(super) fn of(
        probes: &BTreeMap<Arc<str>, Judgement>,
        deliveries: Option<&Judgement>,
        now: Timestamp,
    ) -> Option<Self> {
        let decisive = ProbeResult::decisive(probes, deliveries, now)?;
        Some(Self {
            health: decisive.health,
            since: decisive.since,
            class: decisive.class,
            message: decisive.message(),
            first_failure_at: decisive.first_failure_at(),
            first_evidence_at: decisive.first_failure_at(),
            confirmed_at: confirmed_at(probes),
            answered_at: None,
            is_recovering: false,
            unseen_failure: decisive.unseen_failure(),
            confirmed_standbys: vec![],
            is_throttled: probes.values().any(Judgement::is_throttled),
            failures: decisive.judgement.failures(),
            observers: Agreement::of_one(decisive.health),
        })
    }

    /// Returns the verdict of all observers with what this process knows of its answers, if it is one of failure.
    #[must_use]
    pub(super) fn with_answers(
        self,
        probes: &BTreeMap<Arc<str>, Judgement>,
        shared: Option<&SharedRounds>,
        deliveries: Option<&Judgement>,
        now: Timestamp,
    ) -> Self {
        if self.health != Health::Unhealthy {
            return self;
        }
        let answered_at = answered_again_at(probes, shared, deliveries, now);
        Self { answered_at, is_recovering: is_recovering(probes, deliveries), ..self }
    }

    pub(super) fn as_reported(&self) -> ObserverVerdict {
        let Self { health, since, class, first_failure_at, .. } = *self;
        let message = words_of(health, || self.message.clone());
        ObserverVerdict { health, since, class, first_failure_at, confirms: [].into(), runs: [].into(), message }
    }
}

/// Returns the start of the latest success of any probe that no failure of the same probe has followed.
pub(super) fn confirmed_at(probes: &BTreeMap<Arc<str>, Judgement>) -> Option<Timestamp> {
    probes.values().filter_map(|judgement| judgement.confirmed_at).max()
}

/// Returns the time since which every probe that has a verdict has answered: the earliest of their latest successes.
/// `None` if one of them has had no success since its latest failure.
pub(super) fn answered_at(probes: &BTreeMap<Arc<str>, Judgement>, now: Timestamp) -> Option<Timestamp> {
    let mut earliest = None;
    for (name, judgement) in probes {
        if ProbeResult::by(name, judgement, now).abstains() {
            continue;
        }
        let answered_at = judgement.confirmed_at?;
        earliest = Some(earliest.map_or(answered_at, |earlier: Timestamp| earlier.min(answered_at)));
    }
    earliest
}

/// Returns the time since which every probe that has a verdict has answered, if all of them have done so for a minute,
/// and real mail does not condemn the backend.
pub(super) fn answered_again_at(
    probes: &BTreeMap<Arc<str>, Judgement>,
    shared: Option<&SharedRounds>,
    deliveries: Option<&Judgement>,
    now: Timestamp,
) -> Option<Timestamp> {
    if deliveries.is_some_and(|judgement| judgement.health == Health::Unhealthy) {
        return None;
    }
    let (mut began_at, mut answered_at): (Option<Timestamp>, Option<Timestamp>) = (None, None);
    for (name, judgement) in probes {
        let result = ProbeResult::by(name, judgement, now);
        if result.abstains() {
            continue;
        }
        if result.health == Health::Unknown {
            return None;
        }
        began_at = began_at.max(Some(judgement.succeeding_since()?));
        // Replicas that take turns at a probe hear of each other's answers.
        let own = judgement.confirmed_at?;
        let latest = shared.and_then(|shared| shared.heard_answer_at(name)).map_or(own, |heard| heard.max(own));
        answered_at = Some(answered_at.map_or(latest, |earliest| earliest.min(latest)));
    }
    answered_at.filter(|at| began_at.is_some_and(|began_at| *at >= began_at + ANSWERING_AGAIN))
}

/// Returns true if probes are Unhealthy, and each of these is recovering.
fn is_recovering(probes: &BTreeMap<Arc<str>, Judgement>, deliveries: Option<&Judgement>) -> bool {
    let mut failing = probes.values().chain(deliveries).filter(|judgement| judgement.health == Health::Unhealthy);
    failing.clone().next().is_some() && failing.all(Judgement::is_recovering)
}

impl ObserverVerdict {
    /// Returns the verdict as it is reported to other observers.
    pub(super) fn of(
        probes: &BTreeMap<Arc<str>, Judgement>,
        deliveries: Option<&Judgement>,
        now: Timestamp,
    ) -> Option<Self> {
        let decisive = ProbeResult::decisive(probes, deliveries, now)?;
        Some(Self {
            health: decisive.health,
            since: decisive.since,
            class: decisive.class,
            first_failure_at: decisive.first_failure_at(),
            confirms: [].into(),
            runs: [].into(),
            message: words_of(decisive.health, || decisive.message()),
        })
    }
}

/// Returns the words that other observers are told with a verdict.
fn words_of(health: Health, message: impl FnOnce() -> Arc<str>) -> Arc<str> {
    match health {
        Health::Unhealthy | Health::Degraded => message(),
        Health::Healthy | Health::Unknown => Arc::default(),
    }
}

/// Present result of one probe: its judgement, unless that is stale or the probe cannot be made.
struct ProbeResult<'a> {
    probe: &'a str,
    judgement: &'a Judgement,
    health: Health,
    since: Timestamp,
    class: EvidenceClass,
}

impl<'a> ProbeResult<'a> {
    /// Returns the decisive result: of the probes, or of the deliveries if those weigh more.
    fn decisive(
        probes: &'a BTreeMap<Arc<str>, Judgement>,
        deliveries: Option<&'a Judgement>,
        now: Timestamp,
    ) -> Option<Self> {
        let results = || probes.iter().map(|(name, judgement)| Self::by(name, judgement, now));
        // ADR-0083: What is missing holds up nothing.
        let voting = results().filter(|result| !result.abstains());
        let decisive = voting.reduce(Self::weightier).or_else(|| results().reduce(Self::weightier))?;
        match deliveries {
            Some(judgement) => Some(decisive.weightier(Self::by(DELIVERIES, judgement, now))),
            None => Some(decisive),
        }
    }

    /// Returns the result that weighs more; of equals `self`.
    fn weightier(self, other: Self) -> Self {
        if other.outweighs(&self) { other } else { self }
    }

    fn by(probe: &'a str, judgement: &'a Judgement, now: Timestamp) -> Self {
        let (health, since, class) = if let Some(blocked) = judgement.blocked() {
            (Health::Unknown, blocked.since, EvidenceClass::ProbeBlocked)
        } else if judgement.is_stale(now) {
            (Health::Unknown, judgement.stale_at(), EvidenceClass::Stale)
        } else {
            (judgement.health, judgement.since, judgement.class)
        };
        Self { probe, judgement, health, since, class }
    }

    /// Returns true if the probe has no verdict for now because it cannot be made, or its Job brings no result. One
    /// that saw the backend fail before does not abstain: that is not over because nobody can look.
    fn abstains(&self) -> bool {
        let is_silent = self.class == EvidenceClass::ProbeBlocked
            || (self.class == EvidenceClass::Stale && self.judgement.may_wait());
        is_silent && self.judgement.health != Health::Unhealthy
    }

    /// Returns true if this result weighs more.
    // The first probe to fail dates the failure; the last to recover dates the recovery.
    fn outweighs(&self, other: &Self) -> bool {
        match self.health {
            _ if self.health != other.health => self.health > other.health,
            Health::Unhealthy | Health::Degraded => self.since < other.since,
            Health::Healthy | Health::Unknown => self.since > other.since,
        }
    }

    fn first_failure_at(&self) -> Option<Timestamp> {
        self.judgement.first_failure_at.filter(|_| self.health == Health::Unhealthy)
    }

    fn unseen_failure(&self) -> Option<UnseenFailure> {
        let Judgement { health, since, class, first_failure_at, .. } = *self.judgement;
        let is_unseen = self.health == Health::Unknown && health == Health::Unhealthy;
        is_unseen.then(|| UnseenFailure { since: first_failure_at.unwrap_or(since), class })
    }

    fn message(&self) -> Arc<str> {
        if let Some(blocked) = self.judgement.blocked() {
            blocked.message.clone()
        } else if self.class == EvidenceClass::Stale {
            let (probe, silence) = (self.probe, self.judgement.stale_after());
            format!("no conclusive evidence from probe {probe} for longer than {silence:?}").into()
        } else {
            self.judgement.message.clone()
        }
    }
}
