use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When and how mail routes switch.
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
    doc = "When and how mail routes switch. Every field has a default that is safe for mail one does not own; a route without a policyRef uses the defaults.",
    printcolumn(
        name = "Failures",
        type_ = "integer",
        json_path = ".spec.failure.consecutive",
        description = "Failures in a row that make a backend Unhealthy"
    ),
    printcolumn(
        name = "Failback",
        type_ = "string",
        json_path = ".spec.failback.mode",
        description = "Who decides on a failback"
    ),
    printcolumn(
        name = "Routes",
        type_ = "integer",
        json_path = ".status.routeCount",
        description = "Routes that use this policy"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailoverPolicySpec {
    /// When a backend counts as failed, and when as degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureSpec>,

    /// When a failed backend counts as recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoverySpec>,

    /// Holds on moves. `cooldown` and `minimumStay` hold what nothing forces: a backend that is Unhealthy, suspended or removed from
    /// the route is left all the same. Once `budget` is spent, a dead backend, too, is left at most once per cooldown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldSpec>,

    /// What to do when no backend of a route is healthy. `Hold`: stay where the mail goes now. `Preferred`: go to the first
    /// backend of the list that is not suspended, as soon as `hold` allows. Default: Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_none_healthy: Option<WhenNoneHealthy>,

    /// When and how to return to a preferred backend that has recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failback: Option<FailbackSpec>,

    /// What a switch is measured against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<ObjectivesSpec>,

    /// When an agent (output `agent` of a MailRoute) leaves a backend by itself, by what real mail meets there, without waiting for the
    /// operator. `failure.immediately` names classes of which one delivery is enough; `hold.cooldown` keeps it from going back,
    /// `hold.budget` from going to and fro.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reflex: Option<ReflexSpec>,
}

/// When a backend counts as failed, and when as degraded.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureSpec {
    /// So many failures of one probe in a row make a backend Unhealthy. Throttling, recipient-level replies and our own
    /// troubles (a silent DNS resolver, no free socket) count neither way. Default: 6, which rides out a blip of 45s with probes every 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: Option<i32>,

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
    /// of an unknown authority. `Unresolvable`: DNS says that the host does not exist. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub immediately: Vec<ImmediateFailure>,
}

/// A share of failures among the latest results of a probe.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.duration) >= duration('1s') && duration(self.duration) <= duration('24h')").message("spec.failure.window.duration must be between 1s and 24h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureWindowSpec {
    /// How far back results count. From 1s to 24h.
    #[schemars(schema_with = "super::duration_schema")]
    pub duration: Duration,

    /// With fewer results than this the share says nothing. A probe every 10s gives six a minute.
    #[schemars(range(min = 1, max = 10000))]
    pub minimum_samples: i32,

    /// So many failures of a hundred results make a backend Unhealthy.
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
    /// Which of the latest dialogues counts, sorted by how long they took: 50 is the median, 95 leaves out the slowest twentieth.
    #[schemars(range(min = 1, max = 99))]
    pub percentile: i32,

    /// A dialogue that takes longer is too slow. At most 5m; a probe that runs out of its own `timeout` has failed.
    #[schemars(schema_with = "super::duration_schema")]
    pub above: Duration,

    /// Too slow for so long without interruption makes a backend Degraded; quick enough for so long ends it. From 1s to 24h.
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

/// When a failed backend counts as recovered.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.stableFor) || duration(self.stableFor) <= duration('168h')").message("spec.recovery.stableFor must be at most 168h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecoverySpec {
    /// So many successes of every probe in a row make an Unhealthy backend Healthy. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: Option<i32>,

    /// Those successes must span at least so long, however fast the probes are. Default: 0s. At most 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub stable_for: Option<Duration>,
}

/// Holds on moves.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.cooldown) || duration(self.cooldown) <= duration('168h')").message("spec.hold.cooldown must be at most 168h"),
    validation = Rule::new("!has(self.minimumStay) || duration(self.minimumStay) <= duration('168h')").message("spec.hold.minimumStay must be at most 168h")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldSpec {
    /// After a transition the route makes no unforced move for so long. Default: 10m. At most 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub cooldown: Option<Duration>,

    /// Having arrived at a backend, be it the first one, the route makes no unforced move for so long. Default: 1m. At most 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub minimum_stay: Option<Duration>,

    /// No more transitions than this in this time. When it is spent, moves that nothing forces wait until the oldest transition is
    /// that long ago, and a dead active backend is left at most once per `cooldown`, at least `minimumStay` apart: the last-resort
    /// rule. Default: 6 per 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSpec>,
}

