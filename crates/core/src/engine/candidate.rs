use std::sync::Arc;

use super::{Health, Verdict};
use crate::model::{Backend, EvidenceClass, Limits, Member, Route, Timestamp, Traffic};

/// A backend of a route, as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the `SendingBackend`.
    pub name: Arc<str>,
    /// Its part of the mail beside the others' weights, with `ActiveActive`; at least 1.
    pub weight: u32,
    /// Whether it may be chosen at all.
    pub standing: Standing,
    /// The verdict under the route's thresholds.
    pub health: Health,
    /// Since when the verdict stands.
    pub since: Timestamp,
    /// Why.
    pub class: EvidenceClass,
    /// When the run of failures began.
    pub first_failure_at: Option<Timestamp>,
    /// When the latest success was begun that no failure has followed.
    pub confirmed_at: Option<Timestamp>,
    /// It has asked for less.
    pub is_throttled: bool,
    /// Failures in a row, up to now.
    pub failures: u32,
    /// Where it is.
    pub region: Option<Arc<str>>,
    /// How much of the route's mail it takes.
    pub capacity: Capacity,
}

/// Whether a backend may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    InService,
    /// A person has taken it out of service.
    Suspended,
    /// The route must not use it.
    Excluded(Exclusion),
    /// The object is missing or cannot be used, and no earlier good version is known: nothing can be said or done about it.
    Unusable,
}

/// Why a route must not use a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// It is in none of the route's jurisdictions, or does not say where it is.
    Residency,
    /// It may not send for one of the route's domains.
    SenderDomain,
}

/// How much of a route's mail a backend takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// In percent of the route's traffic, 1 to 100; 100 where limits or traffic are not known.
    pub percent: u8,
    /// When that changes by itself: the end of a day of the warm-up.
    pub until: Option<Timestamp>,
}

impl Capacity {
    /// All of it.
    pub const FULL: Self = Self { percent: 100, until: None };

    /// What these limits leave of this traffic at `now`; `quota_left` is the number of messages that may still be sent today.
    pub fn of(limits: &Limits, quota_left: Option<u32>, traffic: Traffic, now: Timestamp) -> Self {
        let Limits { messages_per_second, messages_per_day, warm_up } = limits;
        let warming = warm_up.as_ref().and_then(|warm_up| warm_up.at(now));
        let a_day = [*messages_per_day, warming.map(|(allowed, _)| allowed), quota_left].into_iter().flatten().min();
        let percent = [(*messages_per_second, traffic.peak_per_second), (a_day, traffic.messages_per_day)]
            .into_iter()
            .filter_map(|(limit, wanted)| Some(u64::from(limit?) * 100 / u64::from(wanted?.max(1))))
            .min()
            .unwrap_or(100);
        Self {
            percent: u8::try_from(percent.clamp(1, 100)).unwrap_or(100),
            until: warming.map(|(_, until)| until).filter(|_| traffic.messages_per_day.is_some()),
        }
    }
}

impl Candidate {
    /// A route's backend with what is known of it: the last good version of the object, if there is one, and the verdict about it.
    pub fn new(
        member: &Member,
        backend: Option<&Backend>,
        verdict: Option<&Verdict>,
        route: &Route,
        quota_left: Option<u32>,
        now: Timestamp,
    ) -> Self {
        let standing = match backend {
            None => Standing::Unusable,
            Some(backend) => match exclusion(route, backend) {
                Some(exclusion) => Standing::Excluded(exclusion),
                None if backend.suspended => Standing::Suspended,
                None => Standing::InService,
            },
        };
        Self {
            name: member.name.clone(),
            weight: member.weight,
            standing,
            health: verdict.map_or(Health::Unknown, |verdict| verdict.health),
            since: verdict.map_or(now, |verdict| verdict.since),
            class: verdict.map_or(EvidenceClass::Inconclusive, |verdict| verdict.class),
            first_failure_at: verdict.and_then(|verdict| verdict.first_failure_at),
            confirmed_at: verdict.and_then(|verdict| verdict.confirmed_at),
            is_throttled: verdict.is_some_and(|verdict| verdict.is_throttled),
            failures: verdict.map_or(0, |verdict| verdict.failures),
            region: backend.and_then(|backend| backend.location.region.clone()),
            capacity: backend
                .map_or(Capacity::FULL, |backend| Capacity::of(&backend.limits, quota_left, route.traffic, now)),
        }
    }

    /// Its place by region: 0 in the most preferred one, and after all others in one that is not preferred. Among equals the list decides.
    pub fn region_rank(&self, preferred_regions: &[Arc<str>]) -> usize {
        let is_here = |preferred: &Arc<str>| self.region.as_ref() == Some(preferred);
        preferred_regions.iter().position(is_here).unwrap_or(usize::MAX)
    }

    /// Whether mail may go there: in service, and Healthy or at least alive.
    pub(super) fn is_eligible(&self) -> bool {
        self.standing == Standing::InService
            && match self.health {
                Health::Healthy | Health::Degraded => true,
                Health::Unhealthy | Health::Unknown => false,
            }
    }

    /// Whether mail may go there without need.
    pub(super) fn is_sound(&self) -> bool {
        self.standing == Standing::InService && self.health == Health::Healthy
    }
}

fn exclusion(route: &Route, backend: &Backend) -> Option<Exclusion> {
    let is_at_home = || backend.location.jurisdiction.as_ref().is_some_and(|place| route.jurisdictions.contains(place));
    let may_send = |domain| backend.sender_domains.is_empty() || backend.sender_domains.contains(domain);
    if !route.jurisdictions.is_empty() && !is_at_home() {
        Some(Exclusion::Residency)
    } else if !route.sender_domains.iter().all(may_send) {
        Some(Exclusion::SenderDomain)
    } else {
        None
    }
}
