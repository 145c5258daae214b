//! Checked form of a document, and the rule for replacing one document by another.
//!
//! Pure. A document that cannot be used is refused with the field and the reason; the caller keeps the one before.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::document::{self, API_VERSION, Deliveries, Document, MAX_BYTES, Reflex};
use mail_failover_core::model::{EvidenceClass, EvidenceClasses, LoginReference, Policy, ReplyRules, SharedError};
use mail_failover_replies::Rulebook;

/// Destination of the mail, as the operator has decided, and the freedom of the agent to act by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// Name of the `MailRoute`, as `namespace/name`.
    pub route: Arc<str>,
    /// UID of the route.
    pub route_uid: Arc<str>,
    /// The id of the latest transition.
    pub transition: i64,
    /// Summary of the transition, for people; may be empty.
    pub summary: Arc<str>,
    /// True if nobody may carry the mail, which then waits in the queue. `backends` has one entry that leads nowhere.
    pub is_withdrawn: bool,
    /// Backends, the most preferred first; at least one. Names and next hops are unique; the shares add up to 100.
    pub backends: Vec<RouteBackend>,
    /// Settings of the breakers.
    pub breaker: BreakerPolicy,
    /// Thresholds at which deliveries are a verdict on a backend.
    pub deliveries: DeliveryPolicy,
    /// Domains in the sender addresses of the route's mail, in lower case. Empty if they are not known.
    pub sender_domains: Vec<Arc<str>>,
    /// Replicas of the operator that take reports.
    pub operators: Vec<document::OperatorEndpoint>,
    /// Drill under way.
    pub drill: Option<RouteDrill>,
    /// Fields, classes of failure and rules about replies that this agent does not know: misspelt, or of a newer
    /// operator.
    pub ignored: Vec<Arc<str>>,
}

/// One way out for mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteBackend {
    /// Name of the `SendingBackend`.
    pub name: Arc<str>,
    /// Share of the mail, from 0 to 100.
    pub percent: u8,
    /// True if the operator would send mail here now.
    pub standby: bool,
    /// True if a message that another backend does not take may go here within the same delivery attempt.
    pub alternate: bool,
    /// True if one message at a time may try it first although it has no share.
    pub trial: bool,
    /// Least time between two messages; `None` for any.
    pub interval: Option<Duration>,
    /// Number of messages within 24 hours after which it is no alternate; `None` for any.
    pub messages_per_day: Option<u64>,
    /// Connections of a relay at a time; `None` for its own bound.
    pub connections: Option<u32>,
    /// Messages of a relay over one connection; `None` for its own bound.
    pub messages_per_connection: Option<u32>,
    /// Host and port, under the name by which Postfix keeps everything.
    pub next_hop: NextHop,
    /// Settings of TLS with it.
    pub tls: TlsPolicy,
    /// The Secret with its login.
    pub secret: Option<LoginReference>,
    /// Domains that it may send for, in lower case. Empty for any domain.
    pub sender_domains: Vec<Arc<str>>,
    /// Rules for its replies.
    pub rulebook: Arc<Rulebook>,
}

/// Drill that refuses backends for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteDrill {
    /// Id of the drill, which no other drill of the route ever has.
    pub id: Arc<str>,
    /// Names of the backends that are refused. The routing need not have them.
    pub backends: Vec<Arc<str>>,
    /// Time for which they are refused, from the first sight of the id.
    pub lasts: Duration,
}

/// Host and port. Displayed as Postfix writes a next hop without MX look-ups: `[host]:port`, `[ipv6:address]:port`
/// (transport(5)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHop {
    /// Host name or IP address, lower case.
    pub host: Arc<str>,
    /// TCP port of the server.
    pub port: u16,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[ipv6:{host}]:{port}") } else { write!(f, "[{host}]:{port}") }
    }
}

/// Use of TLS with a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// No TLS at all.
    None,
    /// STARTTLS when offered, certificate not verified.
    Opportunistic,
    /// STARTTLS required, certificate verified.
    StartTls(Verification),
    /// TLS from the first byte, certificate verified.
    Implicit(Verification),
}

impl TlsPolicy {
    /// True if TLS is spoken from the first byte.
    pub fn is_implicit(&self) -> bool {
        matches!(self, Self::Implicit(_))
    }
}

