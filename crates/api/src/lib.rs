//! The three custom resources of `mailfailover.io/v1alpha1`: their schema, their CEL rules and their documentation.
//! `kubectl explain` prints the doc comments below, so they are written for users.
//!
//! This module only says what may be written down. It never interprets a spec (`mail_failover_resolve` does) and holds no defaults
//! (`mail_failover_core::model` does).

#![warn(missing_docs)]
// The texts are for `kubectl explain`, which shows backticks as they are.
#![allow(clippy::doc_markdown)]

pub mod conditions;
mod crds;
mod dns_api;
mod dns_output;
mod dns_provider;
mod drills;
mod failover_policy;
mod mail_route;
mod mail_route_status;
mod notifications;
mod sending_backend;
mod status;
mod webhook_output;

pub use crds::{crds, crds_yaml};
pub use dns_api::{
    AzureCloudSpec, AzureDnsSpec, CloudflareSpec, DeSecSpec, DigitalOceanSpec, DnsApiSecretReference, DnsApiSpec,
    GoogleDnsSpec, HetznerSpec, OvhEndpointSpec, OvhSpec, PowerDnsSpec, Route53Spec,
};
pub use dns_output::{
    DnsModeSpec, DnsMxSpec, DnsOutputSpec, DnsRecordSpec, DnsRecordTypeSpec, Rfc2136Spec, TsigSecretReference,
};
pub use dns_provider::{DnsEndpointSpec, DnsOnDeleteSpec};
pub use drills::{
    DrillBudgetSpec, DrillModeSpec, DrillResultStatus, DrillTimesStatus, DrillsSpec, EndingDrillStatus,
    RouteDrillsStatus, RunningDrillStatus, WaitingDrillStatus,
};
pub use failover_policy::{
    BreakerSpec, BudgetSpec, EffectivePolicy, FailbackModeSpec, FailbackSpec, FailbackWindowSpec, FailedDeliveriesSpec,
    FailoverPolicy, FailoverPolicySpec, FailoverPolicyStatus, FailureSpec, FailureWindowSpec, HoldSpec,
    ImmediateFailure, LatencySpec, ObjectivesSpec, RampStepSpec, RecoverySpec, WhenNoneHealthySpec,
};
pub use mail_route::{
    AgentOutputSpec, BackendReference, ConfigMapFormatSpec, ConfigMapOutputSpec, MailRoute, MailRouteSpec,
    MessagesSpec, OutputSpec, PolicyReference, ResidencySpec, ServiceOutputPortSpec, ServiceOutputSpec, StrategySpec,
    TrafficSpec,
};
pub use mail_route_status::{
    ActiveBackend, DivertedStatus, InstallationStatus, MailRouteStatus, ObjectiveRecordStatus, ObjectiveStatus,
    OutputFailure, OutputShare, OutputStatus, PauseStatus, RampStatus, RequestOutcome, RequestStatus,
    RouteBackendStatus, RouteObjectivesStatus, RouteState, SwitchStatus, TransitionKind, TransitionStatus,
    WaitingForStatus,
};
pub use notifications::{
    MailReceiverSpec, NotificationSecretReference, NotificationsSpec, NotificationsStatus, OccasionSpec,
    OngoingNotification, PendingNotification, QueuedNotification, ReceiverSpec, ReceiverStatus, ReceiverTypeSpec,
    SeveritySpec, TestNotificationStatus, TestResultStatus,
};
pub use sending_backend::{
    AuthSpec, BackendType, CaReference, CondemnedStatus, Health, LimitsSpec, LocationSpec, ProbeDepth, ProbeJobSpec,
    ProbeSpec, ProbeStatus, ProviderSpec, ReplyRuleSpec, ReplyStageSpec, ReplySubject, SecretReference, SenderDomain,
    SendingBackend, SendingBackendSpec, SendingBackendStatus, ServiceReference, SmtpProbe, SmtpServer, TlsModeSpec,
    TlsSpec, WarmUpSpec,
};
pub use status::PendingEvent;
pub use webhook_output::{WebhookHeaderSpec, WebhookMethodSpec, WebhookOutputSpec, WebhookSecretReference};

/// API group of the custom resources.
pub const GROUP: &str = "mailfailover.io";
/// API version of the custom resources.
pub const VERSION: &str = "v1alpha1";

/// Pattern of a region, a jurisdiction or a failure domain: that of a label's value.
const PLACE: &str = "^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$";
/// Pattern of a domain name without a final dot (RFC 1123 §2.1), in any case.
const DOMAIN: &str = r"^[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*$";

/// Pattern of an address as MAIL FROM and RCPT TO name it, without angle brackets (RFC 5321 §4.1.2): a dot-string,
/// `@` and a domain.
const MAILBOX: &str = r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*$";

/// Schema of a Go-style duration: `200ms`, `10s`, `1h30m`.
fn duration_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "maxLength": 20,
        "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$",
    })
}

/// Schema of a Service's port: a number, or a name as RFC 6335 and Kubernetes have it.
// Bounds on numbers hold for numbers and those on text for text.
fn service_port_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "maximum": 65535,
        "minLength": 1,
        "maxLength": 15,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    })
}

/// Schema of a status condition list as kstatus and `kubectl wait` read it: a map keyed by `type`.
fn conditions_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let condition = generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>();
    schemars::json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// Removes the description of an enum that fields hold as an `Option`.
// kube merges the enum's schema into the field's. Its description would replace the field's, which has the default and
// the meaning of each value.
fn without_description(schema: &mut schemars::Schema) {
    schema.remove("description");
}

/// Schema of a time with microseconds.
fn micro_time_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time", "maxLength": 40 })
}

/// Schema of a time that a user writes, as RFC 3339 has it.
// The API server's `date-time` alone lets a time without a zone pass.
fn time_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "format": "date-time",
        "maxLength": 40,
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$",
    })
}
