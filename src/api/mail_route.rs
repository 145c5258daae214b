use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Health, PendingEvent};

/// One stream of mail: the backends it may leave by, in order of preference, and the outputs that lead it there.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mailfailover.io",
    version = "v1alpha1",
    kind = "MailRoute",
    plural = "mailroutes",
    namespaced,
    status = "MailRouteStatus",
    derive = "PartialEq",
    shortname = "mroute",
    category = "mailfailover",
    doc = "One stream of mail: the backends it may leave by, in order of preference, and the outputs that lead it there. Which backend carries the mail now stands in `status`, never in `spec`, so that no GitOps tool reverts an incident response.",
    printcolumn(name = "Strategy", type_ = "string", json_path = ".status.strategy"),
    printcolumn(
        name = "Active",
        type_ = "string",
        json_path = ".status.active[*].backend",
        description = "Where the mail goes now"
    ),
    printcolumn(
        name = "Healthy",
        type_ = "string",
        json_path = ".status.healthyBackends",
        description = "Healthy backends of all"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
        description = "Preferred, FailedOver, Holding, NoneHealthy or Unknown"
    ),
    printcolumn(
        name = "Since",
        type_ = "date",
        json_path = ".status.since",
        description = "Since when the active backend carries the mail"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Mail can leave"
    ),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.backends.all(b, self.backends.exists_one(c, c.name == b.name))").message("spec.backends[].name must be unique: a backend cannot stand in for itself"),
    validation = Rule::new("self.outputs.all(o, !has(o.service) || self.outputs.exists_one(p, has(p.service) && p.service.name == o.service.name))").message("spec.outputs[].service.name must be unique"),
    validation = Rule::new("self.outputs.all(o, !has(o.configMap) || self.outputs.exists_one(p, has(p.configMap) && p.configMap.name == o.configMap.name))").message("spec.outputs[].configMap.name must be unique")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MailRouteSpec {
    /// The FailoverPolicy that decides when to switch. Default: the documented defaults of every field of a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<PolicyReference>,

    /// `ActivePassive`: all mail goes to one backend; the order of the list is the preference. Default: ActivePassive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,

    /// SendingBackends of the same namespace, most preferred first; 1 to 100.
    #[schemars(length(min = 1, max = 100))]
    pub backends: Vec<BackendReference>,

    /// What is rewritten when the route switches; 1 to 16.
    #[schemars(length(min = 1, max = 16))]
    pub outputs: Vec<OutputSpec>,
}

/// A FailoverPolicy of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How mail is spread over the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum Strategy {
    /// All mail goes to one backend.
    ActivePassive,
}

/// A SendingBackend of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One thing that is rewritten when the route switches. Exactly one of its fields must be set.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.service) != has(self.configMap)").message("exactly one of spec.outputs[].service and spec.outputs[].configMap must be set"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutputSpec {
    /// A Service without selector that this route owns, whose EndpointSlices point at the active backend. For clients that
    /// connect for each message or pool briefly; a queueing MTA needs more than a moved endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceOutput>,

    /// A ConfigMap that this route owns, with the active backend rendered for the program that reads it. Never holds credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapOutput>,
}

/// A Service that leads to the active backend.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("self.ports.all(p, self.ports.exists_one(q, q.name == p.name))").message("spec.outputs[].service.ports[].name must be unique"),
    validation = Rule::new("self.ports.all(p, self.ports.exists_one(q, q.port == p.port))").message("spec.outputs[].service.ports[].port must be unique")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceOutput {
    /// Name of the Service. It must not exist yet, or be owned by this route.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Under which ports clients reach it. Each leads to the SMTP port of the active backend.
    #[schemars(length(min = 1, max = 8))]
    pub ports: Vec<ServiceOutputPort>,
}

