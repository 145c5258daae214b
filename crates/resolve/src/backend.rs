use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{
    CaKey, Lookup, MAX_PER_DAY, MAX_PER_SECOND, ReadProblem, Rejection, ServiceProblem, Unresolved, ca_key, domains,
    duration, login_key, number, port_number, port_text,
};
use mail_failover_api as api;
use mail_failover_core::engine::DELIVERIES;
use mail_failover_core::model::{
    Backend, Depth, Destination, Envelope, Limits, Location, ObjectKey, Probe, ProbeLogin, SmtpHost, Timestamp, Tls,
    TlsMode, TrustAnchors, Vantage, WarmUp,
};

const DEFAULT_PROBE_NAME: &str = "smtp";
const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(10);
const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a provider is asked for more than a connection, at most and by default. A Service of the cluster is the user's own.
const COUNTED_PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// How often a Job looks by default.
const DEFAULT_JOB_INTERVAL: Duration = Duration::from_mins(1);
/// RFC 5321 §4.5.3.1.1: octets of a local part.
const MAX_LOCAL_PART: usize = 64;

/// A backend from its spec.
///
/// # Errors
/// [`Unresolved`] when something it refers to is missing, malformed or not read yet.
pub fn backend(key: &ObjectKey, spec: &api::SendingBackendSpec, lookup: &impl Lookup) -> Result<Backend, Unresolved> {
    let api::SendingBackendSpec { smtp, service, probes, location, limits, sender_domains, suspended } = spec;
    let (destination, tls_spec, auth, default_name, field) = match (smtp, service) {
        (Some(smtp), _) => {
            let api::SmtpServer { host, port, tls, auth } = smtp;
            let host: Arc<str> = host.trim_end_matches('.').into();
            let port = port_number(*port, "spec.smtp.port")?;
            (Destination::Host(SmtpHost { host: host.clone(), port }), tls.as_ref(), auth, host, "spec.smtp")
        }
        (None, Some(service)) => {
            let api::ServiceReference { name, port, tls, auth } = service;
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
            (Destination::Service(found), tls.as_ref(), auth, host, "spec.service")
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
    let secret = auth.as_ref().map(|auth| self::secret(auth, tls.mode, field)).transpose()?;
    let probes = self::probes(
        probes.as_deref(),
        &Surroundings {
            mode: tls.mode,
            has_login: secret.is_some(),
            is_outside: matches!(destination, Destination::Host(_)),
            field,
        },
    )?;
    let login = login_key(key, spec).map_or(Ok(ProbeLogin::None), |key| login(&key, field, lookup))?;
    Ok(Backend {
        destination,
        tls,
        secret,
        login,
        suspended: suspended.unwrap_or(false),
        probes,
        location: location.as_ref().map(self::location).unwrap_or_default(),
        limits: limits.as_ref().map(self::limits).transpose()?.unwrap_or_default(),
        sender_domains: domains(sender_domains.iter().flatten().map(|api::SenderDomain { domain }| domain.as_str())),
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
            api::TlsModeSpec::None => TlsMode::None,
            api::TlsModeSpec::Opportunistic => TlsMode::Opportunistic,
            api::TlsModeSpec::StartTls => TlsMode::StartTls,
            api::TlsModeSpec::Implicit => TlsMode::Implicit,
        },
        server_name: server_name.as_deref().map_or(default_name, Into::into),
        trust,
    })
}

/// The name of the Secret with the credentials, unless they would travel where others can read them, and nobody has said that they may.
fn secret(auth: &api::AuthSpec, mode: TlsMode, field: &str) -> Result<Arc<str>, Rejection> {
    let api::AuthSpec { secret_ref: api::SecretReference { name }, allow_plaintext } = auth;
    let is_verified = match mode {
        TlsMode::None | TlsMode::Opportunistic => false,
        TlsMode::StartTls | TlsMode::Implicit => true,
    };
    if is_verified || *allow_plaintext == Some(true) {
        return Ok(name.as_str().into());
    }
    let message = "whoever sits between reads the password; use tls.mode StartTLS or Implicit, or set allowPlaintext to true if that is meant";
    Err(Rejection::new("InvalidSpec", &format!("{field}.auth"), message))
}

fn ca_unresolved(ca: &CaKey, field: &str, problem: ReadProblem) -> Unresolved {
    let field = format!("{field}.tls.caRef");
    let place = format!("key {} of {} {}", ca.data_key, ca.kind.as_str(), ca.object.name);
    let (reason, message) = match problem {
        ReadProblem::Pending => return Unresolved::Pending,
        ReadProblem::NotFound => {
            ("CANotFound", format!("{place} does not exist in namespace {}; create it", ca.object.namespace))
        }
        ReadProblem::Malformed(why) => ("CAMalformed", format!("{place} holds no usable PEM certificates: {why}")),
        ReadProblem::Unreadable(why) => ("CAUnreadable", format!("{place} cannot be read: {why}")),
    };
    Unresolved::Rejected(Rejection::new(reason, &field, &message))
}

/// What probes log in with. That it is missing keeps them from it, and nothing else.
fn login(secret: &ObjectKey, field: &str, lookup: &impl Lookup) -> Result<ProbeLogin, Unresolved> {
    let (name, namespace) = (&secret.name, &secret.namespace);
    let (reason, what) = match lookup.login(secret) {
        Ok(login) => return Ok(ProbeLogin::With(login)),
        Err(ReadProblem::Pending) => return Err(Unresolved::Pending),
        Err(ReadProblem::NotFound) => (
            "SecretNotFound",
            format!(
                "Secret {name} does not exist in namespace {namespace}; create it with the keys username and password"
            ),
        ),
        Err(ReadProblem::Malformed(why)) => {
            ("SecretMalformed", format!("Secret {name} holds no login: {why}; give it the keys username and password"))
        }
        Err(ReadProblem::Unreadable(why)) => (
            "SecretUnreadable",
            format!("Secret {name} cannot be read; let the operator get it, or probe no deeper than StartTLS: {why}"),
        ),
    };
    Ok(ProbeLogin::Missing { reason, message: format!("{field}.auth.secretRef: {what}").into() })
}

/// What decides how probes of a backend may be.
struct Surroundings<'a> {
    mode: TlsMode,
    has_login: bool,
    is_outside: bool,
    field: &'a str,
}

