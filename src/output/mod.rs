//! The outputs of a route: the desired objects, and the writes that bring the cluster there.
//!
//! Pure. Architecture invariant: an output never decides where mail goes, never holds a credential, and never touches
//! an object that another owner controls.

mod agent;
mod config_map;
mod division;
mod kept;
mod plan;
mod service;
mod split;
#[cfg(test)]
mod testing;

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub use agent::{DocumentInputs, DocumentMember};
pub use division::{AgentPart, Senders};
pub use kept::strip_config_map;
use mail_failover_api as api;
use mail_failover_api::conditions::reason;
use mail_failover_contract::routing::Refusal;
use mail_failover_core::model::{Backend, ObjectKey, Route, Uid};
pub use plan::{
    Desired, DesiredOutput, Observed, ObservedOutput, Obstacle, Output, OutputKey, OutputKind, Write, writes,
};
pub use split::{ServiceSplit, service_split, targets_of_services};

/// The field manager of every output.
pub const FIELD_MANAGER: &str = "mail-failover-output";
/// Label of every object that the operator owns.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of that label.
pub const MANAGED_BY: &str = "mail-failover-operator";
/// Label of an `EndpointSlice` that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Label of an `EndpointSlice` that names its controller.
pub const SLICE_MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Annotation that names the route's active backend, for people.
pub const BACKEND_ANNOTATION: &str = "mailfailover.io/sending-backend";

/// Annotation that names the transition that led the output where it leads.
// Every decision rewrites every output that it concerns. A late write of an earlier one, from a leader that was
// suspended or over a connection that stalled, then meets another version and is refused.
// ADR-0023: Outputs name the transition behind them.
pub const TRANSITION_ANNOTATION: &str = "mailfailover.io/transition";

/// The route that owns outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Namespace and name of the route.
    pub key: ObjectKey,
    /// `metadata.uid` of the route.
    pub uid: Uid,
}

/// A backend that outputs lead to.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Share of the mail, in percent.
    pub percent: u8,
    /// The id of the route's latest transition; 0 before the first.
    pub transition: i64,
    /// Name of the `SendingBackend`.
    pub name: &'a str,
    /// Settings of the backend.
    pub backend: &'a Backend,
    /// Addresses with true for each that works; `None` while they are not known, and endpoints are left as they are.
    pub addresses: Option<Vec<(SocketAddr, bool)>>,
    /// True if the host and port are known under which clients reach it. Outputs that hold them are left as they are
    /// otherwise.
    pub is_place_known: bool,
}

/// Destination of an output and the decision behind it, as its annotations tell people and later writers.
#[derive(Clone, Copy, Debug)]
struct Led<'a> {
    /// Name of the `SendingBackend`; `None` if nobody may carry the mail.
    backend: Option<&'a str>,
    /// The id of the route's latest transition; 0 before the first.
    transition: i64,
}

impl<'a> From<&'a Target<'_>> for Led<'a> {
    fn from(target: &'a Target<'_>) -> Self {
        Self { backend: Some(target.name), transition: target.transition }
    }
}

/// Lists every object that the spec of a route wants to own, `EndpointSlices` aside.
pub fn owned_keys<'a>(route: &'a Route, key: &'a ObjectKey) -> impl Iterator<Item = OutputKey> + 'a {
    let services = route.services.iter().map(|output| (OutputKind::Service, &output.name));
    let config_maps = route.config_maps.iter().map(|output| (OutputKind::ConfigMap, &output.name));
    let agents = route.agents.iter().map(|output| (OutputKind::ConfigMap, &output.config_map));
    services.chain(config_maps).chain(agents).map(|(kind, name)| (kind, key.sibling(name.clone())))
}

/// Returns the field of a route's spec that names this output.
pub fn field(route: &Route, key: &OutputKey) -> &'static str {
    match key.0 {
        OutputKind::Service | OutputKind::EndpointSlice => "spec.outputs[].service.name",
        OutputKind::ConfigMap if route.agents.iter().any(|output| output.config_map == key.1.name) => AGENT_FIELD,
        OutputKind::ConfigMap => "spec.outputs[].configMap.name",
    }
}

const AGENT_FIELD: &str = "spec.outputs[].agent.configMap";

