use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Health, Observer};
use crate::model::ObjectKey;

/// Returns the observers that have lost their own network: those that see all their failure domains fail, two at
/// least, while another observer sees one of these domains work. If no observer sees any work, none is suspect. `true`
/// in `views` means that something in the domain works.
pub fn suspects<D: Ord>(views: &BTreeMap<Observer, BTreeMap<D, bool>>) -> BTreeSet<Observer> {
    let works_for_another: BTreeSet<&D> =
        views.values().flatten().filter(|(_, works)| **works).map(|(domain, _)| domain).collect();
    let mut suspects = BTreeSet::new();
    for (observer, view) in views {
        let sees_all_fail = view.len() >= 2 && !view.values().any(|works| *works);
        if sees_all_fail && view.keys().any(|domain| works_for_another.contains(domain)) {
            suspects.insert(observer.clone());
        }
    }
    suspects
}

/// Backends that fail together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Domain {
    Named(Arc<str>),
    /// A backend that names no domain is a domain of its own.
    Alone(ObjectKey),
}

/// Failure domains as each observer sees them.
///
/// A domain fails for an observer when it has a verdict about one of its backends and all its verdicts about them are
/// Unhealthy.
// Kept up to date change by change, so that a verdict that turns costs no walk over all backends.
#[derive(Clone, Debug, Default)]
pub struct FailureDomains {
    backends: BTreeMap<ObjectKey, FleetMember>,
    views: BTreeMap<Observer, ObserverView>,
}

#[derive(Clone, Debug)]
struct FleetMember {
    domain: Domain,
    /// Observers that have a verdict about the backend, and whether it is Unhealthy.
    fails: BTreeMap<Observer, bool>,
}

#[derive(Clone, Debug, Default)]
struct ObserverView {
    domains: BTreeMap<Domain, DomainCount>,
    /// Number of `domains` that work.
    working: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct DomainCount {
    works: u32,
    fails: u32,
}

impl ObserverView {
    fn sees_all_fail(&self) -> bool {
        self.working == 0 && !self.domains.is_empty()
    }

    fn add(&mut self, domain: &Domain, fails: bool) {
        let count = match self.domains.get_mut(domain) {
            Some(count) => count,
            None => self.domains.entry(domain.clone()).or_default(),
        };
        if fails {
            count.fails += 1;
        } else {
            count.works += 1;
            self.working += usize::from(count.works == 1);
        }
    }

    fn remove(&mut self, domain: &Domain, fails: bool) {
        let Some(count) = self.domains.get_mut(domain) else { return };
        if fails {
            count.fails -= 1;
        } else {
            count.works -= 1;
            self.working -= usize::from(count.works == 0);
        }
        if count.works == 0 && count.fails == 0 {
            self.domains.remove(domain);
        }
    }
}

impl FailureDomains {
    /// Takes an observer's verdict about a backend in service; Unknown counts as none. A backend without a domain is
    /// one of its own. Returns true if anything changed.
    pub fn note(
        &mut self,
        backend: &ObjectKey,
        failure_domain: Option<&Arc<str>>,
        observer: &Observer,
        health: Health,
    ) -> bool {
        let moved = self.place(backend, failure_domain);
        let Some(member) = self.backends.get_mut(backend) else { return moved };
        let fails = match health {
            Health::Healthy | Health::Degraded => Some(false),
            Health::Unhealthy => Some(true),
            Health::Unknown => None,
        };
        let before = member.fails.get(observer).copied();
        if before == fails {
            return moved;
        }
        if let Some(before) = before {
            remove(&mut self.views, observer, &member.domain, before);
        }
        match fails {
            Some(fails) => {
                member.fails.insert(observer.clone(), fails);
                self.views.entry(observer.clone()).or_default().add(&member.domain, fails);
            }
            None => {
                member.fails.remove(observer);
            }
        }
        true
    }

    fn place(&mut self, backend: &ObjectKey, failure_domain: Option<&Arc<str>>) -> bool {
        let is_in_place = self.backends.get(backend).map(|member| match (&member.domain, failure_domain) {
            (Domain::Named(before), Some(domain)) => before == domain,
            (Domain::Alone(_), None) => true,
            (Domain::Named(_), None) | (Domain::Alone(_), Some(_)) => false,
        });
        if is_in_place == Some(true) {
            return false;
        }
        let domain = failure_domain.map_or_else(|| Domain::Alone(backend.clone()), |name| Domain::Named(name.clone()));
        let fails = self.leave_out(backend);
        for (observer, fails) in &fails {
            self.views.entry(observer.clone()).or_default().add(&domain, *fails);
        }
        let moved = !fails.is_empty();
        self.backends.insert(backend.clone(), FleetMember { domain, fails });
        moved
    }

    /// Removes a backend that is gone, unusable or out of service. Returns the observers' verdicts about it: true for
    /// failing.
    pub fn leave_out(&mut self, backend: &ObjectKey) -> BTreeMap<Observer, bool> {
        let Some(member) = self.backends.remove(backend) else { return BTreeMap::new() };
        for (observer, fails) in &member.fails {
            remove(&mut self.views, observer, &member.domain, *fails);
        }
        member.fails
    }

    /// Forgets an observer's verdicts. Returns true if it had any.
    pub fn forget_observer(&mut self, observer: &Observer) -> bool {
        let known = self.views.remove(observer).is_some();
        if known {
            for member in self.backends.values_mut() {
                member.fails.remove(observer);
            }
        }
        known
    }

    /// Returns the observers that have lost their own network, see [`suspects`]. Costs one look at each observer while
    /// all of them see something work.
    pub fn suspects(&self) -> BTreeSet<Observer> {
        self.views.iter().filter(|(_, view)| self.is_suspect(view)).map(|(observer, _)| observer.clone()).collect()
    }

    fn is_suspect(&self, view: &ObserverView) -> bool {
        view.domains.len() >= 2 && view.sees_all_fail() && self.contradicts(view)
    }

    // ADR-0014: An observer is suspect only if it is contradicted.
    fn contradicts(&self, view: &ObserverView) -> bool {
        let mut others = self.views.values().filter(|other| other.working > 0);
        others.any(|other| {
            other.domains.iter().any(|(domain, count)| count.works > 0 && view.domains.contains_key(domain))
        })
    }

    /// Returns true if two failure domains or more fail and none works, for every observer that is not suspect.
    // Our own way to all of them has then failed rather than all of them at once.
    // ADR-0016: The storm brake looks at the whole fleet.
    pub fn is_storm(&self) -> bool {
        if !self.views.values().any(ObserverView::sees_all_fail) {
            return false;
        }
        let suspects = self.suspects();
        let mut counting = self.views.iter().filter(|(observer, _)| !suspects.contains(observer));
        let mut domains = BTreeSet::new();
        counting.all(|(_, view)| {
            // Two domains are enough for the comparison below.
            domains.extend(view.domains.keys().take(2));
            view.working == 0
        }) && domains.len() >= 2
    }
}

fn remove(views: &mut BTreeMap<Observer, ObserverView>, observer: &Observer, domain: &Domain, fails: bool) {
    let Some(view) = views.get_mut(observer) else { return };
    view.remove(domain, fails);
    if view.domains.is_empty() {
        views.remove(observer);
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
