//! The status of a `MailRoute`, which the operator writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Health, OngoingNotification, PendingEvent, PendingNotification, RouteDrillsStatus, StrategySpec};

/// Decision of the operator about a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailRouteStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The strategy in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategySpec>,

    /// Backends that carry the mail now, with their shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub active: Vec<ActiveBackend>,

    /// The same in one line: `ses-eu`, or `ses-eu 70%, sendgrid 30%`. `ses-eu (diverted)` while messages go another way,
    /// see `diverted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub active_summary: Option<String>,

    /// Backends among `active` that messages try last at every agent, because the breakers are open: they go to the
    /// alternates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub diverted: Vec<DivertedStatus>,

    /// Backends that each output leads to, as far as it was written. They differ from `active` where an output cannot
    /// express its shares: a Service spreads evenly over its endpoints, and `Env` and `Postfix` name one backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub outputs: Vec<OutputStatus>,

    /// Percentage of the mail that no backend takes: it exceeds what the backends take that can deliver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub unplaced_percent: Option<i32>,

    /// Time from which on `active` carries the mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: Option<MicroTime>,

    /// `Preferred`: the mail leaves by the first backend of the list. `FailedOver`: by another one. `FailingBack`: it returns in steps,
    /// see `ramp`. `Holding`: decisions wait, see `waitingFor`, perhaps with a backend that cannot deliver. `Paused`: decisions wait because a request said so, see `pause`. `NoneHealthy`: no
    /// backend can deliver. `Unknown`: not enough evidence for a first decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RouteState>,

    /// State of the route in one sentence, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// Number of healthy backends, of all: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub healthy_backends: Option<String>,

    /// Reason for which the route waits although it would move, with the end if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingForStatus>,

    /// A return in steps that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<RampStatus>,

    /// A requested Switch that is in force: mail goes there until it ends, unless that backend dies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchStatus>,

    /// A requested Pause that is in force: nothing moves, not even away from a dead backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseStatus>,

    /// Time of an ApproveFailback that is in force: the next failback needs no person any more. It ends with that
    /// failback, or when the backend fails again before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub approved_at: Option<MicroTime>,

    /// Objectives of the policy as measured; rewritten once an hour at most, and with each change of the route's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<RouteObjectivesStatus>,

    /// Drills of the route: the one under way, those that are due, and the latest results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drills: Option<RouteDrillsStatus>,

    /// The answer to the latest request in the annotation `mailfailover.io/request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestStatus>,

    /// Ids of the requests that were answered before the latest one, newest first. A request of such an id is not
    /// answered again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 64)))]
    pub earlier_request_ids: Vec<String>,

    /// Reasons for which the mail goes where it goes, the first one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 512)))]
    pub explanation: Vec<String>,

    /// Each backend as this route's policy judges it, most preferred first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub backends: Vec<RouteBackendStatus>,

    /// The latest transition with its times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition: Option<TransitionStatus>,

    /// The latest transitions, newest first, at most 10, and 4 of drills; the first is `lastTransition`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 14))]
    pub history: Vec<TransitionStatus>,

    /// Events that are decided but not published yet; empty when nothing is outstanding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pending_events: Vec<PendingEvent>,

    /// Notifications that are decided and that no message of a FailoverPolicy tells yet; empty when nothing is
    /// outstanding, or when nobody is to be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pending_notifications: Vec<PendingNotification>,

    /// What the receivers of notifications were told, and what lasts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub ongoing: Vec<OngoingNotification>,

    /// Installations of the operator that lead this route, in the order in which they came. More than one is a mistake,
    /// see the condition `InstallationConflict`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub installations: Vec<InstallationStatus>,

    /// `Ready`: the spec is accepted, its outputs are written and mail can leave, failed over or not. Where agents report, it is False with the reason `MailWaits` while mail has waited in a queue for 5 minutes and none has left there. `FailedOver`: it leaves by another
    /// way than the preferred one; False with the reason `Drill` while a drill leads it there. `Redundant`: another healthy backend could take over. `OutputsApplied`: every output leads to the
    /// active backend. `RecoveryTimeMet`, where the policy has `objectives.recoveryTime`: the latest failover was as quick.
    /// `ObjectivesMet`, where the policy has objectives: none of them is missed; the reason is ObjectiveAtRisk when one nearly is.
    /// `WebhooksApplied`, where the route has webhooks: every receiver has accepted where the route leads. `DnsApplied`, where it has DNS records: every authority answers with those of the active backend. `MailKept`, where an agent has reported it: messages have waited for 15 minutes because a backend refuses them; the reason says what the refusal is about. `InstallationConflict`: present and True only while several installations of the operator lead the route. `Stalled`: present and True only while the spec cannot be used as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// An installation of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstallationStatus {
    /// Namespace and name of the Lease of the installation: `mail-failover/mail-failover-operator`.
    #[schemars(length(max = 320))]
    pub name: String,
    /// Time of its latest sign of life, which it gives here or in another route of the namespace; absent while it is alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub renewed_at: Option<MicroTime>,
}

