//! Drills: a failure of the preferred backend that stands in the evidence of one route, and nowhere else.
//!
//! While a drill runs, each decision is made twice. Once as things really are: that is where the mail returns to, and any
//! move or hold of it ends the drill. And once as if the drilled backend had failed: that is what is rehearsed, with the
//! policy's own thresholds, holds and confirmation of the standby. The first one remembers nothing of the second, so that
//! after the drill the route decides as if there had been none.
// ADR-0160: A drill is decided beside the route.

mod failure;
mod guard;
mod record;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use super::decision::{DecisionBuilder, ordinary};
use super::{
    Agreement, Candidate, Decision, Explanation, HoldReason, Memory, Notice, Reason, Share, Situation, State,
    Transition, TransitionKind, TransitionReason,
};
use crate::model::{DrillMode, Strategy, Timestamp};
use failure::SimulatedFailure;
pub use guard::DrillRefused;
pub(super) use guard::request;
pub use record::{DrillLog, DrillOutcome, DrillRecord, DrillTimes, DrillWait, MAX_DRILLS};
pub use turns::{DrillObstacles, DrillTurns, MAX_DRILLS_AT_ONCE, MAX_SHADOW_DRILLS_AT_ONCE};

/// Time after the decision to restore within which every output must lead back.
const RESTORE_LIMIT: Duration = Duration::from_mins(2);
/// Pause before a drill that waits for something outside its route asks again.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// Longest duration of a drill that a person or a policy can ask for.
pub const LONGEST_DRILL: Duration = Duration::from_hours(1);

/// Drill that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// Id of the drill, which no other drill of the route ever has.
    pub id: Arc<str>,
    /// Part of the failure that is real.
    pub mode: DrillMode,
    /// Cause of the drill.
    pub trigger: DrillTrigger,
    /// Backend that counts as failed.
    pub backend: Arc<str>,
    /// Backend that is expected to take over.
    pub standby: Arc<str>,
    /// Start of the drill, and of the simulated failure.
    pub started_at: Timestamp,
    /// Time at which mail returns whatever happened.
    pub until: Timestamp,
    /// Split of the mail that it returns to.
    pub shares: Vec<Share>,
    /// Time since which that split is in force.
    pub since: Timestamp,
    /// Id of the transition that led the mail away; `None` before it.
    pub transition: Option<i64>,
    /// Times that have become known.
    pub times: DrillTimes,
    /// Result, while the outputs are led back.
    pub ending: Option<DrillEnding>,
}

/// Cause of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
pub enum DrillTrigger {
    /// The policy's schedule.
    Schedule,
    /// A person's request.
    Request,
}

impl DrillTrigger {
    /// Returns the CamelCase name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Result of a drill whose mail returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillEnding {
    /// Result.
    pub outcome: DrillOutcome,
    /// Reason, in one CamelCase word.
    pub reason: Arc<str>,
    /// Observations, for people.
    pub message: String,
    /// Time of the decision to restore.
    pub at: Timestamp,
    /// Id of the transition that led the mail back.
    pub transition: i64,
}

/// Knowledge of drills beside the evidence about the backends.
#[derive(Clone, Copy, Debug)]
pub struct DrillInputs<'a> {
    /// Obstacles outside the route.
    pub elsewhere: &'a DrillObstacles,
    /// Times of the latest transitions of the route.
    pub times: &'a [TransitionTimes],
    /// True if agents or relays report the deliveries of the route.
    pub has_agents: bool,
    /// State of a Blocked drill at the agents and relays.
    pub blocked: BlockedDrill,
    /// Latest round at its full depth of each probe of the standby.
    pub rounds: &'a [WholeRound],
    /// Observers of the standby.
    pub observers: Agreement,
}

/// Times of a transition that were noted after its decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransitionTimes {
    /// Id of the transition.
    pub id: i64,
    /// Time at which every output followed it.
    pub applied_at: Option<Timestamp>,
    /// Time at which the first message was out on the new way.
    pub first_delivery_at: Option<Timestamp>,
}

/// State of a Blocked drill at the agents and relays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockedDrill {
    /// Messages that other backends took while the drilled one was refused.
    pub carried: u64,
    /// Messages that went to the drilled backend all the same, because no other one may carry them.
    pub let_through: u64,
    /// Time of the first message that another backend took.
    pub first_delivery_at: Option<Timestamp>,
    /// True if every other way out failed for real at one of them.
    pub is_lifted: bool,
}

/// Latest round of a probe that went to the full depth of the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeRound {
    /// Name of the probe.
    pub probe: Arc<str>,
    /// Longest time between the starts of two rounds, with the time that one takes.
    pub period: Duration,
    /// Start of the round, and what has failed in it; `None` before the first.
    pub latest: Option<(Timestamp, Option<Arc<str>>)>,
}

