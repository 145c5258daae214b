//! Reads the logins of probes from the Secrets that backends name: those, by name, and no others.
//!
//! Only backends with a probe that this process makes, of depth Auth or deeper, have theirs read. Architecture invariant: a login goes
//! from here to the prober and nowhere else; nothing that can be printed holds one.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::input::Input;
use super::read::{Answer, Outcome, Readable, failed};
use mail_failover_core::model::{Login, ObjectKey};
use mail_failover_resolve::ReadProblem;

/// The login in a Secret.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoginSecret;

impl Readable for LoginSecret {
    type Key = ObjectKey;
    type Value = Login;

    const NAME: &'static str = "login";

    fn object(key: &ObjectKey) -> (&'static str, &ObjectKey) {
        ("Secret", key)
    }

    async fn fetch(client: Client, key: &ObjectKey) -> Outcome<Login> {
        match Api::<Secret>::namespaced(client, &key.namespace).get_opt(&key.name).await {
            Ok(None) => Outcome::Answer(Err(ReadProblem::NotFound)),
            Ok(Some(secret)) => Outcome::Answer(login(secret).map_err(ReadProblem::Malformed)),
            Err(error) => failed(&error),
        }
    }

    fn input(key: ObjectKey, answer: Answer<Login>) -> Input {
        Input::Login(key, answer)
    }
}

/// What is wrong is told by key, and holds nothing of what is under it.
fn login(secret: Secret) -> Result<Login, String> {
    let mut data = secret.data.unwrap_or_default();
    let mut part = |key: &str| {
        let ByteString(bytes) = data.remove(key).ok_or_else(|| format!("it has no key {key}"))?;
        Login::part(bytes).map_err(|why| format!("key {key}: {why}"))
    };
    Ok(Login::new(part("username")?, part("password")?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(data: &Value) -> Result<Login, String> {
        let data = data.as_object().unwrap().iter();
        let data = data.map(|(key, value)| (key.clone(), ByteString(value.as_str().unwrap().as_bytes().to_vec())));
        login(Secret { data: Some(data.collect()), ..Secret::default() })
    }

    #[test]
    fn a_login_is_two_keys_and_what_is_wrong_with_them_shows_neither() {
        assert_eq!(read(&json!({"username": "shop", "password": "hunter2\n"})), Ok(Login::new("shop", "hunter2")));
        assert_eq!(login(Secret::default()), Err("it has no key username".to_owned()));
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
