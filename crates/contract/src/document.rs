//! Document by which the operator tells the agents of a route: JSON, the value of the key [`KEY`] of one ConfigMap.
//!
//! It holds no secret: credentials are named, and mounted where the agent runs. Readers of one version ignore fields
//! that they do not know, so that an operator may be upgraded before its agents. A change in the meaning of a field
//! needs a new [`API_VERSION`]. `schemas/agent.schema.json` is generated from here. This module never interprets the
//! document; see `routing`.

use std::sync::Arc;

use mail_failover_core::model::ReplyRule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The key of the ConfigMap, and the usual name of the file.
pub const KEY: &str = "agent.json";
/// The version of the document.
pub const API_VERSION: &str = "agent.mailfailover.io/v1alpha1";
/// Longest document that is read. A ConfigMap may have 1 MiB.
pub const MAX_BYTES: usize = 1_000_000;
/// Host of the only backend of a document by which nobody may carry the mail: the limited broadcast address (RFC 919).
// Linux refuses a TCP connection there with ENETUNREACH and sends no packet, so a reader that does not know
// `withdrawn` keeps the mail in its queue. A name that does not exist would make Postfix bounce it.
// ADR-0100: A document can say that nobody may carry the mail.
pub const NOWHERE: &str = "255.255.255.255";
/// Port beside [`NOWHERE`].
pub const NOWHERE_PORT: u16 = 25;

/// Returns the JSON schema of [`Document`], as `schemas/agent.schema.json` holds it.
pub fn schema_json() -> String {
    let schema = schemars::schema_for!(Document);
    // A schema is a JSON value, and values can be printed.
    format!("{:#}\n", schema.as_value())
}

/// Destination of the mail of one route, and the freedom of its agents to act by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Version of the document: `agent.mailfailover.io/v1alpha1`.
    pub api_version: String,

    /// Route whose mail it is.
    pub route: RouteReference,

    /// The decision that the shares below carry out.
    pub decision: Decision,

    /// True if nobody may carry the mail: an agent then keeps all of it in the queue, and `backends` has one entry that
    /// leads nowhere, for agents that do not know this field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,

    /// Every backend of the route, the most preferred first; at least one has a share.
    #[schemars(length(min = 1, max = 100))]
    pub backends: Vec<Backend>,

    /// The same list with each of several backends at one host and port by itself, for readers that tell backends apart
    /// by their names: the relay. Empty if no two share a host and port; `backends` is that list then.
    // ADR-0157: The relay is told of every account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub accounts: Vec<Backend>,

    /// Settings of the agents' breakers, which order the backends that a message tries. Absent in a document of an
    /// operator that knows of none, and then in force with the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,

    /// Thresholds at which deliveries are a verdict on a backend. Absent for those of `reflex`, or for the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Deliveries>,

    /// Rules for agents that know no `breaker` and leave a backend by themselves. Others read it only where `breaker`
    /// is absent: then a backend that is a `standby` is an alternate, too.
    // An agent of the first release refuses a document without it.
    // ADR-0118: The breaker replaces the reflex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reflex: Option<Reflex>,

    /// Domains in the sender addresses of the route's mail. Empty if they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub sender_domains: Vec<String>,

    /// Replicas of the operator to which agents report. Empty if the operator takes no reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub operators: Vec<OperatorEndpoint>,

    /// Number of the route's agents that were counted when the limits of its backends were divided. Absent if no backend
    /// has a limit.
    // An operator that has just started divides by it until it has heard the agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub agents: Option<u32>,

    /// Drill under way, for which readers refuse backends that work. Absent if there is none: a drill that was under way
    /// is over then. Readers that know of no drills send as the rest of the document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<Drill>,
}

