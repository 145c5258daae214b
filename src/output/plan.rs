//! The plan of writes: from the observed to the desired objects, in the fewest writes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kept::is_kept_of;
use super::{OutputObject, Owner, SERVICE_NAME_LABEL, TRANSITION_ANNOTATION, route_uid};
use mail_failover_core::model::{ObjectIdentity, ObjectKey, ResourceVersion};

/// Kind of an output's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutputKind {
    /// Service of the core group.
    Service,
    /// `EndpointSlice` of the group discovery.k8s.io/v1.
    EndpointSlice,
    /// `ConfigMap` of the core group.
    ConfigMap,
}

impl OutputKind {
    /// Returns the Kubernetes kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// Kind and key of an object.
pub type OutputKey = (OutputKind, ObjectKey);

/// An object, desired or observed.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Service without a selector.
    Service(Box<Service>),
    /// `EndpointSlice` of a Service.
    EndpointSlice(Box<EndpointSlice>),
    /// Rendered `ConfigMap`, agents' documents included.
    ConfigMap(Box<ConfigMap>),
}

impl Output {
    /// Returns the object's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Service(service) => service.metadata(),
            Self::EndpointSlice(slice) => slice.metadata(),
            Self::ConfigMap(config_map) => config_map.metadata(),
        }
    }

    /// Returns the object's kind.
    pub fn kind(&self) -> OutputKind {
        match self {
            Self::Service(_) => OutputKind::Service,
            Self::EndpointSlice(_) => OutputKind::EndpointSlice,
            Self::ConfigMap(_) => OutputKind::ConfigMap,
        }
    }

    /// Returns true if `observed` has everything that `self` wants, no selector, and is no alias.
    // Fields that others have added are theirs. With a selector, another controller would lead the
    // Service elsewhere; the name of an alias leads to another name.
    fn is_satisfied_by(&self, observed: &Self) -> bool {
        let metadata = has_metadata(self.metadata(), observed.metadata());
        metadata
            && match (self, observed) {
                (Self::Service(want), Self::Service(have)) => {
                    !has_selector(have)
                        && !is_alias(have)
                        && ports(want).iter().all(|want| {
                            ports(have).iter().any(|have| {
                                (&want.name, want.port, &want.protocol, &want.target_port)
                                    == (&have.name, have.port, &have.protocol, &have.target_port)
                            })
                        })
                }
                (Self::EndpointSlice(want), Self::EndpointSlice(have)) => {
                    want.address_type == have.address_type
                        && want.ports == have.ports
                        && want.endpoints.len() == have.endpoints.len()
                        && want
                            .endpoints
                            .iter()
                            .zip(&have.endpoints)
                            .all(|(want, have)| want.addresses == have.addresses && is_ready(want) == is_ready(have))
                }
                (Self::ConfigMap(want), Self::ConfigMap(have)) => has_values(want, have),
                (Self::Service(_) | Self::EndpointSlice(_) | Self::ConfigMap(_), _) => false,
            }
    }
}

fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

fn is_ready(endpoint: &Endpoint) -> Option<bool> {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready)
}

fn has_selector(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty())
}

