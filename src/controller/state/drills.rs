//! Drills of all routes, by which they take turns.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ControllerState, RouteEntry};
use crate::controller::action::ResourceRef;
use crate::controller::backend::ProbeChange;
use crate::controller::route::DrillContext;
use mail_failover_core::engine::DrillObstacles;
use mail_failover_core::model::{DrillMode, ObjectKey, Timestamp};

impl ControllerState {
    /// Returns all that the reconcile of a route has to know of drills.
    pub(super) fn drill_context(&self, now: Timestamp, key: &ObjectKey, entry: &RouteEntry) -> DrillContext {
        let elsewhere = if self.drills.is_empty() {
            DrillObstacles::NONE
        } else {
            self.drills.obstacles(key, &self.failure_domains(key, entry))
        };
        let id = entry.drill().filter(|drill| drill.mode == DrillMode::Blocked).map(|drill| drill.id.clone());
        DrillContext {
            elsewhere,
            blocked: id.map(|id| self.agents.drilled(now, key, &id)).unwrap_or_default(),
            has_agents: entry.has_agents() && self.agents.has_heard(now, key),
        }
    }

    /// Takes note of what a reconcile has decided about drills of a route.
    pub(super) fn note_drill(&mut self, resource: &ResourceRef, entry: &RouteEntry) {
        let key = &resource.key;
        let Some(drill) = entry.drill() else {
            self.drills.set(key, None);
            return;
        };
        if !self.drills.has(key) && drill.mode != DrillMode::Shadow {
            // As after a real failure: the standby has answered by the time that it is needed.
            let backend = key.sibling(drill.standby.clone());
            if let Some(standby) = self.backends.get(&backend) {
                let looks: Vec<_> = standby.probe_keys(&backend).map(ProbeChange::Look).collect();
                self.pending.probes.extend(looks);
            }
        }
        let domains = self.failure_domains(key, entry);
        self.drills.set(key, Some((drill, domains)));
    }

    /// Takes note of the drill that a route's status names.
    pub(super) fn adopt_drill(&mut self, key: &ObjectKey) {
        // The leader's own decision may be newer than what the watch shows.
        if self.is_leading && self.drills.has(key) {
            return;
        }
        let Some(entry) = self.routes.get_mut(key) else { return self.drills.set(key, None) };
        entry.adopt_drill();
        let entry = self.routes.get(key);
        let drill = entry.and_then(|entry| Some((entry.drill()?.clone(), self.failure_domains(key, entry))));
        self.drills.set(key, drill.as_ref().map(|(drill, domains)| (drill, domains.clone())));
    }

    /// Forgets the drill of a route that is gone.
    pub(super) fn forget_drill(&mut self, key: &ObjectKey) {
        self.drills.set(key, None);
    }

    /// The failure domains of a route's backends. One that names none is a domain of its own.
    fn failure_domains(&self, key: &ObjectKey, entry: &RouteEntry) -> BTreeSet<Arc<str>> {
        let members = entry.usable.iter().flat_map(|route| &route.backends);
        let domains = members.map(|member| {
            let backend = key.sibling(member.name.clone());
            let usable = self.backends.get(&backend).and_then(|entry| entry.usable.as_ref());
            let named = usable.and_then(|usable| usable.location.failure_domain.clone());
            named.unwrap_or_else(|| backend.to_string().into())
        });
        domains.collect()
    }
}
