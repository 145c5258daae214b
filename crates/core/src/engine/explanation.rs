//! Explanation of a decision in one structure for Events, conditions and commands.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::decision::DecisionBuilder;
use super::{
    Eligibility, Exclusion, Health, Hold, HoldReason, RequestAnswer, Share, State, Transition, TransitionReason, holds,
};
use crate::model::{DrillMode, EvidenceClass, FailbackMode, Strategy, Timestamp, WhenNoneHealthy};

/// Chain of reasons of a decision, and the changes that would alter it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Reasons in order: evidence, conclusion, action.
    pub reasons: Vec<Reason>,
    /// Changes that would alter the decision.
    pub next_changes: Vec<NextChange>,
}

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// State of a backend as the decision saw it.
    Known {
        /// Name of the `SendingBackend`.
        backend: Arc<str>,
        /// Eligibility of the backend.
        eligibility: Eligibility,
        /// Verdict about the backend.
        health: Health,
        /// Evidence that the verdict rests on.
        class: EvidenceClass,
        /// Start of the verdict.
        since: Timestamp,
        /// True if the backend has asked for less.
        is_throttled: bool,
    },
    /// A person's request, answered in this decision.
    Requested(RequestAnswer),
    /// The move of this decision.
    Moves(Transition),
    /// An earlier move; the route stays where it led.
    Moved(Transition),
    /// The route is where it is wanted.
    Stays {
        /// The backend that leads; several share the mail with `ActiveActive`.
        backend: Arc<str>,
    },
    /// A hold keeps the route from moving.
    Held(Hold),
    /// No backend can deliver.
    NoneHealthy,
    /// Share of the mail that a backend carries.
    Carries(Share),
    /// Percentage of the mail that no backend takes.
    Unplaced(u8),
    /// A drill is under way.
    Drilled {
        /// Mode of the drill.
        mode: DrillMode,
        /// Backend that counts as failed; in shadow the standby.
        backend: Arc<str>,
        /// Time at which it is over at the latest.
        until: Timestamp,
    },
}

/// Change that would alter where the mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextChange {
    /// The leading backend turns Unhealthy.
    Fails {
        /// Name of the leading backend.
        backend: Arc<str>,
        /// Failures in a row that it takes.
        failures: u32,
        /// Failures in a row so far.
        so_far: u32,
        /// Backend that would take over; `None` if none could.
        to: Option<Arc<str>>,
    },
    /// A backend becomes Healthy again.
    Recovers {
        /// Name of the recovering backend.
        backend: Arc<str>,
        /// Successes in a row that it takes.
        successes: u32,
        /// Time it must be Healthy before the failback; `None` if no failback follows by itself.
        returns_after: Option<std::time::Duration>,
    },
    /// The hold comes to its end.
    Ends(Hold),
    /// A person asks for something.
    Asks {
        /// The action of that request.
        action: &'static str,
    },
    /// A person changes something.
    Changes {
        /// Path of the field, with the object that has it.
        field: String,
    },
}

impl Explanation {
    /// Returns one sentence that says where the mail goes and why not elsewhere.
    pub fn summary(&self) -> String {
        let mut carriers = vec![];
        let (mut move_, mut hold, mut unplaced, mut is_dead) = (None, None, 0, false);
        for reason in &self.reasons {
            match reason {
                Reason::Carries(share) => carriers.push(share),
                Reason::Moves(transition) | Reason::Moved(transition) => move_ = Some(transition),
                Reason::Held(held) => hold = Some(held),
                Reason::Unplaced(percent) => unplaced = *percent,
                Reason::NoneHealthy => is_dead = true,
                Reason::Known { .. } | Reason::Requested(_) | Reason::Stays { .. } | Reason::Drilled { .. } => {}
            }
        }
        let mut sentence = match &carriers[..] {
            [] if is_dead || hold.is_some_and(|hold| hold.reason == HoldReason::NoneHealthy) => {
                format!("no backend can deliver ({}); mail has nowhere to go", self.troubles())
            }
            [] => return "waiting for verdicts on the backends".to_owned(),
            several if is_dead => {
                format!("no backend can deliver ({}); mail stays with {}", self.troubles(), names(several))
            }
            several => format!("mail leaves by {}", names(several)),
        };
        if let Some(transition) = move_.filter(|_| !is_dead) {
            let Transition { from, to, reason, .. } = transition;
            let _ = match (*reason == TransitionReason::Recovered, reason.as_str()) {
                (true, _) => write!(sentence, ", {to} has recovered"),
                (false, reason) => write!(sentence, ", {from} was left: {reason}"),
            };
        }
        if let Some(hold) = hold.filter(|hold| hold.reason != HoldReason::NoneHealthy || !is_dead) {
            sentence.push_str("; ");
            sentence.push_str(hold.reason.meaning());
        }
        if unplaced > 0 {
            sentence.push_str("; ");
            sentence.push_str(&Reason::Unplaced(unplaced).to_string());
        }
        for drilled in self.reasons.iter().filter(|reason| matches!(reason, Reason::Drilled { .. })) {
            sentence.push_str("; ");
            sentence.push_str(&drilled.to_string());
        }
        sentence
    }

