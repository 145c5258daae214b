//! Errors of connect(2) and of getaddrinfo(3), by number and by the words of glibc and musl: the backend's failures,
//! and our own.
//!
//! Probes meet the numbers. Postfix logs the words of the C library that it was built with.

use mail_failover_core::model::EvidenceClass;
use mail_failover_core::model::EvidenceClass::{
    ConnectionLost, ConnectionRefused, Inconclusive, NoAnswer, Unresolvable,
};

/// An error that connect(2) may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectErrno {
    /// Number on Linux (asm-generic/errno.h).
    pub number: i32,
    /// Class of the evidence, for one who cannot look at the routing table.
    pub class: EvidenceClass,
    /// Words of glibc.
    pub glibc: &'static str,
    /// Words of musl.
    pub musl: &'static str,
}

const fn errno(number: i32, class: EvidenceClass, glibc: &'static str, musl: &'static str) -> ConnectErrno {
    ConnectErrno { number, class, glibc, musl }
}

/// Every error that connect(2) and socket(2) are documented to give, and those that a network may cause.
pub const CONNECT: [ConnectErrno; 25] = [
    errno(111, ConnectionRefused, "Connection refused", "Connection refused"),
    // By ICMP, or by a neighbour that does not answer.
    errno(113, ConnectionRefused, "No route to host", "Host is unreachable"),
    errno(112, ConnectionRefused, "Host is down", "Host is down"),
    errno(110, NoAnswer, "Connection timed out", "Operation timed out"),
    errno(104, ConnectionLost, "Connection reset by peer", "Connection reset by peer"),
    errno(103, ConnectionLost, "Software caused connection abort", "Connection aborted"),
    errno(102, ConnectionLost, "Network dropped connection on reset", "Connection reset by network"),
    errno(32, ConnectionLost, "Broken pipe", "Broken pipe"),
    errno(107, ConnectionLost, "Transport endpoint is not connected", "Socket not connected"),
    // Mostly from our own routing table: a pod without IPv6.
    errno(101, Inconclusive, "Network is unreachable", "Network unreachable"),
    errno(100, Inconclusive, "Network is down", "Network is down"),
    errno(99, Inconclusive, "Cannot assign requested address", "Address not available"),
    errno(98, Inconclusive, "Address already in use", "Address in use"),
    errno(97, Inconclusive, "Address family not supported by protocol", "Address family not supported by protocol"),
    errno(93, Inconclusive, "Protocol not supported", "Protocol not supported"),
    errno(1, Inconclusive, "Operation not permitted", "Operation not permitted"),
    errno(13, Inconclusive, "Permission denied", "Permission denied"),
    errno(105, Inconclusive, "No buffer space available", "No buffer space available"),
    errno(12, Inconclusive, "Cannot allocate memory", "Out of memory"),
    errno(23, Inconclusive, "Too many open files in system", "Too many open files in system"),
    errno(24, Inconclusive, "Too many open files", "No file descriptors available"),
    errno(11, Inconclusive, "Resource temporarily unavailable", "Resource temporarily unavailable"),
    errno(22, Inconclusive, "Invalid argument", "Invalid argument"),
    errno(4, Inconclusive, "Interrupted system call", "Interrupted system call"),
    errno(5, Inconclusive, "Input/output error", "I/O error"),
];

/// Words of getaddrinfo(3) for a name that has no address: `EAI_NONAME`, `EAI_NODATA`,
/// `EAI_ADDRFAMILY`, of glibc and of musl. All its other errors are about the resolver.
const NO_ADDRESS: [&str; 5] = [
    "Name or service not known",
    "No address associated with hostname",
    "Address family for hostname not supported",
    "Name does not resolve",
    "Name has no usable address",
];

/// Returns the error with this number; `None` if connect(2) does not give it.
pub fn of_number(number: i32) -> Option<&'static ConnectErrno> {
    CONNECT.iter().find(|known| known.number == number)
}

/// Classifies the words of a failed connect(2). Words that no library here has are no evidence.
pub fn class_of_connect(words: &str) -> EvidenceClass {
    let known = CONNECT.iter().find(|known| known.glibc == words || known.musl == words);
    known.map_or(Inconclusive, |known| known.class)
}

/// Classifies the words of a failed getaddrinfo(3).
pub fn class_of_lookup(words: &str) -> EvidenceClass {
    if NO_ADDRESS.contains(&words) { Unresolvable } else { Inconclusive }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn the_words_are_those_of_the_library_here() {
        for known in CONNECT {
            let text = Error::from_raw_os_error(known.number).to_string();
            let words = text.split(" (os error").next().unwrap();
            assert!(words == known.glibc || words == known.musl, "{text}");
        }
    }

    #[test]
    fn no_words_have_two_meanings() {
        for known in CONNECT {
            for words in [known.glibc, known.musl] {
                assert_eq!(class_of_connect(words), known.class, "{words}");
            }
        }
        assert_eq!(class_of_connect("Value too large"), Inconclusive);
    }

    #[test]
    fn a_probe_and_a_log_agree_about_an_error() {
        let routed = "127.0.0.1:25".parse().unwrap();
        // A probe can look at the routing table.
        for known in CONNECT.iter().filter(|known| known.number != 101) {
            let (class, text) = crate::connect::classify_connect(&Error::from_raw_os_error(known.number), routed);
            assert_eq!(class, known.class, "{text}");
        }
    }

    #[test]
    fn only_a_name_without_an_address_is_evidence_of_a_lookup() {
        for (words, class) in [
            ("Name or service not known", Unresolvable),
            ("Name does not resolve", Unresolvable),
            ("No address associated with hostname", Unresolvable),
            ("Temporary failure in name resolution", Inconclusive),
            ("Try again", Inconclusive),
            ("System error", Inconclusive),
        ] {
            assert_eq!(class_of_lookup(words), class, "{words}");
        }
    }
}
