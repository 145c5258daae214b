//! Drills: their rules from a policy's spec, and what a route remembers of them, to and from its status.

use std::str::FromStr;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::text::{MAX_MESSAGE, truncated};
use super::time::{micro_time, timestamp};
use super::{Rejection, number, span};
use mail_failover_api as api;
use mail_failover_api::conditions::reason;
use mail_failover_api::{
    DrillResultStatus, DrillTimesStatus, EndingDrillStatus, RouteDrillsStatus, RunningDrillStatus, WaitingDrillStatus,
};
use mail_failover_core::engine::{
    Drill, DrillEnding, DrillLog, DrillOutcome, DrillRecord, DrillTimes, DrillTrigger, DrillWait, LONGEST_DRILL, Memory,
};
use mail_failover_core::model::{CronWindow, DrillBudget, DrillMode, Drills, Timestamp, WindowError};

use super::route_memory::{active_backend, share};

const DEFAULT_TIME_ZONE: &str = "UTC";
const DEFAULT_WITHIN: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);

/// Rules for drills from their spec; every absent field has its documented default.
///
/// # Errors
/// [`Rejection`] for a schedule that can never open, which no schema can tell, and for what the schema should have
/// refused (an old schema may still be installed).
pub(super) fn drills(spec: &api::DrillsSpec) -> Result<Drills, Rejection> {
    let api::DrillsSpec { schedule, time_zone, within, mode, stay, longest, budget } = spec;
    let default = Drills::default();
    let longest = match longest {
        None => default.longest,
        Some(given) => span("spec.drills.longest", *given, SECOND..=LONGEST_DRILL)?,
    };
    let stay = match stay {
        None => default.stay,
        Some(given) => span("spec.drills.stay", *given, Duration::ZERO..=LONGEST_DRILL)?,
    };
    if stay >= longest {
        let message = format!("{stay:?} is not shorter than spec.drills.longest, {longest:?}");
        return Err(Rejection::new(reason::INVALID_SPEC, "spec.drills.stay", &message));
    }
    let within = match within {
        None => DEFAULT_WITHIN,
        Some(given) => span("spec.drills.within", *given, Duration::from_mins(1)..=Duration::from_hours(168))?,
    };
    let window = schedule.as_deref().map(|schedule| window(schedule, time_zone.as_deref(), within)).transpose()?;
    if window.is_some() && longest > within {
        let message = format!("{longest:?} exceeds spec.drills.within, {within:?}: a drill ends within its window");
        return Err(Rejection::new(reason::INVALID_SPEC, "spec.drills.longest", &message));
    }
    Ok(Drills {
        window,
        mode: mode.map_or(default.mode, self::mode),
        stay,
        longest,
        budget: match budget {
            None => default.budget,
            Some(api::DrillBudgetSpec { drills, per }) => DrillBudget {
                drills: number("spec.drills.budget.drills", *drills, 1..=5)?,
                per: span("spec.drills.budget.per", *per, SECOND..=Duration::from_hours(2160))?,
            },
        },
    })
}

fn window(schedule: &str, time_zone: Option<&str>, within: Duration) -> Result<CronWindow, Rejection> {
    let time_zone = time_zone.unwrap_or(DEFAULT_TIME_ZONE);
    CronWindow::new(schedule, time_zone, within).map_err(|error| {
        let (field, message) = match &error {
            WindowError::Schedule(_) => {
                ("spec.drills.schedule", format!("`{schedule}` is no crontab of five fields: {error}; see crontab(5)"))
            }
            WindowError::TimeZone(_) => (
                "spec.drills.timeZone",
                format!("the IANA time zone database has no `{time_zone}`; use a name such as Europe/Berlin"),
            ),
            WindowError::NeverOpens => (
                "spec.drills.schedule",
                format!("`{schedule}` names a day that never comes; correct the day or the month"),
            ),
        };
        Rejection::new(reason::INVALID_SPEC, field, &message)
    })
}

fn mode(spec: api::DrillModeSpec) -> DrillMode {
    match spec {
        api::DrillModeSpec::Observed => DrillMode::Observed,
        api::DrillModeSpec::Blocked => DrillMode::Blocked,
        api::DrillModeSpec::Shadow => DrillMode::Shadow,
    }
}

/// The drill under way and the drills that are over, in a status. What only a newer version knows is not remembered.
pub(super) fn remembered(status: Option<&RouteDrillsStatus>) -> (Option<Drill>, DrillLog) {
    let Some(status) = status else { return (None, DrillLog::default()) };
    let RouteDrillsStatus { running, waiting, next: _, overdue_at: _, passed_at, considered, scheduled_since, history } =
        status;
    let log = DrillLog {
        records: history.iter().filter_map(record).collect(),
        passed_at: time(passed_at.as_ref()),
        considered: time(considered.as_ref()),
        scheduled_since: time(scheduled_since.as_ref()),
        waiting: waiting.as_ref().map(|WaitingDrillStatus { opened_at, until, reason, message }| DrillWait {
            opened_at: timestamp(opened_at),
            until: timestamp(until),
            reason: reason.as_str().into(),
            message: message.clone(),
        }),
    };
    (running.as_ref().and_then(drill), log)
}

fn time(at: Option<&MicroTime>) -> Option<Timestamp> {
    at.map(timestamp)
}

