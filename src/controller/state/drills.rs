//! Drills of all routes: never two at once that concern one failure domain, and a bound on all.
// ADR-0161: Drills of one failure domain take turns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ControllerState, RouteEntry};
use crate::controller::action::ResourceRef;
use crate::controller::backend::ProbeChange;
use crate::controller::route::DrillContext;
use mail_failover_core::engine::DrillRefused;
use mail_failover_core::model::{DrillMode, ObjectKey, Timestamp};

/// Most drills at once.
// Each moves the mail of a route, writes outputs and reads them again; a schedule that ten thousand routes share must not
// look like an outage of everything.
const MAX_AT_ONCE: usize = 10;

/// Drills that are under way.
#[derive(Debug, Default)]
pub(super) struct Drills {
    begun: BTreeMap<ObjectKey, Begun>,
}

/// Drill of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Begun {
    at: Timestamp,
    domains: BTreeSet<Arc<str>>,
}

impl Drills {
    /// Notes the drill of a route, or that it has none.
    fn set(&mut self, route: &ObjectKey, begun: Option<(Timestamp, BTreeSet<Arc<str>>)>) {
        match begun {
            Some((at, domains)) => {
                self.begun.insert(route.clone(), Begun { at, domains });
            }
            None => {
                self.begun.remove(route);
            }
        }
    }

    /// Returns the obstacle that other drills are to one of a route with these failure domains. A drill that runs yields to
    /// an earlier one only.
    fn obstacle(&self, route: &ObjectKey, domains: &BTreeSet<Arc<str>>) -> Option<DrillRefused> {
        let own = self.begun.get(route).map(|own| (own.at, route));
        for (other, begun) in self.begun.iter().filter(|(other, _)| *other != route) {
            let is_before = own.is_none_or(|own| (begun.at, other) < own);
            if let Some(domain) = begun.domains.intersection(domains).next().filter(|_| is_before) {
                return Some(DrillRefused::DomainBusy { route: other.to_string().into(), domain: domain.clone() });
            }
        }
        let is_full = own.is_none() && self.begun.len() >= MAX_AT_ONCE;
        is_full.then_some(DrillRefused::TooMany(self.begun.len()))
    }
}

impl ControllerState {
    /// Returns all that the reconcile of a route has to know of drills.
    pub(super) fn drill_context(&self, now: Timestamp, key: &ObjectKey, entry: &RouteEntry) -> DrillContext {
        let others = if self.drills.begun.is_empty() {
            None
        } else {
            self.drills.obstacle(key, &self.failure_domains(key, entry))
        };
        let id = entry.drill().filter(|drill| drill.mode == DrillMode::Blocked).map(|drill| drill.id.clone());
        DrillContext {
            elsewhere: others,
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
        if !self.drills.begun.contains_key(key) && drill.mode != DrillMode::Shadow {
            // As after a real failure: the standby has answered by the time that it is needed.
            let backend = key.sibling(drill.standby.clone());
            if let Some(standby) = self.backends.get(&backend) {
                let looks: Vec<_> = standby.probe_keys(&backend).map(ProbeChange::Look).collect();
                self.pending.probes.extend(looks);
            }
        }
        let domains = self.failure_domains(key, entry);
        self.drills.set(key, Some((drill.started_at, domains)));
    }

    /// Takes note of the drill that a route's status names.
    pub(super) fn adopt_drill(&mut self, key: &ObjectKey) {
        // The leader's own decision may be newer than what the watch shows.
        if self.is_leading && self.drills.begun.contains_key(key) {
            return;
        }
        let Some(entry) = self.routes.get_mut(key) else { return self.drills.set(key, None) };
        entry.adopt_drill();
        let begun =
            self.routes.get(key).and_then(|entry| Some((entry.drill()?.started_at, self.failure_domains(key, entry))));
        self.drills.set(key, begun);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: usize) -> ObjectKey {
        ObjectKey::new("shop", format!("r{number}"))
    }

    proptest! {
        /// Whoever begins when nothing stands in the way, and ends when it likes: no two share a domain, ever.
        #[test]
        fn two_drills_of_one_failure_domain_never_overlap(
            steps in prop::collection::vec((0_usize..12, prop::collection::btree_set(0_u8..6, 1..3), any::<bool>()), 1..60)
        ) {
            let mut drills = Drills::default();
            for (now, (route, domains, ends)) in steps.into_iter().enumerate() {
                let domains: BTreeSet<Arc<str>> = domains.into_iter().map(|domain| domain.to_string().into()).collect();
                let key = key(route);
                if drills.begun.contains_key(&key) {
                    prop_assert_eq!(drills.obstacle(&key, &drills.begun[&key].domains.clone()), None, "the first one yields to nobody");
                    if ends {
                        drills.set(&key, None);
                    }
                } else if drills.obstacle(&key, &domains).is_none() {
                    let at = Timestamp::from_micros(i64::try_from(now).unwrap());
                    drills.set(&key, Some((at, domains)));
                }
                let all: Vec<_> = drills.begun.values().flat_map(|begun| &begun.domains).collect();
                let distinct: BTreeSet<_> = all.iter().collect();
                prop_assert_eq!(all.len(), distinct.len(), "{:?}", &drills);
                prop_assert!(drills.begun.len() <= MAX_AT_ONCE);
            }
        }
    }

    #[test]
    fn of_two_that_overlap_after_a_change_of_leaders_the_later_one_yields() {
        let domains: BTreeSet<Arc<str>> = ["aws".into()].into();
        let mut drills = Drills::default();
        drills.set(&key(1), Some((Timestamp::from_micros(2), domains.clone())));
        drills.set(&key(2), Some((Timestamp::from_micros(1), domains.clone())));
        assert!(
            matches!(drills.obstacle(&key(1), &domains), Some(DrillRefused::DomainBusy { route, .. }) if &*route == "shop/r2")
        );
        assert_eq!(drills.obstacle(&key(2), &domains), None);
    }

    #[test]
    fn the_number_at_once_is_bounded() {
        let mut drills = Drills::default();
        for number in 0..MAX_AT_ONCE {
            let domain: Arc<str> = number.to_string().into();
            assert_eq!(drills.obstacle(&key(number), &[domain.clone()].into()), None);
            drills.set(&key(number), Some((Timestamp::from_micros(1), [domain].into())));
        }
        assert_eq!(drills.obstacle(&key(99), &["99".into()].into()), Some(DrillRefused::TooMany(MAX_AT_ONCE)));
        assert_eq!(drills.obstacle(&key(0), &["0".into()].into()), None, "one that runs goes on");
    }
}