/// Returns true if the DNS name of a Service is an alias for another name.
fn is_alias(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// Returns the ports that a Service should have if some of its present ones conflict with ours; `None` if none does.
// Names are unique, and of several ports each must have one. Server-side apply, which tells ports apart by number,
// takes none away that others have set.
fn ports_without_obstacles(want: &Service, have: &Service) -> Option<Vec<ServicePort>> {
    let want = ports(want);
    let (mut is_obstructed, mut harmless) = (false, vec![]);
    for port in ports(have) {
        if want.iter().any(|want| (want.port, &want.protocol) == (port.port, &port.protocol)) {
            continue;
        }
        if port.name.is_none() || want.iter().any(|want| want.name == port.name) {
            is_obstructed = true;
        } else {
            harmless.push(port.clone());
        }
    }
    is_obstructed.then(|| [want.to_vec(), harmless].concat())
}

fn has_metadata(want: &ObjectMeta, have: &ObjectMeta) -> bool {
    let owners = want.owner_references.iter().flatten();
    has_entries(want.labels.as_ref(), have.labels.as_ref())
        && has_entries(want.annotations.as_ref(), have.annotations.as_ref())
        && owners.into_iter().all(|owner| have.owner_references.iter().flatten().any(|have| have.uid == owner.uid))
}

/// Returns true if what is kept of `have` is that of the values that `want` has.
fn has_values(want: &ConfigMap, have: &ConfigMap) -> bool {
    want.data.iter().flatten().all(|(key, value)| {
        have.data.as_ref().and_then(|data| data.get(key)).is_some_and(|kept| is_kept_of(key, value, kept))
    })
}

fn has_entries(want: Option<&BTreeMap<String, String>>, have: Option<&BTreeMap<String, String>>) -> bool {
    want.into_iter().flatten().all(|(key, value)| have.is_some_and(|have| have.get(key) == Some(value)))
}

/// Object that a route wants to own.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredOutput {
    /// Kind and key of the object, the same as in its metadata.
    pub key: OutputKey,
    /// The object, without a version.
    pub output: Output,
}

/// Object as the API server showed it, with the identity that writes to it are conditional on.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedOutput {
    /// Key, uid and version of the object.
    pub identity: ObjectIdentity,
    /// The object itself.
    pub output: Output,
}

impl ObservedOutput {
    /// Returns the object's kind and key.
    pub fn key(&self) -> OutputKey {
        (self.output.kind(), self.identity.key.clone())
    }

    fn route_uid(&self) -> Option<&str> {
        route_uid(self.output.metadata())
    }

    /// Returns true if this is a newer version of the same object than `other`.
    fn is_newer_than(&self, other: &Self) -> bool {
        let (known, incoming) = (&self.identity, &other.identity);
        known.uid == incoming.uid && known.resource_version.is_newer_than(&incoming.resource_version)
    }
}

/// Objects that the operator made, as the API server last showed them.
#[derive(Debug, Default)]
pub struct Observed {
    objects: BTreeMap<OutputKey, Arc<ObservedOutput>>,
}

impl Observed {
    /// Takes an object unless a newer version is known. Returns the uid of the route that should be reconciled.
    /// Objects that no route controls are not kept.
    // The watch event caused by a write can arrive after its response.
    pub fn note(&mut self, object: ObservedOutput) -> Option<String> {
        let key = object.key();
        let Some(owner) = object.route_uid().map(str::to_owned) else { return self.forget(&key) };
        if self.objects.get(&key).is_some_and(|known| known.is_newer_than(&object)) {
            return None;
        }
        self.objects.insert(key, Arc::new(object));
        Some(owner)
    }

    /// Forgets a deleted object. Returns the uid of the route that owned it.
    pub fn forget(&mut self, key: &OutputKey) -> Option<String> {
        let object = self.objects.remove(key)?;
        object.route_uid().map(str::to_owned)
    }

    /// Returns the object of that key.
    pub fn get(&self, key: &OutputKey) -> Option<&ObservedOutput> {
        self.objects.get(key).map(Arc::as_ref)
    }

    /// Returns the newest transition that an output of this route names.
    pub fn newest_transition(&self, owner: &Owner) -> Option<i64> {
        let annotations = self.owned_by(owner).filter_map(|object| object.output.metadata().annotations.as_ref());
        annotations.filter_map(|annotations| annotations.get(TRANSITION_ANNOTATION)?.parse().ok()).max()
    }

    /// Returns the transition that an output names.
    pub fn transition_of(&self, key: &OutputKey) -> Option<i64> {
        self.get(key)?.output.metadata().annotations.as_ref()?.get(TRANSITION_ANNOTATION)?.parse().ok()
    }

