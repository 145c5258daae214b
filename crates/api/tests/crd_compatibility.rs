//! Compatibility of the resource definitions: the present ones accept and keep everything that
//! those of the first release accepted and kept.

use std::fs;
use std::path::Path;

use mail_failover_api::crds;
use serde_json::{Value, json};

/// The folder of the definitions as published, which never change.
const FIRST: &str = "../../e2e/fixtures/crds-0.1.0";

/// Parts of the first release's definitions that are gone on purpose, each with the reason. The changelog has each as
/// BREAKING.
const GONE: [(&str, &str); 1] = [(
    ".spec.reflex: it is gone",
    "spec.failure.deliveries and spec.breaker of a FailoverPolicy replace it (ADR-0118)",
)];

fn first_release() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIRST);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let definitions = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    definitions.map(|path| serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()).collect()
}

#[test]
fn the_first_release_is_still_understood() {
    let present: Vec<Value> = crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect();
    let first = first_release();
    assert_eq!(first.len(), 3);
    for definition in first {
        let name = &definition["metadata"]["name"];
        let now =
            present.iter().find(|now| now["metadata"]["name"] == *name).unwrap_or_else(|| panic!("{name} is gone"));
        let mut found = breaks(&definition, now);
        found.retain(|what| !GONE.iter().any(|(gone, _)| gone == what));
        assert_eq!(found, Vec::<String>::new(), "{name}");
    }
}

/// The parts of a definition that the next one no longer accepts or keeps.
fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (old_spec, new_spec) = (&old["spec"], &new["spec"]);
    for key in ["group", "scope", "names"] {
        if old_spec[key] != new_spec[key] {
            found.push(format!("spec.{key} was {} and is {}", old_spec[key], new_spec[key]));
        }
    }
    for version in list(&old_spec["versions"]) {
        let name = &version["name"];
        let Some(now) = list(&new_spec["versions"]).iter().find(|now| now["name"] == *name) else {
            found.push(format!("version {name} is gone, in which objects may be stored"));
            continue;
        };
        if version["served"] == true && now["served"] != true {
            found.push(format!("version {name} is served no more"));
        }
        if version["subresources"] != now["subresources"] {
            found.push(format!("the subresources of {name} differ"));
        }
        narrowed("", &version["schema"]["openAPIV3Schema"], &now["schema"]["openAPIV3Schema"], &mut found);
    }
    found
}

/// Notes every value that `old` takes and `new` does not, or keeps otherwise.
fn narrowed(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let mut note = |what: String| found.push(format!("{path}: {what}"));
    for key in [
        "type",
        "format",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-preserve-unknown-fields",
    ] {
        if old[key] != new[key] {
            note(format!("{key} was {} and is {}", old[key], new[key]));
        }
    }
    if old["nullable"] == true && new["nullable"] != true {
        note("null is taken no more".to_owned());
    }
    if !old["default"].is_null() && old["default"] != new["default"] {
        note(format!("the default was {} and is {}", old["default"], new["default"]));
    }
    if !new["pattern"].is_null() && old["pattern"] != new["pattern"] {
        note(format!("the pattern was {} and is {}", old["pattern"], new["pattern"]));
    }
    if !new["enum"].is_null() {
        if old["enum"].is_null() {
            note(format!("it took any value, and takes {} only", new["enum"]));
        }
        for value in list(&old["enum"]).iter().filter(|value| !list(&new["enum"]).contains(value)) {
            note(format!("{value} is taken no more"));
        }
    }
    for key in ["maximum", "maxLength", "maxItems", "maxProperties"] {
        if bound(new, key, f64::INFINITY) < bound(old, key, f64::INFINITY) {
            note(format!("{key} was {} and is {}", old[key], new[key]));
        }
    }
    for key in ["minimum", "minLength", "minItems", "minProperties"] {
        if bound(new, key, f64::NEG_INFINITY) > bound(old, key, f64::NEG_INFINITY) {
            note(format!("{key} was {} and is {}", old[key], new[key]));
        }
    }
    for field in list(&new["required"]).iter().filter(|field| !list(&old["required"]).contains(field)) {
        let name = field.as_str().unwrap();
        if new["properties"][name]["default"].is_null() {
            note(format!("{name} is required now"));
        }
    }
    for (name, schema) in old["properties"].as_object().into_iter().flatten() {
        match new["properties"].get(name) {
            Some(now) => narrowed(&format!("{path}.{name}"), schema, now, found),
            None => found.push(format!("{path}.{name}: it is gone")),
        }
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", ".*")] {
        if old[key].is_object() {
            narrowed(&format!("{path}{suffix}"), &old[key], &new[key], found);
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn bound(schema: &Value, key: &str, none: f64) -> f64 {
    schema[key].as_f64().unwrap_or(none)
}

#[test]
fn what_breaks_users_is_found() {
    let first = first_release().into_iter().find(|one| one["spec"]["names"]["kind"] == "MailRoute").unwrap();
    let version = "/spec/versions/0";
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let put = |pointer: String, key: &str, value: Value| {
        let mut changed = first.clone();
        let parent = changed.pointer_mut(&pointer).unwrap_or_else(|| panic!("{pointer}")).as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(key)
        } else {
            parent.insert(key.to_owned(), value)
        };
        breaks(&first, &changed)
    };
    let cases = [
        (put(format!("{spec}/properties"), "backends", Value::Null), ".spec.backends: it is gone"),
        (
            put(format!("{spec}/properties/strategy"), "type", json!("integer")),
            ".spec.strategy: type was \"string\" and is \"integer\"",
        ),
        (
            put(format!("{spec}/properties/strategy"), "enum", json!(["ActiveActive"])),
            ".spec.strategy: \"ActivePassive\" is taken no more",
        ),
        (put(format!("{spec}/properties/backends"), "maxItems", json!(1)), ".spec.backends: maxItems was"),
        (
            put(format!("{spec}/properties/backends/items/properties/name"), "pattern", json!("^a$")),
            ".spec.backends[].name: the pattern was",
        ),
        (put(spec.to_owned(), "required", json!(["backends", "outputs", "policyRef", "strategy"])), "is required now"),
        (put(version.to_owned(), "served", json!(false)), "version \"v1alpha1\" is served no more"),
        (put(version.to_owned(), "name", json!("v1")), "version \"v1alpha1\" is gone"),
        (put(version.to_owned(), "subresources", Value::Null), "the subresources of \"v1alpha1\" differ"),
        (put("/spec".to_owned(), "scope", json!("Cluster")), "spec.scope was"),
    ];
    for (found, expected) in cases {
        assert!(found.iter().any(|break_| break_.contains(expected)), "{expected}: {found:?}");
    }
    assert_eq!(breaks(&first, &first), Vec::<String>::new());
    // What is wider breaks nobody.
    assert_eq!(put(format!("{spec}/properties"), "another", json!({ "type": "string" })), Vec::<String>::new());
}
