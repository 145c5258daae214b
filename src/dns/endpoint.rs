//! Records led by a `DNSEndpoint`, which external-dns follows.

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, Error};

use super::object::{EndpointPlan, claim, plan, resource, untaken, wanted};
use super::{DnsError, DnsRequest};
use crate::output::FIELD_MANAGER;
use mail_failover_core::model::{DnsEndpointObject, Uid};
use mail_failover_runtime::kubernetes::{CallError, status_code};

/// Outcome of an attempt: the object is as it should be.
#[derive(Debug)]
pub(super) struct LedEndpoint {
    /// True if it was written.
    pub(super) is_changed: bool,
    /// The step that is missing until external-dns has taken it over.
    pub(super) untaken: Option<String>,
}

/// Looks at the object, and writes it if it is not as it should be: on the condition that it is still as it was seen.
pub(super) async fn lead(
    cluster: &Client,
    request: &DnsRequest,
    object: &DnsEndpointObject,
    route: &Uid,
) -> Result<LedEndpoint, DnsError> {
    let name = &*object.name;
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.clone(), &request.owner.route.namespace, &resource());
    let observed = match api.get_opt(name).await {
        Ok(Some(observed)) => observed,
        Ok(None) => taken(&api, request, object).await?,
        // Of a missing object the answer says that it is one.
        Err(error) if status_code(&error) == Some(404) => return Err(DnsError::NoDefinition),
        Err(error) => return Err(failed(name, error)),
    };
    let wanted = wanted(request, object, route);
    match plan(request, &wanted, &observed)? {
        EndpointPlan::InPlace => Ok(LedEndpoint { is_changed: false, untaken: untaken(&observed) }),
        EndpointPlan::Apply => {
            let mut wanted = wanted;
            // Without a version the write would be unconditional. With it the late write of an old leader is refused.
            wanted["metadata"]["resourceVersion"] = observed.metadata.resource_version.into();
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let applied = api.patch(name, &params, &Patch::Apply(&wanted)).await;
            let applied = applied.map_err(|error| failed(name, error))?;
            Ok(LedEndpoint { is_changed: true, untaken: untaken(&applied) })
        }
    }
}

/// Creates the object without records, which fails if the name is taken.
// Server-side apply cannot express that it must not exist.
async fn taken(
    api: &Api<DynamicObject>,
    request: &DnsRequest,
    object: &DnsEndpointObject,
) -> Result<DynamicObject, DnsError> {
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let claim = serde_json::from_value(claim(request, object));
    let claim = claim.map_err(|error| failed(&object.name, Error::SerdeError(error)))?;
    match api.create(&params, &claim).await {
        Ok(created) => Ok(created),
        // An object that does not exist is created; where there is nothing to create it in, the type is missing.
        Err(error) if status_code(&error) == Some(404) => Err(DnsError::NoDefinition),
        Err(error) => Err(failed(&object.name, error)),
    }
}

fn failed(name: &str, error: Error) -> DnsError {
    let name = name.to_owned();
    match status_code(&error) {
        Some(404 | 409) => DnsError::Overtaken(name),
        Some(401 | 403) => DnsError::Forbidden { name, source: CallError::from(error) },
        Some(_) | None => DnsError::Cluster { name, source: CallError::from(error) },
    }
}