    /// Returns true if an endpoint of this route is one of these addresses.
    pub fn leads_to(&self, owner: &Owner, addresses: &[SocketAddr]) -> bool {
        self.owned_by(owner)
            .flat_map(|observed| endpoints(&observed.output))
            .any(|endpoint| addresses.contains(&endpoint))
    }

    fn is_owned_by(&self, key: &OutputKey, owner: &Owner) -> bool {
        self.get(key).is_some_and(|object| object.route_uid() == Some(owner.uid.as_str()))
    }

    fn owned_by<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = &'a ObservedOutput> {
        let kinds = [OutputKind::Service, OutputKind::EndpointSlice, OutputKind::ConfigMap];
        let namespace = owner.key.namespace.clone();
        kinds.into_iter().flat_map(move |kind| {
            let first = (kind, ObjectKey { namespace: namespace.clone(), name: "".into() });
            let namespace = namespace.clone();
            let range =
                self.objects.range(first..).take_while(move |((k, key), _)| *k == kind && key.namespace == namespace);
            range.map(|(_, object)| object.as_ref()).filter(|object| object.route_uid() == Some(owner.uid.as_str()))
        })
    }
}

/// The endpoints of a slice; none of any other object.
fn endpoints(output: &Output) -> Vec<SocketAddr> {
    let Output::EndpointSlice(slice) = output else { return vec![] };
    let mut endpoints = vec![];
    for port in slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok()) {
        for address in slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
            endpoints.extend(address.parse().map(|address| SocketAddr::new(address, port)));
        }
    }
    endpoints
}

/// One write to the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Create the object; fails if somebody else has created it meanwhile.
    Create(DesiredOutput),
    /// Server-side apply to an object of ours, on the condition that it still has the version that was seen.
    Apply(DesiredOutput, ResourceVersion),
    /// Remove the selector from our Service.
    ClearSelector(OutputKey, ResourceVersion),
    /// Replace all ports of our Service, then apply: somebody's port conflicts with ours.
    ReplacePorts {
        /// Kind and key of the Service.
        key: OutputKey,
        /// The Service as it is applied.
        service: Box<Service>,
        /// Ports that replace the present ones before.
        ports: Vec<ServicePort>,
        /// Version that was seen; the condition of the replacement.
        version: ResourceVersion,
    },
    /// Delete an object of ours that is no longer wanted, on the condition that it still has the version that was
    /// seen.
    Delete(OutputKey, ObjectIdentity),
}

impl Write {
    /// Returns the kind and key of the written object.
    pub fn key(&self) -> OutputKey {
        match self {
            Self::Create(DesiredOutput { key, .. })
            | Self::Apply(DesiredOutput { key, .. }, _)
            | Self::ReplacePorts { key, .. }
            | Self::ClearSelector(key, _)
            | Self::Delete(key, _) => key.clone(),
        }
    }
}

/// Desired outputs of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Objects whose content is known.
    pub objects: Vec<DesiredOutput>,
    /// Keys of all objects that the route wants, with known content or not. Other objects that it owns are deleted.
    pub owned_keys: Vec<OutputKey>,
    /// True if `objects` has every `EndpointSlice` there should be.
    // While the active backend's addresses are unknown the slices stay.
    pub endpoints_known: bool,
    /// True if the hosts and ports are known that `ConfigMaps` hold. Otherwise these stay.
    pub places_known: bool,
    /// Obstacles that keep outputs incomplete.
    pub obstacles: Vec<Obstacle>,
}

/// Defect of the specs that keeps an output incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Reason of a condition, in one CamelCase word.
    pub reason: &'static str,
    /// Field of the route's spec that it is about.
    pub field: &'static str,
    /// Description of the defect and its remedy.
    pub message: String,
}