/// Step of a drill.
pub(super) enum Advance {
    /// The drill runs, and this is what follows.
    Goes(Box<Decision>),
    /// The ordinary decision follows, with this memory.
    Rests {
        memory: Box<Memory>,
        /// True if a drill has ended just now.
        is_over: bool,
        timeout: Option<Timestamp>,
    },
}

impl Memory {
    /// Returns the drill that refuses its backend for real at present.
    pub fn blocking_drill(&self) -> Option<&Drill> {
        self.drill.as_ref().filter(|drill| drill.mode == DrillMode::Blocked && drill.ending.is_none())
    }

    /// Returns the drill that leads the mail elsewhere at present.
    pub fn leading_drill(&self) -> Option<&Drill> {
        self.drill.as_ref().filter(|drill| drill.transition.is_some() && drill.ending.is_none())
    }

    /// Returns the memory as it is without the drill, which stays noted.
    fn beside(&self, drill: &Drill) -> Self {
        Self {
            shares: drill.shares.clone(),
            since: drill.since,
            // No drill begins in another state.
            state: State::Preferred,
            held_by: None,
            held_since: None,
            held_until: None,
            ..self.clone()
        }
    }
}

/// Advances the drill under way, if there is one.
pub(super) fn advance(situation: &Situation<'_>, memory: &Memory) -> Advance {
    match &memory.drill {
        None => Advance::Rests { memory: Box::new(memory.clone()), is_over: false, timeout: None },
        Some(Drill { ending: Some(ending), .. }) => restore(situation, memory, ending),
        Some(drill) => go_on(situation, memory, drill.clone()),
    }
}

/// Waits until every output leads back.
fn restore(situation: &Situation<'_>, memory: &Memory, ending: &DrillEnding) -> Advance {
    let (mut memory, deadline) = (Box::new(memory.clone()), ending.at + RESTORE_LIMIT);
    let Some(inputs) = situation.drill else { return Advance::Rests { memory, is_over: false, timeout: None } };
    let restored_at = inputs.times_of(ending.transition).and_then(|times| times.applied_at);
    let is_overtaken = memory.last_transition().is_some_and(|last| last.id > ending.transition);
    if restored_at.is_none() && !is_overtaken && situation.now < deadline {
        return Advance::Rests { memory, is_over: false, timeout: Some(deadline) };
    }
    let mut ending = ending.clone();
    if restored_at.is_none() && !is_overtaken && ending.outcome == DrillOutcome::Passed {
        ending.outcome = DrillOutcome::Failed;
        ending.reason = "NotRestored".into();
        ending.message = format!("{}; but not every output leads back after {RESTORE_LIMIT:?}", ending.message);
    }
    record::conclude(&mut memory, ending.outcome, &ending.reason, ending.message, restored_at, situation.now);
    Advance::Rests { memory, is_over: true, timeout: None }
}

fn go_on(situation: &Situation<'_>, memory: &Memory, mut drill: Drill) -> Advance {
    let now = situation.now;
    let real = ordinary(situation, &memory.beside(&drill));
    let Some(inputs) = situation.drill else { return led(&drill, real, memory, None, None) };
    let blocked = Some(inputs.blocked).filter(|_| drill.mode == DrillMode::Blocked).unwrap_or_default();
    if let Some(why) = guard::abort(situation, &drill, memory, &real, blocked) {
        return end(memory, &drill, DrillOutcome::Aborted, why.reason(), why.to_string(), now);
    }
    (drill.shares, drill.since) = (real.memory.shares.clone(), real.memory.since);
    if drill.mode == DrillMode::Shadow {
        return shadow(&inputs, memory, &drill, real, now);
    }
    let policy = situation.policy;
    let interval = situation.candidate(&drill.backend).and_then(|candidate| candidate.probe_interval);
    let failure = SimulatedFailure::of(&policy.thresholds, interval, drill.started_at, now);
    drill.times.detected_at = drill.times.detected_at.or(failure.detected_at);
    let (mut moved, mut hold, mut timeout) = (None, None, failure.next);
    if failure.detected_at.is_some() && drill.transition.is_none() {
        let as_if = decide_as_if_failed(situation, &drill, &failure, &real.memory);
        hold = as_if.hold.map(|hold| hold.reason);
        timeout = as_if.next_timeout;
        if let Some(transition) = as_if.transition.filter(|_| as_if.unplaced == 0) {
            drill.transition = Some(transition.id);
            drill.times.decided_at = Some(now);
            moved = Some((Transition { reason: TransitionReason::Drill, ..transition }, as_if.memory.shares));
        }
    }
    if let Some(times) = drill.transition.and_then(|id| inputs.times_of(id)) {
        drill.times.applied_at = drill.times.applied_at.or(times.applied_at);
        drill.times.first_delivery_at = drill.times.first_delivery_at.or(times.first_delivery_at);
    }
    // Messages leave a refused backend before the route does.
    drill.times.first_delivery_at =
        [drill.times.first_delivery_at, blocked.first_delivery_at].into_iter().flatten().min();
    let stays_until = drill.times.decided_at.map(|at| at + policy.drills.stay);
    let is_delivered = drill.times.first_delivery_at.is_some() || !inputs.has_agents;
    let is_done = drill.times.applied_at.is_some() && stays_until.is_some_and(|until| until <= now) && is_delivered;
    if is_done || now >= drill.until {
        let (outcome, reason, message) = record::judge(&drill, &policy.objectives, hold, &inputs);
        return end(memory, &drill, outcome, reason, message, now);
    }
    let ends = [timeout, stays_until, Some(drill.until)];
    let timeout = ends.into_iter().flatten().filter(|at| *at > now).min();
    led(&drill, real, memory, moved, timeout)
}

