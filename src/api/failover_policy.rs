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
    /// When a backend counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureSpec>,

    /// When a failed backend counts as recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoverySpec>,

    /// Holds on moves that nothing forces. A backend that is Unhealthy, suspended or removed from the route is left at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldSpec>,

    /// What to do when no backend of a route is healthy. `Hold`: stay where the mail goes now. `Preferred`: go to the first
    /// backend of the list that is not suspended, as soon as `hold` allows. Default: Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_none_healthy: Option<WhenNoneHealthy>,

    /// When to return to a preferred backend that has recovered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failback: Option<FailbackSpec>,
}

/// When a backend counts as failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureSpec {
    /// So many failures of one probe in a row make a backend Unhealthy. Throttling, recipient-level replies and our own
    /// troubles (a silent DNS resolver, no free socket) count neither way. Default: 6, which rides out a blip of 45s with probes every 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: Option<i32>,
}

/// When a failed backend counts as recovered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecoverySpec {
    /// So many successes of every probe in a row make an Unhealthy backend Healthy. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive: Option<i32>,
}

/// Holds on moves that nothing forces.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("!has(self.cooldown) || duration(self.cooldown) <= duration('168h')").message("spec.hold.cooldown must be at most 168h"),
    validation = Rule::new("!has(self.minimumStay) || duration(self.minimumStay) <= duration('168h')").message("spec.hold.minimumStay must be at most 168h")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldSpec {
    /// After a transition the route makes no unforced move for so long. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub cooldown: Option<Duration>,

    /// Having arrived at a backend, be it the first one, the route makes no unforced move for so long. Default: 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub minimum_stay: Option<Duration>,
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

/// When to return to a preferred backend.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.after) || duration(self.after) <= duration('168h')").message("spec.failback.after must be at most 168h"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailbackSpec {
    /// `Automatic`: the operator returns by itself. `Manual`: it says in `status.hold` that the way back is open and stays; to
    /// return, suspend the backend that carries the mail, or set Automatic. A failing active backend is left in either mode. Default: Automatic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FailbackMode>,

    /// The preferred backend must have been Healthy for so long without interruption. Default: 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub after: Option<Duration>,
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
