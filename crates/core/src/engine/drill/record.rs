//! Results of drills.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Drill, DrillInputs, DrillTrigger, words_of};
use crate::engine::{HoldReason, Memory};
use crate::model::{DrillBudget, DrillMode, Objectives, Timestamp};

/// Most drills that have begun whose results are remembered; beside them, the latest one that was skipped is.
// As many as a budget can allow: it counts them.
pub const MAX_DRILLS: usize = 5;

/// Result of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
pub enum DrillOutcome {
    /// Mail moved as a policy asks for, or the standby answered at its full depth.
    Passed,
    /// It did not, or not within the objectives.
    Failed,
    /// Something real came in between.
    Aborted,
    /// It was due, and its guards never let it begin.
    Skipped,
}

impl DrillOutcome {
    /// Returns the CamelCase name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Times of a drill that have become known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrillTimes {
    /// Time at which the simulated failure made the backend Unhealthy.
    pub detected_at: Option<Timestamp>,
    /// Time at which the route decided to move.
    pub decided_at: Option<Timestamp>,
    /// Time at which every output led to the standby.
    pub applied_at: Option<Timestamp>,
    /// Time at which the first message was out by another backend, as agents and relays report.
    pub first_delivery_at: Option<Timestamp>,
}

/// Result of a drill that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillRecord {
    /// Id of the drill.
    pub id: Arc<str>,
    /// Part of the failure that was real.
    pub mode: DrillMode,
    /// Cause of the drill.
    pub trigger: DrillTrigger,
    /// Backend that counted as failed; `None` if it was skipped.
    pub backend: Option<Arc<str>>,
    /// Backend that was expected to take over; `None` if it was skipped.
    pub standby: Option<Arc<str>>,
    /// Start of the drill, or of the window that it was due in.
    pub started_at: Timestamp,
    /// Times of its steps.
    pub times: DrillTimes,
    /// Time at which every output led back.
    pub restored_at: Option<Timestamp>,
    /// End of the drill.
    pub ended_at: Timestamp,
    /// Result.
    pub outcome: DrillOutcome,
    /// Reason, in one CamelCase word.
    pub reason: Arc<str>,
    /// Observations, for people.
    pub message: String,
}

/// Memory of a route of drills that are over, and of those that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrillLog {
    /// The latest results, newest first: at most [`MAX_DRILLS`], and the latest drill that was skipped.
    pub records: Vec<DrillRecord>,
    /// End of the latest drill that passed.
    pub passed_at: Option<Timestamp>,
    /// Latest opening, by the wall clock, whose drill has begun or was skipped.
    pub considered: Option<Timestamp>,
    /// Start of the schedule, as far as this route has seen it.
    pub scheduled_since: Option<Timestamp>,
    /// Drill that is due and may not begin yet.
    pub waiting: Option<DrillWait>,
}

/// Drill that is due and may not begin yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillWait {
    /// Opening that it is due in, by the wall clock.
    pub opened_at: Timestamp,
    /// End of that window, by the wall clock.
    pub until: Timestamp,
    /// Reason, in one CamelCase word.
    pub reason: Arc<str>,
    /// Reason for people.
    pub message: String,
}

impl DrillLog {
    /// Returns the time until which the budget of drills is spent; `None` if one may begin.
    pub(super) fn spent_until(&self, budget: DrillBudget, now: Timestamp) -> Option<Timestamp> {
        let mut begun = self.records.iter().filter(|record| record.outcome != DrillOutcome::Skipped);
        let oldest = begun.nth(usize::from(budget.drills.max(1)) - 1)?;
        Some(oldest.started_at + budget.per).filter(|until| *until > now)
    }

    fn push(&mut self, record: DrillRecord) {
        self.records.insert(0, record);
        let (mut begun, mut skipped) = (0, 0);
        // A schedule that is skipped each day must not displace what the budget counts.
        self.records.retain(|known| {
            let is_skipped = known.outcome == DrillOutcome::Skipped;
            let (count, most) = if is_skipped { (&mut skipped, 1) } else { (&mut begun, MAX_DRILLS) };
            *count += 1;
            *count <= most
        });
    }
}

/// Notes the result of the drill under way, which ends.
pub(super) fn conclude(
    memory: &mut Memory,
    outcome: DrillOutcome,
    reason: &str,
    message: String,
    restored_at: Option<Timestamp>,
    now: Timestamp,
) {
    let Some(drill) = memory.drill.take() else { return };
    let Drill { id, mode, trigger, backend, standby, started_at, times, .. } = drill;
    if outcome == DrillOutcome::Passed {
        memory.drills.passed_at = Some(now);
    }
    memory.drills.push(DrillRecord {
        id,
        mode,
        trigger,
        backend: Some(backend),
        standby: Some(standby),
        started_at,
        times,
        restored_at,
        ended_at: now,
        outcome,
        reason: reason.into(),
        message,
    });
}

