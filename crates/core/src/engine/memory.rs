use std::sync::Arc;
use std::time::Duration;

use super::{Drill, DrillLog, HoldReason};
use crate::model::{DrillMode, EvidenceClass, Timestamp};

/// Most transitions that are remembered, beside those of drills.
pub const MAX_HISTORY: usize = 10;
/// Most transitions of drills that are remembered.
pub const MAX_DRILL_TRANSITIONS: usize = 4;
/// Most ids of answered requests that are remembered beside the latest.
pub const MAX_ANSWERED: usize = 20;

/// State that a route keeps from one decision to the next: exactly what `status` persists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Split of the mail; the first one leads. Empty before the first choice.
    pub shares: Vec<Share>,
    /// Time at which the first one began to lead; meaningless without shares.
    pub since: Timestamp,
    /// State after the latest decision.
    pub state: State,
    /// Hold that was in force after the latest decision.
    pub held_by: Option<HoldReason>,
    /// Time since which that reason has held the route without interruption; `None` without a hold.
    pub held_since: Option<Timestamp>,
    /// End of that hold, if it has one.
    pub held_until: Option<Timestamp>,
    /// The latest transitions, newest first; at most [`MAX_HISTORY`] and [`MAX_DRILL_TRANSITIONS`] of drills.
    pub history: Vec<Transition>,
    /// A return that goes in steps and is under way.
    pub ramp: Option<Ramp>,
    /// A requested Switch that is in force.
    pub switch: Option<Switch>,
    /// A requested Pause that is in force.
    pub pause: Option<Pause>,
    /// Time of an accepted `ApproveFailback` that was not used yet.
    pub approved_at: Option<Timestamp>,
    /// The latest request and its answer.
    pub request: Option<RequestAnswer>,
    /// Ids of the requests that were answered before the latest one, newest first; at most [`MAX_ANSWERED`].
    pub answered: Vec<Arc<str>>,
    /// Drill that is under way.
    pub drill: Option<Drill>,
    /// Drills that are over, and those that are due.
    pub drills: DrillLog,
}

impl Memory {
    /// Returns true if a request of this id was answered, as far as is remembered.
    pub fn has_answered(&self, id: &str) -> bool {
        self.request.as_ref().is_some_and(|answer| *answer.id == *id)
            || self.answered.iter().any(|answered| **answered == *id)
    }

    /// Returns the use of a request's id as far as is remembered.
    pub(super) fn use_of(&self, request: &Request) -> IdUse<'_> {
        match &self.request {
            Some(answer) if answer.id == request.id => {
                let is_same = [&answer.digest, &request.digest].iter().any(|digest| digest.is_empty())
                    || answer.digest == request.digest;
                if is_same { IdUse::Answered } else { IdUse::Taken(Some(answer)) }
            }
            Some(_) | None if self.answered.contains(&request.id) => IdUse::Taken(None),
            Some(_) | None => IdUse::Free,
        }
    }

    /// The backend that leads.
    pub fn lead(&self) -> Option<&Arc<str>> {
        self.shares.first().map(|share| &share.backend)
    }

    /// Returns true if a further answer of a backend may move the mail, although it turns no verdict.
    pub fn awaits_answer(&self) -> bool {
        matches!(
            self.held_by,
            Some(HoldReason::AwaitingConfirmation | HoldReason::NoneHealthy | HoldReason::StormBrake)
        )
    }

    /// Returns the latest transition.
    pub fn last_transition(&self) -> Option<&Transition> {
        self.history.first()
    }

    /// Iterates over the transitions that no drill has made, newest first.
    // A drill spends no budget and begins no cooldown.
    pub(super) fn real_transitions(&self) -> impl Iterator<Item = &Transition> {
        self.history.iter().filter(|transition| transition.reason != TransitionReason::Drill)
    }

    /// Returns the id of the next transition.
    pub(super) fn next_transition_id(&self) -> i64 {
        self.last_transition().map_or(0, |last| last.id).saturating_add(1)
    }

    /// Adds the latest transition, and forgets the oldest ones. Drills displace none of the others.
    pub(super) fn remember(&mut self, transition: Transition) {
        self.history.insert(0, transition);
        let (mut real, mut of_drills) = (0, 0);
        self.history.retain(|transition| {
            let is_of_drill = transition.reason == TransitionReason::Drill;
            let (count, most) =
                if is_of_drill { (&mut of_drills, MAX_DRILL_TRANSITIONS) } else { (&mut real, MAX_HISTORY) };
            *count += 1;
            *count <= most
        });
    }
}

