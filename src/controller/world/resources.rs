//! What custom resources mean, and what that changes for those that refer to them.

use std::collections::BTreeSet;

use super::{World, identified, subject};
use crate::controller::known::note;
use crate::controller::policy::PolicyEntry;
use crate::controller::references::Reference;
use crate::controller::route::RouteEntry;
use crate::controller::step::SubjectKind;
use crate::watch::Change;
use mail_failover_api::{FailoverPolicy, MailRoute, SendingBackend};
use mail_failover_core::model::{ObjectKey, Policy, Thresholds, Timestamp};
use mail_failover_resolve::{Rejection, ca_key, login_key};

impl World {
    pub(super) fn take_backend(&mut self, now: Timestamp, change: Change<SendingBackend>) {
        let Some((key, known)) = identified(change) else { return };
        let Some(known) = known else { return self.backend_deleted(&key) };
        let entry = self.backends.entry(key.clone()).or_default();
        if note(&mut entry.object, known) && self.is_synced() {
            self.refresh_backend(now, &key);
        }
    }

    fn backend_deleted(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.backends.get_mut(key) {
            entry.object = None;
            self.others.mark(key);
        }
        self.forget_refusals_of(key);
        self.set_references(&subject(SubjectKind::Backend, key), BTreeSet::new());
        self.touch_users(&Reference::Backend(key.clone()));
        self.told.remove(&subject(SubjectKind::Backend, key));
        self.drop_unneeded_backend(key);
    }

    /// A deleted backend is forgotten unless a route's mail goes there.
    pub(super) fn drop_unneeded_backend(&mut self, key: &ObjectKey) {
        if self.backends.get(key).is_none_or(|entry| entry.object.is_some()) {
            return;
        }
        let mut users = self.references.users(&Reference::Backend(key.clone()));
        let carries_mail =
            users.any(|user| self.routes.get(&user.key).is_some_and(|route| route.active() == Some(&*key.name)));
        if !carries_mail && let Some(entry) = self.backends.remove(key) {
            self.others.mark(key);
            self.pending.probes.extend(entry.all_probes_gone(key));
        }
    }

    /// Works out again what a backend means: its spec or something it refers to changed.
    pub(super) fn refresh_backend(&mut self, now: Timestamp, key: &ObjectKey) {
        let subject = subject(SubjectKind::Backend, key);
        let spec = self.backends.get(key).and_then(|entry| Some(entry.object.as_ref()?.readable()?.spec.clone()));
        if let Some(spec) = spec {
            let ca = ca_key(key, &spec).map(Reference::Ca);
            let service = spec.service.as_ref().map(|service| Reference::Service(key.sibling(service.name.as_str())));
            let login = login_key(key, &spec).map(Reference::Login);
            self.set_references(&subject, ca.into_iter().chain(service).chain(login).collect());
        }
        if let Some(entry) = self.backends.get_mut(key) {
            entry.resolve(key, &self.facts, self.others.replicas(), now);
        }
        self.track(now, key);
        if let Some(entry) = self.backends.get_mut(key) {
            self.pending.probes.extend(entry.probe_changes(key));
        }
        self.settle_jobs_of(now, key);
        self.others.mark(key);
        self.touch_users(&Reference::Backend(key.clone()));
        self.agenda.add(subject);
    }

    /// Judges a backend by the thresholds of the routes that use it; by the defaults when none does.
    fn track(&mut self, now: Timestamp, key: &ObjectKey) {
        let users = self.references.users(&Reference::Backend(key.clone()));
        let mut thresholds: BTreeSet<_> =
            users.filter_map(|user| self.routes.get(&user.key)).map(RouteEntry::thresholds).collect();
        if thresholds.is_empty() {
            thresholds.insert(Thresholds::default());
        }
        let Some(entry) = self.backends.get_mut(key) else { return };
        if entry.track(&thresholds, now) {
            self.others.mark(key);
            self.agenda.add(subject(SubjectKind::Backend, key));
        }
    }

    pub(super) fn take_policy(&mut self, now: Timestamp, change: Change<FailoverPolicy>) {
        let Some((key, known)) = identified(change) else { return };
        let subject = subject(SubjectKind::Policy, &key);
        match known {
            None => {
                self.policies.remove(&key);
                self.told.remove(&subject);
            }
            Some(known) => {
                let entry = self.policies.entry(key.clone()).or_default();
                if !entry.take(known) {
                    return;
                }
            }
        }
        if self.is_synced() {
            self.agenda.add(subject);
            for user in self.users(&Reference::Policy(key)) {
                self.refresh_policy_of(now, &user.key);
            }
        }
    }

