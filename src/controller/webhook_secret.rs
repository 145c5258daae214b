//! Reads the Secrets of webhooks that routes name: those, by name, and no others.
//!
//! Architecture invariant: a Secret goes from here to the request of a webhook and nowhere else; nothing that can be
//! printed holds one.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::input::Input;
use super::read::{Answer, ReadOutcome, Readable, failed};
use mail_failover_core::model::{ObjectKey, SharedError};
use mail_failover_resolve::ReadProblem;
use mail_failover_webhook::secret::{SecretError, WebhookSecret};

/// Reader of the Secrets of webhooks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SigningSecret;

impl Readable for SigningSecret {
    type Key = ObjectKey;
    type Value = WebhookSecret;

    const NAME: &'static str = "webhook_secret";

    fn object(key: &ObjectKey) -> (&'static str, &ObjectKey) {
        ("Secret", key)
    }

    async fn fetch(client: Client, key: &ObjectKey) -> ReadOutcome<WebhookSecret> {
        match Api::<Secret>::namespaced(client, &key.namespace).get_opt(&key.name).await {
            Ok(None) => ReadOutcome::Answer(Err(ReadProblem::NotFound)),
            Ok(Some(secret)) => {
                ReadOutcome::Answer(parsed(secret).map_err(|error| ReadProblem::Malformed(SharedError::new(error))))
            }
            Err(error) => failed(error),
        }
    }

    fn input(key: ObjectKey, answer: Answer<WebhookSecret>) -> Input {
        Input::WebhookSecret(key, answer)
    }
}

fn parsed(secret: Secret) -> Result<WebhookSecret, SecretError> {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, ByteString(bytes))| (key, bytes));
    WebhookSecret::parse(secret.type_.as_deref(), data.collect())
}
