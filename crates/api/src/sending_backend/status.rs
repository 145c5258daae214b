use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::PendingEvent;

/// State of a backend as the operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendingBackendStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `SMTP`: a host or address. `Service`: an MTA in this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<BackendType>,

    /// Address of the backend: the host or the Service, with the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub host: Option<String>,

    /// Verdict: Healthy, Degraded (mail leaves slowly), Unhealthy, or Unknown while there is not enough evidence.
    /// Judged with the thresholds of the routes that use this backend (the documented defaults if none does); where
    /// their verdicts differ, the worst is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,

    /// Start of the present `health`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::micro_time_schema")]
    pub since: Option<MicroTime>,

    /// Reason, as one word of a closed set: Ok, ConnectionRefused, NoAnswer, CertificateInvalid, …; ServiceNotFound,
    /// CANotFound and the like while the spec cannot be put into force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,

    /// Evidence that turned `health`, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// First expiry among the certificates that the backend presents, its own and those of issuers, as far as they are
    /// needed; of several addresses and probes, the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::micro_time_schema")]
    pub certificate_not_after: Option<MicroTime>,

    /// Name of the certificate that expires then, if it is an issuer's (an intermediate one) and not the backend's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub certificate_issuer: Option<String>,

    /// Verdict of each probe. `deliveries` is the verdict of the routes' agents about real mail, present once that has
    /// failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 9))]
    pub probes: Vec<ProbeStatus>,

    /// Events that are decided but not published yet; empty when nothing is outstanding.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pending_events: Vec<PendingEvent>,

    /// `Ready`: accepted, references resolved, being observed; a dead backend is Ready, so that an outage fails no deployment.
    /// `Healthy`: mail can leave this way. `Stalled`: present and True only while the spec cannot be used as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// Kind of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::without_description)]
pub enum BackendType {
    /// A host or address.
    #[serde(rename = "SMTP")]
    Smtp,
    /// An MTA in this cluster.
    Service,
}

/// The verdict about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::without_description)]
pub enum Health {
    /// Mail can leave this way.
    Healthy,
    /// Mail can leave this way, slower than the policy allows.
    Degraded,
    /// Mail cannot leave this way.
    Unhealthy,
    /// There is not enough evidence.
    Unknown,
}

/// Failure of a probe that cannot be made any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastFailureStatus {
    /// Start of the verdict.
    #[schemars(schema_with = "crate::micro_time_schema")]
    pub since: MicroTime,
    /// Reason, of the same closed set as `status.reason`.
    #[schemars(length(max = 64))]
    pub reason: String,
}

/// The verdict of one probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeStatus {
    /// Name of the probe in `spec.probes[].name`.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Verdict of the probe.
    pub health: Health,
    /// Start of the verdict.
    #[schemars(schema_with = "crate::micro_time_schema")]
    pub since: MicroTime,
    /// Reason, of the same closed set as `status.reason`.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Failure that stood when the probe was blocked. It ends with a success of the probe, and not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailureStatus>,
    /// Evidence that turned the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}
