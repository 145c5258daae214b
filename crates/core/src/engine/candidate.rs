use std::sync::Arc;
use std::time::Duration;

use super::{Health, UnseenFailure, Verdict};
use crate::model::{Backend, ClockDrift, EvidenceClass, Limits, Member, Route, Timestamp, Traffic};

/// A backend of a route, as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the `SendingBackend`.
    pub name: Arc<str>,
    /// Weight beside the other backends' weights, at least 1. Counts with `ActiveActive` only.
    pub weight: u32,
    /// Eligibility for new mail, apart from health.
    pub eligibility: Eligibility,
    /// The verdict under the route's thresholds.
    pub health: Health,
    /// Start of the present verdict.
    pub since: Timestamp,
    /// Evidence that the verdict rests on.
    pub class: EvidenceClass,
    /// Start of the failure by our own clock; `None` unless Unhealthy.
    pub first_failure_at: Option<Timestamp>,
    /// Start of the failure as the observer that saw it first dates it, for people; `None` unless Unhealthy.
    pub first_evidence_at: Option<Timestamp>,
    /// Start of the latest success of any probe that no failure of that probe has followed.
    pub confirmed_at: Option<Timestamp>,
    /// Backends that a believed peer has seen answer since it saw this one begin to fail.
    pub confirmed_standbys: Vec<Arc<str>>,
    /// Time since which every probe has answered, if the backend is Unhealthy and has answered all of them for a minute.
    pub answered_at: Option<Timestamp>,
    /// True if it is Unhealthy, has answered since, and has not failed anew for as long as it takes to fail.
    pub is_recovering: bool,
    /// True if it is Unknown because as many observers see it fail as do not.
    pub is_disputed: bool,
    /// Failure that was last seen of it, if nobody can look now; `None` unless Unknown.
    pub unseen_failure: Option<UnseenFailure>,
    /// True if the backend has asked for less mail.
    pub is_throttled: bool,
    /// Failures in a row, up to now.
    pub failures: u32,
    /// Region the backend runs in, if its spec names one.
    pub region: Option<Arc<str>>,
    /// Part of the route's mail that the backend takes.
    pub capacity: Capacity,
    /// Shortest interval of its probes; `None` without any.
    pub probe_interval: Option<Duration>,
}

/// Eligibility of a backend for a route's mail, apart from its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// The backend is in service.
    InService,
    /// A person has taken it out of service.
    Suspended,
    /// The route must not use it.
    Excluded(Exclusion),
    /// The object is missing; or it is invalid, and no earlier good version is known. A sound
    /// standby takes over after a grace.
    Unusable,
}

/// Reason for which a route must not use a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// It is in none of the route's jurisdictions, or does not say where it is.
    Residency,
    /// It may not send for one of the route's domains.
    SenderDomain,
}

/// Part of a route's mail that a backend takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// In percent of the route's traffic, 1 to 100; 100 where limits or traffic are not known.
    pub percent: u8,
    /// Next change by time alone: the end of a day of the warm-up.
    pub until: Option<Timestamp>,
}

impl Capacity {
    /// The whole of the route's mail.
    pub const FULL: Self = Self { percent: 100, until: None };