/// A backend that carries mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveBackend {
    /// Name of the SendingBackend.
    #[schemars(length(max = 253))]
    pub backend: String,
    /// Share of the mail in percent.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// Present and true for a backend that only takes mail that does not fit elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overflow: bool,
}

/// A backend that carries mail by the decision, and that messages try last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DivertedStatus {
    /// Name of the SendingBackend.
    #[schemars(length(max = 253))]
    pub backend: String,
    /// Time since which all agents have reported that.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: MicroTime,
}

/// Backends that an output leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    /// Kind of the object: Service or ConfigMap; or Webhook, or DNS.
    #[schemars(length(max = 32))]
    pub kind: String,
    /// Name of the object, of the webhook, or of the MX records.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Backends that it leads to, with the shares of the mail that follow from it; of a webhook those that its receiver
    /// was told last, and of DNS records that at which they were seen to lead last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub active: Vec<OutputShare>,
    /// Scheme, host and port of a webhook's receiver; servers that take the updates of DNS records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub destination: Option<String>,
    /// Id of the event that a webhook's receiver is to accept: its header `webhook-id`. DNS records as they should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub wanted: Option<String>,
    /// Id of the event that it has accepted last; DNS records as every authority has answered with them. The output leads
    /// where the route does while it is that of `wanted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub applied: Option<String>,
    /// Time of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub applied_at: Option<MicroTime>,
    /// Start of the calls that fail, and reason of the latest failure; absent while none fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<OutputFailure>,
}

/// Failure of an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputFailure {
    /// Time of the first failure since the latest success.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: MicroTime,
    /// Reason of the latest failure, for people.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Time until which the receiver has asked for patience (`Retry-After`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub not_before: Option<MicroTime>,
}

/// Share of the mail that an output leads to a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputShare {
    /// Name of the SendingBackend.
    #[schemars(length(max = 253))]
    pub backend: String,
    /// Share of the mail in percent.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
}

/// State of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum RouteState {
    /// The mail leaves by the first backend of the list.
    Preferred,
    /// The mail leaves by another backend.
    FailedOver,
    /// The mail returns in steps.
    FailingBack,
    /// Decisions wait, see `waitingFor`.
    Holding,
    /// Decisions wait because a request said so.
    Paused,
    /// No backend can deliver.
    NoneHealthy,
    /// Not enough evidence for a first decision.
    Unknown,
}

/// Reason for which a route waits although it would move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingForStatus {
    /// Reason, of a closed set. A timer: Cooldown, MinimumStay, SwitchBudget, Soak, FailbackWindow, Ramp. A person:
    /// ManualFailback, Switched, Paused. Health: NoneHealthy, StormBrake, AwaitingConfirmation, AwaitingEvidence. The
    /// configuration: ConfigurationRejected.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Start of the wait for this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: Option<MicroTime>,
    /// Time at which it ends by itself; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub until: Option<MicroTime>,
}

/// A return in steps that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RampStatus {
    /// Names of the SendingBackends that the mail returns to.
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub to: Vec<String>,
    /// Step of the policy's `failback.ramp` that is in force; the first is 0.
    #[schemars(range(min = 0, max = 8))]
    pub step: i32,
    /// Start of that step.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: MicroTime,
}

/// Objectives of a route as measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteObjectivesStatus {
    /// Time of the measurement.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub at: MicroTime,
    /// Time that was looked at: `720h`.
    #[schemars(length(max = 32))]
    pub window: String,
    /// Each objective of the policy.
    #[schemars(length(max = 4))]
    pub results: Vec<ObjectiveStatus>,
    /// Messages of the window that may have been delivered twice, as agents and relays report.
    pub possible_duplicates: i64,
    /// Parts of the window in which something was counted, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40))]
    pub record: Vec<ObjectiveRecordStatus>,
}

