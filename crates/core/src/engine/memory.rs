use std::sync::Arc;
use std::time::Duration;

use super::HoldReason;
use crate::model::{EvidenceClass, Timestamp};

/// So many transitions are remembered.
pub const MAX_HISTORY: usize = 10;

/// What a route remembers from one decision to the next: exactly what `status` persists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Where the mail goes; the first one leads. Empty before the first choice.
    pub shares: Vec<Share>,
    /// Since when the first one leads; meaningless without shares.
    pub since: Timestamp,
    /// Where the route stood after the latest decision.
    pub state: State,
    /// What held the route after the latest decision.
    pub held_by: Option<HoldReason>,
    /// The latest transitions, newest first; at most [`MAX_HISTORY`].
    pub history: Vec<Transition>,
    /// A return that goes in steps and is under way.
    pub ramp: Option<Ramp>,
    /// A requested Switch that is in force.
    pub switch: Option<Switch>,
    /// A requested Pause that is in force.
    pub pause: Option<Pause>,
    /// When an `ApproveFailback` was accepted that was not used yet.
    pub approved_at: Option<Timestamp>,
    /// The latest request and its answer.
    pub request: Option<Answer>,
}

impl Memory {
    /// The backend that leads.
    pub fn lead(&self) -> Option<&Arc<str>> {
        self.shares.first().map(|share| &share.backend)
    }

    /// The latest transition.
    pub fn last_transition(&self) -> Option<&Transition> {
        self.history.first()
    }
}

/// How much of the mail goes to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Name of the `SendingBackend`.
    pub backend: Arc<str>,
    /// 0 to 100.
    pub percent: u8,
    /// It only takes what does not fit elsewhere.
    pub is_overflow: bool,
}

/// Where a route stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// On its preferred backend, or on all of them.
    Preferred,
    /// On another one, or on fewer.
    FailedOver,
    /// Returning in steps.
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
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Preferred,
        Self::FailedOver,
        Self::FailingBack,
        Self::Holding,
        Self::Paused,
        Self::NoneHealthy,
        Self::Unknown,
    ];

    /// The CamelCase name used in status and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preferred => "Preferred",
            Self::FailedOver => "FailedOver",
            Self::FailingBack => "FailingBack",
            Self::Holding => "Holding",
            Self::Paused => "Paused",
            Self::NoneHealthy => "NoneHealthy",
            Self::Unknown => "Unknown",
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Preferred => "mail leaves by the preferred backend, or by all of them",
            Self::FailedOver => "mail leaves by another backend, or by fewer",
            Self::FailingBack => "mail returns in steps",
            Self::Holding => "the route should move and cannot, for a reason that is neither health nor a timer",
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
    /// What kind of move.
    pub kind: TransitionKind,
    /// The backend that is left, or gives up mail.
    pub from: Arc<str>,
    /// The backend that carries the mail from now on, or the most of what moves.
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
    /// To a less preferred backend, to fewer of them, or away from one that left the list.
    Failover,
    /// To a more preferred backend, or to more of them.
    Failback,
}

impl TransitionKind {
    /// The CamelCase name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failover => "Failover",
            Self::Failback => "Failback",
        }
    }
}

/// Why a route moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransitionReason {
    /// The backend failed, or grew slow, by this evidence.
    Failed(EvidenceClass),
    /// The backend was taken out of service.
    Suspended,
    /// The route must not use the backend any more.
    Excluded,
    /// The backend is no longer in the route's list.
    RemovedFromRoute,
    /// A more preferred backend has recovered.
    Recovered,
    /// Nobody is healthy and the policy prefers the preferred one.
    NoneHealthy,
    /// A person asked for it.
    Requested,
}

impl TransitionReason {
    /// Every reason that is no [`EvidenceClass`].
    pub const OTHERS: [Self; 6] =
        [Self::Suspended, Self::Excluded, Self::RemovedFromRoute, Self::Recovered, Self::NoneHealthy, Self::Requested];

    /// The CamelCase name used in status, Events and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed(class) => class.as_str(),
            Self::Suspended => "Suspended",
            Self::Excluded => "Excluded",
            Self::RemovedFromRoute => "RemovedFromRoute",
            Self::Recovered => "Recovered",
            Self::NoneHealthy => "NoneHealthy",
            Self::Requested => "Requested",
        }
    }

    /// What it means, for people; `None` for evidence, which has its own words.
    pub fn meaning(self) -> Option<&'static str> {
        match self {
            Self::Failed(_) => None,
            Self::Suspended => Some("the backend was taken out of service"),
            Self::Excluded => Some("the route must not use the backend any more: residency or sender domain"),
            Self::RemovedFromRoute => Some("the backend is no longer in the route's list"),
            Self::Recovered => Some("a more preferred backend has recovered"),
            Self::NoneHealthy => Some("nobody can deliver, and the policy prefers the preferred one"),
            Self::Requested => Some("a person asked for it"),
        }
    }

    /// The reason of that name; one that a newer version has written says no more than that the backend failed.
    pub fn from_name(name: &str) -> Self {
        let other = Self::OTHERS.into_iter().find(|reason| reason.as_str() == name);
        other.unwrap_or_else(|| Self::Failed(EvidenceClass::from_name(name).unwrap_or(EvidenceClass::Inconclusive)))
    }
}

impl Transition {
    /// What it was and why, for people: `Failover ses-eu → sendgrid: AccountPaused`.
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
    /// When that step began.
    pub since: Timestamp,
}

/// A requested Switch in force: mail goes there until it ends, unless that backend dies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The backend.
    pub to: Arc<str>,
    /// It holds although the backend is Unhealthy or suspended.
    pub is_forced: bool,
    /// Until then; until a Failback is requested, when absent.
    pub until: Option<Timestamp>,
}

/// A requested Pause in force: nothing moves, not even away from a dead backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// Until then; until a Resume is requested, when absent.
    pub until: Option<Timestamp>,
}

/// What a person asks of a route, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by the person: the same id is answered once.
    pub id: Arc<str>,
    /// What is asked.
    pub action: Action,
}

/// What can be asked of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send the mail there.
    Switch {
        /// Name of a backend of the route.
        to: Arc<str>,
        /// For so long; until a Failback, when absent.
        duration: Option<Duration>,
        /// Even if it is Unhealthy, Unknown or suspended.
        is_forced: bool,
    },
    /// Return to the preferred backend now, without waiting for any hold.
    Failback,
    /// Move nothing.
    Pause {
        /// For so long; until a Resume, when absent.
        duration: Option<Duration>,
    },
    /// Move again.
    Resume,
    /// Let a Manual failback begin as soon as the holds allow.
    ApproveFailback,
    /// It could not be read; why, for people.
    Malformed(String),
}

impl Action {
    /// The CamelCase name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Switch { .. } => "Switch",
            Self::Failback => "Failback",
            Self::Pause { .. } => "Pause",
            Self::Resume => "Resume",
            Self::ApproveFailback => "ApproveFailback",
            Self::Malformed(_) => "Malformed",
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the request.
    pub id: Arc<str>,
    /// [`Action::as_str`].
    pub action: Arc<str>,
    /// Whether it was done.
    pub is_done: bool,
    /// What was done, or why not and what to do about it.
    pub message: String,
    /// When.
    pub at: Timestamp,
}
