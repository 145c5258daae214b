//! A route's fleet in a few words, for tests.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Candidate, Capacity, Decision, DrillInputs, Eligibility, Exclusion, Health, Memory, Request, RequestAction, Share,
    Situation, State, Transition, TransitionKind, TransitionReason, decide,
};
use crate::model::{
    Breaker, Budget, ClockDrift, DeliveryThresholds, Drills, EvidenceClass, Failback, FailbackMode, HoldPolicy,
    Objectives, Policy, Strategy, Thresholds, Timestamp, WhenNoneHealthy,
};

pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(0) + Duration::from_secs(seconds)
}

/// Cooldown 600 s, minimum stay 60 s, soak 300 s, and a budget that is never spent.
pub fn policy() -> Policy {
    Policy {
        thresholds: Thresholds { failure: 3, lasting: None, recovery: 5, ..Thresholds::default() },
        hold: HoldPolicy {
            cooldown: Duration::from_mins(10),
            minimum_stay: Duration::from_mins(1),
            budget: Budget { switches: 10, per: Duration::from_secs(1) },
        },
        when_none_healthy: WhenNoneHealthy::Hold,
        failback: Failback {
            mode: FailbackMode::Automatic,
            after: Duration::from_mins(5),
            windows: vec![],
            ramp: vec![],
        },
        objectives: Objectives::NONE,
        deliveries: DeliveryThresholds::default(),
        breaker: Breaker::default(),
        drills: Drills::default(),
    }
}

/// A failover because nobody answered.
pub fn transition(id: i64, from: &str, to: &str, seconds: u64) -> Transition {
    Transition {
        id,
        kind: TransitionKind::Failover,
        from: from.into(),
        to: to.into(),
        reason: TransitionReason::Failed(EvidenceClass::NoAnswer),
        first_evidence_at: None,
        decided_at: at(seconds),
    }
}

/// A route with everything its decisions depend on.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub policy: Option<Policy>,
    pub strategy: Strategy,
    pub preferred_regions: Vec<Arc<str>>,
    pub candidates: Vec<Candidate>,
    pub is_storm: bool,
    pub drift: ClockDrift,
    pub request: Option<Request>,
    pub memory: Memory,
}

/// `+` is healthy, `=` slow, `%` healthy and asks for less, `-` unhealthy, `?` unknown, `~`
/// suspended and healthy, `!` suspended and unhealthy, `x` outside the jurisdictions and healthy,
/// `0` unusable.
pub const MARKS: [&str; 9] = ["+", "=", "%", "-", "?", "~", "!", "x", "0"];

fn marked(mark: &str) -> (Eligibility, Health) {
    match mark {
        "+" | "%" => (Eligibility::InService, Health::Healthy),
        "=" => (Eligibility::InService, Health::Degraded),
        "-" => (Eligibility::InService, Health::Unhealthy),
        "?" => (Eligibility::InService, Health::Unknown),
        "~" => (Eligibility::Suspended, Health::Healthy),
        "!" => (Eligibility::Suspended, Health::Unhealthy),
        "x" => (Eligibility::Excluded(Exclusion::Residency), Health::Healthy),
        "0" => (Eligibility::Unusable, Health::Unknown),
        other => panic!("{other} means nothing"),
    }
}

impl Fleet {
    /// Names and marks, in the order of the list; everything is as it is since 0 s.
    pub fn of(text: &str) -> Self {
        let candidates = text.split_whitespace().map(|word| {
            let (name, mark) = word.split_at(word.len() - 1);
            let mut candidate = Candidate {
                name: name.into(),
                weight: 1,
                eligibility: Eligibility::InService,
                health: Health::Unknown,
                since: at(0),
                class: EvidenceClass::Inconclusive,
                first_failure_at: None,
                first_evidence_at: None,
                confirmed_at: None,
                confirmed_standbys: vec![],
                answered_at: None,
                is_recovering: false,
                is_disputed: false,
                unseen_failure: None,
                is_throttled: false,
                failures: 0,
                region: None,
                capacity: Capacity::FULL,
                probe_interval: Some(Duration::from_secs(10)),
            };
            mark_candidate(&mut candidate, mark, at(0));
            candidate
        });
        Self {
            policy: Some(policy()),
            strategy: Strategy::ActivePassive,
            preferred_regions: vec![],
            candidates: candidates.collect(),
            is_storm: false,
            drift: ClockDrift::default(),
            request: None,
            memory: Memory::default(),
        }
    }

