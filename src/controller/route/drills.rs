//! Drills of a route: what the engine has to know of them, and their part of the status.
// ADR-0160: A drill is decided beside the route.

use mail_failover_api::{DrillResultStatus, MailRouteStatus};
use mail_failover_contract::document;
use mail_failover_core::engine::{Agreement, BlockedDrill, Drill, DrillObstacles, Memory, TransitionTimes, WholeRound};
use mail_failover_core::model::{ClockDrift, Policy, Timestamp};
use mail_failover_resolve::drill_schedule;
use mail_failover_resolve::route_memory::memory;
use mail_failover_resolve::time::{micro_time, timestamp};

use super::{RouteContext, RouteEntry};
use crate::controller::backend::BackendEntry;
use crate::controller::events::EventReason;

/// Reason of transitions that drills make, in `status.history`.
pub(in crate::controller) const DRILL: &str = mail_failover_api::conditions::reason::DRILL;

/// Knowledge of drills outside the route itself.
#[derive(Debug, Default)]
pub(in crate::controller) struct DrillContext {
    /// Obstacles that drills of other routes are.
    pub(in crate::controller) elsewhere: DrillObstacles,
    /// State of its Blocked drill at its agents and relays.
    pub(in crate::controller) blocked: BlockedDrill,
    /// True if agents or relays have reported deliveries of the route lately.
    pub(in crate::controller) has_agents: bool,
}

/// Knowledge of the standby of a drill, and of transitions.
#[derive(Debug, Default)]
pub(super) struct DrillSights {
    pub(super) times: Vec<TransitionTimes>,
    pub(super) rounds: Vec<WholeRound>,
    pub(super) observers: Agreement,
}

impl RouteEntry {
    /// The drill under way, as it was decided or read last.
    pub(in crate::controller) fn drill(&self) -> Option<&Drill> {
        self.drill.as_ref()
    }

    /// Takes over the drill that the status names.
    pub(in crate::controller) fn adopt_drill(&mut self) {
        let running =
            self.status().filter(|status| status.drills.as_ref().is_some_and(|drills| drills.running.is_some()));
        self.drill = running.and_then(|status| memory(status).drill);
    }

    /// Looks at what a drill under way needs to know.
    pub(super) fn drill_sights(&self, cx: &RouteContext<'_>, persisted: &Memory) -> DrillSights {
        let Some(drill) = &persisted.drill else { return DrillSights::default() };
        let history = self.status().into_iter().flat_map(|status| &status.history);
        let times = history.map(|transition| TransitionTimes {
            id: transition.id,
            applied_at: transition.applied_at.as_ref().map(timestamp),
            first_delivery_at: transition.first_delivery_at.as_ref().map(timestamp),
        });
        let standby = cx.backend(&drill.standby);
        let verdict = standby.and_then(|entry| entry.evidence.verdict(self.thresholds(), cx.now));
        DrillSights {
            times: times.collect(),
            rounds: standby.map(BackendEntry::whole_rounds).unwrap_or_default(),
            observers: verdict.map(|verdict| verdict.observers).unwrap_or_default(),
        }
    }

    /// Notes the drill that a decision leaves under way.
    pub(super) fn note_drill(&mut self, memory: &Memory) {
        // A move may follow from any answer of the standby, and the end of a drill in shadow from any round of it.
        self.awaits_answer |= memory.drill.as_ref().is_some_and(|drill| drill.transition.is_none());
        self.drill.clone_from(&memory.drill);
    }
}

/// The order to refuse the drilled backend, for outputs.
pub(super) fn refused(memory: &Memory) -> Option<document::Drill> {
    let drill = memory.blocking_drill()?;
    let lasts = drill.until.since(drill.started_at).as_secs();
    Some(document::Drill {
        id: drill.id.to_string(),
        backends: vec![drill.backend.to_string()],
        for_seconds: u32::try_from(lasts.max(1)).unwrap_or(u32::MAX),
    })
}

/// Adds to the drills of a status what follows from the policy's schedule.
pub(super) fn add_schedule(
    status: &mut MailRouteStatus,
    policy: Option<&Policy>,
    memory: &Memory,
    now: Timestamp,
    drift: ClockDrift,
) {
    let window = policy.and_then(|policy| policy.drills.window.as_ref());
    let (Some(window), Some(drills)) = (window, status.drills.as_mut()) else { return };
    let (next, overdue_at) = drill_schedule(window, &memory.drills, drift.wall(now));
    drills.next = next.map(micro_time);
    drills.overdue_at = overdue_at.map(micro_time);
}

/// The drill that this status is the first to tell the result of.
pub(super) fn ended<'a>(before: &MailRouteStatus, after: &'a MailRouteStatus) -> Option<&'a DrillResultStatus> {
    let latest = latest(after)?;
    (self::latest(before).map(|known| &known.id) != Some(&latest.id)).then_some(latest)
}

/// The drill whose result a status is the first to tell; `None` if the status before is not known.
pub(in crate::controller) fn ended_drill<'a>(
    before: Option<&MailRouteStatus>,
    after: &'a MailRouteStatus,
) -> Option<&'a DrillResultStatus> {
    ended(before?, after)
}

/// The latest result of a drill.
pub(super) fn latest(status: &MailRouteStatus) -> Option<&DrillResultStatus> {
    status.drills.as_ref()?.history.first()
}

/// The Event about the result of a drill.
pub(super) fn event_of(result: &DrillResultStatus) -> EventReason {
    match result.outcome.as_str() {
        "Passed" => EventReason::DrillPassed,
        "Skipped" => EventReason::DrillSkipped,
        "Aborted" => EventReason::DrillAborted,
        _ => EventReason::DrillFailed,
    }
}

/// A result in one line: `Observed, WithinObjective: ses-eu → sendgrid: …`.
pub(super) fn line(result: &DrillResultStatus) -> String {
    format!("{}, {}: {}", result.mode, result.reason, result.message)
}
