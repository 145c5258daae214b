//! Validation as the API server does it: the schemas and CEL rules of the resource definitions, evaluated offline.

use std::collections::BTreeMap;

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use jsonschema::{Draft, Validator};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::finding::ManifestFindings;
use crate::manifests::Manifest;
use mail_failover_api::{GROUP, VERSION, crds};
use mail_failover_runtime::findings::{Rule, Severity};

pub(super) const UNKNOWN_FIELD: Rule = Rule {
    code: "UnknownField",
    severity: Severity::Error,
    broken_when: "an object has a field that its kind has not; the API server refuses it when asked to be strict, as kubectl does, \
                  and drops it otherwise",
};
pub(super) const SCHEMA_VIOLATION: Rule = Rule {
    code: "SchemaViolation",
    severity: Severity::Error,
    broken_when: "a field is missing, of the wrong type, out of bounds or malformed",
};
pub(super) const VALIDATION_RULE: Rule = Rule {
    code: "ValidationRule",
    severity: Severity::Error,
    broken_when: "a validation rule (CEL) of the resource definition is broken",
};
pub(super) const UNKNOWN_KIND: Rule = Rule {
    code: "UnknownKind",
    severity: Severity::Error,
    broken_when: "an object of mailfailover.io has a kind or version that is not installed",
};
pub(super) const INVALID_NAME: Rule = Rule {
    code: "InvalidName",
    severity: Severity::Error,
    broken_when: "metadata.name is missing or no DNS subdomain, or metadata.namespace no DNS label (RFC 1123)",
};

/// Longest name and longest namespace of an object (RFC 1123).
const MAX_NAME: usize = 253;
const MAX_NAMESPACE: usize = 63;

/// Resource definitions, compiled for validation.
pub(super) struct Schemas {
    kinds: BTreeMap<String, KindSchema>,
    metadata: Validator,
    rules: kube_cel::Validator,
}

struct KindSchema {
    validator: Validator,
    schema: Value,
}

/// Errors of compiling a resource definition; each is a defect of this program.
#[derive(Debug, thiserror::Error)]
#[error("the schema of {kind} cannot be used: {why}")]
pub struct SchemaError {
    kind: String,
    why: String,
}

