use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::manifests::Objects;
use mail_failover_core::model::{Backend, Login, ObjectKey, Policy, Route, ServicePort, Thresholds};
use mail_failover_resolve::{self as resolve, CaKey, Lookup, ReadProblem, Rejection, ServiceProblem, Unresolved};

/// The backends and routes of a simulation, checked, with every reference resolved.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// In the order of their keys.
    pub(super) backends: Vec<FleetBackend>,
    /// In the order of their keys.
    pub(super) routes: Vec<FleetRoute>,
}

/// A backend with its users.
#[derive(Clone, Debug)]
pub(super) struct FleetBackend {
    pub(super) key: ObjectKey,
    pub(super) backend: Backend,
    /// By which it is judged: those of its routes, or the defaults.
    pub(super) thresholds: BTreeSet<Thresholds>,
    /// Positions in [`Fleet::routes`].
    pub(super) routes: Vec<usize>,
}

/// A route with its policy.
#[derive(Clone, Debug)]
pub(super) struct FleetRoute {
    pub(super) key: ObjectKey,
    pub(super) route: Route,
    pub(super) policy: Policy,
    /// Positions in [`Fleet::backends`], in the order of the route's list.
    pub(super) backends: Vec<usize>,
}

impl Fleet {
    /// A fleet of these.
    ///
    /// # Errors
    /// When a route lists a backend that is not among them.
    pub fn new(
        mut backends: Vec<(ObjectKey, Backend)>,
        mut routes: Vec<(ObjectKey, Route, Policy)>,
    ) -> Result<Self, Vec<String>> {
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
                    None => errors.push(format!("MailRoute {key}: SendingBackend {wanted} is not in the manifests")),
                }
            }
            fleet.routes.push(FleetRoute { key, route, policy, backends: found });
        }
        for backend in fleet.backends.iter_mut().filter(|backend| backend.thresholds.is_empty()) {
            backend.thresholds.insert(Thresholds::default());
        }
        if errors.is_empty() { Ok(fleet) } else { Err(errors) }
    }

    /// Its backends as one of so many replicas probes them.
    #[must_use]
    pub(super) fn shared_out_among(mut self, replicas: usize) -> Self {
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        for known in &mut self.backends {
            known.backend = known.backend.clone().shared_out_among(replicas);
        }
        self
    }

    /// A fleet from manifests. Services and CAs that they refer to are taken as given.
    ///
    /// # Errors
    /// Everything in the specs that cannot be used.
    pub fn from_objects(objects: &Objects) -> Result<Self, Vec<String>> {
        let mut errors = vec![];
        let mut backends: Vec<(ObjectKey, Backend)> = vec![];
        for object in &objects.backends {
            let key = key_of(object);
            match resolve::backend(&key, &object.spec, &AsGiven) {
                Ok(_) if backends.iter().any(|(other, _)| *other == key) => errors.push(twice("SendingBackend", &key)),
                Ok(backend) => backends.push((key, backend)),
                Err(Unresolved::Rejected(rejection)) => errors.push(wrong("SendingBackend", &key, &rejection)),
                Err(Unresolved::Pending) => {}
            }
        }
        let mut policies: Vec<(ObjectKey, Policy)> = vec![];
        for object in &objects.policies {
            let key = key_of(object);
            match resolve::policy(&object.spec) {
                Ok(_) if policies.iter().any(|(other, _)| *other == key) => errors.push(twice("FailoverPolicy", &key)),
                Ok(policy) => policies.push((key, policy)),
                Err(rejection) => errors.push(wrong("FailoverPolicy", &key, &rejection)),
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
                        errors.push(format!("MailRoute {key}: FailoverPolicy {wanted} is not in the manifests"));
                    }
                    found
                }
            };
            match resolve::route(&object.spec) {
                Ok(_) if routes.iter().any(|(other, ..)| *other == key) => errors.push(twice("MailRoute", &key)),
                Ok(route) => routes.extend(policy.map(|policy| (key, route, policy))),
                Err(rejection) => errors.push(wrong("MailRoute", &key, &rejection)),
            }
        }
        if routes.is_empty() && errors.is_empty() {
            errors.push("there is no MailRoute in the manifests: nothing could be decided".to_owned());
        }
        if errors.is_empty() { Self::new(backends, routes) } else { Err(errors) }
    }

    /// What people call a backend: with its namespace only where another has the same name.
    pub(super) fn backend_name(&self, backend: usize) -> String {
        let key = &self.backends[backend].key;
        let is_unique = self.backends.iter().filter(|other| other.key.name == key.name).count() == 1;
        if is_unique { key.name.to_string() } else { key.to_string() }
    }

    /// What people call a route.
    pub(super) fn route_name(&self, route: usize) -> String {
        let key = &self.routes[route].key;
        let is_unique = self.routes.iter().filter(|other| other.key.name == key.name).count() == 1;
        if is_unique { key.name.to_string() } else { key.to_string() }
    }

    /// The backend that a person means by `name` or `namespace/name`.
    pub(super) fn find_backend(&self, name: &str) -> Result<usize, String> {
        find("SendingBackend", name, self.backends.iter().map(|backend| &backend.key))
    }

    /// The route that a person means.
    pub(super) fn find_route(&self, name: &str) -> Result<usize, String> {
        find("MailRoute", name, self.routes.iter().map(|route| &route.key))
    }
}

fn find<'a>(kind: &str, name: &str, keys: impl Iterator<Item = &'a ObjectKey> + Clone) -> Result<usize, String> {
    let is_meant = |key: &ObjectKey| *key.name == *name || key.to_string() == name;
    let mut meant = keys.clone().enumerate().filter(|(_, key)| is_meant(key)).map(|(position, _)| position);
    match (meant.next(), meant.next()) {
        (Some(position), None) => Ok(position),
        (Some(_), Some(_)) => Err(format!("there are several of the name {name}; write namespace/name")),
        (None, _) => {
            let known: Vec<_> = keys.map(|key| key.name.to_string()).collect();
            Err(format!("there is no {kind} {name}; there is {}", known.join(", ")))
        }
    }
}

fn key_of<K: ResourceExt>(object: &K) -> ObjectKey {
    let namespace = object.namespace().unwrap_or_else(|| crate::manifests::DEFAULT_NAMESPACE.to_owned());
    ObjectKey::new(namespace, object.name_any())
}

fn twice(kind: &str, key: &ObjectKey) -> String {
    format!("{kind} {key} is there twice")
}

fn wrong(kind: &str, key: &ObjectKey, rejection: &Rejection) -> String {
    format!("{kind} {key}: {}", rejection.message)
}

/// Takes every Service for one with a ready endpoint, and every CA for one that is there.
struct AsGiven;

impl Lookup for AsGiven {
    fn ca(&self, _: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        Ok(Arc::from([]))
    }

    fn login(&self, _: &ObjectKey) -> Result<Login, ReadProblem> {
        Ok(Login::new("", ""))
    }

    fn service(&self, key: &ObjectKey, port: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        let port = match port {
            IntOrString::Int(number) => u16::try_from(*number).unwrap_or(25),
            IntOrString::String(_) => 25,
        };
        let dns_name = format!("{}.{}.svc", key.name, key.namespace).into();
        // TEST-NET-1 (RFC 5737): nothing is ever connected to.
        Ok(ServicePort { dns_name, port, endpoints: vec![([192, 0, 2, 1], port).into()] })
    }
}