/// Drill that refuses backends for a time.
// ADR-0165: A drill is refused in the lists, and ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// Id of the drill, which no other drill of the route ever has. A reader carries out each once.
    #[schemars(length(min = 1, max = 128))]
    pub id: String,
    /// Names of the backends that are refused. Names that the reader does not know are passed over.
    #[schemars(length(min = 1, max = 100))]
    pub backends: Vec<String>,
    /// Seconds for which they are refused, from the time at which the reader first saw the id. It ends then, whatever
    /// the operator does.
    #[schemars(range(min = 1, max = 86_400))]
    pub for_seconds: u32,
}

/// Reference to a MailRoute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteReference {
    /// Namespace of the route.
    pub namespace: String,
    /// Name of the route.
    pub name: String,
    /// UID of the route. A route that was deleted and made again counts its decisions from the beginning.
    pub uid: String,
}

/// A decision of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Id of the route's latest transition; 0 before the first. A document with a smaller id is an older one.
    #[schemars(range(min = 0))]
    pub transition: i64,
    /// Transition and its reason, for people: `Failover ses-eu → sendgrid: AccountPaused`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// One way out for mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Name of the SendingBackend.
    pub name: String,

    /// Share of the mail, in percent. The shares of all backends add up to 100.
    #[schemars(range(max = 100))]
    pub percent: u8,

    /// True if the operator would send mail here now: a message that another backend refuses by a 5xx may go here.
    pub standby: bool,

    /// True if a message that another backend does not take may go here within the same delivery attempt. Absent if it
    /// may not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alternate: bool,

    /// True if one message at a time may try it first although it has no share: real mail alone has condemned it. Absent
    /// if none may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trial: bool,

    /// Rate at which the reader of this document may send here: its part of the backend's limit. Absent for any.
    // ADR-0126: The pace of a backend is kept where a session begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,

    /// Messages that its reader may send here within 24 hours, its part of the backend's limits: one that has taken so
    /// many is no alternate. Absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub messages_per_day: Option<u64>,

    /// Connections that a relay may have here at a time, its part of the backend's limit. Absent for the relay's own
    /// bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub connections: Option<u32>,

    /// Messages that a relay sends over one connection. Absent for the relay's own bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub messages_per_connection: Option<u32>,

    /// Host name or IP address, without brackets.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,

    /// TCP port of the server.
    #[schemars(range(min = 1))]
    pub port: u16,

    /// Settings of TLS.
    pub tls: Tls,

    /// Name of the Secret with the login. Absent if the backend asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,

    /// Key of the user name in the Secret. Absent for `username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_key: Option<String>,

    /// Key of the password in the Secret. Absent for `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_key: Option<String>,

    /// Domains that it may send for. Empty for any domain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub sender_domains: Vec<String>,

    /// Provider whose own words its replies are read by, besides the general rules. Absent if every provider's count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,

    /// Rules of the user about its replies. The first that applies decides, before every other rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub replies: Vec<DocumentedReplyRule>,
}

impl Backend {
    /// The only backend of a document by which nobody may carry the mail.
    pub fn nowhere() -> Self {
        Self {
            name: "withdrawn".to_owned(),
            percent: 100,
            standby: false,
            alternate: false,
            trial: false,
            rate: None,
            messages_per_day: None,
            connections: None,
            messages_per_connection: None,
            host: NOWHERE.to_owned(),
            port: NOWHERE_PORT,
            tls: Tls { mode: TlsMode::None, server_name: None, ca: None },
            secret: None,
            username_key: None,
            password_key: None,
            sender_domains: vec![],
            provider: None,
            replies: vec![],
        }
    }
}

/// Rate of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Number of messages in `perMilliseconds`; at least 1.
    #[schemars(range(min = 1))]
    pub messages: u32,
    /// The time to which `messages` applies; at least 1.
    #[schemars(range(min = 1))]
    pub per_milliseconds: u64,
}