/// Plans the writes that are possible now, in order. `refused` keys are left alone.
// The rest follows in a later round: endpoints need their Service first.
pub fn writes(
    owner: &Owner,
    desired: Desired,
    observed: &Observed,
    is_refused: impl Fn(&OutputKey) -> bool,
) -> Vec<Write> {
    let Desired { objects, owned_keys, endpoints_known, places_known: _, obstacles: _ } = desired;
    let mut wanted: BTreeMap<OutputKey, Output> = objects.into_iter().map(|want| (want.key, want.output)).collect();
    let mut writes = vec![];
    for object in observed.owned_by(owner) {
        let key = object.key();
        let ObservedOutput { identity, output: there } = object;
        if let Some(want) = wanted.remove(&key) {
            if is_refused(&key) || want.is_satisfied_by(there) {
                continue;
            }
            writes.push(correction(key, want, there, identity.resource_version.clone()));
        } else if is_obsolete(&key, there, &owned_keys, endpoints_known)
            && there.metadata().deletion_timestamp.is_none()
        {
            writes.push(Write::Delete(key, identity.clone()));
        }
    }
    for (key, want) in wanted {
        let service = service_of(&want).map(|name| (OutputKind::Service, key.1.sibling(name)));
        if service.is_none_or(|service| observed.is_owned_by(&service, owner)) && !is_refused(&key) {
            writes.push(Write::Create(DesiredOutput { key, output: want }));
        }
    }
    // Clients wait for endpoints, so these come first. Deletions come last: in between, a Service
    // has too many endpoints rather than none.
    writes.sort_by_key(|write| match (write, write.key().0) {
        (Write::Delete(..), _) => 3,
        (_, OutputKind::EndpointSlice) => 0,
        (_, OutputKind::Service) => 1,
        (_, OutputKind::ConfigMap) => 2,
    });
    writes
}

/// Returns true if an object of ours that is not desired should be deleted.
fn is_obsolete(key: &OutputKey, object: &Output, owned_keys: &[OutputKey], endpoints_known: bool) -> bool {
    match service_of(object) {
        Some(service) => endpoints_known || !owned_keys.contains(&(OutputKind::Service, key.1.sibling(service))),
        None => !owned_keys.contains(key),
    }
}

/// Returns the write that brings an object of ours nearer to what is wanted.
fn correction(key: OutputKey, want: Output, there: &Output, version: ResourceVersion) -> Write {
    match (want, there) {
        (_, Output::Service(there)) if has_selector(there) => Write::ClearSelector(key, version),
        (Output::Service(mut want), Output::Service(there)) if is_alias(there) => {
            // The API server takes `externalName` away with the type.
            want.spec.get_or_insert_default().type_ = Some("ClusterIP".to_owned());
            Write::Apply(DesiredOutput { key, output: Output::Service(want) }, version)
        }
        (Output::Service(service), Output::Service(there)) => match ports_without_obstacles(&service, there) {
            Some(ports) => Write::ReplacePorts { key, service, ports, version },
            None => Write::Apply(DesiredOutput { key, output: Output::Service(service) }, version),
        },
        (output, Output::Service(_) | Output::EndpointSlice(_) | Output::ConfigMap(_)) => {
            Write::Apply(DesiredOutput { key, output }, version)
        }
    }
}

