//! The output `dns` of a `MailRoute`.

use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DOMAIN, DnsApiSpec, DnsEndpointSpec};

/// Pattern of the owner of a record: a domain name whose labels may hold underscores (RFC 8552).
const OWNER: &str =
    r"^[A-Za-z0-9_]([-_A-Za-z0-9]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-_A-Za-z0-9]{0,61}[A-Za-z0-9_])?)*$";
/// Pattern of a DNS server: a name or an IPv4 address, or an IPv6 address in brackets, and a port.
pub(crate) const SERVER: &str = r"^([A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$";

/// Records of a zone that follow the route: the MX of a domain for replies and bounces, or of one that an MTA has as its
/// next hop, and what goes with it. Caches keep the former records for up to `ttl` after a failover.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("[has(self.rfc2136), has(self.dnsEndpoint), has(self.api)].filter(is_set, is_set).size() == 1").message("exactly one of spec.outputs[].dns.rfc2136, spec.outputs[].dns.dnsEndpoint and spec.outputs[].dns.api must be set"),
    validation = Rule::new("has(self.mx) || has(self.records)").message("at least one of spec.outputs[].dns.mx and spec.outputs[].dns.records must be set"),
    validation = Rule::new("!has(self.name) || self.name.lowerAscii() == self.zone.lowerAscii() || self.name.lowerAscii().endsWith('.' + self.zone.lowerAscii())").message("spec.outputs[].dns.name must be the zone or lie below it"),
    validation = Rule::new("!has(self.records) || self.records.all(r, r.name.lowerAscii() == self.zone.lowerAscii() || r.name.lowerAscii().endsWith('.' + self.zone.lowerAscii()))").message("spec.outputs[].dns.records[].name must be the zone or lie below it"),
    validation = Rule::new("!has(self.records) || self.records.all(r, self.records.exists_one(s, s.type == r.type && s.name.lowerAscii() == r.name.lowerAscii()))").message("spec.outputs[].dns.records[] must be unique by name and type"),
    validation = Rule::new("!has(self.mode) || has(self.mx)").message("spec.outputs[].dns.mode has an effect with mx only"),
    validation = Rule::new("!has(self.ttl) || (duration(self.ttl) >= duration('1s') && duration(self.ttl) <= duration('24h') && duration(self.ttl).getMilliseconds() % 1000 == 0)").message("spec.outputs[].dns.ttl must be whole seconds between 1s and 24h"),
    validation = Rule::new("!has(self.timeout) || (duration(self.timeout) >= duration('1s') && duration(self.timeout) <= duration('30s'))").message("spec.outputs[].dns.timeout must be between 1s and 30s")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsOutputSpec {
    /// Apex of the zone that holds the records.
    #[schemars(length(min = 1, max = 253), regex(pattern = DOMAIN))]
    pub zone: String,

    /// Name of the MX records: the domain of the replies or bounces. `status.outputs` knows the output by it; unique
    /// within the route. Default: `zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OWNER))]
    pub name: Option<String>,

    /// Mail exchangers of each backend; every backend of the route needs one at least. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub mx: Vec<DnsMxSpec>,

    /// `Swap`: the exchangers of the backend that carries the mail, and no others. `Reorder`: those of every backend, with
    /// preferences that begin at 10 and grow by 10, the carrying backend's first. Default: Swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DnsModeSpec>,

    /// Further record sets that follow the route, such as the name or the SPF of a return path; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub records: Vec<DnsRecordSpec>,

    /// Time for which caches may keep a record; it is a part of the time that a failover takes. Default: 60s. Whole seconds
    /// from 1s to 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub ttl: Option<Duration>,

    /// Servers that take dynamic updates, signed by TSIG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136Spec>,

    /// An object that external-dns follows, in the namespace of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_endpoint: Option<DnsEndpointSpec>,

    /// The HTTP API of a DNS provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<DnsApiSpec>,

    /// Time limit of one attempt, from the look-up of the server to the answers of the authorities. Default: 5s. From 1s
    /// to 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::duration_schema")]
    pub timeout: Option<Duration>,

    /// True if a decision counts as applied (`appliedAt`, `OutputsApplied`) only once its records do: once every authority
    /// answers with them, or external-dns has taken them over. Meant for mail that goes where these records lead. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#await: Option<bool>,
}

/// A mail exchanger of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsMxSpec {
    /// Name of a backend of the route.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub backend: String,

    /// Host that takes mail for the domain when this backend carries the route's.
    #[schemars(length(min = 1, max = 253), regex(pattern = DOMAIN))]
    pub host: String,

    /// Preference among the hosts of one backend; the lower is tried first. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub preference: Option<i32>,
}

/// Way to lead a domain to the exchangers of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum DnsModeSpec {
    /// The exchangers of the carrying backend alone.
    Swap,
    /// The exchangers of every backend, those of the carrying one first.
    Reorder,
}

/// A record set that follows the route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsRecordSpec {
    /// Name of the records.
    #[schemars(length(min = 1, max = 253), regex(pattern = OWNER))]
    pub name: String,

    /// Type of the records.
    pub r#type: DnsRecordTypeSpec,

    /// Templates of the records' data, in Jinja's language, with the name `backend`: `{{ {"ses-eu": "192.0.2.1", "relay":
    /// "192.0.2.2"}[backend] }}`. One that renders nothing for a backend is no record then. Each has to render for every
    /// backend of the route. 1 to 8.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 2048)))]
    pub values: Vec<String>,
}

/// Type of a record that follows the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::without_description)]
pub enum DnsRecordTypeSpec {
    /// IPv4 address.
    A,
    /// IPv6 address.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// Canonical name.
    #[serde(rename = "CNAME")]
    Cname,
    /// Text.
    #[serde(rename = "TXT")]
    Txt,
}

/// Dynamic updates by RFC 2136, over TCP, signed by TSIG (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rfc2136Spec {
    /// Servers that take updates of the zone, the first that answers: a name or an address, and a port unless it is 53; 1
    /// to 4. Their addresses meet the same rules as those that probes connect to.
    #[schemars(
        length(min = 1, max = 4),
        inner(length(min = 1, max = 260), regex(pattern = SERVER))
    )]
    pub servers: Vec<String>,

    /// The Secret with the key that signs.
    pub tsig_secret_ref: TsigSecretReference,

    /// Servers that have to answer with the records before they count as changed, written as `servers`; at most 16.
    /// Default: those of the zone's NS records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 260), regex(pattern = SERVER))
    )]
    pub authorities: Vec<String>,
}

/// A Secret of the same namespace, of type `mailfailover.io/tsig`. Its keys are `name`, the name of the key; `secret`, the
/// key in base64 as `tsig-keygen` prints it; and `algorithm`, one of hmac-sha256 (the default), hmac-sha384 and
/// hmac-sha512. The operator reads it by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TsigSecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}
