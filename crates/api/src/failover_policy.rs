use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DrillsSpec, NotificationsSpec, NotificationsStatus};

/// Rules by which mail routes switch.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mailfailover.io",
    version = "v1alpha1",
    kind = "FailoverPolicy",
    plural = "failoverpolicies",
    namespaced,
    status = "FailoverPolicyStatus",
    derive = "PartialEq",
    shortname = "fpol",
    category = "mailfailover",
    doc = "Rules by which mail routes switch. Every field has a default that is safe for mail one does not own; a route without a policyRef uses the defaults.",
    printcolumn(
        name = "Failures",
        type_ = "integer",
        json_path = ".status.effective.failures",
        description = "Failures in a row that make a backend Unhealthy; the default where the spec has none"
    ),
    printcolumn(
        name = "Failback",
        type_ = "string",
        json_path = ".status.effective.failback",
        description = "Decider of a failback, Automatic or Manual; the default where the spec has none"
    ),
    printcolumn(
        name = "Budget",
        type_ = "string",
        json_path = ".status.effective.budget",
        description = "Transitions in a time; the default where the spec has none",
        priority = 1
    ),
    printcolumn(
        name = "Cooldown",
        type_ = "string",
        json_path = ".status.effective.cooldown",
        description = "Pause after a transition; the default where the spec has none",
        priority = 1
    ),
    printcolumn(
        name = "Routes",
        type_ = "integer",
        json_path = ".status.routeCount",
        description = "Routes that use this policy"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailoverPolicySpec {
    /// Thresholds at which a backend counts as failed, and as degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureSpec>,

    /// Thresholds at which a failed backend counts as recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoverySpec>,

    /// Pauses between moves. `cooldown` and `minimumStay` keep moves that nothing forces: a backend that is Unhealthy,
    /// suspended or removed from the route is left all the same. Once `budget` is spent, a dead backend, too, is left
    /// at most once per cooldown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldSpec>,

    /// Behaviour while no backend of a route is healthy. `Hold`: stay where the mail goes now. `Preferred`: go to the
    /// first backend of the list that is not suspended, as soon as `hold` allows. Default: Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_none_healthy: Option<WhenNoneHealthySpec>,

    /// Rules for the return to a preferred backend that has recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failback: Option<FailbackSpec>,

    /// Objectives that a switch is measured against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<ObjectivesSpec>,

    /// Circuit breaker that each agent (output `agent` of a MailRoute) has for each backend. Open, it puts the backend
    /// at the end of the backends that a message tries, and one message at a time tries it first again. It moves no
    /// route. A class in `failure.immediately` opens it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSpec>,

    /// People and systems that are told what happens to the routes of this policy. Default: those of the policy that
    /// the installation names for all (`--default-notifications`), if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<NotificationsSpec>,

    /// Drills: rehearsals of a failover, by a schedule or on request. Default: on request, in shadow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drills: Option<DrillsSpec>,
}

/// Thresholds at which a backend counts as failed, and as degraded.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.lasting) || duration(self.lasting) <= duration('1h')").message("spec.failure.lasting must be at most 1h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureSpec {
    /// Failures of one probe in a row that make a backend Unhealthy. Throttling, recipient-level replies and our own
    /// troubles (a silent DNS resolver, no free socket) count neither way. Default: 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: Option<i32>,

    /// Shortest time from the start of the first to the start of the last of these failures: shorter blips are ridden
    /// out. Where rounds at the interval are too few for `consecutive` in that time, the looks after a first failure
    /// come at once, a fiftieth of the interval apart (100ms to 1s), up to ten. They go no deeper than `StartTLS`, and
    /// none follows a failure at AUTH or later. `0s`: as soon as `consecutive` looks have failed. At most 1h. Default:
    /// what as many rounds of the probe span, which is 50s by default and rides out a blip of 45s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub lasting: Option<Duration>,

    /// A share of failures that makes a backend Unhealthy although they do not come in a row. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<FailureWindowSpec>,

    /// Slowness that makes a backend Degraded: it answers, but too slowly. Mail leaves it only if a Healthy one can take over. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencySpec>,

    /// Classes of failure of which one is enough to make a backend Unhealthy, without waiting for `consecutive`.
    /// `AuthenticationRefused`: the credentials are not accepted. `AccountPaused`: the provider has paused, suspended or closed the
    /// account. `QuotaExhausted`: the allowance of the day or month is used up. `Reputation`: refused for a block list or reputation.
    /// `Permanent`: another 5xx reply about the backend itself. `CertificateInvalid`: the certificate is expired, for another name, or
    /// of an unknown authority. `Unresolvable`: DNS says that the host does not exist. Default: `AccountPaused`,
    /// `AuthenticationRefused` and `QuotaExhausted`; an empty list for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub immediately: Option<Vec<ImmediateFailure>>,

    /// Deliveries of real mail, as agents see them, that make a backend Unhealthy. A class in `immediately` takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<FailedDeliveriesSpec>,
}

