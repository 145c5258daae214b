//! From raw specs to validated domain types: the only place that interprets a spec and fills in defaults.
//!
//! Pure: whatever a spec refers to is passed in as [`Lookup`]. This module never calls the API server and never decides.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api;
use crate::model::{
    Backend, ConfigMapFormat, ConfigMapOutput, Depth, Destination, Failback, FailbackMode, Hold, Limits, Location,
    Member, ObjectKey, Policy, Probe, Route, ServiceOutput, ServiceOutputPort, ServicePort, SmtpHost, Strategy,
    Thresholds, Tls, TlsMode, Traffic, TrustAnchors, WhenNoneHealthy,
};

const DEFAULT_PROBE_NAME: &str = "smtp";
const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_CA_KEY: &str = "ca.crt";

/// Why a spec, or something it refers to, cannot be used: the reason of a condition, and a sentence that names the field and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// One CamelCase word.
    pub reason: &'static str,
    /// `spec.…: what is wrong; what to do`.
    pub message: String,
}

impl Rejection {
    /// A rejection of this field.
    pub fn new(reason: &'static str, field: &str, message: &str) -> Self {
        Self { reason, message: format!("{field}: {message}") }
    }

    /// Whether the object itself has to be changed. Everything else may still turn up: kstatus calls the one stalled, the other
    /// in progress.
    pub fn is_of_spec(&self) -> bool {
        matches!(self.reason, "InvalidSpec" | "Unreadable")
    }
}

/// What a spec refers to could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It is being looked up: wait.
    Pending,
    /// It is missing or malformed.
    Rejected(Rejection),
}

impl From<Rejection> for Unresolved {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Where a CA's certificates are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaKey {
    /// The `ConfigMap` or Secret.
    pub object: ObjectKey,
    /// Which of the two.
    pub kind: CaKind,
    /// The key in its data.
    pub data_key: Arc<str>,
}

/// What holds a CA's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaKind {
    /// A `ConfigMap`.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl CaKind {
    /// The Kubernetes kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// Answers to what specs refer to, from what has been read so far.
pub trait Lookup {
    /// The PEM certificates of a CA, checked; the message of an error says what is wrong with them.
    fn ca(&self, key: &CaKey) -> Result<Arc<[u8]>, CaProblem>;
    /// A port of a Service with its ready endpoints.
    fn service(&self, key: &ObjectKey, port: &IntOrString) -> Result<ServicePort, ServiceProblem>;
}

/// Why a CA's certificates cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaProblem {
    /// Not read yet.
    Pending,
    /// The object or the key is missing.
    NotFound,
    /// The text is no PEM certificate.
    Malformed(String),
    /// The API server did not let us read it.
    Unreadable(String),
}

/// Why a Service cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceProblem {
    /// There is no such Service.
    NotFound,
    /// It has no such port.
    PortNotFound,
}

/// Where the certificates of a backend's private CA are, if it names one.
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

/// A backend from its spec.
///
/// # Errors
/// [`Unresolved`] when something it refers to is missing, malformed or not read yet.
pub fn backend(key: &ObjectKey, spec: &api::SendingBackendSpec, lookup: &impl Lookup) -> Result<Backend, Unresolved> {
    let api::SendingBackendSpec { smtp, service, probes, suspended } = spec;
    let (destination, tls_spec, default_name, field) = match (smtp, service) {
        (Some(smtp), _) => {
            let api::SmtpServer { host, port, tls } = smtp;
            let host: Arc<str> = host.trim_end_matches('.').into();
            let port = port_number(*port, "spec.smtp.port")?;
            (Destination::Host(SmtpHost { host: host.clone(), port }), tls.as_ref(), host, "spec.smtp")
        }
        (None, Some(service)) => {
            let api::ServiceReference { name, port, tls } = service;
            let found = lookup.service(&key.sibling(name.as_str()), port).map_err(|problem| {
                Unresolved::Rejected(match problem {
                    ServiceProblem::NotFound => Rejection::new(
                        "ServiceNotFound",
                        "spec.service.name",
                        &format!(
                            "Service {name} does not exist in namespace {}; create it or correct the name",
                            key.namespace
                        ),
                    ),
                    ServiceProblem::PortNotFound => Rejection::new(
                        "ServicePortNotFound",
                        "spec.service.port",
                        &format!(
                            "Service {name} has no TCP port {}; use one of its spec.ports by name or number",
                            port_text(port)
                        ),
                    ),
                })
            })?;
            let host: Arc<str> = format!("{name}.{}.svc", key.namespace).into();
            (Destination::Service(found), tls.as_ref(), host, "spec.service")
        }
        (None, None) => {
            return Err(Unresolved::Rejected(Rejection::new(
                "InvalidSpec",
                "spec",
                "exactly one of spec.smtp and spec.service must be set",
            )));
        }
    };
    let tls = tls(key, spec, tls_spec, default_name, field, lookup)?;
    let probes = self::probes(probes.as_deref(), tls.mode)?;
    Ok(Backend {
        destination,
        tls,
        suspended: suspended.unwrap_or(false),
        probes,
        location: Location::default(),
        limits: Limits::default(),
        sender_domains: vec![],
    })
}