    /// Computes what `limits` leave of this traffic at `now`. `quota_left` is the number of messages that may still be
    /// sent today.
    pub fn of(limits: &Limits, quota_left: Option<u32>, traffic: Traffic, now: Timestamp) -> Self {
        let Limits { messages_per_second, messages_per_day, warm_up, .. } = limits;
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
    /// Builds a candidate from the last good version of the object, if there is one, and the verdict about it.
    pub fn new(
        member: &Member,
        backend: Option<&Backend>,
        verdict: Option<&Verdict>,
        route: &Route,
        quota_left: Option<u32>,
        now: Timestamp,
    ) -> Self {
        let eligibility = match backend {
            None => Eligibility::Unusable,
            Some(backend) => match exclusion(route, backend) {
                Some(exclusion) => Eligibility::Excluded(exclusion),
                None if backend.suspended => Eligibility::Suspended,
                None => Eligibility::InService,
            },
        };
        Self {
            name: member.name.clone(),
            weight: member.weight,
            eligibility,
            health: verdict.map_or(Health::Unknown, |verdict| verdict.health),
            since: verdict.map_or(now, |verdict| verdict.since),
            class: verdict.map_or(EvidenceClass::Inconclusive, |verdict| verdict.class),
            first_failure_at: verdict.and_then(|verdict| verdict.first_failure_at),
            first_evidence_at: verdict.and_then(|verdict| verdict.first_evidence_at),
            confirmed_at: verdict.and_then(|verdict| verdict.confirmed_at),
            confirmed_standbys: verdict.map_or_else(Vec::new, |verdict| verdict.confirmed_standbys.clone()),
            answered_at: verdict.and_then(|verdict| verdict.answered_at),
            is_disputed: verdict
                .is_some_and(|verdict| verdict.health == Health::Unknown && verdict.observers.voters > 0),
            is_recovering: verdict.is_some_and(|verdict| verdict.is_recovering),
            unseen_failure: verdict
                .filter(|verdict| verdict.health == Health::Unknown)
                .and_then(|verdict| verdict.unseen_failure),
            is_throttled: verdict.is_some_and(|verdict| verdict.is_throttled),
            failures: verdict.map_or(0, |verdict| verdict.failures),
            region: backend.and_then(|backend| backend.location.region.clone()),
            capacity: backend
                .map_or(Capacity::FULL, |backend| Capacity::of(&backend.limits, quota_left, route.traffic, now)),
            probe_interval: backend.and_then(|backend| backend.probes.iter().map(|probe| probe.interval).min()),
        }
    }

    /// Returns the candidate with the capacity that it has by a wall clock with this drift, whose days the warm-up
    /// follows.
    #[must_use]
    pub fn by_wall_clock(self, backend: &Backend, route: &Route, now: Timestamp, drift: ClockDrift) -> Self {
        let Capacity { percent, until } = Capacity::of(&backend.limits, None, route.traffic, drift.wall(now));
        Self { capacity: Capacity { percent, until: until.map(|until| drift.at_wall(until)) }, ..self }
    }

    /// Returns the rank by region: 0 in the most preferred one; a region that is not preferred ranks after all that
    /// are. The list decides among equals.
    pub fn region_rank(&self, preferred_regions: &[Arc<str>]) -> usize {
        let Some(region) = &self.region else { return usize::MAX };
        preferred_regions.iter().position(|preferred| preferred == region).unwrap_or(usize::MAX)
    }

    /// Returns true if the backend may carry mail: in service, and Healthy or at least alive.
    pub fn is_eligible(&self) -> bool {
        self.eligibility == Eligibility::InService
            && match self.health {
                Health::Healthy | Health::Degraded => true,
                Health::Unhealthy | Health::Unknown => false,
            }
    }

    /// Returns true if too little is known of the backend, which is in service.
    pub(super) fn is_unknown(&self) -> bool {
        self.eligibility == Eligibility::InService && self.health == Health::Unknown
    }

    /// Returns true if too little is known of the backend, but it answers some probe.
    pub(super) fn is_answering(&self) -> bool {
        self.is_unknown() && self.confirmed_at.is_some()
    }

    /// Returns true if the backend has not recovered yet, but has answered every probe for a minute, and is in service.
    pub(super) fn is_answering_again(&self) -> bool {
        self.eligibility == Eligibility::InService && self.health == Health::Unhealthy && self.answered_at.is_some()
    }

    /// Returns true if the backend fails by its verdict, or failed when somebody could look last.
    pub(super) fn is_failing(&self) -> bool {
        self.health == Health::Unhealthy || self.unseen_failure.is_some()
    }

    /// Returns true if mail cannot leave by the backend, as far as is known: it fails, and does not answer every probe
    /// again.
    pub fn is_dead(&self) -> bool {
        self.is_failing() && !self.is_answering_again()
    }

    /// Returns true if mail may move to the backend without need: in service and Healthy.
    pub(super) fn is_sound(&self) -> bool {
        self.eligibility == Eligibility::InService && self.health == Health::Healthy
    }
}

fn exclusion(route: &Route, backend: &Backend) -> Option<Exclusion> {
    let jurisdiction = backend.location.jurisdiction.as_ref();
    let is_at_home = jurisdiction.is_some_and(|place| route.jurisdictions.contains(place));
    let may_send_all = backend.sender_domains.is_empty()
        || route.sender_domains.iter().all(|domain| backend.sender_domains.contains(domain));
    if !route.jurisdictions.is_empty() && !is_at_home {
        Some(Exclusion::Residency)
    } else if !may_send_all {
        Some(Exclusion::SenderDomain)
    } else {
        None
    }
}