/// A share of failures among the latest results of a probe.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.duration) >= duration('1s') && duration(self.duration) <= duration('24h')").message("spec.failure.window.duration must be between 1s and 24h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureWindowSpec {
    /// Length of the window. From 1s to 24h.
    #[schemars(schema_with = "super::duration_schema")]
    pub duration: Duration,

    /// Least number of results for the share to count. A probe every 10s gives six a minute.
    #[schemars(range(min = 1, max = 10000))]
    pub minimum_samples: i32,

    /// Percentage of failed results that makes a backend Unhealthy.
    #[schemars(range(min = 1, max = 100))]
    pub failure_percent: i32,
}

/// A latency that must not be exceeded for long.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("duration(self.above) > duration('0s') && duration(self.above) <= duration('5m')").message("spec.failure.latency.above must be more than 0s and at most 5m"),
    validation = Rule::new("duration(self.__for__) >= duration('1s') && duration(self.__for__) <= duration('24h')").message("spec.failure.latency.for must be between 1s and 24h")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LatencySpec {
    /// Percentile of the latest dialogues that counts, sorted by duration: 50 is the median, 95 leaves out the slowest
    /// twentieth.
    #[schemars(range(min = 1, max = 99))]
    pub percentile: i32,

    /// Limit above which a dialogue is too slow. At most 5m; a probe that runs out of its own `timeout` has failed.
    #[schemars(schema_with = "super::duration_schema")]
    pub above: Duration,

    /// Time without interruption for which dialogues must be too slow to make a backend Degraded, and quick enough to
    /// end that. From 1s to 24h.
    #[schemars(schema_with = "super::duration_schema")]
    pub r#for: Duration,
}

/// A class of failure of which one may be enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum ImmediateFailure {
    /// The credentials are not accepted.
    AuthenticationRefused,
    /// The account is paused, suspended or closed.
    AccountPaused,
    /// The allowance of the day or month is used up.
    QuotaExhausted,
    /// Refused for a block list or reputation.
    Reputation,
    /// Another 5xx reply about the backend itself.
    Permanent,
    /// The certificate is expired, for another name, or of an unknown authority.
    CertificateInvalid,
    /// DNS says that the host does not exist.
    Unresolvable,
}

/// Thresholds at which a failed backend counts as recovered.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.stableFor) || duration(self.stableFor) <= duration('168h')").message("spec.recovery.stableFor must be at most 168h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecoverySpec {
    /// Successes of every probe in a row that make an Unhealthy backend Healthy. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: Option<i32>,

    /// Shortest time that those successes must span, however fast the probes are. Default: 0s. At most 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub stable_for: Option<Duration>,
}

/// Pauses between the moves of a route.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.cooldown) || duration(self.cooldown) <= duration('168h')").message("spec.hold.cooldown must be at most 168h"),
    validation = Rule::new("!has(self.minimumStay) || duration(self.minimumStay) <= duration('168h')").message("spec.hold.minimumStay must be at most 168h")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldSpec {
    /// Time after a transition in which the route makes no unforced move. Default: 10m. At most 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub cooldown: Option<Duration>,

    /// Time after arriving at a backend, the first one included, in which the route makes no unforced move. Default:
    /// 1m. At most 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub minimum_stay: Option<Duration>,

    /// Most transitions in a time. When it is spent, moves that nothing forces wait until the oldest transition is
    /// that long ago. A dead active backend is then left at most once per `cooldown`, at least `minimumStay` apart:
    /// the last-resort rule. Default: 6 per 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
}

/// Most transitions in a time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.per) >= duration('1s') && duration(self.per) <= duration('168h')").message("spec.hold.budget.per must be between 1s and 168h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetSpec {
    /// Number of transitions, at most 10: `status.history` of a route remembers no more.
    #[schemars(range(min = 1, max = 10))]
    pub switches: i32,

    /// Time in which transitions count. From 1s to 168h.
    #[schemars(schema_with = "super::duration_schema")]
    pub per: Duration,
}