fn tls(
    key: &ObjectKey,
    spec: &api::SendingBackendSpec,
    tls: Option<&api::TlsSpec>,
    default_name: Arc<str>,
    field: &str,
    lookup: &impl Lookup,
) -> Result<Tls, Unresolved> {
    let Some(api::TlsSpec { mode, server_name, ca_ref: _ }) = tls else {
        return Ok(Tls { mode: TlsMode::None, server_name: default_name, trust: TrustAnchors::WellKnown });
    };
    let trust = match ca_key(key, spec) {
        None => TrustAnchors::WellKnown,
        Some(ca) => TrustAnchors::Pem(lookup.ca(&ca).map_err(|problem| ca_unresolved(&ca, field, problem))?),
    };
    Ok(Tls {
        mode: match mode {
            api::TlsMode::None => TlsMode::None,
            api::TlsMode::Opportunistic => TlsMode::Opportunistic,
            api::TlsMode::StartTls => TlsMode::StartTls,
            api::TlsMode::Implicit => TlsMode::Implicit,
        },
        server_name: server_name.as_deref().map_or(default_name, Into::into),
        trust,
    })
}

fn ca_unresolved(ca: &CaKey, field: &str, problem: CaProblem) -> Unresolved {
    let field = format!("{field}.tls.caRef");
    let place = format!("key {} of {} {}", ca.data_key, ca.kind.as_str(), ca.object.name);
    let (reason, message) = match problem {
        CaProblem::Pending => return Unresolved::Pending,
        CaProblem::NotFound => {
            ("CANotFound", format!("{place} does not exist in namespace {}; create it", ca.object.namespace))
        }
        CaProblem::Malformed(why) => ("CAMalformed", format!("{place} holds no usable PEM certificates: {why}")),
        CaProblem::Unreadable(why) => ("CAUnreadable", format!("{place} cannot be read: {why}")),
    };
    Unresolved::Rejected(Rejection::new(reason, &field, &message))
}

fn probes(specs: Option<&[api::ProbeSpec]>, mode: TlsMode) -> Result<Vec<Probe>, Rejection> {
    let default_depth = if mode == TlsMode::None { Depth::Ehlo } else { Depth::StartTls };
    let Some(specs) = specs.filter(|specs| !specs.is_empty()) else {
        return Ok(vec![Probe {
            name: DEFAULT_PROBE_NAME.into(),
            interval: DEFAULT_PROBE_INTERVAL,
            timeout: DEFAULT_PROBE_TIMEOUT,
            depth: default_depth,
        }]);
    };
    let mut names = BTreeSet::new();
    specs
        .iter()
        .map(|api::ProbeSpec { name, interval, timeout, smtp: api::SmtpProbe { depth } }| {
            let field = "spec.probes[].name";
            if !names.insert(name.as_str()) {
                return Err(Rejection::new("InvalidSpec", field, &format!("{name} is not unique")));
            }
            Ok(Probe {
                name: name.as_str().into(),
                interval: interval.map_or(DEFAULT_PROBE_INTERVAL, duration).max(Duration::from_millis(100)),
                timeout: timeout.map_or(DEFAULT_PROBE_TIMEOUT, duration).max(Duration::from_millis(50)),
                depth: match depth {
                    None => default_depth,
                    Some(api::ProbeDepth::Connect) => Depth::Connect,
                    Some(api::ProbeDepth::Banner) => Depth::Banner,
                    Some(api::ProbeDepth::Ehlo) => Depth::Ehlo,
                    Some(api::ProbeDepth::StartTls) => Depth::StartTls,
                },
            })
        })
        .collect()
}

