//! Requests of people to a route, and the answers: done, or refused with the reason and the remedy.

use std::sync::Arc;

use super::decision::is_excluded;
use super::drill::{self, DrillRefused};
use super::{
    Candidate, Eligibility, Exclusion, Health, Memory, Pause, Request, RequestAction, RequestAnswer, Situation, Switch,
};
use crate::model::{FailbackMode, Strategy, Timestamp};

/// Answer to a Failback that ends a drill.
const DRILL_OVER: &str = "the drill is over, and mail leaves as before";

/// Demand of a granted request on the rest of the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestedMove {
    /// Send all mail to that backend.
    SwitchTo(Arc<str>),
    /// Return to the preferred backend.
    FailBack,
}

/// Outcome of a granted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// Move that the request demands, if it does.
    pub(super) order: Option<RequestedMove>,
    /// Answer in one sentence, for people.
    pub(super) message: String,
}

impl Granted {
    fn new(order: Option<RequestedMove>, message: impl Into<String>) -> Self {
        Self { order, message: message.into() }
    }
}

/// Refused request, with the reason and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestRefused {
    #[error("{name} is not a backend of this route; use one of {}", .backends.join(", "))]
    NotOfThisRoute { name: Arc<str>, backends: Vec<String> },
    #[error("the route must not use any of its backends")]
    NoBackendAllowed,
    #[error("mail already leaves by {0}, the preferred backend")]
    AlreadyThere(Arc<str>),
    #[error("mail already leaves by every backend that the route may use")]
    AllAreMembers,
    #[error("{0} has not recovered yet: request ApproveFailback once it is Healthy")]
    NotRecovered(Arc<str>),
    #[error("{name} is {state}; request a Switch to it with \"force\": true to send mail there all the same")]
    NotSound { name: Arc<str>, state: &'static str },
    #[error("the route is not paused")]
    NotPaused,
    #[error("failback.mode of the policy is not Manual: there is nothing to approve")]
    NotManual,
    #[error("mail already leaves by the preferred backend: there is nothing to approve")]
    NothingToApprove,
    #[error("{0}")]
    Malformed(String),
    #[error("{0} does not exist or cannot be used: see its conditions")]
    Unusable(Arc<str>),
    #[error("{0} is outside the jurisdictions of spec.residency: no request overrides that")]
    Residency(Arc<str>),
    #[error("{0} may not send for all of spec.senderDomains: no request overrides that")]
    SenderDomain(Arc<str>),
    #[error("{0} is suspended; clear spec.suspended, or ask again with \"force\": true")]
    Suspended(Arc<str>),
    #[error("{name} is {health} ({class}); ask again with \"force\": true to send mail there all the same")]
    Unhealthy { name: Arc<str>, health: &'static str, class: &'static str },
    #[error(
        "nothing is done: a {action} with the id {id} was answered at {at}; ask again with another id, such as the time (date +%s)"
    )]
    IdAnswered { id: Arc<str>, action: Arc<str>, at: Timestamp },
    #[error("nothing is done: the id {0} was used before; ask again with another id, such as the time (date +%s)")]
    IdUsed(Arc<str>),
    #[error(transparent)]
    Drill(#[from] DrillRefused),
}

impl RequestRefused {
    /// Refuses a request whose id another one had, with its answer if that is remembered.
    pub(super) fn id_taken(request: &Request, answer: Option<&RequestAnswer>) -> Self {
        let id = request.id.clone();
        match answer {
            Some(RequestAnswer { action, at, .. }) => Self::IdAnswered { id, action: action.clone(), at: *at },
            None => Self::IdUsed(id),
        }
    }
}

