//! Reads the Secrets of notifications' receivers that policies name: those, by name, and no others.
//!
//! Architecture invariant: a Secret goes from here to the request of a receiver and nowhere else; nothing that can be
//! printed holds one.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::input::Input;
use super::read::{Answer, ReadOutcome, Readable, failed};
use mail_failover_core::model::{ObjectKey, SharedError};
use mail_failover_notifications::secret::{NotificationSecret, NotificationSecretError};
use mail_failover_resolve::ReadProblem;

/// Reader of the Secrets of receivers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiverSecret;

impl Readable for ReceiverSecret {
    type Key = ObjectKey;
    type Value = NotificationSecret;

    const NAME: &'static str = "notification_secret";

    fn object(key: &ObjectKey) -> (&'static str, &ObjectKey) {
        ("Secret", key)
    }

    async fn fetch(client: Client, key: &ObjectKey) -> ReadOutcome<NotificationSecret> {
        match Api::<Secret>::namespaced(client, &key.namespace).get_opt(&key.name).await {
            Ok(None) => ReadOutcome::Answer(Err(ReadProblem::NotFound)),
            Ok(Some(secret)) => {
                ReadOutcome::Answer(parsed(secret).map_err(|error| ReadProblem::Malformed(SharedError::new(error))))
            }
            Err(error) => failed(error),
        }
    }

    fn input(key: ObjectKey, answer: Answer<NotificationSecret>) -> Input {
        Input::NotificationSecret(key, answer)
    }
}

fn parsed(secret: Secret) -> Result<NotificationSecret, NotificationSecretError> {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, ByteString(bytes))| (key, bytes));
    NotificationSecret::parse(secret.type_.as_deref(), data.collect())
}
