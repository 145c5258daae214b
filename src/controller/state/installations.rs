//! Signs of life of the installations that lead the same routes, as their statuses show them.
//!
//! Time is this replica's own: what counts is when a sign of life was seen to change, and not the time in it.
// ADR-0190: Installations stand in the status of what they lead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::{ControllerState, RouteEntry};
use crate::controller::action::ResourceRef;
use crate::controller::route::{InstallationContext, yields};
use mail_failover_api::InstallationStatus;
use mail_failover_core::model::{ObjectKey, Timestamp};

/// Time between two signs of life, in lease durations.
const RENEWAL: u32 = 2;
/// Time without one after which an installation is forgotten, in lease durations.
// A change of leaders takes one of them, and three signs are missing by then.
const SILENCE: u32 = 6;

/// Installations beside our own that routes list.
#[derive(Debug, Default)]
pub(super) struct Installations {
    /// Latest sign of life, by namespace and name of the installation.
    // One for each namespace, so that one route in it carries the signs for all of its routes.
    heard: BTreeMap<(Arc<str>, String), Timestamp>,
    /// Routes that list others than us, with what they listed last.
    contested: BTreeMap<ObjectKey, Contested>,
}

#[derive(Debug)]
struct Contested {
    signs: BTreeMap<String, Option<MicroTime>>,
    yields: bool,
}

impl Installations {
    /// Takes note of what a route lists. Returns what follows from it for the route.
    fn look(
        &mut self,
        now: Timestamp,
        route: &ObjectKey,
        listed: &[InstallationStatus],
        own: &Arc<str>,
        lease: Duration,
    ) -> InstallationContext {
        let mut context = InstallationContext { own: own.clone(), ..InstallationContext::default() };
        if listed.iter().all(|one| *one.name == **own) {
            self.contested.remove(route);
            return context;
        }
        let known = self.contested.remove(route).map(|known| known.signs).unwrap_or_default();
        for InstallationStatus { name, renewed_at } in listed {
            let place = (route.namespace.clone(), name.clone());
            let is_silent = self.heard.get(&place).is_none_or(|at| *at + lease * SILENCE <= now);
            let is_news = known.get(name).map_or(is_silent, |known| known != renewed_at);
            if is_news {
                self.heard.insert(place, now);
            }
        }
        let signs = listed.iter().map(|one| (one.name.clone(), one.renewed_at.clone())).collect();
        self.contested.insert(route.clone(), Contested { signs, yields: yields(listed, own) });
        for InstallationStatus { name, .. } in listed {
            let Some(heard_at) = self.heard.get(&(route.namespace.clone(), name.clone())) else { continue };
            let is_own = *name == **own;
            if is_own && !self.is_bearer(route) {
                continue;
            }
            let until = *heard_at + lease * if is_own { RENEWAL } else { SILENCE };
            if until > now {
                context.next = Some(context.next.map_or(until, |next| next.min(until)));
            } else if is_own {
                context.is_due = true;
            } else {
                context.silent.insert(name.clone());
            }
        }
        context
    }

    /// Returns true for the route of its namespace that carries the signs of life.
    fn is_bearer(&self, route: &ObjectKey) -> bool {
        self.first_of(&route.namespace).is_some_and(|(first, _)| first == route)
    }

    fn first_of(&self, namespace: &Arc<str>) -> Option<(&ObjectKey, &Contested)> {
        self.contested
            .range(ObjectKey::new(namespace.clone(), "")..)
            .next()
            .filter(|(key, _)| key.namespace == *namespace)
    }
}

impl ControllerState {
    /// Looks at the installations that a route lists.
    pub(super) fn look_at_installations(
        &mut self,
        now: Timestamp,
        key: &ObjectKey,
        entry: &RouteEntry,
    ) -> InstallationContext {
        let listed = entry.status().map(|status| status.installations.as_slice()).unwrap_or_default();
        let (own, lease) = (self.settings.installation.clone(), self.settings.lease_duration);
        self.installations.look(now, key, listed, &own, lease)
    }

    /// Returns true if another installation writes what people read about the objects of a namespace.
    // Two that write the same texts from what each of them sees would take turns for ever. What moves mail both write,
    // each on the condition that it has seen the latest version.
    pub(super) fn yields_in(&self, namespace: &Arc<str>) -> bool {
        self.installations.first_of(namespace).is_some_and(|(_, contested)| contested.yields)
    }

    /// Looks again at the backends and policies of a namespace, about which this installation writes from now on.
    pub(super) fn requeue_namespace(&mut self, namespace: &Arc<str>) {
        let backends = self.backends.keys().filter(|key| key.namespace == *namespace);
        let policies = self.policies.keys().filter(|key| key.namespace == *namespace);
        self.queue.extend(backends.map(ResourceRef::backend));
        self.queue.extend(policies.map(ResourceRef::policy));
    }

    /// Forgets the installations that a route listed which is gone.
    pub(super) fn forget_installations(&mut self, key: &ObjectKey) {
        self.installations.contested.remove(key);
        // Another route carries the signs of life from now on.
        let next = self.installations.first_of(&key.namespace).map(|(next, _)| ResourceRef::route(next));
        self.queue.extend(next);
    }

    /// Forgets all signs of life: a leader judges by those that it has seen itself.
    pub(super) fn forget_all_installations(&mut self) {
        self.installations = Installations::default();
    }
}