/// Use of a request's id by requests before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdUse<'a> {
    /// No request of that id was answered.
    Free,
    /// This very request was answered.
    Answered,
    /// Another request of that id was answered, with its answer if that is the latest one.
    Taken(Option<&'a RequestAnswer>),
}

/// Share of the mail that a backend carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Name of the `SendingBackend`.
    pub backend: Arc<str>,
    /// Percentage of the mail, 0 to 100.
    pub percent: u8,
    /// True if it only takes mail that does not fit elsewhere.
    pub is_overflow: bool,
}

/// State of a route, as `status.state` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::VariantArray)]
pub enum State {
    /// On its preferred backend, or on all of them.
    Preferred,
    /// On another one, or on fewer.
    FailedOver,
    /// The mail returns in steps.
    FailingBack,
    /// Wants to move and cannot, for a reason that is neither health nor a timer.
    Holding,
    /// A person has stopped every move.
    Paused,
    /// No backend can deliver.
    NoneHealthy,
    /// Before the first decision.
    #[default]
    Unknown,
}

impl State {
    /// Every state, in the order of the documentation.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The CamelCase name used in status and metric labels.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Returns a description for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Preferred => "mail leaves by the preferred backend, or by all of them",
            Self::FailedOver => "mail leaves by another backend, or by fewer",
            Self::FailingBack => "mail returns in steps",
            Self::Holding => "the route should move and cannot, or stays with a backend that cannot deliver",
            Self::Paused => "a person has stopped every move",
            Self::NoneHealthy => "no backend can deliver",
            Self::Unknown => "no backend is chosen yet",
        }
    }
}

/// A move from one backend to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Increases by one with each transition of the route.
    pub id: i64,
    /// Direction of the move.
    pub kind: TransitionKind,
    /// The backend that is left, or gives up mail.
    pub from: Arc<str>,
    /// The backend that carries the mail from now on, or the most of what moves.
    pub to: Arc<str>,
    /// Reason for the move.
    pub reason: TransitionReason,
    /// Start of the first observation that led to the move, if evidence did.
    pub first_evidence_at: Option<Timestamp>,
    /// Time of the decision.
    pub decided_at: Timestamp,
}

/// Direction of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
pub enum TransitionKind {
    /// To a less preferred backend, to fewer of them, or away from one that left the list.
    Failover,
    /// To a more preferred backend, or to more of them.
    Failback,
}

impl TransitionKind {
    /// Returns the CamelCase name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Reason for a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransitionReason {
    /// The backend failed, or grew slow, by this evidence.
    Failed(EvidenceClass),
    /// The backend was taken out of service.
    Suspended,
    /// The route must not use the backend any more.
    Excluded,
    /// The backend's object is missing or cannot be used.
    Unusable,
    /// The backend is no longer in the route's list.
    RemovedFromRoute,
    /// A more preferred backend has recovered.
    Recovered,
    /// Nobody is healthy and the policy prefers the preferred one.
    NoneHealthy,
    /// A person asked for it.
    Requested,
    /// A drill rehearses a failover, or has ended: nothing has failed.
    Drill,
}

impl TransitionReason {
    /// Every reason that is no [`EvidenceClass`].
    pub const OTHERS: [Self; 8] = [
        Self::Suspended,
        Self::Excluded,
        Self::Unusable,
        Self::RemovedFromRoute,
        Self::Recovered,
        Self::NoneHealthy,
        Self::Requested,
        Self::Drill,
    ];

    /// The CamelCase name used in status, Events and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed(class) => class.as_str(),
            Self::Suspended => "Suspended",
            Self::Excluded => "Excluded",
            Self::Unusable => "Unusable",
            Self::RemovedFromRoute => "RemovedFromRoute",
            Self::Recovered => "Recovered",
            Self::NoneHealthy => "NoneHealthy",
            Self::Requested => "Requested",
            Self::Drill => "Drill",
        }
    }

    /// Returns a description for people; `None` for evidence, which has its own.
    pub fn meaning(self) -> Option<&'static str> {
        match self {
            Self::Failed(_) => None,
            Self::Suspended => Some("the backend was taken out of service"),
            Self::Excluded => Some("the route must not use the backend any more: residency or sender domain"),
            Self::Unusable => Some("the backend's object is missing or cannot be used"),
            Self::RemovedFromRoute => Some("the backend is no longer in the route's list"),
            Self::Recovered => Some("a more preferred backend has recovered"),
            Self::NoneHealthy => Some("nobody can deliver, and the policy prefers the preferred one"),
            Self::Requested => Some("a person asked for it"),
            Self::Drill => Some("a drill rehearses a failover, or has ended; nothing has failed"),
        }
    }

    /// Returns the reason of that name. A name that only a newer version knows becomes a failure of an inconclusive
    /// class.
    pub fn from_name(name: &str) -> Self {
        let other = Self::OTHERS.into_iter().find(|reason| reason.as_str() == name);
        other.unwrap_or_else(|| Self::Failed(EvidenceClass::from_name(name).unwrap_or(EvidenceClass::Inconclusive)))
    }
}

