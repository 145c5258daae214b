//! A TLS client hello that offers everything that mail servers are known to speak, and the server's answer to it.
//!
//! rustls speaks TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, and nothing older. A server without
//! any of that ends the handshake with an alert that does not say what it does speak. This hello finds out: it is sent
//! on a connection of its own, and the handshake ends after the server's answer. Nothing secret is ever sent on it.
//!
//! Pure: bytes in, bytes out.

/// Octets of a record's header (RFC 8446 §5.1).
pub(super) const HEADER: usize = 5;
/// Most octets of a record's content (RFC 5246 §6.2.3).
const MAX_RECORD: usize = 16 * 1024 + 2048;
/// An alert that ends the handshake: fatal, `user_canceled` (RFC 8446 §6).
pub(super) const FAREWELL: [u8; 7] = [21, 3, 1, 0, 2, 2, 90];

/// The versions, the newest first.
const VERSIONS: [u16; 4] = [0x0304, 0x0303, 0x0302, 0x0301];
/// The cipher suites with their names in IANA's registry, without `TLS_`. The strongest come first:
/// those of TLS 1.3, those with forward secrecy, with RSA key exchange, and what is broken.
const SUITES: [(u16, &str); 63] = [
    (0x1301, "AES_128_GCM_SHA256"),
    (0x1302, "AES_256_GCM_SHA384"),
    (0x1303, "CHACHA20_POLY1305_SHA256"),
    (0x1304, "AES_128_CCM_SHA256"),
    (0x1305, "AES_128_CCM_8_SHA256"),
    (0xc02c, "ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    (0xc030, "ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0xc02b, "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    (0xc02f, "ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xcca9, "ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xcca8, "ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0x009f, "DHE_RSA_WITH_AES_256_GCM_SHA384"),
    (0x009e, "DHE_RSA_WITH_AES_128_GCM_SHA256"),
    (0xccaa, "DHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    (0xc09f, "DHE_RSA_WITH_AES_256_CCM"),
    (0xc09e, "DHE_RSA_WITH_AES_128_CCM"),
    (0xc0ad, "ECDHE_ECDSA_WITH_AES_256_CCM"),
    (0xc0ac, "ECDHE_ECDSA_WITH_AES_128_CCM"),
    (0x00a3, "DHE_DSS_WITH_AES_256_GCM_SHA384"),
    (0x00a2, "DHE_DSS_WITH_AES_128_GCM_SHA256"),
    (0xc024, "ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"),
    (0xc028, "ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
    (0xc023, "ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"),
    (0xc027, "ECDHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0xc00a, "ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    (0xc014, "ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    (0xc009, "ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    (0xc013, "ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    (0x006b, "DHE_RSA_WITH_AES_256_CBC_SHA256"),
    (0x0067, "DHE_RSA_WITH_AES_128_CBC_SHA256"),
    (0x0039, "DHE_RSA_WITH_AES_256_CBC_SHA"),
    (0x0033, "DHE_RSA_WITH_AES_128_CBC_SHA"),
    (0x006a, "DHE_DSS_WITH_AES_256_CBC_SHA256"),
    (0x0040, "DHE_DSS_WITH_AES_128_CBC_SHA256"),
    (0x0038, "DHE_DSS_WITH_AES_256_CBC_SHA"),
    (0x0032, "DHE_DSS_WITH_AES_128_CBC_SHA"),
    (0xc073, "ECDHE_ECDSA_WITH_CAMELLIA_256_CBC_SHA384"),
    (0xc077, "ECDHE_RSA_WITH_CAMELLIA_256_CBC_SHA384"),
    (0x00c4, "DHE_RSA_WITH_CAMELLIA_256_CBC_SHA256"),
    (0x00be, "DHE_RSA_WITH_CAMELLIA_128_CBC_SHA256"),
    (0x0088, "DHE_RSA_WITH_CAMELLIA_256_CBC_SHA"),
    (0x0045, "DHE_RSA_WITH_CAMELLIA_128_CBC_SHA"),
    (0xc061, "ECDHE_RSA_WITH_ARIA_256_GCM_SHA384"),
    (0xc060, "ECDHE_RSA_WITH_ARIA_128_GCM_SHA256"),
    (0xc05d, "ECDHE_ECDSA_WITH_ARIA_256_GCM_SHA384"),
    (0xc05c, "ECDHE_ECDSA_WITH_ARIA_128_GCM_SHA256"),
    (0x009d, "RSA_WITH_AES_256_GCM_SHA384"),
    (0x009c, "RSA_WITH_AES_128_GCM_SHA256"),
    (0xc09d, "RSA_WITH_AES_256_CCM"),
    (0xc09c, "RSA_WITH_AES_128_CCM"),
    (0x003d, "RSA_WITH_AES_256_CBC_SHA256"),
    (0x003c, "RSA_WITH_AES_128_CBC_SHA256"),
    (0x0035, "RSA_WITH_AES_256_CBC_SHA"),
    (0x002f, "RSA_WITH_AES_128_CBC_SHA"),
    (0x0084, "RSA_WITH_CAMELLIA_256_CBC_SHA"),
    (0x0041, "RSA_WITH_CAMELLIA_128_CBC_SHA"),
    (0x0096, "RSA_WITH_SEED_CBC_SHA"),
    (0xc008, "ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA"),
    (0xc012, "ECDHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0x0016, "DHE_RSA_WITH_3DES_EDE_CBC_SHA"),
    (0x000a, "RSA_WITH_3DES_EDE_CBC_SHA"),
    (0x0005, "RSA_WITH_RC4_128_SHA"),
    (0x0004, "RSA_WITH_RC4_128_MD5"),
];
/// Suite that asks for secure renegotiation (RFC 5746 §3.3).
const RENEGOTIATION: u16 = 0x00ff;
/// X25519, P-256, X448, P-521, P-384, and ffdhe2048 to ffdhe4096.
const GROUPS: [u16; 8] = [0x001d, 0x0017, 0x001e, 0x0019, 0x0018, 0x0100, 0x0101, 0x0102];
/// ECDSA, `EdDSA`, RSA-PSS, RSA, and what is signed with SHA-1 or by DSS.
const SIGNATURES: [u16; 17] = [
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x0401, 0x0501, 0x0601, 0x0203,
    0x0201, 0x0402, 0x0202,
];

/// A server's answer to the hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloAnswer {
    /// The version and cipher suite that the server has chosen.
    Chosen {
        /// Version of the protocol, as on the wire.
        version: u16,
        /// Cipher suite, as on the wire.
        suite: u16,
    },
    /// The server refuses this hello as well.
    Refused,
}

/// The record with the hello. `server_name` is sent if it is a DNS name (RFC 6066 §3).
pub(super) fn wide_hello(server_name: Option<&str>) -> Vec<u8> {
    let mut extensions = vec![];
    if let Some(name) = server_name {
        let entry = [&[0][..], &vector16(name.as_bytes())].concat();
        extension(&mut extensions, 0, &vector16(&entry));
    }
    extension(&mut extensions, 10, &vector16(&words(&GROUPS)));
    extension(&mut extensions, 11, &[1, 0]);
    extension(&mut extensions, 13, &vector16(&words(&SIGNATURES)));
    extension(&mut extensions, 23, &[]);
    extension(&mut extensions, 43, &vector8(&words(&VERSIONS)));
    // Without a key a server of TLS 1.3 names the group that it wants, which is an answer, too (RFC 8446 §4.2.8).
    extension(&mut extensions, 51, &vector16(&[]));
    let suites = [words(&SUITES.map(|(suite, _)| suite)), words(&[RENEGOTIATION])].concat();
    // The random part protects nothing here: no handshake follows.
    let body = [&[3, 3][..], &[0x5a; 32], &vector8(&[]), &vector16(&suites), &vector8(&[0]), &vector16(&extensions)];
    let body = body.concat();
    let message = [&[1, 0][..], &vector16(&body)].concat();
    [&[22, 3, 1][..], &vector16(&message)].concat()
}

/// Number of octets that follow a record's header. `None` if it is no record of a handshake or an alert.
pub(super) fn content_length(header: [u8; HEADER]) -> Option<usize> {
    let [kind, major, _, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    (matches!(kind, 21 | 22) && major == 3 && length <= MAX_RECORD).then_some(length)
}

/// The answer in a record. `None` if it is neither a server hello nor an alert.
pub(super) fn answer(kind: u8, content: &[u8]) -> Option<HelloAnswer> {
    if kind == 21 {
        return Some(HelloAnswer::Refused);
    }
    // type, length, version, random, session id, suite, compression, extensions (RFC 5246 §7.4.1.3)
    let (&[2, _, _, _, major, minor], rest) = content.split_first_chunk::<6>()? else { return None };
    let (&session, rest) = rest.get(32..)?.split_first()?;
    let rest = rest.get(usize::from(session)..)?;
    let (&[high, low, _], rest) = rest.split_first_chunk::<3>()?;
    let version = selected_version(rest.get(2..).unwrap_or_default()).unwrap_or(u16::from_be_bytes([major, minor]));
    Some(HelloAnswer::Chosen { version, suite: u16::from_be_bytes([high, low]) })
}

/// The version that TLS 1.3 names in an extension (RFC 8446 §4.2.1).
fn selected_version(mut extensions: &[u8]) -> Option<u16> {
    while let Some((&[kind_high, kind_low, high, low], rest)) = extensions.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(..length)?;
        if (kind_high, kind_low) == (0, 43) {
            return Some(u16::from_be_bytes(value.try_into().ok()?));
        }
        extensions = rest.get(length..)?;
    }
    None
}

impl HelloAnswer {
    /// Returns true if rustls speaks what the server has chosen, with one of these suites.
    pub(super) fn is_spoken(self, suites: &[rustls::SupportedCipherSuite]) -> bool {
        match self {
            Self::Chosen { version, suite } => {
                version >= 0x0303 && suites.iter().any(|known| u16::from(known.suite()) == suite)
            }
            Self::Refused => false,
        }
    }
}

/// Name of a version: `TLS 1.2`.
pub(super) fn version_name(version: u16) -> String {
    match version {
        0x0300 => "SSL 3.0".to_owned(),
        0x0301 => "TLS 1.0".to_owned(),
        0x0302 => "TLS 1.1".to_owned(),
        0x0303 => "TLS 1.2".to_owned(),
        0x0304 => "TLS 1.3".to_owned(),
        _ => format!("a TLS of version {version:#06x}"),
    }
}

/// Name of a cipher suite: `RSA_WITH_AES_128_CBC_SHA`.
pub(super) fn suite_name(suite: u16) -> String {
    let known = SUITES.iter().find(|(known, _)| *known == suite);
    known.map_or_else(|| format!("cipher suite {suite:#06x}"), |(_, name)| (*name).to_owned())
}

fn extension(extensions: &mut Vec<u8>, kind: u16, value: &[u8]) {
    extensions.extend_from_slice(&kind.to_be_bytes());
    extensions.extend_from_slice(&vector16(value));
}

fn words(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// The bytes after their number in one octet.
fn vector8(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[length][..], bytes].concat()
}

/// The bytes after their number in two octets.
fn vector16(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A server hello's record content.
    fn server_hello(version: [u8; 2], suite: u16, session: &[u8], extensions: &[u8]) -> Vec<u8> {
        let body = [&version[..], &[7; 32], &vector8(session), &suite.to_be_bytes(), &[0], &vector16(extensions)];
        let body = body.concat();
        [&[2, 0][..], &vector16(&body)].concat()
    }

    #[test]
    fn the_hello_is_a_record_whose_lengths_agree() {
        for name in [None, Some("mx.example.com")] {
            let hello = wide_hello(name);
            let (header, content) = hello.split_first_chunk::<HEADER>().unwrap();
            assert_eq!(content_length(*header), Some(content.len()));
            let message = usize::from(u16::from_be_bytes([content[2], content[3]]));
            assert_eq!(content.len(), 4 + message);
            assert_eq!(name.is_some(), hello.windows(14).any(|part| part == b"mx.example.com"));
        }
    }

    #[test]
    fn rustls_takes_the_hello_for_one() {
        let authority = crate::testing::TestAuthority::new("ours");
        let mut server = rustls::ServerConnection::new(authority.server("mx.example.com", (2020, 1, 1), (2090, 1, 1)));
        let server = server.as_mut().unwrap();
        server.read_tls(&mut wide_hello(Some("mx.example.com")).as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut answered = vec![];
        server.write_tls(&mut answered).unwrap();
        let (header, content) = answered.split_first_chunk::<HEADER>().unwrap();
        let chosen = answer(header[0], &content[..content_length(*header).unwrap()]).unwrap();
        let HelloAnswer::Chosen { version: 0x0304, suite: 0x1301..=0x1303 } = chosen else { panic!("{chosen:?}") };
        assert!(chosen.is_spoken(&rustls::crypto::ring::default_provider().cipher_suites));
    }

    #[test]
    fn what_a_server_chooses_is_read_and_named() {
        let suites = rustls::crypto::ring::default_provider().cipher_suites;
        let selected = [0, 43, 0, 2, 3, 4];
        let cases = [
            (server_hello([3, 1], 0x002f, &[], &[]), "TLS 1.0", "RSA_WITH_AES_128_CBC_SHA", false),
            (server_hello([3, 3], 0xc028, &[9; 32], &[]), "TLS 1.2", "ECDHE_RSA_WITH_AES_256_CBC_SHA384", false),
            (
                server_hello([3, 3], 0xc030, &[], &[0xff, 1, 0, 1, 0]),
                "TLS 1.2",
                "ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                true,
            ),
            (server_hello([3, 1], 0xc030, &[], &[]), "TLS 1.0", "ECDHE_RSA_WITH_AES_256_GCM_SHA384", false),
            (server_hello([3, 3], 0x1301, &[], &selected), "TLS 1.3", "AES_128_GCM_SHA256", true),
            (server_hello([3, 0], 0xabcd, &[], &[]), "SSL 3.0", "cipher suite 0xabcd", false),
        ];
        for (content, version_is, suite_is, is_spoken) in cases {
            let chosen = answer(22, &content).unwrap();
            let HelloAnswer::Chosen { version, suite } = chosen else { panic!("{chosen:?}") };
            assert_eq!((&*version_name(version), &*suite_name(suite)), (version_is, suite_is));
            assert_eq!(chosen.is_spoken(&suites), is_spoken, "{version_is} {suite_is}");
        }
        assert_eq!(answer(21, &[2, 40]), Some(HelloAnswer::Refused));
        assert_eq!(answer(22, &[11, 0, 0, 0]), None);
        assert_eq!(content_length(*b"220 m"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(kind in any::<u8>(), content in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = answer(kind, &content);
            let _ = answer(22, &[&[2, 0, 0, 60, 3, 3], content.as_slice()].concat());
        }
    }
}
