use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Agreement, Health, Judgement, Sighting};
use crate::model::{EvidenceClass, Timestamp};

/// The verdict about a backend, over all its probes and all who observe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The worst of its probes': Unhealthy before Unknown before Degraded before Healthy.
    pub health: Health,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub class: EvidenceClass,
    /// What was seen, for people.
    pub message: Arc<str>,
    /// When the first observation of the run of failures was begun; `None` unless Unhealthy.
    pub first_failure_at: Option<Timestamp>,
    /// When the latest success that no failure has followed was begun, as this process sees it: the earliest of its probes'. `None` when the
    /// newest conclusive observation of any of them is a failure, or it never succeeded.
    pub confirmed_at: Option<Timestamp>,
    /// Whether it has asked for less lately.
    pub is_throttled: bool,
    /// Failures in a row so far, as this process sees it at the probe that tells most.
    pub failures: u32,
    /// Who agrees.
    pub observers: Agreement,
}

impl Verdict {
    /// What the probes of this process say together; `None` when there are none.
    pub(super) fn of_probes(probes: &BTreeMap<Arc<str>, Judgement>, now: Timestamp) -> Option<Self> {
        let mut all = probes.iter().map(|(name, judgement)| Said::by(name, judgement, now));
        let mut telling = all.next()?;
        let mut confirmed_at = telling.judgement.confirmed_at;
        let mut is_throttled = telling.judgement.is_throttled();
        for said in all {
            confirmed_at = confirmed_at.zip(said.judgement.confirmed_at).map(|(one, other)| one.min(other));
            is_throttled |= said.judgement.is_throttled();
            if said.tells_more_than(&telling) {
                telling = said;
            }
        }
        Some(Self {
            health: telling.health,
            since: telling.since,
            class: telling.class,
            message: telling.message(),
            first_failure_at: telling.judgement.first_failure_at.filter(|_| telling.health == Health::Unhealthy),
            confirmed_at,
            is_throttled,
            failures: telling.judgement.failures(),
            observers: Agreement::of_one(telling.health),
        })
    }

    /// As another process is told of it.
    pub fn sighting(&self) -> Sighting {
        Sighting { health: self.health, since: self.since, class: self.class, first_failure_at: self.first_failure_at }
    }
}

/// What one probe says now: its judgement, unless that is stale.
struct Said<'a> {
    probe: &'a str,
    judgement: &'a Judgement,
    health: Health,
    since: Timestamp,
    class: EvidenceClass,
}

impl<'a> Said<'a> {
    fn by(probe: &'a str, judgement: &'a Judgement, now: Timestamp) -> Self {
        let (health, since, class) = if judgement.is_stale(now) {
            (Health::Unknown, judgement.stale_at(), EvidenceClass::Stale)
        } else {
            (judgement.health, judgement.since, judgement.class)
        };
        Self { probe, judgement, health, since, class }
    }

    /// The first to fail tells since when the backend has failed; the last to recover since when it is whole.
    fn tells_more_than(&self, other: &Self) -> bool {
        match self.health {
            _ if self.health != other.health => self.health > other.health,
            Health::Unhealthy | Health::Degraded => self.since < other.since,
            Health::Healthy | Health::Unknown => self.since > other.since,
        }
    }

    fn message(&self) -> Arc<str> {
        if self.class == EvidenceClass::Stale {
            let (probe, silence) = (self.probe, self.judgement.stale_after());
            format!("no conclusive evidence from probe {probe} for longer than {silence:?}").into()
        } else {
            self.judgement.message.clone()
        }
    }
}
