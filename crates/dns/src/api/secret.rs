//! The credentials of a provider's API, from their Secret.

use std::collections::BTreeMap;
use std::fmt;

use super::google::ServiceAccount;
use mail_failover_core::model::DnsService;

/// Type of a Kubernetes Secret for the API of a DNS provider. No other Secret is used.
// ADR-0136: A webhook's Secret has a type of its own.
pub const SECRET_TYPE: &str = "mailfailover.io/dns-api";
/// Key of the Secret that holds a token, or the key of a `PowerDNS`.
pub(super) const KEY_TOKEN: &str = "token";
/// Keys of the Secret that hold an access key of AWS.
pub(super) const KEY_ACCESS_ID: &str = "access-key-id";
const KEY_ACCESS_SECRET: &str = "secret-access-key";
/// Key of the Secret that holds the token of a session of AWS.
const KEY_SESSION: &str = "session-token";
/// Key of the Secret that holds the key file of a service account of Google.
pub(super) const KEY_SERVICE_ACCOUNT: &str = "service-account.json";
/// Keys of the Secret that hold an application's id and secret in a directory of Azure.
pub(super) const KEY_CLIENT_ID: &str = "client-id";
const KEY_CLIENT_SECRET: &str = "client-secret";
/// Keys of the Secret that hold what OVH gives to an application.
pub(super) const KEY_APPLICATION: &str = "application-key";
const KEY_APPLICATION_SECRET: &str = "application-secret";
const KEY_CONSUMER: &str = "consumer-key";

/// Longest credential, in bytes.
const LONGEST: usize = 4096;

/// Credentials. Neither Debug nor Display shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct DnsApiSecret {
    token: Option<String>,
    access: Option<AccessKey>,
    service_account: Option<ServiceAccount>,
    client: Option<ClientSecret>,
    ovh: Option<OvhKeys>,
}

/// An access key of AWS.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct AccessKey {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) session: Option<String>,
}

/// An application in a directory of Azure (OAuth 2.0, RFC 6749 §2.3.1).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ClientSecret {
    pub(super) id: String,
    pub(super) secret: String,
}

/// An application at OVH, and the right that a customer has given it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct OvhKeys {
    pub(super) application: String,
    pub(super) secret: String,
    pub(super) consumer: String,
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
        let session = value(data, KEY_SESSION)?;
        let access = all(data, [KEY_ACCESS_ID, KEY_ACCESS_SECRET])?;
        let client = all(data, [KEY_CLIENT_ID, KEY_CLIENT_SECRET])?;
        let ovh = all(data, [KEY_APPLICATION, KEY_APPLICATION_SECRET, KEY_CONSUMER])?;
        let parsed = Self {
            token: value(data, KEY_TOKEN)?,
            access: access.map(|[id, secret]| AccessKey { id, secret, session }),
            service_account: data.get(KEY_SERVICE_ACCOUNT).map(|file| ServiceAccount::parse(file)).transpose()?,
            client: client.map(|[id, secret]| ClientSecret { id, secret }),
            ovh: ovh.map(|[application, secret, consumer]| OvhKeys { application, secret, consumer }),
        };
        let Self { token, access, service_account, client, ovh } = &parsed;
        let is_empty = token.is_none() && access.is_none() && service_account.is_none();
        if is_empty && client.is_none() && ovh.is_none() { Err(DnsApiSecretError::Empty) } else { Ok(parsed) }
    }

    /// The key that the API of a provider needs and this Secret lacks.
    pub fn lacks(&self, service: &DnsService) -> Option<&'static str> {
        let (key, is_there) = match service {
            DnsService::PowerDns { .. }
            | DnsService::Cloudflare { .. }
            | DnsService::DigitalOcean
            | DnsService::DeSec
            | DnsService::Hetzner => (KEY_TOKEN, self.token.is_some()),
            DnsService::Route53 { .. } => (KEY_ACCESS_ID, self.access.is_some()),
            DnsService::Google { .. } => (KEY_SERVICE_ACCOUNT, self.service_account.is_some()),
            DnsService::Azure { .. } => (KEY_CLIENT_ID, self.client.is_some()),
            DnsService::Ovh(_) => (KEY_APPLICATION, self.ovh.is_some()),
        };
        (!is_there).then_some(key)
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(super) fn access(&self) -> Option<&AccessKey> {
        self.access.as_ref()
    }

    pub(super) fn service_account(&self) -> Option<&ServiceAccount> {
        self.service_account.as_ref()
    }

    pub(super) fn client(&self) -> Option<&ClientSecret> {
        self.client.as_ref()
    }

    pub(super) fn ovh(&self) -> Option<&OvhKeys> {
        self.ovh.as_ref()
    }
}

