use std::sync::Arc;

use super::Health;
use crate::model::{EvidenceClass, FailbackMode, Policy, Timestamp, WhenNoneHealthy};

/// A backend of a route, as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the `SendingBackend`.
    pub name: Arc<str>,
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
}

impl Candidate {
    fn is_eligible(&self) -> bool {
        self.standing == Standing::InService && self.health == Health::Healthy
    }
}

/// Whether a backend may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    InService,
    /// A person has taken it out of service.
    Suspended,
    /// The object is missing or cannot be used, and no earlier good version is known: nothing can be said or done about it.
    Unusable,
}

/// What a route remembers from one decision to the next: exactly what `status` persists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Where the mail goes.
    pub active: Option<Arc<str>>,
    /// Since when; meaningless without `active`.
    pub since: Timestamp,
    /// Where the route stood after the latest decision.
    pub state: State,
    /// The latest transition.
    pub last_transition: Option<Transition>,
}

/// Where a route stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// On its first backend.
    Preferred,
    /// On another one.
    FailedOver,
    /// Wants to move and cannot, for a reason that is neither health nor a timer.
    Holding,
    /// No backend is healthy.
    NoneHealthy,
    /// Before the first decision.
    #[default]
    Unknown,
}

/// A move from one backend to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Increases by one with each transition of the route.
    pub id: i64,
    /// What kind of move.
    pub kind: TransitionKind,
    /// The backend that is left.
    pub from: Arc<str>,
    /// The backend that carries the mail from now on.
    pub to: Arc<str>,
    /// Why.
    pub reason: TransitionReason,
    /// When the first observation that led here was begun, where evidence did.
    pub first_evidence_at: Option<Timestamp>,
    /// When it was decided.
    pub decided_at: Timestamp,
}

/// What kind of move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransitionKind {
    /// To a less preferred backend, or away from one that left the list.
    Failover,
    /// To a more preferred backend.
    Failback,
}

/// Why a route moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransitionReason {
    /// The active backend failed, by this evidence.
    Failed(EvidenceClass),
    /// The active backend was taken out of service.
    Suspended,
    /// The active backend is no longer in the route's list.
    RemovedFromRoute,
    /// A more preferred backend has recovered.
    Recovered,
    /// Nobody is healthy and the policy prefers the preferred one.
    NoneHealthy,
}

impl TransitionReason {
    /// The CamelCase name used in status, Events and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed(class) => class.as_str(),
            Self::Suspended => "Suspended",
            Self::RemovedFromRoute => "RemovedFromRoute",
            Self::Recovered => "Recovered",
            Self::NoneHealthy => "NoneHealthy",
        }
    }
}

/// Why a route does not move although it would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// `hold.cooldown` after the latest transition.
    Cooldown,
    /// `hold.minimumStay` after arriving.
    MinimumStay,
    /// `failback.after`: the preferred backend has not been healthy for long enough.
    Soak,
    /// `failback.mode: Manual`: a person decides.
    ManualFailback,
    /// No other backend is healthy.
    NoneHealthy,
    /// A first decision waits for verdicts.
    AwaitingEvidence,
    /// The route, its policy or its active backend cannot be used as written: the last good decision stays.
    ConfigurationRejected,
}

impl HoldReason {
    /// The CamelCase name used in status and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cooldown => "Cooldown",
            Self::MinimumStay => "MinimumStay",
            Self::Soak => "Soak",
            Self::ManualFailback => "ManualFailback",
            Self::NoneHealthy => "NoneHealthy",
            Self::AwaitingEvidence => "AwaitingEvidence",
            Self::ConfigurationRejected => "ConfigurationRejected",
        }
    }
}

/// Something people should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// The route moved: see the decision's transition.
    Moved,
    /// No backend is healthy any more.
    NoneHealthy,
    /// Mail can leave again.
    Recovered,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to remember; `memory.active` is where the mail shall go.
    pub memory: Memory,
    /// The move that was decided just now.
    pub transition: Option<Transition>,
    /// Why the route does not move although it would, and until when.
    pub hold: Option<(HoldReason, Option<Timestamp>)>,
    /// What people should hear of.
    pub announcements: Vec<Announcement>,
    /// When to decide again without new evidence.
    pub wake_at: Option<Timestamp>,
}