/// Grants or refuses a request, and notes a granted one in `memory`. `ranked` is in order of preference.
///
/// # Errors
/// [`RequestRefused`] with the reason and the remedy.
pub(super) fn rule(
    request: &Request,
    ranked: &[&Candidate],
    situation: &Situation<'_>,
    memory: &mut Memory,
) -> Result<Granted, RequestRefused> {
    let Situation { now, policy, strategy, .. } = *situation;
    match &request.action {
        RequestAction::Switch { to, duration, is_forced } => {
            let target = ranked.iter().find(|candidate| candidate.name == *to).ok_or_else(|| {
                let backends = ranked.iter().map(|candidate| candidate.name.to_string()).collect();
                RequestRefused::NotOfThisRoute { name: to.clone(), backends }
            })?;
            may_carry(target, *is_forced)?;
            let until = duration.map(|duration| now + duration);
            memory.switch = Some(Switch { to: to.clone(), is_forced: *is_forced, until });
            let end =
                until.map_or_else(|| "until a Failback is requested".to_owned(), |until| format!("until {until}"));
            Ok(Granted::new(Some(RequestedMove::SwitchTo(to.clone())), format!("mail goes to {to} {end}")))
        }
        RequestAction::Failback if strategy == Strategy::ActiveActive => {
            let (joining, first) = missing_members(ranked, memory)?;
            let is_any_kept = ranked.iter().any(|candidate| is_member(candidate, memory) && candidate.is_eligible());
            let ends_something = memory.switch.is_some() || memory.ramp.is_some();
            let is_all = joining.is_empty() && !(ends_something && is_any_kept);
            if let Some(first) = first.filter(|_| is_all) {
                let name = first.name.clone();
                may_carry(first, true)?;
                return Err(RequestRefused::NotSound { name, state: state_of(first) });
            }
            if is_all && drill::ends_at(memory, now) {
                return Ok(Granted::new(None, DRILL_OVER));
            }
            if is_all {
                return Err(RequestRefused::AllAreMembers);
            }
            memory.switch = None;
            let message = match joining.as_slice() {
                [] => "mail leaves by every backend that is Healthy".to_owned(),
                joining => format!("mail leaves by {}, too", joining.join(", ")),
            };
            Ok(Granted::new(Some(RequestedMove::FailBack), message))
        }
        RequestAction::Failback => {
            let preferred = ranked.iter().find(|candidate| !is_excluded(candidate));
            let preferred = preferred.ok_or(RequestRefused::NoBackendAllowed)?;
            let is_there = memory.switch.is_none() && memory.ramp.is_none() && memory.lead() == Some(&preferred.name);
            if is_there && drill::ends_at(memory, now) {
                return Ok(Granted::new(None, DRILL_OVER));
            }
            if is_there {
                return Err(RequestRefused::AlreadyThere(preferred.name.clone()));
            }
            may_carry(preferred, true)?;
            if !preferred.is_sound() {
                return Err(RequestRefused::NotSound { name: preferred.name.clone(), state: state_of(preferred) });
            }
            memory.switch = None;
            Ok(Granted::new(Some(RequestedMove::FailBack), format!("mail returns to {}", preferred.name)))
        }
        // ADR-0020: A Pause stops every move.
        RequestAction::Pause { duration } => {
            let until = duration.map(|duration| now + duration);
            memory.pause = Some(Pause { since: now, until });
            let end = until.map_or_else(|| "until a Resume is requested".to_owned(), |until| format!("until {until}"));
            Ok(Granted::new(None, format!("nothing moves {end}")))
        }
        RequestAction::Resume => match memory.pause.take() {
            Some(_) => Ok(Granted::new(None, "the route moves again by itself")),
            None => Err(RequestRefused::NotPaused),
        },
        RequestAction::ApproveFailback => {
            if policy.failback.mode == FailbackMode::Automatic {
                return Err(RequestRefused::NotManual);
            }
            if memory.shares.is_empty() {
                return Err(RequestRefused::NothingToApprove);
            }
            let awaited: Vec<&Candidate> = match strategy {
                Strategy::ActivePassive => {
                    let lead = memory.lead();
                    let preferred = ranked.iter().take_while(|candidate| Some(&candidate.name) != lead).copied();
                    preferred.filter(|candidate| !is_excluded(candidate)).collect()
                }
                Strategy::ActiveActive => {
                    let missing = ranked.iter().filter(|candidate| !is_member(candidate, memory)).copied();
                    missing.filter(|candidate| !is_excluded(candidate)).collect()
                }
            };
            let Some(first) = awaited.first() else { return Err(RequestRefused::NothingToApprove) };
            // An approval lapses with the recovery that it was given for.
            if !awaited.iter().any(|candidate| candidate.is_sound()) {
                return Err(RequestRefused::NotRecovered(first.name.clone()));
            }
            memory.approved_at = Some(now);
            Ok(Granted::new(None, "the return begins as soon as the holds of the policy allow"))
        }
        RequestAction::Drill { mode, duration, is_forced } => {
            let begun = drill::request(situation, ranked, memory, *mode, *duration, *is_forced)?;
            let message = format!(
                "a drill ({}) of {} with the standby {} begins, and is over by {} at the latest; nothing else of the route changes",
                begun.mode.as_str(),
                begun.backend,
                begun.standby,
                begun.until
            );
            memory.drill = Some(begun);
            Ok(Granted::new(None, message))
        }
        RequestAction::Malformed(why) => Err(RequestRefused::Malformed(why.clone())),
    }
}

fn is_member(candidate: &Candidate, memory: &Memory) -> bool {
    memory.shares.iter().any(|share| !share.is_overflow && share.backend == candidate.name)
}

/// Returns the names of the sound backends that are not members of the pool, and the first that is not one, sound or
/// not.
fn missing_members<'a>(
    ranked: &[&'a Candidate],
    memory: &Memory,
) -> Result<(Vec<String>, Option<&'a Candidate>), RequestRefused> {
    let mut allowed = ranked.iter().copied().filter(|candidate| !is_excluded(candidate)).peekable();
    if allowed.peek().is_none() {
        return Err(RequestRefused::NoBackendAllowed);
    }
    let missing: Vec<_> = allowed.filter(|candidate| !is_member(candidate, memory)).collect();
    let joining = missing.iter().filter(|candidate| candidate.is_sound()).map(|candidate| candidate.name.to_string());
    Ok((joining.collect(), missing.first().copied()))
}

fn state_of(candidate: &Candidate) -> &'static str {
    if candidate.eligibility == Eligibility::Suspended { "suspended" } else { candidate.health.as_str() }
}

fn may_carry(target: &Candidate, is_forced: bool) -> Result<(), RequestRefused> {
    let name = target.name.clone();
    match target.eligibility {
        Eligibility::Unusable => return Err(RequestRefused::Unusable(name)),
        Eligibility::Excluded(Exclusion::Residency) => return Err(RequestRefused::Residency(name)),
        Eligibility::Excluded(Exclusion::SenderDomain) => return Err(RequestRefused::SenderDomain(name)),
        Eligibility::Suspended if !is_forced => return Err(RequestRefused::Suspended(name)),
        Eligibility::Suspended | Eligibility::InService => {}
    }
    match target.health {
        Health::Unhealthy | Health::Unknown if !is_forced => {
            let (health, class) = (target.health.as_str(), target.class.as_str());
            Err(RequestRefused::Unhealthy { name, health, class })
        }
        Health::Healthy | Health::Degraded | Health::Unhealthy | Health::Unknown => Ok(()),
    }
}