    /// Lists the trouble of each backend: `ses-eu: NoAnswer, relay-a: suspended`.
    fn troubles(&self) -> String {
        self.reasons.iter().filter_map(Reason::trouble).collect::<Vec<_>>().join(", ")
    }
}

impl Reason {
    /// Returns the trouble of a backend; `None` for every other reason.
    fn trouble(&self) -> Option<String> {
        match self {
            Self::Known { backend, eligibility, class, .. } => Some(match eligibility {
                Eligibility::InService => format!("{backend}: {}", class.as_str()),
                Eligibility::Suspended => format!("{backend}: suspended"),
                Eligibility::Excluded(_) => format!("{backend}: excluded"),
                Eligibility::Unusable => format!("{backend}: missing or cannot be used"),
            }),
            Self::Requested(_)
            | Self::Moves(_)
            | Self::Moved(_)
            | Self::Stays { .. }
            | Self::Held(_)
            | Self::NoneHealthy
            | Self::Carries(_)
            | Self::Unplaced(_)
            | Self::Drilled { .. } => None,
        }
    }
}

/// Lists names with shares: `ses-eu`, or `ses-eu (70 %) and sendgrid (30 %)`.
fn names(shares: &[&Share]) -> String {
    match shares {
        [only] if only.percent == 100 => only.backend.to_string(),
        several => {
            let parts: Vec<_> =
                several.iter().map(|share| format!("{} ({} %)", share.backend, share.percent)).collect();
            parts.join(" and ")
        }
    }
}

/// Explains a decision right before it is concluded.
pub(super) fn of(builder: &DecisionBuilder<'_>, unplaced: u8) -> Explanation {
    Explanation { reasons: reasons(builder, unplaced), next_changes: next_changes(builder) }
}

fn reasons(builder: &DecisionBuilder<'_>, unplaced: u8) -> Vec<Reason> {
    let known = builder.ranked.iter().map(|candidate| Reason::Known {
        backend: candidate.name.clone(),
        eligibility: candidate.eligibility,
        health: candidate.health,
        class: candidate.class,
        since: candidate.since,
        is_throttled: candidate.is_throttled,
    });
    let mut reasons: Vec<_> = known.collect();
    if builder.memory.request != builder.before.request {
        reasons.extend(builder.memory.request.clone().map(Reason::Requested));
    }
    if builder.memory.state == State::NoneHealthy {
        reasons.push(Reason::NoneHealthy);
    }
    match (&builder.transition, builder.memory.last_transition(), builder.members.first()) {
        (Some(transition), _, _) => reasons.push(Reason::Moves(transition.clone())),
        (None, Some(last), Some(lead)) if builder.memory.state != State::Preferred && last.to == *lead => {
            reasons.push(Reason::Moved(last.clone()));
        }
        (None, _, Some(lead)) if builder.lead().is_some_and(|lead| lead.health != Health::Unhealthy) => {
            reasons.push(Reason::Stays { backend: lead.clone() });
        }
        (None, _, Some(_) | None) => {}
    }
    reasons.extend(builder.hold.map(Reason::Held));
    reasons.extend(builder.memory.shares.iter().cloned().map(Reason::Carries));
    reasons.extend((unplaced > 0).then_some(Reason::Unplaced(unplaced)));
    reasons
}