impl Transition {
    /// Returns kind, backends and reason in one line: `Failover ses-eu → sendgrid: AccountPaused`.
    pub fn summary(&self) -> String {
        format!("{} {} → {}: {}", self.kind.as_str(), self.from, self.to, self.reason.as_str())
    }
}

/// A return that goes in steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// The backends whose shares grow.
    pub to: Vec<Arc<str>>,
    /// The step of `failback.ramp`, from 0.
    pub step: usize,
    /// Start of the present step.
    pub since: Timestamp,
}

/// A requested Switch in force: mail goes there until it ends, unless that backend dies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Name of the requested backend.
    pub to: Arc<str>,
    /// It holds although the backend is Unhealthy or suspended.
    pub is_forced: bool,
    /// End of the Switch; `None` lasts until a Failback is requested.
    pub until: Option<Timestamp>,
}

/// A requested Pause in force: nothing moves, not even away from a dead backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Start of the Pause.
    pub since: Timestamp,
    /// End of the Pause; `None` lasts until a Resume is requested.
    pub until: Option<Timestamp>,
}

/// Request of a person to a route, carried out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the person: the same id is answered once.
    pub id: Arc<str>,
    /// Action that the person asks for.
    pub action: RequestAction,
    /// Reason that the person gives, for people.
    pub reason: Option<Arc<str>>,
    /// Digest of all that was written; empty if none is known. Two requests of one id differ if their digests do.
    pub digest: Arc<str>,
    /// Program by which it was written, as the API server tells it (`metadata.managedFields`).
    pub asked_by: Option<Arc<str>>,
}

impl Request {
    /// Makes a request without a reason or a digest.
    pub fn new(id: impl Into<Arc<str>>, action: RequestAction) -> Self {
        Self { id: id.into(), action, reason: None, digest: "".into(), asked_by: None }
    }
}

/// Action that can be requested of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestAction {
    /// Send the mail there.
    Switch {
        /// Name of a backend of the route.
        to: Arc<str>,
        /// Duration of the Switch; `None` lasts until a Failback.
        duration: Option<Duration>,
        /// Even if it is Unhealthy, Unknown or suspended.
        is_forced: bool,
    },
    /// Return to the preferred backend now, without waiting for any hold.
    Failback,
    /// Stop every move of the route.
    Pause {
        /// Duration of the Pause; `None` lasts until a Resume.
        duration: Option<Duration>,
    },
    /// Allow moves of the route again.
    Resume,
    /// Let a Manual failback begin as soon as the holds allow.
    ApproveFailback,
    /// Rehearse a failover.
    Drill {
        /// Mode of the drill; `None` for the policy's.
        mode: Option<DrillMode>,
        /// Longest duration of the drill; `None` for the policy's.
        duration: Option<Duration>,
        /// Even outside the windows of the policy.
        is_forced: bool,
    },
    /// The request could not be read; holds the reason, for people.
    Malformed(String),
}

impl RequestAction {
    /// Returns the CamelCase name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Switch { .. } => "Switch",
            Self::Failback => "Failback",
            Self::Pause { .. } => "Pause",
            Self::Resume => "Resume",
            Self::ApproveFailback => "ApproveFailback",
            Self::Drill { .. } => "Drill",
            Self::Malformed(_) => "Malformed",
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAnswer {
    /// The id of the request.
    pub id: Arc<str>,
    /// Name of the action ([`RequestAction::as_str`]).
    pub action: Arc<str>,
    /// True if the request was carried out.
    pub is_done: bool,
    /// Result or refusal with its remedy, for people.
    pub message: String,
    /// Reason that the person gave.
    pub reason: Option<Arc<str>>,
    /// Digest of the request; empty if none is known.
    pub digest: Arc<str>,
    /// Program by which it was written.
    pub asked_by: Option<Arc<str>>,
    /// Time of the answer.
    pub at: Timestamp,
}
