//! The Secret of a receiver.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mail_failover_core::model::ReceiverKind;
use mail_failover_webhook::secret::{
    PREVIOUS_SIGNING_SECRET, SECRET_TYPE as WEBHOOK_SECRET_TYPE, SIGNING_SECRET, SecretError, WebhookSecret,
};

/// Type of a Kubernetes Secret for notifications. No other Secret is used.
// ADR-0136: A webhook's Secret has a type of its own, and so has a receiver's.
pub const SECRET_TYPE: &str = "mailfailover.io/notification";
/// Key of the URL of a chat's webhook.
const URL: &str = "url";
/// Key of the routing key of `PagerDuty`.
const ROUTING_KEY: &str = "routing-key";
/// Key of the API key of Opsgenie.
const API_KEY: &str = "api-key";
/// Key of the token of a Telegram bot.
const BOT_TOKEN: &str = "bot-token";
/// Key of a bearer token.
const TOKEN: &str = "token";
/// Every key.
const KEYS: [&str; 5] = [URL, ROUTING_KEY, API_KEY, BOT_TOKEN, TOKEN];
/// Largest size of a value, in bytes.
const MAX_VALUE: usize = 4096;

/// Values of a receiver's Secret. Neither Debug nor Display shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct NotificationSecret {
    signer: Option<WebhookSecret>,
    values: Arc<BTreeMap<&'static str, String>>,
}

impl fmt::Debug for NotificationSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NotificationSecret(hidden)")
    }
}

/// Defect of a Secret for notifications. It names the key, and quotes nothing of its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotificationSecretError {
    /// The Secret is of another type.
    #[error("its type is not {SECRET_TYPE}; only a Secret of that type is sent to a receiver")]
    Type,
    /// A signing secret cannot be used.
    #[error(transparent)]
    Signer(#[from] SecretError),
    /// A value is missing that the receiver needs.
    #[error("it has no key {0}")]
    Missing(&'static str),
    /// A value cannot be sent.
    #[error(
        "key {0}: it is empty, longer than {MAX_VALUE} bytes, or holds other characters than printable ASCII without blanks"
    )]
    Unprintable(&'static str),
    /// The URL is none that is called.
    #[error("key {URL}: it must begin with https:// and name a host")]
    Url,
    /// The token would leave its place in a URL.
    #[error("key {BOT_TOKEN}: it is no token of a Telegram bot, as 123456:ABC-def")]
    BotToken,
}

impl NotificationSecret {
    /// Takes the data of a Secret apart.
    ///
    /// # Errors
    /// [`NotificationSecretError`] names the type or the key that is wrong, and quotes no value.
    pub fn parse(type_: Option<&str>, data: BTreeMap<String, Vec<u8>>) -> Result<Self, NotificationSecretError> {
        if type_ != Some(SECRET_TYPE) {
            return Err(NotificationSecretError::Type);
        }
        let (mut signing, mut values) = (BTreeMap::new(), BTreeMap::new());
        for (key, bytes) in data {
            if key == SIGNING_SECRET || key == PREVIOUS_SIGNING_SECRET {
                signing.insert(key, bytes);
            } else if let Some(key) = KEYS.into_iter().find(|known| *known == key) {
                values.insert(key, value(key, bytes)?);
            }
        }
        if values.get(URL).is_some_and(|url| !is_url(url)) {
            return Err(NotificationSecretError::Url);
        }
        if values.get(BOT_TOKEN).is_some_and(|token| !is_bot_token(token)) {
            return Err(NotificationSecretError::BotToken);
        }
        let signer = (!signing.is_empty()).then(|| WebhookSecret::parse(Some(WEBHOOK_SECRET_TYPE), signing));
        Ok(Self { signer: signer.transpose()?, values: Arc::new(values) })
    }

    /// Checks that the Secret has what a receiver needs.
    ///
    /// # Errors
    /// [`NotificationSecretError::Missing`] names the key.
    pub fn check(&self, kind: &ReceiverKind) -> Result<(), NotificationSecretError> {
        let key = match kind {
            ReceiverKind::Webhook { .. } if self.signer.is_none() => {
                return Err(NotificationSecretError::Missing(SIGNING_SECRET));
            }
            ReceiverKind::Webhook { .. } | ReceiverKind::Mail { .. } => return Ok(()),
            ReceiverKind::Slack | ReceiverKind::Teams | ReceiverKind::Discord | ReceiverKind::GoogleChat => URL,
            ReceiverKind::PagerDuty { .. } => ROUTING_KEY,
            ReceiverKind::Opsgenie { .. } => API_KEY,
            ReceiverKind::Telegram { .. } => BOT_TOKEN,
            ReceiverKind::Alertmanager { .. } => TOKEN,
        };
        if self.values.contains_key(key) { Ok(()) } else { Err(NotificationSecretError::Missing(key)) }
    }