/// Computes the desired outputs of a route; without a usable target, only the owned keys.
///
/// A Service spreads evenly over its endpoints, so of each target it has the number of addresses that comes closest to
/// the shares. An output for a single backend leads to the one with the largest share.
pub fn desired(owner: &Owner, route: &Route, targets: &[Target<'_>], inputs: &DocumentInputs<'_>) -> Desired {
    let mut desired = Desired {
        objects: vec![],
        owned_keys: owned_keys(route, &owner.key).collect(),
        endpoints_known: false,
        places_known: false,
        obstacles: vec![],
    };
    let of_services = targets_of_services(targets, inputs.drill.as_ref());
    let split = service_split(&of_services);
    // The first of equals.
    let Some(largest) = targets.iter().rev().max_by_key(|target| target.percent) else { return desired };
    desired.endpoints_known = split.is_known;
    let are_all_known = targets.iter().all(|target| target.is_place_known);
    desired.places_known =
        (largest.is_place_known || route.config_maps.is_empty()) && (are_all_known || route.agents.is_empty());
    for output in &route.services {
        let service = Output::Service(Box::new(service::service(owner, output)));
        desired.objects.push(wanted(owner, &output.name, service));
        for (index, part) in split.parts.iter().enumerate() {
            let slices = service::endpoint_slices(owner, output, part, index);
            for (name, slice) in slices {
                desired.objects.push(wanted(owner, &name, Output::EndpointSlice(Box::new(slice))));
            }
        }
    }
    if largest.is_place_known {
        for output in &route.config_maps {
            let config_map = Output::ConfigMap(Box::new(config_map::config_map(owner, output, largest)));
            desired.objects.push(wanted(owner, &output.name, config_map));
        }
    }
    if !route.agents.is_empty() && are_all_known {
        brief(owner, route, targets, largest, inputs, &mut desired);
    }
    desired
}

/// Computes the outputs of a route whose mail nobody may carry: Services without endpoints, and `ConfigMaps` that lead
/// to an address to which no connection can be made. `transition` is the id of the route's latest one.
// ADR-0080: Residency and sender domains yield to nothing.
pub fn withdrawn(owner: &Owner, route: &Route, transition: i64, inputs: &DocumentInputs<'_>) -> Desired {
    let mut desired = Desired {
        objects: vec![],
        owned_keys: owned_keys(route, &owner.key).collect(),
        endpoints_known: true,
        places_known: true,
        obstacles: vec![],
    };
    for output in &route.services {
        let service = Output::Service(Box::new(service::service(owner, output)));
        desired.objects.push(wanted(owner, &output.name, service));
    }
    for output in &route.config_maps {
        let config_map = Output::ConfigMap(Box::new(config_map::withdrawn(owner, output, transition)));
        desired.objects.push(wanted(owner, &output.name, config_map));
    }
    match agent::render_withdrawn(owner, transition, inputs) {
        _ if route.agents.is_empty() => {}
        Ok(text) => tell_agents(owner, route, Led { backend: None, transition }, &text, &mut desired),
        Err(refusal) => desired.obstacles.push(untold(&refusal)),
    }
    desired
}

/// Adds the agents' documents to `desired`, or the obstacle to them.
fn brief(
    owner: &Owner,
    route: &Route,
    targets: &[Target<'_>],
    largest: &Target<'_>,
    inputs: &DocumentInputs<'_>,
    desired: &mut Desired,
) {
    let rendered = match agent::render(owner, targets, inputs) {
        Ok(rendered) => rendered,
        Err(refusal) => return desired.obstacles.push(untold(&refusal)),
    };
    // ADR-0202: Who tells accounts apart is not told that they share a next hop.
    let left_out = rendered.left_out.iter().filter(|_| !inputs.has_only_relays);
    desired.obstacles.extend(left_out.map(|agent::Sharing { told, left_out, next_hop }| Obstacle {
        // ADR-0042: Agents get one backend per host and port.
        reason: reason::NEXT_HOP_SHARED,
        field: "spec.backends[].name",
        message: format!(
            "{told} and {left_out} are both {next_hop}, and by host and port an MTA tells backends apart: agents are told of {told} \
             alone, and relays of both; give one of them another host name, or take it out of the list"
        ),
    }));
    tell_agents(owner, route, largest.into(), &rendered.text, desired);
}

fn tell_agents(owner: &Owner, route: &Route, led: Led<'_>, text: &str, desired: &mut Desired) {
    for output in &route.agents {
        let config_map = agent::config_map(owner, output, led, text);
        desired.objects.push(wanted(owner, &output.config_map, Output::ConfigMap(Box::new(config_map))));
    }
}

/// The obstacle of a document that agents could not use.
fn untold(refusal: &Refusal) -> Obstacle {
    let remedy = match refusal {
        Refusal::TooLarge(_) => "; use smaller bundles in tls.caRef of its backends",
        Refusal::Empty
        | Refusal::Json(_)
        | Refusal::Unreadable(_)
        | Refusal::Version(_)
        | Refusal::Field { .. }
        | Refusal::Older { .. } => "",
    };
    let message = format!("agents could not use what they would be told, and keep what they have: {refusal}{remedy}");
    Obstacle { reason: reason::AGENT_DOCUMENT_UNUSABLE, field: AGENT_FIELD, message }
}

fn wanted(owner: &Owner, name: &str, output: Output) -> DesiredOutput {
    DesiredOutput { key: (output.kind(), owner.key.sibling(name)), output }
}

fn metadata(owner: &Owner, name: String, labels: &[(&str, &str)], led: Option<Led<'_>>) -> ObjectMeta {
    let labels = labels.iter().chain(&[(MANAGED_BY_LABEL, MANAGED_BY)]);
    ObjectMeta {
        name: Some(name),
        namespace: Some(owner.key.namespace.to_string()),
        labels: Some(labels.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
        annotations: led.map(|Led { backend, transition }| {
            let backend = backend.map(|backend| (BACKEND_ANNOTATION.to_owned(), backend.to_owned()));
            backend.into_iter().chain([(TRANSITION_ANNOTATION.to_owned(), transition.to_string())]).collect()
        }),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/{}", api::GROUP, api::VERSION),
            kind: "MailRoute".to_owned(),
            name: owner.key.name.to_string(),
            uid: owner.uid.to_string(),
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

/// Object that an output is made of.
pub trait OutputObject {
    /// Returns the object's metadata.
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
