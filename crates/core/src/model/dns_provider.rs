//! Publishers of the records of an output `dns`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{CaSource, DnsServer};

/// Way by which the records of an output get into their zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsProvider {
    /// Servers that take dynamic updates (RFC 2136).
    Rfc2136(DnsUpdates),
    /// external-dns, by an object that it follows.
    ExternalDns(DnsEndpointObject),
    /// The HTTP API of a provider.
    Api(DnsApi),
}

/// The HTTP API of a DNS provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsApi {
    /// The provider.
    pub service: DnsService,
    /// Name of the Secret with the credentials, in the route's namespace.
    pub secret: Arc<str>,
    /// Object with the authorities that may have signed the certificate; the well-known ones if `None`.
    pub ca: Option<CaSource>,
}

/// A DNS provider, and its name for the zone where that is not the zone's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsService {
    /// A `PowerDNS` Authoritative Server.
    PowerDns {
        /// Place of the API: `https://…`, or `http://…`.
        url: Arc<str>,
        /// Id of the server within the API.
        server: Arc<str>,
    },
    /// Amazon Route 53.
    Route53 {
        /// Id of the hosted zone.
        zone_id: Arc<str>,
        /// Place of the API; that of AWS' ordinary regions if `None`.
        url: Option<Arc<str>>,
    },
    /// Cloudflare.
    Cloudflare {
        /// Id of the zone.
        zone_id: Arc<str>,
    },
    /// `DigitalOcean`.
    DigitalOcean,
    /// `deSEC`.
    DeSec,
    /// Hetzner: the zones of its Cloud API.
    Hetzner,
    /// Google Cloud DNS.
    Google {
        /// Id of the project that has the zone.
        project: Arc<str>,
        /// Name of the managed zone.
        zone: Arc<str>,
        /// Place of the API; the public one if `None`.
        url: Option<Arc<str>>,
    },
    /// Azure DNS.
    Azure {
        /// The cloud.
        cloud: AzureCloud,
        /// Directory (tenant) that the application is registered in.
        tenant: Arc<str>,
        /// Id of the subscription that has the zone.
        subscription: Arc<str>,
        /// Resource group of the zone.
        resource_group: Arc<str>,
    },
    /// OVH.
    Ovh(OvhEndpoint),
}

/// A cloud of Azure, with an API and a place for tokens of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AzureCloud {
    /// The public one.
    Public,
    /// That of the government of the United States.
    UsGovernment,
    /// That of China.
    China,
}

impl AzureCloud {
    /// Place of the API.
    pub fn url(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com",
            Self::UsGovernment => "https://management.usgovcloudapi.net",
            Self::China => "https://management.chinacloudapi.cn",
        }
    }

    /// Place where tokens are given.
    pub fn login_url(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::UsGovernment => "https://login.microsoftonline.us",
            Self::China => "https://login.chinacloudapi.cn",
        }
    }
}

/// A part of the world in which OVH has an API and accounts of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OvhEndpoint {
    /// Europe (`ovh-eu`).
    Eu,
    /// Canada, Asia and the Pacific (`ovh-ca`).
    Ca,
    /// The United States (`ovh-us`).
    Us,
}

impl OvhEndpoint {
    /// Place of the API.
    pub fn url(self) -> &'static str {
        match self {
            Self::Eu => "https://eu.api.ovh.com",
            Self::Ca => "https://ca.api.ovh.com",
            Self::Us => "https://api.us.ovhcloud.com",
        }
    }
}

impl DnsService {
    /// Place of the API.
    pub fn url(&self) -> &str {
        match self {
            Self::PowerDns { url, .. } => url,
            Self::Route53 { url, .. } => url.as_deref().unwrap_or("https://route53.amazonaws.com"),
            Self::Cloudflare { .. } => "https://api.cloudflare.com",
            Self::DigitalOcean => "https://api.digitalocean.com",
            Self::DeSec => "https://desec.io",
            Self::Hetzner => "https://api.hetzner.cloud",
            Self::Google { url, .. } => url.as_deref().unwrap_or("https://dns.googleapis.com"),
            Self::Azure { cloud, .. } => cloud.url(),
            Self::Ovh(endpoint) => endpoint.url(),
        }
    }
}

/// Dynamic updates, signed by TSIG (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsUpdates {
    /// Servers that take updates; the first that answers is asked.
    pub servers: Vec<DnsServer>,
    /// Name of the Secret with the TSIG key, in the route's namespace.
    pub secret: Arc<str>,
}

/// A `DNSEndpoint` of external-dns in the route's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsEndpointObject {
    /// Name of the object.
    pub name: Arc<str>,
    /// Labels of the object beside the operator's own, for external-dns' filters.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the object beside the operator's own, for external-dns' filters.
    pub annotations: BTreeMap<String, String>,
    /// True if the object goes with the route; it stays otherwise.
    pub goes_with_route: bool,
}