/// Conditions for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Name that it must carry.
    pub server_name: Arc<str>,
    /// Authorities of which one must have signed it (PEM). A public authority if `None`.
    pub ca: Option<Arc<str>>,
}

/// Settings of the breakers: those of the policy.
pub type BreakerPolicy = mail_failover_core::model::Breaker;

/// Thresholds at which deliveries are a verdict on a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryPolicy {
    /// Number of deliveries in a row that must fail; at least 1.
    pub consecutive: u32,
    /// Least time that these failures must span.
    pub lasting: Duration,
    /// Classes of failure of which one delivery is enough.
    pub immediately: EvidenceClasses,
    /// Time after the latest delivery for which a verdict counts.
    pub cooldown: Duration,
}

/// Reason why a document is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The document is empty.
    #[error("it is empty")]
    Empty,
    /// The document is larger than any that the operator writes.
    #[error("it has {0} bytes; {MAX_BYTES} are allowed")]
    TooLarge(usize),
    /// The document is no JSON.
    #[error("it is no valid JSON: {0}")]
    Json(#[source] SharedError),
    /// The JSON is no such document.
    #[error("it cannot be read: {0}; `mail-failover agent schema` has what is expected")]
    Unreadable(#[source] SharedError),
    /// The document has a version that this agent does not know.
    #[error("apiVersion {0:?} is not {API_VERSION:?}; run an agent of the operator's version")]
    Version(String),
    /// A field has a value that cannot be used.
    #[error("{field}: {reason}")]
    Field {
        /// Path of the field.
        field: String,
        /// Problem with its value.
        reason: String,
    },
    /// An older decision of the same route.
    #[error(
        "decision.transition: {offered} is older than {known}, which is in force; who writes documents by hand raises it"
    )]
    Older {
        /// The transition in force.
        known: i64,
        /// The one that was offered.
        offered: i64,
    },
}

fn field(field: impl Into<String>, reason: impl Into<String>) -> Refusal {
    Refusal::Field { field: field.into(), reason: reason.into() }
}

fn wrong(index: usize, name: &str, reason: impl Into<String>) -> Refusal {
    field(format!("backends[{index}].{name}"), reason)
}

/// Parses and checks a document.
///
/// # Errors
/// [`Refusal`], which names the field.
pub fn parse(text: &str) -> Result<Routing, Refusal> {
    parse_for(text, Reader::ByNextHop)
}

/// Parses and checks a document for a reader that tells backends apart by their names, so that several may have one host
/// and port: each of `accounts` is a backend, if there are any.
///
/// # Errors
/// [`Refusal`], which names the field.
pub fn parse_accounts(text: &str) -> Result<Routing, Refusal> {
    parse_for(text, Reader::ByName)
}

/// Identity of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// Host and port, as for Postfix.
    ByNextHop,
    /// The name.
    ByName,
}

fn parse_for(text: &str, reader: Reader) -> Result<Routing, Refusal> {
    // Editors of Windows put a byte order mark first, which RFC 8259, 8.1, allows to ignore.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Refusal::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(Refusal::TooLarge(text.len()));
    }
    // First, because a document of another version may have other fields.
    let VersionOnly { api_version } = from_json(text)?;
    if api_version != API_VERSION {
        return Err(Refusal::Version(api_version));
    }
    let document: Document = from_json(text)?;
    let mut ignored = ignored(&from_json(text)?, &document);
    let routing = check(document, reader)?;
    ignored.extend(routing.ignored);
    Ok(Routing { ignored, ..routing })
}

/// Returns the fields of a text that are not in the document read from it. They are not refused, as a newer operator
/// may say more.
fn ignored(given: &Value, document: &Document) -> Vec<Arc<str>> {
    fn walk(path: &str, given: &Value, known: &Value, ignored: &mut Vec<Arc<str>>) {
        match (given, known) {
            (Value::Object(given), Value::Object(known)) => {
                for (name, value) in given {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    match known.get(name) {
                        Some(known) => walk(&path, value, known, ignored),
                        // An empty value may be left out of a document.
                        None if is_empty(value) => {}
                        None => ignored.push(path.into()),
                    }
                }
            }
            (Value::Array(given), Value::Array(known)) => {
                for (index, (given, known)) in given.iter().zip(known).enumerate() {
                    walk(&format!("{path}[{index}]"), given, known, ignored);
                }
            }
            _ => {}
        }
    }
    let mut found = vec![];
    // It holds strings and numbers only, so this cannot fail.
    walk("", given, &serde_json::to_value(document).unwrap_or_default(), &mut found);
    if let Some(Deliveries { immediately, .. }) = &document.deliveries {
        found.extend(unknown_classes("deliveries", immediately));
    } else if let Some(Reflex { immediately, .. }) = &document.reflex {
        found.extend(unknown_classes("reflex", immediately));
    }
    found
}

