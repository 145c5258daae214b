//! The key that signs updates (TSIG, RFC 8945), from its Secret.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::TSigner;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;

use super::record::wire_name;
use mail_failover_core::model::dns_name;

/// Type of a Kubernetes Secret for DNS updates. No other Secret is used.
// ADR-0136: A webhook's Secret has a type of its own.
pub const SECRET_TYPE: &str = "mailfailover.io/tsig";
/// Key of the Secret that holds the name of the TSIG key.
pub const KEY_NAME: &str = "name";
/// Key of the Secret that holds the TSIG key in base64.
pub const KEY_SECRET: &str = "secret";
/// Key of the Secret that holds the algorithm.
pub const KEY_ALGORITHM: &str = "algorithm";

/// Difference between the clocks of client and server that a signature allows, in seconds (RFC 8945 §10).
pub const FUDGE: u16 = 300;
/// Sizes of a key, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=512;

/// A key that signs. Neither Debug nor Display shows it.
#[derive(Clone)]
pub struct TsigKey(TSigner);

impl TsigKey {
    /// Takes the data of a Secret apart.
    ///
    /// # Errors
    /// [`TsigSecretError`] names the type or the key that is wrong, and quotes no secret.
    pub fn parse(type_: Option<&str>, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, TsigSecretError> {
        if type_ != Some(SECRET_TYPE) {
            return Err(TsigSecretError::Type);
        }
        let text = |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::trim);
        let name = text(KEY_NAME).and_then(dns_name).ok_or(TsigSecretError::Name)?;
        let algorithm = match text(KEY_ALGORITHM).map(str::to_ascii_lowercase).as_deref() {
            None | Some("hmac-sha256") => TsigAlgorithm::HmacSha256,
            Some("hmac-sha384") => TsigAlgorithm::HmacSha384,
            Some("hmac-sha512") => TsigAlgorithm::HmacSha512,
            Some(_) => return Err(TsigSecretError::Algorithm),
        };
        let key = text(KEY_SECRET).and_then(|secret| STANDARD.decode(secret).ok());
        let key = key.filter(|key| KEY_BYTES.contains(&key.len())).ok_or(TsigSecretError::Secret)?;
        let name = wire_name(&name).map_err(|_| TsigSecretError::Name)?;
        TSigner::new(key, algorithm, name, FUDGE).map(Self).map_err(|_| TsigSecretError::Algorithm)
    }

    /// Name of the key.
    pub fn name(&self) -> String {
        super::record::name_text(self.0.signer_name())
    }

    pub(crate) fn signer(&self) -> &TSigner {
        &self.0
    }
}

impl PartialEq for TsigKey {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.0, &other.0);
        one.signer_name() == other.signer_name()
            && one.algorithm() == other.algorithm()
            && one.key() == other.key()
            && one.fudge() == other.fudge()
    }
}

impl Eq for TsigKey {}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TsigKey(hidden)")
    }
}

/// Defect of a Secret for DNS updates. It names the key, and quotes nothing of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TsigSecretError {
    /// The Secret is of another type.
    #[error("its type is not {SECRET_TYPE}; only a Secret of that type signs DNS updates")]
    Type,
    /// There is no name.
    #[error("key {KEY_NAME}: it is missing, or no DNS name; it is the name of the TSIG key that the server knows")]
    Name,
    /// There is no key.
    #[error("key {KEY_SECRET}: it is missing, or not 16 to 512 bytes in base64, as `tsig-keygen` prints them")]
    Secret,
    /// The algorithm is not supported.
    #[error("key {KEY_ALGORITHM}: it is none of hmac-sha256, hmac-sha384 and hmac-sha512")]
    Algorithm,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn key(secret: &[u8]) -> TsigKey {
        parsed(&[("name", "Mail-Failover."), ("secret", &STANDARD.encode(secret))]).unwrap()
    }

    fn parsed(pairs: &[(&str, &str)]) -> Result<TsigKey, TsigSecretError> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        TsigKey::parse(Some(SECRET_TYPE), &data)
    }

    #[test]
    fn a_secret_has_a_name_and_a_key_and_shows_neither_in_debug() {
        let secret = STANDARD.encode([7; 32]);
        let key =
            parsed(&[("name", "mail-failover"), ("secret", &format!("{secret}\n")), ("algorithm", "HMAC-SHA512")]);
        let key = key.unwrap();
        assert_eq!((key.name().as_str(), format!("{key:?}").as_str()), ("mail-failover", "TsigKey(hidden)"));
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_named_and_nothing_quoted() {
        let good = STANDARD.encode([7; 32]);
        let short = STANDARD.encode([7; 15]);
        for (pairs, error) in [
            (vec![("secret", good.as_str())], TsigSecretError::Name),
            (vec![("name", "a b"), ("secret", &good)], TsigSecretError::Name),
            (vec![("name", "a")], TsigSecretError::Secret),
            (vec![("name", "a"), ("secret", "hunter2!")], TsigSecretError::Secret),
            (vec![("name", "a"), ("secret", &short)], TsigSecretError::Secret),
            (vec![("name", "a"), ("secret", &good), ("algorithm", "hmac-md5")], TsigSecretError::Algorithm),
        ] {
            assert_eq!(parsed(&pairs), Err(error), "{pairs:?}");
            assert!(!error.to_string().contains("hunter2"));
        }
        for type_ in [None, Some("Opaque"), Some("mailfailover.io/webhook")] {
            assert_eq!(TsigKey::parse(type_, &BTreeMap::new()), Err(TsigSecretError::Type));
        }
    }
}