/// How far a probe goes, if it says so.
pub(super) fn depth(api::SmtpProbe { depth, from: _, to: _ }: &api::SmtpProbe) -> Option<Depth> {
    depth.map(|depth| match depth {
        api::ProbeDepth::Connect => Depth::Connect,
        api::ProbeDepth::Banner => Depth::Banner,
        api::ProbeDepth::Ehlo => Depth::Ehlo,
        api::ProbeDepth::StartTls => Depth::StartTls,
        api::ProbeDepth::Auth => Depth::Auth,
        api::ProbeDepth::MailFrom => Depth::MailFrom,
        api::ProbeDepth::RcptTo => Depth::RcptTo,
    })
}

/// The addresses that a probe names. What the schema refuses is refused here, too: an old one may still be installed.
fn envelope(depth: Depth, api::SmtpProbe { depth: _, from, to }: &api::SmtpProbe) -> Result<Envelope, Rejection> {
    let address = |name: &str, given: &Option<String>, least: Depth| match given {
        None if depth < least => Ok(None),
        None => {
            let message = format!("depth {} needs an address; give it one", depth.as_str());
            Err(Rejection::new("InvalidSpec", &format!("spec.probes[].smtp.{name}"), &message))
        }
        Some(address) if is_mailbox(address) => Ok(Some(Arc::from(address.as_str())).filter(|_| depth >= least)),
        Some(_) => {
            let message = "it is no address as SMTP has it (RFC 5321 §4.1.2); use probe@shop.example";
            Err(Rejection::new("InvalidSpec", &format!("spec.probes[].smtp.{name}"), message))
        }
    };
    Ok(Envelope { sender: address("from", from, Depth::MailFrom)?, recipient: address("to", to, Depth::RcptTo)? })
}

