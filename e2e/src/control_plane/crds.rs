use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};

use crate::eventually::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

/// The API server's message as a user reads it, or the text of another error.
pub fn said(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error { status.message.clone() } else { error.to_string() }
}

/// Installs the custom resource definitions and waits until the API server serves them.
///
/// # Errors
/// When the API server refuses one, or does not establish it in time.
pub async fn install_crds(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crds = mail_failover_api::crds();
    for crd in &crds {
        let name = crd.name_any();
        // The CEL rules are compiled and their cost is estimated here.
        api.patch(&name, &PatchParams::apply("mail-failover-e2e").force(), &Patch::Apply(crd))
            .await
            .map_err(|error| anyhow!("the API server refuses {name}: {}", said(&error)))?;
    }
    for crd in &crds {
        let name = crd.name_any();
        eventually(DEADLINE, &format!("{name} to be Established"), async || {
            let conditions = api.get(&name).await?.status.and_then(|status| status.conditions).unwrap_or_default();
            if conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
                return Ok(Some(()));
            }
            bail!("{conditions:?}")
        })
        .await?;
    }
    // The condition Established is set a moment before the resource is served.
    for crd in &crds {
        let version = crd.spec.versions.first().context("a definition has a version")?;
        let path = format!("/apis/{}/{}/{}?limit=1", crd.spec.group, version.name, crd.spec.names.plural);
        eventually(DEADLINE, &format!("{path} to be served"), async || {
            let request = hyper::Request::get(&path).body(Vec::new())?;
            client.request_text(request).await?;
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}
