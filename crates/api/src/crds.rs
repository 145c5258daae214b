use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;

use super::{FailoverPolicy, MailRoute, SendingBackend};

/// The three custom resource definitions, as they are installed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [SendingBackend::crd(), FailoverPolicy::crd(), MailRoute::crd()].into_iter().map(with_unobserved_status).collect()
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
