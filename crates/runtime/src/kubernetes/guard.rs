//! Objects that may be unreadable, as items of a watch.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;

/// Object, or its metadata and the error of the rest.
///
/// Unlike kube's `DeserializeGuard`, the error names the path: without it, "invalid type: string, expected i32" leaves
/// the user to guess.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Invalid>);

/// Object that cannot be read.
#[derive(Clone, Debug)]
pub struct Invalid {
    /// Metadata of the object.
    pub metadata: ObjectMeta,
    /// Its `status`; null if it has none.
    pub status: Value,
    /// Error in the form `path: problem`.
    pub error: String,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        // Finding the path costs time, so only those that fail are read twice.
        if let Ok(object) = K::deserialize(&value) {
            return Ok(Self(Ok(object)));
        }
        match serde_path_to_error::deserialize::<_, K>(&value) {
            Ok(object) => Ok(Self(Ok(object))),
            Err(error) => {
                let metadata = value.get("metadata").map_or_else(|| Ok(ObjectMeta::default()), ObjectMeta::deserialize);
                let metadata = metadata.map_err(D::Error::custom)?;
                let status = value.get("status").cloned().unwrap_or_default();
                Ok(Self(Err(Invalid { metadata, status, error: error.to_string() })))
            }
        }
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(invalid) => &invalid.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(invalid) => &mut invalid.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use mail_failover_api::SendingBackend;

    fn read(spec: &Value) -> Guarded<SendingBackend> {
        let object = json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend", "spec": spec,
            "metadata": {"namespace": "mail", "name": "relay", "generation": 3}});
        serde_json::from_value(object).expect("whatever the spec is")
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_path() {
        for (spec, path, what) in [
            (json!({"smtp": {"host": "a", "port": "x"}}), "spec.smtp.port", "invalid type: string \"x\", expected i32"),
            (json!({"smtp": {"host": "a", "port": 25}, "weight": 3}), "spec.weight", "unknown field `weight`"),
            (
                json!({"probes": [{"name": "p", "smtp": {"depth": "Mail"}}]}),
                "spec.probes[0].smtp.depth",
                "unknown variant `Mail`",
            ),
        ] {
            let invalid = read(&spec).0.expect_err("it is malformed");
            assert!(invalid.error.starts_with(&format!("{path}: {what}")), "{}", invalid.error);
            assert_eq!(invalid.metadata.name.as_deref(), Some("relay"));
            assert_eq!(invalid.metadata.generation, Some(3));
        }
    }

    #[test]
    fn what_can_be_read_is_read() {
        let backend = read(&json!({"smtp": {"host": "a", "port": 25}})).0.expect("it is well formed");
        assert_eq!(backend.spec.smtp.map(|smtp| smtp.port), Some(25));
    }
}