/// So many transitions in so long.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.per) >= duration('1s') && duration(self.per) <= duration('168h')").message("spec.hold.budget.per must be between 1s and 168h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetSpec {
    /// How many transitions, at most 10: `status.history` of a route remembers no more.
    #[schemars(range(min = 1, max = 10))]
    pub switches: i32,

    /// In how long. From 1s to 168h.
    #[schemars(schema_with = "super::duration_schema")]
    pub per: Duration,
}

/// What to do when no backend of a route is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum WhenNoneHealthy {
    /// Stay where the mail goes now.
    Hold,
    /// Go to the first backend of the list that is not suspended.
    Preferred,
}

/// When and how to return to a preferred backend.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.after) || duration(self.after) <= duration('168h')").message("spec.failback.after must be at most 168h"),
    validation = Rule::new("!has(self.ramp) || (self.ramp.map(s, s.percent).isSorted() && self.ramp.all(s, self.ramp.exists_one(t, t.percent == s.percent)))").message("spec.failback.ramp[].percent must increase from step to step")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailbackSpec {
    /// `Automatic`: the operator returns by itself. `Manual`: it says in `status.hold` that the way back is open and waits for a person,
    /// who answers with a request in the route's annotation `mailfailover.io/request`: `ApproveFailback` lets it return as soon as `after`
    /// and `windows` allow, `Failback` at once. A failing active backend is left in either mode. Default: Automatic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FailbackMode>,

    /// The preferred backend must have been Healthy for so long without interruption; twice as long for each failure but the first in the
    /// 24 hours before, at most three times over. Default: 10m. At most 168h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub after: Option<Duration>,

    /// When a return may begin; one of them must be open. Default: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<FailbackWindowSpec>,

    /// In which steps the mail returns, by increasing percentages; after the last step all of it does. A new failure on the way leads
    /// all mail back at once. Default: no steps, all mail returns at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub ramp: Vec<RampStepSpec>,
}

/// A recurring time in which a return may begin.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.duration) >= duration('1m') && duration(self.duration) <= duration('168h')").message("spec.failback.windows[].duration must be between 1m and 168h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailbackWindowSpec {
    /// When it opens, in the five fields of crontab(5): minute, hour, day of month, month, day of week. `0 2 * * 1-5` is two
    /// o'clock from Monday to Friday. An opening that a change to summer time skips comes as much later; one that the change back repeats
    /// comes once.
    #[schemars(length(min = 9, max = 128), regex(pattern = r"^[0-9A-Za-z*,/#?-]+( +[0-9A-Za-z*,/#?-]+){4}$"))]
    pub schedule: String,

    /// By whose wall clock, as the IANA time zone database names it: `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: Option<String>,

    /// How long it stays open. From 1m to 168h.
    #[schemars(schema_with = "super::duration_schema")]
    pub duration: Duration,
}

/// One step of a return.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("duration(self.__for__) >= duration('1s') && duration(self.__for__) <= duration('168h')").message("spec.failback.ramp[].for must be between 1s and 168h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RampStepSpec {
    /// At most so much of the route's mail goes to the returning backend.
    #[schemars(range(min = 1, max = 99))]
    pub percent: i32,

    /// For so long. From 1s to 168h.
    #[schemars(schema_with = "super::duration_schema")]
    pub r#for: Duration,
}

/// What a switch is measured against.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.recoveryTime) || (duration(self.recoveryTime) >= duration('1s') && duration(self.recoveryTime) <= duration('24h'))").message("spec.objectives.recoveryTime must be between 1s and 24h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectivesSpec {
    /// No more than this may pass from the first evidence of a failure until every output leads elsewhere. From 1s to 24h. Default: no
    /// objective.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub recovery_time: Option<Duration>,
}

/// When an agent leaves a backend by itself.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.lasting) || duration(self.lasting) <= duration('1h')").message("spec.reflex.lasting must be at most 1h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReflexSpec {
    /// So many deliveries in a row must fail, by the backend's fault. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: Option<i32>,

    /// They must span at least so long, so that a blip that many messages meet at once is ridden out. Default: 50s, which rides out one
    /// of 45s. At most 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub lasting: Option<Duration>,
}

/// Who decides on a failback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum FailbackMode {
    /// The operator.
    Automatic,
    /// A person.
    Manual,
}

/// What the operator knows of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverPolicyStatus {
    /// The `metadata.generation` this status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// How many routes use this policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_count: Option<i32>,

    /// Names of routes that use this policy, sorted; the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub routes: Vec<String>,

    /// `Ready`: accepted. `Stalled`: present and True only while the spec cannot be used as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions_schema")]
    pub conditions: Vec<Condition>,
}
