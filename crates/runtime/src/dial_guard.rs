//! Guard on every address that this process connects to because somebody else named it.
//!
//! Pure. It is asked after the name was resolved, each time anew, so that a name that changes its
//! addresses between two look-ups (DNS rebinding) meets the same rules.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use clap::Args;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks that nobody has to name to be refused.
// Metadata services hand out credentials of the machine. Of the link-local ones the network is the rule.
const NEVER: [(IpNet, DialRule); 15] = [
    (v4([0, 0, 0, 0], 8), DialRule::Unspecified),
    (v4([127, 0, 0, 0], 8), DialRule::Loopback),
    (v4([169, 254, 0, 0], 16), DialRule::LinkLocal),
    // Alibaba Cloud, Oracle Cloud, Azure.
    (v4([100, 100, 100, 200], 32), DialRule::Metadata),
    (v4([192, 0, 0, 192], 32), DialRule::Metadata),
    (v4([168, 63, 129, 16], 32), DialRule::Metadata),
    (v4([224, 0, 0, 0], 4), DialRule::Multicast),
    (v4([240, 0, 0, 0], 4), DialRule::Reserved),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), DialRule::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), DialRule::Loopback),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), DialRule::LinkLocal),
    // AWS, Google Cloud, Scaleway.
    (v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0], 32), DialRule::Metadata),
    (v6([0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254], 128), DialRule::Metadata),
    (v6([0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042], 128), DialRule::Metadata),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), DialRule::Multicast),
];

/// Ports at which mail servers take mail: relay, submission, and what providers add to these.
const MAIL_PORTS: &str = "25,465,587,588,2465,2525,2587";

/// The flag that names them.
const MAIL_PORTS_FLAG: &str = "--allow-ports";

/// Port of HTTPS, where webhooks are received.
const WEBHOOK_PORTS: &str = "443";

/// Port of DNS, where servers take updates and answer for a zone.
const DNS_PORTS: &str = "53";

const fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(segments: [u16; 8], prefix: u8) -> IpNet {
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = segments;
    let address = Ipv6Addr::new(first, second, third, fourth, fifth, sixth, seventh, eighth);
    IpNet::V6(Ipv6Net::new_assert(address, prefix))
}

/// Settings of the guard, as flags of the command line.
// ADR-0105: Nothing of ours connects to where only our own place in the network leads.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct DialGuard {
    /// Networks that no host of a spec may lead to, comma-separated: those of pods, Services and nodes. Loopback,
    /// link-local, metadata, multicast and reserved addresses are never connected to, named here or not.
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    pub deny_destinations: Vec<Network>,

    /// Networks that a host of a spec may lead to all the same, comma-separated. One that is never connected to has to
    /// be named itself, or a part of it: 0.0.0.0/0 does not allow 127.0.0.1.
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    pub allow_destinations: Vec<Network>,

    /// Ports that a host of a spec may be connected to at, comma-separated, with ranges.
    #[arg(long, value_name = "PORT,…", value_delimiter = ',', default_value = MAIL_PORTS)]
    pub allow_ports: Vec<PortRange>,

    /// The flag that allows more ports, for the text of a refusal.
    #[arg(skip = MAIL_PORTS_FLAG)]
    pub ports_flag: &'static str,
}

/// Ports of calls that are no mail, as flags of the command line of who makes such calls.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct CallPorts {
    /// Ports at which the receiver of a webhook may be connected to, comma-separated, with ranges.
    #[arg(long, value_name = "PORT,…", value_delimiter = ',', default_value = WEBHOOK_PORTS)]
    pub allow_webhook_ports: Vec<PortRange>,

    /// Ports at which a DNS server that an output names may be connected to, comma-separated, with ranges.
    #[arg(long, value_name = "PORT,…", value_delimiter = ',', default_value = DNS_PORTS)]
    pub allow_dns_ports: Vec<PortRange>,
}

impl Default for DialGuard {
    fn default() -> Self {
        let ports = MAIL_PORTS.split(',').filter_map(|port| port.parse().ok());
        Self {
            deny_destinations: vec![],
            allow_destinations: vec![],
            allow_ports: ports.collect(),
            ports_flag: MAIL_PORTS_FLAG,
        }
    }
}

impl Default for CallPorts {
    fn default() -> Self {
        Self {
            allow_webhook_ports: WEBHOOK_PORTS.parse().into_iter().collect(),
            allow_dns_ports: DNS_PORTS.parse().into_iter().collect(),
        }
    }
}

/// Origin of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialOrigin {
    /// A host that somebody wrote into a spec, or that a name in it resolves to: of a backend, a webhook, a DNS server.
    Spec,
    /// An endpoint of a Service, as the API server shows it.
    Cluster,
}

