use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::manifests::Objects;
use mail_failover_core::model::{Backend, Login, ObjectKey, Policy, Route, ServicePort, Thresholds};
use mail_failover_resolve::{
    self as resolve, CaKey, LoginKey, Lookup, ReadProblem, Rejection, ServiceProblem, Unresolved,
};

/// Backends and routes of a simulation, checked, with every reference resolved.
#[derive(Clone, Debug, Default)]
pub struct SimulatedFleet {
    /// Backends by key, in ascending order.
    pub(super) backends: Vec<FleetBackend>,
    /// Routes by key, in ascending order.
    pub(super) routes: Vec<FleetRoute>,
}

/// Backend with the routes that use it.
#[derive(Clone, Debug)]
pub(super) struct FleetBackend {
    pub(super) key: ObjectKey,
    pub(super) backend: Backend,
    /// Thresholds that judge the backend: those of its routes, or the defaults.
    pub(super) thresholds: BTreeSet<Thresholds>,
    /// Positions of its routes in [`SimulatedFleet::routes`].
    pub(super) routes: Vec<usize>,
}

/// Route with its policy.
#[derive(Clone, Debug)]
pub(super) struct FleetRoute {
    pub(super) key: ObjectKey,
    pub(super) route: Route,
    pub(super) policy: Policy,
    /// Positions in [`SimulatedFleet::backends`], in the order of the route's list.
    pub(super) backends: Vec<usize>,
}

/// Errors of the manifests of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// A route names a backend or a policy that is not there.
    #[error("MailRoute {route}: {kind} {wanted} is not in the manifests")]
    Missing {
        /// Route with the name.
        route: ObjectKey,
        /// Kind of the missing object.
        kind: &'static str,
        /// Name of the missing object.
        wanted: ObjectKey,
    },
    /// Two objects have the same kind and name.
    #[error("{kind} {key} is there twice")]
    Twice {
        /// Kind of the objects.
        kind: &'static str,
        /// Name of the objects.
        key: ObjectKey,
    },
    /// The spec of an object cannot be used.
    #[error("{kind} {key}: {message}")]
    Rejected {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        key: ObjectKey,
        /// Field in question, and what is wrong with it.
        message: String,
    },
    /// Nothing could be decided without a route.
    #[error("there is no MailRoute in the manifests: nothing could be decided")]
    NoRoute,
}

/// Errors of a name that a person has written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    #[error("there are several of the name {0}; write namespace/name")]
    Ambiguous(String),
    #[error("there is no {kind} {name}; there is {known}")]
    Unknown { kind: &'static str, name: String, known: String },
}

impl SimulatedFleet {
    /// Builds a fleet of these objects.
    ///
    /// # Errors
    /// When a route lists a backend that is not among them.
    pub fn new(
        mut backends: Vec<(ObjectKey, Backend)>,
        mut routes: Vec<(ObjectKey, Route, Policy)>,
    ) -> Result<Self, Vec<FleetError>> {
        backends.sort_by(|one, other| one.0.cmp(&other.0));
        routes.sort_by(|one, other| one.0.cmp(&other.0));
        let (mut fleet, mut errors) = (Self::default(), vec![]);
        fleet.backends = backends
            .into_iter()
            .map(|(key, backend)| FleetBackend { key, backend, thresholds: BTreeSet::new(), routes: vec![] })
            .collect();
        for (at, (key, route, policy)) in routes.into_iter().enumerate() {
            let mut found = vec![];
            for member in &route.backends {
                let wanted = key.sibling(member.name.clone());
                match fleet.backends.iter().position(|backend| backend.key == wanted) {
                    Some(position) => {
                        let backend = &mut fleet.backends[position];
                        backend.thresholds.insert(policy.thresholds);
                        backend.routes.push(at);
                        found.push(position);
                    }
                    None => errors.push(FleetError::Missing { route: key.clone(), kind: "SendingBackend", wanted }),
                }
            }
            fleet.routes.push(FleetRoute { key, route, policy, backends: found });
        }
        for backend in fleet.backends.iter_mut().filter(|backend| backend.thresholds.is_empty()) {
            backend.thresholds.insert(Thresholds::default());
        }
        if errors.is_empty() { Ok(fleet) } else { Err(errors) }
    }

    /// Probes each backend as one of this many replicas does.
    #[must_use]
    pub(super) fn shared_out_among(mut self, replicas: usize) -> Self {
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        for known in &mut self.backends {
            known.backend = known.backend.clone().shared_out_among(replicas);
        }
        self
    }

