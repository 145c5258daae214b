//! Guards of drills: what must be so before one begins, and while it runs.

use std::sync::Arc;
use std::time::Duration;

use super::{BlockedDrill, Drill, DrillTimes, DrillTrigger, LONGEST_DRILL, room};
use crate::engine::decision::{DecisionBuilder, is_excluded};
use crate::engine::memory::IdUse;
use crate::engine::{Candidate, Decision, Eligibility, Health, HoldReason, Memory, RequestAction, Situation, State};
use crate::model::{DrillMode, Strategy, Timestamp};

/// Shortest duration of a drill that a person can ask for.
const SHORTEST: Duration = Duration::from_secs(1);

/// Reason for which no drill begins, or for which one is aborted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
pub enum DrillRefused {
    /// One drill of a route at a time.
    #[error("a drill of this route is under way, until {0}")]
    UnderWay(Timestamp),
    /// Mail does not leave by the preferred backend, or by all of them.
    #[error("a drill begins while mail leaves by the preferred backend, and the route is {0}")]
    NotPreferred(&'static str),
    /// A hold, a pause or a requested switch.
    #[error("the route is held by {}: {}", .0.as_str(), .0.meaning())]
    Held(HoldReason),
    /// A backend of the route is not Healthy.
    #[error("{name} is {state}: drills wait until every backend of the route is sound")]
    Unhealthy {
        /// Name of the backend.
        name: Arc<str>,
        /// Health of the backend.
        state: &'static str,
    },
    /// A backend of the route has asked for less mail.
    #[error("{0} asks for less mail: drills wait until it takes all")]
    Throttled(Arc<str>),
    /// Failures are rather those of our own network.
    #[error("everything fails at once: our own network is suspect")]
    Storm,
    /// No other backend could take over.
    #[error("no other backend of the route is Healthy: a drill needs a standby")]
    NoStandby,
    /// The standby does not take all of the mail.
    #[error("{name} takes {percent} % of the route's mail within its limits and its warm-up, and a drill needs 100 %")]
    BeyondLimits {
        /// Name of the standby.
        name: Arc<str>,
        /// Percentage that it takes.
        percent: u32,
    },
    /// The window of the policy is closed, or closes too soon.
    #[error(
        "spec.drills.schedule of the policy opens no window that is long enough now; wait for the next one, or ask again with \"force\": true"
    )]
    OutsideWindow,
    /// A drill of another route concerns backends that fail together with those of this one.
    #[error("a drill of route {route} is under way in the failure domain {domain}")]
    DomainBusy {
        /// Namespace and name of the other route.
        route: Arc<str>,
        /// Failure domain that both concern.
        domain: Arc<str>,
    },
    /// Bound of the installation.
    #[error("{0} drills are under way, and no more run at once")]
    TooMany(usize),
    /// The policy's budget of drills.
    #[error("spec.drills.budget of the policy is spent until {0}")]
    BudgetSpent(Timestamp),
    /// This operator runs no drills.
    #[error("no drills are run here")]
    NotHere,
    /// A person asks for something else.
    #[error("a person asks for {0}")]
    Asked(&'static str),
    /// The backends of the route or their order have changed.
    #[error("the route would leave by {0} now")]
    RouteChanged(Arc<str>),
    /// Every other way out failed for real where messages leave.
    #[error("every other way out failed for real at an agent or a relay, and mail goes to the drilled backend again")]
    Lifted,
}

impl DrillRefused {
    /// Returns the reason in one CamelCase word.
    pub fn reason(&self) -> &'static str {
        self.into()
    }

    /// True if it concerns other routes.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::DomainBusy { .. } | Self::TooMany(_))
    }
}

/// Begins a drill that a person asks for.
///
/// # Errors
/// [`DrillRefused`] with the reason.
pub(in crate::engine) fn request(
    situation: &Situation<'_>,
    ranked: &[&Candidate],
    memory: &Memory,
    mode: Option<DrillMode>,
    duration: Option<Duration>,
    is_forced: bool,
) -> Result<Drill, DrillRefused> {
    let drills = &situation.policy.drills;
    let mode = mode.unwrap_or(drills.mode);
    let longest = duration.unwrap_or(drills.longest).clamp(SHORTEST, LONGEST_DRILL);
    if let Some(hold) = memory.held_by {
        return Err(DrillRefused::Held(hold));
    }
    if memory.state != State::Preferred {
        return Err(DrillRefused::NotPreferred(memory.state.as_str()));
    }
    let begun = begin(situation, ranked, memory, mode, longest, DrillTrigger::Request)?;
    if is_forced || is_open(situation, longest) { Ok(begun) } else { Err(DrillRefused::OutsideWindow) }
}

/// Begins a drill that is due.
///
/// # Errors
/// [`DrillRefused`] with the reason.
pub(super) fn scheduled(builder: &DecisionBuilder<'_>) -> Result<Drill, DrillRefused> {
    let (situation, memory) = (builder.situation, &builder.memory);
    let drills = &situation.policy.drills;
    if let Some(hold) = builder.hold {
        return Err(DrillRefused::Held(hold.reason));
    }
    if memory.state != State::Preferred || builder.transition.is_some() {
        return Err(DrillRefused::NotPreferred(memory.state.as_str()));
    }
    let begun = begin(situation, &builder.ranked, memory, drills.mode, drills.longest, DrillTrigger::Schedule)?;
    if is_open(situation, drills.longest) { Ok(begun) } else { Err(DrillRefused::OutsideWindow) }
}