fn next_changes(builder: &DecisionBuilder<'_>) -> Vec<NextChange> {
    let mut next_changes = vec![];
    let policy = builder.situation.policy;
    if builder.memory.pause.is_some() {
        next_changes.push(NextChange::Asks { action: "Resume" });
    } else if builder.memory.switch.is_some() {
        next_changes.push(NextChange::Asks { action: "Failback" });
    }
    if let Some(hold) = builder.hold.filter(|hold| hold.until.is_some()) {
        next_changes.push(NextChange::Ends(hold));
    }
    let standby = builder.ranked.iter().find(|candidate| !builder.is_member(candidate) && candidate.is_eligible());
    for member in builder.members.iter().filter_map(|name| builder.find(name)) {
        match (member.eligibility, member.health) {
            (Eligibility::InService, Health::Healthy | Health::Degraded | Health::Unknown)
                if builder.memory.pause.is_none() =>
            {
                let other_member = builder.members.iter().find(|name| **name != member.name);
                next_changes.push(NextChange::Fails {
                    backend: member.name.clone(),
                    failures: policy.thresholds.failure,
                    so_far: member.failures,
                    to: other_member.cloned().or(standby.map(|standby| standby.name.clone())),
                });
            }
            (Eligibility::Suspended, _) => {
                next_changes
                    .push(NextChange::Changes { field: format!("spec.suspended of SendingBackend {}", member.name) });
            }
            (_, _) => {}
        }
    }
    let lead_rank = builder.members.first().map_or(usize::MAX, |lead| {
        builder.ranked.iter().position(|candidate| candidate.name == *lead).unwrap_or(usize::MAX)
    });
    let wanted = match builder.situation.strategy {
        Strategy::ActivePassive if builder.memory.state != State::NoneHealthy => {
            &builder.ranked[..lead_rank.min(builder.ranked.len())]
        }
        Strategy::ActivePassive | Strategy::ActiveActive => &builder.ranked[..],
    };
    for candidate in wanted {
        let is_dead_member = builder.is_member(candidate) && candidate.health == Health::Unhealthy;
        if builder.is_member(candidate) && !is_dead_member {
            continue;
        }
        match (candidate.eligibility, candidate.health) {
            (Eligibility::InService, Health::Unhealthy | Health::Unknown | Health::Degraded) => {
                next_changes.push(NextChange::Recovers {
                    backend: candidate.name.clone(),
                    // A backend that was never seen to fail needs no recovery: one success is enough.
                    successes: if candidate.class == EvidenceClass::Inconclusive {
                        1
                    } else {
                        policy.thresholds.recovery
                    },
                    returns_after: (policy.failback.mode == FailbackMode::Automatic
                        && !is_dead_member
                        && !builder.members.is_empty())
                    .then(|| holds::soak(policy, &builder.memory, candidate)),
                });
            }
            (Eligibility::InService, Health::Healthy) => {}
            (Eligibility::Suspended, _) => next_changes
                .push(NextChange::Changes { field: format!("spec.suspended of SendingBackend {}", candidate.name) }),
            (Eligibility::Excluded(Exclusion::Residency), _) => next_changes.push(NextChange::Changes {
                field: format!("spec.residency of the route, or spec.location of SendingBackend {}", candidate.name),
            }),
            (Eligibility::Excluded(Exclusion::SenderDomain), _) => next_changes.push(NextChange::Changes {
                field: format!("spec.senderDomains of the route, or of SendingBackend {}", candidate.name),
            }),
            (Eligibility::Unusable, _) => next_changes.push(NextChange::Changes {
                field: format!("SendingBackend {}, which is missing or cannot be used", candidate.name),
            }),
        }
    }
    if builder.hold.is_some_and(|hold| hold.reason == HoldReason::ManualFailback) {
        next_changes.push(NextChange::Asks { action: "ApproveFailback" });
        next_changes.push(NextChange::Asks { action: "Failback" });
    }
    if builder.memory.state == State::NoneHealthy && policy.when_none_healthy == WhenNoneHealthy::Hold {
        next_changes.push(NextChange::Asks { action: "Switch with force" });
    }
    next_changes
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { backend, eligibility, health, class, since, is_throttled } => {
                match eligibility {
                    Eligibility::InService => write!(f, "{backend} is {}", health.as_str())?,
                    Eligibility::Suspended => write!(f, "{backend} is suspended and {}", health.as_str())?,
                    Eligibility::Excluded(Exclusion::Residency) => {
                        return write!(f, "{backend} is outside the jurisdictions of the route");
                    }
                    Eligibility::Excluded(Exclusion::SenderDomain) => {
                        return write!(f, "{backend} may not send for all domains of the route");
                    }
                    Eligibility::Unusable => return write!(f, "{backend} is missing or cannot be used"),
                }
                match health {
                    Health::Healthy => write!(f, " since {since}")?,
                    Health::Degraded | Health::Unhealthy => write!(f, " ({}) since {since}", class.as_str())?,
                    Health::Unknown => write!(f, " ({})", class.as_str())?,
                }
                if *is_throttled { f.write_str(", and asks for less") } else { Ok(()) }
            }
            Self::Requested(answer) => {
                let outcome = if answer.is_done { "granted" } else { "refused" };
                write!(f, "the request {} ({}) is {outcome}: {}", answer.action, answer.id, answer.message)
            }
            Self::Moves(transition) => write!(f, "the route moves from {}", Move(transition)),
            Self::Moved(transition) => {
                write!(f, "the route moved at {} from {}", transition.decided_at, Move(transition))
            }
            Self::Stays { backend } => write!(f, "{backend} is where the mail belongs"),
            Self::Held(hold) => match hold.until {
                Some(until) => write!(f, "held by {} until {until}: {}", hold.reason.as_str(), hold.reason.meaning()),
                None => write!(f, "held by {}: {}", hold.reason.as_str(), hold.reason.meaning()),
            },
            Self::NoneHealthy => f.write_str("no backend can deliver"),
            Self::Carries(Share { backend, percent, is_overflow: false }) => write!(f, "{backend} carries {percent} %"),
            Self::Carries(Share { backend, percent, is_overflow: true }) => {
                write!(f, "{backend} carries the {percent} % that do not fit elsewhere")
            }
            Self::Unplaced(percent) => {
                write!(f, "{percent} % of the mail have nowhere to go: limits and warm-up leave no room")
            }
            Self::Drilled { mode, backend, until } => {
                let mode = mode.as_str();
                write!(f, "a drill ({mode}) of {backend} is under way until {until} at the latest: nothing has failed")
            }
        }
    }
}