impl Schemas {
    /// Compiles the definitions of this version.
    pub(super) fn load() -> Result<Self, SchemaError> {
        let mut kinds = BTreeMap::new();
        for crd in crds() {
            let kind = crd.spec.names.kind;
            let version = crd.spec.versions.into_iter().find(|version| version.name == VERSION);
            let schema = version.and_then(|version| version.schema).and_then(|schema| schema.open_api_v3_schema);
            let schema = serde_json::to_value(schema).map_err(|error| failed(&kind, &error))?;
            let mut closed = schema.clone();
            close(&mut closed);
            if let Some(fields) = closed.get_mut("properties").and_then(Value::as_object_mut) {
                // What every object has goes without saying in a resource definition.
                let given = [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")];
                fields.extend(given.map(|(name, type_)| (name.to_owned(), json!({ "type": type_ }))));
            }
            let validator = compile(&kind, &closed)?;
            kinds.insert(kind, KindSchema { validator, schema });
        }
        let metadata = serde_json::to_value(schemars::schema_for!(ObjectMeta));
        let mut metadata = metadata.map_err(|error| failed("metadata", &error))?;
        close(&mut metadata);
        Ok(Self { kinds, metadata: compile("metadata", &metadata)?, rules: kube_cel::Validator::new() })
    }

    /// Returns true if the API server would accept the object. Adds its errors to the findings.
    pub(super) fn accept(&self, manifest: &Manifest, findings: &mut ManifestFindings) -> bool {
        let Some(kind) = self.kinds.get(manifest.kind()) else {
            let known = self.kinds.keys().cloned().collect::<Vec<_>>().join(", ");
            let message = format!("{GROUP} has no kind {}", manifest.kind());
            findings.add(&UNKNOWN_KIND, manifest, "kind", message, format!("use one of {known}"));
            return false;
        };
        let version = manifest.value().get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let expected = format!("{GROUP}/{VERSION}");
        if version != expected {
            let message = format!("{version} is not served");
            findings.add(&UNKNOWN_KIND, manifest, "apiVersion", message, format!("use {expected}"));
            return false;
        }
        // The rules are evaluated on what has the right shape, as the API server does.
        let is_sound = names(manifest, findings) & self.metadata(manifest, findings) & kind.shape(manifest, findings);
        is_sound && self.rules(kind, manifest, findings)
    }

    fn metadata(&self, manifest: &Manifest, findings: &mut ManifestFindings) -> bool {
        let Some(metadata) = manifest.value().get("metadata") else { return true };
        let mut metadata = metadata.clone();
        // `creationTimestamp: null` is what Go programs print.
        if let Some(fields) = metadata.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        violations(&self.metadata, &metadata, "metadata", manifest, findings)
    }

    fn rules(&self, kind: &KindSchema, manifest: &Manifest, findings: &mut ManifestFindings) -> bool {
        let Err(errors) = self.rules.validate(&kind.schema, &without_status(manifest), None) else { return true };
        for error in errors.as_slice() {
            let remedy = explain(manifest, &error.field_path);
            findings.add(&VALIDATION_RULE, manifest, &error.field_path, error.message.clone(), remedy);
        }
        false
    }
}

impl KindSchema {
    fn shape(&self, manifest: &Manifest, findings: &mut ManifestFindings) -> bool {
        let object = without_status(manifest);
        let is_sound = violations(&self.validator, &object, "", manifest, findings);
        let doubles = doubles(&self.schema, &object, "");
        for (field, message) in &doubles {
            findings.add(&SCHEMA_VIOLATION, manifest, field, message.clone(), "take one of them out");
        }
        is_sound && doubles.is_empty()
    }
}

/// Returns the object without its status, because a create request cannot set the status.
fn without_status(manifest: &Manifest) -> Value {
    let mut object = manifest.value().clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

fn failed(kind: &str, error: &dyn std::fmt::Display) -> SchemaError {
    SchemaError { kind: kind.to_owned(), why: error.to_string() }
}

fn compile(kind: &str, schema: &Value) -> Result<Validator, SchemaError> {
    // OpenAPI 3.0 extends an early draft; what it means by `format` is an assertion.
    let options = jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(true);
    options.build(schema).map_err(|error| failed(kind, &error))
}

/// Translates a structural schema to JSON Schema: unknown fields, `nullable`, int-or-string, and sets.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            close_object(fields);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn close_object(fields: &mut Map<String, Value>) {
    let is_object = fields.get("properties").is_some_and(Value::is_object);
    if is_object && fields.get("type").is_some() && !fields.contains_key("additionalProperties") {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    if fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        fields.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if fields.get("x-kubernetes-list-type") == Some(&json!("set")) {
        fields.insert("uniqueItems".to_owned(), Value::Bool(true));
    }
    if fields.get("nullable") == Some(&Value::Bool(true))
        && let Some(Value::String(type_)) = fields.get("type")
    {
        fields.insert("type".to_owned(), json!([type_, "null"]));
        if let Some(Value::Array(values)) = fields.get_mut("enum") {
            values.push(Value::Null);
        }
    }
}

fn violations(
    validator: &Validator,
    value: &Value,
    at: &str,
    manifest: &Manifest,
    findings: &mut ManifestFindings,
) -> bool {
    let mut is_sound = true;
    for error in validator.iter_errors(value) {
        is_sound = false;
        let field = path(at, error.instance_path());
        if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() {
            for name in unexpected {
                let field = join(&field, name);
                let message = format!("there is no field {name} here");
                findings.add(&UNKNOWN_FIELD, manifest, &field, message, remedy_of_unknown(manifest.kind(), &field));
            }
        } else if let ValidationErrorKind::Required { property } = error.kind() {
            let field = join(&field, property.as_str().unwrap_or_default());
            findings.add(&SCHEMA_VIOLATION, manifest, &field, "it is missing", explain(manifest, &field));
        } else if let ValidationErrorKind::Enum { options } = error.kind() {
            // The library's own message lists two of them.
            let choices = options.as_array().into_iter().flatten().filter(|choice| !choice.is_null());
            let choices: Vec<_> =
                choices.map(|choice| choice.as_str().map_or_else(|| choice.to_string(), str::to_owned)).collect();
            let message = format!("{} is none of the choices", error.instance());
            findings.add(&SCHEMA_VIOLATION, manifest, &field, message, format!("use one of {}", choices.join(", ")));
        } else {
            findings.add(&SCHEMA_VIOLATION, manifest, &field, error.to_string(), explain(manifest, &field));
        }
    }
    is_sound
}

/// Returns the remedy for a field that there is not; there may have been one of that name.
fn remedy_of_unknown(kind: &str, field: &str) -> &'static str {
    match (kind, field) {
        ("FailoverPolicy", "spec.reflex") => {
            "it is spec.failure.deliveries now, with the same fields: agents leave no backend by themselves any more; \
             spec.breaker has the order in which messages try them"
        }
        _ => "correct its name or take it out",
    }
}

/// Returns the items of map lists (`x-kubernetes-list-type`) that repeat the keys of an earlier item.
fn doubles(schema: &Value, value: &Value, at: &str) -> Vec<(String, String)> {
    let mut found = vec![];
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(schema) = schema.pointer("/properties").and_then(|properties| properties.get(name)) {
                    found.extend(doubles(schema, value, &join(at, name)));
                }
            }
        }
        Value::Array(items) => {
            let keys: Vec<_> = schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            for (index, item) in items.iter().enumerate() {
                let field = format!("{at}[{index}]");
                let is_double =
                    items[..index].iter().any(|earlier| keys.iter().all(|key| earlier.get(key) == item.get(key)));
                if !keys.is_empty() && is_double {
                    found.push((field.clone(), format!("another item has the same {}", keys.join(", "))));
                }
                if let Some(schema) = schema.get("items") {
                    found.extend(doubles(schema, item, &field));
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    found
}

fn names(manifest: &Manifest, findings: &mut ManifestFindings) -> bool {
    let mut is_sound = true;
    let (name, namespace) = (manifest.text("/metadata/name"), manifest.text("/metadata/namespace"));
    if name.is_empty() {
        is_sound = false;
        findings.add(&INVALID_NAME, manifest, "metadata.name", "it is missing", "give the object a name");
    } else if name.len() > MAX_NAME || !name.split('.').all(is_label) {
        is_sound = false;
        let remedy = "use lower-case letters, digits, dashes and dots";
        findings.add(&INVALID_NAME, manifest, "metadata.name", format!("{name} is no DNS subdomain"), remedy);
    }
    if !namespace.is_empty() && (namespace.len() > MAX_NAMESPACE || !is_label(namespace)) {
        is_sound = false;
        let message = format!("{namespace} is no DNS label");
        let remedy = "use lower-case letters, digits and dashes";
        findings.add(&INVALID_NAME, manifest, "metadata.namespace", message, remedy);
    }
    is_sound
}

fn is_label(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn path(at: &str, location: &Location) -> String {
    let mut path = at.to_owned();
    for segment in location {
        path = match segment {
            LocationSegment::Property(name) => join(&path, &name),
            LocationSegment::Index(index) => format!("{path}[{index}]"),
        };
    }
    path
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Returns the command that explains a field; `kubectl explain` wants its path without indexes.
fn explain(manifest: &Manifest, field: &str) -> String {
    let mut parts = field.split('[');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        path.push_str(part.split_once(']').map_or("", |(_index, rest)| rest));
    }
    format!("kubectl explain {}.{path}", manifest.kind().to_lowercase())
}
