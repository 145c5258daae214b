//! Validated domain types: the engine decides about them and the outputs render them.
//!
//! Everything here has been parsed and checked once (see `mail_failover_resolve`); nothing downstream looks at a
//! raw spec. Architecture invariant: this module never imports serde, kube, tokio, a clock or a source of randomness
//! (`tests/architecture/` checks it).

mod backend;
mod deliveries;
mod dns;
mod dns_provider;
mod drill;
mod drilled_mail;
mod evidence;
mod identity;
mod key;
mod login;
mod notification;
mod policy;
mod reply_rules;
mod route;
mod shared_error;
pub mod text;
mod time;
mod window;

pub use backend::{
    Backend, Depth, Destination, Envelope, Limits, Location, Probe, ProbeLogin, ServicePort, SmtpHost, Tls, TlsMode,
    TrustAnchors, Vantage, WarmUp,
};
pub use deliveries::{
    Agent, AgentReport, BackendDeliveries, DeliveryStage, DeliveryVerdict, FailingDeliveries, KeptMail, QueuedMail,
    SwitchedMail, ThrottledDeliveries,
};
pub use dns::{
    DNS_PORT, DnsBackendRecords, DnsData, DnsOutput, DnsRecordSet, DnsRecordType, DnsServer, InvalidDnsData,
    InvalidDnsServer, dns_name, is_in_zone,
};
pub use dns_provider::{AzureCloud, DnsApi, DnsEndpointObject, DnsProvider, DnsService, DnsUpdates, OvhEndpoint};
pub use drill::{DrillBudget, DrillMode, Drills};
pub use drilled_mail::{DrillState, DrilledMail};
pub use evidence::{
    AddressOutcome, DelayCause, Effect, EvidenceClass, NotAfter, Outcome, ProbeDelay, ProbeReport, Resolution, Stage,
};
pub use identity::{MissingIdentity, ObjectIdentity, ResourceVersion, Uid};
pub use key::{ObjectKey, ProbeKey};
pub use login::{Login, LoginError, LoginReference};
pub use notification::{Notifications, Occasion, Receiver, ReceiverKind, Severity};
pub use policy::{
    Breaker, Budget, DeliveryThresholds, EvidenceClasses, Failback, FailbackMode, FailureWindow, HoldPolicy,
    LatencyLimit, Objectives, Policy, RampStep, Share, Thresholds, WhenNoneHealthy,
};
pub use reply_rules::{ReplyRule, ReplyRules};
pub use route::{
    AgentOutput, CaSource, ConfigMapFormat, ConfigMapOutput, Member, Route, ServiceOutput, ServiceOutputPort, Strategy,
    Traffic, WebhookMethod, WebhookOutput,
};
pub use shared_error::SharedError;
pub use time::{ClockDrift, Timestamp};
pub use window::{CronWindow, WindowError};
