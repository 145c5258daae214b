//! Custom resources written as YAML, and sent unchanged.

use anyhow::{Context, Result, anyhow};
use mail_failover_e2e::control_plane::said;
use mail_failover_e2e::test_env::TestEnv;
use serde_json::{Value, json};

/// The kinds of custom resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Backend,
    Policy,
    Route,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Backend => "SendingBackend",
            Self::Policy => "FailoverPolicy",
            Self::Route => "MailRoute",
        }
    }

    pub fn plural(self) -> &'static str {
        match self {
            Self::Backend => "sendingbackends",
            Self::Policy => "failoverpolicies",
            Self::Route => "mailroutes",
        }
    }
}

/// An object with this spec in YAML, mostly in flow style. `@254` stands for 254 letters, `@`
/// before a letter for itself.
pub fn object(kind: Kind, name: &str, spec: &str) -> Result<Value> {
    let spec: Value = serde_saphyr::from_str(&with_long_words(spec)).with_context(|| format!("not YAML: {spec}"))?;
    Ok(json!({
        "apiVersion": "mailfailover.io/v1alpha1",
        "kind": kind.name(),
        "metadata": { "name": name },
        "spec": spec,
    }))
}

/// Creates an object in the trial's namespace, with `fieldValidation=Strict` as kubectl does. The
/// inner error is the text that a user reads.
pub async fn create(env: &TestEnv, kind: Kind, object: &Value) -> Result<Result<Value, String>> {
    let path = format!(
        "/apis/mailfailover.io/v1alpha1/namespaces/{}/{}?fieldValidation=Strict",
        env.namespace(),
        kind.plural()
    );
    let request =
        hyper::Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(object)?)?;
    match env.client().request::<Value>(request).await {
        Ok(created) => Ok(Ok(created)),
        Err(kube::Error::Api(status)) => Ok(Err(said(&kube::Error::Api(status)))),
        Err(error) => Err(anyhow!(error)),
    }
}

fn with_long_words(text: &str) -> String {
    let mut parts = text.split('@');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // Without a number it is the sign in an address.
        if !part.starts_with(|letter: char| letter.is_ascii_digit()) {
            result.push('@');
        }
        let digits = part.len() - part.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        result.push_str(&"a".repeat(number.parse().unwrap_or(0)));
        result.push_str(rest);
    }
    result
}