/// The texts of keys that go together; `None` if all of them are missing.
fn all<const N: usize>(
    data: &BTreeMap<String, Vec<u8>>,
    keys: [&'static str; N],
) -> Result<Option<[String; N]>, DnsApiSecretError> {
    let mut missing = None;
    let mut values = vec![];
    for key in keys {
        match value(data, key)? {
            Some(value) => values.push(value),
            None => missing = missing.or(Some(key)),
        }
    }
    match (values.is_empty(), missing) {
        (true, _) => Ok(None),
        (false, Some(key)) => Err(DnsApiSecretError::Value(key)),
        (false, None) => Ok(values.try_into().ok()),
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
    #[error(
        "it has the keys of no provider: {KEY_TOKEN}; {KEY_ACCESS_ID} and {KEY_ACCESS_SECRET} (Route 53); {KEY_SERVICE_ACCOUNT} (Google); {KEY_CLIENT_ID} and {KEY_CLIENT_SECRET} (Azure); or {KEY_APPLICATION}, {KEY_APPLICATION_SECRET} and {KEY_CONSUMER} (OVH)"
    )]
    Empty,
    /// A value cannot be used.
    #[error("key {0}: it is missing, empty, longer than {LONGEST} bytes, or has letters that no header may have")]
    Value(&'static str),
    /// The key file of a service account cannot be used.
    #[error("key {KEY_SERVICE_ACCOUNT}: {0}; put in the JSON file as Google has made it")]
    ServiceAccount(&'static str),
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use mail_failover_core::model::OvhEndpoint;

    pub(crate) fn secret(pairs: &[(&str, &str)]) -> DnsApiSecret {
        parsed(pairs).unwrap()
    }

    pub(crate) fn parsed(pairs: &[(&str, &str)]) -> Result<DnsApiSecret, DnsApiSecretError> {
        let data = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        DnsApiSecret::parse(Some(SECRET_TYPE), &data)
    }

    #[test]
    fn a_secret_has_the_keys_of_a_provider_and_shows_none() {
        let token = secret(&[("token", "hunter2\n")]);
        assert_eq!((token.token(), format!("{token:?}").as_str()), (Some("hunter2"), "DnsApiSecret(hidden)"));
        let key = secret(&[("access-key-id", "AKIA"), ("secret-access-key", "hunter2")]);
        assert!(key.access().is_some_and(|access| access.id == "AKIA" && access.session.is_none()));
        let ovh = [("application-key", "ak"), ("application-secret", "as"), ("consumer-key", "ck")];
        assert!(secret(&ovh).ovh().is_some_and(|keys| (&*keys.secret, &*keys.consumer) == ("as", "ck")));
        for (pairs, error) in [
            (vec![], DnsApiSecretError::Empty),
            (vec![("session-token", "hunter2")], DnsApiSecretError::Empty),
            (vec![("token", "")], DnsApiSecretError::Value("token")),
            (vec![("token", "two words")], DnsApiSecretError::Value("token")),
            (vec![("access-key-id", "AKIA")], DnsApiSecretError::Value("secret-access-key")),
            (vec![("secret-access-key", "hunter2")], DnsApiSecretError::Value("access-key-id")),
            (vec![("client-id", "c"), ("token", "hunter2")], DnsApiSecretError::Value("client-secret")),
            (ovh[1..].to_vec(), DnsApiSecretError::Value("application-key")),
            (ovh[..2].to_vec(), DnsApiSecretError::Value("consumer-key")),
        ] {
            assert_eq!(parsed(&pairs), Err(error), "{pairs:?}");
            assert!(!error.to_string().contains("hunter2"));
        }
        for type_ in [None, Some("Opaque"), Some("mailfailover.io/tsig")] {
            assert_eq!(DnsApiSecret::parse(type_, &BTreeMap::new()), Err(DnsApiSecretError::Type));
        }
    }

    #[test]
    fn the_key_that_a_provider_lacks_is_named() {
        let token = secret(&[("token", "t")]);
        let client = secret(&[("client-id", "c"), ("client-secret", "s")]);
        for (secret, service, lacks) in [
            (&token, DnsService::Hetzner, None),
            (&client, DnsService::Hetzner, Some("token")),
            (&token, DnsService::Ovh(OvhEndpoint::Eu), Some("application-key")),
            (&token, DnsService::Route53 { zone_id: "Z".into(), url: None }, Some("access-key-id")),
            (
                &token,
                DnsService::Google { project: "p".into(), zone: "z".into(), url: None },
                Some("service-account.json"),
            ),
        ] {
            assert_eq!(secret.lacks(&service), lacks, "{service:?}");
        }
    }
}
