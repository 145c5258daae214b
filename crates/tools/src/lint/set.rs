//! Objects of a lint run, parsed as the operator parses them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::de::{Deserialize, DeserializeOwned};

use super::finding::ManifestFindings;
use super::schema::Schemas;
use crate::manifests::Manifest;
use mail_failover_api::{FailoverPolicySpec, MailRouteSpec, SendingBackendSpec};
use mail_failover_core::engine::{Candidate, Eligibility};
use mail_failover_core::model::{
    Backend, Login, Member, ObjectKey, Policy, Probe, Route, ServicePort, SharedError, Timestamp,
};
use mail_failover_resolve::{
    self as resolve, CaKey, CaKind, LoginKey, Lookup, Presumed, ReadProblem, Rejection, ServiceProblem, Unresolved,
    certificates,
};
use mail_failover_runtime::findings::{Rule, Severity};

pub(super) const UNUSABLE: Rule = Rule {
    code: "Unusable",
    severity: Severity::Error,
    broken_when: "the API server accepts an object that the operator cannot use: its condition Ready would be False",
};
pub(super) const DUPLICATE_OBJECT: Rule = Rule {
    code: "DuplicateObject",
    severity: Severity::Error,
    broken_when: "two objects have the same kind, namespace and name: the one that is applied last wins",
};

/// Object that the API server would accept. The model is missing if the operator could not use the object.
pub(super) struct ParsedObject<'a, S, M> {
    pub(super) manifest: &'a Manifest,
    pub(super) spec: S,
    pub(super) model: Option<M>,
}

/// Objects that the rules are checked against.
pub(super) struct ObjectSet<'a> {
    pub(super) at: Timestamp,
    pub(super) backends: BTreeMap<ObjectKey, ParsedObject<'a, SendingBackendSpec, Backend>>,
    pub(super) policies: BTreeMap<ObjectKey, ParsedObject<'a, FailoverPolicySpec, Policy>>,
    pub(super) routes: BTreeMap<ObjectKey, ParsedObject<'a, MailRouteSpec, Route>>,
    /// Our objects in the files, usable or not, so that a malformed object is not reported as missing.
    named: BTreeSet<(&'a str, ObjectKey)>,
    core: CoreObjects<'a>,
}

/// Backend of a route; both can be used.
pub(super) struct UsableBackend<'a> {
    pub(super) member: &'a Member,
    pub(super) manifest: &'a Manifest,
    pub(super) spec: &'a SendingBackendSpec,
    pub(super) backend: &'a Backend,
    pub(super) eligibility: Eligibility,
}

/// Route that can be used, with its backends as far as they are known.
pub(super) struct UsableRoute<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) manifest: &'a Manifest,
    pub(super) spec: &'a MailRouteSpec,
    pub(super) route: &'a Route,
    pub(super) backends: Vec<UsableBackend<'a>>,
    /// True if every backend of the route is known.
    pub(super) is_complete: bool,
}

impl UsableRoute<'_> {
    /// Iterates over the backends that may get mail as they are configured.
    pub(super) fn in_service(&self) -> impl Iterator<Item = &UsableBackend<'_>> {
        self.backends.iter().filter(|placed| placed.eligibility == Eligibility::InService)
    }

    /// Returns the names of the backends of this standing.
    pub(super) fn names(&self, standing: Eligibility) -> Vec<&str> {
        self.backends
            .iter()
            .filter(|placed| placed.eligibility == standing)
            .map(|placed| &*placed.member.name)
            .collect()
    }
}

impl<'a> ObjectSet<'a> {
    /// Sorts the objects of the files, and adds a finding for each one that the API server or the operator would
    /// refuse.
    pub(super) fn of(
        manifests: &'a [Manifest],
        schemas: &Schemas,
        at: Timestamp,
        findings: &mut ManifestFindings,
    ) -> Self {
        let mut set = Self {
            at,
            backends: BTreeMap::new(),
            policies: BTreeMap::new(),
            routes: BTreeMap::new(),
            named: BTreeSet::new(),
            core: CoreObjects::of(manifests),
        };
        for manifest in manifests.iter().filter(|manifest| manifest.is_ours()) {
            let key = manifest.key();
            let is_accepted = schemas.accept(manifest, findings);
            if !key.name.is_empty() && !set.named.insert((manifest.kind(), key.clone())) {
                let message = format!("{} is there twice in namespace {}", manifest.title(), key.namespace);
                findings.add(&DUPLICATE_OBJECT, manifest, "metadata.name", message, "rename or remove one of them");
                continue;
            }
            if is_accepted {
                set.take(manifest, key, findings);
            }
        }
        set
    }

