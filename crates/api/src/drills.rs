//! Drills: their rules in a policy, and their results in the status of a route.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ActiveBackend;

/// Drills: rehearsals of a failover. One of a route begins only while mail leaves by its preferred backend, every
/// backend of it is Healthy, nothing holds it, its standby takes all of its mail within its limits, and no drill of
/// another route concerns the same failure domains. It is aborted, and mail returns, as soon as one of these is not so any
/// more. A drill is no evidence about a backend, for no other route, and spends no budget of the route.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.within) || (duration(self.within) >= duration('1m') && duration(self.within) <= duration('168h'))").message("spec.drills.within must be between 1m and 168h"),
    validation = Rule::new("!has(self.longest) || (duration(self.longest) >= duration('1s') && duration(self.longest) <= duration('1h'))").message("spec.drills.longest must be between 1s and 1h"),
    validation = Rule::new("(has(self.stay) ? duration(self.stay) : duration('1m')) < (has(self.longest) ? duration(self.longest) : duration('10m'))").message("spec.drills.stay (default 1m) must be shorter than spec.drills.longest (default 10m)"),
    validation = Rule::new("!has(self.schedule) || (has(self.longest) ? duration(self.longest) : duration('10m')) <= (has(self.within) ? duration(self.within) : duration('1h'))").message("spec.drills.longest (default 10m) must not exceed spec.drills.within (default 1h): a drill ends within its window"),
    validation = Rule::new("has(self.schedule) || (!has(self.timeZone) && !has(self.within))").message("spec.drills.timeZone and spec.drills.within belong to spec.drills.schedule: add it, or leave them out")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillsSpec {
    /// Times from which on one drill begins by itself, in the five fields of crontab(5): minute, hour, day of month,
    /// month, day of week. `0 4 * * 1` is four o'clock on Mondays. Default: none; drills are asked for by a person, with the
    /// action `Drill` in the route's annotation `mailfailover.io/request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 128), regex(pattern = r"^[0-9A-Za-z*,/#?-]+( +[0-9A-Za-z*,/#?-]+){4}$"))]
    pub schedule: Option<String>,

    /// Time zone of the schedule, as the IANA time zone database names it: `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: Option<String>,

    /// Time after each opening of the schedule in which its drill begins and ends; one that may not begin is skipped then. From 1m to
    /// 168h. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub within: Option<Duration>,

    /// `Observed`: the preferred backend counts as failed in the evidence of the route, which moves by its own rules; mail
    /// leaves by the standby for a while. `Blocked`: beside that, agents and relays refuse the preferred backend from the start, and
    /// its endpoints leave Services. `Shadow`: every probe of the standby makes a round to its full depth, and nothing moves. Default:
    /// Shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DrillModeSpec>,

    /// Time for which mail stays with the standby. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub stay: Option<Duration>,

    /// Longest duration of a drill: mail returns then, whatever has happened until then. It has to be longer than the policy takes to
    /// detect a failure. From 1s to 1h. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub longest: Option<Duration>,

    /// Most drills of one route in a time, asked for or due. Default: 3 per 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<DrillBudgetSpec>,
}

/// Part of a failure that is real in a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum DrillModeSpec {
    /// The failure stands in the evidence of the route.
    Observed,
    /// Beside that, the preferred backend is refused where messages leave.
    Blocked,
    /// The standby is probed to its full depth.
    Shadow,
}

/// Most drills of a route in a time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.per) >= duration('1s') && duration(self.per) <= duration('2160h')").message("spec.drills.budget.per must be between 1s and 2160h (90 days)"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillBudgetSpec {
    /// Number of drills, at most 5: `status.drills.history` of a route remembers no more.
    #[schemars(range(min = 1, max = 5))]
    pub drills: i32,

    /// Time in which drills count. From 1s to 2160h.
    #[schemars(schema_with = "super::duration_schema")]
    pub per: Duration,
}