/// An objective as measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveStatus {
    /// Objective: RecoveryTime, DeliveryTime, Success or Availability.
    #[schemars(length(max = 32))]
    pub objective: String,
    /// `Met`. `AtRisk`: met, with three quarters of what it allows used. `Missed`. `Unknown`: nothing was measured.
    #[schemars(length(max = 16))]
    pub state: String,
    /// What the policy demands: `30s`, `99.9%`.
    #[schemars(length(max = 32))]
    pub target: String,
    /// What was measured: the slowest failover, or the share; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub measured: Option<String>,
    /// Rest of the error budget in percent, negative when it is overspent; absent for times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_budget_percent: Option<i32>,
}

/// What was counted in a part of the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectiveRecordStatus {
    /// Start of the part.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: MicroTime,
    /// Milliseconds in which no mail could leave.
    pub undeliverable_millis: i64,
    /// Attempts to deliver that a backend accepted.
    pub accepted: i64,
    /// Attempts that failed or were put off.
    pub deferred: i64,
    /// Messages that may have been delivered twice.
    pub possible_duplicates: i64,
}

/// A requested Switch that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwitchStatus {
    /// Name of the SendingBackend that was asked for.
    #[schemars(length(max = 253))]
    pub to: String,
    /// Time at which it ends by itself; absent if only a Failback ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub until: Option<MicroTime>,
    /// True if it holds even though the backend is Unhealthy or suspended.
    pub forced: bool,
}

/// A requested Pause that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseStatus {
    /// Start of the Pause.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: MicroTime,
    /// Time at which it ends by itself; absent if only a Resume ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub until: Option<MicroTime>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// The id that the caller chose. A request of the same id is not carried out again.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Requested action: Switch, Failback, Pause, Resume, ApproveFailback or Drill; Malformed if it could not be read.
    #[schemars(length(max = 32))]
    pub action: String,
    /// Done, or Refused for the reason in `message`.
    pub outcome: RequestOutcome,
    /// Result, or reason of the refusal, for people.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Reason that the person gave in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
    /// Digest of the request's text: another text of the same id is another request, and is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub digest: Option<String>,
    /// Program that wrote the request, as `metadata.managedFields` names it: kubectl-annotate, kubectl-edit. Absent if
    /// the API server does not tell. The person is in the audit log of the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub asked_by: Option<String>,
    /// Time of the answer.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub at: MicroTime,
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RequestOutcome {
    /// The request was carried out.
    Done,
    /// The request was not carried out, and will not be.
    Refused,
}

/// A backend as a route's policy judges it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteBackendStatus {
    /// Name of the SendingBackend.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Verdict about the backend.
    pub health: Health,
    /// Reason of the verdict, of a closed set: Ok, Slow, ConnectionRefused, …; Suspended, Residency, SenderDomain or
    /// BackendNotFound where the route sends nothing there whatever its health.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Start of the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: Option<MicroTime>,
}

/// Direction of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TransitionKind {
    /// To a less preferred backend, to fewer of them, or to one because the active one had to be left.
    Failover,
    /// Back to a more preferred backend, or to more of them.
    Failback,
}

/// A move of the mail from one backend to another, with its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransitionStatus {
    /// Unique within the route; increases.
    pub id: i64,
    /// Direction: Failover or Failback.
    pub kind: TransitionKind,
    /// The backend that was left, or gave up mail.
    #[schemars(length(max = 253))]
    pub from: String,
    /// The backend that carries the mail since, or the most of what moved.
    #[schemars(length(max = 253))]
    pub to: String,
    /// Reason, of a closed set: the evidence class that made `from` Unhealthy or Degraded, or Suspended, Excluded,
    /// RemovedFromRoute, Recovered, NoneHealthy, Requested, Drill.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Start of the first observation that led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub first_evidence_at: Option<MicroTime>,
    /// Time of the decision.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub decided_at: MicroTime,
    /// Time at which every output was written; absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub applied_at: Option<MicroTime>,
    /// Time at which the first message was out on the new way, as reported by the first agent that has carried out the
    /// transition; absent without agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub first_delivery_at: Option<MicroTime>,
}