/// Decides where the mail of an active-passive route goes. `candidates` are in order of preference; `policy` is `None` when it
/// cannot be used and no earlier good version is known: then nothing moves.
pub fn decide(now: Timestamp, policy: Option<&Policy>, candidates: &[Candidate], memory: &Memory) -> Decision {
    let Some(policy) = policy else {
        return stay(memory, State::Holding, Some((HoldReason::ConfigurationRejected, None)));
    };
    let Some(active) = &memory.active else { return first_choice(now, candidates, memory) };
    let position = candidates.iter().position(|candidate| candidate.name == *active);
    match departure(position.map(|position| &candidates[position])) {
        Some((reason, first_evidence_at)) => {
            leave(now, policy, candidates, memory, position, reason, first_evidence_at)
        }
        None => remain(now, policy, candidates, memory, position.unwrap_or_default()),
    }
}

/// Why the active backend must be left, if it must. Unknown is not Unhealthy; an unusable object is no evidence.
fn departure(active: Option<&Candidate>) -> Option<(TransitionReason, Option<Timestamp>)> {
    let Some(active) = active else { return Some((TransitionReason::RemovedFromRoute, None)) };
    match (active.standing, active.health) {
        (Standing::Suspended, _) => Some((TransitionReason::Suspended, None)),
        (Standing::InService, Health::Unhealthy) => {
            Some((TransitionReason::Failed(active.class), active.first_failure_at))
        }
        (Standing::InService, Health::Healthy | Health::Degraded | Health::Unknown) | (Standing::Unusable, _) => None,
    }
}

/// Without anything to hold on to: the first healthy backend, once everything preferred to it is known to be unhealthy; the
/// preferred one when all are.
fn first_choice(now: Timestamp, candidates: &[Candidate], memory: &Memory) -> Decision {
    let mut in_service = candidates.iter().filter(|candidate| candidate.standing == Standing::InService);
    let Some(preferred) = in_service.clone().next() else {
        return stay(memory, State::Unknown, Some((HoldReason::NoneHealthy, None)));
    };
    let chosen = in_service.find(|candidate| candidate.health != Health::Unhealthy);
    match chosen.map(|candidate| candidate.health) {
        Some(Health::Unknown) => stay(memory, State::Unknown, Some((HoldReason::AwaitingEvidence, None))),
        Some(Health::Healthy | Health::Degraded | Health::Unhealthy) | None => {
            let chosen = chosen.unwrap_or(preferred);
            let state = standing_at(candidates, chosen, memory.state);
            let hold = (state == State::NoneHealthy).then_some((HoldReason::NoneHealthy, None));
            let memory = Memory { active: Some(chosen.name.clone()), since: now, ..memory.clone() };
            stay(&memory, state, hold)
        }
    }
}

/// The active backend cannot stay. No comfort hold keeps mail on it.
fn leave(
    now: Timestamp,
    policy: &Policy,
    candidates: &[Candidate],
    memory: &Memory,
    position: Option<usize>,
    reason: TransitionReason,
    first_evidence_at: Option<Timestamp>,
) -> Decision {
    if let Some(target) = candidates.iter().position(Candidate::is_eligible) {
        return move_to(now, candidates, memory, position, target, reason, first_evidence_at);
    }
    let active_works = position.is_some_and(|position| candidates[position].health != Health::Unhealthy);
    if active_works {
        // Suspended, but nobody else can deliver: mail that leaves is better than mail that waits.
        return stay(memory, State::Holding, Some((HoldReason::NoneHealthy, None)));
    }
    let preferred = candidates.iter().position(|candidate| candidate.standing == Standing::InService);
    match (policy.when_none_healthy, preferred) {
        (WhenNoneHealthy::Preferred, Some(preferred)) if Some(preferred) != position => {
            let (hold, until) = comfort_hold(policy, memory);
            if until <= now {
                move_to(now, candidates, memory, position, preferred, TransitionReason::NoneHealthy, first_evidence_at)
            } else {
                waiting(memory, State::NoneHealthy, (hold, until))
            }
        }
        (WhenNoneHealthy::Hold | WhenNoneHealthy::Preferred, _) => {
            stay(memory, State::NoneHealthy, Some((HoldReason::NoneHealthy, None)))
        }
    }
}