impl DialGuard {
    /// Checks an address before it is connected to, or before others are led to it.
    ///
    /// # Errors
    /// The address is refused.
    pub fn check(&self, address: SocketAddr, origin: DialOrigin) -> Result<(), DialRefusal> {
        for form in forms(address.ip()) {
            if let Some((rule, network)) = self.refused(form, origin) {
                return Err(DialRefusal { address, form, rule, network: Some(network), ports: vec![], flag: "" });
            }
        }
        let is_allowed = |range: &PortRange| range.contains(address.port());
        if origin == DialOrigin::Cluster || self.allow_ports.iter().any(is_allowed) {
            return Ok(());
        }
        let (form, ports, flag) = (address.ip(), self.allow_ports.clone(), self.ports_flag);
        Err(DialRefusal { address, form, rule: DialRule::Port, network: None, ports, flag })
    }

    fn refused(&self, address: IpAddr, origin: DialOrigin) -> Option<(DialRule, IpNet)> {
        let mut allowed = self.allow_destinations.iter().filter(|allowed| allowed.0.contains(&address));
        if let Some((never, rule)) = NEVER.iter().find(|(never, _)| never.contains(&address)) {
            let is_named = allowed.any(|allowed| never.contains(&allowed.0));
            return (!is_named).then_some((*rule, *never));
        }
        if origin == DialOrigin::Cluster || allowed.next().is_some() {
            return None;
        }
        let denied = self.deny_destinations.iter().find(|denied| denied.0.contains(&address))?;
        Some((DialRule::Denied, denied.0))
    }

    /// The flags that say the same on another command line. Defaults are left out.
    pub fn arguments(&self) -> Vec<String> {
        let Self { deny_destinations, allow_destinations, allow_ports, ports_flag: _ } = self;
        let mut arguments = vec![];
        if !deny_destinations.is_empty() {
            arguments.push(format!("--deny-destinations={}", joined(deny_destinations)));
        }
        if !allow_destinations.is_empty() {
            arguments.push(format!("--allow-destinations={}", joined(allow_destinations)));
        }
        if *allow_ports != Self::default().allow_ports {
            arguments.push(format!("--allow-ports={}", joined(allow_ports)));
        }
        arguments
    }

    /// The guard of a process that connects to one port of one Service and to nothing else.
    #[must_use]
    pub fn of_service(&self, port: u16) -> Self {
        Self {
            deny_destinations: vec![],
            allow_destinations: self.allow_destinations.clone(),
            allow_ports: vec![PortRange { first: port, last: port }],
            ports_flag: MAIL_PORTS_FLAG,
        }
    }

    /// The guard of calls to receivers of webhooks.
    #[must_use]
    pub fn for_webhooks(&self, ports: &CallPorts) -> Self {
        let ports = ports.allow_webhook_ports.clone();
        Self { allow_ports: ports, ports_flag: "--allow-webhook-ports", ..self.clone() }
    }

    /// The guard of connections to DNS servers that an output names.
    #[must_use]
    pub fn for_dns(&self, ports: &CallPorts) -> Self {
        Self { allow_ports: ports.allow_dns_ports.clone(), ports_flag: "--allow-dns-ports", ..self.clone() }
    }
}

/// The addresses that a packet to this one may end at: itself, and the IPv4 address within an IPv6 one.
fn forms(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else { return vec![address] };
    match v6.segments() {
        // IPv4-mapped, and IPv4-compatible (RFC 4291 §2.5.5).
        [0, 0, 0, 0, 0, 0xffff, high, low] => vec![joined_v4(high, low).into()],
        [0, 0, 0, 0, 0, 0, high, low] if high > 0 => vec![address, joined_v4(high, low).into()],
        // IPv4-translated (RFC 2765 §2.1); NAT64 with the well-known prefix (RFC 6052 §2.1).
        [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, 0, _, _, _, high, low] => {
            vec![address, joined_v4(high, low).into()]
        }
        [0x64, 0xff9b, 1, ..] => [vec![address], within_local_nat64(v6)].concat(),
        // 6to4 (RFC 3056 §2).
        [0x2002, high, low, ..] => vec![address, joined_v4(high, low).into()],
        // Teredo: the server, and the client's address with its bits inverted (RFC 4380 §4).
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            vec![address, joined_v4(server_high, server_low).into(), joined_v4(!high, !low).into()]
        }
        _ => vec![address],
    }
}