/// Behaviour while no backend of a route is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum WhenNoneHealthySpec {
    /// Stay where the mail goes now.
    Hold,
    /// Go to the first backend of the list that is not suspended.
    Preferred,
}

/// Rules for the return to a preferred backend.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.after) || duration(self.after) <= duration('168h')").message("spec.failback.after must be at most 168h"),
    validation = Rule::new("!has(self.ramp) || (self.ramp.map(s, s.percent).isSorted() && self.ramp.all(s, self.ramp.exists_one(t, t.percent == s.percent)))").message("spec.failback.ramp[].percent must increase from step to step")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailbackSpec {
    /// `Automatic`: the operator returns by itself. `Manual`: a person approves the return. The operator says in
    /// `status.waitingFor` that the way back is open; the person answers with a request in the route's annotation
    /// `mailfailover.io/request`: `ApproveFailback` lets it return as soon as `after` and `windows` allow, `Failback`
    /// at once. A failing active backend is left in either mode. Default: Automatic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FailbackModeSpec>,

    /// Time without interruption for which the preferred backend must have been Healthy. It doubles for each failure
    /// but the first in the 24 hours before, at most three times. Default: 10m. At most 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub after: Option<Duration>,

    /// Times in which a return may begin; one of them must be open. Default: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<FailbackWindowSpec>,

    /// Steps in which the mail returns, by increasing percentages; all of it returns after the last step. A new
    /// failure on the way leads all mail back at once. Default: no steps, all mail returns at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub ramp: Vec<RampStepSpec>,
}

/// A recurring time in which a return may begin.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.duration) >= duration('1m') && duration(self.duration) <= duration('168h')").message("spec.failback.windows[].duration must be between 1m and 168h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailbackWindowSpec {
    /// Times of opening, in the five fields of crontab(5): minute, hour, day of month, month, day of week. `0 2 * *
    /// 1-5` is two o'clock from Monday to Friday. A change to summer time that skips an opening postpones it by as
    /// much; an opening that the change back repeats comes once.
    #[schemars(length(min = 9, max = 128), regex(pattern = r"^[0-9A-Za-z*,/#?-]+( +[0-9A-Za-z*,/#?-]+){4}$"))]
    pub schedule: String,

    /// Time zone of the schedule, as the IANA time zone database names it: `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: Option<String>,

    /// Duration of each opening. From 1m to 168h.
    #[schemars(schema_with = "super::duration_schema")]
    pub duration: Duration,
}

/// One step of a return.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.__for__) >= duration('1s') && duration(self.__for__) <= duration('168h')").message("spec.failback.ramp[].for must be between 1s and 168h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RampStepSpec {
    /// Largest share of the route's mail for the returning backend, in percent.
    #[schemars(range(min = 1, max = 99))]
    pub percent: i32,

    /// Duration of the step. From 1s to 168h.
    #[schemars(schema_with = "super::duration_schema")]
    pub r#for: Duration,
}

/// Objectives that a route is measured against.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.recoveryTime) || (duration(self.recoveryTime) >= duration('1s') && duration(self.recoveryTime) <= duration('24h'))").message("spec.objectives.recoveryTime must be between 1s and 24h"),
    validation = Rule::new("!has(self.deliveryTime) || (duration(self.deliveryTime) >= duration('1s') && duration(self.deliveryTime) <= duration('24h'))").message("spec.objectives.deliveryTime must be between 1s and 24h"),
    validation = Rule::new("!has(self.availability) || (double(self.availability) >= 50.0 && double(self.availability) < 100.0)").message("spec.objectives.availability must be at least 50 and below 100: 100 leaves no error budget"),
    validation = Rule::new("!has(self.window) || (duration(self.window) >= duration('1h') && duration(self.window) <= duration('2160h'))").message("spec.objectives.window must be between 1h and 2160h (90 days)"),
    validation = Rule::new("!has(self.window) || has(self.recoveryTime) || has(self.deliveryTime) || has(self.successPercent) || has(self.availability)").message("spec.objectives.window alone measures nothing: add an objective")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectivesSpec {
    /// Longest time from the first evidence of a failure until every output leads elsewhere. From 1s to 24h. Default:
    /// no objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub recovery_time: Option<Duration>,

    /// Longest time from the first evidence of a failure until the first message is out on the new way, as agents and
    /// relays report it. From 1s to 24h. Default: no objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub delivery_time: Option<Duration>,

    /// Least percentage of the attempts to deliver that a backend accepts, of those that it accepts or puts off, as
    /// agents and relays report them over the window. Refusals of a message or a recipient do not count. Default: no
    /// objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub success_percent: Option<i32>,

    /// Least percentage of the window in which mail can leave, such as `99.9`: the route is neither without a healthy
    /// backend nor held on a dead one. From 50, below 100. Default: no objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), regex(pattern = r"^[0-9]{1,2}(\.[0-9]{1,4})?$"))]
    pub availability: Option<String>,

    /// Time that objectives are looked at for: shares over all of it, times of the failovers in it. From 1h to 2160h.
    /// Default: 720h (30 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub window: Option<Duration>,
}