    fn take(&mut self, manifest: &'a Manifest, key: ObjectKey, findings: &mut ManifestFindings) {
        match manifest.kind() {
            "SendingBackend" => {
                let Some(spec) = spec::<SendingBackendSpec>(manifest, findings) else { return };
                let resolved = resolve::backend(&key, &spec, &self.core).map_err(|unresolved| match unresolved {
                    Unresolved::Rejected(rejection) => rejection,
                    Unresolved::Pending => Rejection::new("Pending", "spec", "it is not known"),
                });
                let model = usable(manifest, resolved, findings);
                self.backends.insert(key, ParsedObject { manifest, spec, model });
            }
            "FailoverPolicy" => {
                let Some(spec) = spec::<FailoverPolicySpec>(manifest, findings) else { return };
                let receivers = resolve::notifications(spec.notifications.as_ref());
                let resolved = resolve::policy(&spec).and_then(|policy| receivers.map(|_| policy));
                let model = usable(manifest, resolved, findings);
                self.policies.insert(key, ParsedObject { manifest, spec, model });
            }
            "MailRoute" => {
                let Some(spec) = spec::<MailRouteSpec>(manifest, findings) else { return };
                let model = usable(manifest, resolve::route(&spec), findings);
                self.routes.insert(key, ParsedObject { manifest, spec, model });
            }
            _ => {}
        }
    }

    /// Returns true if the files hold one of our objects of this name, malformed or not.
    pub(super) fn names(&self, kind: &'static str, key: &ObjectKey) -> bool {
        self.named.contains(&(kind, key.clone()))
    }

    /// Returns the object of the core group of this name, if the files hold it.
    pub(super) fn core(&self, kind: &'static str, key: &ObjectKey) -> Option<&'a Manifest> {
        self.core.0.get(&(kind, key.clone())).copied()
    }

    /// Iterates over the routes that can be used.
    pub(super) fn views(&self) -> impl Iterator<Item = UsableRoute<'_>> {
        self.routes.iter().filter_map(|(key, entry)| {
            let route = entry.model.as_ref()?;
            let backends: Vec<_> = route.backends.iter().filter_map(|member| self.placed(key, route, member)).collect();
            let is_complete = backends.len() == route.backends.len();
            Some(UsableRoute { key, manifest: entry.manifest, spec: &entry.spec, route, backends, is_complete })
        })
    }

    fn placed<'s>(&'s self, route_key: &ObjectKey, route: &Route, member: &'s Member) -> Option<UsableBackend<'s>> {
        let entry = self.backends.get(&route_key.sibling(member.name.clone()))?;
        let backend = entry.model.as_ref()?;
        let eligibility = Candidate::new(member, Some(backend), None, route, None, self.at).eligibility;
        Some(UsableBackend { member, manifest: entry.manifest, spec: &entry.spec, backend, eligibility })
    }

    /// Iterates over the routes that name a policy.
    pub(super) fn users<'s>(&'s self, policy: &'s ObjectKey) -> impl Iterator<Item = UsableRoute<'s>> {
        self.views().filter(move |view| {
            let name = view.spec.policy_ref.as_ref().map(|reference| reference.name.as_str());
            view.key.namespace == policy.namespace && name == Some(&*policy.name)
        })
    }

    /// Iterates over the usable policies, each with the backends that it judges and their probes.
    pub(super) fn judged(&self) -> impl Iterator<Item = JudgedPolicy<'_>> {
        self.policies.iter().filter_map(|(key, entry)| {
            let policy = entry.model.as_ref()?;
            let mut backends: BTreeMap<Arc<str>, &[Probe]> = BTreeMap::new();
            for view in self.users(key) {
                for member in &view.route.backends {
                    let backend = self.backends.get(&key.sibling(member.name.clone()));
                    if let Some(backend) = backend.and_then(|entry| entry.model.as_ref()) {
                        backends.insert(member.name.clone(), &backend.probes);
                    }
                }
            }
            Some(JudgedPolicy { manifest: entry.manifest, spec: &entry.spec, policy, backends })
        })
    }
}

/// Policy with the probes that it judges by.
pub(super) struct JudgedPolicy<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) spec: &'a FailoverPolicySpec,
    pub(super) policy: &'a Policy,
    pub(super) backends: BTreeMap<Arc<str>, &'a [Probe]>,
}