/// A port of a Service that leads to the active backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceOutputPort {
    /// Name of the port.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// TCP port that clients connect to.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// A ConfigMap rendered for the program that reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapOutput {
    /// Name of the ConfigMap. It must not exist yet, or be owned by this route.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// `Postfix`: keys `transport` and `tls_policy` (lookup tables) and `relayhost`. `Env`: keys `SMTP_HOST`, `SMTP_PORT`,
    /// `SMTP_TLS` (none, opportunistic, starttls, implicit), `SMTP_TLS_SERVER_NAME` and `SENDING_BACKEND`, for `envFrom`.
    pub format: ConfigMapFormat,
}

/// Who reads a rendered ConfigMap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConfigMapFormat {
    /// Postfix lookup tables.
    Postfix,
    /// Environment variables.
    Env,
}

/// What the operator decided about a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MailRouteStatus {
    /// The `metadata.generation` this status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The strategy in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,

    /// Where the mail goes now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub active: Vec<ActiveBackend>,

    /// Since when `active` carries the mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: Option<MicroTime>,

    /// `Preferred`: the mail leaves by the first backend of the list. `FailedOver`: by another one. `Holding`: decisions wait, see
    /// `hold`. `NoneHealthy`: no backend can deliver. `Unknown`: not enough evidence for a first decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RouteState>,

    /// In one sentence, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// Healthy backends of all: `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub healthy_backends: Option<String>,

    /// Why the route does not move although it would, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldStatus>,

    /// Each backend as this route's policy judges it, most preferred first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub backends: Vec<RouteBackendStatus>,

    /// The latest transition with its times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition: Option<TransitionStatus>,

    /// Earlier transitions, newest first, at most 10, `lastTransition` included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<TransitionStatus>,

    /// Events that are decided but not published yet; empty when nothing is outstanding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pending_events: Vec<PendingEvent>,

    /// `Ready`: the spec is accepted, its outputs are written and mail can leave, failed over or not. `FailedOver`: it leaves by another
    /// way than the preferred one. `Redundant`: another healthy backend could take over. `OutputsApplied`: every output leads to the
    /// active backend. `Stalled`: present and True only while the spec cannot be used as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// A backend that carries mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveBackend {
    /// Name of the SendingBackend.
    #[schemars(length(max = 253))]
    pub backend: String,
    /// Its share of the mail in percent.
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
}

/// Where a route stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum RouteState {
    /// The mail leaves by the first backend of the list.
    Preferred,
    /// The mail leaves by another backend.
    FailedOver,
    /// Decisions wait.
    Holding,
    /// No backend can deliver.
    NoneHealthy,
    /// Not enough evidence for a first decision.
    Unknown,
}

/// Why a route does not move although it would.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoldStatus {
    /// Cooldown, MinimumStay, Soak, ManualFailback, NoneHealthy, AwaitingEvidence, or ConfigurationRejected.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// When it ends by itself; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub until: Option<MicroTime>,
}

/// A backend as a route's policy judges it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteBackendStatus {
    /// Name of the SendingBackend.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The verdict.
    pub health: Health,
    /// Why, of a closed set: Ok, ConnectionRefused, …, Suspended, BackendNotFound.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Since when the verdict stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub since: Option<MicroTime>,
}

/// What kind of move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TransitionKind {
    /// To a less preferred backend, or to one because the active one had to be left.
    Failover,
    /// Back to a more preferred backend.
    Failback,
}

/// A move of the mail from one backend to another, with its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransitionStatus {
    /// Unique within the route; increases.
    pub id: i64,
    /// Failover or Failback.
    pub kind: TransitionKind,
    /// The backend that was left.
    #[schemars(length(max = 253))]
    pub from: String,
    /// The backend that carries the mail since.
    #[schemars(length(max = 253))]
    pub to: String,
    /// Why, of a closed set: the evidence class that made `from` Unhealthy, or Suspended, RemovedFromRoute, Recovered, NoneHealthy.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// When the first observation that led to it was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub first_evidence_at: Option<MicroTime>,
    /// When it was decided.
    #[schemars(schema_with = "super::micro_time_schema")]
    pub decided_at: MicroTime,
    /// When every output was written; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::micro_time_schema")]
    pub applied_at: Option<MicroTime>,
}
