//! Services, slices and config maps: referents of backends, outputs of routes, and the better right to an output.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Age, ControllerState, entry_age};
use crate::controller::action::ResourceRef;
use crate::controller::references::Reference;
use crate::output::{ObservedOutput, Output, OutputKey, OutputKind, route_uid};
use crate::watch::{Access, Change, Identified, Source};
use mail_failover_core::model::{ObjectKey, Timestamp};

impl ControllerState {
    pub(super) fn handle_service(&mut self, now: Timestamp, change: Change<Service>) {
        let key = match change {
            Change::Applied(Identified { identity, object: service }) => {
                let key = identity.key.clone();
                let changed = self.dependencies.cache_service(&key, &service);
                self.note_output(ObservedOutput { identity, output: Output::Service(service) });
                if !changed {
                    return;
                }
                key
            }
            Change::Deleted(key) => {
                self.dependencies.forget_service(&key);
                self.forget_output(&(OutputKind::Service, key.clone()));
                key
            }
            Change::Unreadable(unreadable) => return self.metrics.unreadable(Source::Services, &unreadable),
        };
        self.resolve_users(now, &Reference::Service(key));
    }

    pub(super) fn handle_slice(&mut self, now: Timestamp, change: Change<EndpointSlice>) {
        let service = match change {
            Change::Applied(Identified { identity, object: slice }) => {
                let service = self.dependencies.cache_slice(&identity.key, &slice);
                self.note_output(ObservedOutput { identity, output: Output::EndpointSlice(slice) });
                service
            }
            Change::Deleted(key) => {
                self.forget_output(&(OutputKind::EndpointSlice, key.clone()));
                self.dependencies.forget_slice(&key)
            }
            Change::Unreadable(unreadable) => return self.metrics.unreadable(Source::EndpointSlices, &unreadable),
        };
        if let Some(service) = service {
            self.resolve_users(now, &Reference::Service(service));
        }
    }

    /// Takes note of a source that may not be read in a namespace, or that can be read there now.
    // Unlike one that is gone (ADR-0087), a Service that may not be read may have any endpoints.
    pub(super) fn handle_access(&mut self, now: Timestamp, access: &Access) {
        let Access { source, namespace, is_forbidden } = access;
        if !self.dependencies.note_access(*source, namespace, *is_forbidden) || !self.is_synced() {
            return;
        }
        let of_namespace = self.backends.keys().filter(|key| key.namespace == *namespace);
        for key in of_namespace.cloned().collect::<Vec<_>>() {
            self.refresh_backend(now, &key);
        }
    }

    pub(super) fn handle_config_map(&mut self, change: Change<ConfigMap>) {
        match change {
            Change::Applied(Identified { identity, object: config_map }) => {
                self.note_output(ObservedOutput { identity, output: Output::ConfigMap(config_map) });
            }
            Change::Deleted(key) => self.forget_output(&(OutputKind::ConfigMap, key)),
            Change::Unreadable(unreadable) => self.metrics.unreadable(Source::ConfigMaps, &unreadable),
        }
    }

    pub(super) fn note_output(&mut self, object: ObservedOutput) {
        let key = object.key();
        let owner = self.observed.note(object);
        self.requeue_owner_and_claimants(owner, &key);
    }

    pub(super) fn forget_output(&mut self, key: &OutputKey) {
        let owner = self.observed.forget(key);
        self.requeue_owner_and_claimants(owner, key);
    }

    fn requeue_owner_and_claimants(&mut self, owner: Option<String>, key: &OutputKey) {
        let owner = owner.and_then(|uid| self.routes_by_uid.get(uid.as_str())).cloned();
        let claimants = self.claims.get(key).into_iter().flatten().cloned();
        for route in claimants.chain(owner).collect::<Vec<_>>() {
            if let Some(entry) = self.routes.get_mut(&route) {
                entry.forget_refusal(key);
            }
            self.queue.add(ResourceRef::route(&route));
        }
    }

    pub(super) fn set_owned_keys(&mut self, route: &ObjectKey, before: &[OutputKey], after: &[OutputKey]) {
        for key in before.iter().filter(|key| !after.contains(key)) {
            if let Some(claimants) = self.claims.get_mut(key) {
                claimants.remove(route);
                let rivals: Vec<_> = claimants.iter().map(ResourceRef::route).collect();
                if rivals.is_empty() {
                    self.claims.remove(key);
                }
                self.queue.extend(rivals);
            }
            self.requeue_routes_through(key);
        }
        for key in after.iter().filter(|key| !before.contains(key)) {
            self.requeue_routes_through(key);
        }
        for key in after {
            self.claims.entry(key.clone()).or_default().insert(route.clone());
        }
    }

    /// Another route that has the better right to an output: the one that owns it; if none does, the oldest.
    // ADR-0004: The route that controls an output keeps it.
    pub(super) fn rival(&self, route: &ObjectKey, age: &Age, key: &OutputKey) -> Option<ObjectKey> {
        let claimants = self.claims.get(key)?;
        let owner = self.observed.get(key).and_then(|object| route_uid(object.output.metadata()));
        let owner = owner.and_then(|uid| self.routes_by_uid.get(uid));
        if let Some(owner) = owner.filter(|owner| claimants.contains(*owner) || *owner == route) {
            return (owner != route).then(|| owner.clone());
        }
        let others = claimants.iter().filter(|other| *other != route);
        let aged = others.filter_map(|other| Some((entry_age(self.routes.get(other)?), other)));
        aged.filter(|(other, _)| other < age).min().map(|(_, other)| other.clone())
    }
}