    /// Mail has gone to `active` since 0 s, after a transition unless it is the first of the list.
    pub fn on(mut self, active: &str) -> Self {
        let is_first = self.candidates.first().is_some_and(|first| &*first.name == active);
        self.memory.shares = vec![Share { backend: active.into(), percent: 100, is_overflow: false }];
        self.memory.since = at(0);
        self.memory.state = State::Unknown;
        self.memory.history = if is_first { vec![] } else { vec![transition(7, "a", active, 0)] };
        self
    }

    pub fn active_active(mut self, weights: &[u32]) -> Self {
        self.strategy = Strategy::ActiveActive;
        for (candidate, weight) in self.candidates.iter_mut().zip(weights) {
            candidate.weight = *weight;
        }
        self
    }

    pub fn without_policy(mut self) -> Self {
        self.policy = None;
        self
    }

    /// Sets the state of a backend by its mark, from now on.
    pub fn set(&mut self, name: &str, mark: &str, seconds: u64) {
        let candidate = self.candidates.iter_mut().find(|candidate| &*candidate.name == name).unwrap();
        mark_candidate(candidate, mark, at(seconds));
    }

    pub fn ask(&mut self, id: &str, action: RequestAction) {
        self.request = Some(Request::new(id, action));
    }

    pub fn decide_at(&self, now: Timestamp) -> Decision {
        self.decide_by(now, None)
    }

    /// Decides where drills are run.
    pub fn decide_with(&self, seconds: u64, drill: Option<DrillInputs<'_>>) -> Decision {
        self.decide_by(at(seconds), drill)
    }

    fn decide_by(&self, now: Timestamp, drill: Option<DrillInputs<'_>>) -> Decision {
        let defaults = Policy::default();
        let situation = Situation {
            now,
            drift: self.drift,
            policy: self.policy.as_ref().unwrap_or(&defaults),
            strategy: self.strategy,
            preferred_regions: &self.preferred_regions,
            candidates: &self.candidates,
            is_storm: self.is_storm,
            request: self.request.as_ref(),
            drill,
        };
        decide(&situation, &self.memory)
    }

    pub fn decide(&self, seconds: u64) -> Decision {
        self.decide_at(at(seconds))
    }

    /// Decides, and remembers the decision.
    pub fn settle(&mut self, seconds: u64) -> Decision {
        let decision = self.decide(seconds);
        self.memory = decision.memory.clone();
        decision
    }

    /// `a60 b40*`: the star marks overflow.
    pub fn shares(&self) -> String {
        let share =
            |share: &Share| format!("{}{}{}", share.backend, share.percent, if share.is_overflow { "*" } else { "" });
        self.memory.shares.iter().map(share).collect::<Vec<_>>().join(" ")
    }
}

/// Turns a candidate into what a mark says, from `now` on if that is news.
pub fn mark_candidate(candidate: &mut Candidate, mark: &str, now: Timestamp) {
    let (eligibility, health) = marked(mark);
    if candidate.health != health || candidate.eligibility != eligibility {
        candidate.since = now;
    }
    candidate.eligibility = eligibility;
    candidate.health = health;
    candidate.is_throttled = mark == "%";
    candidate.class = match health {
        Health::Healthy => EvidenceClass::Ok,
        Health::Degraded => EvidenceClass::Slow,
        Health::Unhealthy => EvidenceClass::NoAnswer,
        Health::Unknown => EvidenceClass::Inconclusive,
    };
    candidate.first_failure_at = None;
    candidate.first_evidence_at = None;
    // What can deliver answers every probe, at any time.
    candidate.confirmed_at = match health {
        Health::Healthy | Health::Degraded => Some(Timestamp::MAX),
        Health::Unhealthy | Health::Unknown => None,
    };
    candidate.confirmed_standbys = vec![];
    candidate.answered_at = None;
    candidate.is_recovering = false;
    candidate.is_disputed = false;
}
