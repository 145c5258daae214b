//! The credentials of a provider's API, from their Secret.

use std::collections::BTreeMap;
use std::fmt;

/// Type of a Kubernetes Secret for the API of a DNS provider. No other Secret is used.
// ADR-0136: A webhook's Secret has a type of its own.
pub const SECRET_TYPE: &str = "mailfailover.io/dns-api";
/// Key of the Secret that holds a token, or the key of a `PowerDNS`.
pub(super) const KEY_TOKEN: &str = "token";
/// Keys of the Secret that hold an access key of AWS.
pub(super) const KEY_ACCESS_ID: &str = "access-key-id";
pub(super) const KEY_ACCESS_SECRET: &str = "secret-access-key";
/// Key of the Secret that holds the token of a session of AWS.
const KEY_SESSION: &str = "session-token";

/// Longest credential, in bytes.
const LONGEST: usize = 4096;

/// Credentials. Neither Debug nor Display shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct DnsApiSecret {
    token: Option<String>,
    access: Option<AccessKey>,
}

/// An access key of AWS.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AccessKey {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) session: Option<String>,
}

impl DnsApiSecret {
    /// Takes the data of a Secret apart.
    ///
    /// # Errors
    /// [`DnsApiSecretError`] names the type or the key that is wrong, and quotes no secret.
    pub fn parse(type_: Option<&str>, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, DnsApiSecretError> {
        if type_ != Some(SECRET_TYPE) {
            return Err(DnsApiSecretError::Type);
        }
        let token = value(data, KEY_TOKEN)?;
        let access = match (value(data, KEY_ACCESS_ID)?, value(data, KEY_ACCESS_SECRET)?) {
            (Some(id), Some(secret)) => Some(AccessKey { id, secret, session: value(data, KEY_SESSION)? }),
            (None, None) => None,
            (None, Some(_)) => return Err(DnsApiSecretError::Value(KEY_ACCESS_ID)),
            (Some(_), None) => return Err(DnsApiSecretError::Value(KEY_ACCESS_SECRET)),
        };
        if token.is_none() && access.is_none() {
            return Err(DnsApiSecretError::Empty);
        }
        Ok(Self { token, access })
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(super) fn access(&self) -> Option<&AccessKey> {
        self.access.as_ref()
    }
}

/// The text of a key; `None` if it is missing. It goes into a header, so that it has to be printable.
fn value(data: &BTreeMap<String, Vec<u8>>, key: &'static str) -> Result<Option<String>, DnsApiSecretError> {
    let Some(bytes) = data.get(key) else { return Ok(None) };
    let text = std::str::from_utf8(bytes).map_err(|_| DnsApiSecretError::Value(key))?.trim();
    let is_header = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_header { Ok(Some(text.to_owned())) } else { Err(DnsApiSecretError::Value(key)) }
}

impl fmt::Debug for DnsApiSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DnsApiSecret(hidden)")
    }
}

/// Defect of a Secret for the API of a DNS provider. It names the key, and quotes nothing of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsApiSecretError {
    /// The Secret is of another type.
    #[error("its type is not {SECRET_TYPE}; only a Secret of that type is shown to a DNS provider")]
    Type,
    /// It has no credentials.
    #[error("it has neither the key {KEY_TOKEN} nor the keys {KEY_ACCESS_ID} and {KEY_ACCESS_SECRET}")]
    Empty,
    /// A value cannot be used.
    #[error("key {0}: it is missing, empty, longer than {LONGEST} bytes, or has letters that no header may have")]
    Value(&'static str),
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn secret(pairs: &[(&str, &str)]) -> DnsApiSecret {
        parsed(pairs).unwrap()
    }

    fn parsed(pairs: &[(&str, &str)]) -> Result<DnsApiSecret, DnsApiSecretError> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        DnsApiSecret::parse(Some(SECRET_TYPE), &data)
    }

    #[test]
    fn a_secret_has_a_token_or_an_access_key_and_shows_neither() {
        let token = secret(&[("token", "hunter2\n")]);
        assert_eq!((token.token(), format!("{token:?}").as_str()), (Some("hunter2"), "DnsApiSecret(hidden)"));
        let key = secret(&[("access-key-id", "AKIA"), ("secret-access-key", "hunter2")]);
        assert!(key.access().is_some_and(|access| access.id == "AKIA" && access.session.is_none()));
        for (pairs, error) in [
            (vec![], DnsApiSecretError::Empty),
            (vec![("token", "")], DnsApiSecretError::Value("token")),
            (vec![("token", "two words")], DnsApiSecretError::Value("token")),
            (vec![("access-key-id", "AKIA")], DnsApiSecretError::Value("secret-access-key")),
            (vec![("secret-access-key", "hunter2")], DnsApiSecretError::Value("access-key-id")),
        ] {
            assert_eq!(parsed(&pairs), Err(error), "{pairs:?}");
            assert!(!error.to_string().contains("hunter2"));
        }
        for type_ in [None, Some("Opaque"), Some("mailfailover.io/tsig")] {
            assert_eq!(DnsApiSecret::parse(type_, &BTreeMap::new()), Err(DnsApiSecretError::Type));
        }
    }
}