    /// Builds a fleet from manifests. Services and CAs that they refer to count as present.
    ///
    /// # Errors
    /// Everything in the specs that cannot be used.
    pub fn from_objects(objects: &Objects) -> Result<Self, Vec<FleetError>> {
        let mut errors = vec![];
        let mut backends: Vec<(ObjectKey, Backend)> = vec![];
        for object in &objects.backends {
            let key = key_of(object);
            match resolve::backend(&key, &object.spec, &AsGiven) {
                Ok(_) if backends.iter().any(|(other, _)| *other == key) => {
                    errors.push(FleetError::Twice { kind: "SendingBackend", key });
                }
                Ok(backend) => backends.push((key, backend)),
                Err(Unresolved::Rejected(Rejection { message, .. })) => {
                    errors.push(FleetError::Rejected { kind: "SendingBackend", key, message });
                }
                Err(Unresolved::Pending) => {}
            }
        }
        let mut policies: Vec<(ObjectKey, Policy)> = vec![];
        for object in &objects.policies {
            let key = key_of(object);
            match resolve::policy(&object.spec) {
                Ok(_) if policies.iter().any(|(other, _)| *other == key) => {
                    errors.push(FleetError::Twice { kind: "FailoverPolicy", key });
                }
                Ok(policy) => policies.push((key, policy)),
                Err(Rejection { message, .. }) => {
                    errors.push(FleetError::Rejected { kind: "FailoverPolicy", key, message });
                }
            }
        }
        let mut routes: Vec<(ObjectKey, Route, Policy)> = vec![];
        for object in &objects.routes {
            let key = key_of(object);
            let policy = match &object.spec.policy_ref {
                None => Some(Policy::default()),
                Some(reference) => {
                    let wanted = key.sibling(reference.name.as_str());
                    let found = policies.iter().find(|(key, _)| *key == wanted).map(|(_, policy)| policy.clone());
                    if found.is_none() && !objects.policies.iter().any(|policy| key_of(policy) == wanted) {
                        errors.push(FleetError::Missing { route: key.clone(), kind: "FailoverPolicy", wanted });
                    }
                    found
                }
            };
            match resolve::route(&object.spec) {
                Ok(_) if routes.iter().any(|(other, ..)| *other == key) => {
                    errors.push(FleetError::Twice { kind: "MailRoute", key });
                }
                Ok(route) => routes.extend(policy.map(|policy| (key, route, policy))),
                Err(Rejection { message, .. }) => {
                    errors.push(FleetError::Rejected { kind: "MailRoute", key, message });
                }
            }
        }
        if routes.is_empty() && errors.is_empty() {
            errors.push(FleetError::NoRoute);
        }
        if errors.is_empty() { Self::new(backends, routes) } else { Err(errors) }
    }

    /// Returns the name that people use for a backend: with its namespace only where another has the same name.
    pub(super) fn backend_name(&self, backend: usize) -> String {
        let key = &self.backends[backend].key;
        let is_unique = self.backends.iter().filter(|other| other.key.name == key.name).count() == 1;
        if is_unique { key.name.to_string() } else { key.to_string() }
    }

    /// Returns the name that people use for a route.
    pub(super) fn route_name(&self, route: usize) -> String {
        let key = &self.routes[route].key;
        let is_unique = self.routes.iter().filter(|other| other.key.name == key.name).count() == 1;
        if is_unique { key.name.to_string() } else { key.to_string() }
    }

    /// Finds the backend that a person calls `name` or `namespace/name`.
    pub(super) fn find_backend(&self, name: &str) -> Result<usize, NameError> {
        find("SendingBackend", name, self.backends.iter().map(|backend| &backend.key))
    }

    /// Finds the route that a person calls `name` or `namespace/name`.
    pub(super) fn find_route(&self, name: &str) -> Result<usize, NameError> {
        find("MailRoute", name, self.routes.iter().map(|route| &route.key))
    }
}

fn find<'a>(
    kind: &'static str,
    name: &str,
    keys: impl Iterator<Item = &'a ObjectKey> + Clone,
) -> Result<usize, NameError> {
    let mut meant = keys.clone().enumerate().filter(|(_, key)| *key.name == *name || key.to_string() == name);
    match (meant.next(), meant.next()) {
        (Some((position, _)), None) => Ok(position),
        (Some(_), Some(_)) => Err(NameError::Ambiguous(name.to_owned())),
        (None, _) => {
            let known: Vec<_> = keys.map(|key| key.name.to_string()).collect();
            Err(NameError::Unknown { kind, name: name.to_owned(), known: known.join(", ") })
        }
    }
}

fn key_of<K: ResourceExt>(object: &K) -> ObjectKey {
    let namespace = object.namespace().unwrap_or_else(|| crate::manifests::DEFAULT_NAMESPACE.to_owned());
    ObjectKey::new(namespace, object.name_any())
}

/// Lookup in which every Service has a ready endpoint and every CA is present.
struct AsGiven;

impl Lookup for AsGiven {
    fn ca(&self, _: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        Ok(Arc::from([]))
    }

    fn login(&self, _: &LoginKey) -> Result<Login, ReadProblem> {
        Ok(Login::new("", ""))
    }

    fn service(&self, key: &ObjectKey, port: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        let port = match port {
            IntOrString::Int(number) => u16::try_from(*number).unwrap_or(25),
            IntOrString::String(_) => 25,
        };
        let dns_name = format!("{}.{}.svc", key.name, key.namespace).into();
        // TEST-NET-1 (RFC 5737): nothing is ever connected to.
        Ok(ServicePort { dns_name, port, client_port: port, endpoints: vec![([192, 0, 2, 1], port).into()] })
    }
}
