//! The output `dns` by the HTTP API of a DNS provider.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CaReference;
use super::dns_output::SERVER;

/// The HTTP API of a DNS provider. Exactly one of `powerDns`, `route53`, `cloudflare`, `digitalOcean`, `deSec`, `hetzner`,
/// `google`, `azure` and `ovh` must be set. Route 53, Google and Azure refuse a late write of an operator that has lost its
/// leadership, and so does Cloudflare where records are replaced; with the others the next look puts that right.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.powerDns), has(self.route53), has(self.cloudflare), has(self.digitalOcean), has(self.deSec), has(self.hetzner), has(self.google), has(self.azure), has(self.ovh)].filter(is_set, is_set).size() == 1").message("exactly one of powerDns, route53, cloudflare, digitalOcean, deSec, hetzner, google, azure and ovh of spec.outputs[].dns.api must be set"))]
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

    /// Hetzner, for zones in its Cloud API: `{}`. Those of the former DNS console have to be moved there first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hetzner: Option<HetznerSpec>,

    /// Google Cloud DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub google: Option<GoogleDnsSpec>,

    /// Azure DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureDnsSpec>,

    /// OVH: `{}`, or with an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ovh: Option<OvhSpec>,

    /// The Secret with the credentials.
    pub secret_ref: DnsApiSecretReference,

    /// Authorities that may have signed the certificates of the API, and of the place where it gives tokens. Default: the
    /// well-known ones.
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

/// Hetzner. The zone is known by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HetznerSpec {}

/// Google Cloud DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GoogleDnsSpec {
    /// Id of the project that has the zone.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9.:]*[a-z0-9])?$"))]
    pub project: String,

    /// Name of the managed zone, which is not the zone's domain: `shop-example`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub managed_zone: String,

    /// Place of the API, for endpoints of Private Service Connect. Default: `https://dns.googleapis.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512), regex(pattern = r"^https://[^/?#@\s]+$"))]
    pub url: Option<String>,
}

/// Azure DNS. The application that the Secret names needs the role DNS Zone Contributor for the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AzureDnsSpec {
    /// Id of the directory (tenant) that the application is registered in.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub tenant_id: String,

    /// Id of the subscription that has the zone.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub subscription_id: String,

    /// Resource group of the zone.
    #[schemars(length(min = 1, max = 90), regex(pattern = r"^[-A-Za-z0-9_.()]*[-A-Za-z0-9_()]$"))]
    pub resource_group: String,

    /// The cloud. Default: Public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<AzureCloudSpec>,
}

/// A cloud of Azure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AzureCloudSpec {
    /// The public one.
    Public,
    /// That of the government of the United States.
    UsGovernment,
    /// That of China.
    China,
}

/// OVH. The zone is known by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OvhSpec {
    /// Part of the world where the account is. Default: EU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<OvhEndpointSpec>,
}

/// A part of the world in which OVH has an API and accounts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OvhEndpointSpec {
    /// Europe (`ovh-eu`).
    #[serde(rename = "EU")]
    Eu,
    /// Canada, Asia and the Pacific (`ovh-ca`).
    #[serde(rename = "CA")]
    Ca,
    /// The United States (`ovh-us`).
    #[serde(rename = "US")]
    Us,
}

/// A Secret of the same namespace, of type `mailfailover.io/dns-api`. Its key is `token`, with the provider's token or the
/// `api-key` of a PowerDNS; for Route 53 `access-key-id` and `secret-access-key`, and `session-token` where there is one; for
/// Google `service-account.json`, the key file of a service account; for Azure `client-id` and `client-secret`; for OVH
/// `application-key`, `application-secret` and `consumer-key`. The operator reads it by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsApiSecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}
