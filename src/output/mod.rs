//! What a route leads its mail with: the desired objects, and the writes that turn what is there into what is desired.
//!
//! Pure. Architecture invariant: an output never decides where mail goes, never holds a credential, and never touches an object
//! that another owner controls.

mod config_map;
mod plan;
mod service;

use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api;
use crate::model::{Backend, ObjectKey, Route};
pub use plan::{Desired, Observed, Output, OutputKey, OutputKind, Write, writes};

/// The field manager of every output.
pub const FIELD_MANAGER: &str = "mail-failover-output";
/// Label of every object that the operator owns.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const MANAGED_BY: &str = "mail-failover-operator";
/// Label of an `EndpointSlice` that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Annotation that names the route's active backend, for people.
pub const BACKEND_ANNOTATION: &str = "mailfailover.io/sending-backend";

/// The route that owns outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: String,
}

/// The backend that outputs lead to.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Name of the `SendingBackend`.
    pub name: &'a str,
    /// What it is.
    pub backend: &'a Backend,
    /// Its addresses and whether each is in working order; `None` while they are not known, and endpoints are left as they are.
    pub addresses: Option<Vec<(SocketAddr, bool)>>,
}

/// Everything a route's outputs should be; without a usable target, only what it claims.
pub fn desired(owner: &Owner, route: &Route, target: Option<&Target<'_>>) -> Desired {
    let key = |kind, name: &Arc<str>| (kind, owner.key.sibling(name.clone()));
    let services = route.services.iter().map(|output| key(OutputKind::Service, &output.name));
    let config_maps = route.config_maps.iter().map(|output| key(OutputKind::ConfigMap, &output.name));
    let mut desired =
        Desired { objects: vec![], claims: services.chain(config_maps).collect(), endpoints_known: false };
    let Some(target) = target else { return desired };
    desired.endpoints_known = target.addresses.is_some();
    for output in &route.services {
        desired.objects.push(Output::Service(Box::new(service::service(owner, output))));
        let slices =
            target.addresses.iter().flat_map(|addresses| service::endpoint_slices(owner, output, target, addresses));
        desired.objects.extend(slices.map(|slice| Output::EndpointSlice(Box::new(slice))));
    }
    for output in &route.config_maps {
        desired.objects.push(Output::ConfigMap(Box::new(config_map::config_map(owner, output, target))));
    }
    desired
}

fn metadata(owner: &Owner, name: String, labels: &[(&str, &str)], backend: Option<&str>) -> ObjectMeta {
    let labels = labels.iter().chain(&[(MANAGED_BY_LABEL, MANAGED_BY)]);
    ObjectMeta {
        name: Some(name),
        namespace: Some(owner.key.namespace.to_string()),
        labels: Some(labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
        annotations: backend.map(|backend| [(BACKEND_ANNOTATION.to_owned(), backend.to_owned())].into()),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/{}", api::GROUP, api::VERSION),
            kind: "MailRoute".to_owned(),
            name: owner.key.name.to_string(),
            uid: owner.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(false),
        }]),
        ..ObjectMeta::default()
    }
}

/// The uid of the `MailRoute` that controls an object.
pub fn route_uid(metadata: &ObjectMeta) -> Option<&str> {
    let mut owners = metadata.owner_references.iter().flatten();
    let ours = owners.find(|owner| owner.controller == Some(true) && owner.kind == "MailRoute")?;
    ours.api_version.starts_with(api::GROUP).then_some(ours.uid.as_str())
}

/// The objects that outputs are made of, seen alike.
pub trait OutputObject {
    /// Its metadata.
    fn metadata(&self) -> &ObjectMeta;
}

impl OutputObject for Service {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl OutputObject for EndpointSlice {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl OutputObject for ConfigMap {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}
