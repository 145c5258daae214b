use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{
    CaKey, LoginKey, Lookup, MAX_CONNECTIONS, MAX_PER_CONNECTION, MAX_PER_DAY, MAX_PER_SECOND, ReadProblem, Rejection,
    ServiceProblem, Unresolved, ca_key, domains, duration, login_key, login_reference, number, port_number, port_text,
};
use mail_failover_api as api;
use mail_failover_api::conditions::reason;
use mail_failover_core::engine::DELIVERIES;
use mail_failover_core::model::{
    Backend, Depth, Destination, Envelope, Limits, Location, LoginReference, ObjectKey, Probe, ProbeLogin, SmtpHost,
    Timestamp, Tls, TlsMode, TrustAnchors, Vantage, WarmUp,
};

const DEFAULT_PROBE_NAME: &str = "smtp";
const DEFAULT_PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Default bound on each step of a dialogue. Greeting delays (6 s) and tarpits (5 s) of ordinary servers fit into it.
const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest timeout of a probe in the operator's process, as the schema has it.
// A dialogue that hangs holds a place among those of all namespaces for as long.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Most intervals that a timeout spans, as the schema has it: no more rounds of one probe may overlap.
const MAX_OVERLAP: u32 = 10;
/// Shortest and default interval of probes that a provider counts, those deeper than a connection. A Service of the
/// cluster is the user's own, and may be probed more often.
const COUNTED_PROBE_INTERVAL: Duration = Duration::from_secs(30);
/// Default interval of a probe that runs as a Job.
const DEFAULT_JOB_INTERVAL: Duration = Duration::from_mins(1);
/// RFC 5321 §4.5.3.1.1: octets of a local part.
const MAX_LOCAL_PART: usize = 64;

/// A backend from its spec.
///
/// # Errors
/// [`Unresolved`] when something it refers to is missing, malformed or not read yet.
pub fn backend(key: &ObjectKey, spec: &api::SendingBackendSpec, lookup: &impl Lookup) -> Result<Backend, Unresolved> {
    let api::SendingBackendSpec {
        smtp,
        service,
        probes,
        location,
        limits,
        sender_domains,
        provider,
        replies,
        suspended,
    } = spec;
    let (destination, tls_spec, auth, default_name, field) = match (smtp, service) {
        (Some(smtp), _) => {
            let api::SmtpServer { host, port, tls, auth } = smtp;
            // A certificate's name has no final dot (RFC 6125 §6.4).
            let server_name: Arc<str> = host.trim_end_matches('.').into();
            let port = port_number(*port, "spec.smtp.port")?;
            let destination = Destination::Host(SmtpHost { host: host.as_str().into(), port });
            (destination, tls.as_ref(), auth, server_name, "spec.smtp")
        }
        (None, Some(service)) => {
            let api::ServiceReference { name, port, tls, auth } = service;
            let found = lookup.service(&key.sibling(name.as_str()), port).map_err(|problem| {
                Unresolved::Rejected(match problem {
                    ServiceProblem::NotFound => Rejection::new(
                        reason::SERVICE_NOT_FOUND,
                        "spec.service.name",
                        &format!(
                            "Service {name} does not exist in namespace {}; create it or correct the name",
                            key.namespace
                        ),
                    ),
                    ServiceProblem::PortNotFound => Rejection::new(
                        reason::SERVICE_PORT_NOT_FOUND,
                        "spec.service.port",
                        &format!(
                            "Service {name} has no TCP port {}; use one of its spec.ports by name or number",
                            port_text(port)
                        ),
                    ),
                    ServiceProblem::ExternalName => Rejection::new(
                        reason::SERVICE_IS_EXTERNAL_NAME,
                        "spec.service.name",
                        &format!(
                            "Service {name} has the type ExternalName, an alias without endpoints; put the name that it stands \
                             for into spec.smtp.host, in place of spec.service"
                        ),
                    ),
                    ServiceProblem::Unreadable => Rejection::new(
                        reason::SERVICE_UNREADABLE,
                        "spec.service.name",
                        &format!(
                            "Service {name} or its endpoints cannot be read: the operator may not list Services or EndpointSlices \
                             in namespace {}; grant list and watch on both",
                            key.namespace
                        ),
                    ),
                })
            })?;
            let host: Arc<str> = format!("{name}.{}.svc", key.namespace).into();
            (Destination::Service(found), tls.as_ref(), auth, host, "spec.service")
        }
        (None, None) => {
            return Err(Unresolved::Rejected(Rejection::new(
                reason::INVALID_SPEC,
                "spec",
                "exactly one of spec.smtp and spec.service must be set",
            )));
        }
    };
    let port = match &destination {
        Destination::Host(host) => host.port,
        Destination::Service(service) => service.port,
    };
    let tls = tls(key, spec, tls_spec, TlsDefaults { port, name: default_name }, field, lookup)?;
    let secret = auth.as_ref().map(|auth| self::secret(auth, tls.mode, field)).transpose()?;
    let probes = self::probes(
        probes.as_deref(),
        &ProbeContext {
            mode: tls.mode,
            has_login: secret.is_some(),
            is_outside: matches!(destination, Destination::Host(_)),
            field,
        },
    )?;
    let host = smtp.as_ref().map(|smtp| smtp.host.as_str());
    let replies = super::replies::reply_rules(*provider, replies.as_deref().unwrap_or_default(), host);
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
        replies,
    })
}