fn unknown_classes(name: &str, immediately: &[String]) -> Vec<Arc<str>> {
    let unknown = immediately.iter().filter(|class| EvidenceClass::from_name(class).is_none());
    unknown.map(|class| format!("{name}.immediately: {class}").into()).collect()
}

/// True for a value that says as much as its absence.
fn is_empty(value: &Value) -> bool {
    value.is_null() || value == false || value == "" || value.as_array().is_some_and(Vec::is_empty)
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionOnly {
    api_version: String,
}

fn from_json<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    let json = &mut serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(json).map_err(|error| match error.inner().classify() {
        // The place where the text breaks off is no field that is wrong.
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            Refusal::Json(SharedError::new(error.into_inner()))
        }
        serde_json::error::Category::Data | serde_json::error::Category::Io => {
            Refusal::Unreadable(SharedError::new(error))
        }
    })
}

/// Checks that a document may replace the one in force.
///
/// # Errors
/// [`Refusal::Older`] for an older decision of the same route.
pub fn may_replace(known: &Routing, offered: &Routing) -> Result<(), Refusal> {
    if known.route_uid == offered.route_uid && offered.transition < known.transition {
        return Err(Refusal::Older { known: known.transition, offered: offered.transition });
    }
    Ok(())
}

fn check(document: Document, reader: Reader) -> Result<Routing, Refusal> {
    let Document {
        api_version: _,
        route,
        decision,
        withdrawn,
        backends,
        accounts,
        breaker,
        deliveries,
        reflex,
        sender_domains,
        operators,
        agents: _,
        drill,
    } = document;
    let (list, backends) = match reader {
        Reader::ByName if !accounts.is_empty() => ("accounts", accounts),
        Reader::ByName | Reader::ByNextHop => ("backends", backends),
    };
    if backends.is_empty() {
        return Err(field("backends", "there is none"));
    }
    let mut names = BTreeSet::new();
    let mut next_hops = BTreeSet::new();
    let mut checked = Vec::with_capacity(backends.len());
    let mut ignored = vec![];
    for (index, backend) in backends.into_iter().enumerate() {
        let backend = self::backend(index, backend, &mut ignored)?;
        if !names.insert(backend.name.clone()) {
            return Err(field(format!("{list}[{index}].name"), format!("{} is not unique", backend.name)));
        }
        // Credentials, TLS and what Postfix knows of a dead site all hang on the next hop's name.
        if !next_hops.insert(backend.next_hop.clone()) && reader == Reader::ByNextHop {
            let reason = format!("another backend is {} as well; each needs a name of its own", backend.next_hop);
            return Err(field(format!("backends[{index}].host"), reason));
        }
        checked.push(backend);
    }
    let total: u32 = checked.iter().map(|backend| u32::from(backend.percent)).sum();
    if total != 100 {
        return Err(field(format!("{list}[].percent"), format!("they add up to {total}, not to 100")));
    }
    if breaker.is_none() && reflex.is_some() && checked.iter().all(|backend| !backend.alternate) {
        // An operator that knows no alternates: an agent of its time may go to a standby by itself, with all mail.
        for backend in &mut checked {
            backend.alternate = backend.standby;
        }
    }
    Ok(Routing {
        route: format!("{}/{}", route.namespace, route.name).into(),
        route_uid: route.uid.into(),
        transition: decision.transition,
        summary: decision.summary.into(),
        is_withdrawn: withdrawn,
        backends: checked,
        breaker: breaker.map_or_else(|| Ok(BreakerPolicy::default()), |given| self::breaker(&given))?,
        deliveries: self::deliveries(deliveries, reflex)?,
        sender_domains: lower_case(&sender_domains),
        operators,
        drill: drill.map(self::drill).transpose()?,
        ignored,
    })
}