/// The IPv4 addresses that an address with the NAT64 prefix of local use (RFC 8215) may stand for.
// Each network chooses how long its prefix is, and does not say so here.
fn within_local_nat64(address: Ipv6Addr) -> Vec<IpAddr> {
    // RFC 6052 §2.2: the octets under prefixes of 96, 48, 56 and 64 bits.
    const PLACES: [[usize; 4]; 4] = [[12, 13, 14, 15], [6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]];
    let octets = address.octets();
    let all = PLACES.map(|places| Ipv4Addr::from(places.map(|place| octets[place])));
    // Under another length than the network's most addresses are 0.x.x.x, or 255.x.x.x by the end of the prefix. No
    // connection leads there, so these must not refuse what the right one stands for.
    let mut possible: Vec<_> = all.into_iter().filter(|v4| (1..224).contains(&v4.octets()[0])).collect();
    if possible.is_empty() {
        possible = all.to_vec();
    }
    possible.into_iter().map(IpAddr::V4).collect()
}

/// The IPv4 address of two segments of an IPv6 one.
fn joined_v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

/// Rule that refuses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialRule {
    /// The host itself (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3).
    Loopback,
    /// The link, where metadata services of clouds are, too (RFC 3927, RFC 4291 §2.5.6).
    LinkLocal,
    /// A metadata service of a cloud at another address.
    Metadata,
    /// The unspecified address and its network, which lead to this host (RFC 1122 §3.2.1.3).
    Unspecified,
    /// A group of hosts (RFC 5771, RFC 4291 §2.7).
    Multicast,
    /// An address that no host has, the broadcast address included (RFC 1112 §4).
    Reserved,
    /// A network that the administrator denies.
    Denied,
    /// A port that is not allowed.
    Port,
}

impl DialRule {
    /// Every rule, in a fixed order.
    pub const ALL: [Self; 8] = [
        Self::Loopback,
        Self::LinkLocal,
        Self::Metadata,
        Self::Unspecified,
        Self::Multicast,
        Self::Reserved,
        Self::Denied,
        Self::Port,
    ];

    /// Name of the rule as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::Metadata => "metadata",
            Self::Unspecified => "unspecified",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Denied => "denied",
            Self::Port => "port",
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a metadata service of a cloud",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
            Self::Denied => "a denied address",
            Self::Port => "at another port",
        }
    }
}

/// Refusal of an address: the address, the rule, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DialRefusal {
    address: SocketAddr,
    /// The address that the rule is about: the refused one, or an IPv4 address within it.
    form: IpAddr,
    rule: DialRule,
    network: Option<IpNet>,
    /// The ports that are allowed, where the port is refused.
    ports: Vec<PortRange>,
    /// The flag that allows more of them.
    flag: &'static str,
}

impl DialRefusal {
    /// The refused address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The rule that refuses it.
    pub fn rule(&self) -> DialRule {
        self.rule
    }
}

impl Display for DialRefusal {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { address, form, rule, network, ports, flag } = self;
        match (rule, network) {
            (DialRule::Port, _) | (_, None) => {
                return write!(
                    out,
                    "{address} has none of the allowed ports ({}); name another port, or have it allowed ({flag})",
                    joined(ports)
                );
            }
            (DialRule::Denied, Some(network)) => {
                write!(out, "{} is in {network}, which --deny-destinations names", address.ip())?;
            }
            (_, Some(network)) => {
                write!(out, "{} ", address.ip())?;
                if *form != address.ip() && address.ip().to_canonical() != *form {
                    write!(out, "leads to {form}, ")?;
                } else {
                    write!(out, "is ")?;
                }
                write!(out, "{} ({network}), which is never connected to", rule.described())?;
            }
        }
        write!(out, "; name another host, or have it allowed (--allow-destinations)")
    }
}

fn joined(parts: &[impl Display]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A network in CIDR notation; an address alone is the network of this address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Display for Network {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Error of a text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use a network such as 10.0.0.0/8 or fd00::/8, or an address")]
pub struct InvalidNetwork;

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.into()));
        }
        text.parse::<IpNet>().map(|network| Self(network.trunc())).map_err(|_| InvalidNetwork)
    }
}

/// A port, or a range of ports with both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl Display for PortRange {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { first.fmt(out) } else { write!(out, "{first}-{last}") }
    }
}

/// Error of a text that is neither a port nor a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use a port such as 587, or a range such as 1024-65535")]
pub struct InvalidPorts;

impl FromStr for PortRange {
    type Err = InvalidPorts;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self {
            first: first.trim().parse().map_err(|_| InvalidPorts)?,
            last: last.trim().parse().map_err(|_| InvalidPorts)?,
        };
        if range.first == 0 || range.first > range.last { Err(InvalidPorts) } else { Ok(range) }
    }
}

#[cfg(test)]
#[path = "dial_guard_tests.rs"]
mod tests;
