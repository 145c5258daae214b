//! From raw specs to validated domain types: the only place that interprets a spec and fills in defaults.
//!
//! Pure: whatever a spec refers to is passed in as [`Lookup`]. This module never calls the API server and never
//! decides.

#![warn(missing_docs)]

mod backend;
mod call_failure;
mod dns;
mod dns_provider;
mod drills;
mod effective;
mod notifications;
mod pem;
mod persisted;
mod policy;
mod replies;
pub mod request;
mod route;
pub mod route_memory;
pub mod text;
pub mod time;
mod webhook;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use mail_failover_api as api;
use mail_failover_api::conditions::reason;
use mail_failover_core::model::{Depth, Login, LoginReference, ObjectKey, ServicePort, SharedError};

pub use backend::backend;
pub use call_failure::CallFailure;
pub use dns_provider::dns_ca_key;
pub use drills::schedule_of as drill_schedule;
pub use effective::{effective, words};
pub use notifications::{TEST_ANNOTATION, notifications, receiver_ca_key, test_request};
pub use pem::{PemError, certificates};
pub use persisted::{persisted_probe, persisted_stage, persisted_unseen_failure, persisted_verdict};
pub use policy::policy;
pub use replies::reply_rules;
pub use route::route;
pub use webhook::{webhook_ca_key, webhook_destination};

const DEFAULT_CA_KEY: &str = "ca.crt";
/// The schema's bound on messages in a second.
const MAX_PER_SECOND: i32 = 1_000_000;
/// The schema's bound on messages in a day.
const MAX_PER_DAY: i32 = 1_000_000_000;
/// The schema's bound on connections at a time.
const MAX_CONNECTIONS: i32 = 100_000;
/// The schema's bound on messages over one connection.
const MAX_PER_CONNECTION: i32 = 1_000_000;

/// Defect of a spec, or of an object that it refers to: the reason of a condition, and a sentence that names the field
/// and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Reason of the condition: one of [`mail_failover_api::conditions::reason`].
    pub reason: &'static str,
    /// `spec.…: what is wrong; what to do`.
    pub message: String,
}

impl Rejection {
    /// A rejection of this field.
    pub fn new(reason: &'static str, field: &str, message: &str) -> Self {
        Self { reason, message: format!("{field}: {message}") }
    }

    /// Returns true if the object itself has to be changed, which kstatus calls stalled. A missing referent may still
    /// be created, which kstatus calls in progress.
    pub fn is_of_spec(&self) -> bool {
        matches!(self.reason, reason::INVALID_SPEC | reason::INVALID_REPLY_RULE | reason::UNREADABLE)
    }
}

/// Reason for which a spec cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// An object that it refers to has not been read yet.
    Pending,
    /// The spec, or an object that it refers to, has a defect.
    Rejected(Rejection),
}

impl From<Rejection> for Unresolved {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Place of a CA's certificates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaKey {
    /// The `ConfigMap` or Secret.
    pub object: ObjectKey,
    /// Kind of the object.
    pub kind: CaKind,
    /// The key in its data.
    pub data_key: Arc<str>,
}

/// Kind of an object that holds a CA's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaKind {
    /// A `ConfigMap`, in its data or binary data.
    ConfigMap,
    /// A Secret, in its data.
    Secret,
}

impl CaKind {
    /// Name of the kind in Kubernetes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// Look-up of the objects that specs refer to, in what has been read so far.
pub trait Lookup {
    /// The PEM certificates of a CA, checked; the message of an error says what is wrong with them.
    fn ca(&self, key: &CaKey) -> Result<Arc<[u8]>, ReadProblem>;
    /// The login in a Secret, for probes; the message of an error says what is wrong with it.
    fn login(&self, key: &LoginKey) -> Result<Login, ReadProblem>;
    /// A port of a Service, with its ready endpoints.
    fn service(&self, key: &ObjectKey, port: &IntOrString) -> Result<ServicePort, ServiceProblem>;
}

/// A look-up that presumes every object to exist and to be sound, for tools that see manifests and no cluster.
#[derive(Clone, Copy, Debug)]
pub struct Presumed;

impl Lookup for Presumed {
    fn ca(&self, _: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        Ok(Arc::from(&b""[..]))
    }

    fn login(&self, _: &LoginKey) -> Result<Login, ReadProblem> {
        Ok(Login::new("", ""))
    }

    fn service(&self, key: &ObjectKey, port: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        let number = match port {
            IntOrString::Int(number) => *number,
            IntOrString::String(_) => PRESUMED_PORT,
        };
        let port = u16::try_from(number).map_err(|_| ServiceProblem::PortNotFound)?;
        let dns_name = format!("{}.{}.svc", key.name, key.namespace).into();
        Ok(ServicePort { dns_name, port, client_port: port, endpoints: vec![] })
    }
}

/// Number presumed of a port that is given by name.
const PRESUMED_PORT: i32 = 25;

/// Reason for which an object that is read by name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadProblem {
    /// The object has not been read yet.
    #[error("it has not been read yet")]
    Pending,
    /// The object or the key is missing.
    #[error("it does not exist")]
    NotFound,
    /// The object does not hold what it should.
    #[error(transparent)]
    Malformed(SharedError),
    /// The API server did not let us read it.
    #[error(transparent)]
    Unreadable(SharedError),
}