/// Drills of a route: the one under way, those that are due, and the latest results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteDrillsStatus {
    /// The drill under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningDrillStatus>,

    /// The drill that is due and may not begin yet, with the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitingDrillStatus>,

    /// Next opening of the policy's schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub next: Option<MicroTime>,

    /// Time from which on a drill is overdue: two windows of the schedule have passed since one has passed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub overdue_at: Option<MicroTime>,

    /// End of the latest drill that passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub passed_at: Option<MicroTime>,

    /// Latest opening of the schedule whose drill has begun or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub considered: Option<MicroTime>,

    /// Time since which the route has a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub scheduled_since: Option<MicroTime>,

    /// The latest results, newest first; at most 5, and the latest drill that was skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6))]
    pub history: Vec<DrillResultStatus>,
}

/// A drill that is due and may not begin yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingDrillStatus {
    /// Opening of the schedule that it is due in.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub opened_at: MicroTime,
    /// Time at which it is skipped.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub until: MicroTime,
    /// Reason, of a closed set: NotPreferred, Held, Unhealthy, Throttled, Storm, NoStandby, BeyondLimits, OutsideWindow,
    /// DomainBusy, TooMany, BudgetSpent, UnderWay.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Reason for people.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// A drill that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunningDrillStatus {
    /// Id of the drill, which no other drill of the route ever has.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Mode: Observed, Blocked or Shadow.
    #[schemars(length(max = 16))]
    pub mode: String,
    /// Cause: Schedule or Request.
    #[schemars(length(max = 16))]
    pub trigger: String,
    /// The backend that counts as failed.
    #[schemars(length(max = 253))]
    pub backend: String,
    /// The backend that is expected to take over.
    #[schemars(length(max = 253))]
    pub standby: String,
    /// Start of the drill.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub started_at: MicroTime,
    /// Time at which it is over at the latest.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub until: MicroTime,
    /// Times of its steps that have become known.
    #[serde(default)]
    pub times: DrillTimesStatus,
    /// Id of the transition that led the mail away; absent before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<i64>,
    /// The split of the mail that it returns to.
    #[schemars(length(max = 100))]
    pub before: Vec<ActiveBackend>,
    /// Time since which that split is in force.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: MicroTime,
    /// The result, while outputs are led back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<EndingDrillStatus>,
}

/// Times of the steps of a drill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillTimesStatus {
    /// Time at which the backend counted as Unhealthy by the policy's thresholds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub detected_at: Option<MicroTime>,
    /// Time of the decision to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub decided_at: Option<MicroTime>,
    /// Time at which every output led to the standby.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub applied_at: Option<MicroTime>,
    /// Time at which the first message was out by another backend, as agents and relays report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub first_delivery_at: Option<MicroTime>,
}

/// The result of a drill whose mail returns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndingDrillStatus {
    /// Result: Passed, Failed or Aborted.
    #[schemars(length(max = 16))]
    pub outcome: String,
    /// Reason, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Observations, for people.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Time of the decision to restore.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub at: MicroTime,
    /// Id of the transition that led the mail back.
    pub transition: i64,
}

/// The result of a drill that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrillResultStatus {
    /// Id of the drill.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Mode: Observed, Blocked or Shadow.
    #[schemars(length(max = 16))]
    pub mode: String,
    /// Cause: Schedule or Request.
    #[schemars(length(max = 16))]
    pub trigger: String,
    /// `Passed`. `Failed`: mail did not move, or not within the objectives. `Aborted`: something real came in between. `Skipped`: it was
    /// due and could not begin.
    #[schemars(length(max = 16))]
    pub outcome: String,
    /// Reason: WithinObjective, StandbyAnswered, ObjectiveMissed, NotDetected, NotDecided, NotApplied, NotDelivered, NotRestored,
    /// StandbyFailed, NotObserved, or the guard that has aborted or skipped it, as in `waiting`; Asked, RouteChanged or Lifted, too.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Observations, each time against its objective, for people.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The backend that counted as failed; absent if it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backend: Option<String>,
    /// The backend that was expected to take over; absent if it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub standby: Option<String>,
    /// Start of the drill, or of the window that it was due in.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub started_at: MicroTime,
    /// Times of its steps.
    #[serde(default)]
    pub times: DrillTimesStatus,
    /// Time at which every output led back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub restored_at: Option<MicroTime>,
    /// End of the drill.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub ended_at: MicroTime,
}
