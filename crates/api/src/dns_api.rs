//! The output `dns` by the HTTP API of a DNS provider.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CaReference;
use super::dns_output::SERVER;

/// The HTTP API of a DNS provider. Exactly one of `powerDns`, `route53`, `cloudflare`, `digitalOcean` and `deSec` must be
/// set. But for Route 53, and for records that Cloudflare replaces, an API does not refuse a late write of an operator that
/// has lost its leadership; the next look puts that right.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.powerDns), has(self.route53), has(self.cloudflare), has(self.digitalOcean), has(self.deSec)].filter(is_set, is_set).size() == 1").message("exactly one of powerDns, route53, cloudflare, digitalOcean and deSec of spec.outputs[].dns.api must be set"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsApiSpec {
    /// A PowerDNS Authoritative Server (4.1 and later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_dns: Option<PowerDnsSpec>,

    /// Amazon Route 53.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route53: Option<Route53Spec>,

    /// Cloudflare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudflare: Option<CloudflareSpec>,

    /// DigitalOcean: `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digital_ocean: Option<DigitalOceanSpec>,

    /// deSEC: `{}`. Its lowest TTL is 3600 s unless it has granted another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub de_sec: Option<DeSecSpec>,

    /// The Secret with the credentials.
    pub secret_ref: DnsApiSecretReference,

    /// Authorities that may have signed the API's certificate. Default: the well-known ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaReference>,

    /// Servers that have to answer with the records before they count as changed: a name or an address, and a port unless it
    /// is 53; at most 16. Default: those of the zone's NS records, as the operator's resolver knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 260), regex(pattern = SERVER))
    )]
    pub authorities: Vec<String>,
}

/// A PowerDNS Authoritative Server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PowerDnsSpec {
    /// Place of its API, without `/api`: `https://pdns.example.com`. By `http://` the key crosses the network in the open.
    /// The address and the port meet the same rules as those of webhooks.
    #[schemars(length(min = 8, max = 512), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub url: String,

    /// Id of the server within the API. Default: localhost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub server: Option<String>,
}

/// Amazon Route 53.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route53Spec {
    /// Id of the hosted zone: `Z0123456789ABC`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9]+$"))]
    pub zone_id: String,

    /// Place of the API, for partitions other than AWS' ordinary one. Default: `https://route53.amazonaws.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512), regex(pattern = r"^https://[^/?#@\s]+$"))]
    pub url: Option<String>,
}

/// Cloudflare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloudflareSpec {
    /// Id of the zone, from its overview page.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9]+$"))]
    pub zone_id: String,
}

/// DigitalOcean. The zone is known by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigitalOceanSpec {}

/// deSEC. The zone is known by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeSecSpec {}

/// A Secret of the same namespace, of type `mailfailover.io/dns-api`. Its key is `token`, with the provider's token or the
/// `api-key` of a PowerDNS; for Route 53 `access-key-id` and `secret-access-key`, and `session-token` where there is one. The
/// operator reads it by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsApiSecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}