/// Reason for which a Service cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceProblem {
    /// There is no such Service.
    NotFound,
    /// It has no such port.
    PortNotFound,
    /// Alias for a DNS name (`type: ExternalName`), without endpoints.
    ExternalName,
    /// The API server does not let us read the Services or the `EndpointSlices` of its namespace.
    Unreadable,
}

/// Place of the certificates of a backend's private CA, if it names one.
pub fn ca_key(key: &ObjectKey, spec: &api::SendingBackendSpec) -> Option<CaKey> {
    let tls = match (&spec.smtp, &spec.service) {
        (Some(smtp), _) => smtp.tls.as_ref(),
        (None, Some(service)) => service.tls.as_ref(),
        (None, None) => None,
    };
    let reference = tls?.ca_ref.as_ref()?;
    let (name, kind) = match (&reference.config_map, &reference.secret) {
        (Some(name), _) => (name, CaKind::ConfigMap),
        (None, Some(name)) => (name, CaKind::Secret),
        (None, None) => return None,
    };
    let data_key = reference.key.as_deref().unwrap_or(DEFAULT_CA_KEY).into();
    Some(CaKey { object: key.sibling(name.as_str()), kind, data_key })
}

/// Place of a login.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoginKey {
    /// Namespace and name of the Secret.
    pub object: ObjectKey,
    /// Key of the user name.
    pub username_key: Arc<str>,
    /// Key of the password.
    pub password_key: Arc<str>,
}

impl LoginKey {
    /// The place that an object of this key refers to: the Secret is beside it.
    pub fn beside(key: &ObjectKey, login: &LoginReference) -> Self {
        let LoginReference { secret, username_key, password_key } = login.clone();
        Self { object: key.sibling(secret), username_key, password_key }
    }
}

/// The reference as the domain has it.
fn login_reference(reference: &api::SecretReference) -> LoginReference {
    let api::SecretReference { name, username_key, password_key } = reference;
    LoginReference::new(name.as_str(), username_key.as_deref(), password_key.as_deref())
}

/// The login that probes of this process need: that of `auth`, if one of them goes as far as AUTH.
pub fn login_key(key: &ObjectKey, spec: &api::SendingBackendSpec) -> Option<LoginKey> {
    let auth = match (&spec.smtp, &spec.service) {
        (Some(smtp), _) => smtp.auth.as_ref(),
        (None, Some(service)) => service.auth.as_ref(),
        (None, None) => None,
    };
    let logs_in = spec.probes.iter().flatten().any(logs_in_here);
    auth.filter(|_| logs_in).map(|auth| LoginKey::beside(key, &login_reference(&auth.secret_ref)))
}

/// Returns true if this process makes a probe that goes as far as AUTH.
fn logs_in_here(probe: &api::ProbeSpec) -> bool {
    probe.job.is_none() && backend::depth(&probe.smtp).is_some_and(Depth::is_counted)
}

fn port_number(port: i32, field: &str) -> Result<u16, Rejection> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| Rejection::new(reason::INVALID_SPEC, field, &format!("{port} is no TCP port; use 1 to 65535")))
}

/// A port as the user wrote it.
pub fn port_text(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

fn duration(duration: kube::core::Duration) -> Duration {
    // The schema refuses a negative duration; under an old schema it means "at once".
    if duration.is_negative() { Duration::ZERO } else { Duration::from(duration) }
}

/// A number within the bounds that the schema sets: an old schema may still be installed.
fn number<N: TryFrom<i32>>(field: &str, given: i32, bounds: RangeInclusive<i32>) -> Result<N, Rejection> {
    let within = bounds.contains(&given).then(|| N::try_from(given).ok()).flatten();
    within.ok_or_else(|| {
        let message = format!("{given} is not between {} and {}", bounds.start(), bounds.end());
        Rejection::new(reason::INVALID_SPEC, field, &message)
    })
}

/// A duration within the bounds that the schema sets.
fn span(field: &str, given: kube::core::Duration, bounds: RangeInclusive<Duration>) -> Result<Duration, Rejection> {
    let given = duration(given);
    if bounds.contains(&given) {
        return Ok(given);
    }
    let message = format!("{given:?} is not between {:?} and {:?}", bounds.start(), bounds.end());
    Err(Rejection::new(reason::INVALID_SPEC, field, &message))
}

/// Domains in lower case, each once: they are compared regardless of case (RFC 1035 §2.3.3).
fn domains<'a>(given: impl Iterator<Item = &'a str>) -> Vec<Arc<str>> {
    let mut domains: Vec<Arc<str>> = Vec::new();
    for domain in given.map(|domain| Arc::from(domain.to_ascii_lowercase())) {
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

fn texts(given: &[String]) -> Vec<Arc<str>> {
    given.iter().map(|text| text.as_str().into()).collect()
}
