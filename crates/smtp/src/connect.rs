//! Classification of failed connections: the backend's failures, and our own.
//!
//! A machine without a route for an address family, or without a free socket or port, knows nothing about the backend
//! and must not blame it. Such failures are `Inconclusive`.

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::tls::TlsFailure;
use mail_failover_core::model::EvidenceClass;

use crate::errno;

/// The class of a failed `connect(2)`, and its description for people.
#[expect(clippy::wildcard_enum_match_arm, reason = "non-exhaustive upstream; the rest is told by its number")]
pub fn classify_connect(error: &Error, address: SocketAddr) -> (EvidenceClass, String) {
    let what = match error.kind() {
        ErrorKind::NetworkUnreachable => "network unreachable",
        ErrorKind::HostUnreachable => "host unreachable",
        // The deadline of the runtime has no number.
        ErrorKind::TimedOut => return (EvidenceClass::NoAnswer, "no answer".to_owned()),
        _ => return classify_number(error),
    };
    // From a router (ICMP) they are evidence; from our own routing table they are none.
    if has_route(address) {
        return (EvidenceClass::ConnectionRefused, what.to_owned());
    }
    let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
    (EvidenceClass::Inconclusive, format!("{what}: no {family} route from here"))
}

fn classify_number(error: &Error) -> (EvidenceClass, String) {
    let class =
        error.raw_os_error().and_then(errno::of_number).map_or(EvidenceClass::Inconclusive, |known| known.class);
    let what = match (class, error.kind()) {
        (_, ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        (EvidenceClass::ConnectionLost, _) => "connection reset".to_owned(),
        (EvidenceClass::Inconclusive, _) => format!("cannot connect from here: {error}"),
        (_, _) => error.to_string(),
    };
    (class, what)
}

/// The class of a failed read or write on an established connection, and its description for people.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "non-exhaustive upstream; whatever else there is, is not the network's answer"
)]
pub fn classify_io(error: &Error) -> (EvidenceClass, String) {
    match error.kind() {
        ErrorKind::UnexpectedEof => (EvidenceClass::ConnectionLost, "connection closed".to_owned()),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::NotConnected => {
            (EvidenceClass::ConnectionLost, "connection reset".to_owned())
        }
        ErrorKind::TimedOut => (EvidenceClass::NoAnswer, "no answer".to_owned()),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            (EvidenceClass::ConnectionLost, format!("connection lost: {error}"))
        }
        // Only the TLS layer says so: an alert, or a record that cannot be decrypted.
        ErrorKind::InvalidData => (EvidenceClass::TlsFailed, TlsFailure::of(error, None).what),
        _ => (EvidenceClass::Inconclusive, error.to_string()),
    }
}

/// Returns true if our routing table leads to the address.
fn has_route(address: SocketAddr) -> bool {
    // Connecting a UDP socket looks the route up and sends nothing.
    let any: SocketAddr =
        if address.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use EvidenceClass::{ConnectionLost, ConnectionRefused, Inconclusive, NoAnswer};

    /// Linux error numbers (asm-generic/errno.h).
    const CONNECT: &[(i32, EvidenceClass)] = &[
        (111, ConnectionRefused), // ECONNREFUSED
        (113, ConnectionRefused), // EHOSTUNREACH, with a route: from the network
        (101, ConnectionRefused), // ENETUNREACH, with a route: from the network
        (104, ConnectionLost),    // ECONNRESET
        (110, NoAnswer),          // ETIMEDOUT
        (24, Inconclusive),       // EMFILE
        (23, Inconclusive),       // ENFILE
        (105, Inconclusive),      // ENOBUFS
        (12, Inconclusive),       // ENOMEM
        (99, Inconclusive),       // EADDRNOTAVAIL
        (97, Inconclusive),       // EAFNOSUPPORT
        (100, Inconclusive),      // ENETDOWN
        (1, Inconclusive),        // EPERM
        (13, Inconclusive),       // EACCES
        (22, Inconclusive),       // EINVAL
    ];

    #[test]
    fn only_what_the_network_says_is_evidence() {
        let routed: SocketAddr = "127.0.0.1:25".parse().unwrap();
        for (number, class) in CONNECT {
            let error = Error::from_raw_os_error(*number);
            assert_eq!(classify_connect(&error, routed).0, *class, "{error}");
        }
    }

    #[test]
    fn without_a_route_of_our_own_an_unreachable_network_is_no_evidence() {
        // Class E and a documentation prefix: the first is refused by the kernel; the second has no route unless there
        // is a default one.
        for address in ["255.255.255.254:25", "[2001:db8::1]:25"] {
            let address: SocketAddr = address.parse().unwrap();
            if !has_route(address) {
                let (class, what) = classify_connect(&Error::from_raw_os_error(101), address);
                assert_eq!(class, Inconclusive);
                assert!(what.contains(if address.is_ipv6() { "no IPv6 route" } else { "no IPv4 route" }), "{what}");
            }
        }
        assert!(has_route("127.0.0.1:25".parse().unwrap()));
    }

    #[test]
    fn a_connection_that_breaks_is_lost() {
        for (number, class) in [(104, ConnectionLost), (32, ConnectionLost), (110, NoAnswer), (113, ConnectionLost)] {
            assert_eq!(classify_io(&Error::from_raw_os_error(number)).0, class);
        }
    }
}