/// Properties of a backend that say how TLS is used where its spec does not.
struct TlsDefaults {
    port: u16,
    name: Arc<str>,
}

fn tls(
    key: &ObjectKey,
    spec: &api::SendingBackendSpec,
    tls: Option<&api::TlsSpec>,
    TlsDefaults { port, name: default_name }: TlsDefaults,
    field: &str,
    lookup: &impl Lookup,
) -> Result<Tls, Unresolved> {
    let Some(api::TlsSpec { mode, server_name, ca_ref: _ }) = tls else {
        let mode = TlsMode::default_of_port(port);
        return Ok(Tls { mode, server_name: default_name, trust: TrustAnchors::WellKnown });
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

/// The name of the Secret with the credentials, unless they would travel where others can read them, and nobody has
/// said that they may.
fn secret(auth: &api::AuthSpec, mode: TlsMode, field: &str) -> Result<LoginReference, Rejection> {
    let api::AuthSpec { secret_ref, allow_plaintext } = auth;
    let is_verified = match mode {
        TlsMode::None | TlsMode::Opportunistic => false,
        TlsMode::StartTls | TlsMode::Implicit => true,
    };
    // ADR-0046: A password needs verified TLS or an explicit permission.
    if is_verified || *allow_plaintext == Some(true) {
        return Ok(login_reference(secret_ref));
    }
    let message = "whoever sits between reads the password; use tls.mode StartTLS or Implicit, or set allowPlaintext to true if that is meant";
    Err(Rejection::new(reason::INVALID_SPEC, &format!("{field}.auth"), message))
}

fn ca_unresolved(ca: &CaKey, field: &str, problem: ReadProblem) -> Unresolved {
    let field = format!("{field}.tls.caRef");
    let place = format!("key {} of {} {}", ca.data_key, ca.kind.as_str(), ca.object.name);
    let (reason, message) = match problem {
        ReadProblem::Pending => return Unresolved::Pending,
        ReadProblem::NotFound => {
            (reason::CA_NOT_FOUND, format!("{place} does not exist in namespace {}; create it", ca.object.namespace))
        }
        ReadProblem::Malformed(why) => {
            (reason::CA_MALFORMED, format!("{place} holds no usable PEM certificates: {why}"))
        }
        ReadProblem::Unreadable(why) => (reason::CA_UNREADABLE, format!("{place} cannot be read: {why}")),
    };
    Unresolved::Rejected(Rejection::new(reason, &field, &message))
}

/// The login of probes. If it is missing, only they are affected.
fn login(key: &LoginKey, field: &str, lookup: &impl Lookup) -> Result<ProbeLogin, Unresolved> {
    let LoginKey { object: ObjectKey { namespace, name }, username_key, password_key } = key;
    let (reason, what) = match lookup.login(key) {
        Ok(login) => return Ok(ProbeLogin::With(login)),
        Err(ReadProblem::Pending) => return Err(Unresolved::Pending),
        Err(ReadProblem::NotFound) => (
            reason::SECRET_NOT_FOUND,
            format!(
                "Secret {name} does not exist in namespace {namespace}; create it with the keys {username_key} and {password_key}"
            ),
        ),
        Err(ReadProblem::Malformed(why)) => (
            reason::SECRET_MALFORMED,
            format!("Secret {name} holds no login: {why}; give it the keys {username_key} and {password_key}"),
        ),
        Err(ReadProblem::Unreadable(why)) => (
            reason::SECRET_UNREADABLE,
            format!("Secret {name} cannot be read; let the operator get it, or probe no deeper than StartTLS: {why}"),
        ),
    };
    Ok(ProbeLogin::Missing { reason, message: format!("{field}.auth.secretRef: {what}").into() })
}

/// Properties of a backend that its probes depend on.
struct ProbeContext<'a> {
    mode: TlsMode,
    has_login: bool,
    is_outside: bool,
    field: &'a str,
}

/// The depth of a probe; `None` for the default.
pub(super) fn depth(api::SmtpProbe { depth, from: _, to: _, idle_session: _ }: &api::SmtpProbe) -> Option<Depth> {
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

/// The addresses that a probe names, checked as the schema does: an old schema may still be installed.
fn envelope(
    depth: Depth,
    api::SmtpProbe { depth: _, from, to, idle_session: _ }: &api::SmtpProbe,
) -> Result<Envelope, Rejection> {
    Ok(Envelope {
        sender: address(depth, "from", from.as_deref(), Depth::MailFrom)?,
        recipient: address(depth, "to", to.as_deref(), Depth::RcptTo)?,
    })
}

/// Returns true if a probe keeps idle sessions. By default those of one's own relays do.
fn idle_session(
    depth: Depth,
    vantage: Vantage,
    api::SmtpProbe { idle_session, depth: _, from: _, to: _ }: &api::SmtpProbe,
    cx: &ProbeContext<'_>,
) -> Result<bool, Rejection> {
    let message = match (vantage, depth >= Depth::Ehlo) {
        (Vantage::Operator, true) => return Ok(idle_session.unwrap_or(!cx.is_outside)),
        (Vantage::Operator, false) => "the session is idle after EHLO; probe to Ehlo or deeper",
        (Vantage::Job, _) => "the pod ends with its round; take it or job away",
    };
    match idle_session {
        Some(true) => Err(Rejection::new(reason::INVALID_SPEC, "spec.probes[].smtp.idleSession", message)),
        Some(false) | None => Ok(false),
    }
}

/// An address that a probe of at least the depth `least` needs; `None` for one that is less deep.
fn address(depth: Depth, name: &str, given: Option<&str>, least: Depth) -> Result<Option<Arc<str>>, Rejection> {
    let message = match given {
        None if depth < least => return Ok(None),
        None => format!("depth {} needs an address; give it one", depth.as_str()),
        Some(address) if is_mailbox(address) => return Ok((depth >= least).then(|| address.into())),
        Some(_) => "it is no address as SMTP has it (RFC 5321 §4.1.2); use probe@shop.example".to_owned(),
    };
    Err(Rejection::new(reason::INVALID_SPEC, &format!("spec.probes[].smtp.{name}"), &message))
}

/// Returns true if a text may stand between angle brackets in a command: a dot-string, `@` and a domain, of bounded
/// length.
fn is_mailbox(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    local.len() <= MAX_LOCAL_PART
        && text.len() <= 254
        && local.split('.').all(is_atom)
        && domain.split('.').all(is_label)
}

/// Returns true for an atom of a dot-string (RFC 5321 §4.1.2).
fn is_atom(atom: &str) -> bool {
    !atom.is_empty() && atom.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
}

/// Returns true for a label of a domain (RFC 1035 §2.3.1, with a leading digit by RFC 1123 §2.1).
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn probes(specs: Option<&[api::ProbeSpec]>, cx: &ProbeContext<'_>) -> Result<Vec<Probe>, Rejection> {
    let default_depth = if cx.mode == TlsMode::None { Depth::Ehlo } else { Depth::StartTls };
    let Some(specs) = specs.filter(|specs| !specs.is_empty()) else {
        return Ok(vec![Probe {
            name: DEFAULT_PROBE_NAME.into(),
            interval: DEFAULT_PROBE_INTERVAL,
            timeout: DEFAULT_PROBE_TIMEOUT,
            depth: default_depth,
            envelope: Envelope::default(),
            vantage: Vantage::Operator,
            idle_session: !cx.is_outside,
            sharers: 1,
        }]);
    };
    let mut names = BTreeSet::new();
    specs
        .iter()
        .map(|api::ProbeSpec { name, interval, timeout, smtp, job }| {
            let field = "spec.probes[].name";
            if !names.insert(name.as_str()) {
                return Err(Rejection::new(reason::INVALID_SPEC, field, &format!("{name} is not unique")));
            }
            if name == DELIVERIES {
                let message = format!("{DELIVERIES} is the name of what agents say of real mail; choose another");
                return Err(Rejection::new(reason::INVALID_SPEC, field, &message));
            }
            let depth = depth(smtp).unwrap_or(default_depth);
            if depth == Depth::Auth && !cx.has_login {
                let message = format!("Auth needs a login; name a Secret in {}.auth.secretRef", cx.field);
                return Err(Rejection::new(reason::INVALID_SPEC, "spec.probes[].smtp.depth", &message));
            }
            let vantage = if job.is_some() { Vantage::Job } else { Vantage::Operator };
            let (default_interval, least_interval) = if vantage == Vantage::Job {
                (DEFAULT_JOB_INTERVAL, COUNTED_PROBE_INTERVAL)
            } else if cx.is_outside && depth.is_counted() {
                (COUNTED_PROBE_INTERVAL, COUNTED_PROBE_INTERVAL)
            } else {
                (DEFAULT_PROBE_INTERVAL, Duration::from_millis(100))
            };
            let interval = interval.map_or(default_interval, duration).max(least_interval);
            let default_timeout = DEFAULT_PROBE_TIMEOUT.min(interval.saturating_mul(MAX_OVERLAP));
            let timeout = timeout.map_or(default_timeout, duration).max(Duration::from_millis(50));
            if vantage == Vantage::Operator && timeout > LONGEST_TIMEOUT {
                let message = format!(
                    "{timeout:?} is more than {LONGEST_TIMEOUT:?}, the most without job; shorten it, or probe {name} in a Job"
                );
                return Err(Rejection::new(reason::INVALID_SPEC, "spec.probes[].timeout", &message));
            }
            Ok(Probe {
                name: name.as_str().into(),
                interval,
                timeout,
                depth,
                envelope: envelope(depth, smtp)?,
                vantage,
                idle_session: idle_session(depth, vantage, smtp, cx)?,
                sharers: 1,
            })
        })
        .collect()
}

fn location(api::LocationSpec { region, jurisdiction, failure_domain }: &api::LocationSpec) -> Location {
    Location {
        region: region.as_deref().map(Arc::from),
        jurisdiction: jurisdiction.as_deref().map(Arc::from),
        failure_domain: failure_domain.as_deref().map(Arc::from),
    }
}

fn limits(spec: &api::LimitsSpec) -> Result<Limits, Rejection> {
    let api::LimitsSpec { messages_per_second, messages_per_day, warm_up, connections, messages_per_connection } = spec;
    Ok(Limits {
        messages_per_second: messages_per_second
            .map(|given| number("spec.limits.messagesPerSecond", given, 1..=MAX_PER_SECOND))
            .transpose()?,
        messages_per_day: messages_per_day
            .map(|given| number("spec.limits.messagesPerDay", given, 1..=MAX_PER_DAY))
            .transpose()?,
        warm_up: warm_up.as_ref().map(self::warm_up).transpose()?,
        connections: connections
            .map(|given| number("spec.limits.connections", given, 1..=MAX_CONNECTIONS))
            .transpose()?,
        messages_per_connection: messages_per_connection
            .map(|given| number("spec.limits.messagesPerConnection", given, 1..=MAX_PER_CONNECTION))
            .transpose()?,
    })
}

fn warm_up(api::WarmUpSpec { started_at, schedule }: &api::WarmUpSpec) -> Result<WarmUp, Rejection> {
    let mut days = Vec::with_capacity(schedule.len());
    for given in schedule {
        days.push(number("spec.limits.warmUp.schedule[]", *given, 1..=MAX_PER_DAY)?);
    }
    Ok(WarmUp { started_at: Timestamp::from_micros(started_at.0.as_microsecond()), schedule: days })
}

#[cfg(test)]
#[path = "backend_tests.rs"]
mod tests;
