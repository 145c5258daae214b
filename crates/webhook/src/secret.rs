//! The Secret of a webhook: keys that sign, and values for headers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Type of a Kubernetes Secret for webhooks. No other Secret is used.
// ADR-0136: A webhook's Secret has a type of its own.
pub const SECRET_TYPE: &str = "mailfailover.io/webhook";
/// Key of the Secret that holds the signing secret.
pub const SIGNING_SECRET: &str = "signing-secret";
/// Key of the Secret that holds the signing secret before a rotation.
pub const PREVIOUS_SIGNING_SECRET: &str = "previous-signing-secret";

/// Prefix of a signing secret (Standard Webhooks).
const PREFIX: &str = "whsec_";
/// Sizes of a signing secret that Standard Webhooks recommends, in bytes.
const SIGNING_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Largest size of any other value, in bytes.
const MAX_VALUE: usize = 4096;
/// Most keys that are taken from a Secret.
const MAX_KEYS: usize = 32;

/// Signing keys and further values of one Secret. Neither Debug nor Display shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret {
    keys: Arc<[SigningKey]>,
    values: Arc<BTreeMap<String, String>>,
}

/// A key of HMAC-SHA256.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SigningKey(pub(crate) Vec<u8>);

impl WebhookSecret {
    /// Takes the data of a Secret apart.
    ///
    /// # Errors
    /// [`SecretError`] names the type or the key that is wrong, and quotes no value.
    pub fn parse(type_: Option<&str>, data: BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        if type_ != Some(SECRET_TYPE) {
            return Err(SecretError::Type);
        }
        if data.len() > MAX_KEYS {
            return Err(SecretError::TooManyKeys);
        }
        let (mut current, mut previous, mut values) = (None, None, BTreeMap::new());
        for (key, bytes) in data {
            match key.as_str() {
                SIGNING_SECRET => current = Some(signing_key(SIGNING_SECRET, &bytes)?),
                PREVIOUS_SIGNING_SECRET => previous = Some(signing_key(PREVIOUS_SIGNING_SECRET, &bytes)?),
                _ => {
                    let value = value(&key, bytes)?;
                    values.insert(key, value);
                }
            }
        }
        let current = current.ok_or(SecretError::NoSigningSecret)?;
        Ok(Self { keys: std::iter::once(current).chain(previous).collect(), values: Arc::new(values) })
    }

    /// A Secret for a dry run of templates, with each of these keys.
    pub(crate) fn sample() -> Self {
        Self { keys: Arc::new([]), values: Arc::default() }
    }

    /// The keys that sign: the present one, then the one before.
    pub(crate) fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// The further values in clear text, by key.
    pub(crate) fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(hidden)")
    }
}

/// Defect of a Secret for webhooks. It names the key, and quotes nothing of its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The Secret is of another type.
    #[error("its type is not {SECRET_TYPE}; only a Secret of that type is sent to a webhook")]
    Type,
    /// The Secret has too many keys.
    #[error("it has more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// There is nothing to sign with.
    #[error("it has no key {SIGNING_SECRET}; put `{PREFIX}` and 24 to 64 random bytes in base64 there")]
    NoSigningSecret,
    /// A signing secret is no base64, or too short or long.
    #[error("key {0}: it is not `{PREFIX}` and 24 to 64 bytes in base64")]
    NoSigningKey(&'static str),
    /// Another value cannot stand in a header (RFC 9110 §5.5).
    #[error("key {0}: it is empty, longer than {MAX_VALUE} bytes, or holds other characters than printable ASCII")]
    NoHeaderValue(String),
}

fn signing_key(key: &'static str, bytes: &[u8]) -> Result<SigningKey, SecretError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NoSigningKey(key))?.trim();
    let text = text.strip_prefix(PREFIX).unwrap_or(text).trim_end_matches('=');
    let decoded = STANDARD_NO_PAD.decode(text).map_err(|_| SecretError::NoSigningKey(key))?;
    if SIGNING_BYTES.contains(&decoded.len()) { Ok(SigningKey(decoded)) } else { Err(SecretError::NoSigningKey(key)) }
}

fn value(key: &str, bytes: Vec<u8>) -> Result<String, SecretError> {
    let text = String::from_utf8(bytes).map_err(|_| SecretError::NoHeaderValue(key.to_owned()))?;
    // Editors add a line feed at the end.
    let text = text.trim_end_matches(['\r', '\n']);
    let is_usable = !text.is_empty() && text.len() <= MAX_VALUE && text.chars().all(is_header_character);
    if is_usable { Ok(text.to_owned()) } else { Err(SecretError::NoHeaderValue(key.to_owned())) }
}

/// Returns true for a character that a header's value may hold (RFC 9110 §5.5): visible ASCII, space and tab.
pub(crate) fn is_header_character(character: char) -> bool {
    matches!(character, ' '..='~' | '\t')
}

/// A signing secret as a Secret holds it.
pub fn signing_secret_text(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(pairs: &[(&str, &str)]) -> Result<WebhookSecret, SecretError> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        WebhookSecret::parse(Some(SECRET_TYPE), data.collect())
    }

    #[test]
    fn a_secret_has_one_or_two_keys_that_sign_and_values_for_headers() {
        let present = signing_secret_text(&[7; 24]);
        let before = signing_secret_text(&[8; 64]);
        let secret = parsed(&[
            ("signing-secret", &present),
            ("previous-signing-secret", before.trim_end_matches('=')),
            ("api-token", "s3cret\n"),
        ])
        .unwrap();
        assert_eq!(secret.keys().iter().map(|key| key.0.len()).collect::<Vec<_>>(), [24, 64]);
        assert_eq!(secret.values().get("api-token").map(String::as_str), Some("s3cret"));
        assert_eq!(format!("{secret:?}"), "WebhookSecret(hidden)");
        assert_eq!(parsed(&[("signing-secret", &present)]).unwrap().keys().len(), 1);
    }

    #[test]
    fn what_is_wrong_with_a_secret_names_the_key_and_quotes_nothing() {
        let good = signing_secret_text(&[7; 32]);
        let short = signing_secret_text(&[7; 23]);
        let long = signing_secret_text(&[7; 65]);
        for (pairs, wrong) in [
            (vec![], "it has no key signing-secret"),
            (vec![("signing-secret", "hunter2!")], "key signing-secret:"),
            (vec![("signing-secret", short.as_str())], "key signing-secret:"),
            (vec![("signing-secret", long.as_str())], "key signing-secret:"),
            (vec![("signing-secret", &good), ("previous-signing-secret", "hunter2!")], "key previous-signing-secret:"),
            (vec![("signing-secret", &good), ("token", "hunter2\r\nX: y")], "key token:"),
            (vec![("signing-secret", &good), ("token", "")], "key token:"),
            (vec![("signing-secret", &good), ("token", "hünter2")], "key token:"),
        ] {
            let error = parsed(&pairs).unwrap_err().to_string();
            assert!(error.starts_with(wrong) && !error.contains("hunter2"), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn a_secret_of_another_type_is_not_used() {
        let data = || [(SIGNING_SECRET.to_owned(), signing_secret_text(&[7; 32]).into_bytes())].into();
        for type_ in [None, Some("Opaque"), Some("kubernetes.io/basic-auth")] {
            assert_eq!(WebhookSecret::parse(type_, data()), Err(SecretError::Type), "{type_:?}");
        }
    }
}
