//! The output `dns` of a route.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::DnsProvider;

/// Records in a zone that follow the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOutput {
    /// Apex of the zone, in lower case, without a dot at the end.
    pub zone: Arc<str>,
    /// Name by which `status.outputs` knows it: that of its MX records. Unique within the route.
    pub name: Arc<str>,
    /// Record sets for each backend of the route, in the route's order. Each has sets of the same names and types.
    pub backends: Vec<DnsBackendRecords>,
    /// Time for which caches may keep a record, in seconds.
    pub ttl: u32,
    /// Publisher of the records.
    pub provider: DnsProvider,
    /// Servers that have to answer with the records. If empty: those of the zone's NS records, and none with external-dns.
    pub authorities: Vec<DnsServer>,
    /// Time limit of one attempt, from the look-up of the server to the authorities' answers.
    pub timeout: Duration,
    /// True if a decision counts as applied only once every authority answers with its records.
    pub is_awaited: bool,
}

/// Record sets that lead to one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsBackendRecords {
    /// Name of the backend.
    pub backend: Arc<str>,
    /// Record sets, by name and type, each at most once.
    pub sets: Vec<DnsRecordSet>,
}

/// All records of one name and type (RFC 2181 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRecordSet {
    /// Owner's name, in lower case, without a dot at the end.
    pub name: Arc<str>,
    /// Type of the records.
    pub record_type: DnsRecordType,
    /// Data of the records, at least one, without repetition and in order.
    pub data: Vec<DnsData>,
}

/// Type of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE")]
pub enum DnsRecordType {
    /// An IPv4 address (RFC 1035 §3.4.1).
    A,
    /// An IPv6 address (RFC 3596).
    Aaaa,
    /// The canonical name (RFC 1035 §3.3.1).
    Cname,
    /// A mail exchanger (RFC 1035 §3.3.9).
    Mx,
    /// Text (RFC 1035 §3.3.14).
    Txt,
}

impl DnsRecordType {
    /// The name in zone files.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Data of a record. Names are in lower case, without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DnsData {
    /// Address of an A record.
    A(Ipv4Addr),
    /// Address of an AAAA record.
    Aaaa(Ipv6Addr),
    /// Target of a CNAME record.
    Cname(Arc<str>),
    /// Preference (the lower is tried first) and host of an MX record.
    Mx(u16, Arc<str>),
    /// Text of a TXT record, its strings joined.
    Txt(Arc<str>),
}

impl DnsData {
    /// Reads the data of a record of this type, other than MX, as people write it.
    ///
    /// # Errors
    /// [`InvalidDnsData`] for a text that is none.
    pub fn parse(record_type: DnsRecordType, text: &str) -> Result<Self, InvalidDnsData> {
        match record_type {
            DnsRecordType::A => text.parse().map(Self::A).map_err(|_| InvalidDnsData::Ipv4),
            DnsRecordType::Aaaa => text.parse().map(Self::Aaaa).map_err(|_| InvalidDnsData::Ipv6),
            DnsRecordType::Cname => dns_name(text).map(Self::Cname).ok_or(InvalidDnsData::Name),
            DnsRecordType::Mx => {
                let (preference, host) = text.split_once(' ').ok_or(InvalidDnsData::Mx)?;
                let preference = preference.parse().map_err(|_| InvalidDnsData::Mx)?;
                dns_name(host.trim()).map(|host| Self::Mx(preference, host)).ok_or(InvalidDnsData::Mx)
            }
            DnsRecordType::Txt => {
                let is_text = !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
                is_text.then(|| Self::Txt(text.into())).ok_or(InvalidDnsData::Text)
            }
        }
    }
}

impl fmt::Display for DnsData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(address) => address.fmt(f),
            Self::Aaaa(address) => address.fmt(f),
            Self::Cname(name) => f.write_str(name),
            Self::Mx(preference, host) => write!(f, "{preference} {host}"),
            Self::Txt(text) => write!(f, "{text:?}"),
        }
    }
}

/// Longest text of a TXT record, in bytes.
const MAX_TEXT: usize = 1024;

/// Error of a text that is no data of a record of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDnsData {
    /// No IPv4 address.
    #[error("it is no IPv4 address")]
    Ipv4,
    /// No IPv6 address.
    #[error("it is no IPv6 address")]
    Ipv6,
    /// No name of a host.
    #[error("it is no DNS name of letters, digits, hyphens, underscores and dots")]
    Name,
    /// No preference and host.
    #[error("it is no preference and host, such as `10 mx.example.com`")]
    Mx,
    /// No text.
    #[error("it is empty, longer than {MAX_TEXT} bytes, or has control characters")]
    Text,
}

