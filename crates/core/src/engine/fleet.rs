use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Health, Observer, ObserverVerdict};
use crate::model::{EvidenceClass, ObjectKey, Thresholds};

/// Returns the observers that have lost their own network: those that reach none of their failure domains, two at
/// least, while another observer reaches one of these domains. If no observer reaches any, none is suspect. `true` in
/// `views` means that something in the domain is reached.
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

/// A set of thresholds in a namespace: routes of the same policy.
pub type ThresholdsOfNamespace = (Arc<str>, Thresholds);

/// Failure domains as each observer sees them, for two questions about networks: which observer has lost its own, and
/// for which routes a failure is a storm.
///
/// A backend is reached if a verdict about it is not Unhealthy, or is Unhealthy by a reply of the backend: the reply
/// came through our network. A backend that several policies judge is reached if it is so by any of their verdicts, so
/// that a strict policy says nothing about anybody's network. A Service without endpoints says nothing at all.
// Kept up to date change by change, so that a verdict that turns costs no walk over all backends.
#[derive(Clone, Debug, Default)]
pub struct FailureDomains {
    backends: BTreeMap<ObjectKey, FleetMember>,
    views: BTreeMap<Observer, ObserverView>,
    namespaces: BTreeMap<Arc<str>, NamespaceView>,
    /// Number of namespaces in which some backend is reached.
    reached_namespaces: usize,
}

#[derive(Clone, Debug)]
struct FleetMember {
    domain: Domain,
    /// By the observers that have a verdict about the backend.
    reach: BTreeMap<Observer, Reach>,
}

/// Result of an observer's look at one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reach {
    /// Under each set of thresholds that gives a verdict: true if the backend is reached.
    by_thresholds: Vec<(Thresholds, bool)>,
    /// True if it is reached under any of them.
    best: bool,
}

impl Reach {
    /// Returns the result for routes of these thresholds: of their own verdict, if there is one.
    fn under(&self, thresholds: &Thresholds) -> bool {
        let own = self.by_thresholds.iter().find(|(of, _)| of == thresholds);
        own.map_or(self.best, |(_, is_reached)| *is_reached)
    }
}

#[derive(Clone, Debug, Default)]
struct ObserverView {
    domains: BTreeMap<Domain, DomainCount>,
    /// Number of `domains` that are reached.
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

/// One namespace's backends: its voice in the question whether a failure is a storm.
#[derive(Clone, Debug, Default)]
struct NamespaceView {
    /// Number of looks of observers at backends, by domain.
    domains: BTreeMap<Domain, usize>,
    /// Looks that reach their backend, by the best verdict.
    reached: usize,
    by_thresholds: BTreeMap<Thresholds, ThresholdsView>,
}

#[derive(Clone, Copy, Debug, Default)]
struct ThresholdsView {
    /// Looks with a verdict under these thresholds.
    judged: usize,
    /// Looks that reach their backend, see [`Reach::under`].
    reached: usize,
}

impl NamespaceView {
    fn add(&mut self, domain: &Domain, reach: &Reach) {
        *self.domains.entry(domain.clone()).or_default() += 1;
        self.reached += usize::from(reach.best);
        for (thresholds, view) in &mut self.by_thresholds {
            view.reached += usize::from(reach.under(thresholds));
        }
        for (thresholds, _) in &reach.by_thresholds {
            if let Some(view) = self.by_thresholds.get_mut(thresholds) {
                view.judged += 1;
            }
        }
    }

    fn remove(&mut self, domain: &Domain, reach: &Reach) {
        if let Some(count) = self.domains.get_mut(domain) {
            *count -= 1;
            if *count == 0 {
                self.domains.remove(domain);
            }
        }
        self.reached -= usize::from(reach.best);
        for (thresholds, view) in &mut self.by_thresholds {
            view.reached -= usize::from(reach.under(thresholds));
        }
        for (thresholds, _) in &reach.by_thresholds {
            if let Some(view) = self.by_thresholds.get_mut(thresholds) {
                view.judged -= 1;
                if view.judged == 0 {
                    self.by_thresholds.remove(thresholds);
                }
            }
        }
    }
}

impl FailureDomains {
    /// Takes an observer's verdicts about a backend in service, one for each set of thresholds that judges it. A
    /// backend without a domain is one of its own. Returns true if anything changed.
    pub fn note<'a>(
        &mut self,
        backend: &ObjectKey,
        failure_domain: Option<&Arc<str>>,
        observer: &Observer,
        verdicts: impl IntoIterator<Item = (Thresholds, &'a ObserverVerdict)>,
    ) -> bool {
        let moved = self.place(backend, failure_domain);
        let mut by_thresholds = vec![];
        for (thresholds, verdict) in verdicts {
            by_thresholds.extend(is_reached(verdict.health, verdict.class).map(|is_reached| (thresholds, is_reached)));
        }
        let best = by_thresholds.iter().any(|(_, is_reached)| *is_reached);
        let after = (!by_thresholds.is_empty()).then_some(Reach { by_thresholds, best });
        let Some(member) = self.backends.get_mut(backend) else { return moved };
        if member.reach.get(observer) == after.as_ref() {
            return moved;
        }
        let domain = member.domain.clone();
        if let Some(before) = member.reach.remove(observer) {
            self.remove_look(backend, &domain, observer, &before);
        }
        if let Some(after) = after {
            self.insert_look(backend, &domain, observer.clone(), after);
        }
        true
    }