/// Decides as if the drilled backend had failed.
fn decide_as_if_failed(
    situation: &Situation<'_>,
    drill: &Drill,
    failure: &SimulatedFailure,
    memory: &Memory,
) -> Decision {
    let mut candidates = situation.candidates.to_vec();
    for candidate in candidates.iter_mut().filter(|candidate| candidate.name == drill.backend) {
        failure.show_in(candidate, drill.started_at);
    }
    let as_if = Situation { candidates: &candidates, request: None, drill: None, ..*situation };
    ordinary(&as_if, &Memory { drill: None, ..memory.clone() })
}

/// Waits for a whole round of every probe of the standby.
fn shadow(inputs: &DrillInputs<'_>, memory: &Memory, drill: &Drill, real: Decision, now: Timestamp) -> Advance {
    let period = inputs.rounds.iter().map(|round| round.period).max().unwrap_or_default();
    // Every other replica has made a round by then, and its verdict is here.
    let settled_at = drill.started_at + period;
    match record::judge_shadow(drill, inputs, now >= settled_at) {
        Some((outcome, reason, message)) => end(memory, drill, outcome, reason, message, now),
        None if now >= drill.until => {
            let message = format!("not every probe of {} has ended a whole round in time", drill.standby);
            end(memory, drill, DrillOutcome::Failed, "NotObserved", message, now)
        }
        None => {
            let timeout = [settled_at, drill.until].into_iter().filter(|at| *at > now).min();
            led(drill, real, memory, None, timeout)
        }
    }
}

/// Builds the decision while a drill runs: the real one, with the mail where the drill leads it.
fn led(
    drill: &Drill,
    real: Decision,
    before: &Memory,
    moved: Option<(Transition, Vec<Share>)>,
    timeout: Option<Timestamp>,
) -> Advance {
    let mut decision = real;
    let memory = &mut decision.memory;
    memory.drill = Some(drill.clone());
    let transition = if let Some((transition, shares)) = moved {
        memory.shares = shares;
        memory.remember(transition.clone());
        Some(transition)
    } else {
        if drill.transition.is_some() {
            memory.shares.clone_from(&before.shares);
        }
        None
    };
    if let Some(decided_at) = drill.times.decided_at.filter(|_| drill.transition.is_some()) {
        memory.since = decided_at;
        memory.state = State::FailedOver;
        decision.is_preferred = false;
    }
    decision.explanation = explained(drill, &decision.memory, transition.as_ref(), decision.explanation);
    decision.transition = transition;
    decision.next_timeout = [decision.next_timeout, timeout].into_iter().flatten().min();
    Advance::Goes(Box::new(decision))
}

fn explained(drill: &Drill, memory: &Memory, moves: Option<&Transition>, real: Explanation) -> Explanation {
    let Explanation { mut reasons, next_changes } = real;
    if drill.transition.is_some() {
        reasons.retain(|reason| !matches!(reason, Reason::Stays { .. } | Reason::Carries(_) | Reason::Moved(_)));
        reasons.extend(match (moves, memory.last_transition()) {
            (Some(moves), _) => Some(Reason::Moves(moves.clone())),
            (None, moved) => moved.cloned().map(Reason::Moved),
        });
    }
    reasons.push(Reason::Drilled {
        mode: drill.mode,
        backend: if drill.mode == DrillMode::Shadow { drill.standby.clone() } else { drill.backend.clone() },
        until: drill.until,
    });
    if drill.transition.is_some() {
        reasons.extend(memory.shares.iter().cloned().map(Reason::Carries));
    }
    Explanation { reasons, next_changes }
}