/// Settings of the agents' circuit breakers.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.firstPause) || (duration(self.firstPause) >= duration('1s') && duration(self.firstPause) <= duration('10m'))").message("spec.breaker.firstPause must be between 1s and 10m"),
    validation = Rule::new("!has(self.longestPause) || (duration(self.longestPause) >= duration('1s') && duration(self.longestPause) <= duration('1h'))").message("spec.breaker.longestPause must be between 1s and 1h"),
    validation = Rule::new("(has(self.firstPause) ? duration(self.firstPause) : duration('5s')) <= (has(self.longestPause) ? duration(self.longestPause) : duration('1m'))").message("spec.breaker.firstPause must not exceed spec.breaker.longestPause (default 1m)")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BreakerSpec {
    /// Deliveries in a row that open it when they fail by the backend's fault. Two are enough when it does not answer.
    /// Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: Option<i32>,

    /// Pause before the first message that tries the backend again. It doubles with each that fails. From 1s to 10m.
    /// Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub first_pause: Option<Duration>,

    /// Longest pause between two such messages. From 1s to 1h, and not below `firstPause`. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub longest_pause: Option<Duration>,
}

/// Deliveries of real mail that make a backend Unhealthy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.lasting) || duration(self.lasting) <= duration('1h')").message("spec.failure.deliveries.lasting must be at most 1h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailedDeliveriesSpec {
    /// Deliveries in a row that must fail by the backend's fault. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: Option<i32>,

    /// Shortest time that these failures must span, so that a blip that many messages meet at once is ridden out.
    /// Default: 50s, which rides out one of 45s. At most 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub lasting: Option<Duration>,
}

/// Decider of a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum FailbackModeSpec {
    /// The operator returns by itself.
    Automatic,
    /// A person approves the return.
    Manual,
}

/// State of a policy as the operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverPolicyStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Number of routes that use this policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_count: Option<i32>,

    /// Names of routes that use this policy, sorted; the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub routes: Vec<String>,

    /// The values in force, with the defaults of what the spec leaves out; absent while the spec cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectivePolicy>,

    /// Notifications: what each receiver was told, and what waits. Absent without receivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<NotificationsStatus>,

    /// `Ready`: accepted. `NotificationsDelivered`, where the policy has receivers: each has taken what it was to be told. `Stalled`: present and True only while the spec cannot be used as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Values of a policy that are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectivePolicy {
    /// Failures in a row that make a backend Unhealthy.
    pub failures: i32,
    /// Shortest time that they must span; absent for what as many rounds of the probe span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub lasting: Option<String>,
    /// Classes of which one failure is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 64)))]
    pub immediately: Vec<String>,
    /// Failed deliveries in a row that are enough, and the time that they must span: `10 over 50s`.
    #[schemars(length(max = 64))]
    pub failed_deliveries: String,
    /// Successes in a row that make an Unhealthy backend Healthy.
    pub recoveries: i32,
    /// Time after a transition without an unforced move.
    #[schemars(length(max = 64))]
    pub cooldown: String,
    /// Time after an arrival without an unforced move.
    #[schemars(length(max = 64))]
    pub minimum_stay: String,
    /// Most transitions in a time: `6 per 1h`.
    #[schemars(length(max = 64))]
    pub budget: String,
    /// Behaviour while no backend is healthy: Hold or Preferred.
    #[schemars(length(max = 16))]
    pub when_none_healthy: String,
    /// Decider of a return: Automatic or Manual.
    #[schemars(length(max = 16))]
    pub failback: String,
    /// Time of uninterrupted health before a return.
    #[schemars(length(max = 64))]
    pub failback_after: String,
}