    pub(super) fn take_route(&mut self, now: Timestamp, change: Change<MailRoute>) {
        let Some((key, known)) = identified(change) else { return };
        let Some(known) = known else { return self.route_deleted(now, &key) };
        let uid = known.uid().to_owned();
        if self.routes.get(&key).and_then(|entry| entry.object.as_ref()).is_some_and(|known| known.uid() != uid) {
            // Deleted and made anew between two looks: another route of the same name.
            self.route_deleted(now, &key);
        }
        let entry = self.routes.entry(key.clone()).or_default();
        let left = entry.active().map(str::to_owned);
        if !note(&mut entry.object, known) {
            return;
        }
        self.routes_by_uid.insert(uid, key.clone());
        // Whoever decided it, this replica or the leader.
        if let Some(left) = left {
            self.drop_unneeded_backend(&key.sibling(left));
        }
        if self.is_synced() {
            self.refresh_route(now, &key);
        }
    }

    fn route_deleted(&mut self, now: Timestamp, key: &ObjectKey) {
        let subject = subject(SubjectKind::Route, key);
        let mut backends = vec![];
        if let Some(entry) = self.routes.remove(key) {
            backends.extend(entry.usable.iter().flat_map(|route| &route.backends).map(|member| member.name.clone()));
            self.set_claims(key, &entry.claims(key), &[]);
            if let Some(known) = &entry.object {
                self.routes_by_uid.remove(known.uid());
            }
        }
        self.agenda.clear_timer(&subject);
        self.told.remove(&subject);
        self.agents.forget_route(key);
        self.admit_agents(key);
        self.metrics.forget_route(key, backends.into_iter());
        for reference in self.set_references(&subject, BTreeSet::new()) {
            self.route_reference_changed(now, &reference);
        }
    }

    /// Works out again what a route means.
    pub(super) fn refresh_route(&mut self, now: Timestamp, key: &ObjectKey) {
        let subject = subject(SubjectKind::Route, key);
        let Some(entry) = self.routes.get_mut(key) else { return };
        let claimed_before = entry.claims(key);
        entry.resolve();
        let claims = entry.claims(key);
        // An unreadable route keeps its last good version, and with it what that refers to.
        let references = entry.usable.as_ref().map(|route| {
            let backends = route.backends.iter().map(|member| Reference::Backend(key.sibling(member.name.clone())));
            let policy = entry.policy_name().map(|name| Reference::Policy(key.sibling(name)));
            backends.chain(policy).collect::<BTreeSet<_>>()
        });
        self.set_claims(key, &claimed_before, &claims);
        self.admit_agents(key);
        let changed = references.map(|references| self.set_references(&subject, references)).unwrap_or_default();
        self.refresh_policy_of(now, key);
        for reference in changed {
            self.route_reference_changed(now, &reference);
        }
        self.agenda.add(subject);
    }

    /// A route began or ceased to refer to something.
    fn route_reference_changed(&mut self, now: Timestamp, reference: &Reference) {
        match reference {
            Reference::Backend(key) => {
                self.track(now, key);
                self.drop_unneeded_backend(key);
            }
            Reference::Policy(key) => {
                self.agenda.add(subject(SubjectKind::Policy, key));
            }
            Reference::Service(_) | Reference::Ca(_) | Reference::Login(_) => {}
        }
    }

    pub(super) fn refresh_policy_of(&mut self, now: Timestamp, route: &ObjectKey) {
        let Some(entry) = self.routes.get(route) else { return };
        let before = entry.thresholds();
        let policy = match entry.policy_name() {
            None => Ok(Policy::default()),
            Some(name) => self.policy(&route.sibling(name)),
        };
        let Some(entry) = self.routes.get_mut(route) else { return };
        entry.adopt_policy(policy);
        let names = entry.usable.as_ref().map(|usable| usable.backends.clone()).unwrap_or_default();
        if entry.thresholds() != before {
            for name in names {
                self.track(now, &route.sibling(name.name.clone()));
            }
        }
        self.agenda.add(subject(SubjectKind::Route, route));
    }

    fn policy(&self, key: &ObjectKey) -> Result<Policy, Rejection> {
        let field = "spec.policyRef.name";
        let kept = "until then the last good policy stays in force";
        let Some(policy) = self.policies.get(key).and_then(PolicyEntry::policy) else {
            let message = format!(
                "FailoverPolicy {} does not exist in namespace {}; create it or take the reference away; {kept}",
                key.name, key.namespace
            );
            return Err(Rejection::new("PolicyNotFound", field, &message));
        };
        policy.clone().map_err(|_| {
            let message = format!("FailoverPolicy {} cannot be used; see its conditions; {kept}", key.name);
            Rejection::new("PolicyRejected", field, &message)
        })
    }
}