/// A policy from its spec; every absent field has its documented default.
pub fn policy(spec: &api::FailoverPolicySpec) -> Policy {
    let api::FailoverPolicySpec { failure, recovery, hold, when_none_healthy, failback } = spec;
    let default = Policy::default();
    let failures = failure.as_ref().and_then(|api::FailureSpec { consecutive }| *consecutive);
    let successes = recovery.as_ref().and_then(|api::RecoverySpec { consecutive }| *consecutive);
    let (cooldown, minimum_stay) =
        hold.as_ref().map_or((None, None), |api::HoldSpec { cooldown, minimum_stay }| (*cooldown, *minimum_stay));
    let (mode, after) = failback.as_ref().map_or((None, None), |api::FailbackSpec { mode, after }| (*mode, *after));
    Policy {
        thresholds: Thresholds {
            failure: count(failures, default.thresholds.failure),
            recovery: count(successes, default.thresholds.recovery),
            ..default.thresholds
        },
        hold: Hold {
            cooldown: cooldown.map_or(default.hold.cooldown, duration),
            minimum_stay: minimum_stay.map_or(default.hold.minimum_stay, duration),
            budget: default.hold.budget,
        },
        when_none_healthy: match when_none_healthy {
            None => default.when_none_healthy,
            Some(api::WhenNoneHealthy::Hold) => WhenNoneHealthy::Hold,
            Some(api::WhenNoneHealthy::Preferred) => WhenNoneHealthy::Preferred,
        },
        failback: Failback {
            mode: match mode {
                None => default.failback.mode,
                Some(api::FailbackMode::Automatic) => FailbackMode::Automatic,
                Some(api::FailbackMode::Manual) => FailbackMode::Manual,
            },
            after: after.map_or(default.failback.after, duration),
            windows: vec![],
            ramp: vec![],
        },
        objectives: default.objectives,
    }
}

/// A route from its spec.
///
/// # Errors
/// [`Rejection`] for what the schema should have refused (an old schema may still be installed).
pub fn route(spec: &api::MailRouteSpec) -> Result<Route, Rejection> {
    let api::MailRouteSpec { policy_ref: _, strategy, backends, outputs } = spec;
    match strategy {
        None | Some(api::Strategy::ActivePassive) => {}
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = backends.iter().find(|backend| !names.insert(backend.name.as_str())) {
        return Err(Rejection::new("InvalidSpec", "spec.backends[].name", &format!("{} is not unique", twice.name)));
    }
    if backends.is_empty() {
        return Err(Rejection::new("InvalidSpec", "spec.backends", "at least one backend is needed"));
    }
    let mut route = Route {
        strategy: Strategy::ActivePassive,
        backends: backends.iter().map(|backend| Member { name: backend.name.as_str().into(), weight: 1 }).collect(),
        traffic: Traffic::default(),
        jurisdictions: vec![],
        preferred_regions: vec![],
        sender_domains: vec![],
        services: vec![],
        config_maps: vec![],
    };
    for api::OutputSpec { service, config_map } in outputs {
        if let Some(api::ServiceOutput { name, ports }) = service {
            let ports = ports.iter().map(|api::ServiceOutputPort { name, port }| {
                Ok(ServiceOutputPort {
                    name: name.as_str().into(),
                    port: port_number(*port, "spec.outputs[].service.ports[].port")?,
                })
            });
            let ports = ports.collect::<Result<_, Rejection>>()?;
            route.services.push(ServiceOutput { name: name.as_str().into(), ports });
        }
        if let Some(api::ConfigMapOutput { name, format }) = config_map {
            let format = match format {
                api::ConfigMapFormat::Postfix => ConfigMapFormat::Postfix,
                api::ConfigMapFormat::Env => ConfigMapFormat::Env,
            };
            route.config_maps.push(ConfigMapOutput { name: name.as_str().into(), format });
        }
    }
    Ok(route)
}

fn port_number(port: i32, field: &str) -> Result<u16, Rejection> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| Rejection::new("InvalidSpec", field, &format!("{port} is no TCP port; use 1 to 65535")))
}

/// A port as the user wrote it.
pub fn port_text(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

fn duration(duration: kube::core::Duration) -> Duration {
    // A negative duration is refused by the schema; should one be met all the same, it means "at once".
    if duration.is_negative() { Duration::ZERO } else { Duration::from(duration) }
}

fn count(given: Option<i32>, default: u32) -> u32 {
    given.map_or(default, |given| u32::try_from(given).unwrap_or(1).max(1))
}
