//! What the operator tells the agents of a route: one JSON document, the value of the key [`KEY`] of one ConfigMap.
//!
//! It holds no secret: credentials are named, and mounted where the agent runs. Readers of one version ignore fields that they do not know,
//! so that an operator may be upgraded before its agents; what would change the meaning of a field needs a new [`API_VERSION`].
//! `schemas/agent.schema.json` is generated from here. This module never interprets what it holds; see `routing`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The key of the ConfigMap, and the usual name of the file.
pub const KEY: &str = "agent.json";
/// The version of the document.
pub const API_VERSION: &str = "agent.mailfailover.io/v1alpha1";
/// More than this is not read: a ConfigMap may have 1 MiB.
pub const MAX_BYTES: usize = 1_000_000;

/// The JSON schema of [`Document`], as `schemas/agent.schema.json` holds it.
pub fn schema_json() -> String {
    let schema = schemars::schema_for!(Document);
    // A schema is a JSON value, and values can be printed.
    format!("{:#}\n", schema.as_value())
}

/// Where the mail of one route goes, and what its agents may do by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// `agent.mailfailover.io/v1alpha1`.
    pub api_version: String,

    /// Whose mail it is.
    pub route: RouteReference,

    /// The decision that the shares below carry out.
    pub decision: Decision,

    /// Every backend of the route, the most preferred first; at least one has a share.
    #[schemars(length(min = 1, max = 100))]
    pub backends: Vec<Backend>,

    /// What an agent may do by itself when real mail meets a dead backend.
    pub reflex: Reflex,

    /// Where agents report what real mail met; empty when the operator takes no reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub operators: Vec<OperatorEndpoint>,
}

/// A MailRoute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: a route that was deleted and made again counts its decisions from the beginning.
    pub uid: String,
}

/// A decision of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The id of the route's latest transition; 0 before the first. It only grows, so a document with a smaller one is an old one.
    #[schemars(range(min = 0))]
    pub transition: i64,
    /// What the transition was and why, for people: `Failover ses-eu → sendgrid: AccountPaused`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// One way out for mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Name of the SendingBackend.
    pub name: String,

    /// How much of the mail it carries, in percent. The shares of all backends add up to 100.
    #[schemars(range(max = 100))]
    pub percent: u8,

    /// Whether an agent that leaves another backend by itself may go here.
    pub standby: bool,

    /// Host name or IP address, without brackets.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,

    /// TCP port.
    #[schemars(range(min = 1))]
    pub port: u16,

    /// How TLS is spoken.
    pub tls: Tls,

    /// Name of the Secret with `username` and `password`; none when the backend asks for no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,

    /// Domains that it may send for; any, when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub sender_domains: Vec<String>,
}

/// How TLS is spoken with a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Whether and when.
    pub mode: TlsMode,
    /// The name that the certificate must carry; with `StartTLS` and `Implicit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM certificates of a private authority; the machine's public authorities otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Whether and when TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// Never.
    None,
    /// STARTTLS when offered, not verified.
    Opportunistic,
    /// STARTTLS required, verified.
    #[serde(rename = "StartTLS")]
    StartTls,
    /// TLS from the first byte, verified.
    Implicit,
}

/// When an agent leaves a backend by itself, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reflex {
    /// So many deliveries in a row must fail; at least 1.
    #[schemars(range(min = 1))]
    pub consecutive: u32,
    /// They must span at least so many milliseconds, so that a blip that many messages meet at once is ridden out.
    pub lasting_milliseconds: u64,
    /// Classes of failure of which one delivery is enough, whatever it spans: names as in `status.reason` of a SendingBackend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub immediately: Vec<String>,
    /// A backend that was left is not tried again for so many milliseconds, unless the operator decides anew.
    pub cooldown_milliseconds: u64,
    /// So many times in `perMilliseconds` an agent moves by itself.
    pub switches: u32,
    /// The time to which `switches` applies.
    pub per_milliseconds: u64,
}

/// Where one replica of the operator takes reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorEndpoint {
    /// `address:port`, an IPv6 address in brackets.
    pub address: String,
    /// SHA-256 of the certificate that it must show there, in lower-case hexadecimal digits.
    pub certificate_sha256: String,
}