/// Returns the Service that a slice belongs to.
fn service_of(output: &Output) -> Option<&str> {
    match output {
        Output::EndpointSlice(slice) => {
            slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL)).map(String::as_str)
        }
        Output::Service(_) | Output::ConfigMap(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::metadata;
    use mail_failover_core::model::Uid;

    fn owner(uid: &str) -> Owner {
        Owner { key: ObjectKey::new("shop", "orders"), uid: Uid::parse(Some(uid)).unwrap() }
    }

    fn version(text: &str) -> ResourceVersion {
        ResourceVersion::parse(Some(text)).unwrap()
    }

    fn key(output: &Output) -> OutputKey {
        (output.kind(), ObjectKey::new("shop", output.metadata().name.as_deref().unwrap()))
    }

    fn wanted(output: Output) -> DesiredOutput {
        DesiredOutput { key: key(&output), output }
    }

    fn seen(output: Output, at: &str) -> ObservedOutput {
        let uid = Uid::parse(Some("o")).unwrap();
        ObservedOutput { identity: ObjectIdentity { key: key(&output).1, uid, resource_version: version(at) }, output }
    }

    fn config_map(uid: &str, value: &str) -> Output {
        let metadata = metadata(&owner(uid), "postfix".to_owned(), &[], None);
        let data = [("transport".to_owned(), value.to_owned())].into();
        Output::ConfigMap(Box::new(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }))
    }

    fn slice(name: &str) -> Output {
        let metadata = metadata(&owner("u"), name.to_owned(), &[(SERVICE_NAME_LABEL, "mail")], None);
        Output::EndpointSlice(Box::new(EndpointSlice {
            metadata,
            address_type: "IPv4".to_owned(),
            ..EndpointSlice::default()
        }))
    }

    fn service(selector: Option<&str>) -> Output {
        let mut service =
            Service { metadata: metadata(&owner("u"), "mail".to_owned(), &[], None), ..Service::default() };
        let spec = service.spec.get_or_insert_default();
        spec.selector = selector.map(|value| [("app".to_owned(), value.to_owned())].into());
        Output::Service(Box::new(service))
    }

    fn planned(
        objects: Vec<Output>,
        owned_keys: &[Output],
        endpoints_known: bool,
        observed: Vec<ObservedOutput>,
    ) -> Vec<Write> {
        let mut store = Observed::default();
        for object in observed {
            store.note(object);
        }
        let owned_keys = owned_keys.iter().map(key).collect();
        let objects = objects.into_iter().map(wanted).collect();
        writes(
            &owner("u"),
            Desired { objects, owned_keys, endpoints_known, places_known: true, obstacles: vec![] },
            &store,
            |_| false,
        )
    }

    #[test]
    fn what_is_as_desired_is_not_written() {
        let want = config_map("u", "a");
        let writes = planned(vec![want.clone()], &[want], true, vec![seen(config_map("u", "a"), "7")]);
        assert_eq!(writes, vec![]);
    }

    #[test]
    fn what_differs_is_applied_to_the_version_that_was_seen() {
        let want = config_map("u", "a");
        let writes = planned(vec![want.clone()], &[want], true, vec![seen(config_map("u", "b"), "7")]);
        assert_eq!(writes, vec![Write::Apply(wanted(config_map("u", "a")), version("7"))]);
    }

    #[test]
    fn a_long_value_is_told_apart_by_what_is_kept_of_it() {
        let long = |last: char| config_map("u", &format!("{}{last}", "x".repeat(5000)));
        let kept = |last: char| {
            let Output::ConfigMap(mut config_map) = long(last) else { unreachable!("a ConfigMap") };
            crate::output::strip_config_map(&mut config_map);
            Output::ConfigMap(config_map)
        };
        let want = || vec![long('a')];
        assert_eq!(planned(want(), &want(), true, vec![seen(kept('a'), "7")]), vec![]);
        let writes = planned(want(), &want(), true, vec![seen(kept('b'), "7")]);
        assert_eq!(writes, vec![Write::Apply(wanted(long('a')), version("7"))]);
    }

    #[test]
    fn an_object_of_another_route_is_not_applied_but_met_by_a_create_that_must_fail() {
        let want = config_map("u", "a");
        let writes =
            planned(vec![want.clone()], std::slice::from_ref(&want), true, vec![seen(config_map("other", "b"), "7")]);
        assert_eq!(writes, vec![Write::Create(wanted(want))]);
    }

    #[test]
    fn endpoints_wait_for_their_service() {
        let (service, slice) = (service(None), slice("mail-ipv4"));
        let owned_keys = std::slice::from_ref(&service);
        assert_eq!(
            planned(vec![service.clone(), slice.clone()], owned_keys, true, vec![]),
            vec![Write::Create(wanted(service.clone()))]
        );
        let there = seen(service.clone(), "3");
        assert_eq!(
            planned(vec![service.clone(), slice.clone()], owned_keys, true, vec![there]),
            vec![Write::Create(wanted(slice))]
        );
    }

    #[test]
    fn a_selector_that_somebody_added_is_taken_away() {
        let want = service(None);
        let there = seen(service(Some("mta")), "3");
        let writes = planned(vec![want.clone()], std::slice::from_ref(&want), true, vec![there]);
        assert_eq!(writes, vec![Write::ClearSelector(key(&want), version("3"))]);
    }

    #[test]
    fn a_port_that_stands_in_the_way_of_ours_is_replaced_and_others_stay() {
        let port = |name: Option<&str>, number: i32| ServicePort {
            name: name.map(str::to_owned),
            port: number,
            protocol: Some("TCP".to_owned()),
            ..ServicePort::default()
        };
        let with = |ports: &[ServicePort]| {
            let Output::Service(mut service) = service(None) else { unreachable!("a Service") };
            service.spec.get_or_insert_default().ports = Some(ports.to_vec());
            service
        };
        let ours = port(Some("smtp"), 25);
        for (there, expected) in [
            // Ours is gone, or has another name: an apply brings it back.
            (vec![port(Some("admin"), 80)], None),
            (vec![port(Some("other"), 25)], None),
            (vec![port(Some("smtp"), 2525)], Some(vec![ours.clone()])),
            (vec![port(None, 2525)], Some(vec![ours.clone()])),
            (
                vec![port(Some("smtp"), 2525), port(Some("admin"), 80)],
                Some(vec![ours.clone(), port(Some("admin"), 80)]),
            ),
        ] {
            let service = with(std::slice::from_ref(&ours));
            let want = Output::Service(service.clone());
            let observed = seen(Output::Service(with(&there)), "3");
            let planned = planned(vec![want.clone()], std::slice::from_ref(&want), true, vec![observed]);
            let write = match expected {
                None => Write::Apply(wanted(want), version("3")),
                Some(ports) => Write::ReplacePorts { key: key(&want), service, ports, version: version("3") },
            };
            assert_eq!(planned, vec![write], "{there:?}");
        }
    }

    #[test]
    fn slices_stay_while_addresses_are_unknown_and_go_when_their_family_has_none() {
        let service = service(None);
        let observed = || vec![seen(service.clone(), "3"), seen(slice("mail-ipv6"), "4")];
        let owned_keys = std::slice::from_ref(&service);
        assert_eq!(planned(vec![], owned_keys, false, observed()), vec![]);
        let gone = planned(vec![], owned_keys, true, observed());
        assert!(matches!(&gone[..], [Write::Delete((OutputKind::EndpointSlice, _), _)]), "{gone:?}");
    }

    #[test]
    fn endpoints_are_led_elsewhere_before_anything_else_is_written() {
        let there = vec![seen(service(None), "3"), seen(slice("mail-ipv4"), "4"), seen(config_map("u", "old"), "5")];
        let wanted = vec![config_map("u", "new"), slice("mail-ipv6"), service(None)];
        let owned_keys = [wanted[0].clone(), wanted[2].clone()];
        let kinds: Vec<_> = planned(wanted, &owned_keys, true, there).iter().map(|write| write.key().0).collect();
        // The slice of the family that goes is taken away last.
        assert_eq!(kinds, [OutputKind::EndpointSlice, OutputKind::ConfigMap, OutputKind::EndpointSlice]);
    }

    #[test]
    fn outputs_that_left_the_spec_are_deleted() {
        let gone = planned(vec![], &[], false, vec![seen(service(None), "3"), seen(slice("mail-ipv4"), "4")]);
        assert_eq!(gone.len(), 2);
    }

    #[test]
    fn an_echo_older_than_the_answer_to_our_write_is_ignored() {
        let mut observed = Observed::default();
        observed.note(seen(config_map("u", "new"), "10"));
        observed.note(seen(config_map("u", "old"), "9"));
        let newest = seen(config_map("u", "new"), "10");
        assert_eq!(observed.get(&newest.key()), Some(&newest));
    }
}
