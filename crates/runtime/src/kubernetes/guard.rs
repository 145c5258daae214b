//! Objects that may be unreadable, as items of a watch, without the metadata that nothing here reads.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde_json::{Map, Value};

use mail_failover_core::model::SharedError;

/// Prefix of our own annotations and labels.
const OURS: &str = "mailfailover.io/";
/// Labels of others that are read.
const LABELS: [&str; 3] =
    ["app.kubernetes.io/managed-by", "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"];

/// Field of `fieldsV1` that an annotation with a request is.
const REQUEST_FIELD: &str = "f:mailfailover.io/request";
/// Bound on the managers that are kept. One manager at a time owns an annotation, or several that agree.
const MAX_MANAGERS: usize = 4;

/// Object, or its metadata and the error of the rest.
///
/// Unlike kube's `DeserializeGuard`, the error names the path: without it, "invalid type: string, expected i32" leaves
/// the user to guess. Of the metadata, annotations and labels of others, managed fields and
/// finalizers are skipped while they are read, so that nobody fills the memory with them
/// (ADR-0092). Of the managed fields stay the managers of an annotation with a request.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Invalid>);

/// Object that cannot be read.
#[derive(Clone, Debug)]
pub struct Invalid {
    /// Metadata of the object.
    pub metadata: ObjectMeta,
    /// The object's `status`; null if it has none.
    pub status: Value,
    /// Error in the form `path: problem`.
    pub error: SharedError,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Level::Object.deserialize(deserializer)?;
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
                Ok(Self(Err(Invalid { metadata, status, error: SharedError::new(error) })))
            }
        }
    }
}

/// Part of an object that is being read.
#[derive(Clone, Copy)]
enum Level {
    Object,
    Metadata,
    Annotations,
    Labels,
    ManagedFields,
    Manager,
    Fields,
    FieldsOfMetadata,
    FieldsOfAnnotations,
}

impl Level {
    /// Returns true if the value of this key is skipped.
    fn skips(self, key: &str) -> bool {
        match self {
            Self::Object => false,
            Self::Metadata => key == "finalizers",
            Self::Annotations => !key.starts_with(OURS),
            Self::Labels => !key.starts_with(OURS) && !LABELS.contains(&key),
            Self::ManagedFields => true,
            Self::Manager => !matches!(key, "manager" | "fieldsV1"),
            Self::Fields => key != "f:metadata",
            Self::FieldsOfMetadata => key != "f:annotations",
            Self::FieldsOfAnnotations => key != REQUEST_FIELD,
        }
    }

    /// Returns the part under this key, if it is read with care.
    fn below(self, key: &str) -> Option<Self> {
        match (self, key) {
            (Self::Object, "metadata") => Some(Self::Metadata),
            (Self::Metadata, "annotations") => Some(Self::Annotations),
            (Self::Metadata, "labels") => Some(Self::Labels),
            (Self::Metadata, "managedFields") => Some(Self::ManagedFields),
            (Self::Manager, "fieldsV1") => Some(Self::Fields),
            (Self::Fields, "f:metadata") => Some(Self::FieldsOfMetadata),
            (Self::FieldsOfMetadata, "f:annotations") => Some(Self::FieldsOfAnnotations),
            _ => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.skips(&key) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = match self.below(&key) {
                Some(below) => map.next_value_seed(below)?,
                None => map.next_value()?,
            };
            // Managed fields that nothing reads are none.
            if value.as_array().is_none_or(|list| !list.is_empty() || key != "managedFields") {
                kept.insert(key, value);
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        if !matches!(self, Self::ManagedFields) {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        let mut kept = vec![];
        while let Some(entry) = list.next_element_seed(Self::Manager)? {
            let annotations = entry.pointer("/fieldsV1/f:metadata/f:annotations").and_then(Value::as_object);
            if annotations.is_some_and(|fields| !fields.is_empty()) && kept.len() < MAX_MANAGERS {
                kept.push(entry);
            }
        }
        Ok(Value::Array(kept))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
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
            let error = invalid.error.to_string();
            assert!(error.starts_with(&format!("{path}: {what}")), "{error}");
            assert_eq!(invalid.metadata.name.as_deref(), Some("relay"));
            assert_eq!(invalid.metadata.generation, Some(3));
        }
    }

    #[test]
    fn metadata_that_nothing_reads_is_skipped() {
        let object = json!({"apiVersion": "mailfailover.io/v1alpha1", "kind": "SendingBackend",
            "spec": {"smtp": {"host": "a", "port": 25}},
            "metadata": {"namespace": "mail", "name": "relay", "uid": "u", "generation": 3, "creationTimestamp": null,
                "annotations": {"mailfailover.io/request": "{}", "kubectl.kubernetes.io/last-applied-configuration": "{}", "x": "y"},
                "labels": {"app.kubernetes.io/managed-by": "us", "kubernetes.io/service-name": "mail", "mailfailover.io/probe": "p", "x": "y"},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}], "finalizers": ["x"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "b"}]}});
        let with_nothing =
            json!({"metadata": {"namespace": "mail", "name": "relay", "annotations": null, "labels": {}}});
        let backend: Guarded<SendingBackend> = serde_json::from_value(object).expect("an object");
        let metadata = backend.meta();
        let keys = |entries: &Option<std::collections::BTreeMap<String, String>>| {
            entries.iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&metadata.annotations), ["mailfailover.io/request"]);
        assert_eq!(
            keys(&metadata.labels),
            ["app.kubernetes.io/managed-by", "kubernetes.io/service-name", "mailfailover.io/probe"]
        );
        assert_eq!((metadata.managed_fields.as_ref(), metadata.finalizers.as_ref()), (None, None));
        assert_eq!((metadata.uid.as_deref(), metadata.generation), (Some("u"), Some(3)));
        assert_eq!(metadata.owner_references.as_ref().map(Vec::len), Some(1));
        let nothing: Guarded<SendingBackend> = serde_json::from_value(with_nothing).expect("an object");
        assert_eq!(nothing.meta().annotations, None);
    }

    #[test]
    fn of_the_managed_fields_stays_who_set_a_request() {
        let fields = |annotation: &str| json!({"f:metadata": {"f:annotations": {".": {}, annotation: {}}, "f:labels": {"f:x": {}}}, "f:spec": {}});
        let object = json!({"metadata": {"namespace": "mail", "name": "relay", "managedFields": [
            {"manager": "kubectl-client-side-apply", "operation": "Update", "fieldsV1": fields("f:x")},
            {"manager": "kubectl-annotate", "operation": "Update", "time": "2026-11-30T12:00:00Z", "fieldsV1": fields(REQUEST_FIELD)},
            {"manager": "mail-failover-status", "subresource": "status", "fieldsV1": {"f:status": {}}}]}});
        let backend: Guarded<SendingBackend> = serde_json::from_value(object).expect("an object");
        let kept = serde_json::to_value(backend.meta().managed_fields.as_ref().expect("one")).expect("JSON");
        let expected = json!([{"manager": "kubectl-annotate",
            "fieldsV1": {"f:metadata": {"f:annotations": {REQUEST_FIELD: {}}}}}]);
        assert_eq!(kept, expected);
    }

    #[test]
    fn what_can_be_read_is_read() {
        let backend = read(&json!({"smtp": {"host": "a", "port": 25}})).0.expect("it is well formed");
        assert_eq!(backend.spec.smtp.map(|smtp| smtp.port), Some(25));
    }
}