fn drill(status: &RunningDrillStatus) -> Option<Drill> {
    let RunningDrillStatus {
        id,
        mode,
        trigger,
        backend,
        standby,
        started_at,
        until,
        times,
        transition,
        before,
        since,
        ending,
    } = status;
    Some(Drill {
        id: id.as_str().into(),
        mode: DrillMode::from_str(mode).ok()?,
        trigger: DrillTrigger::from_str(trigger).ok()?,
        backend: backend.as_str().into(),
        standby: standby.as_str().into(),
        started_at: timestamp(started_at),
        until: timestamp(until),
        shares: before.iter().map(share).collect(),
        since: timestamp(since),
        transition: *transition,
        times: drill_times(times),
        ending: match ending {
            None => None,
            Some(EndingDrillStatus { outcome, reason, message, at, transition }) => Some(DrillEnding {
                outcome: DrillOutcome::from_str(outcome).ok()?,
                reason: reason.as_str().into(),
                message: message.clone(),
                at: timestamp(at),
                transition: *transition,
            }),
        },
    })
}

fn drill_times(status: &DrillTimesStatus) -> DrillTimes {
    let DrillTimesStatus { detected_at, decided_at, applied_at, first_delivery_at } = status;
    DrillTimes {
        detected_at: time(detected_at.as_ref()),
        decided_at: time(decided_at.as_ref()),
        applied_at: time(applied_at.as_ref()),
        first_delivery_at: time(first_delivery_at.as_ref()),
    }
}

fn record(status: &DrillResultStatus) -> Option<DrillRecord> {
    let DrillResultStatus {
        id,
        mode,
        trigger,
        outcome,
        reason,
        message,
        backend,
        standby,
        started_at,
        times,
        restored_at,
        ended_at,
    } = status;
    Some(DrillRecord {
        id: id.as_str().into(),
        mode: DrillMode::from_str(mode).ok()?,
        trigger: DrillTrigger::from_str(trigger).ok()?,
        backend: backend.as_deref().map(Into::into),
        standby: standby.as_deref().map(Into::into),
        started_at: timestamp(started_at),
        times: drill_times(times),
        restored_at: time(restored_at.as_ref()),
        ended_at: timestamp(ended_at),
        outcome: DrillOutcome::from_str(outcome).ok()?,
        reason: reason.as_str().into(),
        message: message.clone(),
    })
}

/// The status of the drills that a route remembers; `None` if there is nothing to tell. The caller adds what follows from
/// the policy's schedule.
pub(super) fn drills_status(memory: &Memory) -> Option<RouteDrillsStatus> {
    let Memory { drill, drills, .. } = memory;
    let DrillLog { records, passed_at, considered, scheduled_since, waiting } = drills;
    if drill.is_none() && *drills == DrillLog::default() {
        return None;
    }
    Some(RouteDrillsStatus {
        running: drill.as_ref().map(running),
        waiting: waiting.as_ref().map(|DrillWait { opened_at, until, reason, message }| WaitingDrillStatus {
            opened_at: micro_time(*opened_at),
            until: micro_time(*until),
            reason: reason.to_string(),
            message: truncated(message, MAX_MESSAGE),
        }),
        next: None,
        overdue_at: None,
        passed_at: passed_at.map(micro_time),
        considered: considered.map(micro_time),
        scheduled_since: scheduled_since.map(micro_time),
        history: records.iter().map(result).collect(),
    })
}

fn running(drill: &Drill) -> RunningDrillStatus {
    let Drill { id, mode, trigger, backend, standby, started_at, until, shares, since, transition, times, ending } =
        drill;
    RunningDrillStatus {
        id: id.to_string(),
        mode: mode.as_str().to_owned(),
        trigger: trigger.as_str().to_owned(),
        backend: backend.to_string(),
        standby: standby.to_string(),
        started_at: micro_time(*started_at),
        until: micro_time(*until),
        times: times_status(times),
        transition: *transition,
        before: shares.iter().map(active_backend).collect(),
        since: micro_time(*since),
        ending: ending.as_ref().map(|DrillEnding { outcome, reason, message, at, transition }| EndingDrillStatus {
            outcome: outcome.as_str().to_owned(),
            reason: reason.to_string(),
            message: truncated(message, MAX_MESSAGE),
            at: micro_time(*at),
            transition: *transition,
        }),
    }
}

fn times_status(times: &DrillTimes) -> DrillTimesStatus {
    let DrillTimes { detected_at, decided_at, applied_at, first_delivery_at } = times;
    DrillTimesStatus {
        detected_at: detected_at.map(micro_time),
        decided_at: decided_at.map(micro_time),
        applied_at: applied_at.map(micro_time),
        first_delivery_at: first_delivery_at.map(micro_time),
    }
}

fn result(record: &DrillRecord) -> DrillResultStatus {
    let DrillRecord {
        id,
        mode,
        trigger,
        backend,
        standby,
        started_at,
        times,
        restored_at,
        ended_at,
        outcome,
        reason,
        message,
    } = record;
    DrillResultStatus {
        id: id.to_string(),
        mode: mode.as_str().to_owned(),
        trigger: trigger.as_str().to_owned(),
        outcome: outcome.as_str().to_owned(),
        reason: reason.to_string(),
        message: truncated(message, MAX_MESSAGE),
        backend: backend.as_deref().map(str::to_owned),
        standby: standby.as_deref().map(str::to_owned),
        started_at: micro_time(*started_at),
        times: times_status(times),
        restored_at: restored_at.map(micro_time),
        ended_at: micro_time(*ended_at),
    }
}

/// Returns the next opening of a schedule, and the time from which on a drill is overdue.
pub fn schedule_of(window: &CronWindow, log: &DrillLog, wall: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
    let since = log.passed_at.max(log.scheduled_since);
    let first = since.and_then(|since| window.next_opening(since));
    let second = first.and_then(|first| window.next_opening(first));
    (window.next_opening(wall), second.map(|second| second + window.duration()))
}

#[cfg(test)]
#[path = "drills_tests.rs"]
mod tests;