/// Longest drill that a document may order.
const LONGEST_DRILL: Duration = Duration::from_hours(24);
/// Longest id of a drill in bytes.
const MAX_DRILL_ID: usize = 128;

fn drill(drill: document::Drill) -> Result<RouteDrill, Refusal> {
    let document::Drill { id, backends, for_seconds } = drill;
    if id.is_empty() || id.len() > MAX_DRILL_ID || !id.chars().all(is_name_letter) {
        return Err(field(
            "drill.id",
            format!("use 1 to {MAX_DRILL_ID} letters, digits, dots, hyphens and underscores"),
        ));
    }
    if backends.is_empty() {
        return Err(field("drill.backends", "there is none; leave the drill out"));
    }
    let lasts = Duration::from_secs(for_seconds.into());
    if lasts.is_zero() || lasts > LONGEST_DRILL {
        return Err(field(
            "drill.forSeconds",
            format!("{for_seconds} is not between 1 and {}", LONGEST_DRILL.as_secs()),
        ));
    }
    Ok(RouteDrill { id: id.into(), backends: backends.into_iter().map(Arc::from).collect(), lasts })
}

fn backend(index: usize, backend: document::Backend, ignored: &mut Vec<Arc<str>>) -> Result<RouteBackend, Refusal> {
    let document::Backend {
        name,
        percent,
        standby,
        alternate,
        trial,
        rate,
        messages_per_day,
        connections,
        messages_per_connection,
        host,
        port,
        tls,
        secret,
        username_key,
        password_key,
        sender_domains,
        provider,
        replies,
    } = backend;
    if name.is_empty() {
        return Err(wrong(index, "name", "it is empty"));
    }
    if host.is_empty() || host.len() > 253 || !host.chars().all(is_host_letter) {
        return Err(wrong(index, "host", format!("{host:?} is neither a host name nor an address")));
    }
    if port == 0 {
        return Err(wrong(index, "port", "0 is no port"));
    }
    // A Secret's name becomes a folder's name.
    if let Some(secret) = &secret
        && (secret.is_empty() || secret.starts_with('.') || !secret.chars().all(is_name_letter))
    {
        return Err(wrong(index, "secret", format!("{secret:?} is no name of a Secret")));
    }
    // A key becomes a file's name.
    for (field, key) in [("usernameKey", &username_key), ("passwordKey", &password_key)] {
        if let Some(key) = key
            && (key.is_empty() || key.starts_with('.') || !key.chars().all(is_name_letter))
        {
            return Err(wrong(index, field, format!("{key:?} is no key of a Secret with a login")));
        }
    }
    if messages_per_day == Some(0) {
        return Err(wrong(index, "messagesPerDay", "0 lets nothing through; leave it out for any number"));
    }
    for (field, limit) in [("connections", connections), ("messagesPerConnection", messages_per_connection)] {
        if limit == Some(0) {
            return Err(wrong(index, field, "0 lets nothing through; leave it out for the relay's own bound"));
        }
    }
    let rules = replies.into_iter().map(Into::into).collect();
    let (rulebook, problems) =
        Rulebook::new(&ReplyRules { provider: provider.map(Into::into), rules, rejected: vec![] });
    // The operator writes no rule that cannot work here: it is of a newer one, or written by hand.
    ignored.extend(problems.iter().map(|problem| format!("backends[{index}].{problem}").into()));
    Ok(RouteBackend {
        name: name.into(),
        percent,
        standby,
        alternate,
        trial,
        interval: rate.map(|rate| interval(index, rate)).transpose()?,
        messages_per_day,
        connections,
        messages_per_connection,
        tls: tls_policy(index, tls, &host)?,
        next_hop: NextHop { host: host.to_ascii_lowercase().into(), port },
        secret: secret.map(|secret| LoginReference::new(secret, username_key.as_deref(), password_key.as_deref())),
        sender_domains: lower_case(&sender_domains),
        rulebook: Arc::new(rulebook),
    })
}

/// Returns the time between two messages at a rate.
fn interval(index: usize, rate: document::Rate) -> Result<Duration, Refusal> {
    let document::Rate { messages, per_milliseconds } = rate;
    for (name, value) in [("rate.messages", u64::from(messages)), ("rate.perMilliseconds", per_milliseconds)] {
        if value == 0 {
            return Err(wrong(index, name, "it is 0; leave the rate out for any"));
        }
    }
    Ok(Duration::from_millis(per_milliseconds) / messages)
}