/// Returns true if the policy opens a window that is open for so long from now on, or has no schedule.
fn is_open(situation: &Situation<'_>, longest: Duration) -> bool {
    let Some(window) = &situation.policy.drills.window else { return true };
    let wall = situation.drift.wall(situation.now);
    window.open_until(wall).is_some_and(|until| wall + longest <= until)
}

fn begin(
    situation: &Situation<'_>,
    ranked: &[&Candidate],
    memory: &Memory,
    mode: DrillMode,
    longest: Duration,
    trigger: DrillTrigger,
) -> Result<Drill, DrillRefused> {
    let now = situation.now;
    let inputs = situation.drill.ok_or(DrillRefused::NotHere)?;
    if let Some(drill) = &memory.drill {
        return Err(DrillRefused::UnderWay(drill.until));
    }
    let (backend, standby) = sound(situation, ranked, memory, mode)?;
    if let Some(elsewhere) = inputs.elsewhere.to(mode) {
        return Err(elsewhere.clone());
    }
    let budget = situation.policy.drills.budget;
    if let Some(until) = memory.drills.spent_until(budget, now) {
        return Err(DrillRefused::BudgetSpent(until));
    }
    Ok(Drill {
        id: format!("drill-{:x}", now.as_micros()).into(),
        mode,
        trigger,
        backend,
        standby,
        started_at: now,
        until: now + longest,
        shares: memory.shares.clone(),
        since: memory.since,
        transition: None,
        times: DrillTimes::default(),
        ending: None,
    })
}

/// Returns the backend that leads and the one that is expected to take over, if everything of the route is sound.
fn sound(
    situation: &Situation<'_>,
    ranked: &[&Candidate],
    memory: &Memory,
    mode: DrillMode,
) -> Result<(Arc<str>, Arc<str>), DrillRefused> {
    if memory.pause.is_some() {
        return Err(DrillRefused::Held(HoldReason::Paused));
    }
    if memory.switch.is_some() {
        return Err(DrillRefused::Held(HoldReason::Switched));
    }
    if memory.ramp.is_some() {
        return Err(DrillRefused::Held(HoldReason::Ramp));
    }
    if situation.is_storm {
        return Err(DrillRefused::Storm);
    }
    for candidate in ranked.iter().filter(|candidate| !is_excluded(candidate)) {
        let name = candidate.name.clone();
        match (candidate.eligibility, candidate.health) {
            (Eligibility::Unusable, _) => return Err(DrillRefused::Unhealthy { name, state: "missing or unusable" }),
            (Eligibility::InService, Health::Healthy) if candidate.is_throttled => {
                return Err(DrillRefused::Throttled(name));
            }
            // Out of service by a person is planned, and no trouble.
            (Eligibility::Suspended | Eligibility::Excluded(_), _) | (Eligibility::InService, Health::Healthy) => {}
            (Eligibility::InService, Health::Degraded | Health::Unknown | Health::Unhealthy) => {
                return Err(DrillRefused::Unhealthy { name, state: candidate.health.as_str() });
            }
        }
    }
    let lead = memory.lead().ok_or(DrillRefused::NotPreferred(State::Unknown.as_str()))?;
    if !ranked.iter().any(|candidate| candidate.name == *lead && candidate.is_sound()) {
        return Err(DrillRefused::Unhealthy { name: lead.clone(), state: "out of service" });
    }
    let others: Vec<&Candidate> =
        ranked.iter().copied().filter(|candidate| candidate.is_sound() && candidate.name != *lead).collect();
    let standby = others.first().ok_or(DrillRefused::NoStandby)?;
    let percent = room(&others, situation.strategy);
    if percent < 100 && mode != DrillMode::Shadow {
        return Err(DrillRefused::BeyondLimits { name: standby.name.clone(), percent });
    }
    Ok((lead.clone(), standby.name.clone()))
}

/// Returns the reason to abort a drill that runs. `real` is the decision without it.
pub(super) fn abort(
    situation: &Situation<'_>,
    drill: &Drill,
    memory: &Memory,
    real: &Decision,
    blocked: BlockedDrill,
) -> Option<DrillRefused> {
    let asked = situation.request.filter(|request| memory.use_of(request) == IdUse::Free);
    if let Some(request) = asked.filter(|request| !matches!(request.action, RequestAction::Drill { .. })) {
        return Some(DrillRefused::Asked(request.action.as_str()));
    }
    if blocked.is_lifted {
        return Some(DrillRefused::Lifted);
    }
    if let Some(earlier) = situation.drill.and_then(|inputs| inputs.elsewhere.to(drill.mode)) {
        return Some(earlier.clone());
    }
    let mut ranked: Vec<_> = situation.candidates.iter().collect();
    ranked.sort_by_key(|candidate| candidate.region_rank(situation.preferred_regions));
    let (lead, standby) = match sound(situation, &ranked, &memory.beside(drill), drill.mode) {
        Ok(sound) => sound,
        Err(refused) => return Some(refused),
    };
    if let Some(hold) = real.hold {
        return Some(DrillRefused::Held(hold.reason));
    }
    // The lead of a pool is the first of the list, and any of the others may be the standby.
    let is_pool = situation.strategy == Strategy::ActiveActive;
    let is_same = lead == drill.backend && (is_pool || standby == drill.standby);
    if real.memory.state != State::Preferred || real.transition.is_some() || !is_same {
        let now_leads = real.memory.lead().cloned().unwrap_or_else(|| "no backend".into());
        return Some(DrillRefused::RouteChanged(now_leads));
    }
    None
}
