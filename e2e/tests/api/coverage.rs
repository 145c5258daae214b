//! A check that every rule and bound of the schema is tested and documented.

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use mail_failover_api::crds;
use mail_failover_e2e::suite::{Trial, trial};

use super::object::Kind;
use super::refused::expectations;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("every rule and every bound of a spec has an example that is refused", async |_| {
            let mut missing = Vec::new();
            for kind in [Kind::Backend, Kind::Policy, Kind::Route] {
                let expected = expectations(kind);
                let mut bounds = Vec::new();
                walk(field(&schema(kind)?, "spec")?, "spec", &mut |path, schema| bounds.extend(limits(path, schema)));
                if bounds.len() < 10 {
                    bail!("{}: only {} bounds were found: {bounds:?}", kind.name(), bounds.len());
                }
                missing.extend(
                    bounds
                        .into_iter()
                        .filter(|any| !any.iter().any(|text| expected.iter().any(|said| said.contains(text))))
                        .map(|any| format!("{}: {}", kind.name(), any.join(" or "))),
                );
            }
            if missing.is_empty() { Ok(()) } else { bail!("no case is refused with\n  {}", missing.join("\n  ")) }
        }),
        trial("every field has a description", async |_| {
            let mut missing = Vec::new();
            for kind in [Kind::Backend, Kind::Policy, Kind::Route] {
                let schema = schema(kind)?;
                for top in ["spec", "status"] {
                    walk(field(&schema, top)?, top, &mut |path, schema| {
                        // An item of a list is described by the list.
                        let described = schema.description.as_ref().is_some_and(|text| !text.is_empty());
                        if path != top && !path.ends_with("[]") && !described {
                            missing.push(format!("{}.{path}", kind.name()));
                        }
                    });
                }
            }
            if missing.is_empty() { Ok(()) } else { bail!("undocumented:\n  {}", missing.join("\n  ")) }
        }),
    ]
}

fn schema(kind: Kind) -> Result<JSONSchemaProps> {
    let definitions: Vec<CustomResourceDefinition> = crds();
    let crd = definitions.into_iter().find(|crd| crd.spec.names.kind == kind.name()).context("a definition")?;
    let version = crd.spec.versions.into_iter().next().context("a version")?;
    version.schema.and_then(|schema| schema.open_api_v3_schema).context("a schema")
}

fn field<'a>(schema: &'a JSONSchemaProps, name: &str) -> Result<&'a JSONSchemaProps> {
    schema.properties.as_ref().and_then(|properties| properties.get(name)).with_context(|| format!("a field {name}"))
}

fn walk(schema: &JSONSchemaProps, path: &str, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, inner) in schema.properties.iter().flatten() {
        walk(inner, &format!("{path}.{name}"), visit);
    }
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(inner)) => walk(inner, &format!("{path}[]"), visit),
        Some(JSONSchemaPropsOrArray::Schemas(_)) | None => {}
    }
}

/// The bounds of this field. For each, the message about a violating value must contain one of its
/// texts.
fn limits(path: &str, schema: &JSONSchemaProps) -> Vec<Vec<String>> {
    let mut limits: Vec<Vec<String>> = Vec::new();
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        limits.push(vec![rule.message.clone().unwrap_or_else(|| format!("{path}: a rule without a message"))]);
    }
    for name in schema.required.iter().flatten() {
        limits.push(vec![format!("{path}.{name}: Required value")]);
    }
    let bounds = [
        (schema.enum_.is_some(), "Unsupported value"),
        (schema.pattern.is_some(), "should match"),
        (schema.min_length.is_some(), "should be at least"),
        (schema.max_length.is_some(), "Too long"),
        (schema.minimum.is_some(), "should be greater than or equal to"),
        (schema.maximum.is_some(), "should be less than or equal to"),
        (schema.min_items.is_some(), "should have at least"),
        (schema.max_items.is_some(), "Too many"),
    ];
    for (is_set, text) in bounds {
        if is_set {
            limits.push(vec![format!("{path}: {text}"), format!("{path} in body {text}")]);
        }
    }
    if matches!(schema.x_kubernetes_list_type.as_deref(), Some("set" | "map")) {
        limits.push(vec![format!("{path}[]: Duplicate value")]);
    }
    limits
}
