//! The `DNSEndpoint` of an output, as external-dns defines it: the object that is wanted, and what leads to it.
//!
//! Pure. The types are JSON: external-dns has no Rust library, and its definition is that of the cluster.

use std::collections::BTreeMap;

use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::DnsRequest;
use crate::output::{BACKEND_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL};
use mail_failover_api as api;
use mail_failover_core::model::{DnsData, DnsEndpointObject, DnsRecordSet, Uid};
use mail_failover_dns::mark::Owner;

const GROUP: &str = "externaldns.k8s.io";
const VERSION: &str = "v1alpha1";
const KIND: &str = "DNSEndpoint";
const PLURAL: &str = "dnsendpoints";
/// Annotation that names the route whose object it is.
const ROUTE_ANNOTATION: &str = "mailfailover.io/route";
/// Annotation that names the operator of that route, as the marks in a zone do.
const OWNER_ANNOTATION: &str = "mailfailover.io/dns-owner";

/// An object of that name that is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignEndpoint {
    /// Nobody's that we know.
    #[error("DNSEndpoint {0} exists and is not the operator's; delete it, or choose another name")]
    Unknown(String),
    /// Another route's.
    #[error(
        "DNSEndpoint {name} belongs to MailRoute {route} of the operator {owner}; choose another name, or hand it over once nobody leads it any more: kubectl -n {} annotate --overwrite dnsendpoint {name} {ROUTE_ANNOTATION}={} {OWNER_ANNOTATION}={}",
        .wanted.route.namespace,
        .wanted.route.name,
        .wanted.operator
    )]
    Route {
        /// Name of the object.
        name: String,
        /// Name of the route.
        route: String,
        /// Name of the operator.
        owner: String,
        /// The owner that it would have to name.
        wanted: Box<Owner>,
    },
}

/// Action that leads an object that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EndpointPlan {
    /// It is as it should be.
    InPlace,
    /// It has to be applied.
    Apply,
}

/// The type as kube's dynamic client knows it.
pub(super) fn resource() -> ApiResource {
    ApiResource {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        api_version: format!("{GROUP}/{VERSION}"),
        kind: KIND.to_owned(),
        plural: PLURAL.to_owned(),
    }
}

/// The object by which an output's name is taken: with its owner, and without records.
// All in it stays for as long as the object does, so that it does no harm that the POST goes on owning these fields.
pub(super) fn claim(request: &DnsRequest, object: &DnsEndpointObject) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": KIND,
        "metadata": {
            "name": &*object.name,
            "namespace": &*request.owner.route.namespace,
            "labels": { MANAGED_BY_LABEL: MANAGED_BY },
            "annotations": {
                ROUTE_ANNOTATION: &*request.owner.route.name,
                OWNER_ANNOTATION: &*request.owner.operator,
            },
        },
        "spec": {},
    })
}

/// The object as it should be.
pub(super) fn wanted(request: &DnsRequest, object: &DnsEndpointObject, route: &Uid) -> Value {
    let mut wanted = claim(request, object);
    for (key, value) in &object.labels {
        wanted["metadata"]["labels"][key] = value.as_str().into();
    }
    for (key, value) in &object.annotations {
        wanted["metadata"]["annotations"][key] = value.as_str().into();
    }
    wanted["metadata"]["annotations"][BACKEND_ANNOTATION] = (*request.backend).into();
    if object.goes_with_route {
        wanted["metadata"]["ownerReferences"] = json!([{
            "apiVersion": format!("{}/{}", api::GROUP, api::VERSION),
            "kind": "MailRoute",
            "name": &*request.owner.route.name,
            "uid": route.as_str(),
            "controller": true,
            "blockOwnerDeletion": false,
        }]);
    }
    let sets = request.output.sets_of(&request.backend).unwrap_or_default();
    // One without targets says nothing: external-dns then removes the records, as it should.
    let sets = sets.iter().filter(|set| !set.data.is_empty());
    wanted["spec"]["endpoints"] = sets.map(|set| endpoint(set, request.output.ttl)).collect();
    wanted
}

/// A record set as external-dns writes it: `10 mx.example.com` for MX, and no dot at the end of a name.
fn endpoint(set: &DnsRecordSet, ttl: u32) -> Value {
    let targets: Vec<_> = set.data.iter().map(target).collect();
    json!({ "dnsName": &*set.name, "recordType": set.record_type.as_str(), "recordTTL": ttl, "targets": targets })
}

fn target(data: &DnsData) -> String {
    match data {
        DnsData::Txt(text) => text.to_string(),
        DnsData::A(_) | DnsData::Aaaa(_) | DnsData::Cname(_) | DnsData::Mx(..) => data.to_string(),
    }
}

/// Plans what leads an object that exists to the wanted one.
///
/// # Errors
/// It is somebody else's.
// ADR-0175: external-dns is led by an object that is looked at, as a zone is.
pub(super) fn plan(
    request: &DnsRequest,
    wanted: &Value,
    observed: &DynamicObject,
) -> Result<EndpointPlan, ForeignEndpoint> {
    let empty = BTreeMap::new();
    let metadata = &observed.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let (labels, annotations) =
        (metadata.labels.as_ref().unwrap_or(&empty), metadata.annotations.as_ref().unwrap_or(&empty));
    let is_managed = labels.get(MANAGED_BY_LABEL).is_some_and(|manager| manager == MANAGED_BY);
    match (annotations.get(ROUTE_ANNOTATION), annotations.get(OWNER_ANNOTATION)) {
        (Some(route), Some(owner))
            if is_managed && (**route != *request.owner.route.name || **owner != *request.owner.operator) =>
        {
            let wanted = Box::new(request.owner.clone());
            return Err(ForeignEndpoint::Route { name, route: route.clone(), owner: owner.clone(), wanted });
        }
        (Some(_), Some(_)) if is_managed => {}
        (_, _) => return Err(ForeignEndpoint::Unknown(name)),
    }
    let controllers: Vec<_> = metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.as_str())
        .collect();
    let wanted_controllers: Vec<_> = wanted["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|owner| owner["uid"].as_str())
        .collect();
    let is_in_place = has_all(&wanted["metadata"]["labels"], labels)
        && has_all(&wanted["metadata"]["annotations"], annotations)
        && controllers == wanted_controllers
        && observed.data["spec"]["endpoints"] == wanted["spec"]["endpoints"];
    Ok(if is_in_place { EndpointPlan::InPlace } else { EndpointPlan::Apply })
}

/// Returns true if all wanted texts are there. Those that others have added are theirs.
fn has_all(wanted: &Value, present: &BTreeMap<String, String>) -> bool {
    let mut wanted = wanted.as_object().into_iter().flatten();
    wanted.all(|(key, value)| present.get(key).map(String::as_str) == value.as_str())
}

/// Tells people that external-dns has not taken the object over as it is; `None` once it has.
pub(super) fn untaken(observed: &DynamicObject) -> Option<String> {
    let generation = observed.metadata.generation.unwrap_or_default();
    let seen = observed.data["status"]["observedGeneration"].as_i64().unwrap_or_default();
    let name = observed.metadata.name.as_deref().unwrap_or_default();
    (seen != generation).then(|| {
        format!(
            "external-dns has not taken over DNSEndpoint {name} yet (observedGeneration {seen} of {generation}): it looks once a minute by default, with --source=crd, and where its filters let it"
        )
    })
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