/// Notes that a drill was due and never began.
pub(super) fn skip(log: &mut DrillLog, mode: DrillMode, missed: super::DrillWait, now: Timestamp) {
    let super::DrillWait { opened_at, until: _, reason, message } = missed;
    log.push(DrillRecord {
        id: format!("skipped-{:x}", opened_at.as_micros()).into(),
        mode,
        trigger: DrillTrigger::Schedule,
        backend: None,
        standby: None,
        started_at: opened_at,
        times: DrillTimes::default(),
        restored_at: None,
        ended_at: now,
        outcome: DrillOutcome::Skipped,
        reason,
        message,
    });
}

/// Judges a drill that has come to its end, by the objectives of the policy. `hold` keeps the route from moving.
pub(super) fn judge(
    drill: &Drill,
    objectives: &Objectives,
    hold: Option<HoldReason>,
    inputs: &DrillInputs<'_>,
) -> (DrillOutcome, &'static str, String) {
    let DrillTimes { detected_at, decided_at, applied_at, first_delivery_at } = drill.times;
    let after = |at: Option<Timestamp>| at.map(|at| at.since(drill.started_at));
    let (recovery, delivery) = (after(applied_at), after(first_delivery_at));
    let mut message = format!("{} → {}: ", drill.backend, drill.standby);
    let mut steps = vec![];
    steps.extend(step("detected", after(detected_at), None));
    steps.extend(step("decided", after(decided_at), None));
    steps.extend(step("applied", recovery, objectives.recovery_time));
    steps.extend(step("first message out", delivery, objectives.delivery_time));
    message.push_str(&if steps.is_empty() { "nothing was detected".to_owned() } else { steps.join(", ") });
    if applied_at.is_some() && delivery.is_none() {
        message.push_str("; no message left meanwhile, as far as is reported");
    }
    if drill.mode == DrillMode::Blocked {
        let blocked = &inputs.blocked;
        // Writing to a String cannot fail.
        let _ = write!(message, "; {} messages left by other backends", blocked.carried);
        if blocked.let_through > 0 {
            let _ = write!(
                message,
                ", and {} by {}: under way at its start, or what nobody else may carry",
                blocked.let_through, drill.backend
            );
        }
    }
    let exceeds =
        |took: Option<Duration>, most: Option<Duration>| took.zip(most).is_some_and(|(took, most)| took > most);
    let (outcome, reason) = if detected_at.is_none() {
        message.push_str(": the thresholds of the policy need longer than the drill lasts");
        (DrillOutcome::Failed, "NotDetected")
    } else if decided_at.is_none() {
        let _ = write!(message, "; the route would have stayed: {}", words_of(hold));
        (DrillOutcome::Failed, "NotDecided")
    } else if applied_at.is_none() {
        message.push_str("; but not every output followed");
        (DrillOutcome::Failed, "NotApplied")
    } else if exceeds(recovery, objectives.recovery_time) || exceeds(delivery, objectives.delivery_time) {
        (DrillOutcome::Failed, "ObjectiveMissed")
    } else if inputs.has_agents && objectives.delivery_time.is_some() && delivery.is_none() {
        // Nobody has shown that mail leaves, also if there was none to send.
        (DrillOutcome::Failed, "NotDelivered")
    } else {
        (DrillOutcome::Passed, "WithinObjective")
    };
    (outcome, reason, message)
}

/// Formats `applied after 50.4 s (90 s demanded)`; `None` for a step that was not seen.
fn step(name: &str, took: Option<Duration>, most: Option<Duration>) -> Option<String> {
    let took = took?.as_secs_f64();
    let demanded = most.map_or_else(String::new, |most| format!(" ({} s demanded)", most.as_secs_f64()));
    Some(format!("{name} after {took:.1} s{demanded}"))
}

/// Judges a drill in shadow; `None` while rounds are awaited. With `is_settled` every other replica has made one.
pub(super) fn judge_shadow(
    drill: &Drill,
    inputs: &DrillInputs<'_>,
    is_settled: bool,
) -> Option<(DrillOutcome, &'static str, String)> {
    let mut is_awaited = inputs.rounds.is_empty() || !is_settled;
    let mut seen = vec![];
    for round in inputs.rounds {
        match &round.latest {
            Some((at, Some(failure))) if *at >= drill.started_at => {
                let message = format!("{} fails: {}: {failure}", drill.standby, round.probe);
                return Some((DrillOutcome::Failed, "StandbyFailed", message));
            }
            Some((at, None)) if *at >= drill.started_at => seen.push(&*round.probe),
            Some(_) | None => is_awaited = true,
        }
    }
    if is_awaited {
        return None;
    }
    let (unhealthy, voters) = (inputs.observers.unhealthy, inputs.observers.voters);
    if unhealthy > 0 {
        let message = format!("{} of {voters} observers see {} fail", unhealthy, drill.standby);
        return Some((DrillOutcome::Failed, "StandbyFailed", message));
    }
    let message = format!(
        "every probe of {} succeeded to its full depth ({}), and none of {voters} observers sees it fail",
        drill.standby,
        seen.join(", ")
    );
    Some((DrillOutcome::Passed, "StandbyAnswered", message))
}