fn lower_case(domains: &[String]) -> Vec<Arc<str>> {
    domains.iter().map(|domain| domain.to_ascii_lowercase().into()).collect()
}

// Other letters could break out of a next hop, a map's answer or a value of main.cf.
fn is_host_letter(letter: char) -> bool {
    is_name_letter(letter) || letter == ':'
}

fn is_name_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_')
}

fn tls_policy(index: usize, tls: document::Tls, host: &str) -> Result<TlsPolicy, Refusal> {
    let document::Tls { mode, server_name, ca } = tls;
    Ok(match mode {
        document::TlsMode::None => TlsPolicy::None,
        document::TlsMode::Opportunistic => TlsPolicy::Opportunistic,
        document::TlsMode::StartTls => TlsPolicy::StartTls(verification(index, server_name.as_deref(), ca, host)?),
        document::TlsMode::Implicit => TlsPolicy::Implicit(verification(index, server_name.as_deref(), ca, host)?),
    })
}

fn verification(
    index: usize,
    server_name: Option<&str>,
    ca: Option<String>,
    host: &str,
) -> Result<Verification, Refusal> {
    let server_name = server_name.unwrap_or(host);
    if server_name.is_empty() || !server_name.chars().all(is_host_letter) {
        return Err(wrong(index, "tls.serverName", format!("{server_name:?} is no name")));
    }
    Ok(Verification { server_name: server_name.into(), ca: ca.map(Into::into) })
}

fn breaker(given: &document::Breaker) -> Result<BreakerPolicy, Refusal> {
    let document::Breaker { consecutive, first_pause_milliseconds, longest_pause_milliseconds } = given;
    if *consecutive == 0 {
        return Err(field("breaker.consecutive", "at least 1 is needed"));
    }
    if *first_pause_milliseconds == 0 {
        return Err(field("breaker.firstPauseMilliseconds", "at least 1 is needed"));
    }
    if first_pause_milliseconds > longest_pause_milliseconds {
        let reason = format!("it is shorter than breaker.firstPauseMilliseconds, {first_pause_milliseconds}");
        return Err(field("breaker.longestPauseMilliseconds", reason));
    }
    Ok(BreakerPolicy {
        consecutive: *consecutive,
        first_pause: Duration::from_millis(*first_pause_milliseconds),
        longest_pause: Duration::from_millis(*longest_pause_milliseconds),
    })
}

/// Returns the thresholds of a document: its own, those of an earlier operator, or the defaults of a policy.
fn deliveries(given: Option<Deliveries>, reflex: Option<Reflex>) -> Result<DeliveryPolicy, Refusal> {
    let (name, given) = match (given, reflex) {
        (Some(given), _) => ("deliveries", given),
        (None, Some(reflex)) => ("reflex", Deliveries::from(reflex)),
        (None, None) => {
            let default = Policy::default();
            return Ok(DeliveryPolicy {
                consecutive: default.deliveries.consecutive,
                lasting: default.deliveries.lasting,
                immediately: default.thresholds.immediate,
                cooldown: default.hold.cooldown,
            });
        }
    };
    if given.consecutive == 0 {
        return Err(field(format!("{name}.consecutive"), "at least 1 is needed"));
    }
    // A class of a newer operator is one that this agent cannot observe.
    let known = given.immediately.iter().filter_map(|name| EvidenceClass::from_name(name));
    Ok(DeliveryPolicy {
        consecutive: given.consecutive,
        lasting: Duration::from_millis(given.lasting_milliseconds),
        immediately: known.collect(),
        cooldown: Duration::from_millis(given.cooldown_milliseconds),
    })
}

impl From<Reflex> for Deliveries {
    fn from(reflex: Reflex) -> Self {
        let Reflex {
            consecutive,
            lasting_milliseconds,
            immediately,
            cooldown_milliseconds,
            // An agent that knows a breaker makes no moves.
            switches: _,
            per_milliseconds: _,
        } = reflex;
        Self { consecutive, lasting_milliseconds, immediately, cooldown_milliseconds }
    }
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