/// `ses-eu to sendgrid: NoAnswer`.
struct Move<'a>(&'a Transition);

impl fmt::Display for Move<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transition { from, to, reason, .. } = self.0;
        let why = match reason {
            TransitionReason::Failed(_) => format!("{} of {from}", reason.as_str()),
            TransitionReason::Suspended => format!("{from} is suspended"),
            TransitionReason::Excluded => format!("the route must not use {from}"),
            TransitionReason::Unusable => format!("{from} is missing or cannot be used"),
            TransitionReason::RemovedFromRoute => format!("{from} is not in the list any more"),
            TransitionReason::Recovered => format!("{to} has recovered"),
            TransitionReason::NoneHealthy => format!("nobody can deliver, and {to} is preferred"),
            TransitionReason::Requested => "requested".to_owned(),
            TransitionReason::Drill => "a drill".to_owned(),
        };
        write!(f, "{from} to {to}: {why}")
    }
}

impl fmt::Display for NextChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fails { backend, failures, so_far, to } => {
                let then = match to {
                    Some(to) => format!("mail goes to {to}"),
                    None => "mail has nowhere to go".to_owned(),
                };
                write!(f, "{backend} turns Unhealthy ({so_far} of {failures} failures in a row): {then}")
            }
            Self::Recovers { backend, successes, returns_after } => {
                match successes {
                    1 => write!(f, "{backend} turns Healthy (one success)")?,
                    _ => write!(f, "{backend} turns Healthy ({successes} successes in a row)")?,
                }
                match returns_after {
                    Some(soak) => write!(f, " and stays so for {soak:?}: mail returns to it"),
                    None => Ok(()),
                }
            }
            Self::Ends(hold) => match hold.until {
                Some(until) => write!(f, "{} ends at {until}", hold.reason.as_str()),
                None => write!(f, "{} ends", hold.reason.as_str()),
            },
            Self::Asks { action } => write!(f, "a person requests {action}"),
            Self::Changes { field } => write!(f, "a person changes {field}"),
        }
    }
}
