//! Reads the Secrets that specs name for outputs and receivers: those, by name, and no others.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::input::Input;
use super::read::{Answer, Namespaced, ReadOutcome, Readable, failed};
use super::secrets::{SecretContent, SecretKey};
use mail_failover_core::model::ObjectKey;
use mail_failover_resolve::ReadProblem;

/// Reader of typed Secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecretsByName;

impl Namespaced for SecretKey {
    fn namespace(&self) -> &Arc<str> {
        &self.object.namespace
    }
}

impl Readable for SecretsByName {
    type Key = SecretKey;
    type Value = SecretContent;

    const NAME: &'static str = "secret";

    fn object(key: &SecretKey) -> (&'static str, &ObjectKey) {
        ("Secret", &key.object)
    }

    async fn fetch(client: Client, key: &SecretKey) -> ReadOutcome<SecretContent> {
        match Api::<Secret>::namespaced(client, &key.object.namespace).get_opt(&key.object.name).await {
            Ok(None) => ReadOutcome::Answer(Err(ReadProblem::NotFound)),
            Ok(Some(Secret { type_, data, .. })) => {
                let data = data.unwrap_or_default().into_iter().map(|(key, ByteString(bytes))| (key, bytes)).collect();
                ReadOutcome::Answer(key.purpose.parse(type_.as_deref(), data).map_err(ReadProblem::Malformed))
            }
            Err(error) => failed(error),
        }
    }

    fn input(key: SecretKey, answer: Answer<SecretContent>) -> Input {
        Input::Secret(key, answer)
    }
}
