//! Backends that lead back to a route of theirs: through a Service that the route owns, or through several routes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Cached, ControllerState, RouteEntry};
use crate::controller::references::Reference;
use crate::output::{OutputKey, OutputKind};
use mail_failover_core::model::ObjectKey;

impl ControllerState {
    /// The backends of a route that lead back to it.
    pub(super) fn loops(&self, key: &ObjectKey, route: &RouteEntry) -> BTreeSet<Arc<str>> {
        let members = route.usable.iter().flat_map(|usable| &usable.backends);
        let names = members.map(|member| member.name.clone());
        names.filter(|name| self.leads_to(&key.sibling(name.clone()), key, &mut BTreeSet::new())).collect()
    }

    /// Returns true if mail for a backend may come to a route. `seen` has the routes that it comes through.
    fn leads_to(&self, backend: &ObjectKey, route: &ObjectKey, seen: &mut BTreeSet<ObjectKey>) -> bool {
        let Some(service) = self.service_of(backend) else { return false };
        let claimants = self.claims.get(&(OutputKind::Service, service)).into_iter().flatten();
        for through in claimants {
            if through == route {
                return true;
            }
            if !seen.insert(through.clone()) {
                continue;
            }
            let members = self.routes.get(through).and_then(|entry| entry.usable.clone());
            for member in members.iter().flat_map(|usable| &usable.backends) {
                if self.leads_to(&through.sibling(member.name.clone()), route, seen) {
                    return true;
                }
            }
        }
        false
    }

    /// The Service of this cluster that a backend names, by its reference, by a DNS name or by its address.
    fn service_of(&self, backend: &ObjectKey) -> Option<ObjectKey> {
        let spec = &self.backends.get(backend)?.object.as_ref().and_then(Cached::readable)?.spec;
        if let Some(service) = &spec.service {
            return Some(backend.sibling(service.name.as_str()));
        }
        let host = spec.smtp.as_ref()?.host.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.dependencies.service_at(address.to_canonical()).cloned();
        }
        let cluster_domain = format!(".{}", self.settings.cluster_domain);
        let host = host.strip_suffix(&cluster_domain).unwrap_or(&host);
        let host = host.strip_suffix(".svc").unwrap_or(host);
        let (name, namespace) = host.split_once('.').filter(|(_, namespace)| !namespace.contains('.'))?;
        Some(ObjectKey::new(namespace, name))
    }

    /// Reconciles the routes whose backends lead to a Service.
    pub(super) fn requeue_routes_through(&mut self, (kind, service): &OutputKey) {
        if *kind != OutputKind::Service {
            return;
        }
        let through = self.users(&Reference::Service(service.clone()));
        for backend in through {
            self.requeue_users(&Reference::Backend(backend.key));
        }
    }
}
