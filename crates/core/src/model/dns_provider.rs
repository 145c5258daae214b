//! Who publishes the records of an output `dns`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::DnsServer;

/// Way by which the records of an output get into their zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsProvider {
    /// Servers that take dynamic updates (RFC 2136).
    Rfc2136(DnsUpdates),
    /// external-dns, by an object that it follows.
    ExternalDns(DnsEndpointObject),
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