impl JudgedPolicy<'_> {
    /// Iterates over the probes, each with the name of its backend.
    pub(super) fn probes(&self) -> impl Iterator<Item = (&Arc<str>, &Probe)> {
        self.backends.iter().flat_map(|(name, probes)| probes.iter().map(move |probe| (name, probe)))
    }
}

fn spec<S: DeserializeOwned>(manifest: &Manifest, findings: &mut ManifestFindings) -> Option<S> {
    let spec = manifest.value().get("spec").map(S::deserialize)?;
    spec.map_err(|error| {
        findings.add(&UNUSABLE, manifest, "spec", format!("it cannot be read: {error}"), "correct what is named");
    })
    .ok()
}

fn usable<M>(manifest: &Manifest, resolved: Result<M, Rejection>, findings: &mut ManifestFindings) -> Option<M> {
    resolved
        .map_err(|rejection| {
            let (field, message) = rejection.message.split_once(": ").unwrap_or(("spec", &rejection.message));
            let (message, remedy) = message.rsplit_once("; ").unwrap_or((message, "correct it"));
            findings.add(&UNUSABLE, manifest, field, format!("{message} ({})", rejection.reason), remedy);
        })
        .ok()
}

/// Objects of the core group, which ours refer to. An object that is not in the files may exist elsewhere, so it counts
/// as sound.
struct CoreObjects<'a>(BTreeMap<(&'a str, ObjectKey), &'a Manifest>);

impl<'a> CoreObjects<'a> {
    fn of(manifests: &'a [Manifest]) -> Self {
        let core = manifests.iter().filter(|manifest| manifest.group().is_empty());
        Self(core.map(|manifest| ((manifest.kind(), manifest.key()), manifest)).collect())
    }
}

/// Object of the manifests that is not of its kind's schema.
#[derive(Debug, thiserror::Error)]
#[error("the object cannot be read: {0}")]
struct UnreadableObject(#[source] serde_json::Error);

impl Lookup for CoreObjects<'_> {
    fn login(&self, key: &LoginKey) -> Result<Login, ReadProblem> {
        // Whether the Secret is there, and whole, is `SecretWithoutLogin`'s to say: agents need it as well.
        Presumed.login(key)
    }

    fn ca(&self, key: &CaKey) -> Result<Arc<[u8]>, ReadProblem> {
        let Some(manifest) = self.0.get(&(key.kind.as_str(), key.object.clone())) else { return Presumed.ca(key) };
        let name: &str = &key.data_key;
        let text = match key.kind {
            CaKind::ConfigMap => {
                let object = ConfigMap::deserialize(manifest.value())
                    .map_err(|error| ReadProblem::Malformed(SharedError::new(UnreadableObject(error))))?;
                let text = object.data.and_then(|mut data| data.remove(name)).map(String::into_bytes);
                text.or(object.binary_data.and_then(|mut data| data.remove(name)).map(|ByteString(bytes)| bytes))
            }
            CaKind::Secret => {
                // The error of a Secret may quote it.
                let object = Secret::deserialize(manifest.value())
                    .map_err(|_| ReadProblem::Malformed("the Secret cannot be read".into()))?;
                let text = object.string_data.and_then(|mut data| data.remove(name)).map(String::into_bytes);
                text.or(object.data.and_then(|mut data| data.remove(name)).map(|ByteString(bytes)| bytes))
            }
        };
        let certificates = certificates(&text.ok_or(ReadProblem::NotFound)?)
            .map_err(|error| ReadProblem::Malformed(SharedError::new(error)))?;
        Ok(certificates.into())
    }

    fn service(&self, key: &ObjectKey, port: &IntOrString) -> Result<ServicePort, ServiceProblem> {
        let Some(manifest) = self.0.get(&("Service", key.clone())) else { return Presumed.service(key, port) };
        let service = Service::deserialize(manifest.value()).map_err(|_| ServiceProblem::PortNotFound)?;
        let spec = service.spec.unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            return Err(ServiceProblem::ExternalName);
        }
        let ports = spec.ports.unwrap_or_default();
        let found = ports
            .iter()
            .filter(|one| one.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
            .find(|one| match port {
                IntOrString::Int(number) => one.port == *number,
                IntOrString::String(name) => one.name.as_ref() == Some(name),
            })
            .ok_or(ServiceProblem::PortNotFound)?;
        Presumed.service(key, &IntOrString::Int(found.port))
    }
}