/// A DNS name in lower case and without a dot at the end; `None` if the text is none (RFC 1035 §2.3.4, RFC 2181 §11).
pub fn dns_name(text: &str) -> Option<Arc<str>> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then(|| name.into())
}

/// Returns true if a name is the apex of a zone, or lies below it. Both are in lower case, without a dot at the end.
pub fn is_in_zone(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A DNS server: a name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsServer {
    /// Name, or address without brackets.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for DnsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Port of DNS.
pub const DNS_PORT: u16 = 53;

/// Error of a text that names no DNS server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use a name or an address, and a port unless it is 53: ns1.example.com, 192.0.2.53:5353, [2001:db8::53]:5353")]
pub struct InvalidDnsServer;

impl FromStr for DnsServer {
    type Err = InvalidDnsServer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: address.to_string().into(), port: DNS_PORT });
        }
        if let Some(bracketed) = text.strip_prefix('[') {
            let (address, port) = bracketed.split_once(']').ok_or(InvalidDnsServer)?;
            let address: Ipv6Addr = address.parse().map_err(|_| InvalidDnsServer)?;
            let port = port.strip_prefix(':').map_or(Ok(DNS_PORT), str::parse).map_err(|_| InvalidDnsServer)?;
            return Ok(Self { host: address.to_string().into(), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| InvalidDnsServer)?),
            None => (text, DNS_PORT),
        };
        let host = dns_name(host).filter(|_| port > 0).ok_or(InvalidDnsServer)?;
        Ok(Self { host, port })
    }
}

impl DnsOutput {
    /// The record sets that lead to a backend; `None` for one that is no backend of the route.
    pub fn sets_of(&self, backend: &str) -> Option<&[DnsRecordSet]> {
        self.backends.iter().find(|records| *records.backend == *backend).map(|records| records.sets.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_lower_case_and_of_bounded_labels() {
        assert_eq!(dns_name("Bounce.Shop.Example.").as_deref(), Some("bounce.shop.example"));
        assert_eq!(dns_name("_dmarc.shop.example").as_deref(), Some("_dmarc.shop.example"));
        let long = "a".repeat(64);
        for wrong in ["", ".", "a..b", "a b", "ü.example", "*.example", &long, &"abc.".repeat(70)] {
            assert_eq!(dns_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_is_in_a_zone_by_whole_labels() {
        for (name, zone, is_in) in [
            ("shop.example", "shop.example", true),
            ("bounce.shop.example", "shop.example", true),
            ("workshop.example", "shop.example", false),
            ("example", "shop.example", false),
        ] {
            assert_eq!(is_in_zone(name, zone), is_in, "{name} {zone}");
        }
    }

    #[test]
    fn servers_are_names_or_addresses_with_a_port() {
        for (text, expected) in [
            ("ns1.Example.com", "ns1.example.com:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
            ("[2001:db8::53]", "[2001:db8::53]:53"),
        ] {
            assert_eq!(text.parse::<DnsServer>().map(|server| server.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for wrong in ["", "ns1:", "ns1:0", "ns1:65536", "[2001:db8::53", "ns 1"] {
            assert_eq!(wrong.parse::<DnsServer>(), Err(InvalidDnsServer), "{wrong}");
        }
    }

    #[test]
    fn data_is_checked_by_its_type() {
        for (record_type, text, told) in [
            (DnsRecordType::A, "192.0.2.1", "192.0.2.1"),
            (DnsRecordType::Aaaa, "2001:DB8::1", "2001:db8::1"),
            (DnsRecordType::Cname, "U1.wl.Esp.Example.", "u1.wl.esp.example"),
            (DnsRecordType::Mx, "10 MX.Esp.example", "10 mx.esp.example"),
            (DnsRecordType::Txt, "v=spf1 -all", "\"v=spf1 -all\""),
        ] {
            assert_eq!(DnsData::parse(record_type, text).unwrap().to_string(), told);
        }
        for (record_type, text) in [
            (DnsRecordType::A, "2001:db8::1"),
            (DnsRecordType::Aaaa, "192.0.2.1"),
            (DnsRecordType::Cname, "a b"),
            (DnsRecordType::Mx, "mx.esp.example"),
            (DnsRecordType::Mx, "70000 mx.esp.example"),
            (DnsRecordType::Txt, ""),
            (DnsRecordType::Txt, "a\nb"),
        ] {
            assert!(DnsData::parse(record_type, text).is_err(), "{text}");
        }
    }
}