    /// The keys that sign a webhook.
    pub(crate) fn signer(&self) -> Option<&WebhookSecret> {
        self.signer.as_ref()
    }

    pub(crate) fn url(&self) -> Option<&str> {
        self.value(URL)
    }

    pub(crate) fn routing_key(&self) -> Option<&str> {
        self.value(ROUTING_KEY)
    }

    pub(crate) fn api_key(&self) -> Option<&str> {
        self.value(API_KEY)
    }

    pub(crate) fn bot_token(&self) -> Option<&str> {
        self.value(BOT_TOKEN)
    }

    pub(crate) fn token(&self) -> Option<&str> {
        self.value(TOKEN)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
}

fn value(key: &'static str, bytes: Vec<u8>) -> Result<String, NotificationSecretError> {
    let text = String::from_utf8(bytes).map_err(|_| NotificationSecretError::Unprintable(key))?;
    // Editors add a line feed at the end.
    let text = text.trim_end_matches(['\r', '\n']);
    let is_usable = !text.is_empty() && text.len() <= MAX_VALUE && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_usable { Ok(text.to_owned()) } else { Err(NotificationSecretError::Unprintable(key)) }
}

fn is_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A user's name before the host could be taken for the host by people.
    !authority.is_empty() && !authority.contains(['@', '\\'])
}

fn is_bot_token(token: &str) -> bool {
    let Some((number, rest)) = token.split_once(':') else { return false };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && !rest.is_empty()
        && rest.bytes().all(is_word)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn secret(pairs: &[(&str, &str)]) -> Result<NotificationSecret, NotificationSecretError> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        NotificationSecret::parse(Some(SECRET_TYPE), data.collect())
    }
}

#[cfg(test)]
mod tests {
    use mail_failover_webhook::secret::signing_secret_text;

    use super::testing::secret;
    use super::*;

    #[test]
    fn each_kind_of_receiver_needs_its_key() {
        let url: Arc<str> = "https://a.example".into();
        let signing = signing_secret_text(&[7; 24]);
        for (kind, key, value) in [
            (ReceiverKind::Webhook { url: url.clone() }, "signing-secret", signing.as_str()),
            (ReceiverKind::Slack, "url", "https://hooks.slack.com/services/T/B/x\n"),
            (ReceiverKind::Teams, "url", "https://prod.logic.azure.com:443/workflows/1?sig=x"),
            (ReceiverKind::PagerDuty { url: url.clone() }, "routing-key", "R0"),
            (ReceiverKind::Opsgenie { url: url.clone() }, "api-key", "k"),
            (ReceiverKind::Telegram { url: url.clone(), chat: "1".into() }, "bot-token", "123:AB-c_d"),
            (ReceiverKind::Alertmanager { url: url.clone() }, "token", "t"),
        ] {
            let found = secret(&[(key, value), ("unknown", "\u{0}")]).unwrap();
            assert_eq!(found.check(&kind), Ok(()), "{kind:?}");
            let missing = secret(&[]).unwrap().check(&kind).unwrap_err();
            assert!(missing.to_string().contains(key), "{missing}");
            assert_eq!(format!("{found:?}"), "NotificationSecret(hidden)");
        }
    }

    #[test]
    fn what_is_wrong_with_a_secret_names_the_key_and_quotes_nothing() {
        for (key, value) in [
            ("url", "http://hunter2.example/"),
            ("url", "https://hunter2@a.example/"),
            ("url", "https:///hunter2"),
            ("bot-token", "hunter2"),
            ("bot-token", "1:../hunter2"),
            ("routing-key", "hunter2\r\nX: y"),
            ("api-key", ""),
            ("signing-secret", "hunter2!"),
        ] {
            let error = secret(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key) && !error.contains("hunter2"), "{key}: {error}");
        }
        assert_eq!(NotificationSecret::parse(Some("Opaque"), BTreeMap::new()), Err(NotificationSecretError::Type));
        assert_eq!(NotificationSecret::parse(None, BTreeMap::new()), Err(NotificationSecretError::Type));
    }
}
