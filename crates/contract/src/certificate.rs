//! The certificate of a replica that takes reports, as far as both sides of the contract have to agree on it.

use std::fmt::Write as _;

/// Name of the server in the certificate; nobody verifies it.
pub const SERVER_NAME: &str = "mail-failover-operator";

/// SHA-256 of a certificate in DER, in lower-case hexadecimal digits.
pub fn fingerprint(certificate: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
