use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;
use serde_json::Value;

use super::{FailoverPolicy, MailRoute, SendingBackend};

/// The three custom resource definitions, as they are installed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let crds = [SendingBackend::crd(), FailoverPolicy::crd(), MailRoute::crd()];
    crds.into_iter().map(with_unobserved_status).map(with_whole_sentences).collect()
}

/// One definition per file, as committed in `crds/`: (file name, YAML).
///
/// # Errors
/// When a definition cannot be written as YAML, which would be a defect of the schema.
pub fn crds_yaml() -> Result<Vec<(String, String)>, serde_saphyr::ser::Error> {
    crds()
        .into_iter()
        .map(|crd| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            Ok((name, format!("---\n{}", serde_saphyr::to_string(&crd)?)))
        })
        .collect()
}

/// Adds a default status with observed generation -1.
// kstatus takes an object without status for current. The default tells `kubectl wait`, Flux and Argo CD that the
// operator has not looked yet.
fn with_unobserved_status(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let status = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|schema| schema.properties.as_mut())
            .and_then(|properties| properties.get_mut("status"));
        if let Some(status) = status {
            status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
        }
    }
    crd
}

/// Joins the lines of each description, which are those of a doc comment: `kubectl explain` would break its text where
/// the code does.
fn with_whole_sentences(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        let joined = serde_json::to_value(&*schema).map(|mut value| {
            join_lines(&mut value);
            value
        });
        if let Ok(joined) = joined.and_then(serde_json::from_value) {
            *schema = joined;
        }
    }
    crd
}

fn join_lines(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if let Value::String(text) = field
                    && name == "description"
                {
                    *text = joined(text);
                } else {
                    join_lines(field);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(join_lines),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Joins the lines of each paragraph; the points of a list stay lines of their own.
fn joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.lines().map(str::trim_end) {
        let is_point = line.trim_start().starts_with("- ");
        if line.is_empty() || is_point || joined.is_empty() || joined.ends_with('\n') {
            if !joined.is_empty() && !joined.ends_with('\n') {
                joined.push('\n');
            }
            joined.push_str(line);
            if line.is_empty() {
                joined.push('\n');
            }
        } else {
            joined.push(' ');
            joined.push_str(line.trim_start());
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_paragraph_are_joined_and_points_of_a_list_are_not() {
        assert_eq!(
            joined("Mail leaves by another\nway than the preferred one."),
            "Mail leaves by another way than the preferred one."
        );
        assert_eq!(
            joined("One of:\n- a, which\n  goes on\n- b\n\nThe rest\nof it."),
            "One of:\n- a, which goes on\n- b\n\nThe rest of it."
        );
        assert_eq!(joined(""), "");
    }
}