    fn insert_look(&mut self, backend: &ObjectKey, domain: &Domain, observer: Observer, reach: Reach) {
        self.count_look(backend, domain, &observer, &reach);
        if let Some(member) = self.backends.get_mut(backend) {
            member.reach.insert(observer, reach);
        }
    }

    fn count_look(&mut self, backend: &ObjectKey, domain: &Domain, observer: &Observer, reach: &Reach) {
        self.views.entry(observer.clone()).or_default().add(domain, !reach.best);
        let namespace = self.namespaces.entry(backend.namespace.clone()).or_default();
        for (thresholds, _) in &reach.by_thresholds {
            if namespace.by_thresholds.contains_key(thresholds) {
                continue;
            }
            let from = ObjectKey::new(backend.namespace.clone(), "");
            let members = self.backends.range(from..).take_while(|(key, _)| key.namespace == backend.namespace);
            let looks = members.flat_map(|(_, member)| member.reach.values());
            let reached = looks.filter(|reach| reach.under(thresholds)).count();
            namespace.by_thresholds.insert(*thresholds, ThresholdsView { judged: 0, reached });
        }
        let was_reached = namespace.reached > 0;
        namespace.add(domain, reach);
        self.reached_namespaces += usize::from(!was_reached && namespace.reached > 0);
    }

    fn remove_look(&mut self, backend: &ObjectKey, domain: &Domain, observer: &Observer, reach: &Reach) {
        if let Some(view) = self.views.get_mut(observer) {
            view.remove(domain, !reach.best);
            if view.domains.is_empty() {
                self.views.remove(observer);
            }
        }
        if let Some(namespace) = self.namespaces.get_mut(&backend.namespace) {
            let was_reached = namespace.reached > 0;
            namespace.remove(domain, reach);
            self.reached_namespaces -= usize::from(was_reached && namespace.reached == 0);
            if namespace.domains.is_empty() {
                self.namespaces.remove(&backend.namespace);
            }
        }
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
        let looks = self.take(backend);
        let moved = !looks.is_empty();
        self.backends.insert(backend.clone(), FleetMember { domain: domain.clone(), reach: BTreeMap::new() });
        for (observer, look) in looks {
            self.insert_look(backend, &domain, observer, look);
        }
        moved
    }

    /// Removes a backend that is gone, unusable or out of service. Returns true if any observer had a verdict about it.
    pub fn leave_out(&mut self, backend: &ObjectKey) -> bool {
        !self.take(backend).is_empty()
    }

    fn take(&mut self, backend: &ObjectKey) -> BTreeMap<Observer, Reach> {
        let Some(member) = self.backends.remove(backend) else { return BTreeMap::new() };
        for (observer, reach) in &member.reach {
            self.remove_look(backend, &member.domain, observer, reach);
        }
        member.reach
    }

    /// Forgets an observer's verdicts. Returns true if it had any.
    pub fn forget_observer(&mut self, observer: &Observer) -> bool {
        if !self.views.contains_key(observer) {
            return false;
        }
        let mut forgotten = vec![];
        for (key, member) in &mut self.backends {
            if let Some(reach) = member.reach.remove(observer) {
                forgotten.push((key.clone(), member.domain.clone(), reach));
            }
        }
        for (key, domain, reach) in &forgotten {
            self.remove_look(key, domain, observer, reach);
        }
        true
    }

    /// Returns the observers that have lost their own network, see [`suspects`]. Costs one look at each observer while
    /// all of them reach something.
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

    /// Returns true if the failures that routes of this namespace and these thresholds meet are rather those of our own
    /// network: no observer reaches any backend of the namespace, by the verdicts of these thresholds where they give
    /// one, and two domains fail. Every other namespace has one voice: if more than half of all namespaces reach
    /// something it is no storm. A namespace of one domain is in a storm only with two others.
    // A suspect reaches nothing, so it needs not be left out.
    // ADR-0082: The storm brake asks the namespaces.
    pub fn is_storm(&self, namespace: &str, thresholds: &Thresholds) -> bool {
        let Some(own) = self.namespaces.get(namespace) else { return false };
        let reached = own.by_thresholds.get(thresholds).map_or(own.reached, |view| view.reached);
        if reached > 0 {
            return false;
        }
        let reached_others = self.reached_namespaces - usize::from(own.reached > 0);
        let failing_others = self.namespaces.len() - 1 - reached_others;
        reached_others * 2 <= self.namespaces.len() && (own.domains.len() >= 2 || failing_others >= 2)
    }

    /// Returns every namespace and thresholds with a storm.
    pub fn storms(&self) -> BTreeSet<ThresholdsOfNamespace> {
        let mut storms = BTreeSet::new();
        for (namespace, view) in &self.namespaces {
            for thresholds in view.by_thresholds.keys().filter(|thresholds| self.is_storm(namespace, thresholds)) {
                storms.insert((namespace.clone(), *thresholds));
            }
        }
        storms
    }
}

/// Returns true if our network leads to a backend with this verdict; `None` if the verdict does not tell.
fn is_reached(health: Health, class: EvidenceClass) -> Option<bool> {
    match health {
        Health::Healthy | Health::Degraded => Some(true),
        Health::Unhealthy => class.shows_reach(),
        Health::Unknown => None,
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
