//! Reads the logins of probes from the Secrets that backends name: those, by name, and no others.
//!
//! Only backends with a probe that this process makes, of depth Auth or deeper, have theirs read. Architecture
//! invariant: a login goes from here to the prober and nowhere else; nothing that can be printed holds one.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::input::Input;
use super::read::{Answer, ReadOutcome, Readable, failed};
use mail_failover_core::model::{Login, LoginError, ObjectKey, SharedError};
use mail_failover_resolve::{LoginKey, ReadProblem};

/// Reader of the logins in Secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoginSecret;

impl Readable for LoginSecret {
    type Key = LoginKey;
    type Value = Login;

    const NAME: &'static str = "login";

    fn object(key: &LoginKey) -> (&'static str, &ObjectKey) {
        ("Secret", &key.object)
    }

    async fn fetch(client: Client, key: &LoginKey) -> ReadOutcome<Login> {
        // ADR-0039: The right to write SendingBackends includes the namespace's logins.
        match Api::<Secret>::namespaced(client, &key.object.namespace).get_opt(&key.object.name).await {
            Ok(None) => ReadOutcome::Answer(Err(ReadProblem::NotFound)),
            Ok(Some(secret)) => {
                ReadOutcome::Answer(login(secret, key).map_err(|error| ReadProblem::Malformed(SharedError::new(error))))
            }
            Err(error) => failed(error),
        }
    }

    fn input(key: LoginKey, answer: Answer<Login>) -> Input {
        Input::Login(key, answer)
    }
}

/// Defect of a Secret. It names the key, and quotes nothing of its value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum SecretError {
    #[error("it has no key {0}")]
    NoKey(Arc<str>),
    #[error("key {key}: {source}")]
    Malformed { key: Arc<str>, source: LoginError },
}

/// The login in a Secret.
fn login(secret: Secret, key: &LoginKey) -> Result<Login, SecretError> {
    let mut data = secret.data.unwrap_or_default();
    Ok(Login::new(part(&mut data, &key.username_key)?, part(&mut data, &key.password_key)?))
}

fn part(data: &mut BTreeMap<String, ByteString>, key: &Arc<str>) -> Result<String, SecretError> {
    let ByteString(bytes) = data.remove(&**key).ok_or_else(|| SecretError::NoKey(key.clone()))?;
    Login::part(bytes).map_err(|source| SecretError::Malformed { key: key.clone(), source })
}

#[cfg(test)]
mod tests {
    use mail_failover_core::model::LoginReference;
    use serde_json::{Value, json};

    use super::*;

    fn read(data: &Value) -> Result<Login, String> {
        let data = data.as_object().unwrap().iter();
        let data = data.map(|(key, value)| (key.clone(), ByteString(value.as_str().unwrap().as_bytes().to_vec())));
        login(Secret { data: Some(data.collect()), ..Secret::default() }, &key(&"relay".into()))
            .map_err(|error| error.to_string())
    }

    fn key(login: &LoginReference) -> LoginKey {
        LoginKey::beside(&ObjectKey::new("shop", "backend"), login)
    }

    #[test]
    fn the_keys_of_a_login_can_be_named() {
        let of_two = json!({"ses-user": "shop", "ses-key": "hunter2", "username": "other", "password": "other"});
        let data = of_two.as_object().unwrap().iter();
        let data = data.map(|(key, value)| (key.clone(), ByteString(value.as_str().unwrap().as_bytes().to_vec())));
        let secret = Secret { data: Some(data.collect()), ..Secret::default() };
        let named = LoginReference::new("both", Some("ses-user"), Some("ses-key"));
        assert_eq!(login(secret.clone(), &key(&named)), Ok(Login::new("shop", "hunter2")));
        let missing = LoginReference::new("both", Some("ses-user"), Some("sendgrid-key"));
        assert_eq!(login(secret, &key(&missing)), Err(SecretError::NoKey("sendgrid-key".into())));
    }

    #[test]
    fn a_login_is_two_keys_and_what_is_wrong_with_them_shows_neither() {
        assert_eq!(read(&json!({"username": "shop", "password": "hunter2\n"})), Ok(Login::new("shop", "hunter2")));
        assert_eq!(login(Secret::default(), &key(&"relay".into())), Err(SecretError::NoKey("username".into())));
        for (data, wrong) in [
            (json!({"password": "hunter2"}), "it has no key username"),
            (json!({"username": "shop"}), "it has no key password"),
            (json!({"username": "shop", "password": ""}), "key password: it is empty"),
            (
                json!({"username": "shop", "password": "hunter\n2"}),
                "key password: it holds control characters or several lines",
            ),
            (json!({"username": "shop", "password": "x".repeat(4097)}), "key password: it has more than 4096 bytes"),
        ] {
            assert_eq!(read(&data), Err(wrong.to_owned()));
        }
        let shown = format!("{:?}", read(&json!({"username": "shop", "password": "hunter2"})));
        assert_eq!(shown, "Ok(Login(hidden))");
    }
}
