//! Endpoint for agents' reports in another replica's Lease: parsed and checked, because agents are told. No I/O.

use std::net::SocketAddr;

use mail_failover_contract::document::OperatorEndpoint;

/// Longest text of an endpoint, in bytes.
const MAX_BYTES: usize = 512;

/// Parses an endpoint; `None` if the text is none.
pub(super) fn parse(text: &str) -> Option<OperatorEndpoint> {
    let endpoint: OperatorEndpoint = serde_json::from_str(Some(text).filter(|text| text.len() <= MAX_BYTES)?).ok()?;
    let is_digest = endpoint.certificate_sha256.len() == 64
        && endpoint.certificate_sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let address = endpoint.address.parse::<SocketAddr>().ok()?;
    (is_digest && address.port() != 0).then_some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_with_a_digest_is_told_to_agents() {
        let digest = "0a".repeat(32);
        let text = |address: &str, digest: &str| format!(r#"{{"address":"{address}","certificateSha256":"{digest}"}}"#);
        for address in ["192.0.2.1:8443", "[2001:db8::1]:8443"] {
            let endpoint = parse(&text(address, &digest)).unwrap();
            assert_eq!((endpoint.address.as_str(), &endpoint.certificate_sha256), (address, &digest));
        }
        for wrong in [
            text("evil.example:8443", &digest),
            text("192.0.2.1", &digest),
            text("192.0.2.1:0", &digest),
            text("192.0.2.1:8443", &"0A".repeat(32)),
            text("192.0.2.1:8443", "0a"),
            format!("{}{}", " ".repeat(MAX_BYTES), text("192.0.2.1:8443", &digest)),
            "{}".to_owned(),
            String::new(),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }
}
