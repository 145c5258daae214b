//! Validated domain types: what the engine decides about and the outputs render.
//!
//! Whatever is in here has been parsed and checked once (see `mail_failover_resolve`); nothing downstream looks at a raw spec.
//! Architecture invariant: this module never imports serde, kube, tokio, a clock or a source of randomness
//! (`tests/architecture/` checks it).

mod backend;
mod deliveries;
mod evidence;
mod key;
mod login;
mod policy;
mod route;
mod time;
mod window;

pub use backend::{
    Backend, Depth, Destination, Envelope, Limits, Location, Probe, ProbeLogin, ServicePort, SmtpHost, Tls, TlsMode,
    TrustAnchors, Vantage, WarmUp,
};
pub use deliveries::{Agent, AgentReport, BackendDeliveries, FailingDeliveries, SwitchedMail, Word};
pub use evidence::{AddressOutcome, Effect, EvidenceClass, Outcome, ProbeReport, Resolution, Stage};
pub use key::{ObjectKey, ProbeKey};
pub use login::Login;
pub use policy::{
    Budget, EvidenceClasses, Failback, FailbackMode, FailureWindow, Hold, LatencyLimit, Objectives, Policy, RampStep,
    Reflex, Thresholds, WhenNoneHealthy,
};
pub use route::{
    AgentOutput, ConfigMapFormat, ConfigMapOutput, Member, Route, ServiceOutput, ServiceOutputPort, Strategy, Traffic,
};
pub use time::Timestamp;
pub use window::{FailbackWindow, WindowError};