/// The active backend can stay: is there a better one that may be returned to?
fn remain(now: Timestamp, policy: &Policy, candidates: &[Candidate], memory: &Memory, position: usize) -> Decision {
    let active = &candidates[position];
    let state = if active.standing == Standing::Unusable {
        State::Holding
    } else {
        standing_at(candidates, active, memory.state)
    };
    let unusable = (state == State::Holding).then_some((HoldReason::ConfigurationRejected, None));
    let better = || candidates[..position].iter().enumerate().filter(|(_, candidate)| candidate.is_eligible());
    let ready_at = |candidate: &Candidate| {
        let soak = (HoldReason::Soak, candidate.since + policy.failback.after);
        let comfort = comfort_hold(policy, memory);
        if comfort.1 > soak.1 { comfort } else { soak }
    };
    if let Some((target, recovered)) = better().find(|(_, candidate)| ready_at(candidate).1 <= now) {
        return match policy.failback.mode {
            FailbackMode::Automatic => move_to(
                now,
                candidates,
                memory,
                Some(position),
                target,
                TransitionReason::Recovered,
                Some(recovered.since),
            ),
            FailbackMode::Manual => stay(memory, state, Some((HoldReason::ManualFailback, None))),
        };
    }
    match better().map(|(_, candidate)| ready_at(candidate)).min_by_key(|(_, until)| *until) {
        Some(hold) => waiting(memory, state, hold),
        None => stay(memory, state, unusable),
    }
}

/// The hold that keeps the route where it is longest when nothing forces it to move.
fn comfort_hold(policy: &Policy, memory: &Memory) -> (HoldReason, Timestamp) {
    let minimum_stay = (HoldReason::MinimumStay, memory.since + policy.hold.minimum_stay);
    let cooldown =
        memory.last_transition.as_ref().map(|last| (HoldReason::Cooldown, last.decided_at + policy.hold.cooldown));
    match cooldown {
        Some(cooldown) if cooldown.1 >= minimum_stay.1 => cooldown,
        Some(_) | None => minimum_stay,
    }
}

/// Where a route stands that has this backend active.
///
/// An active backend about which nothing is known yet does not end a `NoneHealthy`: that takes a healthy one.
fn standing_at(candidates: &[Candidate], active: &Candidate, before: State) -> State {
    let cannot_deliver = match active.health {
        Health::Healthy | Health::Degraded => false,
        Health::Unhealthy => true,
        Health::Unknown => before == State::NoneHealthy,
    };
    if cannot_deliver && !candidates.iter().any(Candidate::is_eligible) {
        State::NoneHealthy
    } else if candidates.first().is_some_and(|first| first.name == active.name) {
        State::Preferred
    } else {
        State::FailedOver
    }
}

fn move_to(
    now: Timestamp,
    candidates: &[Candidate],
    memory: &Memory,
    position: Option<usize>,
    target: usize,
    reason: TransitionReason,
    first_evidence_at: Option<Timestamp>,
) -> Decision {
    let to = &candidates[target];
    let transition = Transition {
        id: memory.last_transition.as_ref().map_or(0, |last| last.id).saturating_add(1),
        kind: match position {
            Some(position) if target < position => TransitionKind::Failback,
            Some(_) | None => TransitionKind::Failover,
        },
        from: memory.active.clone().unwrap_or_else(|| to.name.clone()),
        to: to.name.clone(),
        reason,
        first_evidence_at,
        decided_at: now,
    };
    let moved = Memory {
        active: Some(to.name.clone()),
        since: now,
        state: memory.state,
        last_transition: Some(transition.clone()),
    };
    let mut decision = stay(&moved, standing_at(candidates, to, memory.state), None);
    decision.announcements.insert(0, Announcement::Moved);
    decision.transition = Some(transition);
    decision
}

fn waiting(memory: &Memory, state: State, hold: (HoldReason, Timestamp)) -> Decision {
    Decision { wake_at: Some(hold.1), ..stay(memory, state, Some((hold.0, Some(hold.1)))) }
}

fn stay(memory: &Memory, state: State, hold: Option<(HoldReason, Option<Timestamp>)>) -> Decision {
    let announcements = match (memory.state, state) {
        (State::NoneHealthy, State::NoneHealthy) => vec![],
        (_, State::NoneHealthy) => vec![Announcement::NoneHealthy],
        (State::NoneHealthy, State::Preferred | State::FailedOver) => vec![Announcement::Recovered],
        (_, State::Preferred | State::FailedOver | State::Holding | State::Unknown) => vec![],
    };
    Decision { memory: Memory { state, ..memory.clone() }, transition: None, hold, announcements, wake_at: None }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
