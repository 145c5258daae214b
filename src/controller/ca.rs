//! Reads the certificates of private authorities from the `ConfigMaps` and Secrets that backends name.
//!
//! Of what a Secret holds, only certificates leave this module.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::input::Input;
use super::read::{Answer, ReadOutcome, Readable, failed};
use mail_failover_core::model::{ObjectKey, SharedError};
use mail_failover_resolve::certificates;
use mail_failover_resolve::{CaKey, CaKind, ReadProblem};

/// Reader of the certificates of private authorities.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ca;

impl Readable for Ca {
    type Key = CaKey;
    type Value = Arc<[u8]>;

    const NAME: &'static str = "ca";

    fn object(key: &CaKey) -> (&'static str, &ObjectKey) {
        (key.kind.as_str(), &key.object)
    }

    async fn fetch(client: Client, key: &CaKey) -> ReadOutcome<Arc<[u8]>> {
        let (namespace, name) = (&key.object.namespace, &key.object.name);
        let data = match key.kind {
            CaKind::ConfigMap => Api::<ConfigMap>::namespaced(client, namespace).get_opt(name).await.map(|object| {
                let ConfigMap { data, binary_data, .. } = object?;
                let text = data.and_then(|mut data| data.remove(&*key.data_key)).map(String::into_bytes);
                text.or_else(|| binary_data.and_then(|mut data| data.remove(&*key.data_key)).map(|bytes| bytes.0))
            }),
            CaKind::Secret => Api::<Secret>::namespaced(client, namespace)
                .get_opt(name)
                .await
                .map(|object| object?.data?.remove(&*key.data_key).map(|bytes| bytes.0)),
        };
        match data {
            Ok(None) => ReadOutcome::Answer(Err(ReadProblem::NotFound)),
            Ok(Some(bytes)) => {
                let certificates = certificates(&bytes).map(Arc::from);
                ReadOutcome::Answer(certificates.map_err(|error| ReadProblem::Malformed(SharedError::new(error))))
            }
            Err(error) => failed(error),
        }
    }

    fn input(key: CaKey, answer: Answer<Arc<[u8]>>) -> Input {
        Input::Ca(key, answer)
    }
}

#[cfg(test)]
#[path = "ca_tests.rs"]
mod tests;
