//! Reads the Secrets of DNS updates that routes name: those, by name, and no others.
//!
//! Architecture invariant: a key goes from here to the signature of a message and nowhere else; nothing that can be
//! printed holds one.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::input::Input;
use super::read::{Answer, ReadOutcome, Readable, failed};
use mail_failover_core::model::{ObjectKey, SharedError};
use mail_failover_dns::tsig::{TsigKey, TsigSecretError};
use mail_failover_resolve::ReadProblem;

/// Reader of the Secrets of DNS updates.
#[derive(Clone, Copy, Debug, Default)]
pub struct TsigSecret;

impl Readable for TsigSecret {
    type Key = ObjectKey;
    type Value = TsigKey;

    const NAME: &'static str = "tsig_secret";

    fn object(key: &ObjectKey) -> (&'static str, &ObjectKey) {
        ("Secret", key)
    }

    async fn fetch(client: Client, key: &ObjectKey) -> ReadOutcome<TsigKey> {
        match Api::<Secret>::namespaced(client, &key.namespace).get_opt(&key.name).await {
            Ok(None) => ReadOutcome::Answer(Err(ReadProblem::NotFound)),
            Ok(Some(secret)) => {
                ReadOutcome::Answer(parsed(secret).map_err(|error| ReadProblem::Malformed(SharedError::new(error))))
            }
            Err(error) => failed(error),
        }
    }

    fn input(key: ObjectKey, answer: Answer<TsigKey>) -> Input {
        Input::TsigSecret(key, answer)
    }
}

fn parsed(secret: Secret) -> Result<TsigKey, TsigSecretError> {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, ByteString(bytes))| (key, bytes));
    TsigKey::parse(secret.type_.as_deref(), &data.collect::<BTreeMap<_, _>>())
}