/// Ends a drill. Mail that it has led elsewhere returns at once.
fn end(
    memory: &Memory,
    drill: &Drill,
    outcome: DrillOutcome,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Advance {
    let mut restored = memory.beside(drill);
    restored.drill = Some(drill.clone());
    if drill.transition.is_none() {
        record::conclude(&mut restored, outcome, reason, message, None, now);
        return Advance::Rests { memory: Box::new(restored), is_over: true, timeout: None };
    }
    let transition = restored.next_transition_id();
    restored.remember(Transition {
        id: transition,
        kind: TransitionKind::Failback,
        from: memory.lead().unwrap_or(&drill.standby).clone(),
        to: drill.backend.clone(),
        reason: TransitionReason::Drill,
        first_evidence_at: None,
        decided_at: now,
    });
    let ending = DrillEnding { outcome, reason: reason.into(), message, at: now, transition };
    restored.drill = Some(Drill { ending: Some(ending), ..drill.clone() });
    Advance::Rests { memory: Box::new(restored), is_over: false, timeout: Some(now + RESTORE_LIMIT) }
}

/// Begins the drill that is due by the policy's schedule, once the rest of the decision is made.
pub(super) fn begin_due(builder: &mut DecisionBuilder<'_>) {
    let situation = builder.situation;
    if situation.drill.is_none() {
        return;
    }
    let (now, drift) = (situation.now, situation.drift);
    let Some(window) = &situation.policy.drills.window else {
        builder.memory.drills.waiting = None;
        builder.memory.drills.scheduled_since = None;
        return;
    };
    let wall = drift.wall(now);
    let opening = window.opening(wall);
    let log = &mut builder.memory.drills;
    log.scheduled_since.get_or_insert(now);
    let missed = log.waiting.take_if(|waiting| opening.is_none_or(|(opened_at, _)| opened_at != waiting.opened_at));
    if let Some(missed) = missed {
        log.considered = Some(missed.opened_at);
        record::skip(log, situation.policy.drills.mode, missed, now);
    }
    let is_considered = |opened_at| log.considered.is_some_and(|considered| considered >= opened_at);
    let due = opening.filter(|(opened_at, _)| !is_considered(*opened_at));
    if let Some(next) = window.next_opening(wall) {
        builder.set_timeout(drift.at_wall(next));
    }
    let Some((opened_at, until)) = due.filter(|_| builder.memory.drill.is_none()) else { return };
    match guard::scheduled(builder) {
        Ok(drill) => {
            builder.memory.drills.considered = Some(opened_at);
            builder.memory.drills.waiting = None;
            builder.set_timeout(drill.until);
            builder.memory.drill = Some(drill);
        }
        Err(refused) => {
            builder.set_timeout(drift.at_wall(until));
            if let DrillRefused::BudgetSpent(until) = &refused {
                builder.set_timeout(*until);
            } else if refused.is_elsewhere() {
                builder.set_timeout(now + ASK_AGAIN);
            }
            let (reason, message) = (refused.reason().into(), refused.to_string());
            builder.memory.drills.waiting = Some(DrillWait { opened_at, until, reason, message });
        }
    }
}

impl DrillInputs<'_> {
    fn times_of(&self, transition: i64) -> Option<&TransitionTimes> {
        self.times.iter().find(|times| times.id == transition)
    }
}

impl Situation<'_> {
    fn candidate(&self, name: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| *candidate.name == *name)
    }
}

/// Returns true if a drill has come to its end in this very decision.
pub(super) fn ends_at(memory: &Memory, now: Timestamp) -> bool {
    let ending = memory.drill.as_ref().and_then(|drill| drill.ending.as_ref());
    let ended = memory.drills.records.first().filter(|record| record.outcome != DrillOutcome::Skipped);
    ending.is_some_and(|ending| ending.at == now) || ended.is_some_and(|record| record.ended_at == now)
}

/// Notices of what a decision has changed about drills.
pub(super) fn notices(before: &Memory, after: &Memory) -> impl Iterator<Item = Notice> {
    let has_begun = before.drill.is_none() && after.drill.is_some();
    let has_ended =
        before.drills.records.first().map(|record| &record.id) != after.drills.records.first().map(|record| &record.id);
    let told = [(has_ended, Notice::DrillEnded), (has_begun, Notice::DrillBegan)];
    told.into_iter().filter(|(is_so, _)| *is_so).map(|(_, notice)| notice)
}

/// Reason of a hold, or that the route moves, for people.
fn words_of(hold: Option<HoldReason>) -> &'static str {
    hold.map_or("no backend could take over", HoldReason::meaning)
}

/// Sum of the parts of the mail that these backends take, in percent.
fn room(others: &[&Candidate], strategy: Strategy) -> u32 {
    let parts = others.iter().map(|candidate| u32::from(candidate.capacity.percent));
    match strategy {
        Strategy::ActivePassive => parts.take(1).sum(),
        Strategy::ActiveActive => parts.sum(),
    }
}
