//! Who publishes the records of an output `dns`.

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