/// Whether a text can stand between angle brackets in a command: a dot-string, `@` and a domain, of bounded length.
fn is_mailbox(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && atom.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
    };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    local.len() <= MAX_LOCAL_PART
        && text.len() <= 254
        && local.split('.').all(is_atom)
        && domain.split('.').all(is_label)
}

fn probes(specs: Option<&[api::ProbeSpec]>, around: &Surroundings<'_>) -> Result<Vec<Probe>, Rejection> {
    let default_depth = if around.mode == TlsMode::None { Depth::Ehlo } else { Depth::StartTls };
    let Some(specs) = specs.filter(|specs| !specs.is_empty()) else {
        return Ok(vec![Probe {
            name: DEFAULT_PROBE_NAME.into(),
            interval: DEFAULT_PROBE_INTERVAL,
            timeout: DEFAULT_PROBE_TIMEOUT,
            depth: default_depth,
            envelope: Envelope::default(),
            vantage: Vantage::Operator,
        }]);
    };
    let mut names = BTreeSet::new();
    specs
        .iter()
        .map(|api::ProbeSpec { name, interval, timeout, smtp, job }| {
            let field = "spec.probes[].name";
            if !names.insert(name.as_str()) {
                return Err(Rejection::new("InvalidSpec", field, &format!("{name} is not unique")));
            }
            if name == DELIVERIES {
                let message = format!("{DELIVERIES} is the name of what agents say of real mail; choose another");
                return Err(Rejection::new("InvalidSpec", field, &message));
            }
            let depth = depth(smtp).unwrap_or(default_depth);
            if depth == Depth::Auth && !around.has_login {
                let message = format!("Auth needs a login; name a Secret in {}.auth.secretRef", around.field);
                return Err(Rejection::new("InvalidSpec", "spec.probes[].smtp.depth", &message));
            }
            let vantage = if job.is_some() { Vantage::Job } else { Vantage::Operator };
            let (default_interval, least_interval) = if vantage == Vantage::Job {
                (DEFAULT_JOB_INTERVAL, COUNTED_PROBE_INTERVAL)
            } else if around.is_outside && depth.is_counted() {
                (COUNTED_PROBE_INTERVAL, COUNTED_PROBE_INTERVAL)
            } else {
                (DEFAULT_PROBE_INTERVAL, Duration::from_millis(100))
            };
            Ok(Probe {
                name: name.as_str().into(),
                interval: interval.map_or(default_interval, duration).max(least_interval),
                timeout: timeout.map_or(DEFAULT_PROBE_TIMEOUT, duration).max(Duration::from_millis(50)),
                depth,
                envelope: envelope(depth, smtp)?,
                vantage,
            })
        })
        .collect()
}

fn location(api::LocationSpec { region, jurisdiction, failure_domain }: &api::LocationSpec) -> Location {
    let text = |text: &Option<String>| text.as_deref().map(Arc::from);
    Location { region: text(region), jurisdiction: text(jurisdiction), failure_domain: text(failure_domain) }
}

fn limits(spec: &api::LimitsSpec) -> Result<Limits, Rejection> {
    let api::LimitsSpec { messages_per_second, messages_per_day, warm_up } = spec;
    Ok(Limits {
        messages_per_second: messages_per_second
            .map(|given| number("spec.limits.messagesPerSecond", given, 1..=MAX_PER_SECOND))
            .transpose()?,
        messages_per_day: messages_per_day
            .map(|given| number("spec.limits.messagesPerDay", given, 1..=MAX_PER_DAY))
            .transpose()?,
        warm_up: warm_up.as_ref().map(self::warm_up).transpose()?,
    })
}

fn warm_up(api::WarmUpSpec { started_at, schedule }: &api::WarmUpSpec) -> Result<WarmUp, Rejection> {
    let day = |given: &i32| number("spec.limits.warmUp.schedule[]", *given, 1..=MAX_PER_DAY);
    Ok(WarmUp {
        started_at: Timestamp::from_micros(started_at.0.as_microsecond()),
        schedule: schedule.iter().map(day).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