/// A rule of the user about replies, as `spec.replies` of a SendingBackend has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentedReplyRule {
    /// Name, unique within the backend.
    pub name: String,
    /// Subject of the replies that it decides: `Quota`.
    pub about: String,
    /// Commands that are answered: `RCPT`. Any if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub stages: Vec<String>,
    /// Codes: `550`, `5xx`, `450-452`. Any if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub codes: Vec<String>,
    /// Enhanced codes: `x.7.57`, `4.7.*`, `none`. Any if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub enhanced_codes: Vec<String>,
    /// Regular expressions, of which one must be found in the text. Any text if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub words: Vec<String>,
}

impl From<&ReplyRule> for DocumentedReplyRule {
    fn from(ReplyRule { name, about, stages, codes, enhanced_codes, words }: &ReplyRule) -> Self {
        Self {
            name: name.to_string(),
            about: about.to_string(),
            stages: owned(stages),
            codes: owned(codes),
            enhanced_codes: owned(enhanced_codes),
            words: owned(words),
        }
    }
}

impl From<DocumentedReplyRule> for ReplyRule {
    fn from(rule: DocumentedReplyRule) -> Self {
        let DocumentedReplyRule { name, about, stages, codes, enhanced_codes, words } = rule;
        Self {
            name: name.into(),
            about: about.into(),
            stages: shared(stages),
            codes: shared(codes),
            enhanced_codes: shared(enhanced_codes),
            words: shared(words),
        }
    }
}

fn owned(texts: &[Arc<str>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn shared(texts: Vec<String>) -> Vec<Arc<str>> {
    texts.into_iter().map(Arc::from).collect()
}

/// Settings of TLS with a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Use of TLS.
    pub mode: TlsMode,
    /// Name that the certificate must carry; with `StartTLS` and `Implicit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM certificates of a private authority; the machine's public authorities otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Use of TLS with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// No TLS at all.
    None,
    /// STARTTLS when offered, certificate not verified.
    Opportunistic,
    /// STARTTLS required, certificate verified.
    #[serde(rename = "StartTLS")]
    StartTls,
    /// TLS from the first byte, certificate verified.
    Implicit,
}

/// Settings of the breaker that an agent has for each backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// Number of deliveries in a row that open it when they fail; at least 1.
    #[schemars(range(min = 1))]
    pub consecutive: u32,
    /// Pause before the first message that tries the backend first again; at least 1.
    #[schemars(range(min = 1))]
    pub first_pause_milliseconds: u64,
    /// Longest pause between two such messages; at least as long.
    #[schemars(range(min = 1))]
    pub longest_pause_milliseconds: u64,
}

/// Thresholds at which deliveries are a verdict on a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deliveries {
    /// Number of deliveries in a row that must fail; at least 1.
    #[schemars(range(min = 1))]
    pub consecutive: u32,
    /// Least time that these failures must span, so that a blip that many messages meet at once is ridden out.
    pub lasting_milliseconds: u64,
    /// Classes of failure of which one delivery is enough, named as in `status.reason` of a SendingBackend. One of them
    /// opens the breaker, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub immediately: Vec<String>,
    /// Time after the latest delivery for which a verdict counts.
    pub cooldown_milliseconds: u64,
}

/// Conditions and budget for an agent that leaves a backend by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reflex {
    /// Number of deliveries in a row that must fail; at least 1.
    #[schemars(range(min = 1))]
    pub consecutive: u32,
    /// Least time that these failures must span, so that a blip that many messages meet at once is ridden out.
    pub lasting_milliseconds: u64,
    /// Classes of failure of which one delivery is enough, named as in `status.reason` of a SendingBackend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub immediately: Vec<String>,
    /// Time for which a backend that was left is not tried again, unless the operator decides anew.
    pub cooldown_milliseconds: u64,
    /// Number of moves in `perMilliseconds` that an agent may make by itself.
    pub switches: u32,
    /// The time to which `switches` applies.
    pub per_milliseconds: u64,
}

/// Endpoint of one replica of the operator that takes reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorEndpoint {
    /// Address and port, `address:port`, with an IPv6 address in brackets.
    pub address: String,
    /// SHA-256 of the certificate that the endpoint must show, in lower-case hexadecimal digits.
    pub certificate_sha256: String,
}
